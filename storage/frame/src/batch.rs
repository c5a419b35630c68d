//! The `Archived` payload: an index of 16 bytes a record and one blob, built once and read in place.
//!
//! Record `i` occupies `blob[headers_end(i-1)..headers_end(i)]` as key, value, headers, in this order. The top
//! bit of `key_end` and `value_end` says "null", which is not the same as empty (a null value is a tombstone).
//! A header is a u16 name length, the name, a u32 value length (`u32::MAX`: null) and the value.
//!
//! A batch with holes, as compaction leaves it, has one more list: the offset of each record after the base. One
//! without records is no bytes at all.
//!
//! A payload is checked when it is opened (archive bounds, record count: constant time; the offsets of a batch with
//! holes: each once) and each record when it is read, so a batch from a hostile client can be wrong but never out of bounds.

use bytes::Bytes;

use crate::header::{
    Codec, Compaction, Encoding, FRAME_BYTES_MAX, Frame, FrameHeader, HEADER_BYTES, Producer,
};
use crate::units::{LeaderEpoch, Offset, TimestampMs};

const NULL: u32 = 1 << 31;
const END_MASK: u32 = NULL - 1;
const HEADER_VALUE_NULL: u32 = u32::MAX;

#[derive(rkyv::Archive, rkyv::Serialize, Debug, Clone, Copy)]
struct Entry {
    key_end: u32,
    value_end: u32,
    headers_end: u32,
    /// Milliseconds after the frame's `first_timestamp`.
    timestamp_delta: i32,
}

const _: () = assert!(size_of::<ArchivedEntry>() == 16);

#[derive(rkyv::Archive, rkyv::Serialize, Debug, Default)]
struct Batch {
    index: Vec<Entry>,
    blob: Vec<u8>,
}

/// A batch with holes.
#[derive(rkyv::Archive, rkyv::Serialize, Debug)]
struct SparseBatch {
    index: Vec<Entry>,
    /// Rising, below the header's record count, as many as `index` has entries.
    offset_deltas: Vec<u32>,
    blob: Vec<u8>,
}

/// Why a payload cannot be read as an archived batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch is {0:?}, not an archived one")]
    Encoding(Encoding),
    #[error("batch is compressed with {0:?}: decompress it first")]
    Compressed(Codec),
    #[error("batch is not a valid archive")]
    Archive,
    #[error("batch holds {index} records, its header says {header}")]
    Count { index: usize, header: u32 },
    #[error(
        "batch with holes holds {index} records, their offsets are not rising ones of the {header} it stands for"
    )]
    Offsets { index: usize, header: u32 },
    #[error("record {index} of the batch points outside of it")]
    Record { index: usize },
    /// Records with offsets of their own take 4 bytes more each.
    #[error("what is left of the batch takes {bytes} bytes, more than a frame holds")]
    TooLarge { bytes: usize },
}

/// Why a record does not go into a batch; the batch is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Seal this batch and start another one.
    #[error("batch is full")]
    Full,
    /// More than 24 days from the batch's first record: seal this batch and start another one.
    #[error("timestamp too far from the batch's first")]
    TimestampSpan,
    #[error("header name of {0} bytes, limit 65535")]
    HeaderName(usize),
}

