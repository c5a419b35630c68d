//! When a checkpoint is written, and what it says. It only ever describes frames that are durable.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Now, Offset};

use super::{Goal, Log};
use crate::checkpoint::Checkpoint;
use crate::config::{
    CHECKPOINT_AGE, CHECKPOINT_BYTES, CHECKPOINT_BYTES_SOON, CHECKPOINT_PAUSE, CHECKPOINT_STATE_WAIT,
};
use crate::disk_op::{BLOCK_BYTES, DiskErrorKind, DiskOp, DiskResult, FileName, SegmentId};
use crate::event::{LogEvent, LogState};
use crate::opening::Opened;
use crate::ops::Purpose;
use crate::segment::{NO_TIMESTAMP, Point};

/// The owner's own state as of a frame boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppState {
    pub(super) point: Point,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) struct Checkpoints {
    sequence: u64,
    /// The start that the file on disk names.
    durable_start: Offset,
    /// Describes durable frames.
    state: Option<AppState>,
    /// Describes frames that are still being written.
    next_state: Option<AppState>,
    due: Due,
    write_bytes_max: u64,
    /// `start` or the segments changed: does not wait for the owner.
    is_pressing: bool,
    /// What is on disk is a clean marker that still holds.
    is_clean: bool,
    under_way: Option<UnderWay>,
    /// Left the list of segments; retired when the checkpoint without them is durable.
    to_retire: Vec<SegmentId>,
    /// Somebody waits for `Trimmed`.
    trim_waits: bool,
}

/// Since the last checkpoint that did not come before its time.
#[derive(Debug, Clone, Copy)]
struct Due {
    bytes_durable: u64,
    last_at: Duration,
    has_rolled: bool,
    since: Option<Duration>,
}

impl Due {
    fn counted_from(now: Duration) -> Self {
        Self { bytes_durable: 0, last_at: now, has_rolled: false, since: None }
    }
}

#[derive(Debug)]
struct UnderWay {
    start: Offset,
    is_clean: bool,
    retire: Vec<SegmentId>,
}

impl Checkpoints {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            sequence: 0,
            durable_start: Offset::ZERO,
            state: None,
            next_state: None,
            due: Due::counted_from(now),
            write_bytes_max: 0,
            is_pressing: false,
            is_clean: false,
            under_way: None,
            to_retire: Vec::new(),
            trim_waits: false,
        }
    }

    pub(super) fn on_opened(&mut self, now: Duration, opened: &Opened) {
        let (found, point) = (&opened.recovered, opened.app_point);
        self.sequence = opened.checkpoint_sequence;
        self.durable_start = opened.start;
        self.due = Due { bytes_durable: opened.scanned_bytes, ..Due::counted_from(now) };
        self.write_bytes_max = opened.write_bytes_max;
        self.is_clean = found.clean;
        self.state = match (point, &found.app_state) {
            (Some(point), Some(bytes)) => Some(AppState { point, bytes: bytes.clone() }),
            _ => None,
        };
    }

    pub(super) fn set_state(&mut self, state: AppState) {
        if self.next_state.is_none() && self.state.as_ref() == Some(&state) {
            return;
        }
        self.is_clean = false;
        self.next_state = Some(state);
    }

    pub(super) fn wants_state(&self, staged_end: Offset, goal: Goal) -> bool {
        let is_fresh = |state: &AppState| state.point.offset == staged_end;
        let is_asked = self.due.since.is_some() || goal == Goal::Close && self.under_way.is_none();
        is_asked && self.next_state.is_none() && !self.state.as_ref().is_some_and(is_fresh)
    }

    pub(super) fn on_write(&mut self, bytes: u64) {
        self.is_clean = false;
        // With the tail block before it and the padding behind it.
        self.write_bytes_max = self.write_bytes_max.max(bytes + 2 * BLOCK_BYTES as u64);
    }

    pub(super) fn on_durable(&mut self, bytes: u64, durable_end: Offset) {
        self.due.bytes_durable += bytes;
        self.promote_state(durable_end);
    }

    fn promote_state(&mut self, durable_end: Offset) {
        if self.next_state.as_ref().is_some_and(|next| next.point.offset <= durable_end) {
            self.state = self.next_state.take();
        }
    }

    pub(super) fn on_rolled(&mut self) {
        self.due.has_rolled = true;
    }

    pub(super) fn on_trimmed(&mut self, retire: impl IntoIterator<Item = SegmentId>) {
        self.to_retire.extend(retire);
        self.is_pressing = true;
        self.is_clean = false;
        self.trim_waits = true;
    }

    /// Segments have been replaced: those are retired when the checkpoint that says so is durable.
    pub(super) fn on_replaced(&mut self, retire: impl IntoIterator<Item = SegmentId>) {
        self.to_retire.extend(retire);
        self.is_pressing = true;
        self.is_clean = false;
    }

    /// Scanning begins in this segment, whichever checkpoint is the last.
    pub(super) fn scan_segment(&self) -> Option<SegmentId> {
        self.state.as_ref().map(|state| state.point.segment)
    }

    pub(super) fn durable_start(&self) -> Offset {
        self.durable_start
    }

    pub(super) fn is_trim_waiting(&self) -> bool {
        self.trim_waits
    }

    pub(super) fn is_clean(&self) -> bool {
        self.is_clean
    }

    pub(super) fn has_ever_been(&self) -> bool {
        self.sequence > 0 || self.state.is_some() || self.next_state.is_some()
    }

    pub(super) fn note_due(&mut self, now: Duration) {
        let due = &mut self.due;
        let age = now.saturating_sub(due.last_at);
        let is_due = due.has_rolled
            || due.bytes_durable >= CHECKPOINT_BYTES && age >= CHECKPOINT_PAUSE
            || due.bytes_durable >= CHECKPOINT_BYTES_SOON && age >= CHECKPOINT_AGE;
        if is_due && self.under_way.is_none() {
            due.since.get_or_insert(now);
        }
    }
}

