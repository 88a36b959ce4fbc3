//! `hybridctl keys`: virtual keys, made and changed by model-manager-suite.

mod change;

use std::process::ExitCode;

use domain::fault::Fault;
use domain::id::KeyId;
use domain::units::Money;
use serde::Serialize;
use service_runtime::Clock;
use wire::subject::{KeyCall, service};
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::{System, Target};
use crate::usage::times;
use change::Change;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// For programs: the keys as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show all keys of all machines
    List,
    /// Make a key; it is shown this once
    Create {
        /// Its name in the ledger and in budgets; never used twice
        id: String,
        #[command(flatten)]
        change: Change,
    },
    /// Change what a key may do; what is not named stays
    Limit {
        /// Its name
        id: String,
        #[command(flatten)]
        change: Change,
        /// Switch it off for now
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Switch it on again
        #[arg(long)]
        enable: bool,
    },
    /// Make a key worthless for ever
    Revoke {
        /// Its name
        id: String,
    },
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let master_key = system.master_key();
    let ask = async |request: v1::KeyRequest| {
        let request = v1::KeyRequest { master_key: master_key.clone(), ..request };
        let call = KeyCall(connection.bus.machine().clone());
        let reply = connection.call(&call, &request, service::MODEL_MANAGER_SUITE).await?;
        match reply.error {
            Some(error) => Err(anyhow::Error::from(Fault::from(error))),
            None => Ok(reply),
        }
    };
    let now = Clock::system().now_unix_ms();
    let reply = match &options.action {
        None | Some(Action::List) => ask(v1::KeyRequest::default()).await?,
        Some(Action::Create { id, change }) => {
            let mut key = v1::VirtualKey { id: checked(id)?, ..Default::default() };
            change.apply(&mut key, now)?;
            ask(v1::KeyRequest { create: Some(key), ..Default::default() }).await?
        }
        Some(Action::Limit { id, change, disable, enable }) => {
            let id = checked(id)?;
            let known = ask(v1::KeyRequest::default()).await?.keys;
            let mut key = known.into_iter().find(|key| key.id == id).ok_or_else(|| {
                Fault::invalid(
                    "id",
                    format!("there is no key {id:?}, expected one that `hybridctl keys` lists"),
                )
            })?;
            change.apply(&mut key, now)?;
            key.disabled = *disable || (key.disabled && !*enable);
            ask(v1::KeyRequest { change: Some(key), ..Default::default() }).await?
        }
        Some(Action::Revoke { id }) => {
            ask(v1::KeyRequest { revoke: checked(id)?, ..Default::default() }).await?
        }
    };
    connection.close().await;
    show(reply, options.json, now, output)?;
    Ok(ExitCode::SUCCESS)
}

fn checked(id: &str) -> anyhow::Result<String> {
    Ok(KeyId::new(id).map_err(Fault::from)?.into_string())
}

/// A new key alone goes to stdout, so that it can be piped to where it is kept.
fn show(reply: v1::KeyReply, json: bool, now_unix_ms: u64, output: &Output) -> anyhow::Result<()> {
    let keys: Vec<View> = reply.keys.into_iter().map(|key| View::new(key, now_unix_ms)).collect();
    if json {
        let secret = (!reply.secret.is_empty()).then_some(reply.secret);
        return output.json(&serde_json::json!({ "key": secret, "keys": keys }));
    }
    if !reply.secret.is_empty() {
        output.line(&reply.secret);
        output.note("this is the only time that the key is shown: only its hash is kept");
        return Ok(());
    }
    if keys.is_empty() {
        output.line("there is no key; `hybridctl keys create NAME` makes one");
        return Ok(());
    }
    for line in table(&keys).lines() {
        output.line(&line);
    }
    Ok(())
}

/// A key, as scripts read it; limits that there are not are null.
#[derive(Debug, Serialize)]
struct View {
    id: String,
    machine: String,
    state: &'static str,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    concurrency: Option<u32>,
    day_picodollars: Option<i64>,
    month_picodollars: Option<i64>,
    models: Vec<String>,
    agents: Vec<String>,
    tiers: Vec<String>,
    created_unix_ms: u64,
    expires_unix_ms: Option<u64>,
    note: String,
}

impl View {
    fn new(key: v1::VirtualKey, now_unix_ms: u64) -> Self {
        let expired = key.expires_unix_ms > 0 && key.expires_unix_ms <= now_unix_ms;
        let state = match (key.revoked_unix_ms > 0, key.disabled, expired) {
            (true, ..) => "revoked",
            (_, true, _) => "disabled",
            (.., true) => "expired",
            _ => "valid",
        };
        let limits = key.limits.unwrap_or_default();
        let some = |count: u64| (count > 0).then_some(count);
        let tiers = key.tiers.iter().filter_map(|tier| wire::convert::tier(*tier));
        Self {
            state,
            requests_per_minute: some(limits.requests_per_minute),
            tokens_per_minute: some(limits.tokens_per_minute),
            concurrency: (limits.concurrency > 0).then_some(limits.concurrency),
            day_picodollars: limits.day_picodollars,
            month_picodollars: limits.month_picodollars,
            tiers: tiers.map(|tier| tier.as_str().to_owned()).collect(),
            id: key.id,
            machine: key.machine,
            models: key.models,
            agents: key.agents,
            created_unix_ms: key.created_unix_ms,
            expires_unix_ms: some(key.expires_unix_ms),
            note: key.note,
        }
    }

    fn for_what(&self) -> String {
        let lists = [&self.models, &self.agents, &self.tiers];
        lists
            .into_iter()
            .filter(|list| !list.is_empty())
            .map(|list| list.join(", "))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn table(keys: &[View]) -> Table<10> {
    let mut table = Table::new([
        "key",
        "is",
        "requests/min>",
        "tokens/min>",
        "at once>",
        "a day>",
        "a month>",
        "for",
        "until",
        "note",
    ]);
    for key in keys {
        let count = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        let money =
            |limit: Option<i64>| limit.map(|limit| Money::picodollars(limit).to_string()).unwrap_or_default();
        let until = key.expires_unix_ms.map(|at| times::text(i64::try_from(at).unwrap_or(i64::MAX)));
        table.row([
            key.id.clone(),
            key.state.to_owned(),
            count(key.requests_per_minute),
            count(key.tokens_per_minute),
            count(key.concurrency.map(u64::from)),
            money(key.day_picodollars),
            money(key.month_picodollars),
            key.for_what(),
            until.unwrap_or_default(),
            key.note.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_with_its_limits_and_what_it_is_for() {
        let key = v1::VirtualKey {
            id: "ci".to_owned(),
            limits: Some(v1::KeyLimits {
                requests_per_minute: 60,
                day_picodollars: Some(1_500_000_000_000),
                ..Default::default()
            }),
            models: vec!["gpt-4o".to_owned()],
            tiers: vec![v1::Tier::RemoteApi.into()],
            expires_unix_ms: 5,
            ..Default::default()
        };
        let lines = table(&[View::new(key.clone(), 4), View::new(key, 5)]).lines();
        let cells = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let expected =
            ["ci", "valid", "60", "-", "-", "$1.50", "-", "gpt-4o; remote-api", "1970-01-01 00:00", "-"];
        assert_eq!(cells(&lines[1]), expected);
        assert_eq!(cells(&lines[2])[1], "expired");
    }
}
