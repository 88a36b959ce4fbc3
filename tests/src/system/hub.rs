//! The hub, as anybody sees it over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wire::v1;

use crate::http::Client;
use crate::wait;

/// Everything since 1970.
const ALWAYS: &str = "from=0";

/// A client of the hub.
#[derive(Debug, Clone)]
pub struct Hub {
    url: String,
    client: Client,
}

/// Tokens by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "proto `TokenUsage` documents the fields")]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub reasoning: u64,
}

/// A row of the ledger, one for each attempt; the fields that tests look at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "proto `UsageEvent` documents the fields")]
pub struct Row {
    pub event_id: String,
    pub request_id: String,
    pub attempt: u32,
    pub outcome: String,
    pub error_code: String,
    pub agent: String,
    pub tenant: String,
    pub deployment: String,
    pub provider: String,
    pub tier: String,
    pub tokens: Tokens,
    pub estimated: bool,
    pub cost_picodollars: i64,
    pub decision: String,
}

/// What many attempts come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Sums {
    /// All attempts.
    pub attempts: u64,
    /// Those that answered.
    pub ok: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that the caller gave up.
    pub cancelled: u64,
    /// Tokens of all.
    pub tokens: Tokens,
    /// Cost of all, pico-dollars.
    pub cost_picodollars: i64,
}

impl Tokens {
    fn add(&mut self, more: &Self) {
        self.input += more.input;
        self.output += more.output;
        self.cached_input += more.cached_input;
        self.cache_write += more.cache_write;
        self.reasoning += more.reasoning;
    }
}

impl From<&v1::TokenUsage> for Tokens {
    fn from(usage: &v1::TokenUsage) -> Self {
        Self {
            input: usage.input,
            output: usage.output,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
        }
    }
}

impl Sums {
    /// The sum of what the ledger's stream keeps.
    #[must_use]
    pub fn of_events(events: &[v1::UsageEvent]) -> Self {
        let mut sums = Self::default();
        for event in events {
            sums.attempts += 1;
            match event.outcome() {
                v1::Outcome::Ok => sums.ok += 1,
                v1::Outcome::Failed | v1::Outcome::Unspecified => sums.failed += 1,
                v1::Outcome::Cancelled => sums.cancelled += 1,
            }
            sums.tokens.add(&event.usage.as_ref().map(Tokens::from).unwrap_or_default());
            sums.cost_picodollars += event.cost_picodollars;
        }
        sums
    }

    /// The sum of rows.
    #[must_use]
    pub fn of_rows(rows: &[Row]) -> Self {
        let mut sums = Self::default();
        for row in rows {
            sums.attempts += 1;
            match row.outcome.as_str() {
                "ok" => sums.ok += 1,
                "cancelled" => sums.cancelled += 1,
                _ => sums.failed += 1,
            }
            sums.tokens.add(&row.tokens);
            sums.cost_picodollars += row.cost_picodollars;
        }
        sums
    }
}

