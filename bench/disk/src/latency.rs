//! How long operations took.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Of all operations of a measurement, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub count: usize,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Latency {
    /// Nothing of nothing.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let us = |at: usize| times[at].as_secs_f64() * 1e6;
        let at = |share: f64| us((times.len() as f64 * share) as usize);
        Some(Self {
            count: times.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(last),
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_us, p99_us, p999_us, max_us, .. } = self;
        write!(f, "p50 {p50_us:>6.0}  p99 {p99_us:>6.0}  p99.9 {p999_us:>6.0}  max {max_us:>6.0} us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times = (1..=1000).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(times).unwrap();
        let rounded = [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(f64::round);
        assert_eq!((latency.count, rounded), (1000, [501.0, 991.0, 1000.0, 1000.0]));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
