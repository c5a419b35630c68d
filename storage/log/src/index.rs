//! The sparse index of one segment: where frames begin, one entry for some 64 KiB of them.
//!
//! ```text
//!  0  magic "MSINDEX\0"   8  version u32        12  crc u32, CRC-32C of version and all that follows
//! 16  log id u64         24  segment u32        28  generation u32
//! 32  base offset u64    40  end position u64   48  max timestamp i64 (of all frames before the end)
//! 56  entry count u32    60  zero u32
//! 64  entries: offset after base u32, position / 16 u32, max timestamp of the frames before it i64
//! ```
//!
//! Entries are hints: a reader verifies the frame it finds, and walks from the segment's start when an entry
//! lied. So a missing, old or damaged index costs time, never answers.

use bytes::{BufMut, Bytes, BytesMut};
use storage_frame::{FRAME_ALIGN, FrameHeader, LogId, Offset, TimestampMs};

use crate::config::INDEX_INTERVAL_BYTES;
use crate::disk_op::SegmentId;
use crate::fields::{FormatError, PREFIX_BYTES, close_prefix, open_prefix};
use crate::segment::{FIRST_FRAME, NO_TIMESTAMP, Point, Segment};

const MAGIC: &[u8; 8] = b"MSINDEX\0";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;
/// Enough for a segment of 32 GiB; a larger file is not read.
pub(crate) const INDEX_FILE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    relative: u32,
    position_units: u32,
    max_before: TimestampMs,
}

impl Entry {
    pub(crate) fn position(&self) -> u64 {
        u64::from(self.position_units) * FRAME_ALIGN as u64
    }
}

// What the file holds is what is said above, and what memory holds is no more.
const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

/// A frame boundary to start walking from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    pub(crate) segment: SegmentId,
    base: Offset,
    entries: Vec<Entry>,
    /// Frames from here...
    from_position: u64,
    /// ...to here have been noted.
    end_position: u64,
    max_timestamp: TimestampMs,
}

