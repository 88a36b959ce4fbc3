//! The machine's own memory, as Linux tells it.
//!
//! Sources: `/proc/meminfo` and `/proc/<pid>/status` (proc(5)); control groups: `memory.max`, `memory.current`,
//! `memory.stat` (<https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>) and version 1's
//! `memory.limit_in_bytes`, `memory.usage_in_bytes`. Page cache that can be given back counts as available, as it does in
//! `MemAvailable`: model files that are mapped stay there between loads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::{units::Bytes, vram::ProcessUse};

/// The memory can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SystemMemoryError {
    /// No such file, or no right to it.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file lacks a figure.
    #[error("{path} has no line {key}, expected `{key}: <number> kB`")]
    Missing {
        /// The file.
        path: String,
        /// The line.
        key: &'static str,
    },
}

/// An amount and what is left of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// All of it.
    pub total: Bytes,
    /// What could be used without taking any from somebody.
    pub available: Bytes,
}

/// The memory at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The whole machine's.
    pub machine: Extent,
    /// The tightest limit on this process's control group, where one is below the machine's memory.
    pub limit: Option<Extent>,
    /// What the processes that were asked about use that can't be given back. One that is not seen is left out.
    pub processes: Vec<ProcessUse>,
}

/// Where to read.
#[derive(Debug, Clone)]
pub struct SystemMemory {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for SystemMemory {
    fn default() -> Self {
        Self::at("/proc", "/sys/fs/cgroup")
    }
}

impl SystemMemory {
    /// With other roots in place of `/proc` and `/sys/fs/cgroup`.
    #[must_use]
    pub fn at(proc: impl Into<PathBuf>, cgroup: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), cgroup: cgroup.into() }
    }

    /// Reads the memory, and what `pids` use.
    ///
    /// # Errors
    /// [`SystemMemoryError`] where the machine's memory can't be read; control groups and processes are optional.
    pub fn read(&self, pids: &[u32]) -> Result<Reading, SystemMemoryError> {
        let path = self.proc.join("meminfo");
        let text = fs::read_to_string(&path)
            .map_err(|source| SystemMemoryError::Read { path: path.display().to_string(), source })?;
        let figure = |key| {
            kilobytes(&text, key)
                .ok_or_else(|| SystemMemoryError::Missing { path: path.display().to_string(), key })
        };
        let machine = Extent { total: figure("MemTotal")?, available: figure("MemAvailable")? };
        let limit = self.limit().filter(|limit| limit.total < machine.total);
        let processes = pids.iter().filter_map(|pid| self.process(*pid)).collect();
        Ok(Reading { machine, limit, processes })
    }

    fn process(&self, pid: u32) -> Option<ProcessUse> {
        let text = fs::read_to_string(self.proc.join(pid.to_string()).join("status")).ok()?;
        let used = kilobytes(&text, "RssAnon")? + kilobytes(&text, "RssShmem").unwrap_or(Bytes::ZERO);
        Some(ProcessUse { pid, used })
    }

    /// The lowest limit and the least that is available over the group and all groups above it.
    fn limit(&self) -> Option<Extent> {
        let text = fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        let mut tightest: Option<Extent> = None;
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let (root, files) = if controllers.is_empty() {
                (self.cgroup.clone(), &V2)
            } else if controllers.split(',').any(|controller| controller == "memory") {
                (self.cgroup.join("memory"), &V1)
            } else {
                continue;
            };
            let own = root.join(path.trim_start_matches('/'));
            // In a container the path may be the host's, and the group itself is at the root.
            let own = if own.is_dir() { own } else { root.clone() };
            for group in own.ancestors().take_while(|group| group.starts_with(&root)) {
                let Some(extent) = files.extent(group) else { continue };
                tightest = Some(tightest.map_or(extent, |known| Extent {
                    total: known.total.min(extent.total),
                    available: known.available.min(extent.available),
                }));
            }
        }
        tightest
    }
}

