//! Which faults happen by themselves, and how often. All off by default.

use crate::dice::Dice;
use crate::injected::Zone;

/// How often, per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate(u32);

const MILLION: u32 = 1_000_000;

impl Rate {
    pub const NEVER: Self = Self(0);
    pub const ALWAYS: Self = Self(MILLION);

    /// Once in `count` chances, on average; 0: never.
    #[must_use]
    pub fn one_in(count: u32) -> Self {
        MILLION.checked_div(count).map_or(Self::NEVER, |per_million| Self(per_million.max(1)))
    }

    #[must_use]
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    pub(crate) fn hits(self, dice: impl FnOnce() -> Dice) -> bool {
        !self.is_never() && dice().below(u64::from(MILLION)) < u64::from(self.0)
    }
}

/// What goes wrong by itself. [`Faults::default`] is a disk on which a crash does what is under way or does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// A crash may do any part of what is under way: a write in any subset of its sectors, a file grown by any part
    /// of a `Zero`, a removed directory with some of its files left. Off: each operation wholly or not at all.
    pub torn: bool,
    /// A read beside a write sees any of its sectors.
    pub early_sectors: bool,
    /// A write under way at a crash lands in the next life instead, at some operation's completion.
    pub late_writes: Rate,
    /// Everything that takes space is refused.
    pub full: bool,
    /// A period begins in which everything that takes space is refused.
    pub no_space: Rate,
    /// How many operations such a period lasts.
    pub no_space_operations: u64,
    /// A period begins in which operations take seconds.
    pub stall: Rate,
    /// How many operations such a period lasts.
    pub stall_operations: u64,
    /// In the order of [`Zone::ALL`]; see [`in_zone`](Self::in_zone).
    pub zones: [ZoneFaults; Zone::ALL.len()],
}

/// Rates of faults per operation on a file of one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZoneFaults {
    /// EIO once; the same read succeeds when it is asked again.
    pub read_error: Rate,
    /// A range of the file is unreadable from now on, until it is written again.
    pub latent_error: Rate,
    /// A bit of the file changes.
    pub bit_flip: Rate,
    /// EIO to something that changes the file; it may have happened, wholly or in part.
    pub write_error: Rate,
    /// Answered `Ok` and did not happen.
    pub lost_write: Rate,
    /// Answered `Ok` and happened elsewhere.
    pub misdirected_write: Rate,
    /// Takes a hundred times as long.
    pub slow: Rate,
}

impl Faults {
    /// What every real disk does when the power goes and no more.
    #[must_use]
    pub fn of_crashes() -> Self {
        Self { torn: true, early_sectors: true, ..Self::default() }
    }

    #[must_use]
    pub fn in_zone(&self, zone: Zone) -> &ZoneFaults {
        &self.zones[zone as usize]
    }

    pub fn in_zone_mut(&mut self, zone: Zone) -> &mut ZoneFaults {
        &mut self.zones[zone as usize]
    }
}
