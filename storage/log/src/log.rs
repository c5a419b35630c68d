//! SKELETON of the log's public face: bodies to come, signatures agreed with `engine/shard`.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Frame, FrameHeader, LogId, Now, Offset, TimestampMs};

use crate::disk_op::{DiskOp, DiskResult, OpId};

/// A log's settings, changeable while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u64,
    /// A segment whose first append is older is rolled at the next append or tick.
    pub segment_age_max: Duration,
    /// `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Compared with the largest timestamp of a sealed segment. `None`: no limit.
    pub retention_age: Option<Duration>,
    /// `write.caching`: `Some(d)` holds writes back to gather more, at most this long; `None`: write at the end
    /// of every turn.
    pub write_back_delay: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    Opening,
    Ready,
    /// Acknowledged data did not verify when opening: reading goes on below `good_end`, appending is refused.
    Damaged { good_end: Offset, why: String },
    /// A write or sync failed: what was on disk before stays readable, nothing more is written.
    Failed { why: String },
    Closing,
    /// Clean-shutdown marker written, or the log removed: nothing is under way.
    Closed,
}

/// Numbers reads and finds that wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Served from memory. Contiguous frames, the first containing the offset asked; empty only at the limit.
    Now(Vec<Frame>),
    /// A [`LogEvent::Read`] of this id will follow, unless the log is removed or fails first (then too: with an error).
    Pending(ReadId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    Now(Option<FrameHeader>),
    /// A [`LogEvent::Found`] of this id will follow.
    Pending(ReadId),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes there do not verify.
    #[error("{why}")]
    Damaged { why: String },
    /// Retention or deletion took the offset away while the read waited.
    #[error("offset below the log's start")]
    Trimmed,
    #[error("{why}")]
    Io { why: String },
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Given to [`Log::set_app_state`] before the last checkpoint: the owner's own state as of `app_state_end`.
    pub app_state: Option<Bytes>,
    pub app_state_end: Offset,
    /// Every frame's header from `app_state_end` on, in order.
    pub headers: Vec<FrameHeader>,
    /// The log was closed in order: nothing had to be scanned.
    pub clean: bool,
    /// Bytes of torn, never acknowledged frames cut off the end.
    pub cut_bytes: u64,
}

/// What [`Log::on_disk`] and [`Log::on_tick`] have to tell the owner. Ends and state are asked, not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// State is now `Ready` or `Damaged`.
    Opened(Recovered),
    /// `durable_end` rose; the time the write took.
    Durable { disk: Duration },
    Read(ReadId, Result<Vec<Frame>, ReadError>),
    Found(ReadId, Result<Option<FrameHeader>, ReadError>),
    /// State is now `Failed`.
    Failed,
    /// State is now `Closed`.
    Closed,
    /// Retention or deletion raised `start`.
    Trimmed,
    /// For the log line and the metric; `what` is for people.
    Note(String),
}

/// See the crate.
#[derive(Debug)]
pub struct Log {
    _id: LogId,
}

#[allow(unused_variables, clippy::todo)]
impl Log {
    /// A log to be opened or, where its directory is empty, begun. `label` is written into segment headers for
    /// people ("topic/partition"). Ops come from [`take_ops`](Self::take_ops); `Opened` tells when it is usable.
    pub fn open(id: LogId, label: &str, config: LogConfig, now: Now) -> Self {
        todo!()
    }
    pub fn set_config(&mut self, config: LogConfig) {
        todo!()
    }
    pub fn state(&self) -> &LogState {
        todo!()
    }
    /// start <= durable_end <= staged_end, ends exclusive.
    pub fn start(&self) -> Offset {
        todo!()
    }
    /// The start that the checkpoint on disk names: no restart goes below it. `durable_start <= start`.
    pub fn durable_start(&self) -> Offset {
        todo!()
    }
    pub fn durable_end(&self) -> Offset {
        todo!()
    }
    pub fn staged_end(&self) -> Offset {
        todo!()
    }
    /// Bytes of frames held in memory: staged and cached.
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
    /// Bytes staged and not yet durable.
    pub fn staged_bytes(&self) -> usize {
        todo!()
    }
    /// Bytes of live segments on disk.
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
    /// The disk said "no space" for room this log needs; it asks again each tick.
    pub fn out_of_space(&self) -> bool {
        todo!()
    }
    /// Stages `frame`, which must begin at `staged_end` with an epoch not below the last one's. State `Ready`.
    pub fn append(&mut self, now: Now, frame: Frame) {
        todo!()
    }
    /// Whole frames from the one that contains `from`, up to `limit` (exclusive, a frame boundary: the high
    /// watermark), at most `bytes_max` but at least one. `start <= from < limit <= staged_end`.
    pub fn read(&mut self, from: Offset, limit: Offset, bytes_max: usize) -> Read {
        todo!()
    }
    /// The first frame below `limit` whose max timestamp is at or after `at`.
    pub fn find(&mut self, at: TimestampMs, limit: Offset) -> Find {
        todo!()
    }
    /// Records below `before` are gone: `start` rises at once, whole segments below it are removed, the
    /// checkpoint that makes it durable is asked for. `before <= durable_end`. `Trimmed` follows when durable.
    pub fn delete_before(&mut self, before: Offset) {
        todo!()
    }
    /// Replaces the owner's state that the next checkpoint carries; it describes all frames below `end`.
    pub fn set_app_state(&mut self, end: Offset, state: Bytes) {
        todo!()
    }
    /// A checkpoint is due: the owner should `set_app_state` now, before the turn ends.
    pub fn wants_app_state(&self) -> bool {
        todo!()
    }
    /// Age-based roll, retention, checkpoint by time, retry after no space, dropping of idle memory.
    pub fn on_tick(&mut self, now: Now, out: &mut Vec<LogEvent>) {
        todo!()
    }
    /// Drops cached frames (not staged ones), oldest first, until about `bytes` are freed; returns how many were.
    pub fn shrink_cache(&mut self, bytes: usize) -> usize {
        todo!()
    }
    /// Writes what is staged, then the clean-shutdown marker; then `Closed`.
    pub fn close(&mut self) {
        todo!()
    }
    /// Removes everything on disk; then `Closed`. Pending reads end in `Trimmed`.
    pub fn remove(&mut self) {
        todo!()
    }
    pub fn on_disk(&mut self, now: Now, op: OpId, result: DiskResult, out: &mut Vec<LogEvent>) {
        todo!()
    }
    /// What to do now. Called at the end of each turn in which the log was touched.
    pub fn take_ops(&mut self, now: Now, out: &mut Vec<(OpId, DiskOp)>) {
        todo!()
    }
}
