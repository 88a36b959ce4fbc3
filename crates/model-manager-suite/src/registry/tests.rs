use std::path::Path;

use domain::{id::NodeId, routing::Snapshot};
use proptest::prelude::*;

use super::*;
use crate::registration::Instance as Identity;

mod liveness;
mod merging;
mod properties;

const PATIENCE: Patience =
    Patience { dead_after: Duration::from_millis(1_600), forget_after: Duration::from_secs(60) };

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn identity(service: &str, instance: &str, machine: &str) -> Identity {
    Identity {
        machine: NodeId::new(machine).unwrap(),
        service: service.to_owned(),
        instance: instance.to_owned(),
    }
}

fn me() -> Identity {
    identity("model-manager-suite", "m1", "mainpc")
}

fn pool() -> Identity {
    identity("local-model-pool", "p1", "mainpc")
}

fn catalog(thresholds: &str) -> Arc<Catalog> {
    let agents = "[[agent]]\nname = \"Responder\"\nclass = \"light\"\ntiers = [\"local-cpu\"]\n";
    Arc::new(Catalog::parse(Path::new("a"), agents, Path::new("p"), thresholds).unwrap())
}

fn deployment(id: &str, executor: &str, state: v1::DeploymentState) -> v1::Deployment {
    v1::Deployment {
        id: id.to_owned(),
        model: "demo".to_owned(),
        provider: "llama.cpp".to_owned(),
        tier: v1::Tier::LocalCpu.into(),
        machine: id.split('/').next().unwrap().to_owned(),
        executor: executor.to_owned(),
        context_length: 2_048,
        slots: 4,
        free: true,
        state: state.into(),
        ..v1::Deployment::default()
    }
}

fn registered(instance: &Identity, deployments: Vec<v1::Deployment>) -> Event {
    Event::Registered(Registered {
        instance: instance.clone(),
        version: "1".to_owned(),
        started_unix_ms: 1,
        deployments,
    })
}

fn beat(instance: &Identity) -> Beat {
    Beat {
        instance: instance.clone(),
        version: "1".to_owned(),
        heard_unix_ms: 1,
        in_flight: 0,
        ready: true,
        resources: None,
    }
}

fn flag(name: &str, enabled: bool) -> v1::Flag {
    v1::Flag { name: name.to_owned(), enabled, rollout_percent: 100, ..v1::Flag::default() }
}

/// A registry, and the time as it hears it.
struct World {
    registry: Registry,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { registry: Registry::new(me(), PATIENCE, catalog(""), now), now }
    }

    fn apply(&mut self, event: Event) -> Changes {
        self.registry.apply(event, self.now)
    }

    /// Time passes in steps of a heartbeat, in which `alive` are heard and this service hears itself.
    fn pass(&mut self, time: Duration, alive: &[&Identity]) -> Changes {
        let mut sum = Changes::default();
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + ms(500)).min(end);
            let own = me();
            for instance in alive.iter().copied().chain([&own]) {
                self.add(&mut sum, Event::Heartbeat(beat(instance)));
            }
            self.add(&mut sum, Event::Tick);
        }
        sum
    }

    fn add(&mut self, sum: &mut Changes, event: Event) {
        let changes = self.apply(event);
        sum.routing |= changes.routing;
        sum.status |= changes.status;
        sum.turned.extend(changes.turned);
        sum.forget.extend(changes.forget);
    }

    fn snapshot(&self) -> v1::RoutingSnapshot {
        let snapshot = self.registry.snapshot(1, 1);
        Snapshot::try_from(snapshot.clone()).unwrap();
        snapshot
    }

    fn only(&self) -> v1::Deployment {
        let mut deployments = self.snapshot().deployments;
        assert_eq!(deployments.len(), 1, "{deployments:?}");
        deployments.remove(0)
    }
}