/// Collects records into one archived batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: Batch,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.batch.index.len() as u32
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.index.is_empty()
    }

    /// Bytes of the frame that [`seal`](Self::seal) would make now, uncompressed.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES
            + self.batch.blob.len()
            + self.batch.index.len() * size_of::<ArchivedEntry>()
            + ROOT_BYTES
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`PushError`]; the batch is as before.
    pub fn push<'h>(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Result<(), PushError> {
        let delta = if self.is_empty() {
            0
        } else {
            let delta = timestamp.0.checked_sub(self.first_timestamp).ok_or(PushError::TimestampSpan)?;
            i32::try_from(delta).map_err(|_| PushError::TimestampSpan)?
        };
        let blob = &mut self.batch.blob;
        let start = blob.len();
        blob.extend_from_slice(key.unwrap_or_default());
        let key_end = blob.len();
        blob.extend_from_slice(value.unwrap_or_default());
        let value_end = blob.len();
        for (name, value) in headers {
            let Ok(name_bytes) = u16::try_from(name.len()) else {
                blob.truncate(start);
                return Err(PushError::HeaderName(name.len()));
            };
            blob.extend_from_slice(&name_bytes.to_le_bytes());
            blob.extend_from_slice(name.as_bytes());
            let value_bytes = value.map_or(HEADER_VALUE_NULL, |v| v.len() as u32);
            blob.extend_from_slice(&value_bytes.to_le_bytes());
            blob.extend_from_slice(value.unwrap_or_default());
        }
        let headers_end = blob.len();
        if self.frame_bytes() + size_of::<ArchivedEntry>() > FRAME_BYTES_MAX {
            self.batch.blob.truncate(start);
            return Err(PushError::Full);
        }
        if self.batch.index.is_empty() {
            self.first_timestamp = timestamp.0;
            self.max_timestamp = timestamp.0;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp.0);
        self.batch.index.push(Entry {
            key_end: key_end as u32 | if key.is_none() { NULL } else { 0 },
            value_end: value_end as u32 | if value.is_none() { NULL } else { 0 },
            headers_end: headers_end as u32,
            timestamp_delta: delta,
        });
        Ok(())
    }

    /// Turns the records into a frame for the wire and empties the builder, keeping its memory.
    ///
    /// `compress` is given the archived batch and returns the codec it used and the payload to store; it is
    /// called for [`Codec`]s other than `None` only by those who have one ([`seal`](Self::seal) has not).
    ///
    /// # Panics
    /// When the builder is empty.
    pub fn seal_with(
        &mut self,
        producer: Option<Producer>,
        compress: impl FnOnce(&[u8]) -> (Codec, Option<Vec<u8>>),
    ) -> Frame {
        assert!(!self.is_empty(), "an empty batch has no offsets to ask for");
        let archived =
            rkyv::to_bytes::<rkyv::rancor::Panic>(&self.batch).unwrap_or_else(|never| match never {});
        let (codec, payload) = match compress(&archived) {
            (codec, Some(compressed)) => (codec, Bytes::from(compressed)),
            (_, None) => (Codec::None, Bytes::from_owner(archived)),
        };
        let header = FrameHeader {
            encoding: Encoding::Archived,
            codec,
            append_time: false,
            starts_write: false,
            payload_crc: 0,
            payload_bytes: 0,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch(0),
            record_count: self.record_count(),
            first_timestamp: TimestampMs(self.first_timestamp),
            max_timestamp: TimestampMs(self.max_timestamp),
            producer,
            compaction: None,
        };
        self.batch.index.clear();
        self.batch.blob.clear();
        Frame::seal(header, payload)
    }

    /// As [`seal_with`](Self::seal_with), uncompressed.
    ///
    /// # Panics
    /// When the builder is empty.
    pub fn seal(&mut self, producer: Option<Producer>) -> Frame {
        self.seal_with(producer, |_| (Codec::None, None))
    }
}

const ROOT_BYTES: usize = size_of::<ArchivedBatch>();

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Names and values as they were produced. Ends early where the bytes make no sense.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let (name_bytes, tail) = rest.split_first_chunk::<2>()?;
            let (name, tail) = tail.split_at_checked(u16::from_le_bytes(*name_bytes) as usize)?;
            let (value_bytes, tail) = tail.split_first_chunk::<4>()?;
            let (value, tail) = match u32::from_le_bytes(*value_bytes) {
                HEADER_VALUE_NULL => (None, tail),
                bytes => tail.split_at_checked(bytes as usize).map(|(value, tail)| (Some(value), tail))?,
            };
            rest = tail;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

/// An archived batch opened in place. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct BatchView {
    header: FrameHeader,
    payload: Bytes,
}

