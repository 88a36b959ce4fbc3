//! The adapter's own process, a nats-server, and a provider that runs jobs.

use std::{collections::BTreeMap, net::SocketAddr, process::Command, time::Duration};

use bus::Bus;
use domain::{fault::Fault, id::NodeId};
use e2e::{Child, JobUpstream, Nats, http, port, wait};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{
        CancelProviderJob, GetProviderJob, ListProviderJobs, ProviderJobResults, SubmitProviderJob,
        USAGE_STREAM, service,
    },
    v1::{
        self, ProviderJobState as State, provider_job_reply::Result as Reply,
        submit_provider_job_request::Kind,
    },
};

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const KEY: &str = "canary-4711-key";

pub(crate) struct World {
    nats: Nats,
    pub(crate) adapter: Child,
    pub(crate) bus: Bus,
    pub(crate) provider: JobUpstream,
    admin: SocketAddr,
    folder: TempDir,
}

impl World {
    /// With a provider that speaks as OpenAI does.
    pub(crate) async fn start() -> Self {
        Self::start_as("openai").await
    }

    /// With a provider of this kind.
    pub(crate) async fn start_as(kind: &str) -> Self {
        let (nats, provider) = (Nats::start().await.unwrap(), JobUpstream::start(KEY).await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), KEY).unwrap();
        let admin = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
        let config = format!(
            r#"
            [node]
            machine = "mainpc"
            data_dir = "{folder}/data"
            [bus]
            url = "{url}"
            [remote-api-adapter]
            admin_listen = "{admin}"
            jobs = {{ poll_min_ms = 20, poll_max_ms = 200 }}
            [[remote-api-adapter.providers]]
            name = "fake"
            kind = "{kind}"
            base_url = "{base}"
            allow_private = true
            api_key = {{ file = "{folder}/key" }}
            [[remote-api-adapter.providers.deployments]]
            model = "small"
            upstream_model = "gpt-4o-mini"
            context_length = 128000
            capabilities = ["generate", "tools"]
            price = {{ input_per_million = "0.15", output_per_million = "0.60", batch_input_per_million = "0.075", batch_output_per_million = "0.30", training_per_million = "3" }}
            [[remote-api-adapter.providers.deployments]]
            model = "dear"
            context_length = 128000
            capabilities = ["generate"]
            price = {{ input_per_million = "15", output_per_million = "60" }}
            [[remote-api-adapter.providers.deployments]]
            model = "vectors"
            context_length = 8191
            capabilities = ["embed"]
            price = {{ input_per_million = "0.02", batch_input_per_million = "0.01" }}
            "#,
            folder = folder.path().display(),
            url = nats.url(),
            base = if kind == "azure" { provider.root() } else { provider.base_url() },
        );
        std::fs::write(folder.path().join("hybrid.toml"), config).unwrap();
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let stop = CancellationToken::new();
        let bus =
            Bus::connect(&settings, service::REQUEST_COORDINATOR, "test", "mainpc", &stop).await.unwrap();
        let adapter = spawn(&folder);
        let mut world = Self { nats, adapter, bus, provider, admin, folder };
        world.up().await;
        world
    }

    async fn up(&mut self) {
        let ready = format!("http://{}/readyz", self.admin);
        let client = http::Client::default();
        wait::until("the adapter", PATIENCE, async || {
            client.get(&ready).await.ok().filter(|answer| answer.status.is_success())
        })
        .await
        .unwrap();
        // the jobs listen a moment later
        let (bus, list) = (&self.bus, v1::ListProviderJobsRequest::default());
        wait::until("the jobs", PATIENCE, async || bus.call(&ListProviderJobs(machine()), &list).await.ok())
            .await
            .unwrap();
    }

    pub(crate) async fn client(&self) -> async_nats::Client {
        self.nats.client().await.unwrap()
    }

    /// `kill -9`, and a new start on the same folder.
    pub(crate) async fn crash(&mut self) {
        self.adapter.kill().unwrap();
        self.adapter = spawn(&self.folder);
        self.up().await;
    }

    pub(crate) async fn submit(
        &self,
        request: v1::SubmitProviderJobRequest,
    ) -> Result<v1::ProviderJob, Fault> {
        one(self.bus.call_within(&SubmitProviderJob(machine()), &request, PATIENCE).await.unwrap())
    }

    pub(crate) async fn get(&self, id: &str) -> Result<v1::ProviderJob, Fault> {
        let request = v1::ProviderJobRequest { job_id: id.to_owned() };
        one(self.bus.call(&GetProviderJob(machine()), &request).await.unwrap())
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<v1::ProviderJob, Fault> {
        let request = v1::ProviderJobRequest { job_id: id.to_owned() };
        one(self.bus.call(&CancelProviderJob(machine()), &request).await.unwrap())
    }

    pub(crate) async fn list(&self) -> Vec<v1::ProviderJob> {
        let request = v1::ListProviderJobsRequest::default();
        self.bus.call(&ListProviderJobs(machine()), &request).await.unwrap().jobs
    }

    pub(crate) async fn until(
        &self,
        id: &str,
        what: &str,
        is: impl Fn(&v1::ProviderJob) -> bool,
    ) -> v1::ProviderJob {
        let found = wait::until(what, PATIENCE, async || self.get(id).await.ok().filter(|job| is(job))).await;
        match found {
            Ok(job) => job,
            Err(error) => panic!("{error:#}: {:?}\n{}", self.get(id).await, self.log()),
        }
    }

    pub(crate) async fn ended(&self, id: &str) -> v1::ProviderJob {
        self.until(id, "the job's end", |job| {
            matches!(job.state(), State::Succeeded | State::Failed | State::Cancelled | State::Expired)
        })
        .await
    }

    /// All results, page by page; also how many pages there were.
    pub(crate) async fn results(&self, id: &str) -> (Vec<v1::BatchResult>, usize) {
        let (mut all, mut cursor) = (Vec::new(), 0);
        for pages in 1.. {
            let request = v1::ProviderJobResultsRequest { job_id: id.to_owned(), cursor };
            let page = self.bus.call(&ProviderJobResults(machine()), &request).await.unwrap();
            assert!(page.error.is_none(), "{:?}", page.error);
            all.extend(page.results);
            cursor = page.next_cursor;
            if cursor == 0 {
                return (all, pages);
            }
        }
        unreachable!()
    }

    /// The ledger as its readers count it, by event id, once `count` events are there.
    pub(crate) async fn ledger(&self, count: usize) -> BTreeMap<String, v1::UsageEvent> {
        let mut told = 0;
        let events = wait::until("the ledger", PATIENCE, async || {
            let events = self.told().await?;
            told = events.len();
            (told >= count).then_some(events)
        })
        .await;
        events.unwrap_or_else(|error| panic!("{error:#}: {told} of {count}\n{}", self.log()))
    }

    async fn told(&self) -> Option<BTreeMap<String, v1::UsageEvent>> {
        let mut stream = self.bus.jetstream().get_stream(USAGE_STREAM).await.ok()?;
        let last = stream.info().await.ok()?.state.last_sequence;
        let mut events = BTreeMap::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.ok()?;
            for event in bus::ledger::decode(&message.payload).ok()? {
                let id = event.event_id.clone();
                if let Some(first) = events.insert(id, event.clone()) {
                    assert_eq!(first, event, "an event was told twice, differently");
                }
            }
        }
        Some(events)
    }

    /// Everything the program has written.
    pub(crate) fn log(&self) -> String {
        self.adapter.stdout() + &self.adapter.stderr()
    }
}

