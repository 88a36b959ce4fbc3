//! Everything that was started, in the order in which it was.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::keep::{self, GaveUp, Program, Recent};
use super::log::Log;

/// Time for nats-server, and beyond the services' own deadline, before a child is killed.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(2);

/// The children. Dropping it kills them.
pub(super) struct Children {
    log: Log,
    /// What a child may take to stop before it is killed.
    deadline: Duration,
    kept: Vec<Kept>,
    tasks: JoinSet<Result<(), GaveUp>>,
    /// Asks for an end with force.
    halt: CancellationToken,
}

struct Kept {
    name: &'static str,
    recent: Recent,
    stop: CancellationToken,
    done: CancellationToken,
}

impl Children {
    pub(super) fn new(log: Log, stop_deadline: Duration) -> Self {
        Self {
            log,
            deadline: stop_deadline + KILL_AFTER,
            kept: Vec::new(),
            tasks: JoinSet::new(),
            halt: CancellationToken::new(),
        }
    }

    /// Starts a program and keeps it running.
    pub(super) fn start(&mut self, program: Program) {
        let kept = Kept {
            name: program.name,
            recent: Recent::default(),
            stop: CancellationToken::new(),
            done: CancellationToken::new(),
        };
        let keeper = keep::Keeper {
            program,
            log: self.log.clone(),
            recent: kept.recent.clone(),
            stop: kept.stop.clone(),
            halt: self.halt.clone(),
            deadline: self.deadline,
        };
        let done = kept.done.clone().drop_guard();
        self.tasks.spawn(async move {
            let _done = done;
            keeper.run().await
        });
        self.kept.push(kept);
    }

    /// The last lines that a child wrote.
    pub(super) fn last_lines(&self, name: &str) -> Vec<String> {
        let kept = self.kept.iter().find(|kept| kept.name == name);
        kept.map(|kept| kept.recent.lines()).unwrap_or_default()
    }

    /// Waits until one of them is given up.
    pub(super) async fn failed(&mut self) -> GaveUp {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(gave_up))) => return gave_up,
                Some(Ok(Ok(())) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops one after the other, the last one first. Once one had to be killed the others are all asked at once, but for
    /// the very first, which is the bus.
    pub(super) async fn stop(&mut self) {
        for kept in self.kept.iter().rev() {
            kept.stop.cancel();
            if tokio::time::timeout(self.deadline, kept.done.cancelled()).await.is_err() {
                for other in self.kept.iter().skip(1) {
                    other.stop.cancel();
                }
            }
            kept.done.cancelled().await;
        }
    }

    /// Kills all that are left.
    pub(super) async fn kill(&mut self) {
        self.halt.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
