//! Several services offer one deployment.

use v1::DeploymentState::{Cold, Down, Loading, Warm};

use super::*;

const ID: &str = "mainpc/llama.cpp/demo";

fn engine() -> Identity {
    identity("local-model-pool", "e1", "mainpc")
}

fn offers(offers: &[(&Identity, &str, v1::DeploymentState)]) -> World {
    let mut world = World::new();
    for (instance, executor, state) in offers {
        world.apply(registered(instance, vec![deployment(ID, executor, *state)]));
    }
    world
}

#[test]
fn the_engine_that_is_warm_goes_before_the_pool_that_would_have_to_load() {
    for order in [[0, 1], [1, 0]] {
        let all = [(pool(), "pool", Cold), (engine(), "demo-engine", Warm)];
        let told: Vec<_> =
            order.iter().map(|index| &all[*index]).map(|(who, at, state)| (who, *at, *state)).collect();
        let only = offers(&told).only();
        assert_eq!((only.executor.as_str(), only.state(), only.slots), ("demo-engine", Warm, 4));
    }
}

#[test]
fn states_are_preferred_warm_loading_cold_down() {
    for (better, worse) in [(Warm, Loading), (Loading, Cold), (Cold, Down)] {
        let (one, two) = (pool(), engine());
        assert_eq!(offers(&[(&one, "a", better), (&two, "b", worse)]).only().executor, "a");
        assert_eq!(offers(&[(&one, "a", worse), (&two, "b", better)]).only().executor, "b");
    }
}

#[test]
fn the_pool_takes_over_when_its_engine_dies() {
    let mut world = offers(&[(&pool(), "pool", Cold), (&engine(), "demo-engine", Warm)]);
    world.pass(ms(2_500), &[&pool()]);
    let only = world.only();
    assert_eq!((only.executor.as_str(), only.state()), ("pool", Cold));
}

#[test]
fn equal_executors_add_their_slots_and_the_dead_ones_do_not() {
    let mut world = offers(&[(&pool(), "openai", Warm), (&engine(), "openai", Warm)]);
    assert_eq!(world.only().slots, 8);
    world.pass(ms(2_500), &[&engine()]);
    assert_eq!(world.only().slots, 4);
}

#[test]
fn of_two_dead_offers_the_better_one_says_why_it_is_down() {
    let mut world = offers(&[(&pool(), "pool", Cold), (&engine(), "demo-engine", Warm)]);
    world.pass(ms(2_500), &[]);
    let only = world.only();
    assert_eq!(only.state(), Down);
    assert_eq!(only.state_detail, "no heartbeat from local-model-pool on mainpc");
}

#[test]
fn an_executor_that_says_itself_that_it_is_down_keeps_its_own_words() {
    let mut world = World::new();
    let mut broken = deployment(ID, "pool", Down);
    broken.state_detail = "the model file is damaged".to_owned();
    world.apply(registered(&pool(), vec![broken]));
    assert_eq!(world.only().state_detail, "the model file is damaged");
}
