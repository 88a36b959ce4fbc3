//! `hybridctl usage`: the ledger, asked of observability-hub over HTTP.

pub(crate) mod hub;
mod ledger;
pub(crate) mod reprice;
pub(crate) mod times;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use domain::units::Money;
use service_runtime::Clock;

use crate::output::Output;
use crate::table::Table;
use crate::target::{System, Target};
pub(crate) use hub::Hub;
use ledger::{Ended, Energy, Group, Named, Request, Summary};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Show the attempts of one request
    #[arg(conflicts_with_all = ["from", "to", "by"])]
    request_id: Option<String>,
    #[command(flatten)]
    span: Span,
    /// What to sum up by
    #[arg(long, value_enum, default_value_t = By::Tier)]
    by: By,
    /// For programs: the answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// A stretch of the ledger.
#[derive(Debug, clap::Args)]
pub(crate) struct Span {
    /// First moment: a day (2026-01-31, UTC), a time (2026-01-31T12:00:00Z), or how long ago (24h, 7d) [default: today, UTC]
    #[arg(long, value_name = "TIME", global = true)]
    from: Option<String>,
    /// Moment behind the last, in the same ways
    #[arg(long, value_name = "TIME", global = true)]
    to: Option<String>,
}

impl Span {
    /// As the hub's parameters.
    pub(crate) fn query(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let now = Clock::system().now_unix_ms();
        let mut query = Vec::new();
        for (name, text) in [("from", &self.from), ("to", &self.to)] {
            if let Some(text) = text {
                query.push((
                    name,
                    times::unix_ms(text, now).with_context(|| format!("--{name}"))?.to_string(),
                ));
            }
        }
        Ok(query)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write every attempt to stdout
    Export {
        /// How
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
    },
    /// Show what the past would have cost at other prices; the ledger stays as it is
    Reprice(reprice::Options),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Tier,
    Provider,
    Model,
    Agent,
    Key,
    Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let hub = Hub::new(system)?;
    if let Some(request_id) = &options.request_id {
        return one_request(&hub, request_id, options.json, output).await;
    }
    let mut query = options.span.query()?;
    match &options.action {
        Some(Action::Export { format }) => {
            let format = if *format == Format::Jsonl { "jsonl" } else { "csv" };
            query.push(("format", format.to_owned()));
            return hub.copy(&["api", "usage", "export"], &query, output).await;
        }
        Some(Action::Reprice(prices)) => {
            return reprice::run(prices, &hub, &query, options.json, output).await;
        }
        None => {}
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
        By::Key => ("key", summary.by_key),
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
    if summary.totals.group.cost_unknown > 0 {
        lines.push(format!(
            "the cost of {} attempts is not known and not in the sums",
            summary.totals.group.cost_unknown
        ));
    }
    lines.extend(summary.reference.as_ref().map(savings));
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

/// What the answered text would have cost at one model.
fn savings(reference: &ledger::Reference) -> String {
    let money = Money::picodollars;
    #[expect(clippy::cast_precision_loss, reason = "for people, one digit after the point")]
    let percent = match reference.cost_picodollars {
        0 => String::new(),
        there => format!(" ({:.1} %)", reference.saved_picodollars as f64 / there as f64 * 100.0),
    };
    format!(
        "all text from {} would have cost {}; here it cost {}: {}{percent} saved",
        reference.model,
        money(reference.cost_picodollars),
        money(reference.actual_picodollars),
        money(reference.saved_picodollars)
    )
}

/// The ledger spells tiers as identifiers, everything else with hyphens.
fn with_its_tiers_name(mut group: Named) -> Named {
    group.name = group.name.replace('_', "-");
    group
}

fn cells(name: String, group: &Group) -> [String; 8] {
    let cost = Money::picodollars(group.cost_picodollars);
    [
        name,
        group.attempts.to_string(),
        group.ok.to_string(),
        group.failed.to_string(),
        group.cancelled.to_string(),
        group.tokens.input.to_string(),
        group.tokens.output.to_string(),
        // the known part, and that there is more
        if group.cost_unknown > 0 { format!("{cost} + ?") } else { cost.to_string() },
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

#[cfg(test)]
mod tests;
