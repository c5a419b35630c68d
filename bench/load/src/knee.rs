//! The knee: the highest rate a system bears. Found by steps: doubling until one fails, then halving what lies between.
//!
//! A step is borne when at least [`ACHIEVED_MIN`] of what was asked was achieved, nothing failed, and p99.9 stayed below
//! the bound. One that was not is tried once more before it counts: a moment of a busy machine is no knee.

use serde::{Deserialize, Serialize};

use crate::report::Phase;

/// Of the asked rate.
pub const ACHIEVED_MIN: f64 = 0.99;
/// The knee is known to this share of itself.
const PRECISION: f64 = 0.05;
/// Ends a search that finds no end: 2 to the power of this times the first rate.
const STEPS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    pub p999_us_max: u64,
    /// The highest rate that was borne below the lowest that was not; `None` when there was none.
    pub records_per_second: Option<f64>,
    /// The lowest that was not; `None` when there was none.
    pub too_much: Option<f64>,
}

/// What a step showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    pub achieved: f64,
    pub p999_us: u64,
    pub failed: u64,
}

impl Shown {
    /// Nothing when it had no rate, or no answer.
    pub(crate) fn by(phase: &Phase) -> Option<Shown> {
        let produced = phase.produced.as_ref()?;
        // What is asked of a tail is that consumers have it in time.
        let tail = phase.read.iter().filter_map(|read| read.latency).map(|latency| latency.p999_us).max();
        let acknowledged = produced.latency.map(|latency| latency.p999_us);
        Some(Shown {
            achieved: produced.achieved?,
            p999_us: tail.max(acknowledged).unwrap_or(u64::MAX),
            failed: produced.failed.values().sum::<u64>() + produced.unsent,
        })
    }
}

impl Shown {
    /// Whether it is the rate that was asked for, however late.
    pub(crate) fn keeps_up(self) -> bool {
        self.achieved >= ACHIEVED_MIN && self.failed == 0
    }
}

/// The search, told what each step showed.
#[derive(Debug, Clone)]
pub struct Search {
    p999_us_max: u64,
    borne: Vec<f64>,
    too_much: Option<f64>,
    /// Was too much, and is tried again.
    doubtful: Option<f64>,
    next: f64,
    lowest: f64,
    steps: usize,
}

impl Search {
    /// Starts at `first` records per second. A first step that is too much is followed by lower ones, down to a
    /// thousandth of it.
    pub fn new(first: f64, p999_us_max: u64) -> Search {
        Search {
            p999_us_max,
            borne: Vec::new(),
            too_much: None,
            doubtful: None,
            next: first,
            lowest: first / 1000.0,
            steps: 0,
        }
    }

    /// The next rate to try; nothing when the knee is known.
    pub fn next(&self) -> Option<f64> {
        let is_known = match (self.highest_borne(), self.too_much) {
            (Some(borne), Some(too_much)) => too_much <= borne * (1.0 + PRECISION),
            (None, Some(too_much)) => too_much <= self.lowest,
            (_, None) => false,
        };
        (!is_known && self.steps < STEPS_MAX).then_some(self.next)
    }

    /// Whether the next rate was tried before.
    pub fn is_repeating(&self) -> bool {
        self.doubtful == Some(self.next)
    }

    pub fn tell(&mut self, rate: f64, shown: Shown) {
        self.steps += 1;
        if !self.is_borne(shown) && self.doubtful.replace(rate) != Some(rate) {
            self.next = rate;
            return;
        }
        self.doubtful = None;
        self.count(rate, shown);
        self.next = match (self.highest_borne(), self.too_much) {
            (Some(borne), None) => borne * 2.0,
            (None, Some(too_much)) => too_much / 4.0,
            // Rates are ratios: the middle is the geometric one.
            (Some(borne), Some(too_much)) => (borne * too_much).sqrt(),
            (None, None) => unreachable!("a step is borne or too much"),
        };
    }

    fn is_borne(&self, shown: Shown) -> bool {
        shown.keeps_up() && shown.p999_us <= self.p999_us_max
    }

    fn count(&mut self, rate: f64, shown: Shown) {
        if self.is_borne(shown) {
            self.borne.push(rate);
        } else {
            self.too_much = Some(self.too_much.map_or(rate, |least| least.min(rate)));
        }
    }

    fn highest_borne(&self) -> Option<f64> {
        let below = self.borne.iter().copied().filter(|rate| self.too_much.is_none_or(|least| *rate < least));
        below.max_by(f64::total_cmp)
    }

