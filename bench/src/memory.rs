//! What open streams cost in memory: a part of the run of its own, on an adapter started for it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bus::ReplyStream;
use serde::{Deserialize, Serialize};
use wire::v1::reply_frame::Kind;

use crate::cpu::Process;
use crate::load::{ANSWER_MAX, Ask};
use crate::target::{self, Surroundings, Target};

/// Most that the adapter may hold with all streams open: 60 MB.
pub const RESIDENT_BYTES_MAX: u64 = 60_000_000;
/// Silence between two chunks: every stream has its first long before any has its last.
pub const CHUNK_DELAY: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Streams that were open, each with its first chunk read.
    pub streams: usize,
    /// Resident set of the adapter before the first, in bytes.
    pub idle_bytes: u64,
    /// Resident set with all of them open, in bytes.
    pub resident_bytes: u64,
}

impl Memory {
    /// Whether it is below [`RESIDENT_BYTES_MAX`].
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.resident_bytes < RESIDENT_BYTES_MAX
    }
}

/// Opens the streams and looks. The upstream must leave [`CHUNK_DELAY`] between two chunks.
///
/// # Errors
/// The adapter does not come up, or a stream fails.
pub async fn run(surroundings: &Surroundings, streams: usize, prompt: &str) -> anyhow::Result<Memory> {
    let running = target::start(Target::Adapter, surroundings).await?;
    let Ask::Bus(call) = running.ask(prompt, true) else {
        bail!("the adapter is asked over its bus");
    };
    let adapter = running.processes.first().context("no adapter is measured")?;
    let idle_bytes = resident(adapter)?;
    let mut open = Vec::with_capacity(streams);
    for _ in 0..streams {
        open.push(call.open().await?);
    }
    for stream in &mut open {
        first_chunk(stream).await.with_context(|| running.complaints())?;
    }
    let resident_bytes = resident(adapter)?;
    Ok(Memory { streams: open.len(), idle_bytes, resident_bytes })
}

async fn first_chunk(stream: &mut ReplyStream) -> anyhow::Result<()> {
    loop {
        match stream.next(ANSWER_MAX).await?.kind {
            Some(Kind::Delta(delta)) => {
                ensure!(!delta.items.is_empty(), "a delta without a piece");
                return Ok(());
            }
            Some(Kind::Error(error)) => bail!("{error:?}"),
            Some(Kind::End(_)) => bail!("a stream ended before it was looked at"),
            _ => {}
        }
    }
}

/// `VmRSS` of proc(5).
fn resident(process: &Process) -> anyhow::Result<u64> {
    let file = format!("/proc/{}/status", process.pid);
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("{} is gone ({file})", process.name))?;
    vm_rss(&text).with_context(|| format!("unexpected format of {file}: {text}"))
}

fn vm_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_read_in_bytes() {
        assert_eq!(vm_rss("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    2048 kB\nThreads:\t3\n"), Some(2_097_152));
        assert_eq!(vm_rss("Name:\tx\n"), None);
        let this = Process { name: "this".to_owned(), pid: std::process::id() };
        assert!(resident(&this).unwrap() > 500_000);
    }

    #[test]
    fn the_bound_is_below_sixty_megabytes() {
        let memory = |resident_bytes| Memory { streams: 1, idle_bytes: 0, resident_bytes };
        assert!(memory(59_999_999).holds() && !memory(60_000_000).holds());
    }
}
