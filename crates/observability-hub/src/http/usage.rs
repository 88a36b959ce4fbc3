//! `/api/usage/…`: what was used and what it cost.

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    response::Response,
};

use prost::Message;
use wire::v1::Decision;

use super::{App, error::ApiError};

mod decision;
mod export;
mod parameters;
mod view;

use self::parameters::Parameters;
pub(super) use self::{
    parameters::day_of,
    view::{LedgerState, SummaryView},
};

/// Attempts of one `recent` answer.
const RECENT_MAX: u32 = 500;
const RECENT_DEFAULT: u32 = 50;
/// Attempts over which latencies are summed up.
const LATENCY_ATTEMPTS: u32 = 500;
/// Longest request id, bytes; as in the ledger.
const REQUEST_ID_BYTES_MAX: usize = 256;

pub(super) async fn summary(State(app): State<App>, query: RawQuery) -> Result<Json<SummaryView>, ApiError> {
    let parameters = Parameters::new(query, &["from", "to"])?;
    let range = parameters.range(app.clock.now_unix_ms())?;
    let summary = app.ledger.summary(range).await?;
    let state = LedgerState::new(&app.ledger.counters(), app.role);
    let view = SummaryView::new(range, &summary, state, app.electricity_per_kwh);
    Ok(Json(view.against(app.reference.as_deref(), &summary)))
}

pub(super) async fn recent(
    State(app): State<App>,
    query: RawQuery,
) -> Result<Json<view::RecentView>, ApiError> {
    let parameters = Parameters::new(query, &["limit"])?;
    let limit = parameters.count("limit", RECENT_DEFAULT, RECENT_MAX)?;
    let attempts = app.ledger.recent(limit.max(LATENCY_ATTEMPTS)).await?;
    Ok(Json(view::RecentView::new(attempts, limit as usize)))
}

pub(super) async fn request(
    State(app): State<App>,
    Path(request_id): Path<String>,
) -> Result<Json<view::RequestView>, ApiError> {
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(ApiError::invalid("request_id", &request_id, "at most 256 bytes"));
    }
    let attempts = app.ledger.attempts_of(request_id.clone()).await?;
    if attempts.is_empty() {
        let shown: String = request_id.chars().take(64).collect();
        return Err(ApiError::not_found(format!(
            "request_id is {shown:?}, no attempt of it is in the ledger"
        )));
    }
    Ok(Json(view::RequestView::new(request_id, attempts)))
}

pub(super) async fn decision(
    State(app): State<App>,
    Path(request_id): Path<String>,
) -> Result<Json<decision::DecisionView>, ApiError> {
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(ApiError::invalid("request_id", &request_id, "at most 256 bytes"));
    }
    let shown: String = request_id.chars().take(64).collect();
    let kept = app.ledger.decision_of(request_id).await?;
    let plan = kept.and_then(|bytes| Decision::decode(bytes.as_slice()).ok());
    let plan = plan
        .ok_or_else(|| ApiError::not_found(format!("request_id is {shown:?}, no decision of it is kept")))?;
    Ok(Json(plan.into()))
}

pub(super) async fn export(State(app): State<App>, query: RawQuery) -> Result<Response, ApiError> {
    let parameters = Parameters::new(query, &["format", "from", "to"])?;
    let format = export::Format::parse(parameters.get("format").unwrap_or("jsonl"))?;
    let range = parameters.range(app.clock.now_unix_ms())?;
    Ok(export::stream(app.ledger, range, format))
}
