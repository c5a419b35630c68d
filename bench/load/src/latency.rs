//! Latencies as a histogram with three significant digits, from 1 us to 10 minutes.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const MAX_US: u64 = 600_000_000;

/// Recorded in microseconds; longer than 10 minutes counts as 10 minutes.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// All in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub p9999_us: u64,
    pub max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_US, 3).expect("bounds are constants");
        Latencies { histogram }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// `count` records that shared one fate.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(MAX_US).clamp(1, MAX_US);
        self.histogram.record_n(us, count).expect("clamped to the bounds");
    }

    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("same bounds");
    }

    /// In microseconds; this share of what was recorded took no longer. Nothing when nothing was recorded.
    pub fn at(&self, quantile: f64) -> Option<u64> {
        (!self.histogram.is_empty()).then(|| self.histogram.value_at_quantile(quantile))
    }

    /// Nothing when nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| LatencySummary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: self.histogram.max(),
        })
    }
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {} us, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {} ({} records)",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.p9999_us, self.max_us, self.count
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latencies;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut all = Latencies::default();
        assert_eq!(all.summary(), None);
        for us in 1..=1000 {
            all.record(Duration::from_micros(us));
        }
        let summary = all.summary().unwrap();
        assert_eq!((summary.p50_us, summary.p99_us, summary.max_us), (500, 990, 1000));
    }

    #[test]
    fn what_is_beyond_the_bounds_counts_as_the_bound() {
        let mut all = Latencies::default();
        all.record(Duration::ZERO);
        all.record(Duration::from_secs(100_000));
        let summary = all.summary().unwrap();
        assert_eq!(summary.count, 2);
        assert!(summary.max_us >= 599_000_000);
    }
}
