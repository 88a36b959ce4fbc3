//! `hybridctl usage reprice`: what the past would have cost at other prices. It reads; the ledger is append-only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use domain::pricing::{Price, TokenUsage};
use domain::units::{Money, Tokens};
use price_table::Prices;
use serde::{Deserialize, Serialize};
use wire::subject::service;

use super::hub::Hub;
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Table of prices, as config/prices.toml is one
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
}

/// An attempt, as far as its price depends on it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Row {
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) tokens: Counts,
    pub(crate) cost_picodollars: i64,
    pub(crate) cost_unknown: bool,
}

/// Tokens by kind.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Counts {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached_input: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
}

impl From<&Counts> for TokenUsage {
    fn from(counts: &Counts) -> Self {
        Self {
            input: Tokens::new(counts.input),
            output: Tokens::new(counts.output),
            cached_input: Tokens::new(counts.cached_input),
            cache_write: Tokens::new(counts.cache_write),
            reasoning: Tokens::new(counts.reasoning),
            ..Self::default()
        }
    }
}

/// What the attempts of one model come to.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Sums {
    attempts: u64,
    /// Attempts that the table says nothing of; they are in both sums as they were charged.
    kept: u64,
    /// Attempts whose cost was not known: 0 in the old sum.
    unknown_before: u64,
    /// Those of which it still is not: 0 in both.
    unknown_after: u64,
    old_picodollars: i64,
    new_picodollars: i64,
}

/// Prices of a table for what was done.
#[derive(Debug)]
struct Repricing<'a> {
    prices: &'a Prices,
    by_model: BTreeMap<(String, String), Sums>,
}

impl Repricing<'_> {
    fn add(&mut self, row: Row) {
        let new = price(self.prices, &row).map(|price| price.cost(&TokenUsage::from(&row.tokens)));
        let sums = self.by_model.entry((row.provider, row.model)).or_default();
        sums.attempts += 1;
        sums.unknown_before += u64::from(row.cost_unknown);
        let old = if row.cost_unknown { 0 } else { row.cost_picodollars };
        sums.old_picodollars = sums.old_picodollars.saturating_add(old);
        let new = match new {
            Some(new) => new.as_picodollars(),
            None => {
                sums.kept += u64::from(!row.cost_unknown);
                sums.unknown_after += u64::from(row.cost_unknown);
                old
            }
        };
        sums.new_picodollars = sums.new_picodollars.saturating_add(new);
    }
}

/// The table's price of what an attempt did. Nothing where the table has no such model, where a batch has no batch price, of training
/// and audio (of which the ledger has not what is charged), and of a charge without tokens (a call of which nothing more was heard).
pub(crate) fn price(prices: &Prices, row: &Row) -> Option<Price> {
    let (price, batch) = prices.price(&row.provider, &row.model)?;
    let charged = row.cost_picodollars > 0 || row.cost_unknown;
    let by_token = matches!(row.method.as_str(), "generate" | "embed" | "translate");
    if !by_token || (charged && row.tokens.input == 0 && row.tokens.output == 0) {
        return None;
    }
    // only what goes past the coordinator is a batch
    if row.service == service::REMOTE_API_ADAPTER { batch } else { Some(price) }
}

pub(super) async fn run(
    options: &Options,
    hub: &Hub,
    query: &[(&'static str, String)],
    json: bool,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let prices = Prices::load(&options.prices)?;
    let mut repricing = Repricing { prices: &prices, by_model: BTreeMap::new() };
    let mut query = query.to_vec();
    query.push(("format", "jsonl".to_owned()));
    let read = |line: &[u8]| {
        repricing.add(serde_json::from_slice(line).context("the hub speaks another version")?);
        Ok(())
    };
    hub.lines(&["api", "usage", "export"], &query, read).await?;
    if json {
        let models = repricing.by_model.iter().map(|((provider, model), sums)| {
            serde_json::json!({ "provider": provider, "model": model, "sums": sums })
        });
        output.json(&models.collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&repricing.by_model) {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(by_model: &BTreeMap<(String, String), Sums>) -> Vec<String> {
    let mut table =
        Table::new(["provider", "model", "attempts>", "as charged>", "at these prices>", "change>", "note"]);
    let mut all = Sums::default();
    for ((provider, model), sums) in by_model {
        all.attempts += sums.attempts;
        all.old_picodollars = all.old_picodollars.saturating_add(sums.old_picodollars);
        all.new_picodollars = all.new_picodollars.saturating_add(sums.new_picodollars);
        table.row(cells(provider, model, sums, note(sums)));
    }
    table.row(cells("all", "", &all, String::new()));
    let mut lines = table.lines();
    lines.push(String::new());
    lines.push("the ledger stays as it is: what was charged was charged".to_owned());
    lines
}

fn note(sums: &Sums) -> String {
    let mut notes = Vec::new();
    if sums.kept > 0 {
        notes.push(format!("{} as charged: no price in the table", sums.kept));
    }
    if sums.unknown_before > sums.unknown_after {
        notes.push(format!("{} were unknown", sums.unknown_before - sums.unknown_after));
    }
    if sums.unknown_after > 0 {
        notes.push(format!("{} are unknown", sums.unknown_after));
    }
    notes.join(", ")
}

fn cells(provider: &str, model: &str, sums: &Sums, note: String) -> [String; 7] {
    let money = |picodollars| Money::picodollars(picodollars).to_string();
    let change = sums.new_picodollars.saturating_sub(sums.old_picodollars);
    [
        provider.to_owned(),
        model.to_owned(),
        sums.attempts.to_string(),
        money(sums.old_picodollars),
        money(sums.new_picodollars),
        if change == 0 { String::new() } else { money(change) },
        note,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "[[price]]\nprovider = \"openai\"\nmodel = \"gpt\"\ninput_per_million = \"2\"\noutput_per_million = \"8\"\n\
                         batch_input_per_million = \"1\"\nbatch_output_per_million = \"4\"\n";

    fn row(model: &str, cost_picodollars: i64) -> Row {
        Row {
            service: service::REQUEST_COORDINATOR.to_owned(),
            method: "generate".to_owned(),
            provider: "openai".to_owned(),
            model: model.to_owned(),
            tokens: Counts { input: 10, output: 5, ..Counts::default() },
            cost_picodollars,
            cost_unknown: false,
        }
    }

    #[test]
    fn what_has_a_price_is_charged_by_it_and_the_rest_stays() {
        let prices = Prices::parse(TABLE).unwrap();
        let mut repricing = Repricing { prices: &prices, by_model: BTreeMap::new() };
        let unheard = Row { tokens: Counts::default(), ..row("gpt", 7) };
        let unknown = Row { cost_unknown: true, ..row("gpt", 0) };
        let batch = Row { service: service::REMOTE_API_ADAPTER.to_owned(), ..row("gpt", 1) };
        for row in [row("gpt", 100), row("other", 3), unheard, unknown, batch] {
            repricing.add(row);
        }
        let sums = |model: &str| &repricing.by_model[&("openai".to_owned(), model.to_owned())];
        let each = 10 * 2_000_000 + 5 * 8_000_000;
        let expected = Sums {
            attempts: 4,
            kept: 1,
            unknown_before: 1,
            unknown_after: 0,
            old_picodollars: 108,
            new_picodollars: each + 7 + each + each / 2,
        };
        assert_eq!(sums("gpt"), &expected);
        assert_eq!((sums("other").kept, sums("other").new_picodollars), (1, 3));
        let shown = lines(&repricing.by_model).join("\n");
        assert!(shown.contains("1 as charged") && shown.contains("1 were unknown"), "{shown}");
    }
}
