//! The log's public face and the state behind it. What it does is told in the files beside: `write` (appends,
//! group commit, roll), `read` (reads and finds), `checkpointing`, `retention` (trim, removal, idleness),
//! `closing`.
//!
//! ```text
//! start <= durable.offset <= staged.offset         (ends exclusive)
//!          on stable storage  in memory
//! ```
//! The last of `segments` takes the appends. The writer works on the segment of `durable`; segments before it
//! are sealed, segments behind it are planned and hold staged frames only.

mod checkpointing;
mod closing;
mod compacting;
mod near;
mod read;
mod retention;
mod space;
mod write;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Frame, LeaderEpoch, LogId, Now, Offset, TimestampMs};

use crate::config::{APP_STATE_BYTES_MAX, HOUSEKEEPING_EVERY, LogConfig};
use crate::disk_op::{DiskOp, DiskResult, OpId, SegmentId};
use crate::event::{Find, LogEvent, LogState, Read};
use crate::jobs::Life;
use crate::opening::{Next, Opened, Opening};
use crate::ops::{Ops, Purpose};
use crate::recent::Recent;
use crate::segment::{Point, Segment};
use checkpointing::{AppState, Checkpoints};
use closing::Goal;
use compacting::Compactor;
use read::Reads;
use space::Space;
use write::Writer;

/// See the crate.
#[derive(Debug)]
pub struct Log {
    id: LogId,
    label: String,
    config: LogConfig,
    state: LogState,
    goal: Goal,
    opening: Option<Box<Opening>>,
    ops: Ops,
    events: Vec<LogEvent>,
    start: Offset,
    durable: Point,
    staged: Point,
    life: Life,
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    recent: Recent,
    writer: Writer,
    reads: Reads,
    checkpoints: Checkpoints,
    space: Space,
    compactor: Compactor,
    /// Nothing on disk points at them any more; they go when nothing uses them.
    retiring: Vec<SegmentId>,
    appended_at: Duration,
    housekeeping_at: Duration,
}

impl Log {
    /// A log to be opened or, where its directory is empty, begun. `label` is written into segment headers for
    /// people ("topic/partition"). Ops come from [`take_ops`](Self::take_ops); `Opened` tells when it is usable.
    #[must_use]
    pub fn open(id: LogId, label: &str, config: LogConfig, now: Now) -> Self {
        let mut ops = Ops::default();
        let (opening, first) = Opening::begin(id);
        ops.ask(Purpose::Open, first);
        let segment = Segment::planned(SegmentId(1), Offset::ZERO);
        let begin = segment.first_point(LeaderEpoch(0));
        Self {
            id,
            label: label.to_owned(),
            config,
            state: LogState::Opening,
            goal: Goal::Serve,
            opening: Some(Box::new(opening)),
            ops,
            events: Vec::new(),
            start: Offset::ZERO,
            durable: begin,
            staged: begin,
            life: Life { start: begin.offset, epoch: begin.epoch },
            writer: Writer::of_planned(&segment),
            segments: VecDeque::from([segment]),
            recent: Recent::default(),
            reads: Reads::default(),
            checkpoints: Checkpoints::new(now.mono),
            space: Space::default(),
            compactor: Compactor::default(),
            retiring: Vec::new(),
            appended_at: now.mono,
            housekeeping_at: now.mono,
        }
    }

