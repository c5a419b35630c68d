//! Reading records, whatever road they came by.
//!
//! A frame is opened once: decompressed within the caller's bound, its counts compared with its frame. Then records
//! are read one after the other, borrowed. A frame that compaction took records out of gives those that are left.

use bytes::Bytes;
use storage_frame::{BatchView, Encoding, Frame, FrameHeader, Offset, TimestampMs};

use crate::archived::{self, DecompressError};
use crate::builder::PushError;
use crate::compression::decompress;
use crate::header::{BatchError, BatchHeader, HEADER_BYTES};
use crate::varint::Cursor;

/// Why a frame's records cannot be read: it was produced so, for its checksums are right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error(transparent)]
    Kafka(#[from] BatchError),
    #[error(transparent)]
    Archived(#[from] storage_frame::BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// Built anew it does not fit.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The batch and its frame are not of one mind.
    #[error("batch spans {batch} offsets, its frame {frame}")]
    Span { batch: u32, frame: u32 },
}

/// The records of one frame. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Records {
    header: FrameHeader,
    body: Body,
    plain_bytes: usize,
}

#[derive(Debug, Clone)]
enum Body {
    /// Compaction took them all.
    None,
    Archived(BatchView),
    Kafka {
        batch: BatchHeader,
        plain: Bytes,
    },
}

impl Records {
    /// Opens a frame of either encoding, decompressing it to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`RecordsError`]; what is wrong with a record shows when it is read.
    pub fn open(frame: &Frame, bytes_max: usize) -> Result<Self, RecordsError> {
        let header = *frame.header();
        let (body, plain_bytes) = match header.encoding {
            _ if header.has_no_records() => (Body::None, 0),
            Encoding::Archived => {
                let plain = archived::decompress(header.codec, frame.payload(), bytes_max)?;
                let plain_bytes = plain.len();
                (Body::Archived(BatchView::open_plain(header, plain)?), plain_bytes)
            }
            Encoding::KafkaV2 => {
                let batch = BatchHeader::parse(frame.payload())?;
                if batch.offsets_count() != header.record_count {
                    let (batch, frame) = (batch.offsets_count(), header.record_count);
                    return Err(RecordsError::Span { batch, frame });
                }
                let stored = frame.payload().slice(HEADER_BYTES..);
                let plain = decompress(batch.compression, &stored, bytes_max)?;
                let plain_bytes = plain.len();
                (Body::Kafka { batch, plain }, plain_bytes)
            }
        };
        Ok(Self { header, body, plain_bytes })
    }

    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Bytes held for them, decompressed.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Written by a broker for its own sake: no client's records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        match &self.body {
            Body::None | Body::Archived(_) => false,
            Body::Kafka { batch, .. } => batch.control,
        }
    }

    /// Records there are, which is at most the offsets of the frame.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        match &self.body {
            Body::None => 0,
            Body::Archived(view) => view.record_count(),
            Body::Kafka { batch, .. } => batch.record_count as u32,
        }
    }

    /// The records in offset order; an `Err` is the last item.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, RecordsError>> {
        let (archived, kafka) = match &self.body {
            Body::None => (None, None),
            Body::Archived(view) => (Some(view.records()), None),
            Body::Kafka { batch, plain } => (None, Some(KafkaRecords::new(&self.header, batch, plain))),
        };
        let archived = archived.into_iter().flatten();
        let kafka = kafka.into_iter().flatten();
        archived
            .map(|record| Ok(Record::from_archived(record?)))
            .chain(kafka.map(|record| record.map_err(RecordsError::Kafka)))
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<&'a [u8]>,
    /// Null: a tombstone.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Headers<'a> {
    Archived(storage_frame::Record<'a>),
    Kafka { count: u32, bytes: &'a [u8] },
}

impl<'a> Record<'a> {
    fn from_archived(record: storage_frame::Record<'a>) -> Self {
        let storage_frame::Record { offset, timestamp, key, value, .. } = record;
        Self { offset, timestamp, key, value, headers: Headers::Archived(record) }
    }

    /// Names and values in the order they were produced in. A name ends before its first byte that is not UTF-8,
    /// which no client library writes.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone + use<'a> {
        let (archived, kafka) = match self.headers {
            Headers::Archived(record) => (Some(record.headers()), None),
            Headers::Kafka { count, bytes } => {
                (None, Some(KafkaHeaders { count, cursor: Cursor::new(bytes) }))
            }
        };
        archived.into_iter().flatten().chain(kafka.into_iter().flatten())
    }
}

#[derive(Debug, Clone)]
struct KafkaHeaders<'a> {
    count: u32,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for KafkaHeaders<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        // Checked when the record was read.
        let name = self.cursor.nullable()??;
        let name = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Some((name, self.cursor.nullable()?))
    }
}

/// The records of a v2 batch, each checked to lie where it says.
#[derive(Debug)]
pub(crate) struct KafkaRecords<'a> {
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<TimestampMs>,
    cursor: Cursor<'a>,
    /// Of the next one.
    index: usize,
    record_count: usize,
    /// Offsets rise up to, without, this one.
    offset_deltas: std::ops::Range<i64>,
    failed: bool,
}

impl<'a> KafkaRecords<'a> {
    pub(crate) fn new(header: &FrameHeader, batch: &BatchHeader, plain: &'a [u8]) -> Self {
        Self {
            base_offset: header.base_offset,
            base_timestamp: batch.base_timestamp,
            append_time: (header.append_time || batch.append_time).then_some(if header.append_time {
                header.max_timestamp
            } else {
                TimestampMs(batch.max_timestamp)
            }),
            cursor: Cursor::new(plain),
            index: 0,
            record_count: batch.record_count as usize,
            offset_deltas: 0..i64::from(batch.last_offset_delta) + 1,
            failed: false,
        }
    }

    fn read(&mut self) -> Option<Record<'a>> {
        let record_bytes = usize::try_from(self.cursor.varint()?).ok()?;
        let mut record = Cursor::new(self.cursor.take(record_bytes)?);
        let _attributes = record.byte()?;
        let timestamp_delta = record.varlong()?;
        let offset_delta = i64::from(record.varint()?);
        if !self.offset_deltas.contains(&offset_delta) {
            return None;
        }
        self.offset_deltas.start = offset_delta + 1;
        let key = record.nullable()?;
        let value = record.nullable()?;
        let headers_count = u32::try_from(record.varint()?).ok()?;
        let headers = record.rest;
        for _ in 0..headers_count {
            record.nullable()??;
            record.nullable()?;
        }
        if !record.rest.is_empty() {
            return None;
        }
        Some(Record {
            offset: Offset(self.base_offset.0 + offset_delta as u64),
            timestamp: self
                .append_time
                .unwrap_or(TimestampMs(self.base_timestamp.wrapping_add(timestamp_delta))),
            key,
            value,
            headers: Headers::Kafka { count: headers_count, bytes: headers },
        })
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.cursor.rest
    }
}

impl<'a> Iterator for KafkaRecords<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if self.failed || (index == self.record_count && self.cursor.rest.is_empty()) {
            return None;
        }
        // Bytes after the last record are one too many.
        let record = if index < self.record_count { self.read() } else { None };
        self.index += 1;
        self.failed = record.is_none();
        Some(record.ok_or(BatchError::Record { index }))
    }
}
