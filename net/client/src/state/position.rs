//! Where a reader stands in one partition.
//!
//! Frames come whole, so the first one may hold records before the place that was asked for; from then on each
//! frame must begin where the one before it ended. A gap or an overlap is an error, never skipped over: it would
//! be a record lost or doubled.
//!
//! A broker that lost records from its memory gives their offsets to others, always from some offset to the end
//! and always under a higher leader epoch. So a stream that goes on is opened one record earlier: if the frame with
//! the last record that was read has the epoch it had, everything before it is what was read, too.

use storage_frame::{FrameHeader, LeaderEpoch, Offset, TimestampMs};

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

/// Why a frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotContiguous(NotContiguous),
    /// The record before this offset is not the one that was read.
    Diverged {
        next: Offset,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadPosition {
    next: Offset,
    /// Records of an earlier time are skipped in the first frame.
    from_timestamp: Option<TimestampMs>,
    /// No frame since the stream was opened: the first may begin before `next`.
    first: bool,
    /// Of the frame with the record before `next`, if that was read and is to be looked at again.
    last_epoch: Option<LeaderEpoch>,
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
        Self { next, from_timestamp, first: true, last_epoch: None }
    }

    /// The offset of the next record to read.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// The offset to open a stream at.
    pub(crate) fn opening(&self) -> Offset {
        if self.last_epoch.is_some() { Offset(self.next.0 - 1) } else { self.next }
    }

    /// The log begins at `log_start` now, above [`opening`](Self::opening). True: reading can go on, without
    /// another look at the last record.
    pub(crate) fn on_trimmed(&mut self, log_start: Offset) -> bool {
        reach::mark!("client.position_trimmed", log_start > self.next);
        reach::mark!("client.position_at_trimmed_edge", log_start == self.next);
        self.last_epoch.take().is_some() && log_start <= self.next
    }

    /// Nothing was read, and reading is to begin at `log_start` instead.
    pub(crate) fn on_start_moved(&mut self, log_start: Offset) {
        assert!(self.last_epoch.is_none() && log_start > self.next);
        self.next = log_start;
    }

    /// The stream was opened anew at [`next`](Self::next).
    pub(crate) fn on_opened(&mut self) {
        self.first = true;
    }

    pub(crate) fn on_frame(&mut self, header: &FrameHeader) -> Result<Accepted, Refused> {
        let (base_offset, end_offset) = (header.base_offset, header.end_offset());
        let refused = Refused::NotContiguous(NotContiguous { next: self.next, base_offset, end_offset });
        if let (true, Some(last_epoch)) = (self.first, self.last_epoch) {
            if base_offset >= self.next || end_offset < self.next {
                reach::mark!("client.last_record_gone");
                return Err(refused);
            }
            // What is left of several emptied batches has an epoch of its own.
            if header.leader_epoch != last_epoch && !header.has_no_records() {
                reach::mark!("client.log_diverged");
                return Err(Refused::Diverged { next: self.next });
            }
            if end_offset == self.next {
                self.first = false;
                return Ok(Accepted { skip_count: header.record_count, from_timestamp: None });
            }
        }
        let continues = base_offset == self.next || (self.first && base_offset < self.next);
        if !continues || end_offset <= self.next {
            reach::mark!("client.gap_refused");
            return Err(refused);
        }
        let skip_count = (self.next.0 - base_offset.0) as u32;
        self.first = false;
        self.next = end_offset;
        self.last_epoch = Some(header.leader_epoch);
        Ok(Accepted { skip_count, from_timestamp: self.from_timestamp.take() })
    }
}

#[cfg(test)]
mod tests {
    use storage_frame::{Codec, Encoding};

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
            compaction: None,
        }
    }

    #[test]
    fn first_frame_may_begin_before_the_position_and_later_ones_may_not() {
        let mut position = ReadPosition::new(Offset(12), None);
        assert_eq!(position.on_frame(&frame(10, 5)).unwrap().skip_count, 2);
        assert_eq!(position.next(), Offset(15));
        assert_eq!(position.on_frame(&frame(15, 1)).unwrap().skip_count, 0);
        let overlap = NotContiguous { next: Offset(16), base_offset: Offset(15), end_offset: Offset(18) };
        assert_eq!(position.on_frame(&frame(15, 3)), Err(Refused::NotContiguous(overlap)));
        position.on_opened();
        assert_eq!(position.on_frame(&frame(15, 3)).unwrap().skip_count, 1);
    }

    #[test]
    fn stream_that_goes_on_begins_with_the_last_record_that_was_read() {
        let mut position = ReadPosition::new(Offset(12), None);
        assert_eq!(position.opening(), Offset(12));
        position.on_frame(&frame(10, 5)).unwrap();
        position.on_opened();
        assert_eq!(position.opening(), Offset(14));
        let other = FrameHeader { leader_epoch: LeaderEpoch(2), ..frame(13, 4) };
        assert_eq!(position.on_frame(&other), Err(Refused::Diverged { next: Offset(15) }));
        assert!(matches!(position.on_frame(&frame(15, 1)), Err(Refused::NotContiguous(_))));
        assert_eq!(position.on_frame(&frame(10, 5)).unwrap().skip_count, 5);
        assert_eq!(position.next(), Offset(15));
        let next = FrameHeader { leader_epoch: LeaderEpoch(2), ..frame(15, 1) };
        assert_eq!(position.on_frame(&next).unwrap().skip_count, 0);
    }

    #[test]
    fn last_record_that_was_trimmed_is_not_looked_at_and_a_later_start_is_a_gap() {
        let mut position = ReadPosition::new(Offset(0), None);
        assert!(!position.on_trimmed(Offset(1)), "nothing was read");
        position.on_frame(&frame(0, 5)).unwrap();
        let mut trimmed = position;
        assert!(trimmed.on_trimmed(Offset(5)));
        trimmed.on_opened();
        assert_eq!(trimmed.opening(), Offset(5));
        assert_eq!(trimmed.on_frame(&frame(5, 1)).unwrap().skip_count, 0);
        assert!(!position.on_trimmed(Offset(6)));
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
