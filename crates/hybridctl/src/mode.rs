//! `hybridctl mode`: how the owner's machines are weighed against the cloud, switched while everything runs.
//!
//! A mode is switched on by flag `mode.<name>`; the newest that is on for a request is in force.

use std::process::ExitCode;

use anyhow::bail;
use domain::fault::Fault;
use serde::Serialize;
use wire::subject::{self, service};
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::{Connection, System, Target};

const FLAG: &str = "mode.";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// For programs: the modes as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the modes and which is in force
    List,
    /// Put a mode in force
    Set {
        /// For example local-only, local-preferred, balanced, performance
        name: String,
        /// Share of requests it holds for; the others keep the mode of config/policies.toml
        #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
        percent: u32,
    },
    /// Go back to the mode of config/policies.toml
    Reset,
}

/// A mode, as scripts read it.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    cloud: String,
    /// Weights of the score, in thousandths.
    cost: u32,
    quality: u32,
    latency: u32,
    /// Share of requests it is in force for.
    requests_percent: u32,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    match &options.action {
        None | Some(Action::List) => {}
        Some(Action::Set { name, percent }) => set(&connection, name, *percent).await?,
        Some(Action::Reset) => {
            let flags = call(&connection, v1::FlagRequest::default()).await?;
            forget(&connection, flags, "").await?;
        }
    }
    let modes = views(connection.snapshot().await?);
    connection.close().await;
    if options.json {
        output.json(&modes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["mode", "cloud", "cost>", "quality>", "latency>", "in force for>"]);
    for mode in modes {
        let percent = |thousandths: u32| format!("{} %", thousandths / 10);
        table.row([
            mode.name,
            mode.cloud,
            percent(mode.cost),
            percent(mode.quality),
            percent(mode.latency),
            format!("{} %", mode.requests_percent),
        ]);
    }
    for line in table.lines() {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// The new one first, then the old ones away: at no moment none is meant.
async fn set(connection: &Connection, name: &str, percent: u32) -> anyhow::Result<()> {
    let policy = connection.snapshot().await?.policy.unwrap_or_default();
    if !policy.modes.iter().any(|mode| mode.name == name) {
        let names: Vec<&str> = policy.modes.iter().map(|mode| mode.name.as_str()).collect();
        bail!("mode is {name:?}, expected one of {}", names.join(", "));
    }
    let flag = v1::Flag {
        name: format!("{FLAG}{name}"),
        enabled: true,
        rollout_percent: percent,
        updated_by: "hybridctl".to_owned(),
        ..v1::Flag::default()
    };
    let keep = flag.name.clone();
    let flags = call(connection, v1::FlagRequest { set: Some(flag), ..v1::FlagRequest::default() }).await?;
    forget(connection, flags, &keep).await
}

async fn forget(connection: &Connection, flags: Vec<v1::Flag>, keep: &str) -> anyhow::Result<()> {
    for flag in flags.into_iter().filter(|flag| flag.name.starts_with(FLAG) && flag.name != keep) {
        call(connection, v1::FlagRequest { remove: flag.name, ..v1::FlagRequest::default() }).await?;
    }
    Ok(())
}

async fn call(connection: &Connection, request: v1::FlagRequest) -> anyhow::Result<Vec<v1::Flag>> {
    let reply = connection.call(&subject::FlagCall, &request, service::MODEL_MANAGER_SUITE).await?;
    match reply.error {
        Some(error) => Err(Fault::from(error).into()),
        None => Ok(reply.flags),
    }
}

fn views(snapshot: v1::RoutingSnapshot) -> Vec<View> {
    let policy = snapshot.policy.unwrap_or_default();
    let mut flags: Vec<&v1::Flag> = snapshot
        .flags
        .iter()
        .filter(|flag| {
            flag.enabled && policy.modes.iter().any(|mode| flag.name == format!("{FLAG}{}", mode.name))
        })
        .collect();
    flags.sort_by_key(|flag| std::cmp::Reverse(flag.updated_unix_ms));
    // the newest takes its share; which of the others hold for the rest is shown for one more, as `set` leaves no others
    let newest = flags.first().map(|flag| (flag.name.clone(), flag.rollout_percent));
    policy
        .modes
        .into_iter()
        .map(|mode| {
            let share = match &newest {
                Some((name, percent)) if *name == format!("{FLAG}{}", mode.name) => *percent,
                Some((_, percent)) if mode.name == policy.default_mode => 100 - percent,
                None if mode.name == policy.default_mode => 100,
                _ => 0,
            };
            let share = match &newest {
                // a roll-out of the default mode changes nothing
                Some((name, _))
                    if *name == format!("{FLAG}{}", policy.default_mode)
                        && mode.name == policy.default_mode =>
                {
                    100
                }
                _ => share,
            };
            View {
                cloud: mode
                    .cloud()
                    .as_str_name()
                    .replace("CLOUD_USE_", "")
                    .to_ascii_lowercase()
                    .replace('_', "-"),
                name: mode.name,
                cost: mode.cost,
                quality: mode.quality,
                latency: mode.latency,
                requests_percent: share,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(flags: Vec<v1::Flag>) -> v1::RoutingSnapshot {
        let policy = v1::Policy::from(&domain::routing::Policy::default());
        v1::RoutingSnapshot { policy: Some(policy), flags, ..v1::RoutingSnapshot::default() }
    }

    fn shares(flags: Vec<v1::Flag>) -> Vec<(String, u32)> {
        views(snapshot(flags)).into_iter().map(|view| (view.name, view.requests_percent)).collect()
    }

    #[test]
    fn the_newest_mode_has_its_share_and_the_default_the_rest() {
        let flag = |name: &str, percent, at| v1::Flag {
            name: name.to_owned(),
            enabled: true,
            rollout_percent: percent,
            updated_unix_ms: at,
            ..v1::Flag::default()
        };
        let share = |flags, mode: &str| {
            shares(flags).into_iter().find(|(name, _)| name == mode).map(|(_, percent)| percent)
        };
        assert_eq!(share(Vec::new(), "balanced"), Some(100));
        let rollout = vec![flag("mode.performance", 25, 2), flag("mode.local-only", 100, 1)];
        assert_eq!(share(rollout.clone(), "performance"), Some(25));
        assert_eq!(share(rollout, "balanced"), Some(75));
        assert_eq!(share(vec![flag("mode.balanced", 10, 1)], "balanced"), Some(100));
    }
}
