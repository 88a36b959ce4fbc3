use std::{path::PathBuf, time::Duration};

use bus::{Bus, Incoming};
use futures::{Stream, StreamExt};
use prost::Message as _;
use service_runtime::{Clock, Process};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vram_optimizer::{Raw, Settings};
use wire::{
    subject::{LeaseCall, Subject as _, heartbeats, service},
    v1::{self, LeasePriority, lease_reply::Result as Outcome, lease_request::Action},
};

use e2e::nvml::{Card, IDLE};

const MIB: u64 = 1 << 20;
/// Far beyond what anything here takes; a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A card on which a game uses 12 GiB.
const GAME: &str = "Card A;GPU-aaaa;24576;12864;99;50;70;300000;;4711=12288";

pub(crate) struct Machine {
    nats: e2e::Nats,
    pub(crate) bus: Bus,
    data: tempfile::TempDir,
    beats: Box<dyn Stream<Item = Incoming> + Send + Unpin>,
}

pub(crate) struct Running {
    process: Process,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Machine {
    pub(crate) async fn new() -> Self {
        let nats = e2e::Nats::start().await.unwrap();
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let bus = Bus::connect(&settings, "test", "test", "mainpc", &CancellationToken::new()).await.unwrap();
        let beats = Box::new(bus.subscribe(heartbeats(bus.prefix()), None).await.unwrap());
        Self { nats, bus, data: tempfile::tempdir().unwrap(), beats }
    }

    pub(crate) async fn start(&mut self, nvml_library: PathBuf) -> Running {
        let raw = Raw { off_peak: String::new(), return_after_s: 0, ..Raw::default() };
        self.start_with(nvml_library, raw, Clock::system()).await
    }

    /// As [`Self::start`], with these settings and this clock.
    pub(crate) async fn start_with(&mut self, nvml_library: PathBuf, raw: Raw, clock: Clock) -> Running {
        let mut process = Process::for_tests(service::VRAM_OPTIMIZER, "mainpc", self.data.path());
        process.clock = clock;
        let settings = Settings {
            bus: bus::Settings { url: self.nats.url(), ..bus::Settings::default() },
            own: Raw {
                admin_listen: "127.0.0.1:0".parse().unwrap(),
                nvml_library: Some(nvml_library),
                sample_interval_ms: 100,
                reserve_mib: 1_000,
                ..raw
            },
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(vram_optimizer::run(settings, process.clone()));
        let instance = process.instance.clone();
        self.beat(|beat| beat.ready && beat.instance == instance).await;
        Running { process, tasks }
    }

    /// Waits for a heartbeat that `wanted` accepts.
    pub(crate) async fn beat(
        &mut self,
        wanted: impl Fn(&v1::ServiceHeartbeat) -> bool,
    ) -> v1::ServiceHeartbeat {
        let waiting = async {
            loop {
                let beat = self.beats.next().await.unwrap();
                let beat = v1::ServiceHeartbeat::decode(beat.payload).unwrap();
                if wanted(&beat) {
                    return beat;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a heartbeat as wanted")
    }

    /// Waits until the machine's resources are as `wanted`.
    pub(crate) async fn resources(
        &mut self,
        wanted: impl Fn(&v1::NodeResources) -> bool,
    ) -> v1::NodeResources {
        let beat = self.beat(|beat| beat.resources.as_ref().is_some_and(&wanted)).await;
        beat.resources.unwrap()
    }

    pub(crate) async fn call(&self, action: Action) -> Outcome {
        let subject = LeaseCall(self.bus.machine().clone());
        let request = v1::LeaseRequest { action: Some(action) };
        self.bus.call_within(&subject, &request, PATIENCE).await.unwrap().result.unwrap()
    }

    pub(crate) async fn acquire(&self, acquire: v1::LeaseAcquire) -> Result<v1::Lease, Box<v1::Error>> {
        lease(self.call(Action::Acquire(acquire)).await)
    }

    pub(crate) async fn renew(&self, held: &v1::Lease) -> Result<v1::Lease, Box<v1::Error>> {
        let renew = v1::LeaseRenew {
            lease_id: held.lease_id.clone(),
            fencing_token: held.fencing_token,
            pids: Vec::new(),
            worth: None,
        };
        lease(self.call(Action::Renew(renew)).await)
    }

    pub(crate) async fn release(&self, held: &v1::Lease) -> v1::LeaseList {
        let release = v1::LeaseRelease { lease_id: held.lease_id.clone(), fencing_token: held.fencing_token };
        list(self.call(Action::Release(release)).await)
    }

    async fn list(&self) -> v1::LeaseList {
        list(self.call(Action::List(true)).await)
    }
}

impl Running {
    pub(crate) async fn stop(mut self) {
        self.process.shutdown.request();
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap();
        ended.unwrap().unwrap().unwrap();
        self.process.stop().await.unwrap();
    }
}

fn lease(outcome: Outcome) -> Result<v1::Lease, Box<v1::Error>> {
    match outcome {
        Outcome::Granted(lease) => Ok(lease),
        Outcome::Error(error) => Err(Box::new(error)),
        Outcome::List(list) => panic!("a list in place of a lease: {list:?}"),
    }
}

fn list(outcome: Outcome) -> v1::LeaseList {
    match outcome {
        Outcome::List(list) => list,
        other => panic!("no list: {other:?}"),
    }
}

/// Held for as long as a lease can be, so that only tests of renewal depend on time.
pub(crate) fn ask(holder: &str, mib: u64, priority: LeasePriority) -> v1::LeaseAcquire {
    v1::LeaseAcquire {
        holder: holder.to_owned(),
        bytes: mib * MIB,
        priority: priority.into(),
        ttl_ms: 60_000,
        gpu: true,
        pids: Vec::new(),
        worth: None,
        anytime: false,
    }
}

pub(crate) fn inference(holder: &str, mib: u64) -> v1::LeaseAcquire {
    ask(holder, mib, LeasePriority::Inference)
}

#[tokio::test]
async fn memory_of_a_gpu_is_leased_renewed_and_given_back() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;

    let resources = machine.resources(|_| true).await;
    assert_eq!(resources.planned_on, "nvml");
    let gpu = resources.gpus.first().unwrap();
    assert_eq!((gpu.name.as_str(), gpu.memory_total_bytes), ("Card A", 24_576 * MIB));
    assert_eq!((gpu.utilization_percent, gpu.temperature_celsius, gpu.power_milliwatts), (3, 41, 25_500));

    let held = machine.acquire(inference("a", 8_000)).await.unwrap();
    assert_eq!((held.gpu_index, held.bytes), (Some(0), 8_000 * MIB));
    assert_eq!(machine.renew(&held).await.unwrap().fencing_token, held.fencing_token);
    let all = machine.list().await;
    assert_eq!(all.leases.len(), 1);
    assert_eq!(all.capacity_bytes, 23_576 * MIB, "total less reserve");
    assert_eq!(all.free_bytes, 15_000 * MIB, "less the lease and what others use");
    machine.resources(|resources| resources.leased_bytes == 8_000 * MIB).await;

    for _ in 0..2 {
        assert!(machine.release(&held).await.leases.is_empty());
    }
    assert_eq!(machine.renew(&held).await.unwrap_err().code(), v1::ErrorCode::NotFound);
    machine.resources(|resources| resources.leased_bytes == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_game_that_takes_twelve_gigabytes_is_seen_at_once_and_again_when_it_ends() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;

    card.describe(GAME);
    // No wait here: an acquire is decided on a look at the card that began after it came.
    let denied = machine.acquire(inference("a", 12_000)).await.unwrap_err();
    assert_eq!((denied.code(), denied.retryable), (v1::ErrorCode::Busy, true));
    assert!(denied.message.contains("11.7 GiB") && denied.message.contains("12.6 GiB"), "{}", denied.message);
    card.describe(IDLE);
    let held = machine.acquire(inference("a", 12_000)).await.unwrap();

    // Over 10 GiB, it has the card to itself.
    let denied = machine.acquire(inference("b", 100)).await.unwrap_err();
    assert!(denied.message.contains("to itself"), "{}", denied.message);
    machine.release(&held).await;
    running.stop().await;
}

#[tokio::test]
async fn two_cards_are_filled_by_best_fit() {
    let card = Card::new("Card A;GPU-aaaa;24576;0;0;0;30;10000;;\nCard B;GPU-bbbb;8192;0;0;0;30;10000;;");
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let mut places = Vec::new();
    for (holder, mib) in [("small", 5_000), ("large", 20_000), ("rest", 2_000)] {
        places.push(machine.acquire(inference(holder, mib)).await.unwrap().gpu_index);
    }
    assert_eq!(places, [Some(1), Some(0), Some(1)]);
    running.stop().await;
}

#[tokio::test]
async fn lost_gpus_lease_nothing_until_they_are_back() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let held = machine.acquire(inference("a", 1_000)).await.unwrap();

    card.describe(&format!("!fail 15\n{IDLE}"));
    let lost = machine.resources(|resources| resources.planned_on == "nvml-lost").await;
    assert!(lost.gpus.is_empty());
    let denied = machine.acquire(inference("b", 1_000)).await.unwrap_err();
    assert_eq!((denied.code(), denied.retryable), (v1::ErrorCode::Unavailable, true));
    // Who holds memory keeps it, and system memory is leased as ever.
    machine.renew(&held).await.unwrap();
    let system = v1::LeaseAcquire { gpu: false, ..inference("c", 1) };
    assert_eq!(machine.acquire(system).await.unwrap().gpu_index, None);

    card.describe(IDLE);
    machine.resources(|resources| resources.planned_on == "nvml" && resources.gpus.len() == 1).await;
    assert_eq!(machine.acquire(inference("b", 1_000)).await.unwrap().gpu_index, Some(0));
    running.stop().await;
}

#[tokio::test]
async fn a_machine_without_nvml_is_planned_on_its_system_memory() {
    let mut machine = Machine::new().await;
    let nowhere = machine.data.path().join("no-such-library.so");
    let running = machine.start(nowhere).await;
    let resources = machine.resources(|_| true).await;
    assert_eq!(resources.planned_on, "system-memory");
    assert!(resources.gpus.is_empty() && resources.memory_total_bytes > 0 && resources.cpus > 0);
    let held = machine.acquire(inference("a", 1)).await.unwrap();
    assert_eq!(held.gpu_index, None);
    let denied = machine.acquire(inference("b", resources.memory_total_bytes / MIB + 1)).await.unwrap_err();
    assert_eq!((denied.field.as_str(), denied.retryable), ("acquire.bytes", false));
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_request_gets_a_typed_error_and_the_service_goes_on() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let client = machine.nats.client().await.unwrap();
    let subject = LeaseCall(machine.bus.machine().clone()).name(machine.bus.prefix());
    for payload in [&[0xff; 40][..], b"{\"acquire\":{}}", b""] {
        let answer = client.request(subject.clone(), payload.to_vec().into()).await.unwrap();
        let answer = v1::LeaseReply::decode(answer.payload).unwrap();
        let Some(Outcome::Error(error)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(error.code(), v1::ErrorCode::InvalidArgument);
    }
    // Nobody could hear of this one.
    let unheard = v1::LeaseRequest { action: Some(Action::Acquire(inference("unheard", 1))) };
    client.publish(subject, unheard.encode_to_vec().into()).await.unwrap();
    client.flush().await.unwrap();
    let denied = machine.acquire(v1::LeaseAcquire { ttl_ms: 10, ..inference("a", 1) }).await.unwrap_err();
    assert_eq!(denied.field, "acquire.ttl_ms");
    machine.acquire(inference("a", 1)).await.unwrap();
    assert_eq!(machine.list().await.leases.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_by_itself() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let held = machine.acquire(v1::LeaseAcquire { ttl_ms: 500, ..inference("a", 100) }).await.unwrap();
    machine.resources(|resources| resources.leased_bytes == 0).await;
    assert_eq!(machine.renew(&held).await.unwrap_err().code(), v1::ErrorCode::NotFound);
    running.stop().await;
}

#[tokio::test]
async fn a_weaker_lease_drains_for_a_stronger_ask() {
    let card = Card::new("Card A;GPU-aaaa;10192;192;0;0;30;10000;;");
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let tuning = machine.acquire(ask("tune", 8_000, LeasePriority::Training)).await.unwrap();
    let denied = machine.acquire(inference("chat", 4_000)).await.unwrap_err();
    assert!(denied.retry_after_ms > 0 && denied.message.contains("tune"), "{}", denied.message);
    let told = machine.renew(&tuning).await.unwrap_err();
    assert_eq!(told.code(), v1::ErrorCode::Cancelled);
    assert!(told.message.contains("chat"), "{}", told.message);
    machine.release(&tuning).await;
    machine.acquire(inference("chat", 4_000)).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_no_lease_and_its_tokens_go_on_growing() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let held = machine.acquire(inference("a", 9_000)).await.unwrap();
    // The model is loaded, and its memory must not count as a stranger's after the restart.
    card.describe("Card A;GPU-aaaa;24576;9576;99;50;70;300000;;");
    running.stop().await;

    let running = machine.start(card.library()).await;
    assert_eq!(machine.renew(&held).await.unwrap().fencing_token, held.fencing_token);
    assert_eq!(machine.list().await.free_bytes, 14_000 * MIB);
    let next = machine.acquire(inference("b", 9_000)).await.unwrap();
    assert!(next.fencing_token > held.fencing_token);
    running.stop().await;
}

#[tokio::test]
async fn leases_outlive_a_restart_of_the_bus() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let held = machine.acquire(inference("a", 1_000)).await.unwrap();
    machine.nats.kill().unwrap();
    machine.nats.restart().await.unwrap();
    // Nobody listens until the service has reconnected.
    let renew = Action::Renew(v1::LeaseRenew {
        lease_id: held.lease_id.clone(),
        fencing_token: held.fencing_token,
        pids: Vec::new(),
        worth: None,
    });
    let renewed = e2e::wait::until("an answer after the restart", PATIENCE, async || {
        let request = v1::LeaseRequest { action: Some(renew.clone()) };
        let subject = LeaseCall(machine.bus.machine().clone());
        machine.bus.call_within(&subject, &request, Duration::from_secs(1)).await.ok()
    });
    assert_eq!(lease(renewed.await.unwrap().result.unwrap()).unwrap().lease_id, held.lease_id);
    running.stop().await;
}

#[tokio::test]
async fn a_second_optimizer_of_the_same_machine_is_refused() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let second = Process::for_tests(service::VRAM_OPTIMIZER, "mainpc", machine.data.path());
    let settings = Settings {
        bus: bus::Settings { url: machine.nats.url(), ..bus::Settings::default() },
        own: Raw { admin_listen: "127.0.0.1:0".parse().unwrap(), ..Raw::default() },
    };
    let error = vram_optimizer::run(settings, second).await.unwrap_err();
    assert!(format!("{error:#}").contains("another vram-optimizer"), "{error:#}");
    running.stop().await;
}
