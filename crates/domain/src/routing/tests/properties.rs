//! What holds of every decision, whatever the policy.

use super::*;
use crate::{
    budget::Scope,
    complexity::Complexity,
    id::TaskName,
    inference::{Level, MethodNeed},
};

fn any_rule() -> impl Strategy<Value = Rule> {
    let when = (
        prop::option::of(prop::sample::select(vec!["code", "qa"])),
        prop::option::of(prop::sample::select(Complexity::ALL.to_vec())),
        prop::option::of(0u64..20_000),
        any::<Option<bool>>(),
        any::<bool>(),
    );
    let outcome = (
        prop::collection::vec(prop::sample::select(vec!["demo", "gpt-4", "cloud/best", "nobody"]), 0..3),
        prop::collection::vec(prop::sample::select(Tier::ALL.to_vec()), 0..3),
        any::<bool>(),
    );
    (when, outcome).prop_map(
        |((task, complexity, context_over, budget_left, by_size), (route, tiers, stays_local))| Rule {
            name: "any".to_owned(),
            when: When {
                methods: vec![MethodNeed::Generate],
                tasks: task.map(|task| TaskName::new(task).unwrap()).into_iter().collect(),
                complexities: complexity.into_iter().collect(),
                context_over: context_over.map(Tokens::new),
                budget_left,
                parameters_over: by_size.then_some(0),
                ..When::default()
            },
            route: route.into_iter().map(model).collect(),
            tiers,
            providers: vec!["openai".to_owned()],
            skills: Vec::new(),
            stays_local,
        },
    )
}

/// A world with any rules, mode, load and budget.
fn any_world() -> impl Strategy<Value = Snapshot> {
    let policy = (prop::collection::vec(any_rule(), 0..4), prop::sample::select(Mode::of_the_owner()));
    let moment = (0u32..=100, prop::option::of(0i64..=20), any::<bool>());
    (prop::collection::vec(any_deployment(), 0..30), policy, moment).prop_map(
        |(deployments, (rules, mode), (busy, dollars_left, degrades))| {
            let mut world = snapshot(deployments);
            world.policy = Policy { rules, default_mode: mode.name, ..Policy::default() };
            let load = NodeLoad { gpu_utilization_percent: busy, gpu_memory_free: Some(Bytes::ZERO) };
            world.nodes = HashMap::from([(world.machine.clone(), load)]);
            world.budgets = dollars_left.map(|left| budget(left, degrades)).into_iter().collect();
            world
        },
    )
}

fn budget(cents_left: i64, degrades: bool) -> BudgetLeft {
    let cents = |count: i64| Money::picodollars(count * Money::PICODOLLARS_PER_DOLLAR / 100);
    BudgetLeft {
        name: "day".to_owned(),
        scope: Scope::All,
        allowed: cents(20),
        left: cents(cents_left),
        degrades,
    }
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let names = (
        prop::option::of(prop::sample::select(vec!["CodeGenerator", "Responder", "DreamWorldAgent"])),
        prop::option::of(prop::sample::select(vec!["demo", "gpt-4", "cloud/best"])),
        prop::option::of(prop::sample::select(vec!["local-only", "performance", "local-preferred"])),
    );
    let profile =
        (any::<bool>(), any::<bool>(), prop::sample::select(vec![None, Some(Level::Low), Some(Level::High)]));
    (0u64..20_000, names, profile).prop_map(|(input, (who, which, mode), (private, critical, latency))| {
        let mut ask = Ask::tokens(input);
        if let Some(who) = who {
            ask = ask.agent(who);
        }
        if let Some(which) = which {
            ask = ask.model(which);
        }
        ask.profile = TaskProfile {
            privacy: if private { Privacy::LocalOnly } else { Privacy::Public },
            criticality: critical.then_some(Level::High),
            latency_sensitivity: latency,
            mode: mode.map(str::to_owned),
            ..TaskProfile::default()
        };
        ask
    })
}

/// Time and quality of a candidate in the mode `balanced`, as the score weighs them, without its money.
fn without_money(candidate: &Candidate, policy: &Policy) -> i64 {
    let weights = policy.mode("balanced").unwrap().weights;
    let latency = &candidate.estimate.latency;
    let time = policy.worth.second.times(latency.whole_ms() + latency.eviction_ms).as_picodollars() / 1_000;
    let quality = policy.quality(&candidate.deployment.model, candidate.deployment.tier);
    let missing = policy.worth.quality_step.as_picodollars() * quality.steps_missing();
    time / 1_000 * i64::from(weights.latency) + missing / 1_000 * i64::from(weights.quality)
}

