//! When each record is meant to be sent. Latency counts from there, whatever held the sender up: a stalled broker is
//! charged for the records that waited behind the stall.

use std::time::Duration;

/// Evenly spaced sends. Record `n` is due `n / rate` after the start.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    rate_per_second: f64,
}

impl Schedule {
    /// # Panics
    /// Unless the rate is above zero.
    pub fn new(rate_per_second: f64) -> Schedule {
        assert!(rate_per_second > 0.0 && rate_per_second.is_finite(), "a rate is above zero");
        Schedule { rate_per_second }
    }

    /// From the start of the run.
    pub fn due(&self, record: u64) -> Duration {
        Duration::from_secs_f64(record as f64 / self.rate_per_second)
    }

    /// How many records are due by then, the one at that instant included.
    pub fn due_count(&self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.rate_per_second).floor() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Schedule;

    #[test]
    fn records_are_due_evenly_from_the_start() {
        let schedule = Schedule::new(1000.0);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
        assert_eq!(schedule.due_count(Duration::from_millis(1500)), 1501);
        assert_eq!(schedule.due_count(Duration::ZERO), 1);
    }
}
