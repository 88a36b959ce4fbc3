//! Who may publish and subscribe to what: the one table from which every nats-server's users are rendered.
//!
//! Invariants: whoever is not named here gets nothing; nobody but the coordinator publishes requests to executors
//! (a pool hands on to its own machine's engines), and no
//! executor of the owner's machines and none of the cloud's can hear the other's; [`User::CoordinatorPrivate`] has no right to
//! anything that leaves the owner's machines, whatever the coordinator decides. Nobody may change or delete a stream, and a key
//! of the control bucket is written only by whom it belongs to. Rights are spelled out instead of `allow_responses`, which the
//! server forgets when a connection is lost: each user's answers arrive under `_INBOX.<user>`, see [`inbox`].

mod render;
#[cfg(test)]
mod tests;

use domain::{id::NodeId, routing::Plane};

use crate::subject::{
    self, AUDIO_BUCKET, CONTROL_BUCKET, Method, Prefix, Subject as _, USAGE_STREAM, service,
};

pub use render::{accounts, accounts_file, key_variable, render, seed_file};

/// Somebody with credentials of its own. Each machine has one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum User {
    /// request-coordinator, for everything but private requests.
    Coordinator,
    /// request-coordinator's second connection, for requests that must stay on the owner's machines.
    CoordinatorPrivate,
    /// model-manager-suite.
    Manager,
    /// remote-api-adapter.
    Adapter,
    /// local-model-pool.
    Pool,
    /// vram-optimizer.
    VramOptimizer,
    /// observability-hub.
    Hub,
    /// metrics-forwarder.
    Forwarder,
    /// The owner at the command line.
    Operator,
    /// Agents and other programs that ask.
    Caller,
    /// The owner's own checks of answers.
    Checker,
}

impl User {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Coordinator,
        Self::CoordinatorPrivate,
        Self::Manager,
        Self::Adapter,
        Self::Pool,
        Self::VramOptimizer,
        Self::Hub,
        Self::Forwarder,
        Self::Operator,
        Self::Caller,
        Self::Checker,
    ];

    /// As in the names of files and inboxes; a service's is the service's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => service::REQUEST_COORDINATOR,
            Self::CoordinatorPrivate => "request-coordinator-private",
            Self::Manager => service::MODEL_MANAGER_SUITE,
            Self::Adapter => service::REMOTE_API_ADAPTER,
            Self::Pool => service::LOCAL_MODEL_POOL,
            Self::VramOptimizer => service::VRAM_OPTIMIZER,
            Self::Hub => service::OBSERVABILITY_HUB,
            Self::Forwarder => service::METRICS_FORWARDER,
            Self::Operator => "hybridctl",
            Self::Caller => "caller",
            Self::Checker => "checker",
        }
    }

    const fn is_service(self) -> bool {
        !matches!(self, Self::CoordinatorPrivate | Self::Operator | Self::Caller | Self::Checker)
    }
}

/// Prefix of the subjects on which a user's answers arrive.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX.{user}")
}

/// Patterns of subjects that a user may use; everything else the server refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// To publish to.
    pub publish: Vec<String>,
    /// To subscribe to, with or without a queue.
    pub subscribe: Vec<String>,
}

/// What a user of a machine may do.
#[must_use]
pub fn rights(user: User, machine: &NodeId, prefix: &Prefix) -> Rights {
    let mut table = Table { rights: Rights::default(), machine, prefix };
    table.publish([answers_of(user)]);
    table.subscribe([answers_of(user)]);
    if user.is_service() {
        table.service(user.name());
    }
    match user {
        User::Coordinator => table.coordinator(),
        User::CoordinatorPrivate => table.publish([execute(prefix, Plane::Local, None)]),
        User::Manager => table.manager(),
        User::Adapter => table.adapter(),
        User::Pool => table.pool(),
        User::VramOptimizer => {
            table.subscribe([subject::LeaseCall(machine.clone()).name(prefix)]);
            table.answers(&[User::Pool, User::Operator]);
        }
        User::Hub => {
            table.reads_stream(USAGE_STREAM);
            table.creates_stream(USAGE_STREAM);
        }
        User::Forwarder => {}
        User::Operator => table.operator(),
        User::Caller => {
            table.asks();
            table.publish([subject::Plan.name(prefix)]);
            table.puts_audio();
        }
        User::Checker => {
            table.subscribe([format!("{prefix}.v1.check.*")]);
            table.answers(&[User::Coordinator]);
        }
    }
    table.rights
}

