//! One request from its slot to its last frame.

use std::pin::pin;

use bytes::Bytes;
use domain::{
    fault::{Code, Fault, Origin, Spent},
    units::Money,
};
use prost::Message;
use tokio::{sync::mpsc, time::Instant};
use wire::v1::{self, reply_frame::Kind};

use super::{Admitted, CANCEL_GRACE, Executor, Frames, HEARTBEAT, frames::Said};
use crate::Bus;

/// A frame takes no further piece beyond this: far below what a message may have, so that audio does not hold up others.
const FRAME_BYTES: usize = 256 * 1024;

/// Numbers frames and publishes them.
struct Writer<'a> {
    bus: &'a Bus,
    reply: &'a str,
    id: String,
    seq: u64,
}

impl Writer<'_> {
    /// Encodes at once: the future holds bytes, and no frame, while the bus is behind.
    fn send(&mut self, kind: Kind) -> impl Future<Output = ()> + Send {
        let bytes = self.frame(kind);
        async move {
            match self.bus.publish_bytes(self.reply.to_owned(), bytes).await {
                Ok(()) => self.seq += 1,
                Err(error) => {
                    // too large for the bus: the caller has to hear of it, in a frame that fits
                    tracing::warn!(request_id = %self.id, %error, "a frame was not published");
                    let bytes = self.frame(Kind::Error(Fault::from(error).into()));
                    if self.bus.publish_bytes(self.reply.to_owned(), bytes).await.is_ok() {
                        self.seq += 1;
                    }
                }
            }
        }
    }

    fn frame(&self, kind: Kind) -> Bytes {
        let frame = v1::ReplyFrame { request_id: self.id.clone(), seq: self.seq, kind: Some(kind) };
        frame.encode_to_vec().into()
    }
}

/// Answers a request that is not run.
pub(super) async fn refuse(bus: &Bus, reply: &str, id: String, seq: u64, fault: Fault) {
    tracing::debug!(request_id = %id, %fault, "request refused");
    Writer { bus, reply, id, seq }.send(Kind::Error(fault.into())).await;
}

/// Runs a request that has its slot, and gives that back.
pub(super) async fn run<E: Executor>(bus: &Bus, executor: &E, admitted: Admitted<'_>, reply: &str) {
    let Admitted { attempt, id, first_seq, held: _held } = admitted;
    let mut writer = Writer { bus, reply, id, seq: first_seq };
    let (deadline, cancel) = (attempt.deadline, attempt.cancel.clone());
    let (frames, mut said) = Frames::new();
    let mut work = pin!(async {
        let mut attempt = attempt;
        bus.fetch_audio(&mut attempt.request).await?;
        executor.execute(attempt, frames).await
    });
    let mut phase = ("queued", 0);
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut give_up: Option<(Instant, Fault)> = None;

    let outcome = loop {
        let limit = give_up.as_ref().map_or(deadline, |(at, _)| *at);
        tokio::select! {
            biased;
            outcome = &mut work => break outcome,
            Some(first) = said.recv() => {
                let items = take(first, &mut said, &mut phase);
                if !items.is_empty() {
                    heartbeat.reset();
                    writer.send(Kind::Delta(v1::Delta { items })).await;
                }
            }
            () = cancel.cancelled(), if give_up.is_none() => {
                let fault = Fault::new(Code::Cancelled, Origin::Caller, false, "cancelled by the caller");
                give_up = Some((Instant::now() + CANCEL_GRACE, fault));
            }
            () = tokio::time::sleep_until(limit) => match give_up.take() {
                Some((_, fault)) => break Err(fault),
                None => {
                    let fault = Fault::new(Code::Timeout, Origin::Local, true, "the deadline passed");
                    give_up = Some((Instant::now() + CANCEL_GRACE, fault));
                    cancel.cancel();
                }
            },
            _ = heartbeat.tick() => {
                writer.send(Kind::Heartbeat(v1::Heartbeat { phase: phase.0.to_owned(), progress_percent: phase.1 })).await;
            }
        }
    };
    // an overdue request ends as overdue, whatever its executor made of the cancel
    let outcome = match give_up {
        Some((_, fault)) if fault.code == Code::Timeout => Err(fault.having_spent(spent(outcome))),
        _ => outcome,
    };
    let mut waiting = rest(&mut said, &mut phase);
    while bytes(&waiting) >= FRAME_BYTES {
        let items = std::mem::replace(&mut waiting, rest(&mut said, &mut phase));
        writer.send(Kind::Delta(v1::Delta { items })).await;
    }
    match outcome {
        Ok(mut end) => {
            if !waiting.is_empty() {
                let mut last = end.last_delta.take().unwrap_or_default();
                let mut items = waiting;
                items.append(&mut last.items);
                end.last_delta = Some(v1::Delta { items });
            }
            writer.send(Kind::End(end)).await;
        }
        Err(fault) => {
            if !waiting.is_empty() {
                writer.send(Kind::Delta(v1::Delta { items: waiting })).await;
            }
            writer.send(Kind::Error(fault.into())).await;
        }
    }
}

/// What an attempt came to, however it ended.
fn spent(outcome: Result<v1::End, Fault>) -> Option<Spent> {
    match outcome {
        Ok(end) => Some(Spent { usage: end.usage?.into(), cost: Money::picodollars(end.cost_picodollars) }),
        Err(fault) => fault.spent.map(|spent| *spent),
    }
}

/// Text and audio of pieces.
fn bytes(items: &[v1::DeltaItem]) -> usize {
    items.iter().map(|item| item.text.len() + item.audio.len()).sum()
}

/// What waits, up to a frame's worth.
fn take(first: Said, said: &mut mpsc::Receiver<Said>, phase: &mut (&'static str, u32)) -> Vec<v1::DeltaItem> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(this) = next {
        match this {
            Said::Delta(item) => {
                bytes += item.text.len() + item.audio.len();
                items.push(*item);
            }
            Said::Phase(name, percent) => *phase = (name, percent),
        }
        next = if bytes < FRAME_BYTES { said.try_recv().ok() } else { None };
    }
    items
}

fn rest(said: &mut mpsc::Receiver<Said>, phase: &mut (&'static str, u32)) -> Vec<v1::DeltaItem> {
    said.try_recv().map_or_else(|_| Vec::new(), |first| take(first, said, phase))
}
