//! An answer under way, on its reader's side: what the thread draws is taken apart here.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use domain::fault::Fault;
use domain::units::Tokens;

use super::dialogue::{Part, Reader, ToolCall};
use super::gone;
use super::sampling::TokenLogprob;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text did.
    Stop,
    /// `max_tokens` were given, or the slot's context is full.
    Length,
    /// The model waits for the answers of tools.
    ToolCalls,
    /// The caller gave up.
    Cancelled,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub input: Tokens,
    /// Part of `input` that was in the slot already and was not computed again.
    pub cached: Tokens,
    /// Drawn for the answer, with the one that ends it.
    pub output: Tokens,
    /// Part of `output` that was reasoning.
    pub reasoning: Tokens,
}

/// Some of an answer; each part may be missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// To be added to the answer.
    pub text: String,
    /// To be added to the reasoning.
    pub reasoning: String,
    /// Whole calls of tools.
    pub calls: Vec<ToolCall>,
    /// The tokens of the answer's text and calls, where they were asked for.
    pub logprobs: Vec<TokenLogprob>,
}

impl Piece {
    /// Adds what came later.
    pub fn add(&mut self, mut later: Self) {
        self.text += &later.text;
        self.reasoning += &later.reasoning;
        self.calls.append(&mut later.calls);
        self.logprobs.append(&mut later.logprobs);
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
    /// What was not handed out before.
    pub rest: Piece,
    /// From the request to its first token; `None` = there was none.
    pub time_to_first_token: Option<Duration>,
    /// From the request to its end.
    pub total: Duration,
}

/// Text as the thread hands it out.
#[derive(Debug, Clone, Default)]
pub(super) struct Drawn {
    pub(super) text: String,
    /// Tokens that were drawn for it.
    pub(super) tokens: u32,
    pub(super) logprobs: Vec<TokenLogprob>,
}

/// The end as the thread reports it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) finish: Finish,
    pub(super) usage: Usage,
    pub(super) rest: Drawn,
    pub(super) time_to_first_token: Option<Duration>,
    pub(super) total: Duration,
}

/// An answer under way. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    pieces: mpsc::Receiver<Drawn>,
    end: oneshot::Receiver<Result<Ended, Fault>>,
    reader: Reader,
    has_called: bool,
    reasoning: Tokens,
    /// Of tokens whose text is held back.
    logprobs: Vec<TokenLogprob>,
}

impl Generation {
    pub(super) fn new(
        pieces: mpsc::Receiver<Drawn>,
        end: oneshot::Receiver<Result<Ended, Fault>>,
        reader: Reader,
    ) -> Self {
        Self { pieces, end, reader, has_called: false, reasoning: Tokens::ZERO, logprobs: vec![] }
    }

    /// The next piece; `None` = there are no more, ask [`Generation::finish`].
    pub async fn next(&mut self) -> Option<Piece> {
        loop {
            let drawn = self.pieces.recv().await?;
            let piece = self.read(drawn);
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }

    /// How it went, and what was not handed out yet.
    ///
    /// # Errors
    /// The engine failed or is gone.
    pub async fn finish(mut self) -> Result<Finished, Fault> {
        self.pieces.close();
        let mut rest = Piece::default();
        while let Ok(drawn) = self.pieces.try_recv() {
            let piece = self.read(drawn);
            rest.add(piece);
        }
        let ended = (&mut self.end).await.map_err(|_gone| gone())??;
        let piece = self.read(ended.rest);
        rest.add(piece);
        let parts = self.reader.finish();
        let piece = self.gather(parts);
        rest.add(piece);
        rest.logprobs.append(&mut self.logprobs);
        let finish = match ended.finish {
            Finish::Stop if self.has_called => Finish::ToolCalls,
            finish => finish,
        };
        let usage = Usage { reasoning: self.reasoning, ..ended.usage };
        let (time_to_first_token, total) = (ended.time_to_first_token, ended.total);
        Ok(Finished { finish, usage, rest, time_to_first_token, total })
    }

    fn read(&mut self, mut drawn: Drawn) -> Piece {
        let thinks = self.reader.is_thinking();
        let parts = self.reader.push(&drawn.text);
        if thinks || self.reader.is_thinking() {
            self.reasoning = self.reasoning + Tokens::new(drawn.tokens.into());
        } else {
            self.logprobs.append(&mut drawn.logprobs);
        }
        self.gather(parts)
    }

    fn gather(&mut self, parts: Vec<Part>) -> Piece {
        let mut piece = Piece::default();
        for part in parts {
            match part {
                Part::Text(text) => piece.text += &text,
                Part::Reasoning(text) => piece.reasoning += &text,
                Part::Call(call) => piece.calls.push(call),
            }
        }
        self.has_called |= !piece.calls.is_empty();
        if !piece.text.is_empty() || !piece.calls.is_empty() {
            piece.logprobs = std::mem::take(&mut self.logprobs);
        }
        piece
    }
}
