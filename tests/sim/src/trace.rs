//! What a run did, line by line: printed at the level asked for, and hashed so that two runs can be compared.

use std::fmt;
use std::time::Duration;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Detail {
    Nothing,
    /// What was done to the node and what it said: lives, crashes, faults, its log lines.
    Story,
    /// And every fact the oracles hear.
    Facts,
    /// And every turn's effects, disk operation, datagram and message between cores.
    Everything,
}

/// See the module. Lines are built only when somebody wants them.
#[derive(Debug)]
pub struct Trace {
    printed: Detail,
    is_hashed: bool,
    hash: u64,
    lines: u64,
    now: Duration,
}

impl Trace {
    #[must_use]
    pub fn new(printed: Detail, is_hashed: bool) -> Self {
        Self { printed, is_hashed, hash: 0xcbf2_9ce4_8422_2325, lines: 0, now: Duration::ZERO }
    }

    pub fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    pub fn note(&mut self, detail: Detail, line: impl FnOnce() -> String) {
        let is_printed = detail <= self.printed;
        if !is_printed && !self.is_hashed {
            return;
        }
        let line = format!("{} {}", Stamp(self.now), line());
        if self.is_hashed {
            self.lines += 1;
            // FNV-1a, over everything there is.
            for byte in line.bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        if is_printed {
            println!("{line}");
        }
    }

    /// Of every line of every level; the same for two runs that did the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { lines: self.lines, hash: self.hash }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub lines: u64,
    pub hash: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} over {} lines", self.hash, self.lines)
    }
}

struct Stamp(Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}
