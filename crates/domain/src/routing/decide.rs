//! The decision.

use std::sync::Arc;

use super::{
    AgentPlacement, Candidate, CloudUse, Decision, Facts, Live, Mode, Plane, RejectReason, Rejection, Rule,
    Snapshot, Tier,
    admit::{Bounds, budget_left, cloud_allowed},
    estimate::Estimator,
    order::{self, Order, gpu_occupied, step_aside},
    rules::{self, Seen},
    warming,
    wish::Wish,
};
use crate::{
    classification::{WorkloadClass, classify},
    fault::{Code, Fault, Origin},
    id::{AgentName, ModelName},
    inference::Level,
};

/// How many replacements of agents are followed before the matrix is called circular.
const MAX_REPLACEMENTS: usize = 4;
/// Rejections that an error names.
const NAMED_MAX: usize = 8;

/// Switches dry run on for the whole system.
const DRY_RUN_FLAG: &str = "dry-run";

/// What was found out of a request before any deployment is looked at.
struct Placement<'a> {
    agent: Option<&'a AgentPlacement>,
    model: Option<&'a ModelName>,
    class: WorkloadClass,
    mode: Option<&'a Mode>,
    rule: Option<&'a Rule>,
    tiers: Vec<Tier>,
    reasons: Vec<String>,
}

/// Decides where `facts` may run.
///
/// # Errors
/// `NotFound` for an unknown agent or model, `ContextLengthExceeded` when the prompt fits nowhere it may run,
/// `Unsupported` when nothing offers what is needed, `BudgetExceeded` when only what is spent could serve, `Unavailable` when
/// everything that could serve is down, cooling or switched off.
pub fn decide(facts: &Facts<'_>, snapshot: &Snapshot, live: &Live) -> Result<Decision, Fault> {
    let mut placement = place(facts, snapshot)?;
    let Placement { agent, model, mode, rule, .. } = placement;
    let wish = Wish::new(model, agent, rule, snapshot)?;
    let policy = &snapshot.policy;
    let free = agent.is_none() && model.is_none();
    let cloud = cloud_allowed(mode, facts, agent.and_then(|row| row.tiers.first().copied()))
        || unrouted(facts, model);
    let uses = mode.map_or(CloudUse::Balanced, |mode| mode.cloud);
    let bounds = Bounds { facts, snapshot, live, tiers: &placement.tiers, mode, rule, cloud };
    let order = Order {
        facts,
        tiers: &placement.tiers,
        rule,
        snapshot,
        live,
        by_agent: agent.is_some(),
        cloud_last: free && uses == CloudUse::FallbackCriticalOnly,
        score_first: free && uses == CloudUse::Aggressive,
    };
    let weights = mode.map_or(super::Weights { cost: 400, quality: 400, latency: 200 }, |mode| mode.weights);
    let estimator = Estimator::new(facts, snapshot.thresholds.expected_output, weights, policy.worth, live);
    let mut ranked = Vec::with_capacity(snapshot.deployments.len());
    let mut rejected = Vec::with_capacity(snapshot.deployments.len());
    for deployment in &snapshot.deployments {
        let outcome = wish.of(deployment).ok_or(RejectReason::ModelMismatch).and_then(|wanted| {
            let price = bounds.admit(deployment)?;
            let missing = policy.quality(&deployment.model, deployment.tier).steps_missing();
            let left = bounds.budget(deployment, estimator.expected_cost(price))?;
            let node = snapshot.nodes.get(&deployment.machine);
            let estimate = estimator.of(deployment, price, node, missing, left);
            Ok((
                Candidate { deployment: Arc::clone(deployment), estimate, preference: wanted.preference },
                wanted.weight,
            ))
        });
        match outcome {
            Ok((candidate, weight)) => {
                let rank = order.rank(&candidate, weight);
                ranked.push((candidate, rank));
            }
            Err(reason) => rejected.push(Rejection { deployment: Arc::clone(deployment), reason }),
        }
    }
    if ranked.is_empty() {
        return Err(nothing_left(facts, &rejected));
    }
    let mut candidates = order::sort(ranked);
    let wanted = candidates.first().map(|first| Arc::clone(&first.deployment));
    route_around(facts, snapshot, &mut candidates, &mut placement.reasons);
    placement.reasons.extend(warming::prefer_warm(&mut candidates));
    let to_load = warming::passed_over(wanted, &candidates);
    Ok(Decision {
        class: placement.class,
        complexity: facts.complexity(),
        mode: mode.map(|mode| mode.name.clone()).unwrap_or_default(),
        rule: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
        input: facts.input,
        max_output: estimator.most.output,
        reasons: placement.reasons,
        candidates,
        rejected,
        to_load,
        snapshot_revision: snapshot.revision,
        dry_run: facts.profile.dry_run || snapshot.flag_set_for(DRY_RUN_FLAG, facts.id),
    })
}

