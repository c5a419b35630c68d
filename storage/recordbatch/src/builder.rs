//! Batches that no client sent: converted, compacted, made by tools and tests.

use bytes::Bytes;
use storage_frame::{FrameHeader, Producer, TimestampMs};

use crate::compression::compress;
use crate::frame::{BATCH_BYTES_MAX, leader_epoch, offset};
use crate::header::{BatchHeader, Compression, HEADER_BYTES, NO_PRODUCER, NO_TIMESTAMP};
use crate::varint::{nullable_bytes, put_nullable, put_varlong, varlong_bytes};

/// Why a record does not go into a batch; the batch is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Seal this batch and start another one.
    #[error("batch is full")]
    Full,
}

/// What a batch says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFields {
    pub base_offset: i64,
    pub leader_epoch: i32,
    /// From the first to the last, where compaction took records out of it; absent: to the last that was pushed.
    pub offsets_count: Option<u32>,
    /// The broker's time of appending, standing for every record's.
    pub append_time: Option<TimestampMs>,
    pub producer: Option<Producer>,
}

impl BatchFields {
    /// What a client's own batch says.
    pub const UNASSIGNED: Self =
        Self { base_offset: 0, leader_epoch: -1, offsets_count: None, append_time: None, producer: None };

    /// What the frame says.
    #[must_use]
    pub fn of(header: &FrameHeader) -> Self {
        Self {
            base_offset: offset(header),
            leader_epoch: leader_epoch(header),
            offsets_count: Some(header.record_count),
            append_time: header.append_time.then_some(header.max_timestamp),
            producer: header.producer,
        }
    }
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    /// A header's room, then the records.
    bytes: Vec<u8>,
    record_count: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; HEADER_BYTES],
            record_count: 0,
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count as u32
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch that [`seal`](Self::seal) would make now, uncompressed.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record `offset_delta` after the batch's base offset.
    ///
    /// # Errors
    /// [`PushError`]; the batch is as before.
    /// # Panics
    /// When the offset is not above those pushed before, or above 2^31.
    pub fn push<'h>(
        &mut self,
        offset_delta: u32,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)> + Clone,
    ) -> Result<(), PushError> {
        let offset_delta = i64::from(offset_delta);
        assert!(offset_delta > i64::from(self.last_offset_delta) && offset_delta < i64::from(i32::MAX));
        if self.is_empty() {
            self.base_timestamp = timestamp.0;
        }
        // Kafka's clients wrap around, too, so every pair of times comes back.
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp);
        let mut headers_count = 0;
        let mut record_bytes = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(offset_delta);
        record_bytes += nullable_bytes(key) + nullable_bytes(value);
        for (name, value) in headers.clone() {
            headers_count += 1;
            record_bytes += nullable_bytes(Some(name.as_bytes())) + nullable_bytes(value);
        }
        record_bytes += varlong_bytes(headers_count);
        if self.bytes.len() + record_bytes + varlong_bytes(record_bytes as i64) > BATCH_BYTES_MAX {
            return Err(PushError::Full);
        }
        let out = &mut self.bytes;
        put_varlong(record_bytes as i64, out);
        let start = out.len();
        // Attributes: none are known.
        out.push(0);
        put_varlong(timestamp_delta, out);
        put_varlong(offset_delta, out);
        put_nullable(key, out);
        put_nullable(value, out);
        put_varlong(headers_count, out);
        for (name, value) in headers {
            put_nullable(Some(name.as_bytes()), out);
            put_nullable(value, out);
        }
        assert_eq!(out.len() - start, record_bytes);
        self.record_count += 1;
        self.last_offset_delta = offset_delta as i32;
        self.max_timestamp =
            if self.record_count == 1 { timestamp.0 } else { self.max_timestamp.max(timestamp.0) };
        Ok(())
    }

    /// The batch. Without records it must be told how many offsets it stands for.
    ///
    /// # Panics
    /// When `offsets_count` is below what was pushed, or no offset is left to stand for.
    #[must_use]
    pub fn seal(self, compression: Compression, fields: &BatchFields) -> Bytes {
        let pushed = (self.last_offset_delta + 1) as u32;
        let offsets_count = fields.offsets_count.unwrap_or(pushed);
        assert!(offsets_count >= pushed.max(1) && offsets_count <= i32::MAX as u32);
        let (compression, batch) = if self.is_empty() {
            (Compression::None, self.bytes)
        } else {
            compressed(compression, self.bytes)
        };
        let producer =
            fields.producer.and_then(|producer| Some((i64::try_from(producer.id).ok()?, producer)));
        let header = BatchHeader {
            base_offset: fields.base_offset,
            batch_bytes: batch.len(),
            leader_epoch: fields.leader_epoch,
            compression,
            append_time: fields.append_time.is_some(),
            transactional: false,
            control: false,
            delete_horizon: false,
            last_offset_delta: (offsets_count - 1) as i32,
            base_timestamp: self.base_timestamp,
            max_timestamp: fields.append_time.map_or(self.max_timestamp, |now| now.0),
            producer_id: producer.map_or(NO_PRODUCER, |(id, _)| id),
            producer_epoch: producer.map_or(-1, |(_, producer)| producer.epoch as i16),
            base_sequence: producer.map_or(-1, |(_, producer)| producer.base_sequence as i32),
            record_count: self.record_count,
        };
        sealed(&header, batch)
    }
}

/// A batch without records that stands for the frame's offsets.
#[must_use]
pub fn empty(header: &FrameHeader) -> Bytes {
    BatchBuilder::new().seal(Compression::None, &BatchFields::of(header))
}

pub(crate) fn sealed(header: &BatchHeader, mut batch: Vec<u8>) -> Bytes {
    header.seal(&mut batch);
    Bytes::from(batch)
}

/// `plain` is a header's room and records; it stays plain where a codec makes more of it than a batch may have.
pub(crate) fn compressed(compression: Compression, plain: Vec<u8>) -> (Compression, Vec<u8>) {
    if compression == Compression::None {
        return (compression, plain);
    }
    let mut batch = vec![0; HEADER_BYTES];
    compress(compression, &plain[HEADER_BYTES..], &mut batch);
    if batch.len() > BATCH_BYTES_MAX { (Compression::None, plain) } else { (compression, batch) }
}
