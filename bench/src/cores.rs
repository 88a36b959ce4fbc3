//! Which processor cores a process may use.

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

impl std::str::FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let number = part
                .trim()
                .parse()
                .map_err(|_| format!("{part:?} is no core, expected numbers as in 1,2"))?;
            if number < CpuSet::MAX_CPU { Ok(number) } else { Err(format!("core {number} is too high")) }
        };
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

impl Cores {
    /// The cores that this process may use.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn available() -> anyhow::Result<Self> {
        let set = sched_getaffinity(None).context("cannot read the affinity")?;
        Ok(Self((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()))
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One of them, by position; the last where there are fewer.
    #[must_use]
    pub fn nth(&self, position: usize) -> Self {
        Self(self.0.get(position).or(self.0.last()).copied().into_iter().collect())
    }

    /// Whether a core is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|core| other.0.contains(core))
    }

    /// Binds the calling thread, and what it starts from now on, to these cores.
    ///
    /// # Errors
    /// A core does not exist or may not be used.
    pub fn bind(&self) -> anyhow::Result<()> {
        ensure!(!self.0.is_empty(), "no cores to bind to");
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).with_context(|| format!("cannot bind to cores {self}"))
    }

    /// Runs `start` bound to these cores, then goes back to where the thread was: a process that is started in between
    /// inherits them before its first instruction.
    ///
    /// # Errors
    /// A core does not exist or may not be used.
    pub fn with<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let before = Self::available()?;
        self.bind()?;
        let outcome = start();
        before.bind()?;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_started_on_a_core_stays_there_and_the_starter_does_not() {
        let before = Cores::available().unwrap();
        let last = before.nth(usize::MAX);
        let output = last
            .with(|| {
                Ok(std::process::Command::new("grep")
                    .args(["Cpus_allowed_list", "/proc/self/status"])
                    .output()?)
            })
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        assert_eq!(line.split_whitespace().last().unwrap(), last.to_string());
        assert_eq!(Cores::available().unwrap(), before);
    }

    #[test]
    fn cores_are_read_from_text() {
        assert_eq!("1, 3".parse(), Ok(Cores(vec![1, 3])));
        assert!("one".parse::<Cores>().is_err());
        assert!("999999".parse::<Cores>().is_err());
    }
}