/// The model stands for one that the router, which is off, would have chosen.
fn unrouted(facts: &Facts<'_>, model: Option<&ModelName>) -> bool {
    facts.model.is_none() && model.is_some()
}

/// Agent, class, mode, rule and tiers.
fn place<'a>(facts: &Facts<'a>, snapshot: &'a Snapshot) -> Result<Placement<'a>, Fault> {
    let mut reasons = Vec::with_capacity(6);
    let policy = &snapshot.policy;
    let off = router_off(facts, snapshot);
    let agent = facts.agent.map(|name| resolve_agent(name, snapshot, &mut reasons)).transpose()?;
    let agent = agent.filter(|row| {
        let on = snapshot.flags.is_empty() || snapshot.flag_on(&format!("agent.{}", row.name), facts.id);
        if !on {
            reasons.push(format!("flag agent.{} is off: placed as a request without an agent", row.name));
        }
        on && off.is_none()
    });
    let class = if let Some(row) = agent {
        reasons.push(format!("agent {} is {} in the matrix (R2)", row.name, row.class.as_str()));
        row.class
    } else {
        let (class, why) = classify(facts.input, facts.max_output, facts.profile, &snapshot.thresholds);
        reasons.push(why);
        class
    };
    let complexity = facts.complexity();
    match facts.profile.complexity {
        Some(_) => reasons.push(format!("{} as the caller says (R12)", complexity.as_str())),
        None => reasons.push(format!("{}: {} (R12)", complexity.as_str(), facts.signals)),
    }
    let asked = facts.profile.mode.as_deref();
    if let Some(name) = asked.filter(|name| policy.mode(name).is_none()) {
        let names: Vec<&str> = policy.modes.iter().map(|mode| mode.name.as_str()).collect();
        let message = format!("profile.mode is {name:?}, expected one of {}", names.join(", "));
        return Err(Fault::invalid("profile.mode", message));
    }
    let mode = policy.mode_for(facts.id, asked);
    if let Some(mode) = mode {
        reasons.push(format!("mode {} (R6)", mode.name));
    }
    if let Some(flag) = off {
        reasons.push(format!("flag {flag} is off: neither matrix nor rules are used (R11)"));
        let model = facts.model.or(policy.unrouted.as_ref());
        let tiers = named_order(class).to_vec();
        return Ok(Placement { agent: None, model, class, mode, rule: None, tiers, reasons });
    }
    if let Some(model) = facts.model {
        reasons.push(format!("model {model} was asked for"));
    }
    let seen = Seen {
        mode: mode.map_or("", |mode| mode.name.as_str()),
        class,
        complexity,
        budget_left: budget_left(snapshot, facts.agent),
        parameters_millions: Wish::parameters_millions(facts, snapshot),
    };
    let rule = rules::first(policy, facts, seen);
    if let Some(rule) = rule {
        reasons.push(format!("rule {}", rule.name));
    }
    let tiers = tiers(facts, agent, class, rule);
    Ok(Placement { agent, model: facts.model, class, mode, rule, tiers, reasons })
}

/// The flag that takes the router out of this request's way (S3: `USE_MODEL_ROUTER`, `USE_ROUTER_FOR_QA`).
fn router_off(facts: &Facts<'_>, snapshot: &Snapshot) -> Option<String> {
    if snapshot.flags.is_empty() {
        return None;
    }
    let task = facts.profile.task.as_ref().map(|task| format!("task.{task}"));
    let flags = [Some("router".to_owned()), task];
    flags.into_iter().flatten().find(|flag| !snapshot.flag_on(flag, facts.id))
}

fn resolve_agent<'a>(
    name: &AgentName,
    snapshot: &'a Snapshot,
    reasons: &mut Vec<String>,
) -> Result<&'a AgentPlacement, Fault> {
    let mut name = name;
    for _ in 0..=MAX_REPLACEMENTS {
        let Some(row) = snapshot.agents.get(name) else {
            let message = format!(
                "agent {name:?} is not in the matrix, expected one that `hybridctl agents` lists",
                name = name.as_str()
            );
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("agent"));
        };
        let Some(next) = &row.replaced_by else { return Ok(row) };
        reasons.push(format!("agent {name} was replaced by {next}"));
        name = next;
    }
    Err(Fault::internal(format!("the replacements of agent {name} go in a circle")))
}

