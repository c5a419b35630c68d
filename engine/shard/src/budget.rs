//! Memory and disk space: how much is used, and when that is too much.
//!
//! Both have a gap between stopping and going on again, so that a broker at its limit does not flicker.

/// Bytes of frames in memory: staged and cached by the logs, held for logs not yet open, on their way from disk.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    logs_bytes: usize,
    held_bytes: usize,
    reads_bytes: usize,
    overloaded: bool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, logs_bytes: 0, held_bytes: 0, reads_bytes: 0, overloaded: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.logs_bytes + self.held_bytes + self.reads_bytes
    }

    /// A log that held `before` now holds `after`.
    pub(crate) fn move_log(&mut self, before: usize, after: usize) {
        assert!(self.logs_bytes >= before, "more memory given back than was taken");
        self.logs_bytes = self.logs_bytes - before + after;
        self.judge();
    }

    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held_bytes += bytes;
        self.judge();
    }

    pub(crate) fn let_go(&mut self, bytes: usize) {
        assert!(self.held_bytes >= bytes, "more memory given back than was taken");
        self.held_bytes -= bytes;
        self.judge();
    }

    pub(crate) fn begin_read(&mut self, bytes: usize) {
        self.reads_bytes += bytes;
        self.judge();
    }

    pub(crate) fn end_read(&mut self, bytes: usize) {
        assert!(self.reads_bytes >= bytes, "more memory given back than was taken");
        self.reads_bytes -= bytes;
        self.judge();
    }

    /// Reads from disk may take a quarter; a single one always goes.
    pub(crate) fn may_read(&self, bytes: usize) -> bool {
        self.reads_bytes == 0 || self.reads_bytes + bytes <= self.bytes_max / 4
    }

    /// Caches are to give back this much, so that half of the memory is left for what is not yet on disk.
    pub(crate) fn excess(&self) -> usize {
        self.bytes().saturating_sub(self.bytes_max / 2)
    }

    /// Nothing more is accepted.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// From four fifths on, until it is below three fifths.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    fn judge(&mut self) {
        let fifths = if self.overloaded { 3 } else { 4 };
        self.overloaded = self.bytes() >= self.bytes_max / 5 * fifths;
    }
}

/// Free space on the data disk, as last measured.
#[derive(Debug)]
pub(crate) struct Space {
    free_bytes_min: u64,
    short: bool,
}

impl Space {
    pub(crate) fn new(free_bytes_min: u64) -> Self {
        Self { free_bytes_min, short: false }
    }

    /// Producers are refused.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// Short below the watermark, enough again a tenth above it. `true`: that has changed.
    pub(crate) fn measure(&mut self, free_bytes: u64) -> bool {
        let enough = if self.short {
            self.free_bytes_min.saturating_add(self.free_bytes_min / 10)
        } else {
            self.free_bytes_min
        };
        let short = free_bytes < enough;
        std::mem::replace(&mut self.short, short) != short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_begins_at_four_fifths_and_ends_below_three() {
        let mut budget = Budget::new(1000);
        let mut held = 0;
        for (bytes, overloaded) in
            [(799, false), (800, true), (999, true), (600, true), (599, false), (799, false)]
        {
            budget.move_log(held, bytes);
            held = bytes;
            assert_eq!(budget.is_overloaded(), overloaded, "{bytes}");
        }
    }

    #[test]
    fn space_is_short_below_the_watermark_until_a_tenth_above_it() {
        let mut space = Space::new(1000);
        for (free, changed, short) in [
            (1000, false, false),
            (999, true, true),
            (1099, false, true),
            (1100, true, false),
            (1000, false, false),
        ] {
            assert_eq!((space.measure(free), space.is_short()), (changed, short), "{free}");
        }
    }
}
