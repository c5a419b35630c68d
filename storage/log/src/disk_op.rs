//! What a log asks of the disk, and what the disk answers: the seam between `storage/log` and `storage/disk`.
//!
//! Every operation is about one log's directory, named by the [`LogId`](storage_frame::LogId) it travels with.
//! Operations under way at the same time may finish in any order; a log that needs an order waits.

use std::fmt;

use bytes::Bytes;

/// Direct I/O moves whole blocks of this size at multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// Numbers a log's operations; unique within the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Names the file `<ten digits>.seg`. Segments that were appended to are counted from 1; those that compaction wrote
/// in place of others from 2^31, in the order in which they were begun and not of their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

impl SegmentId {
    /// The first one that compaction writes.
    pub const REWRITTEN_FIRST: Self = Self(1 << 31);

    /// Compaction wrote it.
    #[must_use]
    pub fn is_rewritten(self) -> bool {
        self >= Self::REWRITTEN_FIRST
    }
}

/// A file in a log's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// `<ten digits>.seg`
    Segment(SegmentId),
    /// `<ten digits>.idx`
    Index(SegmentId),
    /// `checkpoint`
    Checkpoint,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(SegmentId(id)) => write!(f, "{id:010}.seg"),
            Self::Index(SegmentId(id)) => write!(f, "{id:010}.idx"),
            Self::Checkpoint => f.write_str("checkpoint"),
        }
    }
}

impl FileName {
    /// The file of a log that is named so; `None`: none is.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        let (id, ending) = name.split_once('.')?;
        if id.len() != 10 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let id = SegmentId(id.parse().ok()?);
        match ending {
            "seg" => Some(Self::Segment(id)),
            "idx" => Some(Self::Index(id)),
            _ => None,
        }
    }
}

/// One operation. "Durable" means: once it is answered `Ok`, it survives a loss of power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// The files in the log's directory; an absent directory is an empty one.
    List,
    /// A whole small file, at most `bytes_max` (more is an error).
    ReadFile { name: FileName, bytes_max: usize },
    /// Durably replaces the whole file or leaves it as it was (temporary file, sync, rename, sync directory).
    ReplaceFile { name: FileName, bytes: Bytes },
    /// Durably makes the segment file: a recycled spare if there is one, an empty file otherwise.
    /// Answers [`DiskReply::Made`].
    MakeSegment { segment: SegmentId },
    /// Durably makes `from..to` of the segment read as zeros (whole blocks, past the file's end so far). `bulk`: large
    /// writes will follow, so that the file system may put the zeros off: each write then costs it a note of its own,
    /// which for large ones is less than everything written twice.
    Zero { segment: SegmentId, from: u64, to: u64, bulk: bool },
    /// Writes `parts` back to back at `position` (a block's start), padded with zeros to a whole block.
    /// Durable (`O_DSYNC`). The room is there: made by `Zero` or recycled.
    Write { segment: SegmentId, position: u64, parts: Vec<Bytes> },
    /// Up to `bytes` from `position` (any; the disk aligns). Shorter at the file's end.
    Read { segment: SegmentId, position: u64, bytes: usize },
    /// Durably removes the segment's file, or moves it to the spares to be recycled.
    RetireSegment { segment: SegmentId },
    /// Durably removes a file. Removing an absent one is no error.
    RemoveFile { name: FileName },
    /// Durably removes the log's directory with everything in it.
    RemoveLog,
}

/// What an operation that succeeded answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskReply {
    /// To `List`: every file with its size in bytes, in no order. Files of other names are not listed.
    Listed(Vec<(FileName, u64)>),
    /// To `ReadFile` and `Read`.
    Bytes(Bytes),
    /// To `MakeSegment`: bytes of the file and its first block: a recycled file is full of its former life.
    Made { file_bytes: u64, first_block: Bytes },
    /// To everything else.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {what}")]
pub struct DiskError {
    pub kind: DiskErrorKind,
    /// Operation, file and system error, for people.
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// ENOSPC, EDQUOT: may pass.
    NoSpace,
    /// No such file.
    NotFound,
    /// EIO and everything else: a write that answers this is never retried and acknowledged.
    Io,
}

pub type DiskResult = Result<DiskReply, DiskError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_as_they_are_written() {
        for name in
            [FileName::Segment(SegmentId(7)), FileName::Index(SegmentId(u32::MAX)), FileName::Checkpoint]
        {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for foreign in ["", "checkpoint.new", "7.seg", "9999999999.seg", "000000000x.seg", "0000000001.log"] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }
}
