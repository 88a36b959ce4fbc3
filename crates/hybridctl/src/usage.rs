//! `hybridctl usage`: the ledger, asked of observability-hub over HTTP.

mod ledger;
pub(crate) mod times;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use domain::units::Money;
use serde::de::DeserializeOwned;
use service_runtime::Clock;

use crate::output::Output;
use crate::table::Table;
use crate::target::{System, Target};
use ledger::{Ended, Energy, Group, Named, Request, Summary};

/// A hub that is there takes a connection within this.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A summary of a year takes well under a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Show the attempts of one request
    #[arg(conflicts_with_all = ["from", "to", "by", "export"])]
    request_id: Option<String>,
    /// First moment: a day (2026-01-31, UTC), a time (2026-01-31T12:00:00Z), or how long ago (24h, 7d) [default: today, UTC]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Moment behind the last, in the same ways
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// What to sum up by
    #[arg(long, value_enum, default_value_t = By::Tier)]
    by: By,
    /// Write every attempt to stdout
    #[arg(long, value_enum, conflicts_with_all = ["by", "json"])]
    export: Option<Export>,
    /// For programs: the hub's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Tier,
    Provider,
    Model,
    Agent,
    Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Export {
    Jsonl,
    Csv,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let hub = Hub::new(system)?;
    if let Some(request_id) = &options.request_id {
        return one_request(&hub, request_id, options.json, output).await;
    }
    let now = Clock::system().now_unix_ms();
    let mut query = Vec::new();
    for (name, text) in [("from", &options.from), ("to", &options.to)] {
        if let Some(text) = text {
            query.push((name, times::unix_ms(text, now).with_context(|| format!("--{name}"))?.to_string()));
        }
    }
    if let Some(export) = options.export {
        let format = if export == Export::Jsonl { "jsonl" } else { "csv" };
        query.push(("format", format.to_owned()));
        return hub.copy(&["api", "usage", "export"], &query, output).await;
    }
    let value: serde_json::Value = hub.get(&["api", "usage", "summary"], &query).await?;
    if options.json {
        output.json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary: Summary = serde_json::from_value(value).context("the hub speaks another version")?;
    for line in summary_lines(summary, options.by) {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

async fn one_request(hub: &Hub, request_id: &str, json: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let value: serde_json::Value = hub.get(&["api", "usage", "requests", request_id], &[]).await?;
    if json {
        output.json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request: Request = serde_json::from_value(value).context("the hub speaks another version")?;
    for line in request_lines(request) {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn summary_lines(summary: Summary, by: By) -> Vec<String> {
    let (head, groups) = match by {
        By::Tier => ("tier", summary.by_tier.into_iter().map(with_its_tiers_name).collect()),
        By::Provider => ("provider", summary.by_provider),
        By::Model => ("model", summary.by_model),
        By::Agent => ("agent", summary.by_agent),
        By::Day => ("day", summary.by_day),
    };
    let mut table =
        Table::new([head, "attempts>", "ok>", "failed>", "cancelled>", "tokens in>", "tokens out>", "cost>"]);
    for group in groups {
        table.row(cells(group.name, &group.group));
    }
    table.row(cells("all".to_owned(), &summary.totals.group));
    let mut lines = table.lines();
    lines.push(String::new());
    lines.push(format!(
        "{} requests from {} to {}",
        summary.totals.requests,
        times::text(summary.from_unix_ms),
        times::text(summary.to_unix_ms)
    ));
    lines.extend(summary.energy.as_ref().and_then(electricity));
    if summary.ledger.missing_events > 0 {
        lines.push(format!("the ledger still misses {} events", summary.ledger.missing_events));
    }
    lines
}

/// What local requests took, in watt-hours; none where they took nothing.
fn electricity(energy: &Energy) -> Option<String> {
    let estimated = match energy.estimated_millijoules {
        0 => String::new(),
        part if part == energy.millijoules => ", estimated".to_owned(),
        part => format!(", {} of them estimated", watt_hours(part)),
    };
    let cost = Money::picodollars(energy.cost_picodollars);
    (energy.millijoules > 0).then(|| {
        let used = watt_hours(energy.millijoules);
        format!(
            "electricity of local requests: {used} Wh{estimated}, {cost} at ${} a kWh",
            energy.per_kwh_dollars
        )
    })
}

/// Three digits after the point.
fn watt_hours(millijoules: i64) -> String {
    let thousandths = (millijoules.saturating_add(1_800)) / 3_600;
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// The ledger spells tiers as identifiers, everything else with hyphens.
fn with_its_tiers_name(mut group: Named) -> Named {
    group.name = group.name.replace('_', "-");
    group
}

fn cells(name: String, group: &Group) -> [String; 8] {
    [
        name,
        group.attempts.to_string(),
        group.ok.to_string(),
        group.failed.to_string(),
        group.cancelled.to_string(),
        group.tokens.input.to_string(),
        group.tokens.output.to_string(),
        Money::picodollars(group.cost_picodollars).to_string(),
    ]
}

fn request_lines(request: Request) -> Vec<String> {
    let mut table = Table::new([
        "#>",
        "outcome",
        "deployment",
        "tier",
        "tokens in>",
        "out>",
        "cost>",
        "first token>",
        "took>",
        "energy>",
    ]);
    let mut decision = String::new();
    for attempt in request.attempts {
        let outcome = match attempt.ended {
            Ended { outcome, error_code } if error_code.is_empty() || outcome == "ok" => outcome,
            Ended { outcome, error_code } => format!("{outcome}: {error_code}"),
        };
        table.row([
            attempt.attempt.to_string(),
            outcome,
            attempt.deployment,
            attempt.tier.replace('_', "-"),
            attempt.tokens.input.to_string(),
            attempt.tokens.output.to_string(),
            Money::picodollars(attempt.cost_picodollars).to_string(),
            format!("{} ms", attempt.time_to_first_token_ms),
            format!("{} ms", attempt.duration_ms),
            match attempt.energy_millijoules {
                0 => String::new(),
                joules => format!(
                    "{}{}.{:03} J",
                    if attempt.energy_estimated { "~" } else { "" },
                    joules / 1_000,
                    joules % 1_000
                ),
            },
        ]);
        decision = attempt.decision;
    }
    let mut lines = table.lines();
    lines.push(String::new());
    lines.push(format!("{} in all", Money::picodollars(request.cost_picodollars)));
    if !decision.is_empty() {
        lines.push(crate::table::printable(&decision));
    }
    lines
}

/// The hub's HTTP interface.
pub(crate) struct Hub {
    client: reqwest::Client,
    base: reqwest::Url,
    token: Option<String>,
}

impl Hub {
    pub(crate) fn new(system: &System) -> anyhow::Result<Self> {
        let (listen, token) = system.hub()?;
        let address = crate::up::reachable(listen);
        Ok(Self {
            client: reqwest::Client::builder()
                .connect_timeout(CONNECT_MAX)
                .read_timeout(system.timeout.unwrap_or(ANSWER_MAX))
                .no_proxy()
                .build()?,
            base: reqwest::Url::parse(&format!("http://{address}"))?,
            token,
        })
    }

    async fn send(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<reqwest::Response> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| anyhow!("{} has no path", self.base))?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!("observability-hub does not answer at {}; `make up` starts everything", self.base)
            } else {
                anyhow!("observability-hub at {}: {error}", self.base)
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let refusal: Result<ledger::Refusal, _> = response.json().await;
        match refusal {
            Ok(refusal) => bail!("{}: {}", refusal.error.code, refusal.error.message),
            Err(_) => bail!("observability-hub at {} answered with status {status}", self.base),
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        Ok(self.send(path, query).await?.json().await?)
    }

    /// Copies the body to stdout as it comes.
    async fn copy(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let mut response = self.send(path, query).await?;
        while let Some(chunk) = response.chunk().await.context("the export broke off, it is not whole")? {
            if !output.bytes(&chunk) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests;
