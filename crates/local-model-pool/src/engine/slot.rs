//! One seat in the batch: what its part of the cache holds, and the request that sits there.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::{BatchAddError, LlamaBatch};
use llama_cpp_2::token::LlamaToken;
use tokio::time::Instant;

use domain::fault::{Code, Fault, Origin};
use domain::units::Tokens;

use super::generation::{Drawn, Ended};
use super::model::Model;
use super::sampling::{Likelihood, TokenLogprob, logprobs};
use super::scheduler::GenerateJob;
use super::text::Step;
use super::{Finish, Usage};

/// A request in a slot.
pub(super) struct Active {
    job: GenerateJob,
    /// Tokens of the prompt that were in the cache already.
    cached: usize,
    /// The token drawn last, not computed yet.
    next: Option<LlamaToken>,
    /// Where in the current batch the token stands that the next one follows.
    sample_at: Option<i32>,
    output: u32,
    /// Text that the reader had no room for.
    unsent: Drawn,
    first_token: Option<Instant>,
}

/// One sequence of the context.
#[derive(Default)]
pub(super) struct Slot {
    /// The tokens in the cache, also after the request that put them there has ended.
    held: Vec<LlamaToken>,
    active: Option<Active>,
    /// When the last request ended, as a count of steps: the longest unused slot is reused first.
    used_at: u64,
}

impl Slot {
    pub(super) const fn is_free(&self) -> bool {
        self.active.is_none()
    }

    pub(super) const fn used_at(&self) -> u64 {
        self.used_at
    }

    /// The tokens in the cache; none while a request sits here, whose last ones may not be computed yet.
    pub(super) fn held(&self) -> &[LlamaToken] {
        if self.is_free() { &self.held } else { &[] }
    }

    /// Says what the cache holds, which was read from elsewhere.
    pub(super) fn hold(&mut self, tokens: Vec<LlamaToken>) {
        self.held = tokens;
    }

    /// Tokens at the start of the prompt that the cache holds.
    pub(super) fn shared_prefix(&self, prompt: &[LlamaToken]) -> usize {
        self.held.iter().zip(prompt).take_while(|(held, wanted)| held == wanted).count()
    }

    /// Seats a request. What it shares with the cache is kept, except the last token of the prompt, which must be computed
    /// for the first token to follow it.
    pub(super) fn seat(&mut self, job: GenerateJob, sequence: i32, context: &mut LlamaContext<'_>) {
        let keep = self.shared_prefix(&job.tokens).min(job.tokens.len().saturating_sub(1));
        let cached = if truncate(context, sequence, keep) { keep } else { 0 };
        self.held.truncate(cached);
        self.active = Some(Active {
            job,
            cached,
            next: None,
            sample_at: None,
            output: 0,
            unsent: Drawn::default(),
            first_token: None,
        });
    }

    /// Tokens of the prompt that are not computed yet.
    pub(super) fn prompt_left(&self) -> usize {
        let active = self.active.as_ref().filter(|active| active.next.is_none());
        active.map_or(0, |active| active.job.tokens.len().saturating_sub(self.held.len()))
    }

