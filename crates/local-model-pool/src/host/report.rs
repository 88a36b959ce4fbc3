//! The way of events to the pool.

use std::io::Write;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::Event;

/// Events that may wait for the pool to read. What comes then is dropped: a pool that hangs must not hold up answers.
const EVENTS_WAITING_MAX: usize = 1_024;

/// Sends events. Cloneable; the clones share one order.
#[derive(Debug, Clone)]
pub(super) struct Reports(mpsc::Sender<(Event, Option<oneshot::Sender<()>>)>);

impl Reports {
    /// Starts the thread that writes, which ends with the last clone. A thread, since writing to a full pipe blocks.
    pub(super) fn start() -> anyhow::Result<Self> {
        let (sender, mut events) = mpsc::channel::<(Event, Option<oneshot::Sender<()>>)>(EVENTS_WAITING_MAX);
        let write = move || {
            let mut out = std::io::stdout().lock();
            while let Some((event, written)) = events.blocking_recv() {
                let Ok(mut line) = serde_json::to_vec(&event) else { continue };
                line.push(b'\n');
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    // The pool is gone; the end of the standard input ends this process.
                    break;
                }
                let _waits = written.map(|written| written.send(()));
            }
        };
        std::thread::Builder::new()
            .name("reports".to_owned())
            .spawn(write)
            .context("cannot start a thread")?;
        Ok(Self(sender))
    }

    /// Sends an event unless too many wait already.
    pub(super) fn send(&self, event: Event) {
        if self.0.try_send((event, None)).is_err() {
            tracing::debug!("an event was dropped because the pool does not read");
        }
    }

    /// Sends the last event, and waits until it is written or never will be.
    pub(super) async fn last(&self, event: Event) {
        let (sender, written) = oneshot::channel();
        if self.0.send((event, Some(sender))).await.is_ok() {
            let _written_or_gone = written.await;
        }
    }
}
