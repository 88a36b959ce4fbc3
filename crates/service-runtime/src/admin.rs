//! The admin listener: liveness, readiness, metrics, and whatever the service adds.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder, TextEncoder};

use crate::health::Health;
use crate::http;
use crate::process::Process;
use crate::tasks::Tasks;

/// How long requests under way may still take once everything else has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// Why the admin listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be used.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The system would not say which address was bound.
    #[error("the admin listener's address is unknown")]
    Address(#[source] std::io::Error),
}

#[derive(Clone)]
struct AdminState {
    health: Health,
    tasks: Tasks,
    registry: prometheus::Registry,
}

impl Process {
    /// Starts the admin listener: `/healthz`, `/readyz`, `/metrics`, and `extra` for every other path. It answers until
    /// the process's tasks have ended, so that the drain can be watched. Limits on request bodies are `extra`'s.
    ///
    /// Returns the bound address, which tells the port when `listen` has port 0.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn serve_admin(&self, listen: SocketAddr, extra: Router) -> Result<SocketAddr, AdminError> {
        let key = format!("{}.admin_listen", self.service());
        let listener = http::bind(listen, &key).await?;
        let addr = listener.local_addr().map_err(AdminError::Address)?;
        let router = router(
            AdminState {
                health: self.health.clone(),
                tasks: self.tasks.clone(),
                registry: self.registry().clone(),
            },
            extra,
        );
        let limits = http::Limits { drain_timeout: DRAIN, ..http::Limits::default() };
        self.tasks.spawn_server("admin", |stop| async move {
            http::serve(listener, router, limits, stop).await;
            Ok(())
        });
        tracing::info!(%addr, "admin listening");
        Ok(addr)
    }
}

/// `extra` is the fallback, not merged, because merging panics on a path that both have.
fn router(state: AdminState, extra: Router) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
        .fallback_service(extra)
}

async fn healthz(State(state): State<AdminState>) -> Response {
    if state.tasks.is_healthy() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a task failed\n").into_response()
    }
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let report = state.health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&state.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests;
