//! The loop that owns the context: continuous batching.
//!
//! Each step computes one batch: the last token of every sequence that is generating, and a chunk of the prompts that are
//! not read yet, shared evenly among them. So a long prompt delays the others by one chunk at most, and that is also how
//! soon a cancel takes effect: llama.cpp cannot be interrupted within a batch. Between two steps the loop takes new jobs,
//! drops cancelled ones, and seats those that wait where most of their prompt is in the cache already.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};

use super::embedder::Embedder;
use super::generation::{Drawn, Ended};
use super::model::{Model, backend};
use super::sampling::Sampler;
use super::saved::SlotsJob;
use super::slot::Slot;
use super::text::Assembler;
use super::{Embedded, EngineError, Finish, Occupancy, Spec, Usage};
use crate::estimate::COMPUTE_BATCH_TOKENS;

/// Tokens of prompts in one step. Larger chunks read prompts a little faster and make everyone else, and cancels, wait longer.
const PROMPT_CHUNK: usize = 256;
/// Failed steps in a row after which the engine gives up, to be started anew.
const FAILURES_MAX: u32 = 3;

/// Something to do.
pub(super) enum Job {
    Generate(GenerateJob),
    Embed(EmbedJob),
    Slots(SlotsJob),
}

/// A request for text, ready to compute.
pub(super) struct GenerateJob {
    pub(super) tokens: Vec<LlamaToken>,
    pub(super) sampler: Sampler,
    pub(super) text: Assembler,
    /// Longest answer; with the prompt it fits the slot's context.
    pub(super) output_max: u32,
    /// How many of the likeliest tokens to report beside each drawn one; `None` = nothing is reported.
    pub(super) logprobs: Option<u32>,
    /// Whether control tokens that begin calls or reasoning are shown.
    pub(super) shows_marks: bool,
    pub(super) cancel: CancellationToken,
    pub(super) pieces: mpsc::Sender<Drawn>,
    pub(super) end: oneshot::Sender<Result<Ended, Fault>>,
    pub(super) submitted: Instant,
}

/// A request for vectors, ready to compute.
pub(super) struct EmbedJob {
    /// Inputs without a vector yet.
    pub(super) left: VecDeque<Vec<LlamaToken>>,
    pub(super) done: Embedded,
    pub(super) cancel: CancellationToken,
    pub(super) end: oneshot::Sender<Result<Embedded, Fault>>,
}

impl EmbedJob {
    pub(super) fn new(
        inputs: Vec<Vec<LlamaToken>>,
        cancel: CancellationToken,
        end: oneshot::Sender<Result<Embedded, Fault>>,
    ) -> Self {
        let input = inputs.iter().map(|tokens| domain::units::Tokens::new(tokens.len() as u64)).sum();
        Self { left: inputs.into(), done: Embedded { vectors: vec![], input }, cancel, end }
    }
}

/// Makes the contexts, reports readiness with the length of vectors, and works until the last sender of jobs is gone.
pub(super) fn run(
    model: &Model,
    spec: &Spec,
    inbox: mpsc::Receiver<Job>,
    occupancy: &watch::Sender<Occupancy>,
    ready: oneshot::Sender<Result<u32, EngineError>>,
) {
    let mut scheduler = match Scheduler::new(model, spec, inbox) {
        Ok(scheduler) => scheduler,
        Err(error) => {
            let _starter_gone = ready.send(Err(error));
            return;
        }
    };
    let dimensions = scheduler.embedder.as_ref().map_or(0, Embedder::dimensions);
    let _starter_gone = ready.send(Ok(dimensions));
    while scheduler.take_jobs() {
        let outcome = scheduler.step();
        let now = scheduler.occupancy();
        occupancy.send_if_modified(|last| std::mem::replace(last, now) != now);
        if let Err(error) = outcome {
            tracing::error!(%error, "the engine gives up");
            return;
        }
    }
}

struct Scheduler<'m> {
    model: &'m Model,
    /// Missing for models that only embed.
    context: Option<LlamaContext<'m>>,
    batch: LlamaBatch<'static>,
    slots: Vec<Slot>,
    embedder: Option<Embedder<'m>>,
    inbox: mpsc::Receiver<Job>,
    waiting: VecDeque<GenerateJob>,
    embeds: VecDeque<EmbedJob>,
    context_per_slot: usize,
    step: u64,
    failures: u32,
}

impl<'m> Scheduler<'m> {
    fn new(model: &'m Model, spec: &Spec, inbox: mpsc::Receiver<Job>) -> Result<Self, EngineError> {
        // One after the other: making two contexts of one model at the same time is not sound in llama.cpp.
        let context = if spec.generate { Some(context(model, spec)?) } else { None };
        let embedder = if spec.embed { Some(Embedder::new(model, spec)?) } else { None };
        let slots = if spec.generate { spec.slots } else { 0 };
        Ok(Self {
            model,
            context,
            batch: LlamaBatch::new(PROMPT_CHUNK.saturating_add(slots as usize), 1),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            embedder,
            inbox,
            waiting: VecDeque::new(),
            embeds: VecDeque::new(),
            context_per_slot: spec.context_per_slot as usize,
            step: 0,
            failures: 0,
        })
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(Slot::is_free) && self.waiting.is_empty() && self.embeds.is_empty()
    }

    fn occupancy(&self) -> Occupancy {
        let busy = self.slots.iter().filter(|slot| !slot.is_free()).count().saturating_add(self.embeds.len());
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Occupancy { busy: small(busy), waiting: small(self.waiting.len()) }
    }

