//! Logs of deleted topics whose files a former life may have left behind: removed again, a few at a time.
//!
//! Owners remove a deleted topic's logs at once, but a crash can come first. So metadata remembers removed logs
//! until a later start has swept them.

use storage_frame::LogId;
use storage_log::{DiskErrorKind, DiskOp, DiskResult, OpId};

use crate::limits::SWEEPS_MAX;
use crate::seam::Effect;

#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// First id and how many.
    ranges: Vec<(u64, u64)>,
    /// The range and the place in it of the next one.
    next: (usize, u64),
    under_way: Vec<LogId>,
    /// Something could not be removed: all are remembered for the next start.
    failed: bool,
    taken: bool,
}

impl Sweep {
    pub(crate) fn new(removed: &[(u64, u64)]) -> Self {
        Self { ranges: removed.to_vec(), ..Self::default() }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// No further ones.
    pub(crate) fn stop(&mut self) {
        self.next = (self.ranges.len(), 0);
        self.failed = true;
    }

    pub(crate) fn take_ops(&mut self, out: &mut Vec<Effect>) {
        while self.under_way.len() < SWEEPS_MAX {
            let Some((first, count)) = self.ranges.get(self.next.0) else { return };
            let log = LogId(first + self.next.1);
            self.next =
                if self.next.1 + 1 < *count { (self.next.0, self.next.1 + 1) } else { (self.next.0 + 1, 0) };
            self.under_way.push(log);
            out.push(Effect::Disk { log, op: OpId(0), what: DiskOp::RemoveLog });
        }
    }

    /// Why the log could not be removed.
    ///
    /// # Panics
    /// When nobody asked for it.
    pub(crate) fn on_swept(&mut self, log: LogId, result: DiskResult) -> Option<String> {
        let place = self.under_way.iter().position(|other| *other == log).expect("an answer to a question");
        self.under_way.swap_remove(place);
        match result {
            Ok(_) => {
                reach::mark!("shard.swept_a_log");
                None
            }
            Err(error) if error.kind == DiskErrorKind::NotFound => None,
            Err(error) => {
                reach::mark!("shard.sweep_failed");
                self.failed = true;
                Some(error.to_string())
            }
        }
    }

    /// Once all are gone: which they were.
    pub(crate) fn take_swept(&mut self) -> Option<Vec<(u64, u64)>> {
        let done =
            self.next.0 == self.ranges.len() && self.under_way.is_empty() && !self.failed && !self.taken;
        if !done || self.ranges.is_empty() {
            return None;
        }
        self.taken = true;
        Some(self.ranges.clone())
    }
}
