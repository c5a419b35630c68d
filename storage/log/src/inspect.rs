//! The log's files as people and tools see them: headers, frames, findings, from the bytes of each file. Reads
//! no file and changes nothing; works on logs no broker would open.
//!
//! - [`SegmentWalk`]: the frames of a segment file, and why they end.
//! - [`LogCheck`]: one log's files together: told the checkpoint, then segment after segment.
//! - [`checkpoint`], [`index`]: the small files.

mod check;

use bytes::Bytes;
use storage_frame::{FRAME_ALIGN, Frame, FrameHeader, HEADER_BYTES, LogId, Offset, Salt, TimestampMs};

use crate::checkpoint::Checkpoint;
use crate::disk_op::{BLOCK_BYTES, SegmentId};
use crate::index::SegmentIndex;
use crate::segment::{FIRST_FRAME, NO_TIMESTAMP, Segment};
use crate::segment_header::{FirstBlock, SegmentHeader};
pub use check::{Finding, LogCheck, Severity, Summary};

/// What a segment's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    pub log: LogId,
    pub segment: SegmentId,
    /// Salt of the frames' header checksums.
    pub generation: u32,
    pub base_offset: Offset,
    pub created: TimestampMs,
    /// Where the segment before it ends; 0: there was none.
    pub previous_end: u64,
    pub label: String,
    /// Compaction wrote it in place of these, first and last.
    pub stands_for: Option<(SegmentId, SegmentId)>,
    /// Then: where its frames end.
    pub end_position: Option<u64>,
}

impl From<SegmentHeader> for SegmentInfo {
    fn from(header: SegmentHeader) -> Self {
        Self {
            log: header.log,
            segment: header.segment,
            generation: header.generation,
            base_offset: header.base_offset,
            created: header.created,
            previous_end: header.previous_end,
            label: header.label,
            stands_for: header.rewritten.as_ref().map(|of| (of.first, of.last)),
            end_position: header.rewritten.map(|of| of.end_position),
        }
    }
}

impl SegmentInfo {
    fn first_number(&self) -> SegmentId {
        self.stands_for.map_or(self.segment, |(first, _)| first)
    }

    fn last_number(&self) -> SegmentId {
        self.stands_for.map_or(self.segment, |(_, last)| last)
    }
}

/// Why a segment file has no frames to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Made ahead of the writer: holds nothing.
    #[error("never written")]
    NeverWritten,
    #[error("header: {0}")]
    Header(String),
}

/// A frame and where it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameAt {
    pub position: u64,
    pub frame: Frame,
    /// The first frame of one write.
    pub starts_write: bool,
}

/// Why a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Zeros, or the end of the file.
    End,
    /// What follows is no frame that could follow: a torn one, damage, or what a former life of the file left.
    Bad(String),
}

/// Walks over the frames of a whole segment file, checking both checksums, offsets and epochs.
#[derive(Debug, Clone)]
pub struct SegmentWalk {
    file: Bytes,
    info: SegmentInfo,
    position: u64,
    next_offset: Offset,
    last: Option<FrameHeader>,
    stop: Option<Stop>,
}

impl SegmentWalk {
    /// # Errors
    /// [`SegmentError`] when `file` does not begin with a segment's header.
    pub fn open(file: Bytes) -> Result<Self, SegmentError> {
        if file.len() < BLOCK_BYTES {
            return Err(SegmentError::NeverWritten);
        }
        match SegmentHeader::decode(&file) {
            FirstBlock::Header(header) => Ok(Self {
                file,
                next_offset: header.base_offset,
                info: header.into(),
                position: FIRST_FRAME,
                last: None,
                stop: None,
            }),
            FirstBlock::Zeros => Err(SegmentError::NeverWritten),
            FirstBlock::Unreadable(why) => Err(SegmentError::Header(why.to_string())),
        }
    }

    #[must_use]
    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// Behind the last frame so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The offset that would follow.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Set when the walk is over.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Behind where the walk ended: the first frame of a write that could only have begun after what stands
    /// there was on stable storage. Then what does not verify is damage, not a torn tail.
    #[must_use]
    pub fn later_write(&self) -> Option<(u64, Offset)> {
        let salt = Salt(self.info.generation);
        let from = self.position as usize + FRAME_ALIGN;
        let mut positions = (from..self.file.len().saturating_sub(HEADER_BYTES - 1)).step_by(FRAME_ALIGN);
        positions.find_map(|at| {
            let header = FrameHeader::decode(&self.file[at..], salt).ok()?;
            let epoch_floor = self.last.map_or(0, |last| last.leader_epoch.0);
            let follows = header.base_offset >= self.next_offset && header.leader_epoch.0 >= epoch_floor;
            (header.starts_write && follows).then_some((at as u64, header.base_offset))
        })
    }

