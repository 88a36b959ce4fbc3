//! What silence means, and when.

use super::*;

const WARM: v1::DeploymentState = v1::DeploymentState::Warm;
const DOWN: v1::DeploymentState = v1::DeploymentState::Down;

fn with(instance: &Identity, id: &str) -> World {
    let mut world = World::new();
    world.apply(registered(instance, vec![deployment(id, "demo", WARM)]));
    world.pass(ms(1_000), &[instance]);
    world
}

fn with_pool() -> World {
    with(&pool(), "mainpc/llama.cpp/demo")
}

#[test]
fn a_service_that_falls_silent_takes_its_deployments_down_and_says_who_and_where() {
    let mut world = with_pool();
    let changes = world.pass(ms(1_600), &[]);
    assert!(!changes.routing, "three missed heartbeats and a little more are allowed");
    let changes = world.pass(ms(250), &[]);
    assert!(changes.routing);
    assert_eq!(changes.turned, [Turn { instance: pool(), alive: false }]);
    let down = world.only();
    assert_eq!(down.state(), DOWN);
    assert_eq!(down.state_detail, "no heartbeat from local-model-pool on mainpc");
    assert!(
        world.snapshot().services.iter().any(|status| status.service == "local-model-pool" && !status.alive)
    );
}

#[test]
fn a_heartbeat_brings_a_dead_service_back() {
    let mut world = with_pool();
    world.pass(ms(3_000), &[]);
    let changes = world.apply(Event::Heartbeat(beat(&pool())));
    assert!(changes.routing);
    assert_eq!(changes.turned, [Turn { instance: pool(), alive: true }]);
    assert_eq!(world.only().state(), WARM);
}

#[test]
fn a_registration_that_is_found_at_the_start_has_a_grace_to_be_heard() {
    let mut world = World::new();
    let stored = registered(&pool(), vec![deployment("mainpc/llama.cpp/demo", "demo", WARM)]);
    world.apply(stored);
    assert!(!world.registry.is_settled());
    world.pass(ms(1_500), &[]);
    assert_eq!(world.only().state(), WARM);
    world.pass(ms(500), &[]);
    assert_eq!(world.only().state(), DOWN);
    assert!(world.registry.is_settled(), "nobody is waited for who is dead");
}

#[test]
fn everybody_heard_is_settled() {
    let world = with_pool();
    assert!(world.registry.is_settled());
}

#[test]
fn nobody_is_judged_while_this_service_does_not_hear_itself() {
    let mut world = with_pool();
    for _ in 0..100 {
        world.now += ms(1_000);
        assert_eq!(world.apply(Event::Tick), Changes::default());
    }
    assert_eq!(world.only().state(), WARM);
    // the bus is back: everybody has a full grace again
    world.pass(ms(1_500), &[]);
    assert_eq!(world.only().state(), WARM);
    world.pass(ms(1_000), &[]);
    assert_eq!(world.only().state(), DOWN);
}

#[test]
fn time_without_the_bus_does_not_count_towards_forgetting() {
    let mut world = with_pool();
    world.pass(ms(3_000), &[]);
    world.now += Duration::from_secs(3_600);
    let changes = world.pass(Duration::from_secs(50), &[]);
    assert!(changes.forget.is_empty());
    let changes = world.pass(Duration::from_secs(15), &[]);
    assert_eq!(changes.forget, [pool().key()]);
}

#[test]
fn a_registration_of_this_machine_is_deleted_once_after_a_minute_of_death() {
    let mut world = with_pool();
    let changes = world.pass(Duration::from_secs(61), &[]);
    assert!(changes.forget.is_empty());
    let changes = world.pass(Duration::from_secs(10), &[]);
    assert_eq!(changes.forget, [pool().key()]);
    assert!(changes.routing);
    assert!(world.snapshot().deployments.is_empty());
    assert!(world.pass(Duration::from_secs(70), &[]).forget.is_empty());
    assert_eq!(world.apply(Event::Withdrawn { key: pool().key() }), Changes::default());
}

#[test]
fn another_machines_registration_stays_known_and_down_until_that_machine_deletes_it() {
    let far = identity("local-model-pool", "f1", "pc2");
    let mut world = with(&far, "pc2/llama.cpp/demo");
    let changes = world.pass(Duration::from_secs(600), &[]);
    assert!(changes.forget.is_empty());
    assert_eq!(world.only().state(), DOWN);
    assert_eq!(world.only().state_detail, "no heartbeat from local-model-pool on pc2");
}

#[test]
fn a_service_that_ends_in_order_leaves_its_deployments_down_for_a_minute() {
    let mut world = with_pool();
    assert!(world.apply(Event::Withdrawn { key: pool().key() }).routing);
    assert_eq!(world.only().state_detail, "local-model-pool on mainpc has stopped");
    // its last heartbeat overtook nobody, but may still be on its way
    assert_eq!(world.apply(Event::Heartbeat(beat(&pool()))), Changes::default());
    assert_eq!(world.only().state(), DOWN);
    let changes = world.pass(Duration::from_secs(70), &[]);
    assert!(changes.forget.is_empty(), "the registration is gone already");
    assert!(world.snapshot().deployments.is_empty());
}

#[test]
fn a_service_without_deployments_that_ends_is_gone_at_once() {
    let mut world = World::new();
    let hub = identity("observability-hub", "h1", "mainpc");
    world.apply(registered(&hub, vec![]));
    assert!(world.apply(Event::Withdrawn { key: hub.key() }).routing);
    assert!(world.snapshot().services.is_empty());
}

#[test]
fn a_registration_that_is_written_again_after_it_was_deleted_counts() {
    let mut world = with_pool();
    world.apply(Event::Withdrawn { key: pool().key() });
    let again = registered(&pool(), vec![deployment("mainpc/llama.cpp/demo", "demo", WARM)]);
    assert!(world.apply(again).routing);
    assert_eq!(world.only().state(), WARM);
}
