//! The answer on stdout; reasoning, progress and the summary on stderr.

use std::time::Duration;

use serde::Serialize;
use wire::v1;

use super::answer::Answer;
use crate::output::Output;
use crate::plan;
use crate::view::{self, DecisionView, TokensView};

/// Puts the cursor at the start of its line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Shows an answer as it comes.
pub(super) struct Show<'a> {
    output: &'a Output,
    json: bool,
    verbose: bool,
    /// Whether a phase stands on the terminal.
    phase_shown: bool,
    /// Whether reasoning was the last that was shown, without a line break behind it.
    reasoning: bool,
}

/// Everything about a finished request.
#[derive(Debug, Serialize)]
struct AnswerView<'a> {
    request_id: &'a str,
    text: String,
    reasoning: String,
    finish_reason: String,
    deployment: String,
    provider: String,
    model: String,
    tier: String,
    machine: String,
    usage: TokensView,
    /// Of the attempt that answered.
    cost_picodollars: i64,
    /// Of all attempts.
    request_cost_picodollars: i64,
    request_cost_dollars: String,
    time_to_first_token_ms: u64,
    total_ms: u64,
    /// Measured here, the way over the bus included.
    elapsed_ms: u64,
    attempt: u32,
    decision: Option<DecisionView>,
}

impl<'a> Show<'a> {
    pub(super) const fn new(output: &'a Output, json: bool, verbose: bool) -> Self {
        Self { output, json, verbose, phase_shown: false, reasoning: false }
    }

    /// What the executor does while there is nothing to read yet.
    pub(super) fn phase(&mut self, heartbeat: &v1::Heartbeat) {
        if !self.output.err_is_terminal || self.json || heartbeat.phase.is_empty() {
            return;
        }
        let progress = match heartbeat.progress_percent {
            0 => String::new(),
            percent => format!(" {percent} %"),
        };
        let text = crate::table::printable(&format!("… {}{progress}", heartbeat.phase));
        // Once something of the answer stands in the line it is not cleared any more.
        if !self.reasoning && (self.phase_shown || heartbeat.phase != "generating") {
            self.output.note_piece(&format!("{CLEAR}{}", self.output.err.dim(&text)));
            self.phase_shown = true;
        }
    }

    fn clear_phase(&mut self) {
        if std::mem::take(&mut self.phase_shown) {
            self.output.note_piece(CLEAR);
        }
    }

    /// Shows pieces. False when nobody reads them any more.
    pub(super) fn delta(&mut self, delta: &v1::Delta) -> bool {
        if self.json {
            return true;
        }
        self.clear_phase();
        for item in &delta.items {
            if !item.reasoning.is_empty() {
                let text = for_terminal(&item.reasoning, self.output.err_is_terminal);
                self.output.note_piece(&self.output.err.dim(&text));
                self.reasoning = true;
            }
            if !item.text.is_empty() {
                if std::mem::take(&mut self.reasoning) {
                    self.output.note_piece("\n");
                }
                if !self.output.write(&for_terminal(&item.text, self.output.out_is_terminal)) {
                    return false;
                }
            }
        }
        true
    }

    /// Ends the last line.
    pub(super) fn end_of_answer(&mut self, answer: &Answer) {
        self.clear_phase();
        if std::mem::take(&mut self.reasoning) {
            self.output.note_piece("\n");
        }
        if !self.json && !answer.text.is_empty() && !answer.text.ends_with('\n') {
            self.output.line("");
        }
    }

    /// Says where it ran, what it cost and how long it took.
    pub(super) fn summary(
        &self,
        request_id: &str,
        end: v1::End,
        answer: Answer,
        elapsed: Duration,
    ) -> anyhow::Result<()> {
        let usage = end.usage.unwrap_or_default();
        if self.json {
            return self.output.json(&AnswerView {
                request_id,
                text: answer.text,
                reasoning: answer.reasoning,
                finish_reason: view::finish_reason(end.finish_reason),
                tier: view::tier(end.tier),
                deployment: end.deployment,
                provider: end.provider,
                model: end.model,
                machine: end.machine,
                usage: usage.into(),
                cost_picodollars: end.cost_picodollars,
                request_cost_picodollars: end.request_cost_picodollars,
                request_cost_dollars: view::dollars(end.request_cost_picodollars),
                time_to_first_token_ms: end.time_to_first_token_ms,
                total_ms: end.total_ms,
                elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                attempt: end.attempt,
                decision: answer.decision.map(DecisionView::from),
            });
        }
        self.output.note(&self.output.err.dim(&summary(&end, &usage)));
        self.explain(answer.decision, request_id);
        Ok(())
    }

    /// Says why, also of a request that failed.
    pub(super) fn refused(&self, answer: Answer) {
        if !self.json {
            self.explain(answer.decision, "");
        }
    }

    fn explain(&self, decision: Option<v1::Decision>, request_id: &str) {
        if !self.verbose {
            return;
        }
        if !request_id.is_empty() {
            self.output.note(&format!("request {request_id}"));
        }
        for line in decision.map(DecisionView::from).iter().flat_map(plan::lines) {
            self.output.note(&line);
        }
    }
}

/// `local-cpu · mainpc/llama.cpp/demo · $0.00 · first token 12 ms · 48 ms · 9+3 tokens`.
fn summary(end: &v1::End, usage: &v1::TokenUsage) -> String {
    let about = if usage.estimated { "~" } else { "" };
    let mut parts = vec![
        view::tier(end.tier),
        crate::table::printable(&end.deployment),
        view::money(end.request_cost_picodollars),
        format!("first token {} ms", end.time_to_first_token_ms),
        format!("{} ms", end.total_ms),
        format!("{about}{}+{about}{} tokens", usage.input, usage.output),
    ];
    if end.attempt > 1 {
        parts.push(format!("attempt {}", end.attempt));
    }
    if end.finish_reason() != v1::FinishReason::Stop {
        parts.push(format!("ended by {}", view::finish_reason(end.finish_reason)));
    }
    parts.join(" · ")
}

/// A model's control characters never reach a terminal; a pipe gets the text as it is.
fn for_terminal(text: &str, terminal: bool) -> String {
    if !terminal {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> v1::End {
        v1::End {
            finish_reason: v1::FinishReason::Stop.into(),
            deployment: "mainpc/llama.cpp/demo".to_owned(),
            tier: v1::Tier::LocalCpu.into(),
            time_to_first_token_ms: 12,
            total_ms: 48,
            attempt: 1,
            ..v1::End::default()
        }
    }

    #[test]
    fn the_summary_is_one_line() {
        let usage = v1::TokenUsage { input: 9, output: 3, ..v1::TokenUsage::default() };
        assert_eq!(
            summary(&end(), &usage),
            "local-cpu · mainpc/llama.cpp/demo · $0.00 · first token 12 ms · 48 ms · 9+3 tokens"
        );
    }

    #[test]
    fn what_is_unusual_stands_in_the_summary() {
        let usage = v1::TokenUsage { input: 9, output: 3, estimated: true, ..v1::TokenUsage::default() };
        let end = v1::End { attempt: 2, finish_reason: v1::FinishReason::Length.into(), ..end() };
        let line = summary(&end, &usage);
        assert!(line.ends_with("~9+~3 tokens · attempt 2 · ended by length"), "{line}");
    }

    #[test]
    fn a_model_cannot_clear_the_screen_and_a_pipe_gets_every_byte() {
        assert_eq!(for_terminal("a\x1b[2J\n\tb", true), "a\u{fffd}[2J\n\tb");
        assert_eq!(for_terminal("a\x1b[2J", false), "a\x1b[2J");
    }
}
