//! One log: which frames exist, where they stand in its segment files, which of them are on stable storage.
//!
//! A [`Log`] is a value: it is told what to append and what the disk answered, and says which [`DiskOp`]s it
//! wants. At most one write of a log is under way at a time; appends that arrive meanwhile leave together in
//! the next one (group commit).
//!
//! Does not know: how operations reach a disk (`storage/disk`), partitions, replication, producers.
#![forbid(unsafe_code)]

pub mod disk_op;
pub mod log;

pub use disk_op::{DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, OpId, SegmentId};
pub use log::{Find, Log, LogConfig, LogEvent, LogState, Read, ReadError, ReadId, Recovered};