/// A sample of a `/metrics` page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Hub {
    pub(super) fn new(url: String) -> Self {
        Self { url, client: Client::default() }
    }

    /// Address, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.client.get(&format!("{}{path}", self.url)).await?;
        ensure!(answer.status.is_success(), "{path} answers {}: {}", answer.status, answer.text());
        Ok(answer.text())
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let text = self.get(path).await?;
        serde_json::from_str(&text).with_context(|| format!("unexpected at {path}: {text}"))
    }

    /// The totals of `GET /api/usage/summary`.
    ///
    /// # Errors
    /// The hub does not answer, or otherwise than expected.
    pub async fn totals(&self) -> anyhow::Result<Sums> {
        #[derive(Deserialize)]
        struct Summary {
            totals: Sums,
        }
        Ok(self.json::<Summary>(&format!("/api/usage/summary?{ALWAYS}")).await?.totals)
    }

    /// Every row of the ledger.
    ///
    /// # Errors
    /// The hub does not answer, or otherwise than expected.
    pub async fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let text = self.get(&format!("/api/usage/export?format=jsonl&{ALWAYS}")).await?;
        let row = |line| serde_json::from_str(line).with_context(|| format!("unexpected row: {line}"));
        text.lines().map(row).collect()
    }

    /// The rows of one request, in the order of its attempts, once there are `count`.
    ///
    /// # Errors
    /// There are not in time; the message shows those that are.
    pub async fn attempts(&self, request_id: &str, count: usize) -> anyhow::Result<Vec<Row>> {
        let rows = self.rows_until("the attempts of the request", |rows| {
            rows.iter().filter(|row| row.request_id == request_id).count() >= count
        });
        let mut rows: Vec<Row> = rows.await?.into_iter().filter(|row| row.request_id == request_id).collect();
        rows.sort_by_key(|row| row.attempt);
        ensure!(rows.len() == count, "{count} attempts were due: {rows:#?}");
        Ok(rows)
    }

    /// Every row, once they are as they should be.
    ///
    /// # Errors
    /// They are not in time; the message shows them.
    pub async fn rows_until(
        &self,
        what: &str,
        mut accept: impl FnMut(&[Row]) -> bool,
    ) -> anyhow::Result<Vec<Row>> {
        // A committed event is visible at once; what comes before takes milliseconds.
        let deadline = Duration::from_secs(20);
        let probe = async || self.rows().await.ok().filter(|rows| accept(rows));
        match wait::until(what, deadline, probe).await {
            Ok(rows) => Ok(rows),
            Err(error) => Err(error.context(format!("the ledger has {:#?}", self.rows().await))),
        }
    }

    /// The samples of the hub's own `/metrics`.
    ///
    /// # Errors
    /// The hub does not answer, or a line is no sample.
    pub async fn metrics(&self) -> anyhow::Result<Vec<Sample>> {
        samples(&self.get("/metrics").await?)
    }

    /// `GET /api/v1/query`: the labels and the value of each series.
    ///
    /// # Errors
    /// The hub does not answer, or otherwise than expected.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Sample>> {
        #[derive(Deserialize)]
        struct Series {
            metric: BTreeMap<String, String>,
            value: (f64, String),
        }
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut answer: Value = self.json(&format!("/api/v1/query?query={encoded}")).await?;
        let result = answer.pointer_mut("/data/result").map(Value::take).context("no data.result")?;
        let series: Vec<Series> = serde_json::from_value(result).context("no series")?;
        series
            .into_iter()
            .map(|Series { mut metric, value }| {
                let name = metric.remove("__name__").unwrap_or_default();
                Ok(Sample { name, labels: metric, value: value.1.parse().context("a value")? })
            })
            .collect()
    }
}

/// The samples of a page in Prometheus's text format.
///
/// # Errors
/// A line is no sample.
pub fn samples(page: &str) -> anyhow::Result<Vec<Sample>> {
    let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
    page.lines()
        .filter(is_sample)
        .map(|line| sample(line).with_context(|| format!("no sample: {line}")))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.split_once('{') {
        Some((name, rest)) => (name, rest),
        None => {
            let (name, value) = line.split_once(' ')?;
            let value = value.split(' ').next()?.parse().ok()?;
            return Some(Sample { name: name.to_owned(), labels: BTreeMap::new(), value });
        }
    };
    let (labels, value) = rest.rsplit_once("} ")?;
    let mut parsed = BTreeMap::new();
    let mut left = labels;
    while let Some((label, rest)) = left.split_once("=\"") {
        let end = rest
            .match_indices('"')
            .find(|(at, _)| !rest.get(..*at).is_some_and(|text| text.ends_with('\\')))?
            .0;
        parsed.insert(label.trim_start_matches(',').to_owned(), rest.get(..end)?.to_owned());
        left = rest.get(end + 1..)?;
    }
    Some(Sample { name: name.to_owned(), labels: parsed, value: value.split(' ').next()?.parse().ok()? })
}

/// The sum of all samples of a metric that carry these labels.
#[must_use]
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let carries = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
    };
    samples.iter().filter(carries).map(|sample| sample.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_is_read_with_its_labels() {
        let page = "# TYPE a_total counter\na_total{x=\"1\",y=\"b}c\"} 2\na_total{x=\"2\"} 0.5\nb 7\n";
        let samples = samples(page).unwrap();
        assert_eq!(samples.len(), 3);
        assert!((sum(&samples, "a_total", &[]) - 2.5).abs() < f64::EPSILON);
        assert!((sum(&samples, "a_total", &[("y", "b}c")]) - 2.0).abs() < f64::EPSILON);
        assert!((sum(&samples, "b", &[]) - 7.0).abs() < f64::EPSILON);
    }
}