/// Where a model that is named is looked for: at home, on the LAN, in the cloud (S4's decision tree).
const fn named_order(class: WorkloadClass) -> &'static [Tier] {
    match class {
        WorkloadClass::ComputeHeavyLocal => Tier::order_for(class),
        WorkloadClass::Light | WorkloadClass::Heavy => {
            &[Tier::LocalGpu, Tier::LocalCpu, Tier::Fallback, Tier::Edge, Tier::RemoteApi]
        }
    }
}

/// An agent's tiers are all it has; otherwise the rule's go before those of the class.
fn tiers(
    facts: &Facts<'_>,
    agent: Option<&AgentPlacement>,
    class: WorkloadClass,
    rule: Option<&Rule>,
) -> Vec<Tier> {
    if let Some(row) = agent {
        return row.tiers.clone();
    }
    let of_class = if facts.model.is_some() { named_order(class) } else { Tier::order_for(class) };
    let first = rule.map_or(&[][..], |rule| &rule.tiers);
    let allowed = first.iter().filter(|tier| of_class.contains(tier));
    allowed.chain(of_class.iter().filter(|tier| !first.contains(tier))).copied().collect()
}

/// Where waiting would be no use, what need not wait goes first: the cloud before a busy GPU (S2), what begins at once before
/// what does not for a caller who wants the answer soon (S4: "can local handle the latency requirement?").
fn route_around(
    facts: &Facts<'_>,
    snapshot: &Snapshot,
    candidates: &mut [Candidate],
    reasons: &mut Vec<String>,
) {
    if let Some(why) = candidates.first().and_then(|first| gpu_occupied(first, snapshot))
        && step_aside(candidates, |_| true, |candidate| candidate.deployment.tier.plane() == Plane::Cloud)
    {
        reasons.push(why);
    }
    if facts.profile.latency_sensitivity == Some(Level::High) {
        let soon_ms = snapshot.policy.soon_ms;
        // a provider's usual second is what S0 calls sub-second and S4 the way out: loads and queues are what is avoided
        let waits = |candidate: &Candidate| {
            let latency = &candidate.estimate.latency;
            latency.queue_ms.saturating_add(latency.load_ms) > soon_ms
        };
        if step_aside(candidates, waits, |candidate| !waits(candidate)) {
            reasons.push(format!(
                "wanted soon: what would wait more than {soon_ms} ms for a slot or a load steps aside"
            ));
        }
    }
}

fn nothing_left(facts: &Facts<'_>, rejected: &[Rejection]) -> Fault {
    // the reason that came nearest to serving tells the caller most
    let context = rejected.iter().filter_map(|rejection| match rejection.reason {
        RejectReason::ContextTooSmall { context, .. } => Some(context),
        _ => None,
    });
    let may_recover = rejected.iter().any(|rejection| {
        matches!(rejection.reason, RejectReason::Down(_) | RejectReason::Cooldown(_) | RejectReason::Flag(_))
    });
    let spent = rejected.iter().any(|rejection| matches!(rejection.reason, RejectReason::Budget(_)));
    if let (Some(context), false) = (context.max(), may_recover || spent) {
        let message = format!(
            "the prompt has about {} tokens, the largest context allowed here holds {context}",
            facts.input
        );
        return Fault::new(Code::ContextLengthExceeded, Origin::Caller, false, message).in_field("messages");
    }
    let mut why: Vec<String> = rejected
        .iter()
        .filter(|rejection| rejection.reason != RejectReason::ModelMismatch)
        .take(NAMED_MAX)
        .map(|rejection| format!("{}: {}", rejection.deployment.id, rejection.reason))
        .collect();
    if why.is_empty() {
        why.push("no executor has registered a deployment".to_owned());
    }
    let unable =
        |reason: &RejectReason| matches!(reason, RejectReason::ModelMismatch | RejectReason::Capability(_));
    let lacks = rejected.iter().any(|rejection| matches!(rejection.reason, RejectReason::Capability(_)));
    let (code, retryable) = if lacks && rejected.iter().all(|rejection| unable(&rejection.reason)) {
        (Code::Unsupported, false)
    } else if spent && !may_recover {
        (Code::BudgetExceeded, false)
    } else {
        (Code::Unavailable, may_recover || rejected.is_empty())
    };
    Fault::new(code, Origin::Policy, retryable, format!("nothing may serve this request: {}", why.join("; ")))
}