/// Requests to the executors of a machine, or of all.
fn execute(prefix: &Prefix, plane: Plane, machine: Option<&NodeId>) -> String {
    let machine = machine.map_or("*", NodeId::as_str);
    format!("{prefix}.v1.exec.{}.{machine}.>", plane.token())
}

fn answers_of(user: User) -> String {
    format!("{}.>", inbox(user.name()))
}

struct Table<'a> {
    rights: Rights,
    machine: &'a NodeId,
    prefix: &'a Prefix,
}

impl Table<'_> {
    fn publish(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.rights.publish.extend(subjects);
    }

    fn subscribe(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.rights.subscribe.extend(subjects);
    }

    /// Answers requests of these.
    fn answers(&mut self, users: &[User]) {
        self.publish(users.iter().map(|user| answers_of(*user)));
    }

    /// JetStream's own subjects, of this machine and by a domain's name: the server checks both forms.
    fn jetstream(&mut self, calls: impl IntoIterator<Item = String>) {
        for call in calls {
            self.publish([format!("$JS.API.{call}"), format!("$JS.*.API.{call}")]);
        }
    }

    /// Creating what is there already with the same settings changes nothing; changing and deleting are other subjects.
    fn creates_stream(&mut self, stream: &str) {
        self.jetstream([format!("STREAM.CREATE.{stream}")]);
    }

    fn reads_stream(&mut self, stream: &str) {
        self.jetstream([
            format!("STREAM.INFO.{stream}"),
            format!("STREAM.MSG.GET.{stream}"),
            format!("DIRECT.GET.{stream}"),
            format!("DIRECT.GET.{stream}.>"),
            format!("CONSUMER.CREATE.{stream}"),
            format!("CONSUMER.CREATE.{stream}.>"),
            format!("CONSUMER.INFO.{stream}.*"),
            format!("CONSUMER.DELETE.{stream}.*"),
            format!("CONSUMER.MSG.NEXT.{stream}.*"),
        ]);
        // acknowledgements and flow control, in the old form and in that with domain and account
        self.publish(
            ["ACK", "FC"]
                .into_iter()
                .flat_map(|kind| [format!("$JS.{kind}.{stream}.>"), format!("$JS.{kind}.*.*.{stream}.>")]),
        );
    }

    fn writes_keys(&mut self, keys: &[&str]) {
        let machine = self.machine;
        self.publish(keys.iter().map(|key| format!("$KV.{CONTROL_BUCKET}.{machine}.{key}")));
    }

    /// What every service does: announce itself, read the control bucket, be listed by the NATS services API.
    fn service(&mut self, name: &str) {
        let (prefix, machine) = (self.prefix, self.machine);
        self.publish([format!("{prefix}.v1.hb.{machine}.{name}.*")]);
        self.writes_keys(&[&format!("reg.{name}.*")]);
        let bucket = format!("KV_{CONTROL_BUCKET}");
        self.creates_stream(&bucket);
        self.reads_stream(&bucket);
        self.subscribe(["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.*")]);
        self.answers(&[User::Operator]);
    }

    fn usage_events(&mut self, name: &'static str) {
        let subject = subject::Usage { machine: self.machine.clone(), service: name };
        self.publish([subject.name(self.prefix)]);
        self.creates_stream(USAGE_STREAM);
        self.jetstream([format!("STREAM.INFO.{USAGE_STREAM}")]);
    }

    fn gets_audio(&mut self) {
        self.reads_stream(&format!("OBJ_{AUDIO_BUCKET}"));
    }

    fn puts_audio(&mut self) {
        self.creates_stream(&format!("OBJ_{AUDIO_BUCKET}"));
        self.gets_audio();
        self.publish([format!("$O.{AUDIO_BUCKET}.>")]);
    }

    /// A file is deleted by purging its pieces; who may do that may empty the store.
    fn deletes_audio(&mut self) {
        self.jetstream([format!("STREAM.PURGE.OBJ_{AUDIO_BUCKET}")]);
    }

    /// Asks for answers of models, and takes that back.
    fn asks(&mut self) {
        let prefix = self.prefix;
        self.publish(Method::ALL.map(|method| subject::ingress(prefix, method)));
        self.publish([subject::agent_ingress(prefix), subject::cancels(prefix)]);
    }

    fn coordinator(&mut self) {
        let prefix = self.prefix;
        self.publish([Plane::Cloud, Plane::Local].map(|plane| execute(prefix, plane, None)));
        self.publish([
            subject::cancels(prefix),
            subject::BudgetCall(self.machine.clone()).name(prefix),
            format!("{prefix}.v1.check.*"),
            format!("{prefix}.v1.model.*"),
        ]);
        self.usage_events(service::REQUEST_COORDINATOR);
        self.puts_audio();
        self.deletes_audio();
        self.subscribe(Method::ALL.map(|method| subject::ingress(prefix, method)));
        self.subscribe([subject::agent_ingress(prefix)]);
        self.answers(&[User::Caller]);
    }

    fn manager(&mut self) {
        let prefix = self.prefix;
        self.subscribe([
            subject::heartbeats(prefix),
            subject::Plan.name(prefix),
            subject::FlagCall.name(prefix),
            subject::BudgetCall(self.machine.clone()).name(prefix),
            format!("{prefix}.v1.req.alias"),
            format!("{prefix}.v1.key.{}", self.machine),
        ]);
        self.publish([subject::BudgetAlerts.name(prefix)]);
        // registrations too: it takes back those of the dead
        self.writes_keys(&["route.*", "flag.>", "budget.*", "alias.*", "key.*", "reg.*.*"]);
        self.reads_stream(USAGE_STREAM);
        self.creates_stream(USAGE_STREAM);
        self.answers(&[User::Coordinator, User::Caller]);
    }

    /// What executors share: they end requests early, fetch audio, and answer coordinators.
    fn executor(&mut self, plane: Plane) {
        self.subscribe([execute(self.prefix, plane, Some(self.machine)), subject::cancels(self.prefix)]);
        self.gets_audio();
        self.answers(&[User::Coordinator]);
    }

    fn adapter(&mut self) {
        self.executor(Plane::Cloud);
        self.subscribe([subject::provider_jobs(self.prefix, self.machine)]);
        self.usage_events(service::REMOTE_API_ADAPTER);
    }

    fn pool(&mut self) {
        self.executor(Plane::Local);
        self.answers(&[User::CoordinatorPrivate]);
        // what came for a cold model is handed on to its engine
        self.publish([
            subject::LeaseCall(self.machine.clone()).name(self.prefix),
            execute(self.prefix, Plane::Local, Some(self.machine)),
        ]);
        self.subscribe([
            format!("{}.v1.model.{}", self.prefix, self.machine),
            subject::heartbeats_of(self.prefix, self.machine, service::VRAM_OPTIMIZER),
        ]);
    }

    fn operator(&mut self) {
        let prefix = self.prefix;
        self.asks();
        self.puts_audio();
        self.deletes_audio();
        self.publish([
            subject::Plan.name(prefix),
            subject::FlagCall.name(prefix),
            format!("{prefix}.v1.req.alias"),
            format!("{prefix}.v1.budget.*"),
            format!("{prefix}.v1.key.*"),
            format!("{prefix}.v1.model.*"),
            format!("{prefix}.v1.lease.gpu.*"),
            format!("{prefix}.v1.provider-job.*.*"),
            "$SRV.>".to_owned(),
        ]);
        self.reads_stream(&format!("KV_{CONTROL_BUCKET}"));
        self.reads_stream(USAGE_STREAM);
        self.subscribe([subject::heartbeats(prefix), "evt.v1.>".to_owned()]);
    }
}