impl SegmentIndex {
    pub(crate) fn of_whole(segment: &Segment) -> Self {
        Self {
            segment: segment.id,
            base: segment.base,
            entries: Vec::new(),
            from_position: FIRST_FRAME,
            end_position: FIRST_FRAME,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// An index that knows nothing of what stands before `point`.
    pub(crate) fn starting_at(segment: &Segment, point: Point) -> Self {
        assert_eq!(segment.id, point.segment);
        let mut index = Self::of_whole(segment);
        if point.position > FIRST_FRAME {
            index.from_position = point.position;
            index.end_position = point.position;
            index.max_timestamp = point.max_timestamp;
            index.enter(point.position, point.offset);
        }
        index
    }

    /// Notes a frame at `position`, if it is the next one.
    pub(crate) fn note(&mut self, position: u64, header: &FrameHeader) {
        if position != self.end_position {
            return;
        }
        let last = self.entries.last().map_or(FIRST_FRAME, Entry::position);
        if position - last >= INDEX_INTERVAL_BYTES {
            self.enter(position, header.base_offset);
        }
        self.end_position = position + header.frame_bytes() as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    fn enter(&mut self, position: u64, offset: Offset) {
        // What does not fit stays out: entries are hints.
        let relative = u32::try_from(offset.0 - self.base.0);
        let units = u32::try_from(position / FRAME_ALIGN as u64);
        if let (Ok(relative), Ok(position_units)) = (relative, units) {
            self.entries.push(Entry { relative, position_units, max_before: self.max_timestamp });
        }
    }

    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn covers_frames(&self) -> bool {
        self.from_position < self.end_position
    }

    pub(crate) fn is_whole_from_start(&self) -> bool {
        self.from_position == FIRST_FRAME
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.end_position
    }

    /// Knows where frames at and after `offset` stand, as far as they have been noted.
    pub(crate) fn covers(&self, offset: Offset) -> bool {
        self.is_whole_from_start()
            || self.entries.first().is_some_and(|entry| self.offset_of(entry) <= offset)
    }

    /// The last known boundary at or before `offset`.
    pub(crate) fn place_of_offset(&self, offset: Offset) -> Place {
        self.place_before(self.entries.partition_point(|entry| self.offset_of(entry) <= offset))
    }

    /// The last known boundary before which every timestamp is below `at`.
    pub(crate) fn place_of_timestamp(&self, at: TimestampMs) -> Place {
        self.place_before(self.entries.partition_point(|entry| entry.max_before < at))
    }

    /// The largest timestamp up to the first known boundary behind `offset`.
    pub(crate) fn timestamp_near(&self, offset: Offset) -> TimestampMs {
        let behind = self.entries.partition_point(|entry| self.offset_of(entry) <= offset);
        self.entries.get(behind).map_or(self.max_timestamp, |entry| entry.max_before)
    }

    fn place_before(&self, entry_index: usize) -> Place {
        match entry_index.checked_sub(1) {
            Some(index) => {
                let entry = &self.entries[index];
                Place { position: entry.position(), offset: self.offset_of(entry) }
            }
            None => Place { position: FIRST_FRAME, offset: self.base },
        }
    }

    fn offset_of(&self, entry: &Entry) -> Offset {
        self.base.plus(entry.relative)
    }

    /// This index behind `stored`, the beginning it lacks; `None` when a gap would stay between them.
    pub(crate) fn behind(&self, stored: &Self) -> Option<Self> {
        if !stored.is_whole_from_start() || stored.end_position < self.from_position {
            return None;
        }
        let mut whole = stored.clone();
        whole.entries.retain(|entry| entry.position() < self.from_position);
        whole.entries.extend_from_slice(&self.entries);
        whole.end_position = self.end_position;
        whole.max_timestamp = self.max_timestamp.max(stored.max_timestamp);
        Some(whole)
    }

    pub(crate) fn encode(&self, log: LogId, generation: u32) -> Bytes {
        assert!(self.is_whole_from_start());
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES);
        out.put_bytes(0, PREFIX_BYTES);
        out.put_u64_le(log.0);
        out.put_u32_le(self.segment.0);
        out.put_u32_le(generation);
        out.put_u64_le(self.base.0);
        out.put_u64_le(self.end_position);
        out.put_i64_le(self.max_timestamp.0);
        out.put_u32_le(self.entries.len() as u32);
        out.put_u32_le(0);
        for entry in &self.entries {
            out.put_u32_le(entry.relative);
            out.put_u32_le(entry.position_units);
            out.put_i64_le(entry.max_before.0);
        }
        close_prefix(&mut out, MAGIC, VERSION);
        out.freeze()
    }

    /// # Errors
    /// When the file is damaged, or not about this life of this segment.
    pub(crate) fn decode(file: &[u8], log: LogId, segment: &Segment) -> Result<Self, FormatError> {
        let (found_log, generation, index) = Self::decode_any(file)?;
        let named = (found_log, index.segment, generation, index.base);
        if named != (log, segment.id, segment.generation, segment.base) {
            return Err(FormatError::Damaged("belongs to another segment".to_owned()));
        }
        if index.end_position > segment.end_position {
            return Err(FormatError::Damaged("reaches behind its segment".to_owned()));
        }
        Ok(index)
    }

    /// As [`decode`](Self::decode), whatever segment it belongs to; with its log and generation.
    pub(crate) fn decode_any(file: &[u8]) -> Result<(LogId, u32, Self), FormatError> {
        let mut fields = open_prefix(file, MAGIC, VERSION)?;
        let log = LogId(fields.u64()?);
        let segment = SegmentId(fields.u32()?);
        let generation = fields.u32()?;
        let mut index = Self::of_whole(&Segment::planned(segment, Offset(fields.u64()?)));
        index.end_position = fields.u64()?;
        index.max_timestamp = TimestampMs(fields.i64()?);
        let entry_count = fields.u32()? as usize;
        fields.u32()?;
        if file.len() != HEAD_BYTES + entry_count * ENTRY_BYTES {
            return Err(FormatError::Damaged(format!("{} bytes with {entry_count} entries", file.len())));
        }
        index.entries.reserve_exact(entry_count);
        for _ in 0..entry_count {
            index.entries.push(Entry {
                relative: fields.u32()?,
                position_units: fields.u32()?,
                max_before: TimestampMs(fields.i64()?),
            });
        }
        index.check()?;
        Ok((log, generation, index))
    }

    fn check(&self) -> Result<(), FormatError> {
        let rising = self.entries.windows(2).all(|pair| {
            pair[0].relative < pair[1].relative && pair[0].position_units < pair[1].position_units
        });
        let inside = self.entries.last().is_none_or(|entry| {
            entry.position() < self.end_position
                && self.base.0.checked_add(u64::from(entry.relative)).is_some()
        });
        if !rising || !inside {
            return Err(FormatError::Damaged("entries out of order".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// Every place it knows.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = Place> {
        self.entries.iter().map(|entry| Place { position: entry.position(), offset: self.offset_of(entry) })
    }
}

#[cfg(test)]
mod tests;
