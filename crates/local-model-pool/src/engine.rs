//! The engine: one model, loaded into this process, answering several requests at once.
//!
//! Knows nothing of the bus. One OS thread owns llama.cpp's context (it is not for sharing) and takes jobs from a bounded
//! queue; everything else (templates, tokens, grammars) is prepared by the caller's side, so that the thread only computes.
//!
//! ```text
//! generate() ── prompt, tokens, sampler ──► queue ──► scheduler: slots ──► one batch a step ──► text ──► Generation
//!                 (blocking pool)          bounded      (its own thread)
//! ```
//!
//! A defect inside llama.cpp may abort the process. That is why an engine runs in a process of its own: see
//! [`crate::supervisor`].

mod embedder;
mod model;
mod sampling;
mod scheduler;
mod slot;
mod spec;
mod template;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::units::Tokens;

use crate::gguf::Header;
use model::Model;
use sampling::Sampler;
pub use sampling::{Format, Sampling};
use scheduler::{EmbedJob, GenerateJob, Job};
pub use spec::{EngineError, Facts, Spec};
pub use template::{Message, TemplateError};
use text::Assembler;

/// Pieces of text that wait for a slow reader; what comes then is joined to one piece, which the answer's length bounds.
const PIECES_WAITING_MAX: usize = 32;
/// Stack of the engine's thread. llama.cpp is written for the eight megabytes of a main thread.
const STACK_BYTES: usize = 16 << 20;

/// A request for text.
#[derive(Debug, Clone)]
pub struct Generate {
    /// The conversation.
    pub messages: Vec<Message>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The form of the answer.
    pub format: Format,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Longest answer; `None` = until the slot's context is full.
    pub max_tokens: Option<u32>,
    /// The time, for templates that state the date.
    pub now: OffsetDateTime,
    /// Ends the request at the next token.
    pub cancel: CancellationToken,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text did.
    Stop,
    /// `max_tokens` were given, or the slot's context is full.
    Length,
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
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
    /// Text that was not handed out before.
    pub rest: String,
    /// From the request to its first token; `None` = there was none.
    pub time_to_first_token: Option<Duration>,
    /// From the request to its end.
    pub total: Duration,
}

/// An answer under way. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    pieces: mpsc::Receiver<String>,
    end: oneshot::Receiver<Result<Finished, Fault>>,
}

impl Generation {
    /// The next piece of text; `None` = there are no more, ask [`Generation::finish`].
    pub async fn next(&mut self) -> Option<String> {
        self.pieces.recv().await
    }

    /// How it went, and the text that was not handed out yet.
    ///
    /// # Errors
    /// The engine failed or is gone.
    pub async fn finish(mut self) -> Result<Finished, Fault> {
        self.pieces.close();
        let mut unread = String::new();
        while let Ok(piece) = self.pieces.try_recv() {
            unread += &piece;
        }
        let mut finished = self.end.await.map_err(|_gone| gone())??;
        finished.rest.insert_str(0, &unread);
        Ok(finished)
    }
}

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each input, in their order, of length one.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens in all inputs.
    pub input: Tokens,
}

/// What the engine is busy with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Slots with a request, and embeddings under way.
    pub busy: u32,
    /// Requests that wait for a slot.
    pub waiting: u32,
}

/// A loaded model. Clones share it; the thread ends with the last of them.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<Model>,
    facts: Facts,
    spec: Spec,
    jobs: mpsc::Sender<Job>,
    occupancy: watch::Receiver<Occupancy>,
}

impl Engine {
    /// Checks the file's header, loads the model, and starts the thread.
    ///
    /// # Errors
    /// [`EngineError`], where the file, the configuration or llama.cpp refuses.
    pub async fn start(spec: Spec) -> Result<Self, EngineError> {
        let started = Instant::now();
        let loading = spec.clone();
        let model = tokio::task::spawn_blocking(move || {
            let file = |source| EngineError::File { path: loading.path.clone(), source };
            let header = Header::open(&loading.path).map_err(file)?;
            spec::check(&loading, &header)?;
            Model::load(&loading, &header).map(Arc::new)
        });
        let model = model.await.map_err(|error| EngineError::Thread(error.to_string()))??;
        let (jobs, inbox) = mpsc::channel(spec.slots as usize);
        let (occupied, occupancy) = watch::channel(Occupancy::default());
        let (ready, is_ready) = oneshot::channel();
        let (thread_model, thread_spec) = (Arc::clone(&model), spec.clone());
        std::thread::Builder::new()
            .name("llama.cpp".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || scheduler::run(&thread_model, &thread_spec, inbox, &occupied, ready))
            .map_err(|error| EngineError::Thread(error.to_string()))?;
        let dimensions = is_ready
            .await
            .map_err(|_died| EngineError::Thread("it panicked while starting".to_owned()))??;
        let facts = Facts {
            context_per_slot: spec.context_per_slot,
            slots: spec.slots,
            embedding_dimensions: dimensions,
            weights: model.weights,
            own_template: model.has_own_template(),
            load: started.elapsed(),
        };
        Ok(Self { model, facts, spec, jobs, occupancy })
    }

