//! `/api/live`: today's totals as server-sent events, each second.
//!
//! One task asks the ledger, and only when somebody listens and something was committed; every page gets the same text.
//! The event of each second is the heartbeat, too: a page that sees none knows that what it shows is old.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use domain::units::Money;
use futures::{StreamExt, stream};
use serde::Serialize;
use service_runtime::Clock;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    App,
    error::ApiError,
    usage::{LedgerState, SummaryView, day_of},
};
use crate::{
    config::Role,
    ledger::{Ledger, LedgerError, Summary},
};

/// Between events.
const PERIOD: Duration = Duration::from_secs(1);

/// The feed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Live {
    events: watch::Sender<Arc<str>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

#[derive(Serialize)]
struct LiveEvent {
    sent_unix_ms: u64,
    /// Grows with each commit: a page asks for the latest attempts when it changes.
    commits: u64,
    summary: SummaryView,
}

impl Live {
    /// A feed for at most `clients_max` pages that ends with `stop`.
    #[must_use]
    pub fn new(clients_max: usize, stop: CancellationToken) -> Self {
        Self {
            events: watch::Sender::new(Arc::from("")),
            places: Arc::new(Semaphore::new(clients_max.min(Semaphore::MAX_PERMITS))),
            stop,
        }
    }

    /// Feeds until stopped.
    pub async fn run(self, ledger: Ledger, clock: Clock, role: Role, per_kwh: Money) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut cached = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if self.events.receiver_count() == 0 {
                continue;
            }
            match event(&ledger, &clock, (role, per_kwh), &mut cached).await {
                Ok(text) => drop(self.events.send_replace(text)),
                Err(error) => tracing::warn!(%error, "live totals cannot be read"),
            }
        }
    }
}

/// The day and the commit that a summary was made of.
type Cached = Option<(i64, u64, Arc<Summary>)>;

async fn event(
    ledger: &Ledger,
    clock: &Clock,
    (role, per_kwh): (Role, Money),
    cached: &mut Cached,
) -> Result<Arc<str>, LedgerError> {
    let sent_unix_ms = clock.now_unix_ms();
    let today = day_of(sent_unix_ms);
    let commits = *ledger.commits().borrow();
    let summary = match cached {
        Some((day, at, summary)) if *day == today.from_unix_ms && *at == commits => Arc::clone(summary),
        _ => {
            let summary = Arc::new(ledger.summary(today).await?);
            *cached = Some((today.from_unix_ms, commits, Arc::clone(&summary)));
            summary
        }
    };
    let state = LedgerState::new(&ledger.counters(), role);
    let event =
        LiveEvent { sent_unix_ms, commits, summary: SummaryView::new(today, &summary, state, per_kwh) };
    Ok(serde_json::to_string(&event).unwrap_or_default().into())
}

pub(super) async fn feed(State(app): State<App>) -> Response {
    let Ok(place) = Arc::clone(&app.live.places).try_acquire_owned() else {
        return ApiError::unavailable("too many pages are open, see observability-hub.live_clients_max")
            .into_response();
    };
    let stop = app.live.stop.clone();
    // The place is given back when the stream is dropped.
    let state = (app.live.events.subscribe(), place);
    let events = stream::unfold(state, |(mut receiver, place)| async move {
        receiver.changed().await.ok()?;
        let text = Arc::clone(&receiver.borrow_and_update());
        Some((Ok::<_, Infallible>(Event::default().event("totals").data(&*text)), (receiver, place)))
    })
    .take_until(async move { stop.cancelled().await });
    Sse::new(events).keep_alive(KeepAlive::new().interval(PERIOD * 2).text("heartbeat")).into_response()
}
