//! Where a reader stands in one partition.
//!
//! Frames come whole, so the first one may hold records before the place that was asked for; from then on each
//! frame must begin where the one before it ended. A gap or an overlap is an error, never skipped over: it would
//! be a record lost or doubled.

use storage_frame::{FrameHeader, Offset, TimestampMs};

/// A frame that does not continue what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame holds offsets {base_offset} to {end_offset}, next to read is {next}")]
pub struct NotContiguous {
    /// The reader's position.
    pub next: Offset,
    /// The frame's first.
    pub base_offset: Offset,
    /// One past the frame's last.
    pub end_offset: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadPosition {
    next: Offset,
    /// Records of an earlier time are skipped in the first frame.
    from_timestamp: Option<TimestampMs>,
    /// No frame since the stream was opened: the first may begin before `next`.
    first: bool,
}

/// What of a frame the reader is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Records to skip at the frame's start.
    pub(crate) skip_count: u32,
    /// Skip further while records are of an earlier time.
    pub(crate) from_timestamp: Option<TimestampMs>,
}

impl ReadPosition {
    pub(crate) fn new(next: Offset, from_timestamp: Option<TimestampMs>) -> Self {
        Self { next, from_timestamp, first: true }
    }

    /// The offset to ask for when opening a stream.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// The stream was opened anew at [`next`](Self::next).
    pub(crate) fn on_opened(&mut self) {
        self.first = true;
    }

    pub(crate) fn on_frame(&mut self, header: &FrameHeader) -> Result<Accepted, NotContiguous> {
        let (base_offset, end_offset) = (header.base_offset, header.end_offset());
        let continues = base_offset == self.next || (self.first && base_offset < self.next);
        if !continues || end_offset <= self.next {
            return Err(NotContiguous { next: self.next, base_offset, end_offset });
        }
        let skip_count = (self.next.0 - base_offset.0) as u32;
        self.first = false;
        self.next = end_offset;
        Ok(Accepted { skip_count, from_timestamp: self.from_timestamp.take() })
    }
}

#[cfg(test)]
mod tests {
    use storage_frame::{Codec, Encoding, LeaderEpoch};

    use super::*;

    fn frame(base: u64, count: u32) -> FrameHeader {
        FrameHeader {
            encoding: Encoding::Archived,
            codec: Codec::None,
            append_time: false,
            starts_write: false,
            payload_crc: 0,
            payload_bytes: 0,
            base_offset: Offset(base),
            leader_epoch: LeaderEpoch(1),
            record_count: count,
            first_timestamp: TimestampMs(0),
            max_timestamp: TimestampMs(0),
            producer: None,
        }
    }

    #[test]
    fn first_frame_may_begin_before_the_position_and_later_ones_may_not() {
        let mut position = ReadPosition::new(Offset(12), None);
        assert_eq!(position.on_frame(&frame(10, 5)).unwrap().skip_count, 2);
        assert_eq!(position.next(), Offset(15));
        assert_eq!(position.on_frame(&frame(15, 1)).unwrap().skip_count, 0);
        let overlap = position.on_frame(&frame(15, 3)).unwrap_err();
        assert_eq!(overlap.next, Offset(16));
        position.on_opened();
        assert_eq!(position.on_frame(&frame(15, 3)).unwrap().skip_count, 1);
    }

    #[test]
    fn gaps_and_frames_wholly_before_are_refused() {
        let mut position = ReadPosition::new(Offset(12), None);
        assert!(position.on_frame(&frame(13, 1)).is_err());
        assert!(position.on_frame(&frame(10, 2)).is_err());
        assert_eq!(position.next(), Offset(12));
    }

    #[test]
    fn timestamp_filters_the_first_frame_only() {
        let mut position = ReadPosition::new(Offset(0), Some(TimestampMs(5)));
        assert_eq!(position.on_frame(&frame(0, 1)).unwrap().from_timestamp, Some(TimestampMs(5)));
        assert_eq!(position.on_frame(&frame(1, 1)).unwrap().from_timestamp, None);
    }
}