    pub fn knee(&self) -> Knee {
        let records_per_second = self.highest_borne();
        Knee { p999_us_max: self.p999_us_max, records_per_second, too_much: self.too_much }
    }
}

/// Of steps whose rates were given: each is tried as often as it was asked for.
pub fn knee_of(steps: &[(f64, Shown)], p999_us_max: u64) -> Knee {
    let mut search = Search::new(1.0, p999_us_max);
    steps.iter().for_each(|(rate, shown)| search.count(*rate, *shown));
    search.knee()
}

#[cfg(test)]
mod tests {
    use super::{Search, Shown, knee_of};

    /// One server of `capacity` records per second with waiting as M/D/1 has it: 200 us of service path, and a tail of
    /// about seven mean waits at p99.9; above its capacity it falls behind.
    fn server(capacity: f64, rate: f64) -> Shown {
        let load = rate / capacity;
        if load >= 1.0 {
            return Shown { achieved: 1.0 / load, p999_us: 10_000_000, failed: 0 };
        }
        let wait_us = 1e6 / capacity * load / (2.0 * (1.0 - load));
        Shown { achieved: 1.0, p999_us: 200 + (7.0 * wait_us) as u64, failed: 0 }
    }

    #[track_caller]
    fn found(capacity: f64, first: f64, p999_us_max: u64) -> (f64, usize) {
        let mut search = Search::new(first, p999_us_max);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.tell(rate, server(capacity, rate));
            steps += 1;
        }
        (search.knee().records_per_second.unwrap(), steps)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for first in [1000.0, 90_000.0, 1_000_000.0] {
            let (knee, steps) = found(100_000.0, first, 5_000);
            assert!((95_000.0..100_000.0).contains(&knee), "{knee} from {first}");
            assert!(steps < 20, "{steps}");
        }
    }

    #[test]
    fn the_bound_on_latency_comes_before_the_capacity() {
        // 7 waits of 10 us/2 * load/(1 - load) reach 100 us at a load of 0.74.
        let (knee, _) = found(100_000.0, 10_000.0, 300);
        assert!((70_000.0..=74_500.0).contains(&knee), "{knee}");
    }

    #[test]
    fn a_step_that_fails_once_is_tried_again_and_does_not_end_the_search() {
        let mut search = Search::new(10_000.0, 5_000);
        let mut hiccup = true;
        while let Some(rate) = search.next() {
            let disturbed = rate == 20_000.0 && std::mem::take(&mut hiccup);
            let shown = server(100_000.0, rate);
            search.tell(rate, if disturbed { Shown { p999_us: 1_000_000, ..shown } } else { shown });
            assert_eq!(search.is_repeating(), search.next() == Some(rate));
        }
        assert!(!hiccup);
        let knee = search.knee().records_per_second.unwrap();
        assert!((95_000.0..100_000.0).contains(&knee), "{knee}");
    }

    #[test]
    fn what_was_borne_above_a_rate_that_was_not_is_luck() {
        let shown = |achieved| Shown { achieved, p999_us: 100, failed: 0 };
        let steps = [(10e3, shown(1.0)), (20e3, shown(0.9)), (40e3, shown(1.0))];
        let knee = knee_of(&steps, 5_000);
        assert_eq!((knee.records_per_second, knee.too_much), (Some(10e3), Some(20e3)));
    }

    #[test]
    fn a_system_that_bears_nothing_has_no_knee() {
        let mut search = Search::new(1000.0, 5_000);
        while let Some(rate) = search.next() {
            search.tell(rate, Shown { achieved: 1.0, p999_us: 100, failed: 1 });
        }
        assert_eq!(search.knee().records_per_second, None);
    }

    #[test]
    fn a_search_without_an_end_ends() {
        let mut search = Search::new(1000.0, 5_000);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.tell(rate, Shown { achieved: 1.0, p999_us: 100, failed: 0 });
            steps += 1;
        }
        assert!(steps <= 32);
        assert_eq!(search.knee().too_much, None);
    }

    #[test]
    fn given_steps_show_the_highest_that_was_borne() {
        let rates = [10_000.0, 50_000.0, 90_000.0, 200_000.0];
        let steps: Vec<_> = rates.iter().map(|rate| (*rate, server(100_000.0, *rate))).collect();
        let knee = knee_of(&steps, 5_000);
        assert_eq!((knee.records_per_second, knee.too_much), (Some(90_000.0), Some(200_000.0)));
    }
}