impl BatchView {
    /// Opens an uncompressed archived frame.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn open(frame: &Frame) -> Result<Self, BatchError> {
        match frame.header().codec {
            Codec::None => Self::open_plain(*frame.header(), frame.payload().clone()),
            codec @ (Codec::Lz4 | Codec::Zstd) => Err(BatchError::Compressed(codec)),
        }
    }

    /// Opens `plain`, the decompressed payload of the frame that `header` belongs to.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn open_plain(header: FrameHeader, plain: Bytes) -> Result<Self, BatchError> {
        if header.encoding != Encoding::Archived {
            return Err(BatchError::Encoding(header.encoding));
        }
        let view = Self { header, payload: plain };
        view.check()?;
        Ok(view)
    }

    fn check(&self) -> Result<(), BatchError> {
        let (header, payload) = (&self.header, &self.payload);
        if header.has_no_records() {
            return if payload.is_empty() { Ok(()) } else { Err(BatchError::Archive) };
        }
        if !header.has_holes() {
            let batch = rkyv::access::<ArchivedBatch, rkyv::rancor::Failure>(payload);
            let index = batch.map_err(|_| BatchError::Archive)?.index.len();
            let agrees = index == header.record_count as usize;
            return if agrees {
                Ok(())
            } else {
                Err(BatchError::Count { index, header: header.record_count })
            };
        }
        let batch = rkyv::access::<ArchivedSparseBatch, rkyv::rancor::Failure>(payload);
        let batch = batch.map_err(|_| BatchError::Archive)?;
        let deltas = batch.offset_deltas.as_slice();
        let rising = deltas.is_sorted_by(|a, b| a.to_native() < b.to_native());
        let inside = deltas.last().is_none_or(|last| last.to_native() < header.record_count);
        if batch.index.len() != deltas.len() || !rising || !inside {
            return Err(BatchError::Offsets { index: batch.index.len(), header: header.record_count });
        }
        Ok(())
    }

    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Records that are there: fewer than the header's offsets where there are holes.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.parts().index.len() as u32
    }

    /// Index of the first record that stands at this offset after the base or behind it.
    #[must_use]
    pub fn index_from(&self, offset_delta: u32) -> u32 {
        let parts = self.parts();
        match parts.offset_deltas {
            None => offset_delta.min(parts.index.len() as u32),
            Some(deltas) => deltas.partition_point(|delta| delta.to_native() < offset_delta) as u32,
        }
    }

    fn parts(&self) -> Parts<'_> {
        // The second check costs the same few comparisons as the first and keeps this room free of `unsafe`.
        const CHECKED: &str = "checked by open_plain";
        if self.header.has_no_records() {
            return Parts { index: &[], offset_deltas: None, blob: &[] };
        }
        if self.header.has_holes() {
            let batch = rkyv::access::<ArchivedSparseBatch, rkyv::rancor::Failure>(&self.payload);
            let batch = batch.expect(CHECKED);
            let offset_deltas = Some(batch.offset_deltas.as_slice());
            return Parts { index: batch.index.as_slice(), offset_deltas, blob: batch.blob.as_slice() };
        }
        let batch = rkyv::access::<ArchivedBatch, rkyv::rancor::Failure>(&self.payload).expect(CHECKED);
        Parts { index: batch.index.as_slice(), offset_deltas: None, blob: batch.blob.as_slice() }
    }

    /// The records in offset order; an `Err` is the last item.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        let parts = self.parts();
        let header = &self.header;
        let mut start = 0usize;
        let mut failed = false;
        parts.index.iter().enumerate().map_while(move |(index, entry)| {
            if failed {
                return None;
            }
            let record = read_record(header, &parts, index, start, entry);
            match record {
                Some(record) => {
                    start = entry.headers_end.to_native() as usize;
                    Some(Ok(record))
                }
                None => {
                    failed = true;
                    Some(Err(BatchError::Record { index }))
                }
            }
        })
    }

    /// The record at `index` (0 is the first one there is).
    ///
    /// # Errors
    /// [`BatchError::Record`] when there is none or it points outside of the batch.
    pub fn record(&self, index: usize) -> Result<Record<'_>, BatchError> {
        let parts = self.parts();
        let entry = parts.index.get(index).ok_or(BatchError::Record { index })?;
        let start = match index.checked_sub(1) {
            Some(before) => parts.index[before].headers_end.to_native() as usize,
            None => 0,
        };
        read_record(&self.header, &parts, index, start, entry).ok_or(BatchError::Record { index })
    }

    /// The batch as compaction leaves it: of its records those at `kept` (offsets after the base, rising), standing for
    /// the same offsets. `compress` as in [`BatchBuilder::seal_with`].
    ///
    /// # Errors
    /// [`BatchError`] when a record cannot be read; the batch is to be left as it is.
    pub fn retain(
        &self,
        kept: &[u32],
        compress: impl FnOnce(&[u8]) -> (Codec, Option<Vec<u8>>),
    ) -> Result<Frame, BatchError> {
        let mut sparse = SparseBatch { index: Vec::new(), offset_deltas: Vec::new(), blob: Vec::new() };
        let parts = self.parts();
        let base = self.header.base_offset.0;
        let mut max_timestamp = TimestampMs(i64::MIN);
        let mut start = 0;
        for (record, entry) in self.records().zip(parts.index) {
            let record = record?;
            let end = entry.headers_end.to_native() as usize;
            let delta = (record.offset.0 - base) as u32;
            if kept.binary_search(&delta).is_ok() {
                // What is left moves forward; it never grows.
                let moved = (start - sparse.blob.len()) as u32;
                let shift = |end: u32| (end & NULL) | ((end & END_MASK) - moved);
                sparse.blob.extend_from_slice(&parts.blob[start..end]);
                sparse.index.push(Entry {
                    key_end: shift(entry.key_end.to_native()),
                    value_end: shift(entry.value_end.to_native()),
                    headers_end: end as u32 - moved,
                    timestamp_delta: entry.timestamp_delta.to_native(),
                });
                sparse.offset_deltas.push(delta);
                max_timestamp = max_timestamp.max(record.timestamp);
            }
            start = end;
        }
        if sparse.index.is_empty() {
            return Ok(Frame::without_records(&self.header, self.header.record_count));
        }
        let tombstones_at = self.header.compaction.and_then(|compaction| compaction.tombstones_at);
        let archived = rkyv::to_bytes::<rkyv::rancor::Panic>(&sparse).unwrap_or_else(|never| match never {});
        // Readers hold what is compressed to the same bound.
        if archived.len() > FRAME_BYTES_MAX - HEADER_BYTES {
            return Err(BatchError::TooLarge { bytes: archived.len() });
        }
        let (codec, payload) = match compress(&archived) {
            (codec, Some(compressed)) => (codec, Bytes::from(compressed)),
            (_, None) => (Codec::None, Bytes::from_owner(archived)),
        };
        let compaction = Some(Compaction { holes: true, tombstones_at });
        let header = FrameHeader { codec, max_timestamp, producer: None, compaction, ..self.header };
        Ok(Frame::seal(header, payload))
    }
}

