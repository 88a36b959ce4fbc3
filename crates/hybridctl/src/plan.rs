//! `hybridctl plan`: where a request would run, without running it.

use std::process::ExitCode;

use domain::fault::Fault;
use wire::subject::{self, service};
use wire::v1::{self, plan_reply, plan_request};

use crate::output::Output;
use crate::question::Question;
use crate::table::Table;
use crate::target::{System, Target};
use crate::view::{DecisionView, money};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    question: Question,
    /// For programs: the decision as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let generate = options.question.request()?;
    let connection = system.connect().await?;
    let request = v1::PlanRequest { method: Some(plan_request::Method::Generate(generate)) };
    let reply = connection.call(&subject::Plan, &request, service::MODEL_MANAGER_SUITE).await?;
    connection.close().await;
    let decision = match reply.result {
        Some(plan_reply::Result::Decision(decision)) => DecisionView::from(decision),
        Some(plan_reply::Result::Error(error)) => return Err(Fault::from(error).into()),
        None => anyhow::bail!("the plan is empty: model-manager-suite speaks another version"),
    };
    if options.json {
        output.json(&decision)?;
    } else {
        for line in lines(&decision) {
            output.line(&line);
        }
    }
    // A script asks whether the request could be served.
    Ok(if decision.candidates.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A decision for people: what applied, what would be tried in which order, what not and why.
pub(crate) fn lines(decision: &DecisionView) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} tokens in, at most {} out; snapshot {}",
        decision.workload_class,
        decision.input_tokens,
        decision.output_tokens_max,
        decision.snapshot_revision
    )];
    lines.extend(decision.reasons.iter().map(|reason| format!("- {}", crate::table::printable(reason))));
    if decision.candidates.is_empty() {
        lines.push("nothing that is allowed can serve it".to_owned());
    } else {
        let mut table =
            Table::new(["#>", "deployment", "tier", "takes about>", "costs about>", "at most>", "why"]);
        for (index, candidate) in decision.candidates.iter().enumerate() {
            table.row([
                (index + 1).to_string(),
                candidate.deployment.clone(),
                candidate.tier.clone(),
                candidate.estimated_latency_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
                money(candidate.expected_cost_picodollars),
                money(candidate.estimated_cost_picodollars),
                candidate.reason.clone(),
            ]);
        }
        lines.extend(table.lines());
    }
    if !decision.rejected.is_empty() {
        let mut table = Table::new(["not", "reason", "detail"]);
        for rejection in &decision.rejected {
            table.row([rejection.deployment.clone(), rejection.reason.clone(), rejection.detail.clone()]);
        }
        lines.push(String::new());
        lines.extend(table.lines());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_lists_candidates_in_order_and_why_the_others_are_none() {
        let wire = v1::Decision {
            workload_class: v1::WorkloadClass::Heavy.into(),
            input_tokens: 5_000,
            output_tokens_max: 512,
            reasons: vec!["5,512 tokens are more than 3,000 (R1)".to_owned()],
            candidates: vec![v1::Candidate {
                deployment: "mainpc/openai/gpt-4o".to_owned(),
                tier: v1::Tier::RemoteApi.into(),
                estimated_cost_picodollars: 17_500_000_000,
                expected_cost_picodollars: 15_000_000_000,
                estimated_latency_ms: 3_200,
                reason: "default model of the tier".to_owned(),
                ..v1::Candidate::default()
            }],
            rejected: vec![v1::Rejection {
                deployment: "mainpc/llama.cpp/demo".to_owned(),
                reason: v1::RejectReason::ContextTooSmall.into(),
                detail: "2048 < 5512".to_owned(),
            }],
            snapshot_revision: 7,
            ..v1::Decision::default()
        };
        let text = lines(&wire.into()).join("\n");
        assert_eq!(
            text,
            "heavy: 5000 tokens in, at most 512 out; snapshot 7\n\
             - 5,512 tokens are more than 3,000 (R1)\n\
             #  deployment            tier        takes about  costs about  at most  why\n\
             1  mainpc/openai/gpt-4o  remote-api      3200 ms       $0.015  $0.0175  default model of the tier\n\
             \n\
             not                    reason             detail\n\
             mainpc/llama.cpp/demo  context-too-small  2048 < 5512"
        );
    }

    #[test]
    fn a_plan_without_candidates_says_so() {
        let text = lines(&v1::Decision::default().into()).join("\n");
        assert!(text.contains("nothing that is allowed"), "{text}");
    }
}
