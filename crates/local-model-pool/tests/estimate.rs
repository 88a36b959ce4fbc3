//! What a model is estimated to take, and what llama.cpp takes for it, by its own report of every buffer that it allocates:
//! weights, keys and values, intermediate results, output. (Resident memory says less: of the buffer for intermediate results
//! the system only gives what has been written to.) The file is read rather than mapped, so that the weights are among them.
//!
//! The shapes are of random weights: small enough for any machine, different enough to show an error in each part of the
//! formula.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a test")]

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use e2e::gguf::{Shape, Weights};
use local_model_pool::engine::{Engine, Spec};
use local_model_pool::estimate::{self, COMPUTE_BATCH_TOKENS, CacheType, EMBED_SEQUENCES};
use local_model_pool::gguf::Header;
use tracing_subscriber::fmt::MakeWriter;

const SMALL: Shape = Shape {
    layers: 6,
    width: 256,
    heads: 8,
    kv_heads: 2,
    feed_forward: 704,
    vocabulary: 2_048,
    context: 16_384,
    weights: Weights::Q8,
    encoder: false,
};

/// What llama.cpp says.
static LOG: std::sync::LazyLock<Log> = std::sync::LazyLock::new(Log::default);

/// Collects what is logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Mebibytes of all buffers in llama.cpp's report: `… CPU compute buffer size =    16.00 MiB`.
fn reported(log: &str) -> f64 {
    let sizes = log.lines().filter_map(|line| Some(line.split_once("buffer size =")?.1.split_once("MiB")?.0));
    sizes.map(|size| size.trim().parse::<f64>().unwrap()).sum()
}

async fn check(
    name: &str,
    shape: Shape,
    slots: u32,
    context: u32,
    (generate, embed): (bool, bool),
) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    shape.write(&path, 1).unwrap();
    let estimated = estimated(&path, slots, context, (generate, embed));
    let spec = Spec {
        path,
        context_per_slot: context,
        slots,
        threads: 1,
        gpu_layers: 0,
        mmap: false,
        generate,
        embed,
    };
    let before = LOG.text().len();
    drop(Engine::start(spec).await.unwrap());
    let log = LOG.text().split_off(before);
    let measured = reported(&log);
    println!("{name}: estimated {estimated:.2} MiB, measured {measured:.2} MiB, {:.3}", estimated / measured);
    (estimated, measured)
}

fn estimated(path: &Path, slots: u32, context_per_slot: u32, (generate, embed): (bool, bool)) -> f64 {
    let shape = estimate::Shape {
        slots,
        context_per_slot,
        compute_batch: COMPUTE_BATCH_TOKENS,
        cache: CacheType::F16,
        generate,
        embed_sequences: if embed { EMBED_SEQUENCES } else { 0 },
        gpus: 0,
    };
    let estimate = estimate::estimate(&Header::open(path).unwrap(), shape);
    estimate.total().get() as f64 / f64::from(1 << 20)
}

/// All of them in one test: llama.cpp has one log for the whole process.
#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_within_ten_percent_and_never_three_under() {
    tracing_subscriber::fmt().with_writer(LOG.clone()).with_ansi(false).init();
    let (text, vectors, both) = ((true, false), (false, true), (true, true));
    let plain = Shape { kv_heads: 8, weights: Weights::F16, ..SMALL };
    let four_bit = Shape {
        layers: 12,
        width: 512,
        kv_heads: 4,
        feed_forward: 1_408,
        vocabulary: 8_000,
        weights: Weights::Q4,
        ..SMALL
    };
    let encoder = Shape {
        width: 384,
        heads: 12,
        kv_heads: 12,
        feed_forward: 1_536,
        vocabulary: 8_000,
        context: 512,
        weights: Weights::F16,
        encoder: true,
        ..SMALL
    };
    let mut measured = vec![];
    for (name, shape, slots, context, uses) in [
        ("large vocabulary", Shape { vocabulary: 32_000, ..SMALL }, 2, 1_024, text),
        ("plain attention, F16", plain, 4, 1_024, text),
        ("Q4", four_bit, 2, 1_024, text),
        ("long context", SMALL, 1, 16_384, text),
        ("many slots", SMALL, 24, 512, text),
        ("embedding model", encoder, 1, 512, vectors),
        ("text and vectors", Shape { vocabulary: 8_000, ..SMALL }, 2, 512, both),
    ] {
        measured.push((name, check(name, shape, slots, context, uses).await));
    }
    for (name, (estimated, measured)) in measured {
        let ratio = estimated / measured;
        assert!(
            (0.97..=1.10).contains(&ratio),
            "{name}: estimated {estimated}, measured {measured}, {ratio:.3}"
        );
    }
}