proptest! {
    #[test]
    fn the_same_inputs_have_the_same_outcome(world in any_world(), ask in any_ask()) {
        let first = ask.decide(&world, &Live::default());
        let second = ask.decide(&world, &Live::default());
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn a_decision_never_leaves_the_allowed_set_whatever_rules_and_mode_say(world in any_world(), ask in any_ask()) {
        let Ok(decision) = ask.decide(&world, &Live::default()) else { return Ok(()) };
        prop_assert_eq!(decision.candidates.len() + decision.rejected.len(), world.deployments.len());
        let responder = ask.agent.as_ref().is_some_and(|agent| agent.as_str() == "Responder");
        for candidate in &decision.candidates {
            let deployment = &candidate.deployment;
            prop_assert!(deployment.context_length.get() > ask.input);
            prop_assert!(deployment.price.is_some());
            prop_assert!(!matches!(deployment.state, DeploymentState::Down(_)));
            prop_assert!(!responder || matches!(deployment.tier, Tier::LocalCpu | Tier::Fallback));
            if let Some(named) = &ask.model {
                let targets = world.aliases.get(named).map(|alias| alias.targets.clone());
                let targets = targets.unwrap_or_else(|| Target::in_order([named.clone()]));
                prop_assert!(targets.iter().any(|target| target.model == deployment.model));
            }
        }
    }

    #[test]
    fn privacy_and_local_only_never_yield_a_cloud_candidate(world in any_world(), ask in any_ask()) {
        let private = ask.profile.privacy == Privacy::LocalOnly;
        let kept_home = world.policy.default_mode == "local-only" || ask.profile.mode.as_deref() == Some("local-only");
        let Ok(decision) = ask.decide(&world, &Live::default()) else { return Ok(()) };
        if private || kept_home {
            let cloud = decision.candidates.iter().filter(|one| one.deployment.tier.plane() == Plane::Cloud).count();
            prop_assert_eq!(cloud, 0);
        }
    }

    /// The owner's order (tier, then preference) first; where that is the same, time and quality.
    #[test]
    fn more_budget_never_makes_the_answer_worse(
        deployments in prop::collection::vec(any_deployment(), 1..30),
        ask in any_ask(),
        less in 0i64..=20,
        more in 0i64..=20,
        degrades in any::<bool>(),
    ) {
        let (less, more) = (less.min(more), less.max(more));
        // while a model is being swapped in the cloud goes first (S2), which is another order than that of the tiers
        let still = |mut one: Deployment| {
            if one.state == DeploymentState::Loading {
                one.state = DeploymentState::Warm;
            }
            one
        };
        let mut world = snapshot(deployments.into_iter().map(still).collect());
        let mut ask = ask;
        ask.profile = TaskProfile::default();
        let mut first = |left| {
            world.budgets = vec![budget(left, degrades)];
            let decision = ask.decide(&world, &Live::default()).ok()?;
            Some((decision.class, decision.candidates.into_iter().next()?))
        };
        let Some((class, poor)) = first(less) else { return Ok(()) };
        let rich = first(more);
        prop_assert!(rich.is_some(), "with more budget nothing may serve");
        let (_, rich) = rich.unwrap();
        let row = ask.agent.as_ref().and_then(|agent| world.agents.get(agent));
        let row = row.and_then(|row| row.replaced_by.as_ref().map_or(Some(row), |next| world.agents.get(next)));
        let named = [Tier::LocalGpu, Tier::LocalCpu, Tier::Fallback, Tier::Edge, Tier::RemoteApi];
        let tiers = match row {
            Some(row) => row.tiers.clone(),
            None if ask.model.is_some() => named.to_vec(),
            None => Tier::order_for(class).to_vec(),
        };
        let place = |candidate: &Candidate| {
            let asked_for = match candidate.preference {
                Preference::Named(place) => place,
                _ => 0,
            };
            let tier = tiers.iter().position(|tier| *tier == candidate.deployment.tier);
            (asked_for, tier, candidate.preference)
        };
        prop_assert!(place(&rich) <= place(&poor), "{rich} after {poor}");
        if place(&rich) == place(&poor) {
            // to a millionth of a cent: the score is rounded
            let (with_more, with_less) = (without_money(&rich, &world.policy), without_money(&poor, &world.policy));
            prop_assert!(with_more <= with_less + 10_000, "{rich} is worse than {poor}");
        }
    }
}
