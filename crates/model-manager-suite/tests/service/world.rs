//! A manager and executors on one nats-server.

use std::{path::Path, sync::Arc, time::Duration};

use bus::{Announcement, Announcer, Bus, control::Control, executor::Load};
use e2e::Nats;
use model_manager_suite::{Section, Settings, run};
use prost::Message;
use service_runtime::Process;
use tempfile::TempDir;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{FlagCall, Plan, registration_key, snapshot_key},
    v1,
};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service, as `main` would run it, and a connection to ask it.
pub(crate) struct Manager {
    process: Process,
    pub(crate) files: TempDir,
    pub(crate) control: Control,
    bus: Bus,
    seen: Arc<Mutex<Vec<v1::RoutingSnapshot>>>,
    watching: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

async fn connect(nats: &Nats, service: &'static str, instance: &str, machine: &str) -> Bus {
    let settings = settings(nats);
    Bus::connect(&settings, service, instance, machine, &CancellationToken::new()).await.unwrap()
}

fn settings(nats: &Nats) -> bus::Settings {
    bus::Settings { url: nats.url(), ..bus::Settings::default() }
}

fn section(files: &Path) -> Section {
    let shipped = e2e::workspace::root().join("config");
    for name in ["agents.toml", "policies.toml"] {
        std::fs::copy(shipped.join(name), files.join(name)).unwrap();
    }
    Section {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        agents_file: files.join("agents.toml"),
        policies_file: files.join("policies.toml"),
        reload_interval_ms: 20,
        status_interval_ms: 300,
        ..Section::default()
    }
}

impl Manager {
    pub(crate) async fn start(nats: &Nats) -> Self {
        Self::start_with(nats, |_| {}).await
    }

    /// Returns when the first snapshot is written.
    pub(crate) async fn start_with(nats: &Nats, change: impl FnOnce(&mut Section)) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut own = section(files.path());
        change(&mut own);
        let process = Process::for_tests("model-manager-suite", "mainpc", files.path());
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Settings { bus: settings(nats), own }, process.clone()));
        let bus = connect(nats, "hybridctl", "test", "mainpc").await;
        let watching = CancellationToken::new();
        let control = bus.control_when_ready(&watching).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut changes = control.watch(&bus, snapshot_key(bus.machine()), watching.clone());
        let collected = Arc::clone(&seen);
        tasks.spawn(async move {
            while let Some(change) = changes.recv().await {
                let snapshot = v1::RoutingSnapshot::decode(change.value.unwrap()).unwrap();
                collected.lock().await.push(snapshot);
            }
            Ok(())
        });
        let manager = Self { process, files, control, bus, seen, watching, tasks };
        let ready = async || manager.process.health.is_ready().then_some(());
        e2e::wait::until("a ready manager", PATIENCE, ready).await.unwrap();
        manager
    }

    /// The error of a manager that does not start with these agents.
    pub(crate) async fn refused(nats: &Nats, agents: &str) -> String {
        let files = tempfile::tempdir().unwrap();
        let own = section(files.path());
        std::fs::write(&own.agents_file, agents).unwrap();
        let process = Process::for_tests("model-manager-suite", "mainpc", files.path());
        run(Settings { bus: settings(nats), own }, process).await.unwrap_err().to_string()
    }

    pub(crate) async fn stop(mut self) {
        self.process.stop().await.unwrap();
        self.watching.cancel();
        self.bus.close().await;
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// What the bucket holds.
    pub(crate) async fn snapshot(&self) -> v1::RoutingSnapshot {
        let value = self.control.get(&snapshot_key(self.bus.machine())).await.unwrap().unwrap();
        v1::RoutingSnapshot::decode(value).unwrap()
    }

    /// The first snapshot seen that is as wanted.
    pub(crate) async fn snapshot_with(
        &self,
        wanted: impl Fn(&v1::RoutingSnapshot) -> bool,
    ) -> v1::RoutingSnapshot {
        let found = async || self.seen.lock().await.iter().rfind(|one| wanted(one)).cloned();
        let outcome = e2e::wait::until("a snapshot as wanted", PATIENCE, found).await;
        match outcome {
            Ok(snapshot) => snapshot,
            Err(error) => panic!("{error}; the last one was {:?}", self.seen.lock().await.last()),
        }
    }

    /// Every snapshot seen since the start.
    pub(crate) async fn history(&self) -> Vec<v1::RoutingSnapshot> {
        self.seen.lock().await.clone()
    }

    pub(crate) async fn flag(&self, request: v1::FlagRequest) -> v1::FlagReply {
        self.bus.call(&FlagCall, &request).await.unwrap()
    }

    pub(crate) async fn plan(&self, request: v1::PlanRequest) -> Result<v1::Decision, v1::Error> {
        match self.bus.call(&Plan, &request).await.unwrap().result.unwrap() {
            v1::plan_reply::Result::Decision(decision) => Ok(decision),
            v1::plan_reply::Result::Error(error) => Err(error),
        }
    }

    /// Waits until a file was refused.
    pub(crate) async fn reload_failed(&self) {
        let failed = async || {
            let report = self.process.health.report();
            report
                .components
                .iter()
                .any(|one| one.name == "catalog" && one.detail.contains("refused"))
                .then_some(())
        };
        e2e::wait::until("a refused file", PATIENCE, failed).await.unwrap();
        assert!(self.process.health.is_ready(), "what was in force still is");
    }
}

