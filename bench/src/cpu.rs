//! Processor time of processes, from `/proc/<pid>/stat`.

use std::time::Duration;

use anyhow::Context as _;

/// A process that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What it is called in the report.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

/// User and system time of all its threads since the start, in steps of the kernel's clock tick (10 ms as a rule).
///
/// # Errors
/// The process is gone.
pub fn used(process: &Process) -> anyhow::Result<Duration> {
    let file = format!("/proc/{}/stat", process.pid);
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("{} is gone ({file})", process.name))?;
    let ticks = ticks(&text).with_context(|| format!("unexpected format of {file}: {text}"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second.max(1))))
}

/// Fields 14 and 15 of proc(5); the second field, the name in brackets, may itself hold brackets and spaces.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn work_shows_as_processor_time() {
        let this = Process { name: "this".to_owned(), pid: std::process::id() };
        let before = used(&this).unwrap();
        let mut sum = 0_u64;
        while used(&this).unwrap() == before {
            sum = (0..100_000_u64).fold(sum, |sum, number| sum ^ number.wrapping_mul(sum | 1));
        }
        assert!(used(&this).unwrap() > before, "{sum}");
    }
}