/// The files of one version of control groups.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Line of `memory.stat` with the page cache that is given back first.
    inactive: &'static str,
}

const V2: Files = Files { limit: "memory.max", used: "memory.current", inactive: "inactive_file" };
const V1: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive: "total_inactive_file" };

impl Files {
    fn extent(&self, group: &Path) -> Option<Extent> {
        // `max` is no number, and no limit.
        let total = Bytes::new(number(&group.join(self.limit))?);
        let used = Bytes::new(number(&group.join(self.used)).unwrap_or(0));
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let inactive = stat
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(key, _)| *key == self.inactive)
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        let held = used.saturating_sub(Bytes::new(inactive));
        Some(Extent { total, available: total.saturating_sub(held) })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The figure of a `Key:   123 kB` line; the unit is KiB in spite of its name.
fn kilobytes(text: &str, key: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes::new(count.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:  1000 kB\nMemAvailable:    8192000 kB\n";

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, SystemMemory) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let memory = SystemMemory::at(dir.path().join("proc"), dir.path().join("cgroup"));
        (dir, memory)
    }

    fn kib(count: u64) -> Bytes {
        Bytes::new(count * 1024)
    }

    #[test]
    fn the_machines_memory_is_read() {
        let (_dir, memory) = machine(&[
            ("proc/meminfo", MEMINFO),
            ("proc/7/status", "Name:\tx\nRssAnon:\t  300 kB\nRssFile:\t 900 kB\nRssShmem:\t 50 kB\n"),
        ]);
        let reading = memory.read(&[7, 8]).unwrap();
        assert_eq!(reading.machine, Extent { total: kib(16_384_000), available: kib(8_192_000) });
        assert_eq!(reading.limit, None);
        assert_eq!(reading.processes, [ProcessUse { pid: 7, used: kib(350) }]);
    }

    #[test]
    fn the_tightest_control_group_above_counts() {
        let (_dir, memory) = machine(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/slice/unit\n"),
            ("cgroup/slice/memory.max", "1000000\n"),
            ("cgroup/slice/memory.current", "600000\n"),
            ("cgroup/slice/memory.stat", "anon 1\ninactive_file 100000\n"),
            ("cgroup/slice/unit/memory.max", "max\n"),
            ("cgroup/slice/unit/memory.current", "5\n"),
        ]);
        let limit = memory.read(&[]).unwrap().limit;
        assert_eq!(limit, Some(Extent { total: Bytes::new(1_000_000), available: Bytes::new(500_000) }));
    }

    #[test]
    fn control_groups_of_version_one_are_understood_also_in_a_container() {
        let (_dir, memory) = machine(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n"),
            ("cgroup/memory/memory.limit_in_bytes", "1000000\n"),
            ("cgroup/memory/memory.usage_in_bytes", "400000\n"),
            ("cgroup/memory/memory.stat", "total_inactive_file 1000\n"),
        ]);
        let limit = memory.read(&[]).unwrap().limit;
        assert_eq!(limit, Some(Extent { total: Bytes::new(1_000_000), available: Bytes::new(601_000) }));
    }

    #[test]
    fn a_limit_above_the_machines_memory_is_none() {
        let (_dir, memory) = machine(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "4:memory:/\n"),
            ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(memory.read(&[]).unwrap().limit, None);
    }

    #[test]
    fn a_file_without_the_figure_is_an_error() {
        let (_dir, memory) = machine(&[("proc/meminfo", "MemTotal: lots\n")]);
        assert!(matches!(memory.read(&[]), Err(SystemMemoryError::Missing { key: "MemTotal", .. })));
        let (_dir, memory) = machine(&[]);
        assert!(matches!(memory.read(&[]), Err(SystemMemoryError::Read { .. })));
    }

    #[test]
    fn this_machine_has_memory() {
        let reading = SystemMemory::default().read(&[std::process::id()]).unwrap();
        assert!(reading.machine.total > reading.machine.available);
        assert_eq!(reading.processes.len(), 1);
    }
}
