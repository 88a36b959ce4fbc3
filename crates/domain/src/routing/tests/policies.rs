//! How modes, rules, weights and the score combine; the owner's own rules are tested on the shipped files.

use super::*;
use crate::id::TaskName;

/// A rule for task `code`.
fn rule(name: &str) -> Rule {
    let when = When { tasks: vec![TaskName::new("code").unwrap()], ..When::default() };
    Rule { name: name.to_owned(), when, ..Rule::default() }
}

fn code(input: u64) -> Ask {
    let mut ask = Ask::tokens(input);
    ask.profile.task = Some(TaskName::new("code").unwrap());
    ask
}

fn with(rules: Vec<Rule>) -> Snapshot {
    let mut world = usual();
    world.policy.rules = rules;
    world
}

#[test]
fn the_first_rule_that_holds_is_used_and_its_route_goes_before_the_tiers() {
    let other =
        Rule { when: When { context_over: Some(Tokens::new(50)), ..rule("other").when }, ..rule("long") };
    let to = |name: &str, model_name: &str| Rule { route: vec![model(model_name)], ..rule(name) };
    let world =
        with(vec![Rule { route: vec![model("gpt-4o")], ..other }, to("code", "gpt-4"), to("never", "demo")]);
    assert_eq!(code(10).order(&world)[0], "mainpc/openai/gpt-4");
    assert_eq!(code(100).order(&world)[0], "mainpc/openai/gpt-4o");
    assert_eq!(Ask::tokens(10).order(&world)[0], "mainpc/llama.cpp/demo");
}

#[test]
fn an_agents_tiers_go_before_a_rules_route() {
    let world = with(vec![Rule { route: vec![model("gpt-4o")], ..rule("code") }]);
    let order = code(10).agent("Responder").order(&world);
    assert_eq!(order, ["mainpc/llama.cpp/demo", "pc2/llama.cpp/demo"]);
    // the agent's own model goes first, and the rest of its tier follows the rule
    let order = code(10).agent("CodeGenerator").order(&world);
    assert_eq!(&order[..2], ["mainpc/openai/gpt-4", "mainpc/openai/gpt-4o"]);
}

#[test]
fn a_named_model_goes_before_every_rule() {
    let world = with(vec![Rule { route: vec![model("gpt-4o")], ..rule("code") }]);
    assert_eq!(code(10).model("gpt-4").order(&world), ["mainpc/openai/gpt-4"]);
}

#[test]
fn targets_of_one_place_share_the_load_by_weight() {
    let mut world = usual();
    let alias = world.aliases.get_mut("cloud/best").unwrap();
    for (target, weight) in alias.targets.iter_mut().zip([3, 1]) {
        (target.order, target.weight) = (0, weight);
    }
    let ask = Ask::tokens(10).model("cloud/best");
    let first = |number: u32, live: &Live| {
        let decision = ask.decide_as(&format!("request-{number}"), &world, live).unwrap();
        decision.candidates[0].deployment.model.to_string()
    };
    let idle = Live::default();
    let heavier = (0..2_000).filter(|number| first(*number, &idle) == "gpt-4o").count();
    assert!((1_400..1_600).contains(&heavier), "{heavier} of 2000, expected about 1500");
    // least outstanding work first: one request weighs on a weight of 3 less than on a weight of 1
    let busy = |name: &str, count| Live {
        outstanding: HashMap::from([(DeploymentId::new(format!("mainpc/openai/{name}")).unwrap(), count)]),
        ..Live::default()
    };
    assert!((0..50).all(|number| first(number, &busy("gpt-4o", 1)) == "gpt-4"));
    assert!((0..50).all(|number| first(number, &busy("gpt-4", 1)) == "gpt-4o"));
}

#[test]
fn a_measured_deployment_is_judged_by_what_was_seen() {
    let mut world = usual();
    world.deployments.push(Arc::new(deployment("mainpc/llama.cpp/quick", "demo", Tier::LocalCpu, 4_096)));
    let quick = DeploymentId::new("mainpc/llama.cpp/quick").unwrap();
    let speeds = HashMap::from([(quick, Speed { start_ms: 5, token_us: 1_000 })]);
    let live = Live { speeds: Arc::new(speeds), ..Live::default() };
    let decision = Ask::tokens(10).decide(&world, &live).unwrap();
    let first = &decision.candidates[0];
    assert_eq!(first.deployment.id.as_str(), "mainpc/llama.cpp/quick");
    assert_eq!((first.estimate.latency.start_ms, first.estimate.latency.tokens_ms), (5, 512));
}

#[test]
fn a_cold_model_pays_for_its_load_and_for_what_has_to_go() {
    let mut world = usual();
    let mut cold = deployment("mainpc/llama.cpp/big", "big", Tier::LocalGpu, 4_096);
    (cold.state, cold.vram) = (DeploymentState::Cold, Bytes::new(20_000_000_000));
    world.deployments.push(Arc::new(cold));
    let free = Some(Bytes::new(15_000_000_000));
    let node = NodeLoad { gpu_utilization_percent: 0, gpu_memory_free: free };
    world.nodes.insert(world.machine.clone(), node);
    let decision = Ask::tokens(10).model("big").decide(&world, &Live::default()).unwrap();
    let latency = decision.candidates[0].estimate.latency;
    assert_eq!((latency.load_ms, latency.eviction_ms), (20_100, 5_100));
}

#[test]
fn a_nearly_spent_budget_makes_money_count_more() {
    let mut world = regions();
    let score = |world: &Snapshot| {
        let ask = Ask::tokens(10_000).model("claude");
        ask.decide(world, &Live::default()).unwrap().candidates[0].estimate.score
    };
    let before = score(&world);
    let cents = |count: i64| Money::picodollars(count * Money::PICODOLLARS_PER_DOLLAR / 100);
    let scope = crate::budget::Scope::Provider("openai".to_owned());
    let budget =
        BudgetLeft { name: "b".to_owned(), scope, allowed: cents(1_000), left: cents(100), degrades: true };
    world.budgets = vec![budget];
    assert!(score(&world) > before);
}

#[test]
fn dry_run_is_off_unless_the_request_or_the_flag_says_so() {
    let mut world = usual();
    let dry = |ask: &Ask, world: &Snapshot| ask.decide(world, &Live::default()).unwrap().dry_run;
    let mut ask = Ask::tokens(10);
    assert!(!dry(&ask, &world));
    let name = FlagName::new("dry-run").unwrap();
    world.flags.insert(name.clone(), Flag { name, enabled: true, rollout_percent: 100 });
    assert!(dry(&ask, &world));
    world.flags.clear();
    ask.profile.dry_run = true;
    assert!(dry(&ask, &world));
}
