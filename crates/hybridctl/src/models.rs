//! `hybridctl models`: what can be asked, from the routing snapshot; what is loaded, and orders to the pools; new models
//! installed beside the old ones, evaluated, switched to and back.

mod evaluate;
mod install;
mod lifecycle;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use domain::fault::Fault;
use domain::id::ModelName;
use serde::Serialize;
use wire::subject::{self, service};
use wire::v1::{self, ModelAction};

use crate::output::Output;
use crate::table::Table;
use crate::target::{Connection, System, Target};
use crate::view::{self, DeploymentView};
use lifecycle::LocalView;

#[derive(Debug, Serialize)]
struct ModelsView {
    deployments: Vec<DeploymentView>,
    aliases: Vec<AliasView>,
    tier_defaults: Vec<TierDefaultView>,
    /// What the pools say of their models.
    local: Vec<LocalView>,
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
            local: vec![],
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// For programs: everything there is, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Load a local model, and wait until it answers
    Load {
        /// As `hybridctl models` lists it
        name: String,
    },
    /// Let a local model finish what it has, then unload it
    Unload {
        /// As `hybridctl models` lists it
        name: String,
    },
    /// Load a local model and keep it, whatever needs the room
    Pin {
        /// As `hybridctl models` lists it
        name: String,
    },
    /// Keep a local model no longer than others
    Unpin {
        /// As `hybridctl models` lists it
        name: String,
    },
    /// Copy a GGUF file into the models folder of this machine and offer it under a name of its own
    Install {
        /// The file
        file: PathBuf,
        /// The new model's name
        #[arg(long = "as", value_name = "NAME")]
        name: String,
        /// Local model whose settings (slots, context …) hold for the new one too
        #[arg(long, value_name = "NAME")]
        like: Option<String>,
    },
    /// Offer an installed model no more
    Remove {
        /// As `hybridctl models` lists it
        name: String,
    },
    /// Ask a model the questions of a suite and check its answers
    Evaluate {
        /// Model, alias or deployment
        name: String,
        #[command(flatten)]
        suite: SuiteArgs,
    },
    /// Put a model in front of what an alias stands for; with a suite only if the model passes it
    Switch {
        /// The alias
        alias: String,
        /// Model or deployment
        target: String,
        /// Suite of questions, .toml or .jsonl
        #[arg(long, value_name = "FILE")]
        suite: Option<PathBuf>,
        /// Part of the cases that has to pass, in place of the suite's
        #[arg(long, value_name = "PERCENT", requires = "suite", value_parser = clap::value_parser!(u32).range(0..=100))]
        threshold: Option<u32>,
    },
    /// Back to what an alias stood for before it was switched
    Rollback {
        /// The alias
        alias: String,
    },
}

