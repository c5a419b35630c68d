//! The checkpoint file: where opening begins, and what it may rely on.
//!
//! ```text
//!   0  magic "MSCHKPNT"   8  version u32       12  crc u32, CRC-32C of version and all that follows
//!  16  log id u64        24  sequence u64      32  start offset u64
//!  40  flags u32 (bit 0: closed in order)      44  segment count u32
//!  48  scan from: point  80  durable: point   112  largest write u64 (bytes)
//! 120  app state bytes u32 (u32::MAX: none)   124  zero u32
//! 128  segments, 40 bytes each: id u32, generation u32 (0: not begun), base offset u64, end position u64,
//!      max timestamp i64, created i64
//!      app state
//! version 2, where compaction has begun: clean end u64 at 128, segments of 56 bytes from 136 on, as above and behind
//! it the numbers each stands for: first u32, last u32 (0: its own), tombstones compacted at i64 (0: none)
//! point: segment u32, epoch u32, position u64, offset u64, max timestamp i64
//! ```
//!
//! Everything it describes was on stable storage before it was written: `scan from <= durable`, each inside its
//! segment unless that has been retired, and the last segment ends at `durable`. The app state describes the frames below `scan from`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use storage_frame::{FRAME_BYTES_MAX, LeaderEpoch, LogId, Offset, TimestampMs};

use crate::config::APP_STATE_BYTES_MAX;
use crate::disk_op::SegmentId;
use crate::fields::{Fields, FormatError, PREFIX_BYTES, close_prefix, open_versioned};
use crate::segment::{OFFSET_MAX, Point, Segment, is_boundary, take_time};

const MAGIC: &[u8; 8] = b"MSCHKPNT";
const VERSION: u32 = 1;
const VERSION_COMPACTED: u32 = 2;
const FLAG_CLEAN: u32 = 1;
const NO_STATE: u32 = u32::MAX;
/// Of one write: a frame of the largest size and what shares its write.
const WRITE_BYTES_LIMIT: u64 = 2 * FRAME_BYTES_MAX as u64;
/// 400,000 segments and the largest state; a larger file is not read.
pub(crate) const CHECKPOINT_FILE_BYTES_MAX: usize = APP_STATE_BYTES_MAX + (16 << 20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) sequence: u64,
    pub(crate) start: Offset,
    pub(crate) clean: bool,
    pub(crate) scan: Point,
    pub(crate) durable: Point,
    /// How far ahead of a bad frame a later write may begin.
    pub(crate) write_bytes_max: u64,
    pub(crate) app_state: Option<Bytes>,
    /// What stands before it has been compacted against all of that.
    pub(crate) clean_end: Offset,
    /// Oldest first, at least one; the last may be only planned.
    pub(crate) segments: Vec<Segment>,
}

/// Of a version: bytes before the segments, and of each.
fn layout(version: u32) -> (usize, usize) {
    if version == VERSION { (128, 40) } else { (136, 56) }
}