/// Something that registers and is heard, as executors are.
pub(crate) struct Executor {
    pub(crate) announcement: Announcement,
    pub(crate) key: String,
    tasks: JoinSet<()>,
}

impl Executor {
    pub(crate) async fn start(nats: &Nats, machine: &str, deployments: Vec<v1::Deployment>) -> Self {
        let bus = connect(nats, "local-model-pool", "x1", machine).await;
        let announcement = Announcement::default();
        announcement.set_deployments(deployments);
        announcement.set_ready(true);
        let announcer = Announcer {
            control: bus.control_when_ready(&CancellationToken::new()).await.unwrap(),
            bus: bus.clone(),
            version: "0",
            now_unix_ms: Arc::new(|| 1),
            load: Load::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(announcer.run(announcement.clone(), CancellationToken::new()));
        let key = registration_key(bus.machine(), bus.service(), bus.instance());
        Self { announcement, key, tasks }
    }

    /// Ends it as a crash would: nothing is taken back.
    pub(crate) fn kill(mut self) {
        self.tasks.abort_all();
    }
}

pub(crate) fn deployment(id: &str, state: v1::DeploymentState) -> v1::Deployment {
    v1::Deployment {
        id: id.to_owned(),
        model: "demo".to_owned(),
        provider: "llama.cpp".to_owned(),
        tier: v1::Tier::LocalCpu.into(),
        machine: "mainpc".to_owned(),
        executor: "demo".to_owned(),
        capabilities: Some(v1::Capabilities { generate: true, ..v1::Capabilities::default() }),
        context_length: 2_048,
        slots: 4,
        free: true,
        state: state.into(),
        ..v1::Deployment::default()
    }
}

/// A request for text, from nobody in particular when `agent` is empty.
pub(crate) fn generate(agent: &str, model: &str, text: &str) -> v1::PlanRequest {
    let part = v1::ContentPart {
        part: Some(v1::content_part::Part::Text(text.to_owned())),
        ..v1::ContentPart::default()
    };
    let message = v1::Message { role: v1::Role::User.into(), content: vec![part], ..v1::Message::default() };
    let messages = if text.is_empty() { vec![] } else { vec![message] };
    v1::PlanRequest {
        method: Some(v1::plan_request::Method::Generate(v1::GenerateRequest {
            agent: agent.to_owned(),
            model: model.to_owned(),
            messages,
            ..v1::GenerateRequest::default()
        })),
    }
}
