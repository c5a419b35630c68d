//! What the log remembers of a segment, and a place in it.

use storage_frame::{FRAME_ALIGN, Frame, FrameHeader, LeaderEpoch, Offset, Salt, TimestampMs};

use crate::disk_op::{BLOCK_BYTES, SegmentId};
use crate::fields::{Fields, FormatError};

/// Frames start behind the header block.
pub(crate) const FIRST_FRAME: u64 = BLOCK_BYTES as u64;
/// Largest timestamp of no frame at all.
pub(crate) const NO_TIMESTAMP: TimestampMs = TimestampMs(i64::MIN);

/// One segment file, or the plan of one: appends may be staged for it before the file is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Salt of its frames; 0 until its header is on stable storage ("begun").
    pub(crate) generation: u32,
    pub(crate) base: Offset,
    /// Where the segment before it ends, which may have been retired meanwhile; 0: there is none.
    pub(crate) previous_end: u64,
    /// Where its frames end, staged ones included.
    pub(crate) end_position: u64,
    pub(crate) max_timestamp: TimestampMs,
    /// Wall clock at its first append.
    pub(crate) created: TimestampMs,
    /// Compaction wrote it in place of those of these numbers, first and last.
    pub(crate) stands_for: Option<(SegmentId, SegmentId)>,
    /// When the first of the tombstones in it was compacted.
    pub(crate) tombstones_at: Option<TimestampMs>,
}

impl Segment {
    pub(crate) fn planned(id: SegmentId, base: Offset) -> Self {
        Self {
            id,
            generation: 0,
            base,
            previous_end: 0,
            end_position: FIRST_FRAME,
            max_timestamp: NO_TIMESTAMP,
            created: TimestampMs(0),
            stands_for: None,
            tombstones_at: None,
        }
    }

    /// Numbers follow each other without gaps from segment to segment.
    pub(crate) fn first_number(&self) -> SegmentId {
        self.stands_for.map_or(self.id, |(first, _)| first)
    }

    pub(crate) fn last_number(&self) -> SegmentId {
        self.stands_for.map_or(self.id, |(_, last)| last)
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.generation != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end_position == FIRST_FRAME
    }

    pub(crate) fn salt(&self) -> Salt {
        assert!(self.is_begun(), "a segment that is only planned holds no frames to read");
        Salt(self.generation)
    }

    pub(crate) fn next_id(&self) -> SegmentId {
        let next = SegmentId(self.last_number().0 + 1);
        assert!(!next.is_rewritten(), "2^31 segments of one log");
        next
    }

    pub(crate) fn first_point(&self, epoch: LeaderEpoch) -> Point {
        Point {
            segment: self.id,
            position: FIRST_FRAME,
            offset: self.base,
            epoch,
            max_timestamp: NO_TIMESTAMP,
        }
    }
}

/// A frame boundary: what the frame that follows must connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) segment: SegmentId,
    pub(crate) position: u64,
    /// Offset of the frame that follows.
    pub(crate) offset: Offset,
    /// Epoch of the frame before, in this segment or an earlier one.
    pub(crate) epoch: LeaderEpoch,
    /// Of the segment's frames before.
    pub(crate) max_timestamp: TimestampMs,
}

impl Point {
    /// The boundary behind a frame with this header that stands here.
    pub(crate) fn after(self, header: &FrameHeader) -> Self {
        Self {
            segment: self.segment,
            position: self.position + header.frame_bytes() as u64,
            offset: header.end_offset(),
            epoch: header.leader_epoch,
            max_timestamp: self.max_timestamp.max(header.max_timestamp),
        }
    }

    /// The beginning of the segment that follows the one which ends here.
    pub(crate) fn in_segment(self, segment: SegmentId) -> Self {
        Self { segment, position: FIRST_FRAME, max_timestamp: NO_TIMESTAMP, ..self }
    }
}

/// As in frame headers.
pub(crate) const OFFSET_MAX: Offset = Offset(i64::MAX as u64);
/// Far above any segment, and far below where adding to it would overflow.
const POSITION_MAX: u64 = 1 << 40;

/// Frames may end there.
pub(crate) fn is_boundary(position: u64) -> bool {
    (FIRST_FRAME..=POSITION_MAX).contains(&position) && position.is_multiple_of(FRAME_ALIGN as u64)
}

/// A time of which 0 says that there is none.
pub(crate) fn take_time(fields: &mut Fields<'_>) -> Result<Option<TimestampMs>, FormatError> {
    Ok(Some(TimestampMs(fields.i64()?)).filter(|at| at.0 != 0))
}

/// Start of the block that holds `position`.
pub(crate) fn block_start(position: u64) -> u64 {
    position - position % BLOCK_BYTES as u64
}

/// Bytes of its block before `position`.
pub(crate) fn block_part(position: u64) -> usize {
    (position % BLOCK_BYTES as u64) as usize
}

/// `position` rounded up to a block.
pub(crate) fn block_end(position: u64) -> u64 {
    position.next_multiple_of(BLOCK_BYTES as u64)
}

/// As readers get it: which write a frame left in is of no concern to them.
pub(crate) fn plain(mut frame: Frame) -> Frame {
    frame.set_starts_write(false);
    frame
}
