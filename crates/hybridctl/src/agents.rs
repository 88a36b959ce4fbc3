//! `hybridctl agents`: the owner's matrix as it is in force.

use std::process::ExitCode;

use crate::output::Output;
use crate::table::Table;
use crate::target::System;
use crate::view::AgentView;

pub(crate) async fn run(json: bool, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let agents: Vec<AgentView> =
        connection.snapshot().await?.agents.into_iter().map(AgentView::from).collect();
    connection.close().await;
    if json {
        output.json(&agents)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&agents) {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(agents: &[AgentView]) -> Vec<String> {
    let mut table = Table::new(["agent", "class", "tiers in order", "model", "now", "note"]);
    for agent in agents {
        table.row([
            agent.name.clone(),
            agent.workload_class.clone(),
            agent.tiers.join(", "),
            agent.model.clone(),
            agent.replaced_by.clone(),
            agent.note.clone(),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use wire::v1;

    use super::*;

    #[test]
    fn an_agent_shows_its_tiers_in_order_and_who_answers_for_it() {
        let agents = [v1::AgentPlacement {
            name: "CodeGenerator".to_owned(),
            workload_class: v1::WorkloadClass::Heavy.into(),
            tiers: vec![v1::Tier::RemoteApi.into(), v1::Tier::LocalGpu.into()],
            replaced_by: "Coder".to_owned(),
            ..v1::AgentPlacement::default()
        }]
        .map(AgentView::from);
        let lines = lines(&agents);
        let row = lines.last().unwrap();
        assert!(
            row.contains("heavy") && row.contains("remote-api, local-gpu") && row.contains("Coder"),
            "{row}"
        );
    }
}