fn spawn(folder: &TempDir) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-api-adapter"));
    command.arg("--config").arg(folder.path().join("hybrid.toml"));
    Child::spawn("remote-api-adapter", &mut command).unwrap()
}

pub(crate) fn machine() -> NodeId {
    NodeId::new("mainpc").unwrap()
}

fn one(reply: v1::ProviderJobReply) -> Result<v1::ProviderJob, Fault> {
    match reply.result.unwrap() {
        Reply::Job(job) => Ok(job),
        Reply::Error(error) => Err(error.into()),
    }
}

/// A request that asks `text`.
pub(crate) fn asks(custom_id: &str, text: &str) -> v1::BatchItem {
    let part = v1::content_part::Part::Text(text.to_owned());
    let message = v1::Message {
        role: v1::Role::User.into(),
        content: vec![v1::ContentPart { part: Some(part), ..Default::default() }],
        ..Default::default()
    };
    let generate = v1::GenerateRequest {
        messages: vec![message],
        agent: "Night".to_owned(),
        ..v1::GenerateRequest::default()
    };
    v1::BatchItem {
        custom_id: custom_id.to_owned(),
        request: Some(v1::batch_item::Request::Generate(generate)),
    }
}

/// A whole batch.
pub(crate) fn batch(id: &str, items: Vec<v1::BatchItem>) -> v1::SubmitProviderJobRequest {
    v1::SubmitProviderJobRequest {
        job_id: id.to_owned(),
        model: "small".to_owned(),
        part: 0,
        last: true,
        kind: Some(Kind::Batch(v1::BatchPart { items })),
    }
}