#[test]
fn a_registration_is_in_the_snapshot_and_telling_it_again_changes_nothing() {
    let mut world = World::new();
    let told =
        registered(&pool(), vec![deployment("mainpc/llama.cpp/demo", "demo", v1::DeploymentState::Warm)]);
    assert!(world.apply(told.clone()).routing);
    assert_eq!(world.only().state(), v1::DeploymentState::Warm);
    assert_eq!(world.apply(told), Changes::default());
}

#[test]
fn a_flag_is_shown_until_it_is_removed() {
    let mut world = World::new();
    let off = flag("tier.remote-api", false);
    assert!(world.apply(Event::FlagSet(off.clone())).routing);
    assert!(!world.apply(Event::FlagSet(off.clone())).routing);
    assert_eq!(world.snapshot().flags, [off]);
    let name = FlagName::new("tier.remote-api").unwrap();
    assert!(world.apply(Event::FlagRemoved(name.clone())).routing);
    assert!(!world.apply(Event::FlagRemoved(name)).routing);
    assert!(world.snapshot().flags.is_empty());
}

#[test]
fn flags_are_bounded_and_known_ones_can_still_change() {
    let mut world = World::new();
    for index in 0..FLAGS_MAX {
        assert!(!world.apply(Event::FlagSet(flag(&format!("agent.A{index}"), true))).refused);
    }
    assert!(world.apply(Event::FlagSet(flag("agent.OneMore", true))).refused);
    assert!(world.apply(Event::FlagSet(flag("agent.A0", false))).routing);
}

#[test]
fn a_catalog_counts_as_a_change_only_when_it_differs() {
    let mut world = World::new();
    assert!(!world.apply(Event::Catalog(catalog(""))).routing);
    assert!(world.apply(Event::Catalog(catalog("[thresholds]\nheavy_tokens = 9\n"))).routing);
    assert_eq!(world.snapshot().thresholds.unwrap().heavy_tokens, 9);
    assert_eq!(world.snapshot().agents[0].name, "Responder");
}

#[test]
fn heartbeats_bring_figures_and_only_readiness_is_urgent() {
    let mut world = World::new();
    world.apply(Event::Heartbeat(beat(&pool())));
    let busy = Beat { in_flight: 2, heard_unix_ms: 9, ..beat(&pool()) };
    let changes = world.apply(Event::Heartbeat(busy.clone()));
    assert!(changes.status && !changes.routing);
    let status = &world.snapshot().services[0];
    assert_eq!((status.in_flight, status.last_seen_unix_ms, status.ready), (2, 9, true));
    assert!(world.apply(Event::Heartbeat(Beat { ready: false, ..busy })).routing);
}

#[test]
fn a_machine_shows_the_resources_of_its_living_vram_optimizer() {
    let mut world = World::new();
    let vram = identity("vram-optimizer", "v1", "pc2");
    let resources = v1::NodeResources { cpus: 8, ..v1::NodeResources::default() };
    world.apply(Event::Heartbeat(Beat { resources: Some(resources.clone()), ..beat(&vram) }));
    let expected = v1::NodeStatus { machine: "pc2".to_owned(), resources: Some(resources) };
    assert_eq!(world.snapshot().nodes, [expected]);
    world.pass(ms(2_500), &[]);
    let nodes = world.snapshot().nodes;
    let pc2 = nodes.iter().find(|node| node.machine == "pc2").unwrap();
    assert_eq!(pc2.resources, None);
}

#[test]
fn instances_are_bounded() {
    let mut world = World::new();
    for index in 0..INSTANCES_MAX {
        let one = identity("local-model-pool", &format!("i{index}"), "mainpc");
        assert!(!world.apply(Event::Heartbeat(beat(&one))).refused);
    }
    let another = identity("local-model-pool", "another", "mainpc");
    assert!(world.apply(Event::Heartbeat(beat(&another))).refused);
    assert!(world.apply(registered(&another, vec![])).refused);
}