    /// Takes effect with the next append or tick; segments there are keep their size.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// start <= durable_end <= staged_end, ends exclusive.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The start that the checkpoint on disk names: no restart goes below it. `durable_start <= start`.
    #[must_use]
    pub fn durable_start(&self) -> Offset {
        self.checkpoints.durable_start()
    }

    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable.offset
    }

    #[must_use]
    pub fn staged_end(&self) -> Offset {
        self.staged.offset
    }

    /// Epoch of the last frame staged; 0 in a log that never had one. What comes next must not be below it.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.staged.epoch
    }

    /// Bytes held in memory: frames staged and cached, what compaction has to remember.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.recent.bytes() + self.compactor.memory_bytes()
    }

    /// Bytes staged and not yet durable.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.recent.staged_bytes()
    }

    /// A read from here on is served from memory.
    #[must_use]
    pub fn is_cached(&self, from: Offset) -> bool {
        self.recent.start().is_some_and(|start| start <= from)
    }

    /// Bytes of live segments on disk, room not written to not counted.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let sealed = self.segments.iter().take(self.sealed_count());
        let begun = if self.writer.is_begun() { self.durable.position } else { 0 };
        sealed.map(|segment| segment.end_position).sum::<u64>() + begun
    }

    /// The disk said "no space" for room this log needs; it asks again at ticks.
    #[must_use]
    pub fn out_of_space(&self) -> bool {
        self.space.is_out()
    }

    /// Stages `frame`, which must begin at `staged_end` with an epoch not below the last one's. State `Ready`.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn append(&mut self, now: Now, frame: Frame) {
        assert_eq!(self.state, LogState::Ready, "appends to log {}", self.id);
        self.stage(now, frame);
    }

    /// Whole frames from the one that contains `from`, up to `limit` (exclusive, a frame boundary: the high
    /// watermark), at most `bytes_max` but at least one. One without records begins at `from`. `start <= from < limit <= staged_end`; not after `remove`.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn read(&mut self, from: Offset, limit: Offset, bytes_max: usize) -> Read {
        assert!(self.start <= from && from < limit && limit <= self.staged.offset);
        self.begin_read(from, limit, bytes_max)
    }

    /// The first frame below `limit` whose max timestamp is at or after `at`. Not after `remove`.
    ///
    /// # Panics
    /// When `limit` is behind `staged_end`.
    pub fn find(&mut self, at: TimestampMs, limit: Offset) -> Find {
        assert!(limit <= self.staged.offset);
        self.begin_find(at, limit)
    }

    /// Records below `before` are gone: `start` rises at once, whole segments below it are removed, the
    /// checkpoint that makes it durable is asked for. `before <= durable_end`. `Trimmed` follows when durable
    /// (at once, with the next event, when `start` is there already). State `Ready`.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn delete_before(&mut self, before: Offset) {
        assert_eq!(self.state, LogState::Ready, "deletes from log {}", self.id);
        assert!(before <= self.durable.offset);
        self.raise_start(before);
    }

    /// Replaces the owner's state that the next checkpoint carries; it describes all frames below `end`, a
    /// frame boundary in `durable_end..=staged_end`. At most [`APP_STATE_BYTES_MAX`].
    ///
    /// An owner who has no state gives an empty one: a log without state is scanned from its start.
    ///
    /// # Panics
    /// When `end` is no such boundary or the state too large.
    pub fn set_app_state(&mut self, end: Offset, state: Bytes) {
        assert!(state.len() <= APP_STATE_BYTES_MAX);
        let point = self.point_at(end).expect("the end of a frame that is staged, or durable_end");
        self.checkpoints.set_state(AppState { point, bytes: state });
    }

    /// A checkpoint is due: the owner should `set_app_state` now, before the turn ends. Also after `close`.
    #[must_use]
    pub fn wants_app_state(&self) -> bool {
        self.is_serving_or_closing() && self.checkpoints.wants_state(self.staged.offset, self.goal)
    }

    /// Age-based roll, retention, checkpoint by time, retry after no space, dropping of idle memory.
    pub fn on_tick(&mut self, now: Now, out: &mut Vec<LogEvent>) {
        self.space.on_tick(now.mono);
        if now.mono >= self.housekeeping_at {
            self.housekeeping_at = now.mono + HOUSEKEEPING_EVERY;
            if self.state == LogState::Ready {
                self.roll_by_age(now);
                self.retain(now);
                self.drop_idle_memory(now);
            }
        }
        self.settle(now, out);
    }

    /// Drops cached frames (not staged ones), oldest first, until about `bytes` are freed; returns how many were.
    pub fn shrink_cache(&mut self, bytes: usize) -> usize {
        reach::mark!("log.cache_dropped_for_memory", self.recent.bytes() > self.recent.staged_bytes());
        self.recent.drop_durable(bytes)
    }

    /// Writes what is staged, then the clean-shutdown marker; then `Closed`.
    pub fn close(&mut self) {
        if self.goal == Goal::Serve {
            reach::mark!("log.closed_while_writing", self.writer.is_writing());
            self.goal = Goal::Close;
            // There may be room again, and what is staged may have been acknowledged from memory.
            self.space.retry_now();
            if self.state == LogState::Ready {
                self.state = LogState::Closing;
            }
        }
    }

    /// Removes everything on disk; then `Closed`. Pending reads end in `Trimmed`.
    pub fn remove(&mut self) {
        self.begin_remove();
    }

    pub fn on_disk(&mut self, now: Now, op: OpId, result: DiskResult, out: &mut Vec<LogEvent>) {
        let Some(purpose) = self.ops.on_answer(op, &result) else { return };
        match purpose {
            Purpose::Open => self.on_opening(now, result),
            Purpose::Write(_) => self.on_written(now, result),
            Purpose::Zero { segment, to } => self.on_zeroed(now, segment, to, result),
            Purpose::Make(segment) => self.on_made(now, segment, result),
            Purpose::Discard(segment) => self.on_discarded(segment, result),
            Purpose::LoadTail(_) => self.on_tail_loaded(result),
            Purpose::Checkpoint => self.on_checkpoint_written(now, result),
            Purpose::LoadIndex(segment) => self.on_index_loaded(segment, result),
            Purpose::MergeIndex(segment) => self.on_index_to_merge(segment, result),
            Purpose::SaveIndex(segment) => self.on_index_saved(segment, result),
            Purpose::Read { job, segment } => self.on_read(job, segment, result),
            Purpose::Retire(segment) | Purpose::RemoveIndex(segment) => self.on_retired(segment, result),
            Purpose::RemoveLog => self.on_removed(now, result),
            Purpose::CompactRead(_)
            | Purpose::CompactMake(_)
            | Purpose::CompactZero { .. }
            | Purpose::CompactWrite(_)
            | Purpose::CompactDiscard(_) => self.on_compaction_step(now, purpose, result),
        }
        self.settle(now, out);
    }

    /// What to do now. Called at the end of each turn in which the log was touched.
    pub fn take_ops(&mut self, now: Now, out: &mut Vec<(OpId, DiskOp)>) {
        self.poll(now);
        self.ops.take(out);
    }

    fn poll(&mut self, now: Now) {
        if self.goal.is_remove() {
            return self.poll_remove();
        }
        if self.is_serving_or_closing() {
            self.poll_write(now);
            self.poll_compaction(now);
            self.poll_checkpoint(now);
            self.poll_index_saves();
            self.poll_retiring();
            self.settle_space();
        }
    }

    /// A refused step may turn out not to be needed: then nothing is ever granted that would tell of room again.
    fn settle_space(&mut self) {
        let takes_space =
            |purpose| matches!(purpose, Purpose::Zero { .. } | Purpose::Make(_) | Purpose::Checkpoint);
        if self.space.is_out() && !self.space.is_waiting() && !self.ops.any(takes_space) {
            reach::mark!("log.space_not_needed_any_more");
            self.space.on_granted();
        }
    }

    /// How many of `segments` are sealed: all of such a one is durable, and a later one takes what comes.
    fn sealed_count(&self) -> usize {
        let writers = self.segments.iter().position(|segment| segment.id == self.durable.segment);
        writers.expect("the writer's segment is live")
    }

    /// Writing goes on: open, and nothing has failed.
    fn is_serving_or_closing(&self) -> bool {
        matches!(self.state, LogState::Ready | LogState::Closing)
    }

    fn settle(&mut self, now: Now, out: &mut Vec<LogEvent>) {
        if self.is_serving_or_closing() {
            self.checkpoints.note_due(now.mono);
        }
        self.settle_closing();
        out.append(&mut self.events);
    }

    fn note(&mut self, what: String) {
        self.events.push(LogEvent::Note(what));
    }

    /// For good: the disk may or may not hold what was last asked of it.
    fn fail(&mut self, why: String) {
        if !matches!(self.state, LogState::Failed { .. } | LogState::Closed) {
            self.state = LogState::Failed { why: why.clone() };
            self.events.push(LogEvent::Failed { why });
            // Files that were to be retired are removed by the next opening, indexes put together by its readers.
            self.retiring.clear();
            self.reads.give_up_saves();
            self.compactor.give_up();
        }
    }

    fn on_opening(&mut self, now: Now, result: DiskResult) {
        let opening = self.opening.as_mut().expect("opening is under way");
        match opening.on_reply(result) {
            _ if self.goal.is_remove() => {
                reach::mark!("log.removed_while_opening");
                self.opening = None;
            }
            Next::Ask(op) => self.ops.ask(Purpose::Open, op),
            Next::Failed(why) => {
                reach::mark!("log.opening_failed");
                self.opening = None;
                self.fail(why);
            }
            Next::Done(opened) => {
                self.opening = None;
                self.on_opened(now, *opened);
            }
        }
    }

    fn on_opened(&mut self, now: Now, opened: Opened) {
        reach::mark!("log.closed_while_opening", self.goal == Goal::Close);
        self.checkpoints.on_opened(now.mono, &opened);
        self.start = opened.start;
        self.durable = opened.end;
        self.staged = opened.end;
        self.life = Life { start: opened.end.offset, epoch: opened.end.epoch };
        self.segments = opened.segments.into();
        self.compactor = Compactor::opened(opened.clean_end.min(opened.end.offset), opened.next_rewritten);
        let last = self.segments.back().expect("at least one");
        self.writer = Writer::opened(last, opened.file_bytes, opened.tail, opened.index);
        self.appended_at = now.mono;
        for note in opened.notes {
            self.note(note);
        }
        self.state = match opened.damage {
            Some(why) => LogState::Damaged { good_end: self.durable.offset, why },
            None if self.goal == Goal::Close => LogState::Closing,
            None => LogState::Ready,
        };
        self.events.push(LogEvent::Opened(opened.recovered));
    }
}
