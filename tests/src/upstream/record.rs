//! What the server saw: for tests that nothing of a request was lost on its way, and that a cancel came through.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::Asked;
use super::format::resolve;
use super::server::called;

/// Headers that show a key.
const KEYS: [&str; 4] = ["authorization", "api-key", "x-api-key", "x-goog-api-key"];

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// HTTP method.
    pub method: String,
    /// The provider that was called, as the address names it.
    pub provider: String,
    /// Path and query.
    pub path: String,
    /// Headers by lower-case name, repeated ones joined with `, `; without those that show a key.
    pub headers: BTreeMap<String, String>,
    /// Whether there was a header that shows a key. Its value is not kept.
    pub authorization: bool,
    /// The body: as JSON where it is JSON, else as a string.
    pub body: Value,
    /// What it asks for, in no provider's words; absent where it asks no model, or makes no sense.
    pub asked: Option<Asked>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests to a provider.
    pub requests: u64,
    /// Requests whose answer was sent whole, or as far as the script goes.
    pub answered: u64,
    /// Requests that the caller gave up before the answer was whole.
    pub aborted: u64,
    /// Requests without an end so far.
    pub in_flight: u64,
    /// Connections open now, the one that asks included.
    pub open_connections: u64,
    /// Connections accepted since the start.
    pub connections: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    answered: AtomicU64,
    aborted: AtomicU64,
    connections: AtomicU64,
    closed: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        // Ends before starts, so that what is in flight never comes out negative.
        let (answered, aborted) =
            (self.answered.load(Ordering::Relaxed), self.aborted.load(Ordering::Relaxed));
        let closed = self.closed.load(Ordering::Relaxed);
        let requests = self.requests.load(Ordering::Relaxed);
        let connections = self.connections.load(Ordering::Relaxed);
        Stats {
            requests,
            answered,
            aborted,
            in_flight: requests.saturating_sub(answered + aborted),
            open_connections: connections.saturating_sub(closed),
            connections,
        }
    }

    /// The number of a request, starting at 1.
    pub(super) fn request(self: &Arc<Self>) -> (u64, InFlight) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        (number, InFlight { counters: Some(Arc::clone(self)) })
    }

    pub(super) fn connection(self: &Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::clone(self))
    }
}

/// An open connection; counted as closed when dropped.
#[derive(Debug)]
pub(super) struct Connection(Arc<Counters>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request without an end: dropped before [`InFlight::answered`], it was given up by the caller.
#[derive(Debug)]
pub(super) struct InFlight {
    counters: Option<Arc<Counters>>,
}

impl InFlight {
    /// For what is not counted: the control side.
    pub(super) fn uncounted() -> Self {
        Self { counters: None }
    }

    pub(super) fn answered(&mut self) {
        if let Some(counters) = self.counters.take() {
            counters.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(counters) = self.counters.take() {
            counters.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The last requests.
#[derive(Debug)]
pub(super) struct Log {
    kept: VecDeque<(Parts, Bytes)>,
    max: usize,
}

impl Log {
    pub(super) fn new(max: usize) -> Self {
        Self { kept: VecDeque::new(), max }
    }

    pub(super) fn push(&mut self, head: Parts, body: Bytes) {
        if self.max == 0 {
            return;
        }
        if self.kept.len() == self.max {
            self.kept.pop_front();
        }
        self.kept.push_back((head, body));
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    pub(super) fn read(&self) -> Vec<Recorded> {
        self.kept.iter().map(|(head, body)| recorded(head, body)).collect()
    }
}

fn recorded(head: &Parts, body: &Bytes) -> Recorded {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in head.headers.iter().filter(|(name, _)| !KEYS.contains(&name.as_str())) {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|text| {
                text.push_str(", ");
                text.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let (format, call) = called(head, body);
    Recorded {
        method: head.method.to_string(),
        provider: resolve(head.uri.path()).1.to_owned(),
        path: head.uri.to_string(),
        headers,
        authorization: KEYS.iter().any(|name| head.headers.contains_key(*name)),
        body: serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned())),
        asked: format.asked(&call).ok().flatten(),
    }
}
