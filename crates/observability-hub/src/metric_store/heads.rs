//! The newest samples of every series, in memory. Bounded in series, in samples of a series, and in time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Labels, MatchOp, Matcher, NAME_LABEL, Sample, Series, StoreSize, TimeRange};
use crate::remote_write::{Reason, Refusals};

/// What the heads hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Series; samples of further ones are refused.
    pub series_max: usize,
    /// Samples of one series; the oldest go first.
    pub samples_per_series_max: usize,
    /// Age of a sample, milliseconds.
    pub age_ms_max: i64,
}

/// Series by metric name, then by labels.
#[derive(Debug)]
pub struct Heads {
    limits: HeadLimits,
    metrics: BTreeMap<Box<str>, HashMap<Labels, VecDeque<Sample>>>,
    size: StoreSize,
}

enum Stored {
    New,
    Resent,
    Contradicts,
}

impl Heads {
    /// Empty ones.
    #[must_use]
    pub const fn new(limits: HeadLimits) -> Self {
        Self { limits, metrics: BTreeMap::new(), size: StoreSize { series: 0, samples: 0 } }
    }

    /// How much there is.
    #[must_use]
    pub const fn size(&self) -> StoreSize {
        self.size
    }

    /// Takes samples in any order. One that is there already is taken again without effect; one that is older than the
    /// heads reach back is taken, too, but cannot be asked for. Returns how many were taken.
    pub fn insert(
        &mut self,
        labels: &Labels,
        samples: &[Sample],
        now_unix_ms: i64,
        refused: &mut Refusals,
    ) -> u64 {
        let oldest = now_unix_ms.saturating_sub(self.limits.age_ms_max);
        let limits = self.limits;
        let known = self.metrics.get(labels.metric()).is_some_and(|series| series.contains_key(labels));
        if !known {
            if samples.iter().all(|sample| sample.unix_ms < oldest) {
                return samples.len() as u64;
            }
            if self.size.series >= limits.series_max as u64 {
                refused.add_many(Reason::SeriesLimit(limits.series_max), samples.len() as u64);
                return 0;
            }
            self.size.series += 1;
        }
        let head = self.metrics.entry(labels.metric().into()).or_default().entry(labels.clone()).or_default();
        let mut taken = 0;
        for sample in samples {
            if sample.unix_ms < oldest {
                taken += 1;
                continue;
            }
            match put(head, *sample) {
                Stored::Contradicts => refused.add(Reason::Contradicts { unix_ms: sample.unix_ms }),
                Stored::Resent => taken += 1,
                Stored::New => {
                    taken += 1;
                    self.size.samples += 1;
                    if head.len() > limits.samples_per_series_max && head.pop_front().is_some() {
                        self.size.samples -= 1;
                    }
                }
            }
        }
        taken
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now_unix_ms: i64) {
        let oldest = now_unix_ms.saturating_sub(self.limits.age_ms_max);
        let mut size = StoreSize::default();
        self.metrics.retain(|_, series| {
            series.retain(|_, head| {
                let gone = head.partition_point(|sample| sample.unix_ms < oldest);
                head.drain(..gone);
                head.shrink_to(head.len().saturating_mul(2));
                size.samples += head.len() as u64;
                !head.is_empty()
            });
            size.series += series.len() as u64;
            !series.is_empty()
        });
        self.size = size;
    }

    /// See [`super::MetricStore::select`].
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<Series> {
        self.collect(matchers, |labels, head| {
            let samples: Vec<Sample> = within(head, range).copied().collect();
            (!samples.is_empty()).then(|| Series { labels: labels.clone(), samples })
        })
    }

    /// See [`super::MetricStore::newest`].
    #[must_use]
    pub fn newest(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, Sample)> {
        self.collect(matchers, |labels, head| {
            within(head, range).next_back().map(|sample| (labels.clone(), *sample))
        })
    }

    /// See [`super::MetricStore::labels`].
    #[must_use]
    pub fn labels(&self, matchers: &[Matcher], range: TimeRange) -> Vec<Labels> {
        self.collect(matchers, |labels, head| within(head, range).next().map(|_| labels.clone()))
    }

