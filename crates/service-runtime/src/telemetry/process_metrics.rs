//! The gauges that Prometheus expects of every process, and the version.
//!
//! Read from `/proc` at each scrape; a value that cannot be read is left out.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, GaugeVec, Opts, Registry};

/// Clock ticks a second in `/proc`: `USER_HZ`, 100 on every Linux architecture in use (`man 5 proc`, `man 7 time`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the process gauges and `hybrid_build_info` to `registry`.
pub(super) fn register(registry: &Registry, service: &str) -> prometheus::Result<()> {
    let build = GaugeVec::new(
        Opts::new("hybrid_build_info", "version of the running service; always 1"),
        &["service", "version"],
    )?;
    build.get_metric_with_label_values(&[service, crate::VERSION])?.set(1.0);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessMetrics::new()?))
}

struct ProcessMetrics {
    cpu: Desc,
    open_fds: Desc,
    resident: Desc,
    start: Desc,
}

const CPU: (&str, &str) = ("process_cpu_seconds_total", "user and system time spent");
const OPEN_FDS: (&str, &str) = ("process_open_fds", "open file descriptors");
const RESIDENT: (&str, &str) = ("process_resident_memory_bytes", "resident memory");
const START: (&str, &str) = ("process_start_time_seconds", "start of the process since the Unix epoch");

impl ProcessMetrics {
    fn new() -> prometheus::Result<Self> {
        let desc = |(name, help): (&str, &str)| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), std::collections::HashMap::new())
        };
        Ok(Self {
            cpu: desc(CPU)?,
            open_fds: desc(OPEN_FDS)?,
            resident: desc(RESIDENT)?,
            start: desc(START)?,
        })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.cpu, &self.open_fds, &self.resident, &self.start]
    }

    /// Built anew each time, since nothing is kept between scrapes.
    fn collect(&self) -> Vec<MetricFamily> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let mut families = Vec::with_capacity(4);
        if let Some(seconds) = cpu_seconds(&stat)
            && let Ok(counter) = Counter::new(CPU.0, CPU.1)
        {
            counter.inc_by(seconds);
            families.extend(counter.collect());
        }
        let gauges = [(OPEN_FDS, open_fds()), (RESIDENT, resident_bytes()), (START, start_seconds(&stat))];
        for ((name, help), value) in gauges {
            if let Some(value) = value
                && let Ok(gauge) = Gauge::new(name, help)
            {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// Field `number` of `/proc/<pid>/stat`, counted from 1 as in `man 5 proc`. The second field is a name in parentheses
/// that may hold spaces, so fields are counted from behind it.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let (user, system) = (14, 15);
    Some((field(stat, user)? + field(stat, system)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str) -> Option<f64> {
    let start = 22;
    let since_boot = field(stat, start)? / TICKS_PER_SECOND;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + since_boot)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_fds() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory being read.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 4 0 1234 1000 99";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(field(stat, 22), Some(1234.0));
    }

    #[test]
    fn this_process_has_all_its_gauges() {
        let registry = Registry::new();
        register(&registry, "test-service").unwrap();
        let families = registry.gather();
        let names: Vec<_> = families.iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names, ["hybrid_build_info", CPU.0, OPEN_FDS.0, RESIDENT.0, START.0]);
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value(RESIDENT.0) > 1024.0 * 1024.0);
        assert!(value(OPEN_FDS.0) >= 3.0);
        assert!(value(START.0) > 1.6e9);
    }
}
