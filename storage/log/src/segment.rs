//! What the log remembers of a segment, and a place in it.

use storage_frame::{Frame, FrameHeader, LeaderEpoch, Offset, Salt, TimestampMs};

use crate::disk_op::{BLOCK_BYTES, SegmentId};

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
        }
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
        SegmentId(self.id.0.checked_add(1).expect("2^32 segments of one log"))
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
