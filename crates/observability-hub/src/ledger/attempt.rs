//! One row of the ledger, checked at the edge: what cannot be counted exactly does not become a row.

use wire::v1;

/// Longest identifier (event, request, origin, deployment, model …) that is kept, in bytes.
const IDENTIFIER_BYTES_MAX: usize = 256;
/// Longest decision text that is kept, in bytes; more is cut off.
const DECISION_BYTES_MAX: usize = 4096;
/// More tokens than this in one attempt are a defect of the publisher. Keeps every sum of the ledger inside 64 bits.
const TOKENS_MAX: u64 = 10_000_000_000;
/// More than $100,000 for one attempt is a defect of the publisher, in pico-dollars.
const COST_PICODOLLARS_MAX: i64 = 100_000_000_000_000_000;
/// Longest attempt, in milliseconds: a year.
const DURATION_MS_MAX: u64 = 366 * 86_400_000;
/// More than 10 GJ for one attempt (a kilowatt for four months) is a defect of the publisher, in millijoules.
const ENERGY_MILLIJOULES_MAX: u64 = 10_000_000_000_000;
/// Last time that is taken for one: the year 2200, in Unix milliseconds.
const FINISHED_UNIX_MS_MAX: u64 = 7_258_118_400_000;

/// Tokens by kind, in the ledger's integers. `input` includes `cached_input` and `cache_write`, `output` includes
/// `reasoning`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TokenCounts {
    /// Prompt.
    pub input: i64,
    /// Answer.
    pub output: i64,
    /// Part of `input` read from the provider's cache.
    pub cached_input: i64,
    /// Part of `input` written to the provider's cache.
    pub cache_write: i64,
    /// Part of `output` spent on reasoning.
    pub reasoning: i64,
}

impl TokenCounts {
    /// Kind and count, in the order of the columns.
    #[must_use]
    pub const fn by_kind(&self) -> [(&'static str, i64); 5] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
        ]
    }

    /// The sum, kind by kind; the largest number where that does not fit.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// One attempt. Enumerations are the proto names in lower case without their prefix (`remote-api`, `ok`), so that the
/// file can be read with any SQLite client.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "the fields are those of proto `UsageEvent`, which documents them")]
pub struct Attempt {
    pub event_id: String,
    pub request_id: String,
    pub attempt: u32,
    pub finished_unix_ms: i64,
    pub machine: String,
    pub service: String,
    pub origin_instance: String,
    pub origin_counter: i64,
    pub method: String,
    pub outcome: String,
    pub error_code: String,
    pub agent: String,
    pub task: String,
    pub tenant: String,
    pub requested_model: String,
    pub deployment: String,
    pub provider: String,
    pub model: String,
    pub tier: String,
    pub executed_on: String,
    pub workload_class: String,
    pub tokens: TokenCounts,
    pub audio_ms: i64,
    pub characters: i64,
    pub estimated: bool,
    pub cost_picodollars: i64,
    pub time_to_first_token_ms: i64,
    pub duration_ms: i64,
    pub streamed: bool,
    pub decision: String,
    pub provider_request_id: String,
    pub energy_millijoules: i64,
    pub energy_estimated: bool,
    pub cost_unknown: bool,
}

/// An event that cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, expected {expected}")]
pub struct InvalidEvent {
    field: &'static str,
    value: String,
    expected: &'static str,
}

impl TryFrom<v1::UsageEvent> for Attempt {
    type Error = InvalidEvent;