impl Checkpoint {
    pub(crate) fn encode(&self, log: LogId) -> Bytes {
        let state_bytes = self.app_state.as_ref().map_or(0, Bytes::len);
        assert!(state_bytes <= APP_STATE_BYTES_MAX);
        assert!(self.scan.offset <= self.durable.offset);
        let version = self.version();
        let (head_bytes, segment_bytes) = layout(version);
        let mut out = BytesMut::with_capacity(head_bytes + self.segments.len() * segment_bytes + state_bytes);
        out.put_bytes(0, PREFIX_BYTES);
        out.put_u64_le(log.0);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.start.0);
        out.put_u32_le(if self.clean { FLAG_CLEAN } else { 0 });
        out.put_u32_le(self.segments.len() as u32);
        put_point(&mut out, &self.scan);
        put_point(&mut out, &self.durable);
        out.put_u64_le(self.write_bytes_max);
        out.put_u32_le(self.app_state.as_ref().map_or(NO_STATE, |state| state.len() as u32));
        out.put_u32_le(0);
        if version == VERSION_COMPACTED {
            out.put_u64_le(self.clean_end.0);
        }
        for segment in &self.segments {
            out.put_u32_le(segment.id.0);
            out.put_u32_le(segment.generation);
            out.put_u64_le(segment.base.0);
            out.put_u64_le(segment.end_position);
            out.put_i64_le(segment.max_timestamp.0);
            out.put_i64_le(segment.created.0);
            if version == VERSION_COMPACTED {
                let (first, last) = segment.stands_for.unwrap_or((SegmentId(0), SegmentId(0)));
                out.put_u32_le(first.0);
                out.put_u32_le(last.0);
                out.put_i64_le(segment.tombstones_at.map_or(0, |at| at.0));
            }
        }
        if let Some(state) = &self.app_state {
            out.put_slice(state);
        }
        close_prefix(&mut out, MAGIC, version);
        out.freeze()
    }

    /// A log that is not compacted is one that older builds read.
    fn version(&self) -> u32 {
        let is_rewritten = self.segments.iter().any(|segment| segment.stands_for.is_some());
        if is_rewritten || self.clean_end > Offset::ZERO { VERSION_COMPACTED } else { VERSION }
    }

    /// # Errors
    /// When the file is damaged, of a newer format, or another log's.
    pub(crate) fn decode(file: &Bytes, log: LogId) -> Result<Self, FormatError> {
        let (found, checkpoint) = Self::decode_any(file)?;
        if found != log {
            return Err(FormatError::Damaged(format!("belongs to log {found}")));
        }
        Ok(checkpoint)
    }

    /// As [`decode`](Self::decode), whatever log it belongs to.
    pub(crate) fn decode_any(file: &Bytes) -> Result<(LogId, Self), FormatError> {
        let (version, mut fields) = open_versioned(file, MAGIC, VERSION_COMPACTED)?;
        let (head_bytes, segment_bytes) = layout(version);
        let log = LogId(fields.u64()?);
        let sequence = fields.u64()?;
        let start = Offset(fields.u64()?);
        let clean = fields.u32()? & FLAG_CLEAN != 0;
        let segment_count = fields.u32()? as usize;
        let scan = take_point(&mut fields)?;
        let durable = take_point(&mut fields)?;
        let write_bytes_max = fields.u64()?;
        let state_bytes = fields.u32()?;
        fields.u32()?;
        let clean_end = if version == VERSION { Offset::ZERO } else { Offset(fields.u64()?) };
        let segments_end = head_bytes + segment_count * segment_bytes;
        let state_len = if state_bytes == NO_STATE { 0 } else { state_bytes as usize };
        if segment_count == 0 || file.len() != segments_end + state_len {
            return Err(FormatError::Damaged(format!("{} bytes with {segment_count} segments", file.len())));
        }
        let mut segments = Vec::with_capacity(segment_count);
        for _ in 0..segment_count {
            let previous_end = segments.last().map_or(0, |before: &Segment| before.end_position);
            segments.push(Segment { previous_end, ..take_segment(&mut fields, version)? });
        }
        // A copy: the state lives on, the list of segments must not live on with it.
        let app_state = (state_bytes != NO_STATE).then(|| {
            let mut rest = file.clone();
            rest.advance(segments_end);
            Bytes::copy_from_slice(&rest)
        });
        let checkpoint =
            Self { sequence, start, clean, scan, durable, write_bytes_max, app_state, clean_end, segments };
        checkpoint.check()?;
        Ok((log, checkpoint))
    }

    fn check(&self) -> Result<(), FormatError> {
        let last = self.segments.last().expect("at least one");
        let rising = self.segments.windows(2).all(|pair| {
            pair[0].last_number().0.checked_add(1) == Some(pair[1].first_number().0)
                && pair[0].base < pair[1].base
                && pair[0].is_begun()
        });
        let ends = last.id == self.durable.segment && last.end_position == self.durable.position;
        let planned_is_empty = last.is_begun() || last.is_empty();
        let numbered = self.segments.iter().all(is_numbered);
        let holds = rising
            && numbered
            && !last.id.is_rewritten()
            && ends
            && planned_is_empty
            && last.base <= self.durable.offset
            && self.durable.offset <= OFFSET_MAX
            && self.start <= self.durable.offset
            && self.segments.iter().all(|segment| is_boundary(segment.end_position))
            && self.write_bytes_max <= WRITE_BYTES_LIMIT;
        if holds && self.scan_is_inside() {
            return Ok(());
        }
        Err(FormatError::Damaged("contradicts itself".to_owned()))
    }

    /// Scanning begins in one of the segments, or in one that has been retired since.
    fn scan_is_inside(&self) -> bool {
        let scan = &self.scan;
        let Some(nth) = self.segments.iter().position(|segment| segment.id == scan.segment) else {
            return scan.segment < self.segments[0].first_number() && scan.offset <= self.segments[0].base;
        };
        let (segment, next) = (&self.segments[nth], self.segments.get(nth + 1));
        let end = next.map_or(self.durable.offset, |next| next.base);
        (segment.base..=end).contains(&scan.offset)
            && scan.position <= segment.end_position
            && is_boundary(scan.position)
    }
}

fn is_numbered(segment: &Segment) -> bool {
    match segment.stands_for {
        None => !segment.id.is_rewritten(),
        Some((first, last)) => {
            segment.id.is_rewritten() && segment.is_begun() && first <= last && !last.is_rewritten()
        }
    }
}

fn put_point(out: &mut BytesMut, point: &Point) {
    out.put_u32_le(point.segment.0);
    out.put_u32_le(point.epoch.0);
    out.put_u64_le(point.position);
    out.put_u64_le(point.offset.0);
    out.put_i64_le(point.max_timestamp.0);
}

fn take_point(fields: &mut Fields<'_>) -> Result<Point, FormatError> {
    Ok(Point {
        segment: SegmentId(fields.u32()?),
        epoch: LeaderEpoch(fields.u32()?),
        position: fields.u64()?,
        offset: Offset(fields.u64()?),
        max_timestamp: TimestampMs(fields.i64()?),
    })
}

fn take_segment(fields: &mut Fields<'_>, version: u32) -> Result<Segment, FormatError> {
    let mut segment = Segment {
        id: SegmentId(fields.u32()?),
        generation: fields.u32()?,
        base: Offset(fields.u64()?),
        previous_end: 0,
        end_position: fields.u64()?,
        max_timestamp: TimestampMs(fields.i64()?),
        created: TimestampMs(fields.i64()?),
        stands_for: None,
        tombstones_at: None,
    };
    if version == VERSION_COMPACTED {
        let (first, last) = (SegmentId(fields.u32()?), SegmentId(fields.u32()?));
        segment.stands_for = (first.0 > 0).then_some((first, last));
        segment.tombstones_at = take_time(fields)?;
    }
    Ok(segment)
}

#[cfg(test)]
mod tests;
