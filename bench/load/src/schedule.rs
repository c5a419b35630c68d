//! When each record is meant to be sent. Latency counts from there, whatever held the sender up: a stalled system is
//! charged for the records that waited behind the stall.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly spaced
    Fixed,
    /// At random, as of many independent sources
    Poisson,
}

/// One producer's records, from the start of the phase. Cloned for whoever wakes the producer: both see the same times.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// Seconds between two records of this producer, on average.
    gap: f64,
    /// Of the first record.
    offset: f64,
    arrivals: Arrivals,
    dice: Dice,
    /// Records passed.
    count: u64,
    next: Duration,
}

/// A producer among those that share a rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) index: u32,
    pub(crate) of: u32,
}

impl Schedule {
    /// `rate` is of all producers together; they take turns.
    ///
    /// # Panics
    /// Unless the rate is above zero.
    pub(crate) fn new(rate: f64, arrivals: Arrivals, share: Share, seed: u64) -> Schedule {
        assert!(rate > 0.0 && rate.is_finite(), "a rate is above zero");
        let mut schedule = Schedule {
            gap: f64::from(share.of) / rate,
            offset: f64::from(share.index) / rate,
            arrivals,
            dice: Dice::new(seed ^ (u64::from(share.index) << 32)),
            count: 0,
            next: Duration::ZERO,
        };
        schedule.next = match arrivals {
            Arrivals::Fixed => Duration::from_secs_f64(schedule.offset),
            Arrivals::Poisson => schedule.wait(),
        };
        schedule
    }

    /// When the next record is due.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    pub(crate) fn pass(&mut self) {
        self.count += 1;
        self.next = match self.arrivals {
            // From the count and not from the time before it: no error adds up.
            Arrivals::Fixed => Duration::from_secs_f64(self.offset + self.count as f64 * self.gap),
            Arrivals::Poisson => self.next + self.wait(),
        };
    }

    fn wait(&mut self) -> Duration {
        // 1 - share is never 0.
        Duration::from_secs_f64(-(1.0 - self.dice.share()).ln() * self.gap)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Arrivals, Schedule, Share};

    fn times(mut schedule: Schedule, count: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(schedule.next());
            schedule.pass();
        }
        times
    }

    const ALONE: Share = Share { index: 0, of: 1 };

    #[test]
    fn fixed_arrivals_are_even_and_do_not_drift() {
        let all = times(Schedule::new(3000.0, Arrivals::Fixed, ALONE, 1), 3_000_001);
        assert_eq!(all[0], Duration::ZERO);
        assert_eq!(all[3_000_000], Duration::from_secs(1000));
        assert_eq!(all[1500], Duration::from_millis(500));
    }

    #[test]
    fn producers_take_turns() {
        let of = |index| times(Schedule::new(1000.0, Arrivals::Fixed, Share { index, of: 4 }, 1), 2);
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!([of(0), of(1), of(3)], [[ms(0), ms(4)], [ms(1), ms(5)], [ms(3), ms(7)]]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let all = times(Schedule::new(1000.0, Arrivals::Poisson, ALONE, 42), 100_001);
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 1000.0 - 1.0).abs() < 0.02, "{mean}");
        // An exponential's deviation is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn a_clone_and_the_same_seed_see_the_same_times() {
        let new = |seed| Schedule::new(10.0, Arrivals::Poisson, ALONE, seed);
        let one = new(1);
        assert_eq!(times(one.clone(), 50), times(one, 50));
        assert_ne!(times(new(1), 50), times(new(2), 50));
    }
}
