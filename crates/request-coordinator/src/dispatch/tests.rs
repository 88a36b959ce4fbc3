//! A request that must stay on the owner's machines, and a routing that is wrong.

use std::time::Duration;

use async_nats::Client;
use bus::Settings;
use domain::{
    id::{DeploymentId, ModelName, NodeId},
    inference::{Privacy, TaskProfile},
    pricing::Price,
    routing::{Deployment, DeploymentState, Tier},
    units::{Bytes, Tokens},
};
use e2e::{Nats, nats, system::question};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use wire::permission::User;

use super::*;
use crate::admission::{VirtualKeys, Visitor};

const MACHINE: &str = "mainpc";
/// Where the cloud's executor listens.
const CLOUD: &str = "llm.v1.exec.cloud.mainpc.openai";

struct World {
    nats: Nats,
    coordinator: Coordinator,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let options =
            nats::Options { domain: MACHINE.to_owned(), credentials: true, ..nats::Options::default() };
        let nats = Nats::start_with(options).await.unwrap();
        let settings =
            Settings { url: nats.url(), credentials_dir: nats.credentials(), ..Settings::default() };
        let stop = CancellationToken::new();
        let connect =
            async |user: User| Bus::connect(&settings, user.name(), "test", MACHINE, &stop).await.unwrap();
        let bus = connect(User::Coordinator).await;
        let folder = tempfile::tempdir().unwrap();
        let load = Load::default();
        let coordinator = Coordinator {
            private: connect(User::CoordinatorPrivate).await,
            snapshots: Snapshots::default(),
            live: LiveState::default(),
            ledger: Ledger::open(&bus, folder.path(), load.clone(), stop.clone()).unwrap(),
            bus,
            metrics: Metrics::new(),
            clock: Clock::system(),
            limits: Limits {
                deadline: Duration::from_secs(30),
                silence: Duration::from_secs(20),
                attempts: 3,
                output_when_budgeted: 16,
                last_word: Duration::from_secs(1),
            },
            gate: Gate::new(&[], false, VirtualKeys::default(), Clock::system()).unwrap(),
            requests: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(1)),
            load,
            reservations: Reservations::default(),
            audio_room: Room::default(),
        };
        Self { nats, coordinator, _folder: folder }
    }

    /// The adapter, as far as it listens; asks the server whether everything before has arrived.
    async fn adapter(&self) -> (Client, async_nats::Subscriber) {
        let client = self.nats.client_of(User::Adapter).await.unwrap();
        let heard = client.subscribe("llm.v1.exec.cloud.mainpc.>").await.unwrap();
        client.flush().await.unwrap();
        (client, heard)
    }

    /// What routing would decide had it forgotten what is private.
    fn wrong_decision(&self, asked: &Asked) -> (Snapshot, Decision) {
        let wire = v1::RoutingSnapshot { machine: MACHINE.to_owned(), ..v1::RoutingSnapshot::default() };
        let snapshot = Snapshot { deployments: vec![Arc::new(cloud())], ..wire.try_into().unwrap() };
        let forgetful = TaskProfile::default();
        let mut facts = Facts::of(&asked.request);
        assert!(decide(&facts, &snapshot, &self.coordinator.live.read()).is_err() || !private(asked));
        facts.profile = &forgetful;
        let decision = decide(&facts, &snapshot, &self.coordinator.live.read()).unwrap();
        (snapshot, decision)
    }

    async fn send(&self, asked: &Asked) -> Result<v1::FinishReason, Fault> {
        let (snapshot, decision) = self.wrong_decision(asked);
        let (sender, _events) = mpsc::channel(EVENTS_BUFFERED);
        self.coordinator.try_candidates(asked, &Caller(sender), &snapshot, &decision).await
    }
}

fn private(asked: &Asked) -> bool {
    asked.request.envelope().profile.privacy == Privacy::LocalOnly
}

fn cloud() -> Deployment {
    Deployment {
        id: DeploymentId::new("mainpc/openai/gpt-4o").unwrap(),
        model: ModelName::new("gpt-4o").unwrap(),
        provider: "openai".to_owned(),
        tier: Tier::RemoteApi,
        machine: NodeId::new(MACHINE).unwrap(),
        executor: "openai".to_owned(),
        capabilities: domain::routing::Capabilities { generate: true, ..Default::default() },
        context_length: Tokens::new(8_192),
        slots: 4,
        price: Some(Price::FREE),
        state: DeploymentState::Warm,
        degraded: false,
        vram: Bytes::ZERO,
        embedding_dimensions: 0,
        load: Duration::ZERO,
    }
}

fn asked(privacy: v1::Privacy) -> Asked {
    let mut request = question("a secret of the house");
    request.request_id = format!("request-{}", privacy.as_str_name());
    request.profile = Some(v1::TaskProfile { privacy: privacy.into(), ..Default::default() });
    Asked::new(Method::Generate(request), "nats", Instant::now(), Visitor::Anyone).unwrap()
}

#[tokio::test]
async fn a_private_request_cannot_reach_the_adapter_however_wrong_the_routing_is() {
    let world = World::new().await;
    let (adapter, mut heard) = world.adapter().await;

    let fault = world.send(&asked(v1::Privacy::LocalOnly)).await.unwrap_err();
    assert_eq!((fault.code, fault.origin), (Code::PermissionDenied, Origin::Internal), "{fault}");
    assert!(fault.message.contains(CLOUD), "{fault}");

    // the first that the adapter hears is what came after it, over the connection that may send there
    let public = asked(v1::Privacy::Unspecified);
    let id = public.request.envelope().id.to_string();
    let answering = async {
        let message = heard.next().await.unwrap();
        let request: v1::ExecuteRequest = prost::Message::decode(message.payload).unwrap();
        let kind = Some(v1::reply_frame::Kind::End(v1::End::default()));
        let frame = v1::ReplyFrame { request_id: request.request_id.clone(), seq: 0, kind };
        let frame = prost::Message::encode_to_vec(&frame).into();
        adapter.publish(message.reply.unwrap(), frame).await.unwrap();
        request.request_id
    };
    let (sent, first) = tokio::join!(world.send(&public), answering);
    sent.unwrap();
    assert_eq!(first, id);
}
