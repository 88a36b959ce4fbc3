//! The ledger as JSON lines or CSV, streamed page by page, so that memory holds one page however long the range is.

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;

use super::view::AttemptView;
use crate::{
    http::error::ApiError,
    ledger::{Attempt, Cursor, Ledger, LedgerError, Range},
};

/// Rows read at once.
const PAGE_ROWS: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    JsonLines,
    Csv,
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "jsonl" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            other => Err(ApiError::invalid("format", other, "jsonl or csv")),
        }
    }
}

enum State {
    Start,
    Behind(Cursor),
    Done,
}

/// The rows of the range, oldest first. A failure on the way breaks the connection, so that a cut file is not taken for
/// a whole one.
pub(super) fn stream(ledger: Ledger, range: Range, format: Format) -> Response {
    let chunks = stream::try_unfold(State::Start, move |state| {
        let ledger = ledger.clone();
        async move { next(&ledger, range, format, state).await }
    });
    let (media_type, name) = match format {
        Format::JsonLines => ("application/x-ndjson", "attachment; filename=\"usage.jsonl\""),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"usage.csv\""),
    };
    let headers = [(header::CONTENT_TYPE, media_type), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(chunks)).into_response()
}

async fn next(
    ledger: &Ledger,
    range: Range,
    format: Format,
    state: State,
) -> Result<Option<(Bytes, State)>, LedgerError> {
    let mut text = String::new();
    let after = match state {
        State::Done => return Ok(None),
        State::Behind(cursor) => Some(cursor),
        State::Start => {
            if format == Format::Csv {
                push_line(&mut text, COLUMNS.map(str::to_owned));
            }
            None
        }
    };
    let rows = ledger.page(range, after, PAGE_ROWS).await.inspect_err(|error| {
        tracing::error!(%error, "export broken off");
    })?;
    let state = match rows.last() {
        Some(last) if rows.len() >= PAGE_ROWS as usize => State::Behind(Cursor::from(last)),
        _ => State::Done,
    };
    for row in rows {
        match format {
            Format::Csv => push_line(&mut text, cells(row)),
            Format::JsonLines => {
                // Strings and integers: nothing here can fail to be JSON.
                if let Ok(line) = serde_json::to_string(&AttemptView::from(row)) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
    }
    Ok(Some((Bytes::from(text), state)))
}

const COLUMNS: [&str; 39] = [
    "event_id",
    "request_id",
    "attempt",
    "finished_unix_ms",
    "machine",
    "service",
    "origin_instance",
    "origin_counter",
    "method",
    "outcome",
    "error_code",
    "agent",
    "task",
    "tenant",
    "requested_model",
    "deployment",
    "provider",
    "model",
    "tier",
    "executed_on",
    "workload_class",
    "tokens_input",
    "tokens_output",
    "tokens_cached_input",
    "tokens_cache_write",
    "tokens_reasoning",
    "estimated",
    "cost_picodollars",
    "cost_dollars",
    "time_to_first_token_ms",
    "duration_ms",
    "streamed",
    "decision",
    "provider_request_id",
    "audio_ms",
    "characters",
    "energy_millijoules",
    "energy_estimated",
    "cost_unknown",
];

fn cells(row: Attempt) -> [String; 39] {
    let dollars = domain::units::Money::picodollars(row.cost_picodollars).to_string().replacen('$', "", 1);
    [
        row.event_id,
        row.request_id,
        row.attempt.to_string(),
        row.finished_unix_ms.to_string(),
        row.machine,
        row.service,
        row.origin_instance,
        row.origin_counter.to_string(),
        row.method,
        row.outcome,
        row.error_code,
        row.agent,
        row.task,
        row.tenant,
        row.requested_model,
        row.deployment,
        row.provider,
        row.model,
        row.tier,
        row.executed_on,
        row.workload_class,
        row.tokens.input.to_string(),
        row.tokens.output.to_string(),
        row.tokens.cached_input.to_string(),
        row.tokens.cache_write.to_string(),
        row.tokens.reasoning.to_string(),
        row.estimated.to_string(),
        row.cost_picodollars.to_string(),
        dollars,
        row.time_to_first_token_ms.to_string(),
        row.duration_ms.to_string(),
        row.streamed.to_string(),
        row.decision,
        row.provider_request_id,
        row.audio_ms.to_string(),
        row.characters.to_string(),
        row.energy_millijoules.to_string(),
        row.energy_estimated.to_string(),
        row.cost_unknown.to_string(),
    ]
}

/// One record by RFC 4180.
fn push_line<const N: usize>(text: &mut String, cells: [String; N]) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_separators_are_quoted() {
        let mut text = String::new();
        push_line(&mut text, ["a,b", "say \"x\"", "plain", "two\nlines"].map(str::to_owned));
        assert_eq!(text, "\"a,b\",\"say \"\"x\"\"\",plain,\"two\nlines\"\r\n");
    }
}