    /// Adds the token drawn last to the batch, if there is one.
    pub(super) fn add_next(
        &mut self,
        sequence: i32,
        batch: &mut LlamaBatch<'_>,
    ) -> Result<(), BatchAddError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        active.sample_at = None;
        let Some(token) = active.next else { return Ok(()) };
        batch.add(token, position(self.held.len()), &[sequence], true)?;
        active.sample_at = Some(batch.n_tokens().saturating_sub(1));
        self.held.push(token);
        Ok(())
    }

    /// Adds up to `count` further tokens of the prompt to the batch.
    pub(super) fn add_prompt(
        &mut self,
        sequence: i32,
        batch: &mut LlamaBatch<'_>,
        count: usize,
    ) -> Result<(), BatchAddError> {
        let left = self.prompt_left();
        let Some(active) = &mut self.active else { return Ok(()) };
        let chunk = active.job.tokens.iter().skip(self.held.len()).take(count.min(left));
        let finishes = count >= left;
        for (index, token) in chunk.enumerate() {
            let is_last = finishes && index.saturating_add(1) == left;
            batch.add(*token, position(self.held.len().saturating_add(index)), &[sequence], is_last)?;
            if is_last {
                active.sample_at = Some(batch.n_tokens().saturating_sub(1));
            }
        }
        let end = self.held.len().saturating_add(count.min(left));
        self.held.extend(active.job.tokens.get(self.held.len()..end).unwrap_or_default());
        Ok(())
    }

    /// Draws the next token after a batch, hands out its text, and frees the slot if that was the end.
    pub(super) fn advance(&mut self, context: &LlamaContext<'_>, model: &Model, step: u64) {
        let Some(active) = &mut self.active else { return };
        let Some(index) = active.sample_at.take() else { return };
        let Ok(token) = active.job.sampler.sample(context, index) else {
            let text = "no token of this model continues the answer in the form that was asked for";
            return self.fail(&Fault::new(Code::Internal, Origin::Local, false, text), step);
        };
        active.first_token.get_or_insert_with(Instant::now);
        active.output = active.output.saturating_add(1);
        active.unsent.tokens = active.unsent.tokens.saturating_add(1);
        let vocabulary = model.llama.vocab();
        if vocabulary.is_eog(token) {
            let rest = active.job.text.finish();
            active.unsent.text.push_str(&rest);
            return self.end(Finish::Stop, step);
        }
        if let Some(top) = active.job.logprobs {
            active.unsent.logprobs.push(likelihoods(context.get_logits_ith(index), token, top, model));
        }
        let shown = active.job.shows_marks && model.marks.contains(&token);
        match active.job.text.push(&vocabulary.token_to_piece(token, shown, None)) {
            Step::Stopped(text) => {
                active.unsent.text.push_str(&text);
                return self.end(Finish::Stop, step);
            }
            Step::Text(text) => active.unsent.text.push_str(&text),
        }
        if active.output >= active.job.output_max {
            let rest = active.job.text.finish();
            active.unsent.text.push_str(&rest);
            return self.end(Finish::Length, step);
        }
        active.next = Some(token);
        active.send();
    }

    /// Ends a request whose caller gave up. Returns whether there was one.
    pub(super) fn drop_if_cancelled(&mut self, step: u64) {
        if self.active.as_ref().is_some_and(|active| active.job.is_cancelled()) {
            self.end(Finish::Cancelled, step);
        }
    }

    /// Ends the request with a fault and forgets what the cache holds.
    pub(super) fn fail(&mut self, fault: &Fault, step: u64) {
        self.used_at = step;
        if let Some(active) = self.active.take() {
            let _reader_gone = active.job.end.send(Err(fault.clone()));
        }
    }

    /// Forgets what the cache holds, after a failure.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }

    fn end(&mut self, finish: Finish, step: u64) {
        self.used_at = step;
        let Some(mut active) = self.active.take() else { return };
        let usage = Usage {
            input: Tokens::new(active.job.tokens.len() as u64),
            cached: Tokens::new(active.cached as u64),
            output: Tokens::new(active.output.into()),
            reasoning: Tokens::ZERO,
        };
        let rest = std::mem::take(&mut active.unsent);
        active.job.finish(finish, usage, rest, active.first_token);
    }
}

impl Active {
    /// Hands out text without waiting for a slow reader.
    fn send(&mut self) {
        if self.unsent.text.is_empty() {
            return;
        }
        if let Ok(permit) = self.job.pieces.try_reserve() {
            permit.send(std::mem::take(&mut self.unsent));
        }
    }
}

impl GenerateJob {
    /// Whether the caller gave up or went away.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.end.is_closed()
    }

    /// Sends the end of the answer.
    pub(super) fn finish(self, finish: Finish, usage: Usage, rest: Drawn, first_token: Option<Instant>) {
        let ended = Ended {
            finish,
            usage,
            rest,
            time_to_first_token: first_token.map(|at| at.saturating_duration_since(self.submitted)),
            total: self.submitted.elapsed(),
        };
        drop(self.pieces);
        let _reader_gone = self.end.send(Ok(ended));
    }
}

/// A token's likelihood and those of the likeliest ones.
fn likelihoods(logits: &[f32], token: LlamaToken, top: u32, model: &Model) -> TokenLogprob {
    let vocabulary = model.llama.vocab();
    let likelihood = |token: LlamaToken, logprob: f32| Likelihood {
        bytes: vocabulary.token_to_piece(token, true, None),
        logprob,
    };
    let chosen = usize::try_from(token.0).unwrap_or(usize::MAX);
    let (logprob, top) = logprobs(logits, chosen, top as usize);
    let top = top
        .into_iter()
        .map(|(index, logprob)| likelihood(LlamaToken(i32::try_from(index).unwrap_or(i32::MAX)), logprob));
    TokenLogprob { token: likelihood(token, logprob), top: top.collect() }
}

/// Removes a sequence's cache from `keep` on. Models with a running state instead of a cache cannot go back part of the way:
/// then everything is removed, and `false` returned.
fn truncate(context: &mut LlamaContext<'_>, sequence: i32, keep: usize) -> bool {
    let sequence = u32::try_from(sequence).ok();
    let from = u32::try_from(keep).ok();
    let partly = context.clear_kv_cache_seq(sequence, from, None).unwrap_or(false);
    if !partly {
        let _wholly = context.clear_kv_cache_seq(sequence, None, None);
    }
    partly
}

fn position(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
