//! What the server did not allow.
//!
//! A server says so on the connection and not to whoever published: to them it looks as if nobody answered in time. So its
//! words are taken apart here, logged as errors, counted, and told to everybody who waits for an answer on that subject.

use std::{future, sync::Arc};

use opentelemetry::{KeyValue, global, metrics::Counter};
use tokio::sync::broadcast;

/// Denials that somebody who waits for an answer may not have looked at yet; more of them are still logged and counted.
const DENIALS_BUFFERED: usize = 64;

/// Tells what was denied. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Denials {
    sender: broadcast::Sender<Arc<str>>,
    counter: Counter<u64>,
}

impl Denials {
    pub(crate) fn new() -> Self {
        let counter = global::meter("bus")
            .u64_counter("hybrid_bus_denials")
            .with_description("what the nats server did not allow these credentials, by operation")
            .build();
        Self { sender: broadcast::channel(DENIALS_BUFFERED).0, counter }
    }

    /// Takes up the server's words; `false` when they say something else.
    pub(crate) fn heard(&self, user: &str, words: &str) -> bool {
        let Some((operation, subject)) = parse(words) else { return false };
        self.counter.add(1, &[KeyValue::new("operation", operation)]);
        tracing::error!(
            user,
            operation,
            subject,
            "the nats server denied this: the credentials have no right to it"
        );
        if operation == "publish" {
            // nobody may be waiting
            self.sender.send(Arc::from(subject)).ok();
        }
        true
    }

    /// From now on.
    pub(crate) fn watch(&self, subject: String) -> Watch {
        Watch { receiver: self.sender.subscribe(), subject }
    }
}

/// Waits for one subject's denial.
#[derive(Debug)]
pub(crate) struct Watch {
    receiver: broadcast::Receiver<Arc<str>>,
    subject: String,
}

impl Watch {
    /// Returns the subject when publishing to it was denied, else never. Cancel safe.
    pub(crate) async fn denied(&mut self) -> &str {
        loop {
            match self.receiver.recv().await {
                Ok(subject) if *subject == *self.subject => return &self.subject,
                // what was missed can only be a storm of denials: the wait ends by its time limit
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => future::pending::<()>().await,
            }
        }
    }
}

/// Operation and subject of `Permissions Violation for Publish to "…"` and `… for Subscription to "…" [using queue "…"]`.
fn parse(words: &str) -> Option<(&'static str, &str)> {
    let (_, rest) = words.split_once("Permissions Violation for ")?;
    let (operation, rest) = match rest.strip_prefix("Publish to ") {
        Some(rest) => ("publish", rest),
        None => ("subscribe", rest.strip_prefix("Subscription to ")?),
    };
    let subject = rest.trim_start_matches('"').split('"').next()?;
    (!subject.is_empty()).then_some((operation, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_told_apart_from_other_errors_of_a_server() {
        let publish = "Permissions Violation for Publish to \"llm.v1.exec.cloud.mainpc.openai\"";
        assert_eq!(parse(publish), Some(("publish", "llm.v1.exec.cloud.mainpc.openai")));
        let queue = "Permissions Violation for Subscription to \"llm.v1.req.generate\" using queue \"q\"";
        assert_eq!(parse(queue), Some(("subscribe", "llm.v1.req.generate")));
        assert_eq!(parse("maximum subscriptions exceeded"), None);
        assert_eq!(parse("Permissions Violation for Publish to \"\""), None);
    }

    #[tokio::test]
    async fn only_who_waits_on_the_subject_hears_of_its_denial() {
        let denials = Denials::new();
        let (mut there, mut elsewhere) = (denials.watch("a.b".to_owned()), denials.watch("a.c".to_owned()));
        assert!(denials.heard("caller", "Permissions Violation for Publish to \"a.b\""));
        assert_eq!(there.denied().await, "a.b");
        tokio::select! {
            biased;
            _ = elsewhere.denied() => panic!("told of another subject"),
            () = tokio::task::yield_now() => {}
        }
    }
}
