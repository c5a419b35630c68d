//! What a log answers and tells.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Frame, FrameHeader, Offset};

use crate::compaction::Compacted;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    Opening,
    Ready,
    /// Acknowledged data did not verify when opening: reading goes on below `good_end`, appending is refused,
    /// nothing on disk is touched.
    Damaged {
        good_end: Offset,
        why: String,
    },
    /// A write or sync failed, or the files are not for this build: what was on disk before stays readable,
    /// nothing more is written.
    Failed {
        why: String,
    },
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
    /// A [`LogEvent::Read`] of this id will follow, unless the log is removed or fails first (then too: with an
    /// error).
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
    /// Given to [`Log::set_app_state`](crate::Log::set_app_state) before the last checkpoint: the owner's own
    /// state as of `app_state_end`. None too when deletion has gone past the frames it was given with.
    pub app_state: Option<Bytes>,
    pub app_state_end: Offset,
    /// Every frame's header from `app_state_end` on, in order.
    pub headers: Vec<FrameHeader>,
    /// The log was closed in order: nothing had to be scanned.
    pub clean: bool,
    /// Bytes of torn, never acknowledged frames cut off the end.
    pub cut_bytes: u64,
}

/// What [`Log::on_disk`](crate::Log::on_disk) and [`Log::on_tick`](crate::Log::on_tick) have to tell the owner.
/// Ends and state are asked, not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// State is now `Ready` or `Damaged` (or on its way to `Closed`, when `close` came before).
    Opened(Recovered),
    /// `durable_end` rose; the time the write took.
    Durable {
        disk: Duration,
    },
    Read(ReadId, Result<Vec<Frame>, ReadError>),
    Found(ReadId, Result<Option<FrameHeader>, ReadError>),
    /// State is now `Failed`; it may be `Closed` already when `close` came before. `why` is the state's.
    Failed {
        why: String,
    },
    /// State is now `Closed`.
    Closed,
    /// Retention or deletion raised `start`, durably.
    Trimmed,
    /// A pass of compaction has ended; `Err`: before its time, why, for people.
    Compacted(Result<Compacted, String>),
    /// For the log line and the metric; `what` is for people.
    Note(String),
}
