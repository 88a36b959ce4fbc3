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

mod dialogue;
mod embedder;
mod generation;
mod model;
mod sampling;
mod saved;
mod scheduler;
mod slot;
mod spec;
mod template;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::units::Tokens;

use crate::gguf::Header;
use dialogue::Reader;
pub use dialogue::{Abilities, Message, Syntax, Tool, ToolCall, ToolChoice, Tools};
pub use generation::{Finish, Finished, Generation, Piece, Usage};
use model::{Model, Prompt};
use sampling::{Form, Sampler, Thought};
pub use sampling::{Format, Likelihood, Sampling, TokenLogprob};
use saved::{Action, SlotsJob};
use scheduler::{EmbedJob, GenerateJob, Job};
pub use spec::{EngineError, Facts, Spec};
use template::Conversation;
pub use template::TemplateError;
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
    /// What the model may call.
    pub tools: Tools,
    /// Further variables of the chat template, as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The form of the answer.
    pub format: Format,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Longest answer; `None` = until the slot's context is full.
    pub max_tokens: Option<u32>,
    /// How likely each token was, beside so many of the likeliest; `None` = not asked for.
    pub logprobs: Option<u32>,
    /// The time, for templates that state the date.
    pub now: OffsetDateTime,
    /// Ends the request at the next token.
    pub cancel: CancellationToken,
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
            abilities: model.abilities,
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
        let prepared = prepared
            .await
            .map_err(|error| Fault::internal(format!("preparing the prompt failed: {error}")))??;
        let (pieces_in, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let (end_in, end) = oneshot::channel();
        self.submit(Job::Generate(GenerateJob {
            tokens: prepared.tokens,
            sampler: prepared.sampler,
            text: prepared.text,
            output_max: prepared.output_max,
            logprobs: prepared.logprobs,
            shows_marks: prepared.shows_marks,
            cancel,
            pieces: pieces_in,
            end: end_in,
            submitted,
        }))?;
        Ok(Generation::new(pieces, end, prepared.reader))
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

    /// Writes the slots without a request to a folder, up to so many bytes; how many it were.
    pub async fn save_slots(&self, folder: PathBuf, bytes_max: u64) -> usize {
        self.slots_on_disk(Action::Save { bytes_max }, folder).await
    }

    /// Reads slots that [`Engine::save_slots`] has written, and removes their files; how many it were. Before the first
    /// request: the slots are overwritten.
    pub async fn restore_slots(&self, folder: PathBuf) -> usize {
        self.slots_on_disk(Action::Restore, folder).await
    }

    async fn slots_on_disk(&self, action: Action, folder: PathBuf) -> usize {
        let (done, answer) = oneshot::channel();
        match self.jobs.send(Job::Slots(SlotsJob { action, folder, done })).await {
            Ok(()) => answer.await.unwrap_or(0),
            Err(_thread_gone) => 0,
        }
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
        let (messages, tools) = (request.messages.as_slice(), &request.tools);
        let conversation =
            Conversation { messages, tools: &tools.offered, variables: &request.variables, now: request.now };
        self.may_fit(&conversation)?;
        let Prompt { tokens, thought } = self.model.prompt(&conversation)?;
        // max_tokens is an upper bound: an answer that the context cuts short ends with `length`
        let room = self.fits(tokens.len(), 1)?;
        let context = self.spec.context_per_slot;
        let Abilities { calls, thinks } = self.model.abilities;
        let syntax = calls.filter(|_| !tools.offered.is_empty());
        let form = Form { format: &request.format, tools, syntax, thought };
        let sampler = Sampler::new(&self.model.llama, &request.sampling, &form, context)?;
        let names = tools.offered.iter().map(|tool| tool.name.clone()).collect();
        Ok(Prepared {
            tokens,
            sampler,
            text: Assembler::new(request.stop.clone()),
            reader: Reader::new(thinks, thought == Thought::Begun, syntax, names),
            output_max: request.max_tokens.unwrap_or(room).min(room),
            logprobs: request.logprobs,
            shows_marks: thinks || syntax.is_some(),
        })
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
    fn may_fit(&self, conversation: &Conversation<'_>) -> Result<(), Fault> {
        let fewest = conversation.bytes() / self.model.longest_piece.max(1);
        let context = self.spec.context_per_slot;
        if fewest <= context as usize {
            return Ok(());
        }
        let text = format!("the messages have at least {fewest} tokens; the model's context has {context}");
        Err(Fault::new(Code::ContextLengthExceeded, Origin::Caller, false, text).in_field("messages"))
    }
}

/// A request that is ready to compute.
struct Prepared {
    tokens: Vec<llama_cpp_2::token::LlamaToken>,
    sampler: Sampler,
    text: Assembler,
    reader: Reader,
    output_max: u32,
    logprobs: Option<u32>,
    shows_marks: bool,
}

fn gone() -> Fault {
    Fault::new(Code::Unavailable, Origin::Local, true, "the engine ended before the answer did")
}
