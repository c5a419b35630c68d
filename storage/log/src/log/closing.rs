//! The end of a log's life in this process: closed in order, or removed.

use storage_frame::Now;

use super::Log;
use crate::disk_op::{DiskOp, DiskResult};
use crate::event::{LogEvent, LogState};
use crate::ops::Purpose;

/// Attempts to remove the directory before its remains are left behind.
const REMOVE_ATTEMPTS_MAX: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Serve,
    Close,
    Remove { attempt_count: u32 },
}

impl Goal {
    pub(super) fn is_remove(self) -> bool {
        matches!(self, Self::Remove { .. })
    }
}

impl Log {
    pub(super) fn begin_remove(&mut self) {
        if self.goal.is_remove() {
            return;
        }
        reach::mark!("log.removed_while_writing", self.writer.is_writing());
        self.goal = Goal::Remove { attempt_count: 0 };
        self.state = LogState::Closing;
        reach::mark!("log.removed_while_reading", self.reads.has_jobs());
        self.end_all_jobs_trimmed();
        self.space.on_granted(); // Removing takes none.
        self.compactor.give_up();
        self.ops.withdraw_wanted();
    }

    /// The directory goes when nothing in it is in use.
    pub(super) fn poll_remove(&mut self) {
        if self.ops.is_idle() && self.state != LogState::Closed && !self.space.is_waiting() {
            self.ops.ask(Purpose::RemoveLog, DiskOp::RemoveLog);
        }
    }

    pub(super) fn on_removed(&mut self, now: Now, result: DiskResult) {
        let Goal::Remove { attempt_count } = &mut self.goal else { unreachable!("asked for by remove only") };
        *attempt_count += 1;
        let is_last = *attempt_count >= REMOVE_ATTEMPTS_MAX;
        if let Err(error) = result {
            reach::mark!("log.remove_given_up", is_last);
            reach::mark!("log.remove_failed", !is_last);
            self.note(format!("log not removed: {error}"));
            if !is_last {
                return self.space.on_refused(now.mono);
            }
        }
        self.set_closed();
    }

    pub(super) fn settle_closing(&mut self) {
        // A job has an operation under way, so this waits for readers as well.
        if self.goal != Goal::Close || !self.ops.is_idle() {
            return;
        }
        assert!(!self.reads.has_jobs(), "a read waits for an operation");
        match self.state {
            LogState::Opening | LogState::Ready | LogState::Closed => {}
            // Nothing is written any more: whatever else was planned stays undone.
            LogState::Damaged { .. } | LogState::Failed { .. } => {
                reach::mark!("log.closed_when_unusable");
                self.set_closed();
            }
            LogState::Closing if !self.reads.is_idle() || !self.retiring.is_empty() => {
                reach::mark!("log.close_waits_for_retiring", !self.retiring.is_empty());
            }
            LogState::Closing => {
                let is_marked = self.checkpoints.is_clean() || !self.has_something_to_say();
                if is_marked && !self.recent.has_staged() {
                    self.set_closed();
                } else if self.space.is_waiting() {
                    reach::mark!("log.closed_without_space");
                    let bytes = self.recent.staged_bytes();
                    self.note(format!(
                        "closed without room for a clean marker, {bytes} staged bytes given up"
                    ));
                    self.set_closed();
                }
            }
        }
    }

    fn set_closed(&mut self) {
        self.state = LogState::Closed;
        self.events.push(LogEvent::Closed);
    }
}