/// What an archive holds, whichever of the two it is.
struct Parts<'a> {
    index: &'a [ArchivedEntry],
    /// `None`: each record has its index.
    offset_deltas: Option<&'a [rkyv::rend::unaligned::u32_ule]>,
    blob: &'a [u8],
}

fn read_record<'a>(
    header: &FrameHeader,
    parts: &Parts<'a>,
    index: usize,
    start: usize,
    entry: &ArchivedEntry,
) -> Option<Record<'a>> {
    let blob = parts.blob;
    let offset_delta = match parts.offset_deltas {
        None => index as u64,
        Some(deltas) => u64::from(deltas.get(index)?.to_native()),
    };
    let (key_end, value_end) = (entry.key_end.to_native(), entry.value_end.to_native());
    let key_stop = (key_end & END_MASK) as usize;
    let value_stop = (value_end & END_MASK) as usize;
    let key = blob.get(start..key_stop)?;
    let value = blob.get(key_stop..value_stop)?;
    let headers = blob.get(value_stop..entry.headers_end.to_native() as usize)?;
    let timestamp = if header.append_time {
        header.max_timestamp
    } else {
        TimestampMs(header.first_timestamp.0.checked_add(i64::from(entry.timestamp_delta.to_native()))?)
    };
    Some(Record {
        offset: Offset(header.base_offset.0 + offset_delta),
        timestamp,
        key: (key_end & NULL == 0).then_some(key),
        value: (value_end & NULL == 0).then_some(value),
        headers,
    })
}

#[cfg(test)]
mod tests;