impl Log {
    pub(super) fn poll_checkpoint(&mut self, now: Now) {
        self.checkpoints.promote_state(self.durable.offset);
        if self.checkpoints.under_way.is_some() || self.space.is_waiting() {
            return;
        }
        if self.goal == Goal::Close {
            if self.is_written_out() && !self.checkpoints.is_clean && self.has_something_to_say() {
                self.close_index();
                self.write_checkpoint(now, true);
            }
            return;
        }
        if self.is_checkpoint_ready(now) {
            self.write_checkpoint(now, false);
        } else if self.checkpoints.is_pressing {
            reach::mark!("log.checkpoint_pressed");
            // It carries the state given before, so the one that is due stays due.
            let due = self.checkpoints.due;
            self.write_checkpoint(now, false);
            self.checkpoints.due = due;
        }
    }

    fn is_checkpoint_ready(&self, now: Now) -> bool {
        let checkpoints = &self.checkpoints;
        let Some(due_since) = checkpoints.due.since else { return false };
        let has_waited = now.mono.saturating_sub(due_since) >= CHECKPOINT_STATE_WAIT;
        reach::mark!("log.checkpoint_without_new_state", has_waited && self.wants_app_state());
        checkpoints.next_state.is_none() && (has_waited || !self.wants_app_state())
    }

    fn is_written_out(&self) -> bool {
        self.state == LogState::Closing && !self.recent.has_staged() && !self.writer.is_writing()
    }

    pub(super) fn has_something_to_say(&self) -> bool {
        self.checkpoints.has_ever_been() || self.durable.offset > Offset::ZERO
    }

    fn write_checkpoint(&mut self, now: Now, is_clean: bool) {
        let mut segments: Vec<_> = self.segments.iter().take(self.sealed_count() + 1).cloned().collect();
        let last = segments.last_mut().expect("the writer's segment is live");
        last.end_position = self.durable.position;
        last.max_timestamp = if last.is_empty() { NO_TIMESTAMP } else { last.max_timestamp };
        let checkpoints = &mut self.checkpoints;
        let checkpoint = Checkpoint {
            sequence: checkpoints.sequence + 1,
            start: self.start,
            clean: is_clean,
            scan: checkpoints.state.as_ref().map_or(self.durable, |state| state.point),
            durable: self.durable,
            write_bytes_max: checkpoints.write_bytes_max,
            app_state: checkpoints.state.as_ref().map(|state| state.bytes.clone()),
            clean_end: self.compactor.clean_end(),
            segments,
        };
        let retire = std::mem::take(&mut checkpoints.to_retire);
        checkpoints.under_way = Some(UnderWay { start: self.start, is_clean, retire });
        checkpoints.due = Due::counted_from(now.mono);
        checkpoints.is_pressing = false;
        let bytes = checkpoint.encode(self.id);
        self.ops.ask(Purpose::Checkpoint, DiskOp::ReplaceFile { name: FileName::Checkpoint, bytes });
    }

    pub(super) fn on_checkpoint_written(&mut self, now: Now, result: DiskResult) {
        let written = self.checkpoints.under_way.take().expect("a checkpoint was under way");
        match result {
            Ok(_) => {
                self.space.on_granted();
                self.checkpoints.sequence += 1;
                self.checkpoints.durable_start = written.start;
                self.checkpoints.is_clean = written.is_clean;
                if self.is_serving_or_closing() {
                    self.retiring.extend(written.retire);
                }
                reach::mark!("log.trim_goes_on", self.checkpoints.trim_waits && written.start < self.start);
                if self.checkpoints.trim_waits && written.start >= self.start {
                    self.checkpoints.trim_waits = false;
                    self.events.push(LogEvent::Trimmed);
                }
            }
            Err(error) if error.kind == DiskErrorKind::NoSpace => {
                reach::mark!("log.checkpoint_refused");
                self.checkpoints.to_retire.splice(0..0, written.retire);
                self.checkpoints.is_pressing = true;
                self.refuse_space(now, &error.to_string());
            }
            Err(error) => {
                reach::mark!("log.checkpoint_failed");
                self.fail(format!("writing the checkpoint: {error}"));
            }
        }
    }
}
