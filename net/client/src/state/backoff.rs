//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from 20 ms to one second, each shortened by up to half at random, so that clients that
/// lost the same broker do not return all at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    dice: Dice,
}

const FIRST_WAIT_MS: u64 = 20;
const WAIT_MS_MAX: u64 = 1_000;

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, dice: Dice(seed) }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let full_ms = FIRST_WAIT_MS.checked_shl(self.failures).unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        self.failures = (self.failures + 1).min(16);
        Duration::from_millis(full_ms - self.dice.roll() % (full_ms / 2 + 1))
    }
}

/// Random numbers from a seed that is told (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(7);
        let first = backoff.next_wait();
        assert!(first <= Duration::from_millis(20) && first >= Duration::from_millis(10));
        let later = (0..50).map(|_| backoff.next_wait()).last().unwrap();
        assert!(later <= Duration::from_secs(1) && later >= Duration::from_millis(500));
        backoff.succeeded();
        assert!(backoff.next_wait() <= Duration::from_millis(20));
    }
}
