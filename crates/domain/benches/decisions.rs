//! What a decision costs: placing a request among 200 deployments, and weighing a prompt of 5,000 tokens.
//!
//! `cargo bench -p domain`; the goals are 20 µs and 300 µs.
#![expect(missing_docs, reason = "the macro of the harness makes a public function")]

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use domain::{
    classification::{Thresholds, WorkloadClass, classify},
    id::{AgentName, DeploymentId, ModelName, NodeId, RequestId, TaskName},
    inference::{Envelope, Generate, Message, Part, PartContent, Request, Role, Sampling, TaskProfile},
    pricing::Price,
    routing::{
        AgentPlacement, Alias, Capabilities, Deployment, DeploymentState, Facts, Live, Policy, Rule,
        Snapshot, Speed, Target, Tier, When, decide,
    },
    units::{Bytes, Money, Tokens},
};

const DEPLOYMENTS: u64 = 200;
const RULES: usize = 36;
/// English averages four bytes a token.
const PROMPT_BYTES: usize = 20_000;

#[expect(clippy::expect_used, reason = "the names of a benchmark are valid")]
fn name<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.expect("a valid name")
}

fn deployment(number: u64) -> Deployment {
    let tier =
        Tier::ALL.into_iter().cycle().nth(usize::try_from(number).unwrap_or(0)).unwrap_or(Tier::RemoteApi);
    let price = Price {
        input: Money::picodollars(1_000_000 + i64::try_from(number).unwrap_or(0)),
        output: Money::picodollars(4_000_000),
        ..Price::FREE
    };
    Deployment {
        id: name(DeploymentId::new(format!("mainpc/provider-{}/model-{number}", number % 8))),
        // ten deployments of each model
        model: name(ModelName::new(format!("model-{}", number / 10))),
        provider: format!("provider-{}", number % 8),
        tier,
        machine: name(NodeId::new(if number.is_multiple_of(3) { "pc2" } else { "mainpc" })),
        executor: "any".to_owned(),
        capabilities: Capabilities { generate: true, tools: true, ..Capabilities::default() },
        context_length: Tokens::new(128_000),
        slots: 32,
        price: Some(price),
        state: if number.is_multiple_of(17) {
            DeploymentState::Down("away".to_owned())
        } else {
            DeploymentState::Warm
        },

        degraded: false,
        vram: Bytes::ZERO,
        embedding_dimensions: 0,
        load: std::time::Duration::ZERO,
    }
}

fn snapshot() -> Snapshot {
    let models = |numbers: std::ops::Range<u64>| -> Vec<ModelName> {
        numbers.map(|number| name(ModelName::new(format!("model-{number}")))).collect()
    };
    let alias = name(ModelName::new("cloud/frontier"));
    let agent = name(AgentName::new("CodeGenerator"));
    let row = AgentPlacement {
        name: agent.clone(),
        class: WorkloadClass::Heavy,
        tiers: Tier::order_for(WorkloadClass::Heavy).to_vec(),
        model: Some(alias.clone()),
        replaced_by: None,
        note: String::new(),
    };
    Snapshot {
        machine: name(NodeId::new("mainpc")),
        revision: 1,
        deployments: (0..DEPLOYMENTS).map(|number| Arc::new(deployment(number))).collect(),
        aliases: HashMap::from([(
            alias.clone(),
            Alias { name: alias.clone(), targets: Target::in_order(models(0..8)) },
        )]),
        agents: HashMap::from([(agent, row)]),
        thresholds: Thresholds::default(),
        flags: HashMap::new(),
        tier_defaults: Tier::ALL.into_iter().map(|tier| (tier, alias.clone())).collect(),
        has_budgets: false,
        budgets: Vec::new(),
        nodes: HashMap::new(),
        policy: Policy { rules: rules(), ..Policy::default() },
    }
}

/// As many rules as the shipped file has, the last of which holds.
fn rules() -> Vec<Rule> {
    (0..RULES)
        .map(|number| {
            let task = name(TaskName::new(format!("task-{number}")));
            let last = number + 1 == RULES;
            Rule {
                name: format!("rule {number}"),
                when: When { tasks: if last { Vec::new() } else { vec![task] }, ..When::default() },
                route: vec![name(ModelName::new("cloud/frontier"))],
                providers: vec!["provider-3".to_owned()],
                ..Rule::default()
            }
        })
        .collect()
}

/// As after a while at work: half of the deployments were seen, some are busy.
fn live() -> Live {
    let seen = |number: u64| deployment(number).id;
    let speed = Speed { start_ms: 300, token_us: 12_000 };
    Live {
        cooling: HashMap::new(),
        outstanding: (0..DEPLOYMENTS).step_by(5).map(|number| (seen(number), 3)).collect(),
        speeds: Arc::new((0..DEPLOYMENTS).step_by(2).map(|number| (seen(number), speed)).collect()),
        siblings: Arc::new(HashMap::from([(Tier::RemoteApi, HashMap::from([(deployment(0).model, speed)]))])),
    }
}

fn request(agent: Option<&str>) -> Request {
    let words = "The boats went out although the wind had turned, and nobody asked them why. ";
    let text: String = words.chars().cycle().take(PROMPT_BYTES).collect();
    Request::Generate(Generate {
        envelope: Envelope {
            id: name(RequestId::new("r1")),
            model: None,
            agent: agent.map(|agent| name(AgentName::new(agent))),
            profile: TaskProfile::default(),
            deadline: None,
            extra_json: String::new(),
        },
        messages: vec![Message {
            role: Role::User,
            content: vec![Part { content: PartContent::Text(text), extra_json: String::new() }],
            tool_calls: Vec::new(),
            tool_call_id: String::new(),
            name: String::new(),
            extra_json: String::new(),
        }],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream: true,
    })
}

fn decisions(criterion: &mut Criterion) {
    let (snapshot, live) = (snapshot(), live());
    for (what, agent) in [("without an agent", None), ("for an agent", Some("CodeGenerator"))] {
        let request = request(agent);
        let facts = Facts::of(&request);
        criterion.bench_function(&format!("decide among {DEPLOYMENTS} deployments, {what}"), |bencher| {
            bencher.iter(|| {
                decide(black_box(&facts), &snapshot, &live).map(|decision| decision.candidates.len())
            });
        });
    }
    let request = request(None);
    criterion.bench_function("count and classify a prompt of 5,000 tokens", |bencher| {
        bencher.iter(|| {
            let facts = Facts::of(black_box(&request));
            classify(facts.input, facts.max_output, facts.profile, &snapshot.thresholds)
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = decisions
}
criterion_main!(benches);
