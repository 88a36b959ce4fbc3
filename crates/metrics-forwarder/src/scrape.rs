//! From what a target answered to the samples that are shipped.
//!
//! As Prometheus does it with `honor_labels: false`: the target's own labels win, a scraped label of the same name
//! becomes `exported_<name>`; every scrape, also a failed one, adds `up`, `scrape_duration_seconds` and
//! `scrape_samples_scraped`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::exposition::{Exposition, Rejected, TooManySamples};
use crate::series::{Labels, Metadata, NAME, STALE_NAN, Sample, UnixMillis};
use crate::staleness::Staleness;

pub mod client;
#[cfg(test)]
mod tests;

/// After how many scrapes metadata is told again, for a hub that has lost or never seen it.
const METADATA_SCRAPES: u64 = 60;

/// Why a target gave no samples.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// No connection, no answer in time, or it broke off.
    #[error("the target did not answer: {0}")]
    Unreachable(String),
    /// An answer other than 200.
    #[error("the target answered {status}, expected 200")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The body is longer than allowed.
    #[error("the target's answer is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The body has more samples than allowed.
    #[error(transparent)]
    TooManySamples(#[from] TooManySamples),
}

/// What one scrape is turned into.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order of the exposition, then markers of series that ended, then the scrape's own series.
    pub samples: Vec<Sample>,
    /// What is new about the metric families.
    pub metadata: Vec<Metadata>,
    /// Samples that a second line of the same scrape gave for a series; the first one counts.
    pub duplicates: u64,
    /// Lines that were not understood.
    pub rejected: Rejected,
}

/// A target, and what is remembered of its last scrape.
#[derive(Debug)]
pub struct Target {
    /// Labels that every series of it gets; `job` and `instance` among them.
    labels: Vec<(String, String)>,
    staleness: Staleness,
    told: HashMap<String, Metadata>,
    scrapes: u64,
}

impl Target {
    /// A target whose series get these labels. Names are unique; the configuration has checked it.
    #[must_use]
    pub fn new(labels: Vec<(String, String)>) -> Self {
        Self { labels, staleness: Staleness::default(), told: HashMap::new(), scrapes: 0 }
    }

    /// Turns a scrape that began at `started` and took `took` into samples.
    pub fn take_in(
        &mut self,
        started: UnixMillis,
        took: Duration,
        scraped: Result<Exposition, ScrapeError>,
    ) -> Outcome {
        let up = scraped.is_ok();
        let exposition = scraped.unwrap_or_default();
        let count = exposition.samples.len();
        let mut outcome = Outcome { rejected: exposition.rejected, ..Outcome::default() };
        outcome.metadata = self.news(exposition.metadata);

        let (mut live, mut seen) = (Vec::new(), HashSet::new());
        for scraped in exposition.samples {
            let Some(labels) = self.labelled(&scraped.labels) else { continue };
            let timestamp = scraped.timestamp.unwrap_or(started);
            if !seen.insert((labels.clone(), timestamp)) {
                outcome.duplicates += 1;
                continue;
            }
            if scraped.timestamp.is_none() {
                live.push(labels.clone());
            }
            outcome.samples.push(Sample { labels, value: scraped.value, timestamp });
        }
        let stale = f64::from_bits(STALE_NAN);
        let ended = self.staleness.observe(live).into_iter();
        outcome.samples.extend(ended.map(|labels| Sample { labels, value: stale, timestamp: started }));
        for (name, value) in [
            ("up", f64::from(u8::from(up))),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", count as f64),
        ] {
            let labels = self.own(name);
            outcome.samples.extend(labels.map(|labels| Sample { labels, value, timestamp: started }));
        }
        outcome
    }

    /// The series under which the target's state is kept.
    fn own(&self, name: &str) -> Option<Labels> {
        let name = (NAME.to_owned(), name.to_owned());
        Labels::new(self.labels.iter().cloned().chain([name]).collect()).ok()
    }

    /// The target's labels added; a scraped label in the way is renamed until it is in nobody's.
    fn labelled(&self, scraped: &Labels) -> Option<Labels> {
        let ours = |name: &str| self.labels.iter().any(|(label, _)| label == name);
        let mut labels = self.labels.clone();
        for (name, value) in scraped.iter() {
            let mut name = name.to_owned();
            if ours(&name) {
                name.insert_str(0, "exported_");
                while ours(&name) || scraped.get(&name).is_some() {
                    name.insert_str(0, "exported_");
                }
            }
            labels.push((name, value.to_owned()));
        }
        Labels::new(labels).ok()
    }

    /// Metadata that differs from what was told, and every so often all of it.
    fn news(&mut self, metadata: Vec<Metadata>) -> Vec<Metadata> {
        if self.scrapes.is_multiple_of(METADATA_SCRAPES) {
            self.told.clear();
        }
        self.scrapes += 1;
        let news = metadata.into_iter().filter(|family| self.told.get(&family.family) != Some(family));
        let news: Vec<_> = news.collect();
        self.told.extend(news.iter().map(|family| (family.family.clone(), family.clone())));
        news
    }
}