    /// The walk ended at a frame whose header is of this life of the file.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        let rest = &self.file[(self.position as usize).min(self.file.len())..];
        FrameHeader::decode(rest, Salt(self.info.generation)).is_ok()
    }

    fn judge(&self) -> Result<Frame, Stop> {
        let mut rest = self.file.slice((self.position as usize).min(self.file.len())..);
        if rest.iter().take(HEADER_BYTES).all(|byte| *byte == 0) {
            return Err(Stop::End);
        }
        let frame = Frame::split_from(&mut rest, Salt(self.info.generation))
            .map_err(|error| Stop::Bad(error.to_string()))?;
        let header = frame.header();
        if header.base_offset != self.next_offset {
            return Err(Stop::Bad(format!(
                "offset {} where {} follows",
                header.base_offset, self.next_offset
            )));
        }
        match self.last {
            Some(last) if header.leader_epoch < last.leader_epoch => {
                Err(Stop::Bad(format!("epoch {} after {}", header.leader_epoch, last.leader_epoch)))
            }
            _ => Ok(frame),
        }
    }
}

impl Iterator for SegmentWalk {
    type Item = FrameAt;

    fn next(&mut self) -> Option<FrameAt> {
        if self.stop.is_some() {
            return None;
        }
        match self.judge() {
            Ok(mut frame) => {
                let position = self.position;
                self.last = Some(*frame.header());
                self.position += frame.header().frame_bytes() as u64;
                self.next_offset = frame.header().end_offset();
                let starts_write = frame.header().starts_write;
                frame.set_starts_write(false);
                Some(FrameAt { position, frame, starts_write })
            }
            Err(stop) => {
                self.stop = Some(stop);
                None
            }
        }
    }
}

/// A segment as the checkpoint lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSegment {
    pub segment: SegmentId,
    /// 0: not begun when the checkpoint was written.
    pub generation: u32,
    pub base_offset: Offset,
    /// Its frames reached at least that far.
    pub end_position: u64,
    pub max_timestamp: Option<TimestampMs>,
    /// Compaction wrote it in place of these, first and last.
    pub stands_for: Option<(SegmentId, SegmentId)>,
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    pub log: LogId,
    pub sequence: u64,
    pub start: Offset,
    /// Everything below was on stable storage.
    pub durable_end: Offset,
    /// Opening scans from here.
    pub scan_from: Offset,
    pub closed_in_order: bool,
    /// What stands before it has been compacted against all of that; 0: nothing has.
    pub clean_end: Offset,
    pub app_state_bytes: Option<usize>,
    /// Oldest first; the last one takes the appends.
    pub segments: Vec<ListedSegment>,
}

/// # Errors
/// Why the bytes are no checkpoint, for people.
pub fn checkpoint(file: &Bytes) -> Result<CheckpointInfo, String> {
    let (log, found) = Checkpoint::decode_any(file).map_err(|why| why.to_string())?;
    Ok(CheckpointInfo {
        log,
        sequence: found.sequence,
        start: found.start,
        durable_end: found.durable.offset,
        scan_from: found.scan.offset,
        closed_in_order: found.clean,
        clean_end: found.clean_end,
        app_state_bytes: found.app_state.as_ref().map(Bytes::len),
        segments: found.segments.iter().map(ListedSegment::from).collect(),
    })
}

impl From<&Segment> for ListedSegment {
    fn from(segment: &Segment) -> Self {
        Self {
            segment: segment.id,
            generation: segment.generation,
            base_offset: segment.base,
            end_position: segment.end_position,
            max_timestamp: Some(segment.max_timestamp)
                .filter(|at| !segment.is_empty() && *at != NO_TIMESTAMP),
            stands_for: segment.stands_for,
        }
    }
}

/// What an index says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexInfo {
    pub log: LogId,
    pub segment: SegmentId,
    pub generation: u32,
    pub base_offset: Offset,
    /// Frames up to here are indexed.
    pub end_position: u64,
    /// Offset and position of each frame that has an entry.
    pub entries: Vec<(Offset, u64)>,
}

/// # Errors
/// Why the bytes are no index, for people.
pub fn index(file: &[u8]) -> Result<IndexInfo, String> {
    let (log, generation, index) = SegmentIndex::decode_any(file).map_err(|why| why.to_string())?;
    Ok(IndexInfo {
        log,
        segment: index.segment,
        generation,
        base_offset: index.base(),
        end_position: index.end_position(),
        entries: index.boundaries().map(|place| (place.offset, place.position)).collect(),
    })
}