#[derive(Debug, clap::Args)]
struct SuiteArgs {
    /// Suite of questions, .toml or .jsonl
    #[arg(long, value_name = "FILE", default_value = "config/evaluations/demo.toml")]
    suite: PathBuf,
    /// Part of the cases that has to pass, in place of the suite's
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    threshold: Option<u32>,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let told = (options.json, output);
    let code = match &options.action {
        None => list(&connection, told).await?,
        Some(Action::Evaluate { name, suite }) => {
            let with = (suite.suite.as_path(), suite.threshold);
            let report = evaluate::run((system, &connection), name, with, told).await?;
            if options.json {
                output.json(&report)?;
            }
            if report.passes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some(Action::Switch { alias, target, suite, threshold }) => {
            let mut report = None;
            if let Some(suite) = suite {
                let with = (suite.as_path(), *threshold);
                let evaluated = evaluate::run((system, &connection), target, with, told).await?;
                if !evaluated.passes {
                    return Err(evaluated.error());
                }
                report = Some(evaluated.json()?);
            }
            let switch = v1::SwitchAlias {
                name: alias.clone(),
                target: target.clone(),
                updated_by: "hybridctl".to_owned(),
            };
            switch_alias(&connection, v1::alias_request::Action::Switch(switch), report, told).await?
        }
        Some(Action::Rollback { alias }) => {
            let action = v1::alias_request::Action::Rollback(alias.clone());
            switch_alias(&connection, action, None, told).await?
        }
        Some(action) => order(system, &connection, action, told).await?,
    };
    connection.close().await;
    Ok(code)
}

async fn list(connection: &Connection, (json, output): (bool, &Output)) -> anyhow::Result<ExitCode> {
    let snapshot = connection.snapshot().await?;
    let local = lifecycle::everywhere(connection, &snapshot).await;
    let models = ModelsView { local, ..ModelsView::from(snapshot) };
    if json {
        output.json(&models)?;
    } else {
        for line in lines(&models) {
            output.line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the pool of the machine do something.
async fn order(
    system: &System,
    connection: &Connection,
    action: &Action,
    (json, output): (bool, &Output),
) -> anyhow::Result<ExitCode> {
    let views = match action {
        Action::Load { name } => {
            lifecycle::order(connection, &lifecycle::request(ModelAction::Load, name)).await?;
            lifecycle::loaded(connection, name, (json, output)).await?
        }
        Action::Pin { name } => {
            lifecycle::order(connection, &lifecycle::request(ModelAction::Pin, name)).await?;
            lifecycle::loaded(connection, name, (json, output)).await?
        }
        Action::Unload { name } => {
            lifecycle::order(connection, &lifecycle::request(ModelAction::Unload, name)).await?
        }
        Action::Unpin { name } => {
            lifecycle::order(connection, &lifecycle::request(ModelAction::Unpin, name)).await?
        }
        Action::Remove { name } => {
            lifecycle::order(connection, &lifecycle::request(ModelAction::Remove, name)).await?
        }
        Action::Install { file, name, like } => {
            let name = ModelName::new(name.as_str()).map_err(Fault::from)?;
            let copied = install::copy(file, system.models_dir(), name.as_str())?;
            let request = v1::ModelRequest {
                install: Some(v1::InstallModel {
                    file: copied.file,
                    sha256: copied.sha256,
                    like: like.clone().unwrap_or_default(),
                }),
                ..lifecycle::request(ModelAction::Install, name.as_str())
            };
            lifecycle::order(connection, &request).await?
        }
        Action::Evaluate { .. } | Action::Switch { .. } | Action::Rollback { .. } => vec![],
    };
    if json {
        output.json(&views)?;
    } else {
        for line in lifecycle::lines(&views) {
            output.line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct SwitchView {
    switched: Vec<AliasView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<serde_json::Value>,
}

async fn switch_alias(
    connection: &Connection,
    action: v1::alias_request::Action,
    evaluation: Option<serde_json::Value>,
    (json, output): (bool, &Output),
) -> anyhow::Result<ExitCode> {
    let request = v1::AliasRequest { action: Some(action) };
    let reply = connection.call(&subject::AliasCall, &request, service::MODEL_MANAGER_SUITE).await?;
    if let Some(error) = reply.error {
        return Err(Fault::from(error).into());
    }
    let alias = |alias: v1::AliasOverride| AliasView { name: alias.name, targets: alias.targets };
    let switched: Vec<AliasView> = reply.overrides.into_iter().map(alias).collect();
    if json {
        output.json(&SwitchView { switched, evaluation })?;
        return Ok(ExitCode::SUCCESS);
    }
    if switched.is_empty() {
        output.line("no alias is switched: all stand for what the policies say");
    }
    let mut table = Table::new(["switched alias", "stands for"]);
    let any = !switched.is_empty();
    for alias in switched {
        table.row([alias.name, alias.targets.join(", ")]);
    }
    if any {
        for line in table.lines() {
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
    if !models.local.is_empty() {
        lines.push(String::new());
        lines.extend(lifecycle::lines(&models.local));
    }
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