    /// What `take` makes of each series that matches, in order of the labels.
    fn collect<T>(
        &self,
        matchers: &[Matcher],
        mut take: impl FnMut(&Labels, &VecDeque<Sample>) -> Option<T>,
    ) -> Vec<T> {
        let name = matchers
            .iter()
            .find(|matcher| matcher.name == NAME_LABEL && matcher.op == MatchOp::Equal)
            .map(|matcher| matcher.value.as_str());
        let metrics: Box<dyn Iterator<Item = &HashMap<Labels, VecDeque<Sample>>>> = match name {
            Some(name) => Box::new(self.metrics.get(name).into_iter()),
            None => Box::new(self.metrics.values()),
        };
        let mut found: Vec<_> = metrics
            .flatten()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches(labels)))
            .collect();
        found.sort_unstable_by_key(|(labels, _)| *labels);
        found.into_iter().filter_map(|(labels, head)| take(labels, head)).collect()
    }
}

fn within(head: &VecDeque<Sample>, range: TimeRange) -> impl DoubleEndedIterator<Item = &Sample> {
    let from = head.partition_point(|sample| sample.unix_ms < range.from_unix_ms);
    let to = head.partition_point(|sample| sample.unix_ms <= range.to_unix_ms);
    head.range(from..to.max(from))
}

fn put(head: &mut VecDeque<Sample>, sample: Sample) -> Stored {
    let newest = head.back().map_or(i64::MIN, |last| last.unix_ms);
    if head.is_empty() || sample.unix_ms > newest {
        head.push_back(sample);
        return Stored::New;
    }
    let place = head.partition_point(|old| old.unix_ms < sample.unix_ms);
    match head.get(place).filter(|old| old.unix_ms == sample.unix_ms) {
        Some(old) if old.is_same(&sample) => Stored::Resent,
        Some(_) => Stored::Contradicts,
        None => {
            head.insert(place, sample);
            Stored::New
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { series_max: 2, samples_per_series_max: 3, age_ms_max: 1_000 };

    fn labels(metric: &str, job: &str) -> Labels {
        Labels::new(vec![(NAME_LABEL.into(), metric.into()), ("job".into(), job.into())]).unwrap()
    }

    fn samples(times: &[i64]) -> Vec<Sample> {
        times.iter().map(|unix_ms| Sample { unix_ms: *unix_ms, value: *unix_ms as f64 }).collect()
    }

    fn times(heads: &Heads, metric: &str) -> Vec<i64> {
        let name = Matcher { name: NAME_LABEL.to_owned(), op: MatchOp::Equal, value: metric.to_owned() };
        let found = heads.select(&[name], TimeRange::ALL);
        found.iter().flat_map(|series| &series.samples).map(|sample| sample.unix_ms).collect()
    }

    #[test]
    fn samples_out_of_order_and_resent_ones_are_kept_once_in_order() {
        let mut heads = Heads::new(LIMITS);
        let mut refused = Refusals::default();
        let taken = heads.insert(&labels("up", "a"), &samples(&[5, 3, 5, 4]), 10, &mut refused);
        assert_eq!((taken, refused.count()), (4, 0));
        assert_eq!(times(&heads, "up"), [3, 4, 5]);
        assert_eq!(heads.size(), StoreSize { series: 1, samples: 3 });
    }

    #[test]
    fn a_second_value_for_a_time_is_refused_and_the_first_stays() {
        let mut heads = Heads::new(LIMITS);
        let mut refused = Refusals::default();
        heads.insert(&labels("up", "a"), &samples(&[5]), 10, &mut refused);
        let other = [Sample { unix_ms: 5, value: 99.0 }];
        assert_eq!(heads.insert(&labels("up", "a"), &other, 10, &mut refused), 0);
        assert_eq!(refused.count(), 1);
        assert_eq!(heads.select(&[], TimeRange::ALL)[0].samples[0].value.to_bits(), 5.0_f64.to_bits());
    }

    #[test]
    fn every_bound_holds() {
        let mut heads = Heads::new(LIMITS);
        let mut refused = Refusals::default();
        heads.insert(&labels("up", "a"), &samples(&[1, 2, 3, 4, 5]), 10, &mut refused);
        assert_eq!(times(&heads, "up"), [3, 4, 5]);
        heads.insert(&labels("up", "b"), &samples(&[5]), 10, &mut refused);
        assert_eq!(heads.insert(&labels("up", "c"), &samples(&[5, 6]), 10, &mut refused), 0);
        assert_eq!(refused.count(), 2);
        // Too old to be asked for, not too old to be taken; makes no series.
        assert_eq!(heads.insert(&labels("old", "a"), &samples(&[1]), 10_000, &mut refused), 1);
        assert_eq!(heads.size().series, 2);
        heads.sweep(1_004);
        assert_eq!(times(&heads, "up"), [4, 5, 5]);
        heads.sweep(5_000);
        assert_eq!(heads.size(), StoreSize::default());
    }
}
