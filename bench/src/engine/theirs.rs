//! llama-server, asked over HTTP with server-sent events.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use e2e::{Child, port, wait};
use serde_json::json;

use super::{AT_ONCE, Answer, COMPUTE_BATCH, CONTEXT, END_TOKEN, Question, START_MAX};
use crate::load::Post;

/// The server; gone when dropped.
#[derive(Debug)]
pub(super) struct Theirs {
    url: String,
    server: Child,
}

impl Theirs {
    pub(super) async fn start(program: &Path, model: &Path, threads: u32) -> anyhow::Result<Self> {
        let port = port::free()?;
        let slots = u32::try_from(AT_ONCE)?;
        let mut command = Command::new(program);
        command.arg("--model").arg(model);
        let numbers = [
            ("--port", u32::from(port)),
            ("--threads", threads),
            ("--threads-batch", threads),
            ("--parallel", slots),
            ("--ctx-size", slots * CONTEXT),
            ("--batch-size", COMPUTE_BATCH),
            ("--ubatch-size", COMPUTE_BATCH),
        ];
        for (option, number) in numbers {
            command.arg(option).arg(number.to_string());
        }
        // As the engine loads: a cache for each slot, 16 bits, flash attention where llama.cpp can.
        command.args([
            "--host",
            "127.0.0.1",
            "--no-kv-unified",
            "--flash-attn",
            "auto",
            "--offline",
            "--log-disable",
        ]);
        command.args(["--cache-type-k", "f16", "--cache-type-v", "f16", "--cache-ram", "0", "--jinja"]);
        let server = Child::spawn("llama-server", &mut command)?;
        let theirs = Self { url: format!("http://127.0.0.1:{port}/v1/chat/completions"), server };
        let question = Question { prompt: "ready?".to_owned(), output_tokens: 1, seed: 0 };
        let mut last = None;
        let ready = wait::until("llama-server", START_MAX, async || {
            theirs.ask(&question).await.map_err(|error| last = Some(error)).ok()
        });
        ready.await.with_context(|| format!("last: {last:?}\n{}", theirs.server.stderr()))?;
        Ok(theirs)
    }

    pub(super) async fn ask(&self, question: &Question) -> anyhow::Result<Answer> {
        let body = json!({
            "messages": [{"role": "user", "content": question.prompt}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": question.output_tokens,
            "temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05,
            "seed": question.seed,
            "logit_bias": {END_TOKEN.to_string(): -100},
        });
        let post = Post { url: self.url.parse()?, key: None, body: body.to_string().into() };
        let started = Instant::now();
        let (mut text, mut first_text) = (Vec::new(), None);
        post.read(|bytes| {
            text.extend_from_slice(bytes);
            // The first event only says who speaks; its content is null.
            if first_text.is_none() && has_content(&text) {
                first_text = Some(started.elapsed());
            }
        })
        .await?;
        let text = String::from_utf8(text)?;
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let usage = events
            .filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok())
            .filter_map(|event| event.pointer("/usage/completion_tokens")?.as_u64())
            .next_back();
        let tokens = usage.with_context(|| format!("an answer without usage: {text}"))?;
        ensure!(
            tokens == u64::from(question.output_tokens),
            "{tokens} tokens, expected {}",
            question.output_tokens
        );
        Ok(Answer { first_text: first_text.context("an answer without text")?, tokens })
    }
}

fn has_content(events: &[u8]) -> bool {
    let start = br#""content":""#;
    events.windows(start.len() + 1).any(|window| window.starts_with(start) && !window.ends_with(b"\""))
}