    /// Takes jobs from the queue, waiting for one if there is nothing else to do. Returns whether to go on.
    fn take_jobs(&mut self) -> bool {
        if self.is_idle() {
            match self.inbox.blocking_recv() {
                Some(job) => self.enqueue(job),
                None => return false,
            }
        }
        let room = self.inbox.max_capacity();
        while self.waiting.len().max(self.embeds.len()) < room {
            match self.inbox.try_recv() {
                Ok(job) => self.enqueue(job),
                Err(_empty_or_closed) => break,
            }
        }
        true
    }

    fn enqueue(&mut self, job: Job) {
        match job {
            Job::Generate(job) => self.waiting.push_back(job),
            Job::Embed(job) => self.embeds.push_back(job),
            // Without a context there are no slots: dropping the job says so.
            Job::Slots(job) => {
                if let Some(context) = &mut self.context {
                    job.run(context, &mut self.slots, self.context_per_slot);
                }
            }
        }
    }

    /// One round: cancels, seats, computes, draws. An error ends the engine.
    fn step(&mut self) -> Result<(), EngineError> {
        self.step = self.step.wrapping_add(1);
        if let Some(embedder) = &mut self.embedder {
            embedder.step(&mut self.embeds);
        }
        let Some(context) = &mut self.context else { return Ok(()) };
        drop_cancelled(&mut self.waiting);
        for slot in &mut self.slots {
            slot.drop_if_cancelled(self.step);
        }
        while let Some(job) = self.waiting.pop_front() {
            let Some((index, slot)) = best_slot(&mut self.slots, &job.tokens) else {
                self.waiting.push_front(job);
                break;
            };
            slot.seat(job, index, context);
        }
        self.batch.clear();
        let filled = fill(&mut self.slots, &mut self.batch, self.step);
        if self.batch.n_tokens() == 0 {
            return Ok(());
        }
        let computed = match filled {
            Ok(()) => context.decode(&mut self.batch).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = computed {
            return self.fail_all(&reason);
        }
        self.failures = 0;
        for slot in &mut self.slots {
            slot.advance(context, self.model, self.step);
        }
        Ok(())
    }

    /// A batch failed: nothing is known of the cache any more.
    fn fail_all(&mut self, reason: &str) -> Result<(), EngineError> {
        tracing::error!(reason, "llama.cpp failed to compute a batch");
        let text = format!("llama.cpp failed to compute: {reason}");
        let fault = Fault::new(Code::Internal, Origin::Local, true, text);
        for slot in &mut self.slots {
            slot.fail(&fault, self.step);
            slot.forget();
        }
        if let Some(context) = &mut self.context {
            context.clear_kv_cache();
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX { Err(EngineError::Compute(self.failures)) } else { Ok(()) }
    }
}

fn context<'m>(model: &'m Model, spec: &Spec) -> Result<LlamaContext<'m>, EngineError> {
    // llama.cpp rounds each sequence's share up to 256 tokens; asking for the rounded figure keeps estimate and fact equal.
    let per_slot = spec.context_per_slot.next_multiple_of(256);
    let tokens = per_slot.saturating_mul(spec.slots);
    let threads = i32::try_from(spec.threads.max(1)).unwrap_or(1);
    let parameters = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(tokens))
        .with_n_seq_max(spec.slots)
        .with_n_batch(COMPUTE_BATCH_TOKENS)
        .with_n_ubatch(COMPUTE_BATCH_TOKENS)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true);
    let reason = |error: llama_cpp_2::LlamaContextLoadError| EngineError::Context {
        tokens,
        reason: error.to_string(),
    };
    model.llama.new_context(backend()?, parameters).map_err(reason)
}

/// The free slot whose cache holds most of the prompt; of equal ones the longest unused.
fn best_slot<'s>(slots: &'s mut [Slot], prompt: &[LlamaToken]) -> Option<(i32, &'s mut Slot)> {
    let free = (0_i32..).zip(slots).filter(|(_, slot)| slot.is_free());
    free.max_by_key(|(_, slot)| (slot.shared_prefix(prompt), std::cmp::Reverse(slot.used_at())))
}

/// Puts the next step's tokens into the batch.
fn fill(
    slots: &mut [Slot],
    batch: &mut LlamaBatch<'_>,
    step: u64,
) -> Result<(), llama_cpp_2::llama_batch::BatchAddError> {
    for (sequence, slot) in (0_i32..).zip(slots.iter_mut()) {
        slot.add_next(sequence, batch)?;
    }
    let mut reading: Vec<_> = (0_i32..).zip(slots).filter(|(_, slot)| slot.prompt_left() > 0).collect();
    let count = reading.len();
    if count == 0 {
        return Ok(());
    }
    // Begins with another one each time, so that none is always served last.
    #[expect(clippy::cast_possible_truncation, reason = "only the remainder matters")]
    reading.rotate_left(step as usize % count);
    let mut budget = PROMPT_CHUNK;
    for (index, (sequence, slot)) in reading.into_iter().enumerate() {
        let share = budget.div_ceil(count.saturating_sub(index).max(1));
        let taken = share.min(slot.prompt_left());
        slot.add_prompt(sequence, batch, taken)?;
        budget = budget.saturating_sub(taken);
    }
    Ok(())
}

fn drop_cancelled(waiting: &mut VecDeque<GenerateJob>) {
    for job in std::mem::take(waiting) {
        if job.is_cancelled() {
            let input = domain::units::Tokens::ZERO;
            job.finish(Finish::Cancelled, Usage { input, ..Usage::default() }, Drawn::default(), None);
        } else {
            waiting.push_back(job);
        }
    }
}
