//! One log: which frames exist, where they stand in its segment files, which of them are on stable storage.
//!
//! A [`Log`] is a value: it is told what to append and what the disk answered, and says which [`DiskOp`]s it
//! wants. At most one write of a log is under way at a time; appends that arrive meanwhile leave together in
//! the next one (group commit). The bytes on disk and why a crash cannot hurt them: `storage/FORMAT.md`.
//!
//! - [`log`]: the public face; [`config`] and [`event`] hold what it is given and what it tells.
//! - [`disk_op`]: the seam to `storage/disk`; [`latency`]: how long its operations take.
//! - [`inspect`]: the same formats read by people, from the bytes of a file, without a log.
//! - [`CompactionTask`]: of each key only the last record stays, if the owner wants it so.
//! - inside: `segment_header`, `index`, `checkpoint` (file formats), `opening` (recovery), `recent` (frames in
//!   memory), `room` (space ahead of the writer), `tail` (the block that is rewritten), `gather` (one write).
//!
//! Does not know: how operations reach a disk (`storage/disk`), partitions, replication, producers.
#![forbid(unsafe_code)]

mod checkpoint;
mod compaction;
pub mod config;
pub mod disk_op;
pub mod event;
mod fields;
mod gather;
mod index;
pub mod inspect;
mod jobs;
pub mod latency;
pub mod log;
mod opening;
mod ops;
mod recent;
mod room;
mod segment;
mod segment_header;
mod tail;

pub use compaction::{Compacted, CompactionRules, CompactionTask, KeyAt, RecordAccess};
pub use config::{APP_STATE_BYTES_MAX, LogConfig};
pub use disk_op::{
    BLOCK_BYTES, DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, OpId, SegmentId,
};
pub use event::{Find, LogEvent, LogState, Read, ReadError, ReadId, Recovered};
pub use latency::{LATENCY_BOUNDS, LatencyHistogram};
pub use log::Log;
