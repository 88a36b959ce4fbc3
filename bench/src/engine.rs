//! The local engine beside llama.cpp's own server: the same model file, the same threads, the same options, the same
//! requests, in turn.
//!
//! Both run throughout, and only one of them is asked at any time. A round asks both, the other one first each time, so that
//! a machine that is slow for a while slows both. What is compared are medians over the rounds.

mod ours;
mod report;
mod theirs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::gguf::{END_TOKEN, Shape, Weights};

pub use report::{Report, Row};

/// Requests at once, and so slots on both sides.
pub const AT_ONCE: usize = 8;
/// Tokens of each slot.
const CONTEXT: u32 = 1_024;
/// Tokens that llama.cpp computes at once, as the engine has it.
const COMPUTE_BATCH: u32 = 512;
/// About 176 million parameters, 187 MB.
const SHAPE: Shape = Shape {
    layers: 24,
    width: 768,
    heads: 12,
    kv_heads: 4,
    feed_forward: 2_048,
    vocabulary: 32_000,
    context: 4_096,
    weights: Weights::Q8,
    encoder: false,
};
/// How long a server may take to load.
const START_MAX: Duration = Duration::from_secs(120);
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// What to compare, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// llama.cpp's server.
    pub llama_server: PathBuf,
    /// A model file; `None` = one of random weights.
    pub model: Option<PathBuf>,
    /// Threads that each side computes with.
    pub threads: u32,
    /// How often each side is asked.
    pub rounds: usize,
    /// Words of a prompt.
    pub prompt_words: usize,
    /// Tokens of an answer.
    pub output_tokens: u32,
}

/// What one side did in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Tokens a second of one request alone, from the request to the end of the answer.
    pub single_tokens_per_s: f64,
    /// The same of eight requests at once, together.
    pub eight_tokens_per_s: f64,
    /// From a request alone to its first text.
    pub first_token: Duration,
}

/// A question with its answer's bounds.
#[derive(Debug, Clone)]
struct Question {
    prompt: String,
    output_tokens: u32,
    seed: u64,
}

/// How one answer went.
#[derive(Debug, Clone, Copy)]
struct Answer {
    first_text: Duration,
    tokens: u64,
}

/// One of the two.
#[derive(Debug)]
enum Side {
    Ours(ours::Ours),
    Theirs(theirs::Theirs),
}

impl Side {
    async fn ask(&self, question: Question) -> anyhow::Result<Answer> {
        let asked = async {
            match self {
                Self::Ours(ours) => ours.ask(&question).await,
                Self::Theirs(theirs) => theirs.ask(&question).await,
            }
        };
        tokio::time::timeout(ANSWER_MAX, asked).await.context("no answer in time")?
    }
}

/// Runs the comparison. `progress` is told what is being done.
///
/// # Errors
/// A side does not start, or answers with something else than asked for.
pub async fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> anyhow::Result<Report> {
    ensure!(plan.rounds > 0 && plan.threads > 0, "rounds and threads are at least 1");
    let folder = tempfile::tempdir().context("cannot make a folder for the model")?;
    let model = model(plan.model.as_deref(), folder.path())?;
    progress("starting both sides");
    let ours = Side::Ours(ours::Ours::start(&model, plan.threads).await?);
    let theirs = Side::Theirs(theirs::Theirs::start(&plan.llama_server, &model, plan.threads).await?);
    let mut samples: [Vec<Sample>; 2] = [vec![], vec![]];
    let [of_ours, of_theirs] = &mut samples;
    // The first one warms up: it does not count.
    for round in 0..=plan.rounds {
        progress(&format!("round {round} of {}", plan.rounds));
        let seed = u64::try_from(round)? * 100;
        let (one, other) = if round % 2 == 0 {
            let one = measure(plan, &ours, seed).await.context("local-model-pool")?;
            (one, measure(plan, &theirs, seed).await.context("llama-server")?)
        } else {
            let other = measure(plan, &theirs, seed).await.context("llama-server")?;
            (measure(plan, &ours, seed).await.context("local-model-pool")?, other)
        };
        if round > 0 {
            of_ours.push(one);
            of_theirs.push(other);
        }
    }
    Ok(Report::new(of_ours, of_theirs))
}

fn model(given: Option<&Path>, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("model.gguf");
    match given {
        // The pool loads from one folder only, and no link out of it.
        Some(given) => drop(std::fs::copy(given, &path).with_context(|| given.display().to_string())?),
        None => SHAPE.write(&path, 1).context("cannot write the model")?,
    }
    Ok(path)
}

async fn measure(plan: &Plan, side: &Side, seed: u64) -> anyhow::Result<Sample> {
    let question = |index: u64| Question {
        prompt: prompt(plan.prompt_words, seed + index),
        output_tokens: plan.output_tokens,
        seed: seed + index,
    };
    let started = Instant::now();
    let answer = side.ask(question(0)).await?;
    let single_tokens_per_s = rate(answer.tokens, started.elapsed());
    let first_token = answer.first_text;
    let started = Instant::now();
    let answers = (1..=AT_ONCE as u64).map(|index| side.ask(question(index)));
    let answers = futures::future::try_join_all(answers).await?;
    let tokens = answers.iter().map(|answer| answer.tokens).sum();
    let eight_tokens_per_s = rate(tokens, started.elapsed());
    Ok(Sample { single_tokens_per_s, eight_tokens_per_s, first_token })
}

fn rate(tokens: u64, elapsed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some hundred tokens")]
    let tokens = tokens as f64;
    tokens / elapsed.as_secs_f64()
}

/// Words that no other question begins with, so that neither side has read them already.
fn prompt(words: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<String> = (0..words).map(|_| format!("w{}", random.u32(0..30_000))).collect();
    words.join(" ")
}