    /// What was loaded.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the engine is busy with, now and as it changes.
    #[must_use]
    pub fn occupancy(&self) -> watch::Receiver<Occupancy> {
        self.occupancy.clone()
    }

    /// Waits until the thread has ended, which happens only after repeated failures of llama.cpp.
    pub async fn failed(&self) {
        self.jobs.closed().await;
    }

    /// Starts an answer.
    ///
    /// # Errors
    /// The request does not fit the context or the model, or all slots and the queue are taken.
    pub async fn generate(&self, request: Generate) -> Result<Generation, Fault> {
        if !self.spec.generate {
            let text = "this model gives vectors, not text";
            return Err(Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field("model"));
        }
        let submitted = Instant::now();
        let (engine, cancel) = (self.clone(), request.cancel.clone());
        let prepared = tokio::task::spawn_blocking(move || engine.prepare(&request));
        let (tokens, sampler, text, output_max) = prepared
            .await
            .map_err(|error| Fault::internal(format!("preparing the prompt failed: {error}")))??;
        let (pieces_in, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let (end_in, end) = oneshot::channel();
        self.submit(Job::Generate(GenerateJob {
            tokens,
            sampler,
            text,
            output_max,
            cancel,
            pieces: pieces_in,
            end: end_in,
            submitted,
        }))?;
        Ok(Generation { pieces, end })
    }

    /// Vectors of texts, normalised to length one.
    ///
    /// # Errors
    /// A text does not fit the context, the model was not loaded for this, or the queue is full.
    pub async fn embed(&self, inputs: Vec<String>, cancel: CancellationToken) -> Result<Embedded, Fault> {
        if !self.spec.embed {
            let text = "this model was not configured to give vectors (embed = true)";
            return Err(Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field("model"));
        }
        let engine = self.clone();
        let tokens = tokio::task::spawn_blocking(move || {
            let tokens = inputs.iter().map(|input| engine.model.text_tokens(input));
            let tokens: Vec<_> = tokens.collect();
            for (index, tokens) in tokens.iter().enumerate() {
                let field = format!("inputs[{index}]");
                if tokens.is_empty() {
                    return Err(Fault::invalid(&field, format!("{field} has no tokens, expected a text")));
                }
                engine.fits(tokens.len(), 0).map_err(|fault| fault.in_field(field))?;
            }
            Ok::<_, Fault>(tokens)
        });
        let tokens = tokens
            .await
            .map_err(|error| Fault::internal(format!("reading the inputs failed: {error}")))??;
        let (end_in, end) = oneshot::channel();
        self.submit(Job::Embed(EmbedJob::new(tokens, cancel, end_in)))?;
        end.await.map_err(|_gone| gone())?
    }

    fn submit(&self, job: Job) -> Result<(), Fault> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                let text = format!("all {} slots of the model and its queue are taken", self.spec.slots);
                Fault::new(Code::Busy, Origin::Local, true, text)
            }
            mpsc::error::TrySendError::Closed(_) => gone(),
        })
    }

    fn prepare(&self, request: &Generate) -> Result<Prepared, Fault> {
        self.may_fit(&request.messages)?;
        let tokens = self.model.prompt(&request.messages, request.now)?;
        // max_tokens is an upper bound: an answer that the context cuts short ends with `length`
        let room = self.fits(tokens.len(), 1)?;
        let context = self.spec.context_per_slot;
        let sampler = Sampler::new(&self.model.llama, &request.sampling, &request.format, context)?;
        let output_max = request.max_tokens.unwrap_or(room).min(room);
        Ok((tokens, sampler, Assembler::new(request.stop.clone()), output_max))
    }

    /// Tokens that are left for an answer after such a prompt, if at least `wanted`.
    fn fits(&self, prompt: usize, wanted: u32) -> Result<u32, Fault> {
        let context = self.spec.context_per_slot;
        let left = u32::try_from(prompt).ok().and_then(|prompt| context.checked_sub(prompt));
        left.filter(|left| *left >= wanted).ok_or_else(|| {
            let answer = match wanted {
                0 => String::new(),
                wanted => format!(
                    " and the answer may have {wanted}, {} together",
                    prompt.saturating_add(wanted as usize)
                ),
            };
            let text = format!("the prompt has {prompt} tokens{answer}; the model's context has {context}");
            Fault::new(Code::ContextLengthExceeded, Origin::Caller, false, text).in_field("messages")
        })
    }

    /// Refuses what cannot fit however it is cut into tokens, before work is spent on cutting it.
    fn may_fit(&self, messages: &[Message]) -> Result<(), Fault> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let fewest = bytes / self.model.longest_piece.max(1);
        let context = self.spec.context_per_slot;
        if fewest <= context as usize {
            return Ok(());
        }
        let text = format!("the messages have at least {fewest} tokens; the model's context has {context}");
        Err(Fault::new(Code::ContextLengthExceeded, Origin::Caller, false, text).in_field("messages"))
    }
}

type Prepared = (Vec<llama_cpp_2::token::LlamaToken>, Sampler, Assembler, u32);

fn gone() -> Fault {
    Fault::new(Code::Unavailable, Origin::Local, true, "the engine ended before the answer did")
}
