//! The report that people read.

use std::fmt;

use crate::memory::RESIDENT_BYTES_MAX;
use crate::rounds::Mode;
use crate::summary::{Bound, Row, Summary};
use crate::target::Target;

/// Writes the tables.
///
/// # Errors
/// `out` does not take them.
pub fn write(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    whole(out, summary)?;
    streams(out, summary)?;
    ratios(out, summary)?;
    memory(out, summary)?;
    rest(out, summary)
}

/// The tables as text.
#[must_use]
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write(&mut text, summary);
    text
}

fn rows(summary: &Summary, mode: Mode) -> Vec<&Row> {
    let mut rows: Vec<&Row> = summary.rows.iter().filter(|row| row.mode == mode).collect();
    rows.sort_by_key(|row| (row.connections, row.target));
    rows
}

fn whole(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    writeln!(out, "Answers in one body (times in ms, CPU in µs)")?;
    writeln!(
        out,
        "{:>11}  {:<7} {:>10} {:>9} {:>9} {:>10} {:>10} {:>12} {:>6} {:>9}",
        "connections",
        "target",
        "requests/s",
        "p50",
        "p99",
        "added p50",
        "added p99",
        "CPU/request",
        "busy",
        "failures"
    )?;
    for row in rows(summary, Mode::Whole) {
        writeln!(
            out,
            "{:>11}  {:<7} {:>10.0} {:>9.3} {:>9.3} {:>10} {:>10} {:>12} {:>6} {:>9}",
            row.connections,
            row.target.name(),
            row.requests_per_s,
            row.p50_us / 1e3,
            row.p99_us / 1e3,
            added(row.added_p50_us),
            added(row.added_p99_us),
            measured(row, row.cpu_us_per_request),
            busy(row),
            row.failures,
        )?;
    }
    writeln!(out)
}

fn streams(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    writeln!(out, "Streams (times in ms, CPU in µs)")?;
    writeln!(
        out,
        "{:>11}  {:<7} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10} {:>6} {:>9}",
        "connections",
        "target",
        "chunks/s",
        "streams/s",
        "first chunk",
        "p50",
        "added p50",
        "CPU/chunk",
        "busy",
        "failures"
    )?;
    for row in rows(summary, Mode::Stream) {
        writeln!(
            out,
            "{:>11}  {:<7} {:>10.0} {:>10.0} {:>11.3} {:>10.3} {:>10} {:>10} {:>6} {:>9}",
            row.connections,
            row.target.name(),
            row.events_per_s,
            row.requests_per_s,
            row.first_event_p50_us / 1e3,
            row.p50_us / 1e3,
            added(row.added_p50_us),
            measured(row, row.cpu_us_per_event),
            busy(row),
            row.failures,
        )?;
    }
    writeln!(out)
}

fn ratios(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    if summary.ratios.is_empty() {
        return writeln!(out, "No ratios: they need a target and what it is measured by in one run.\n");
    }
    writeln!(out, "Goals (median, lowest to highest of the rounds)")?;
    for ratio in &summary.ratios {
        let goal = ratio.goal;
        let (word, bound) = match goal.bound {
            Bound::Least(least) => ("at least", least),
            Bound::Most(most) => ("at most", most),
        };
        writeln!(
            out,
            "{:>11}  {:<7} by {:<5} {:<11} {:>5.2}  ({:.2} to {:.2}; {word} {bound:.1}: {})",
            ratio.connections,
            goal.target.name(),
            goal.reference.name(),
            goal.figure.name(),
            ratio.ratio,
            ratio.range.0,
            ratio.range.1,
            verdict(ratio.holds()),
        )?;
    }
    writeln!(out)
}

fn memory(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    let Some(memory) = summary.memory else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    writeln!(
        out,
        "Memory of the adapter: {:.1} MB idle, {:.1} MB with {} open streams (below {:.0} MB: {})\n",
        megabytes(memory.idle_bytes),
        megabytes(memory.resident_bytes),
        memory.streams,
        megabytes(RESIDENT_BYTES_MAX),
        verdict(memory.holds()),
    )
}

const fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "MISSED" }
}

/// The processor time of each process, for each number of connections.
fn rest(out: &mut impl fmt::Write, summary: &Summary) -> fmt::Result {
    writeln!(out, "Where the rest goes (CPU in µs for each request, by process)")?;
    for mode in Mode::ALL {
        let what = if mode == Mode::Whole { "one body" } else { "stream" };
        for row in rows(summary, mode).into_iter().filter(|row| row.target != Target::Direct) {
            let mut processes: Vec<_> = row.cpu_us_by_process.iter().collect();
            processes.sort_by(|one, other| other.1.total_cmp(one.1));
            let parts: Vec<String> = processes.iter().map(|(name, cpu)| format!("{name} {cpu:.1}")).collect();
            writeln!(
                out,
                "{:>11}  {:<7} {what:<8}  {}",
                row.connections,
                row.target.name(),
                parts.join(", ")
            )?;
        }
    }
    Ok(())
}

fn added(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| format!("{:.3}", us / 1e3))
}

/// The direct way has no measured processes.
fn measured(row: &Row, value: f64) -> String {
    if row.cpu_us_by_process.is_empty() { "-".to_owned() } else { format!("{value:.1}") }
}

fn busy(row: &Row) -> String {
    if row.cpu_us_by_process.is_empty() { "-".to_owned() } else { format!("{:.0} %", row.busy * 100.0) }
}
