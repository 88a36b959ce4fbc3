//! Everything the hub serves: page, usage API, live feed, Prometheus API, remote-write.
//!
//! Every request passes the check of its `Host` header ([`access`]); reading and writing may each ask for a token. The
//! page's own files are open: they hold no data.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use domain::units::Money;
use service_runtime::Clock;

pub mod access;
mod error;
pub mod live;
mod page;
mod prometheus;
mod usage;
mod write;

use self::{access::Access, live::Live, write::WriteGate};
use crate::{
    config::Role, ledger::Ledger, metric_store::MetricStore, reference::Reference, remote_write,
    telemetry::WriteMeters,
};

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// The ledger view.
    pub ledger: Ledger,
    /// The metrics.
    pub store: Arc<dyn MetricStore>,
    /// Time of day.
    pub clock: Clock,
    /// Who may ask.
    pub access: Arc<Access>,
    /// The feed of the page.
    pub live: Live,
    /// Counts of remote-write.
    pub meters: WriteMeters,
    /// What a sample may be.
    pub write_limits: remote_write::Limits,
    /// Which hub this is.
    pub role: Role,
    /// What a kilowatt-hour costs.
    pub electricity_per_kwh: Money,
    /// What savings are counted against.
    pub reference: Option<Arc<Reference>>,
}

/// The routes, for [`service_runtime::Process::serve_admin`].
pub fn router(app: App) -> Router {
    let access = Arc::clone(&app.access);
    let reading = Router::new()
        .route("/api/usage/summary", get(usage::summary))
        .route("/api/usage/recent", get(usage::recent))
        .route("/api/usage/requests/{request_id}", get(usage::request))
        .route("/api/usage/requests/{request_id}/decision", get(usage::decision))
        .route("/api/usage/export", get(usage::export))
        .route("/api/live", get(live::feed))
        .route("/api/v1/query", get(prometheus::query).post(prometheus::query))
        .route("/api/v1/series", get(prometheus::series).post(prometheus::series))
        .route("/api/v1/labels", get(prometheus::labels).post(prometheus::labels))
        .route("/api/v1/label/{name}/values", get(prometheus::label_values))
        .route("/api/v1/status/buildinfo", get(prometheus::buildinfo))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&access), access::require_read));
    let writing = Router::new()
        .route("/api/v1/write", post(write::write).with_state((app.clone(), WriteGate::default())))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&access), access::require_write));
    reading
        .merge(writing)
        .merge(page::routes())
        .fallback(error::not_found)
        .layer(middleware::from_fn(page::security_headers))
        .layer(middleware::from_fn_with_state(access, access::check_host))
        .with_state(app)
}
