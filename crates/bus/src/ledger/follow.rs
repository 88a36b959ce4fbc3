//! Reading a machine's usage events in order, from a position of one's own.

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::{Stream, StreamExt};
use wire::{subject::usage_of, v1};

use crate::{Bus, control};

/// The events of one message, and where it stands in the stream.
#[derive(Debug)]
pub struct Followed {
    /// Sequence in the usage stream.
    pub sequence: u64,
    /// Empty when the message does not decode.
    pub events: Vec<v1::UsageEvent>,
}

/// Why the events cannot be read now; try again.
#[derive(Debug, thiserror::Error)]
#[error("usage events, {doing}: {reason}")]
pub struct FollowError {
    doing: &'static str,
    reason: String,
}

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> FollowError {
    move |error| FollowError { doing, reason: error.to_string() }
}

/// Everything that this machine's services published after `sequence`, then what comes. A stream that was made anew is read from
/// its start.
///
/// # Errors
/// [`FollowError`] when JetStream does not answer.
pub async fn follow(
    bus: &Bus,
    sequence: u64,
) -> Result<impl Stream<Item = Result<Followed, FollowError>> + Send + Unpin + use<>, FollowError> {
    let mut stream = control::usage_stream(bus).await.map_err(failed("stream"))?;
    let last = stream.info().await.map_err(failed("stream"))?.state.last_sequence;
    let after = if sequence > last { 0 } else { sequence };
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
        filter_subject: usage_of(bus.machine()),
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(failed("consumer"))?;
    let messages = consumer.messages().await.map_err(failed("pull"))?;
    Ok(messages.map(|message| {
        let message = message.map_err(failed("pull"))?;
        let info = message.info().map_err(failed("position"))?;
        let sequence = info.stream_sequence;
        let events = super::decode(&message.payload).unwrap_or_else(|error| {
            // the hub keeps it as a dead letter
            tracing::error!(%error, sequence, "usage events do not decode and are left out");
            Vec::new()
        });
        Ok(Followed { sequence, events })
    }))
}
