//! `hybridctl explain`: the decision of a request that was made, asked of observability-hub.

use std::process::ExitCode;

use crate::output::Output;
use crate::plan::lines;
use crate::target::{System, Target};
use crate::usage::Hub;
use crate::view::DecisionView;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The request: header x-request-id of its answer
    request_id: String,
    /// For programs: the decision as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let hub = Hub::new(system)?;
    let path = ["api", "usage", "requests", &options.request_id, "decision"];
    let decision: DecisionView = hub.get(&path, &[]).await?;
    if options.json {
        output.json(&decision)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&decision) {
        output.line(&line);
    }
    for (count, what) in [
        (decision.candidates_omitted, "candidates"),
        (decision.rejected_omitted, "others that were passed over"),
    ] {
        if count > 0 {
            output.line(&format!("and {count} more {what}, which the ledger does not keep"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
