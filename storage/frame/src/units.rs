//! Numbers that must not be mixed up, each its own type.

use std::fmt;

/// The place of a record in its partition: dense, from 0, never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    pub const ZERO: Self = Self(0);

    /// The offset `count` records later.
    ///
    /// # Panics
    /// At 2^64 records, which no log reaches: `count` is at most `u32::MAX` and offsets start at 0.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        Self(self.0.checked_add(u64::from(count)).expect("an offset below 2^64"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which leadership wrote a frame. Never falls along a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(pub u32);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one log on one node for ever: never reused, so a topic made anew never meets its old frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z; negative before it. Said by producers, so it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimestampMs(pub i64);

/// The time of a turn, told from outside: rooms without a door never ask a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since an arbitrary start of the process; never runs backwards. For waiting.
    pub mono: std::time::Duration,
    /// The wall clock, which may jump either way. For timestamps and retention.
    pub wall: TimestampMs,
}
