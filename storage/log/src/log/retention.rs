//! What leaves: whole sealed segments by size, age or request, and the memory of a log that idles.

use storage_frame::{Now, Offset};

use super::Log;
use crate::config::IDLE_AFTER;
use crate::disk_op::{DiskOp, DiskResult, FileName, SegmentId};
use crate::event::LogEvent;
use crate::ops::Purpose;

/// An index of no more entries than this stays in memory.
const IDLE_INDEX_ENTRIES_MAX: usize = 16;

impl Log {
    pub(super) fn raise_start(&mut self, before: Offset) {
        if before <= self.start {
            reach::mark!("log.deleted_below_start");
            // Where it is not durable yet, `Trimmed` is on its way.
            if !self.checkpoints.is_trim_waiting() {
                self.events.push(LogEvent::Trimmed);
            }
            return;
        }
        self.start = before;
        let mut retired = Vec::new();
        while self.is_first_sealed() && self.segments[1].base <= before {
            retired.push(self.drop_first_segment());
        }
        reach::mark!("log.deleted_inside_segment", self.segments[0].base < before);
        self.on_start_raised(retired);
    }

    fn on_start_raised(&mut self, retired: Vec<SegmentId>) {
        // Told now it would be taken for this start, which is not durable yet.
        reach::mark!("log.trim_overtaken", self.events.contains(&LogEvent::Trimmed));
        self.events.retain(|event| *event != LogEvent::Trimmed);
        self.checkpoints.on_trimmed(retired);
    }

    pub(super) fn retain(&mut self, now: Now) {
        let mut retired = Vec::new();
        while self.is_first_sealed() && (self.is_first_too_much() || self.is_first_too_old(now)) {
            reach::mark!("log.retired_by_bytes", self.is_first_too_much());
            reach::mark!("log.retired_by_age", !self.is_first_too_much());
            self.start = self.start.max(self.segments[1].base);
            retired.push(self.drop_first_segment());
        }
        if !retired.is_empty() {
            self.on_start_raised(retired);
        }
    }

    /// All of it is durable and a later segment takes what comes.
    fn is_first_sealed(&self) -> bool {
        self.segments[0].id != self.durable.segment
    }

    fn is_first_too_much(&self) -> bool {
        let kept = self.disk_bytes() - self.segments[0].end_position;
        self.config.retention_bytes.is_some_and(|bytes_max| kept >= bytes_max)
    }

    fn is_first_too_old(&self, now: Now) -> bool {
        let age_ms = i128::from(now.wall.0) - i128::from(self.segments[0].max_timestamp.0);
        self.config.retention_age.is_some_and(|age_max| age_ms > age_max.as_millis() as i128)
    }

    fn drop_first_segment(&mut self) -> SegmentId {
        let first = self.segments.pop_front().expect("never empty");
        assert!(first.is_begun() && !self.segments.is_empty());
        self.reads.forget(first.id);
        first.id
    }

    /// A file goes when no operation uses it: a recycled one would be read as another's. One goes after the other,
    /// in the order in which they left: without the checkpoint a gap between files is a segment that was lost.
    pub(super) fn poll_retiring(&mut self) {
        let Some(segment) = self.retiring.first().copied() else { return };
        if self.ops.any(|purpose| matches!(purpose, Purpose::Retire(_))) {
            return;
        }
        if self.ops.uses(segment) {
            reach::mark!("log.retire_waits_for_reader");
            return;
        }
        self.retiring.retain(|retiring| *retiring != segment);
        self.ops.ask(Purpose::Retire(segment), DiskOp::RetireSegment { segment });
        let name = FileName::Index(segment);
        self.ops.ask(Purpose::RemoveIndex(segment), DiskOp::RemoveFile { name });
    }

    pub(super) fn on_retired(&mut self, segment: SegmentId, result: DiskResult) {
        if let Err(error) = result {
            reach::mark!("log.retire_failed");
            // Nothing refers to it any more; the next opening removes it.
            self.note(format!("segment {} not removed: {error}", segment.0));
        }
    }

    pub(super) fn roll_by_age(&mut self, now: Now) {
        let active = self.segments.back().expect("never empty");
        if !active.is_empty() && self.is_aged(active, now) {
            reach::mark!("log.rolled_by_age_when_idle");
            self.roll();
        }
    }

    pub(super) fn drop_idle_memory(&mut self, now: Now) {
        let is_idle = now.mono.saturating_sub(self.appended_at) >= IDLE_AFTER;
        if !is_idle || self.recent.has_staged() || self.writer.is_writing() {
            return;
        }
        reach::mark!("log.idle_cache_dropped", self.recent.bytes() > 0);
        self.recent.drop_durable(usize::MAX);
        self.recent.shrink();
        self.writer.drop_memory();
        if self.writer.index.entry_count() > IDLE_INDEX_ENTRIES_MAX {
            reach::mark!("log.idle_index_saved");
            self.close_index();
        }
        self.reads.drop_memory();
        self.ops.shrink();
        self.events.shrink_to_fit();
    }
}
