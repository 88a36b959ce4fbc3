//! `hybridctl models`: what can be asked, from the routing snapshot.

use std::process::ExitCode;

use serde::Serialize;
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::System;
use crate::view::{self, DeploymentView};

#[derive(Debug, Serialize)]
struct ModelsView {
    deployments: Vec<DeploymentView>,
    aliases: Vec<AliasView>,
    tier_defaults: Vec<TierDefaultView>,
}

#[derive(Debug, Serialize)]
struct AliasView {
    name: String,
    targets: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TierDefaultView {
    tier: String,
    model: String,
}

impl From<v1::RoutingSnapshot> for ModelsView {
    fn from(snapshot: v1::RoutingSnapshot) -> Self {
        let alias = |alias: v1::ModelAlias| AliasView { name: alias.name, targets: alias.targets };
        let default = |default: v1::TierDefault| TierDefaultView {
            tier: view::tier(default.tier),
            model: default.model,
        };
        Self {
            deployments: snapshot.deployments.into_iter().map(DeploymentView::from).collect(),
            aliases: snapshot.aliases.into_iter().map(alias).collect(),
            tier_defaults: snapshot.tier_defaults.into_iter().map(default).collect(),
        }
    }
}

pub(crate) async fn run(json: bool, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let models = ModelsView::from(connection.snapshot().await?);
    connection.close().await;
    if json {
        output.json(&models)?;
    } else {
        for line in lines(&models) {
            output.line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(models: &ModelsView) -> Vec<String> {
    let mut table = Table::new([
        "model",
        "deployment",
        "tier",
        "state",
        "context>",
        "slots>",
        "$/M in>",
        "$/M out>",
        "can",
    ]);
    for deployment in &models.deployments {
        let (input, output) = match (&deployment.price, deployment.free) {
            (_, true) => ("free".to_owned(), "free".to_owned()),
            (Some(price), false) => {
                (price.input_dollars_per_million.clone(), price.output_dollars_per_million.clone())
            }
            (None, false) => ("unknown".to_owned(), "unknown".to_owned()),
        };
        let state = match deployment.state_detail.as_str() {
            "" => deployment.state.clone(),
            detail => format!("{}: {detail}", deployment.state),
        };
        table.row([
            deployment.model.clone(),
            deployment.id.clone(),
            deployment.tier.clone(),
            state,
            deployment.context_length.to_string(),
            deployment.slots.to_string(),
            input,
            output,
            deployment.capabilities.join(", "),
        ]);
    }
    let mut lines = table.lines();
    if !models.aliases.is_empty() {
        let mut table = Table::new(["alias", "stands for"]);
        for alias in &models.aliases {
            table.row([alias.name.clone(), alias.targets.join(", ")]);
        }
        lines.push(String::new());
        lines.extend(table.lines());
    }
    if !models.tier_defaults.is_empty() {
        let mut table = Table::new(["tier", "model without a name"]);
        for default in &models.tier_defaults {
            table.row([default.tier.clone(), default.model.clone()]);
        }
        lines.push(String::new());
        lines.extend(table.lines());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> v1::RoutingSnapshot {
        let free = v1::Deployment {
            id: "mainpc/llama.cpp/demo".to_owned(),
            model: "demo".to_owned(),
            tier: v1::Tier::LocalCpu.into(),
            state: v1::DeploymentState::Warm.into(),
            capabilities: Some(v1::Capabilities { generate: true, ..v1::Capabilities::default() }),
            context_length: 2_048,
            slots: 4,
            free: true,
            ..v1::Deployment::default()
        };
        let paid = v1::Deployment {
            id: "mainpc/openai/gpt".to_owned(),
            model: "gpt".to_owned(),
            tier: v1::Tier::RemoteApi.into(),
            state: v1::DeploymentState::Down.into(),
            state_detail: "no key".to_owned(),
            price: Some(v1::Price { input: 2_500_000, output: 10_000_000, ..v1::Price::default() }),
            ..v1::Deployment::default()
        };
        v1::RoutingSnapshot {
            deployments: vec![free, paid],
            aliases: vec![v1::ModelAlias {
                name: "fast".to_owned(),
                targets: vec!["demo".to_owned(), "gpt".to_owned()],
                ..v1::ModelAlias::default()
            }],
            ..v1::RoutingSnapshot::default()
        }
    }

    #[test]
    fn prices_are_dollars_for_a_million_tokens() {
        let json = serde_json::to_value(ModelsView::from(snapshot())).unwrap();
        assert_eq!(json["deployments"][1]["price"]["input_dollars_per_million"], "2.50");
        assert_eq!(json["deployments"][1]["price"]["output_dollars_per_million"], "10.00");
        assert_eq!(json["deployments"][0]["capabilities"][0], "generate");
        assert_eq!(json["aliases"][0]["targets"][1], "gpt");
    }

    #[test]
    fn the_table_says_what_is_free_and_why_something_is_down() {
        let lines = lines(&snapshot().into());
        let row = |model: &str| lines.iter().find(|line| line.starts_with(model)).unwrap().clone();
        assert!(row("demo").contains("free") && row("demo").contains("warm"), "{lines:?}");
        assert!(row("gpt").contains("down: no key") && row("gpt").contains("2.50"), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.starts_with("fast") && line.ends_with("demo, gpt")),
            "{lines:?}"
        );
    }
}
