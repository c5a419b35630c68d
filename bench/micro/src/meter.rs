//! What is counted, and what only surrounds it.
//!
//! callgrind is told to count inside one function and nowhere else. A case calls [`Meter::count`] around each piece of
//! what it measures; inputs are made, clients played and disks answered outside of it, for nothing.

use std::hint::black_box;

/// The function that callgrind is told of, as a pattern on its name.
pub(crate) const COUNTED_FUNCTION: &str = "*bench_micro*only_this_is_counted*";

/// Given to every step of a case.
#[derive(Debug, Default)]
pub struct Meter {
    is_warm: bool,
}

impl Meter {
    pub(crate) fn warmed_up(&mut self) {
        self.is_warm = true;
    }

    /// Carries out `piece`; its instructions count once the case is warm.
    pub fn count<T>(&mut self, piece: impl FnOnce() -> T) -> T {
        if self.is_warm { only_this_is_counted(piece) } else { piece() }
    }
}

#[inline(never)]
fn only_this_is_counted<T>(piece: impl FnOnce() -> T) -> T {
    // Behind the call, so that it is none from the end of this function: callgrind would not see it end.
    black_box(piece())
}
