use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    classification::{Thresholds, WorkloadClass},
    complexity::Signals,
    fault::Code,
    id::{AgentName, DeploymentId, FlagName, ModelName, NodeId, RequestId},
    inference::{Needs, Privacy, TaskProfile},
    pricing::Price,
    units::{Bytes, Money, Tokens},
};

fn model(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

fn deployment(id: &str, name: &str, tier: Tier, context: u64) -> Deployment {
    let local = tier.plane() == Plane::Local;
    Deployment {
        id: DeploymentId::new(id).unwrap(),
        model: model(name),
        provider: if local { "llama.cpp" } else { "openai" }.to_owned(),
        tier,
        machine: NodeId::new(if tier == Tier::Fallback { "pc2" } else { "mainpc" }).unwrap(),
        executor: "any".to_owned(),
        capabilities: Capabilities { generate: true, ..Capabilities::default() },
        context_length: Tokens::new(context),
        slots: 4,
        price: Some(if local {
            Price::FREE
        } else {
            Price {
                input: Money::picodollars(2_500_000),
                output: Money::picodollars(10_000_000),
                ..Price::FREE
            }
        }),
        state: DeploymentState::Warm,
        degraded: false,
        vram: Bytes::ZERO,
        embedding_dimensions: 0,
        load: std::time::Duration::ZERO,
    }
}

fn agent(
    name: &str,
    class: WorkloadClass,
    tiers: &[Tier],
    own: Option<&str>,
    replaced: Option<&str>,
) -> AgentPlacement {
    AgentPlacement {
        name: AgentName::new(name).unwrap(),
        class,
        tiers: tiers.to_vec(),
        model: own.map(model),
        replaced_by: replaced.map(|name| AgentName::new(name).unwrap()),
        note: String::new(),
    }
}

fn snapshot(deployments: Vec<Deployment>) -> Snapshot {
    let agents = [
        agent(
            "CodeGenerator",
            WorkloadClass::Heavy,
            &[Tier::RemoteApi, Tier::LocalGpu, Tier::LocalCpu, Tier::Fallback],
            Some("gpt-4"),
            None,
        ),
        agent("Responder", WorkloadClass::Light, &[Tier::LocalCpu, Tier::Fallback], None, None),
        agent("DreamWorldAgent", WorkloadClass::Heavy, &[Tier::RemoteApi], None, Some("CodeGenerator")),
        agent("Ouroboros", WorkloadClass::Heavy, &[Tier::RemoteApi], None, Some("Ouroboros")),
    ];
    Snapshot {
        machine: NodeId::new("mainpc").unwrap(),
        revision: 7,
        deployments: deployments.into_iter().map(Arc::new).collect(),
        aliases: HashMap::from([(
            model("cloud/best"),
            Alias { name: model("cloud/best"), targets: Target::in_order([model("gpt-4o"), model("gpt-4")]) },
        )]),
        agents: agents.into_iter().map(|row| (row.name.clone(), row)).collect(),
        thresholds: Thresholds::default(),
        flags: HashMap::new(),
        tier_defaults: HashMap::new(),
        has_budgets: false,
        budgets: Vec::new(),
        nodes: HashMap::new(),
        policy: Policy::default(),
    }
}

fn usual() -> Snapshot {
    snapshot(vec![
        deployment("mainpc/openai/gpt-4", "gpt-4", Tier::RemoteApi, 128_000),
        deployment("mainpc/openai/gpt-4o", "gpt-4o", Tier::RemoteApi, 128_000),
        deployment("mainpc/llama.cpp/demo", "demo", Tier::LocalCpu, 4_096),
        deployment("pc2/llama.cpp/demo", "demo", Tier::Fallback, 4_096),
    ])
}

#[derive(Debug)]
struct Ask {
    input: u64,
    model: Option<ModelName>,
    agent: Option<AgentName>,
    profile: TaskProfile,
    needs: Needs,
}

impl Ask {
    fn tokens(input: u64) -> Self {
        Self { input, model: None, agent: None, profile: TaskProfile::default(), needs: Needs::GENERATE }
    }

    fn agent(mut self, name: &str) -> Self {
        self.agent = Some(AgentName::new(name).unwrap());
        self
    }

    fn model(mut self, name: &str) -> Self {
        self.model = Some(model(name));
        self
    }

    fn decide(&self, snapshot: &Snapshot, live: &Live) -> Result<Decision, crate::fault::Fault> {
        self.decide_as("r1", snapshot, live)
    }

    fn decide_as(&self, id: &str, snapshot: &Snapshot, live: &Live) -> Result<Decision, crate::fault::Fault> {
        let id = RequestId::new(id).unwrap();
        let facts = Facts {
            id: &id,
            needs: self.needs,
            input: Tokens::new(self.input),
            max_output: None,
            audio: std::time::Duration::ZERO,
            characters: 0,
            model: self.model.as_ref(),
            agent: self.agent.as_ref(),
            profile: &self.profile,
            signals: Signals::default(),
            tool_turns: 0,
        };
        decide(&facts, snapshot, live)
    }

    fn order(&self, snapshot: &Snapshot) -> Vec<String> {
        let decision = self.decide(snapshot, &Live::default()).unwrap();
        decision.candidates.iter().map(|candidate| candidate.deployment.id.to_string()).collect()
    }
}

#[test]
fn a_short_prompt_without_an_agent_stays_local_and_may_fall_back_to_the_cloud() {
    let order = Ask::tokens(20).order(&usual());
    assert_eq!(order.first().map(String::as_str), Some("mainpc/llama.cpp/demo"));
    assert_eq!(order.get(1).map(String::as_str), Some("pc2/llama.cpp/demo"));
    assert_eq!(order.len(), 4);
}

#[test]
fn five_thousand_tokens_under_code_generator_go_to_its_own_remote_model() {
    let decision = Ask::tokens(5_000).agent("CodeGenerator").decide(&usual(), &Live::default()).unwrap();
    let order: Vec<&str> =
        decision.candidates.iter().map(|candidate| candidate.deployment.id.as_str()).collect();
    assert_eq!(order, ["mainpc/openai/gpt-4", "mainpc/openai/gpt-4o"]);
    assert!(
        decision.reasons.iter().any(|reason| reason.contains("CodeGenerator is heavy")),
        "{:?}",
        decision.reasons
    );
    assert!(
        decision
            .rejected
            .iter()
            .all(|rejection| matches!(rejection.reason, RejectReason::ContextTooSmall { .. }))
    );
}

#[test]
fn a_removed_agent_is_placed_as_what_replaced_it() {
    let decision = Ask::tokens(10).agent("DreamWorldAgent").decide(&usual(), &Live::default()).unwrap();
    assert!(decision.reasons.iter().any(|reason| reason.contains("replaced by CodeGenerator")));
    assert_eq!(decision.candidates.first().unwrap().deployment.id.as_str(), "mainpc/openai/gpt-4");
}

#[test]
fn replacements_in_a_circle_are_an_error_not_a_loop() {
    assert_eq!(
        Ask::tokens(1).agent("Ouroboros").decide(&usual(), &Live::default()).unwrap_err().code,
        Code::Internal
    );
}

#[test]
fn unknown_agents_and_models_are_named_in_the_error() {
    let fault = Ask::tokens(1).agent("Nobody").decide(&usual(), &Live::default()).unwrap_err();
    assert_eq!((fault.code, fault.field.as_str()), (Code::NotFound, "agent"));
    let fault = Ask::tokens(1).model("gpt-99").decide(&usual(), &Live::default()).unwrap_err();
    assert_eq!((fault.code, fault.field.as_str()), (Code::NotFound, "model"));
    assert!(fault.message.contains("gpt-99"));
}

#[test]
fn an_alias_keeps_the_order_of_its_targets() {
    assert_eq!(
        Ask::tokens(10).model("cloud/best").order(&usual()),
        ["mainpc/openai/gpt-4o", "mainpc/openai/gpt-4"]
    );
}

#[test]
fn a_deployment_can_be_asked_for_by_its_id() {
    assert_eq!(Ask::tokens(10).model("pc2/llama.cpp/demo").order(&usual()), ["pc2/llama.cpp/demo"]);
}

#[test]
fn a_prompt_too_long_for_every_allowed_context_is_the_callers_error() {
    let fault = Ask::tokens(5_000).agent("Responder").decide(&usual(), &Live::default()).unwrap_err();
    assert_eq!(fault.code, Code::ContextLengthExceeded);
    assert!(fault.message.contains("5000") && fault.message.contains("4096"), "{}", fault.message);
}

#[test]
fn a_deployment_without_a_price_is_not_called() {
    let mut paid = deployment("mainpc/openai/new", "new", Tier::RemoteApi, 1_000);
    paid.price = None;
    let fault = Ask::tokens(1).model("new").decide(&snapshot(vec![paid]), &Live::default()).unwrap_err();
    assert!(fault.message.contains("no price"), "{}", fault.message);
}

#[test]
fn what_is_down_or_cooling_is_passed_over_and_may_be_asked_again() {
    let mut snapshot = usual();
    let mut local = (*snapshot.deployments[2]).clone();
    local.state = DeploymentState::Down("no heartbeat".to_owned());
    snapshot.deployments[2] = Arc::new(local);
    let cooling = DeploymentId::new("pc2/llama.cpp/demo").unwrap();
    let live = Live { cooling: HashMap::from([(cooling, "5 failures".to_owned())]), ..Live::default() };
    let fault = Ask::tokens(1).agent("Responder").decide(&snapshot, &live).unwrap_err();
    assert_eq!((fault.code, fault.retryable), (Code::Unavailable, true));
    assert!(
        fault.message.contains("no heartbeat") && fault.message.contains("5 failures"),
        "{}",
        fault.message
    );
}

#[test]
fn a_tier_flag_switches_the_tier_off_and_an_agent_flag_takes_its_placement_away() {
    let mut snapshot = usual();
    let off = |name: &str| Flag { name: FlagName::new(name).unwrap(), enabled: false, rollout_percent: 100 };
    snapshot.flags.insert(FlagName::new("tier.remote-api").unwrap(), off("tier.remote-api"));
    assert_eq!(Ask::tokens(10).agent("CodeGenerator").order(&snapshot)[0], "mainpc/llama.cpp/demo");
    snapshot.flags =
        HashMap::from([(FlagName::new("agent.CodeGenerator").unwrap(), off("agent.CodeGenerator"))]);
    assert_eq!(Ask::tokens(10).agent("CodeGenerator").order(&snapshot)[0], "mainpc/llama.cpp/demo");
}

#[test]
fn a_roll_out_reaches_about_its_share_of_requests() {
    let flag = Flag { name: FlagName::new("agent.A").unwrap(), enabled: true, rollout_percent: 30 };
    let on = (0..2_000).filter(|n| flag.on_for(&RequestId::new(format!("request-{n}")).unwrap())).count();
    assert!((500..700).contains(&on), "{on} of 2000");
}

#[test]
fn the_idler_of_two_equal_deployments_goes_first() {
    let mut snapshot = usual();
    snapshot.deployments.push(Arc::new(deployment("mainpc/llama.cpp/demo-b", "demo", Tier::LocalCpu, 4_096)));
    let live = Live {
        outstanding: HashMap::from([(DeploymentId::new("mainpc/llama.cpp/demo").unwrap(), 2)]),
        ..Live::default()
    };
    let decision = Ask::tokens(10).decide(&snapshot, &live).unwrap();
    assert_eq!(decision.candidates[0].deployment.id.as_str(), "mainpc/llama.cpp/demo-b");
}

/// One model in three regions: cheap input, cheap output, and dear.
#[test]
fn a_cold_model_is_served_where_it_is_warm_and_loaded_here_meanwhile() {
    let with = |state: DeploymentState| {
        let mut here = deployment("mainpc/llama.cpp/demo", "demo", Tier::LocalCpu, 4_096);
        here.state = state;
        let there = deployment("pc2/llama.cpp/demo", "demo", Tier::Fallback, 4_096);
        let cloud = deployment("mainpc/openai/gpt-4", "gpt-4", Tier::RemoteApi, 128_000);
        let decision = Ask::tokens(20).decide(&snapshot(vec![here, there, cloud]), &Live::default()).unwrap();
        let first = decision.candidates[0].deployment.id.to_string();
        (first, decision.to_load.iter().map(|deployment| deployment.id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(with(DeploymentState::Warm), ("mainpc/llama.cpp/demo".to_owned(), vec![]));
    let cold = with(DeploymentState::Cold);
    assert_eq!(cold, ("pc2/llama.cpp/demo".to_owned(), vec!["mainpc/llama.cpp/demo".to_owned()]));
    // nobody has to be asked for what is being loaded already
    assert_eq!(with(DeploymentState::Loading), ("pc2/llama.cpp/demo".to_owned(), vec![]));
}

#[test]
fn a_cold_model_is_not_replaced_by_another_one_or_by_the_cloud() {
    let mut here = deployment("mainpc/llama.cpp/demo", "demo", Tier::LocalCpu, 4_096);
    here.state = DeploymentState::Cold;
    let other = deployment("pc2/llama.cpp/other", "other", Tier::Fallback, 4_096);
    let cloud = deployment("mainpc/openai/demo", "demo", Tier::RemoteApi, 128_000);
    let decision = Ask::tokens(20).decide(&snapshot(vec![here, other, cloud]), &Live::default()).unwrap();
    assert_eq!(decision.candidates[0].deployment.id.as_str(), "mainpc/llama.cpp/demo");
    assert!(decision.to_load.is_empty());
}

fn regions() -> Snapshot {
    let region = |name: &str, input, output| {
        let mut made =
            deployment(&format!("mainpc/bedrock-{name}/claude"), "claude", Tier::RemoteApi, 200_000);
        let (input, output) = (Money::picodollars(input), Money::picodollars(output));
        made.price = Some(Price { input, output, ..Price::FREE });
        made
    };
    snapshot(vec![
        region("a-dear", 5_000_000, 20_000_000),
        region("b-output", 4_000_000, 10_000_000),
        region("c-input", 3_000_000, 15_000_000),
    ])
}

fn region_order(snapshot: &Snapshot, input: u64, max_output: u64, live: &Live) -> Vec<String> {
    let id = RequestId::new("r1").unwrap();
    let named = model("claude");
    let profile = TaskProfile::default();
    let facts = Facts {
        id: &id,
        needs: Needs::GENERATE,
        input: Tokens::new(input),
        max_output: Some(Tokens::new(max_output)),
        audio: std::time::Duration::ZERO,
        characters: 0,
        model: Some(&named),
        agent: None,
        profile: &profile,
        signals: Signals::default(),
        tool_turns: 0,
    };
    let decision = decide(&facts, snapshot, live).unwrap();
    let name = |candidate: &Candidate| candidate.deployment.id.as_str()["mainpc/bedrock-".len()..].to_owned();
    decision.candidates.iter().map(|candidate| name(candidate).replace("/claude", "")).collect()
}

#[test]
fn of_several_regions_the_one_that_is_cheapest_for_this_request_goes_first() {
    let idle = Live::default();
    assert_eq!(region_order(&regions(), 10_000, 100, &idle), ["c-input", "b-output", "a-dear"]);
    assert_eq!(region_order(&regions(), 100, 10_000, &idle), ["b-output", "c-input", "a-dear"]);
}

#[test]
fn a_region_is_left_for_a_dearer_one_only_when_it_is_full() {
    let busy = |count| Live {
        outstanding: HashMap::from([(DeploymentId::new("mainpc/bedrock-c-input/claude").unwrap(), count)]),
        ..Live::default()
    };
    assert_eq!(region_order(&regions(), 10_000, 100, &busy(3))[0], "c-input");
    assert_eq!(region_order(&regions(), 10_000, 100, &busy(4)), ["b-output", "a-dear", "c-input"]);
}

#[test]
fn of_regions_at_one_price_the_one_that_is_well_goes_first_then_the_idler() {
    let mut snapshot = regions();
    for deployment in &mut snapshot.deployments {
        let mut equal = (**deployment).clone();
        equal.price = Some(Price::FREE);
        equal.degraded = equal.id.as_str().contains("a-dear");
        *deployment = Arc::new(equal);
    }
    let live = Live {
        outstanding: HashMap::from([(DeploymentId::new("mainpc/bedrock-b-output/claude").unwrap(), 1)]),
        ..Live::default()
    };
    assert_eq!(region_order(&snapshot, 10, 10, &live), ["c-input", "b-output", "a-dear"]);
}

#[test]
fn a_cheaper_region_that_is_down_or_cooling_is_passed_over() {
    let mut snapshot = regions();
    let mut down = (*snapshot.deployments[2]).clone();
    down.state = DeploymentState::Down("circuit breaker is open".to_owned());
    snapshot.deployments[2] = Arc::new(down);
    let cooling = DeploymentId::new("mainpc/bedrock-b-output/claude").unwrap();
    let live = Live { cooling: HashMap::from([(cooling, "429".to_owned())]), ..Live::default() };
    assert_eq!(region_order(&snapshot, 10_000, 100, &live), ["a-dear"]);
}

fn any_deployment() -> impl Strategy<Value = Deployment> {
    (0usize..5, 0usize..4, 1u64..200_000, 0u8..4, any::<bool>(), 0u32..1_000).prop_map(
        |(tier, name, context, state, priced, number)| {
            let tier = Tier::ALL[tier];
            let name = ["demo", "gpt-4", "gpt-4o", "other"][name];
            let mut made = deployment(&format!("m/{}/{name}/{number}", tier.as_str()), name, tier, context);
            made.state = match state {
                0 => DeploymentState::Warm,
                1 => DeploymentState::Cold,
                2 => DeploymentState::Loading,
                _ => DeploymentState::Down("gone".to_owned()),
            };
            if !priced {
                made.price = None;
            }
            made
        },
    )
}

mod policies;
mod properties;
