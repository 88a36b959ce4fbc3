//! What holds whatever happens.

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Register(usize, u8),
    Withdraw(usize),
    Beat(usize),
    Flag(u8, bool),
    Unflag(u8),
    Pass(u16),
    Sleep(u16),
}

fn who(index: usize) -> Identity {
    let machine = if index.is_multiple_of(2) { "mainpc" } else { "pc2" };
    identity(["local-model-pool", "remote-api-adapter"][index % 2], &format!("i{index}"), machine)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_usize, 0..5_u8).prop_map(|(index, state)| Step::Register(index, state)),
        (0..5_usize).prop_map(Step::Withdraw),
        (0..5_usize).prop_map(Step::Beat),
        (0..3_u8, any::<bool>()).prop_map(|(name, on)| Step::Flag(name, on)),
        (0..3_u8).prop_map(Step::Unflag),
        (0..5_000_u16).prop_map(Step::Pass),
        any::<u16>().prop_map(Step::Sleep),
    ]
}

fn event(step: &Step) -> Option<Event> {
    Some(match step {
        Step::Register(index, state) => {
            let instance = who(*index);
            let state = v1::DeploymentState::try_from(i32::from(*state)).unwrap();
            // two of one machine offer the same
            let id = format!("{}/llama.cpp/demo", instance.machine);
            registered(&instance, vec![deployment(&id, "pool", state)])
        }
        Step::Withdraw(index) => Event::Withdrawn { key: who(*index).key() },
        Step::Beat(index) => Event::Heartbeat(beat(&who(*index))),
        Step::Flag(name, on) => Event::FlagSet(flag(&format!("agent.A{name}"), *on)),
        Step::Unflag(name) => Event::FlagRemoved(FlagName::new(format!("agent.A{name}")).unwrap()),
        Step::Pass(_) | Step::Sleep(_) => return None,
    })
}

fn run(world: &mut World, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Pass(time) => drop(world.pass(ms((*time).into()), &[])),
            Step::Sleep(time) => world.now += ms((*time).into()),
            other => drop(world.apply(event(other).unwrap())),
        }
    }
}

/// What routing sees: figures left out.
fn routing(world: &World) -> (Vec<v1::Deployment>, Vec<v1::Flag>) {
    let snapshot = world.snapshot();
    (snapshot.deployments, snapshot.flags)
}

proptest! {
    /// `World::snapshot` converts each snapshot into the domain's type, and fails where it cannot.
    #[test]
    fn every_snapshot_converts_and_lists_each_deployment_once(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        run(&mut world, &steps);
        let ids: Vec<_> = world.snapshot().deployments.into_iter().map(|one| one.id).collect();
        prop_assert!(ids.is_sorted_by(|one, two| one < two), "{ids:?}");
    }

    #[test]
    fn an_event_told_twice_changes_routing_once(
        steps in prop::collection::vec(step(), 0..40),
        last in step(),
    ) {
        let mut world = World::new();
        run(&mut world, &steps);
        if let Some(last) = event(&last) {
            world.apply(last.clone());
            let before = routing(&world);
            let again = world.apply(last);
            prop_assert!(!again.routing && again.turned.is_empty() && again.forget.is_empty(), "{again:?}");
            prop_assert_eq!(before, routing(&world));
        }
    }

    #[test]
    fn when_all_have_been_silent_long_enough_nothing_is_up(steps in prop::collection::vec(step(), 0..40)) {
        let mut world = World::new();
        run(&mut world, &steps);
        // one gap's grace may still be open
        world.pass(ms(4_000), &[]);
        for deployment in world.snapshot().deployments {
            prop_assert_eq!(deployment.state(), v1::DeploymentState::Down);
        }
    }

    #[test]
    fn what_changes_routing_is_announced_as_such(
        steps in prop::collection::vec(step(), 0..40),
        next in step(),
    ) {
        let mut world = World::new();
        run(&mut world, &steps);
        let Some(next) = event(&next) else { return Ok(()) };
        let before = routing(&world);
        let changes = world.apply(next);
        prop_assert!(changes.routing || before == routing(&world));
    }

    #[test]
    fn the_order_of_registrations_does_not_matter(
        states in prop::collection::vec(0..5_u8, 5),
        order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let steps = |order: &[usize]| -> Vec<Step> {
            order.iter().map(|index| Step::Register(*index, states[*index])).collect()
        };
        let (mut one, mut two) = (World::new(), World::new());
        run(&mut one, &steps(&[0, 1, 2, 3, 4]));
        run(&mut two, &steps(&order));
        prop_assert_eq!(routing(&one), routing(&two));
    }
}
