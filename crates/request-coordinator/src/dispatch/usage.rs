//! The ledger's row of an attempt.

use domain::{fault::Fault, inference::Request, routing::Decision, units::Tokens};
use wire::v1;

use super::{
    Asked, Coordinator,
    attempt::{Progress, Try, millis},
};

/// English averages four bytes a token (see `domain::tokens`).
const BYTES_PER_TOKEN: usize = 4;

/// What all rows of a request have in common.
fn row(coordinator: &Coordinator, asked: &Asked) -> v1::UsageEvent {
    let envelope = asked.request.envelope();
    let method = match asked.request {
        Request::Generate(_) => v1::Method::Generate,
        Request::Embed(_) => v1::Method::Embed,
        Request::Translate(_) => v1::Method::Translate,
        Request::Transcribe(_) => v1::Method::Transcribe,
        Request::Speak(_) => v1::Method::Speak,
    };
    v1::UsageEvent {
        request_id: envelope.id.to_string(),
        finished_unix_ms: coordinator.clock.now_unix_ms(),
        machine: coordinator.bus.machine().to_string(),
        service: coordinator.bus.service().to_owned(),
        method: method.into(),
        agent: envelope.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        task: envelope.profile.task.as_ref().map(ToString::to_string).unwrap_or_default(),
        tenant: asked.visitor.tenant(),
        requested_model: envelope.model.as_ref().map(ToString::to_string).unwrap_or_default(),
        streamed: asked.request.streams(),
        duration_ms: millis(asked.at.elapsed()),
        ..v1::UsageEvent::default()
    }
}

fn placed(coordinator: &Coordinator, step: &Try<'_>, progress: &Progress) -> v1::UsageEvent {
    let deployment = &step.candidate.deployment;
    v1::UsageEvent {
        attempt: step.number,
        deployment: deployment.id.to_string(),
        provider: deployment.provider.clone(),
        model: deployment.model.to_string(),
        tier: v1::Tier::from(deployment.tier).into(),
        executed_on: deployment.machine.to_string(),
        workload_class: v1::WorkloadClass::from(step.decision.class).into(),
        decision: step.decision.reasons.join("; "),
        reservation_id: progress.reserved.id.clone(),
        // once is enough: the attempts of a request have one decision
        plan: (step.number == 1).then(|| plan(step.asked, step.decision)),
        ..row(coordinator, step.asked)
    }
}

/// The decision, as the ledger keeps it.
pub(super) fn plan(asked: &Asked, decision: &Decision) -> v1::Decision {
    let envelope = asked.request.envelope();
    v1::Decision {
        agent: envelope.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        requested_model: envelope.model.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..wire::convert::kept(decision)
    }
}

/// A dry run: accounted for without an attempt, so that its decision can be looked at afterwards.
pub(super) fn dry_run(coordinator: &Coordinator, asked: &Asked, decision: &Decision) -> v1::UsageEvent {
    v1::UsageEvent {
        outcome: v1::Outcome::Ok.into(),
        workload_class: v1::WorkloadClass::from(decision.class).into(),
        decision: format!("dry run; {}", decision.reasons.join("; ")),
        plan: Some(plan(asked, decision)),
        ..row(coordinator, asked)
    }
}

/// A request that nothing may serve: it has no attempt, and is accounted for all the same.
pub(super) fn undecided(coordinator: &Coordinator, asked: &Asked, fault: &Fault) -> v1::UsageEvent {
    v1::UsageEvent {
        outcome: v1::Outcome::Failed.into(),
        error_code: v1::ErrorCode::from(fault.code).into(),
        decision: fault.message.clone(),
        ..row(coordinator, asked)
    }
}

/// An attempt that ended by itself.
pub(super) fn ended(
    coordinator: &Coordinator,
    step: &Try<'_>,
    progress: &Progress,
    end: &v1::End,
) -> v1::UsageEvent {
    let outcome = if end.finish_reason() == v1::FinishReason::Cancelled {
        v1::Outcome::Cancelled
    } else {
        v1::Outcome::Ok
    };
    v1::UsageEvent {
        outcome: outcome.into(),
        usage: end.usage,
        cost_picodollars: end.cost_picodollars,
        time_to_first_token_ms: end.time_to_first_token_ms,
        provider_request_id: end.provider_request_id.clone(),
        energy_millijoules: end.energy_millijoules,
        energy_estimated: end.energy_estimated,
        ..placed(coordinator, step, progress)
    }
}

/// An attempt that failed or was cancelled. Where the executor did not say what it used, what the caller got is counted here, and
/// marked as estimated.
pub(super) fn failed(
    coordinator: &Coordinator,
    step: &Try<'_>,
    progress: &Progress,
    fault: &Fault,
) -> v1::UsageEvent {
    let cancelled = fault.code == domain::fault::Code::Cancelled;
    let outcome = if cancelled { v1::Outcome::Cancelled } else { v1::Outcome::Failed };
    let (usage, cost) = match &fault.spent {
        Some(spent) => (Some(spent.usage.into()), spent.cost.as_picodollars()),
        None if progress.has_begun() => {
            let request = &step.asked.request;
            let output = Tokens::new(progress.bytes.div_ceil(BYTES_PER_TOKEN) as u64);
            let usage = request.estimate(output, request.characters());
            let price = step.candidate.deployment.price;
            (Some(usage.into()), price.map_or(0, |price| price.cost(&usage).as_picodollars()))
        }
        // nothing came: as far as is known nothing was used
        None => (None, 0),
    };
    v1::UsageEvent {
        outcome: outcome.into(),
        error_code: v1::ErrorCode::from(fault.code).into(),
        usage,
        cost_picodollars: cost,
        time_to_first_token_ms: progress.first_token.map_or(0, millis),
        energy_millijoules: progress.energy.0,
        energy_estimated: progress.energy.1,
        ..placed(coordinator, step, progress)
    }
}
