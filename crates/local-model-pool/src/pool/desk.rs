//! The way to the keeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use domain::fault::{Code, Fault, Origin};
use domain::id::ModelName;
use domain::lifecycle::{Ticket, Urgency};
use wire::v1;

use super::status::Statuses;
use crate::settings::ModelConfig;

/// Messages that wait for the keeper; the next sender waits.
pub(super) const MESSAGES_WAITING_MAX: usize = 256;
/// Words to one caller: handed over or refused, taken, over.
const WORDS_MAX: usize = 4;

/// What the keeper is told by others than engines.
pub(super) enum Message {
    /// A request came.
    Ask(Ask),
    /// It is over: cancelled, or too late.
    Over(Ticket),
    /// Somebody wants something done, or to know.
    Command(v1::ModelAction, Option<ModelName>, oneshot::Sender<Result<Vec<v1::ModelStatus>, Fault>>),
    /// A model that was checked.
    Install(Box<ModelConfig>, oneshot::Sender<Result<Vec<v1::ModelStatus>, Fault>>),
}

/// A request that wants its model.
pub(super) struct Ask {
    pub(super) model: ModelName,
    pub(super) ticket: Ticket,
    pub(super) request_id: String,
    pub(super) urgency: Urgency,
    pub(super) deadline: Instant,
    pub(super) words: mpsc::Sender<Word>,
}

/// What a request that waits is told.
#[derive(Debug)]
pub(super) enum Word {
    /// The engine listens on this executor's subject, and has a place.
    HandOver(String),
    /// The engine has begun.
    Taken,
    /// It is over.
    Over,
    /// Not here, not now.
    Refused(String, Duration),
}

/// The way. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) statuses: watch::Receiver<Arc<Statuses>>,
    pub(super) tickets: Arc<AtomicU64>,
}

impl Desk {
    /// Asks for a model.
    pub(super) async fn ask(
        &self,
        model: ModelName,
        request_id: String,
        urgency: Urgency,
        deadline: Instant,
    ) -> Result<(Ticket, mpsc::Receiver<Word>), Fault> {
        let (words, heard) = mpsc::channel(WORDS_MAX);
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let ask = Ask { model, ticket, request_id, urgency, deadline, words };
        self.messages.send(Message::Ask(ask)).await.map_err(|_| ended())?;
        Ok((ticket, heard))
    }

    /// Gives a request up.
    pub(super) async fn over(&self, ticket: Ticket) {
        let _ended = self.messages.send(Message::Over(ticket)).await;
    }

    /// Has something done, and hears how the models stand then.
    pub(super) async fn command(
        &self,
        action: v1::ModelAction,
        model: Option<ModelName>,
    ) -> Result<Vec<v1::ModelStatus>, Fault> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Command(action, model, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Offers a model that was checked.
    pub(super) async fn install(&self, config: ModelConfig) -> Result<Vec<v1::ModelStatus>, Fault> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Install(Box::new(config), reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

pub(super) fn ended() -> Fault {
    Fault::new(Code::Unavailable, Origin::Local, true, "the pool ends")
}
