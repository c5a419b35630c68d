//! How long operations take: one shape of histogram for appends and for the disk below them, so that they can be held
//! against each other.

use std::time::Duration;

/// Upper bounds of a latency histogram's buckets; the last bucket has none.
pub const LATENCY_BOUNDS: [Duration; 20] = [
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(75),
    Duration::from_micros(100),
    Duration::from_micros(150),
    Duration::from_micros(200),
    Duration::from_micros(300),
    Duration::from_micros(500),
    Duration::from_micros(750),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How often operations took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Not cumulative: `buckets[i]` counts those above `LATENCY_BOUNDS[i - 1]` and at most `LATENCY_BOUNDS[i]`.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    pub count: u64,
    pub sum: Duration,
    pub max: Duration,
}

impl LatencyHistogram {
    pub fn record(&mut self, took: Duration) {
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += took;
        self.max = self.max.max(took);
    }

    /// The bound below which at least `fraction` of the operations stayed; `max` where no bound holds them.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Duration {
        let wanted = (self.count as f64 * fraction).ceil() as u64;
        let mut seen = 0;
        for (bucket, bound) in self.buckets.iter().zip(LATENCY_BOUNDS) {
            seen += bucket;
            if seen >= wanted {
                return bound.min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_that_holds_it() {
        let mut histogram = LatencyHistogram::default();
        for _ in 0..99 {
            histogram.record(Duration::from_micros(90));
        }
        histogram.record(Duration::from_secs(60));
        assert_eq!(histogram.quantile(0.5), Duration::from_micros(100));
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(60));
        assert_eq!(histogram.buckets[LATENCY_BOUNDS.len()], 1);
        assert_eq!(LatencyHistogram::default().quantile(0.99), Duration::ZERO);
    }
}