    fn try_from(event: v1::UsageEvent) -> Result<Self, InvalidEvent> {
        let cost_picodollars = event.cost_picodollars;
        if !(0..=COST_PICODOLLARS_MAX).contains(&cost_picodollars) {
            return Err(InvalidEvent {
                field: "cost_picodollars",
                value: cost_picodollars.to_string(),
                expected: "0 to 1e17",
            });
        }
        let usage = event.usage.unwrap_or_default();
        let counter = event.origin_counter;
        Ok(Self {
            tier: dashed(&label(event.tier().as_str_name(), "TIER_")),
            method: label(event.method().as_str_name(), "METHOD_"),
            outcome: label(event.outcome().as_str_name(), "OUTCOME_"),
            error_code: match event.error_code() {
                v1::ErrorCode::Unspecified => String::new(),
                code => label(code.as_str_name(), "ERROR_CODE_"),
            },
            workload_class: dashed(&label(event.workload_class().as_str_name(), "WORKLOAD_CLASS_")),
            event_id: required("event_id", event.event_id)?,
            request_id: required("request_id", event.request_id)?,
            attempt: event.attempt,
            finished_unix_ms: finished(event.finished_unix_ms)?,
            machine: identifier("machine", event.machine)?,
            service: identifier("service", event.service)?,
            origin_instance: identifier("origin_instance", event.origin_instance)?,
            origin_counter: bounded("origin_counter", counter, i64::MAX.unsigned_abs(), "0 to 2^63 - 1")?,
            agent: identifier("agent", event.agent)?,
            task: identifier("task", event.task)?,
            tenant: identifier("tenant", event.tenant)?,
            requested_model: identifier("requested_model", event.requested_model)?,
            deployment: identifier("deployment", event.deployment)?,
            provider: identifier("provider", event.provider)?,
            model: identifier("model", event.model)?,
            executed_on: identifier("executed_on", event.executed_on)?,
            tokens: TokenCounts {
                input: tokens("usage.input", usage.input)?,
                output: tokens("usage.output", usage.output)?,
                cached_input: tokens("usage.cached_input", usage.cached_input)?,
                cache_write: tokens("usage.cache_write", usage.cache_write)?,
                reasoning: tokens("usage.reasoning", usage.reasoning)?,
            },
            audio_ms: duration("usage.audio_ms", usage.audio_ms)?,
            characters: tokens("usage.characters", usage.characters)?,
            estimated: usage.estimated,
            cost_picodollars,
            time_to_first_token_ms: duration("time_to_first_token_ms", event.time_to_first_token_ms)?,
            duration_ms: duration("duration_ms", event.duration_ms)?,
            streamed: event.streamed,
            decision: cut(&event.decision, DECISION_BYTES_MAX).to_owned(),
            provider_request_id: identifier("provider_request_id", event.provider_request_id)?,
            energy_millijoules: bounded(
                "energy_millijoules",
                event.energy_millijoules,
                ENERGY_MILLIJOULES_MAX,
                "at most 1e13 millijoules",
            )?,
            energy_estimated: event.energy_estimated,
            cost_unknown: event.cost_unknown,
        })
    }
}

fn label(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// Tiers and classes are written with dashes everywhere else: in configuration, flags, metrics and the command line.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

fn finished(unix_ms: u64) -> Result<i64, InvalidEvent> {
    if unix_ms == 0 {
        let value = unix_ms.to_string();
        return Err(InvalidEvent {
            field: "finished_unix_ms",
            value,
            expected: "a Unix time in milliseconds",
        });
    }
    bounded(
        "finished_unix_ms",
        unix_ms,
        FINISHED_UNIX_MS_MAX,
        "a Unix time in milliseconds before the year 2200",
    )
}

fn tokens(field: &'static str, count: u64) -> Result<i64, InvalidEvent> {
    bounded(field, count, TOKENS_MAX, "at most 1e10 tokens")
}

fn duration(field: &'static str, ms: u64) -> Result<i64, InvalidEvent> {
    bounded(field, ms, DURATION_MS_MAX, "at most a year, in milliseconds")
}

fn bounded(field: &'static str, value: u64, max: u64, expected: &'static str) -> Result<i64, InvalidEvent> {
    i64::try_from(value).ok().filter(|_| value <= max).ok_or_else(|| InvalidEvent {
        field,
        value: value.to_string(),
        expected,
    })
}

fn required(field: &'static str, text: String) -> Result<String, InvalidEvent> {
    if text.is_empty() {
        return Err(InvalidEvent { field, value: "empty".to_owned(), expected: "an identifier" });
    }
    identifier(field, text)
}

fn identifier(field: &'static str, text: String) -> Result<String, InvalidEvent> {
    if text.len() > IDENTIFIER_BYTES_MAX {
        return Err(InvalidEvent {
            field,
            value: format!("{} bytes long", text.len()),
            expected: "at most 256 bytes",
        });
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidEvent {
            field,
            value: format!("{text:?}"),
            expected: "text without control characters",
        });
    }
    Ok(text)
}

/// At most `bytes_max` bytes of `text`, cut at a character.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::UsageEvent {
        v1::UsageEvent {
            event_id: "r.1".to_owned(),
            request_id: "r".to_owned(),
            attempt: 1,
            finished_unix_ms: 1,
            outcome: v1::Outcome::Ok.into(),
            tier: v1::Tier::RemoteApi.into(),
            ..v1::UsageEvent::default()
        }
    }

    #[test]
    fn enumerations_become_lower_case_words() {
        let row = Attempt::try_from(v1::UsageEvent {
            error_code: v1::ErrorCode::RateLimited.into(),
            outcome: v1::Outcome::Failed.into(),
            ..event()
        })
        .unwrap();
        assert_eq!((row.tier.as_str(), row.outcome.as_str()), ("remote-api", "failed"));
        assert_eq!((row.error_code.as_str(), row.method.as_str()), ("rate_limited", "unspecified"));
    }

    #[test]
    fn what_cannot_be_counted_is_refused_by_name() {
        let usage = |usage| v1::UsageEvent { usage: Some(usage), ..event() };
        for (field, bad) in [
            ("event_id", v1::UsageEvent { event_id: String::new(), ..event() }),
            ("request_id", v1::UsageEvent { request_id: "x".repeat(257), ..event() }),
            ("finished_unix_ms", v1::UsageEvent { finished_unix_ms: 0, ..event() }),
            ("finished_unix_ms", v1::UsageEvent { finished_unix_ms: u64::MAX, ..event() }),
            ("energy_millijoules", v1::UsageEvent { energy_millijoules: u64::MAX, ..event() }),
            ("cost_picodollars", v1::UsageEvent { cost_picodollars: -1, ..event() }),
            ("cost_picodollars", v1::UsageEvent { cost_picodollars: i64::MAX, ..event() }),
            ("usage.output", usage(v1::TokenUsage { output: u64::MAX, ..Default::default() })),
            ("agent", v1::UsageEvent { agent: "a\nb".to_owned(), ..event() }),
        ] {
            assert_eq!(Attempt::try_from(bad).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_long_decision_is_cut_at_a_character() {
        let row = Attempt::try_from(v1::UsageEvent { decision: "é".repeat(4096), ..event() }).unwrap();
        assert_eq!(row.decision.len(), DECISION_BYTES_MAX);
        let odd = format!("x{}", "é".repeat(4096));
        let row = Attempt::try_from(v1::UsageEvent { decision: odd, ..event() }).unwrap();
        assert_eq!(row.decision.len(), DECISION_BYTES_MAX - 1);
    }
}
