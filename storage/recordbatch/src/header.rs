//! The 61 bytes before every batch's records.
//!
//! ```text
//!  0 base_offset i64     8 length i32 (of what follows)   12 partition_leader_epoch i32   16 magic i8 (2)
//! 17 crc u32 (CRC-32C of 21..)   21 attributes i16        23 last_offset_delta i32
//! 27 base_timestamp i64  35 max_timestamp i64             43 producer_id i64   51 producer_epoch i16
//! 53 base_sequence i32   57 record_count i32
//! ```
//! Big endian. Attributes: bits 0-2 compression, 3 append time, 4 transactional, 5 control, 6 delete horizon.
//!
//! [`BatchHeader::parse`] says what any batch must have that is stored or read, also after compaction took records
//! out of it; what a client may send is narrower ([`crate::to_frame`]).

use crate::crc::crc;

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;

pub(crate) const LENGTH_AT: usize = 8;
pub(crate) const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
/// From here on the CRC counts.
pub(crate) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;
const _: () = assert!(RECORD_COUNT_AT + 4 == HEADER_BYTES);

/// What `length` does not count.
pub(crate) const BEFORE_LENGTH_BYTES: usize = LENGTH_AT + 4;

const MAGIC: i8 = 2;
const COMPRESSION_MASK: i16 = 0b111;
pub(crate) const ATTRIBUTE_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;
const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

/// A record without a time.
pub const NO_TIMESTAMP: i64 = -1;
/// A batch of nobody in particular.
pub const NO_PRODUCER: i64 = -1;

/// How a batch's records are compressed, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// As attributes name it.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    fn of(attributes: i16) -> Result<Self, BatchError> {
        match attributes & COMPRESSION_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            id => Err(BatchError::Compression { id }),
        }
    }
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Of the whole batch, header included.
    pub batch_bytes: usize,
    pub leader_epoch: i32,
    pub compression: Compression,
    /// The broker's time of appending stands for every record's.
    pub append_time: bool,
    pub transactional: bool,
    pub control: bool,
    /// Compaction put a time to forget tombstones in `base_timestamp`; records count from it all the same.
    pub delete_horizon: bool,
    pub last_offset_delta: i32,
    /// -1: none.
    pub base_timestamp: i64,
    /// -1: none.
    pub max_timestamp: i64,
    /// -1: none.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// At most `last_offset_delta + 1`.
    pub record_count: i32,
}

/// Why bytes are not a batch that can be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("record batch cut off: {have} of {need} bytes")]
    Short { have: usize, need: usize },
    /// Message sets of Kafka before 0.11.
    #[error("message format v{magic} is no longer served: use a client of Kafka 0.11 or later")]
    OldMagic { magic: i8 },
    #[error("record batch has magic {magic}, known is 2")]
    Magic { magic: i8 },
    #[error("record batch damaged: checksum {stored:#010x}, computed {computed:#010x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("record batch is compressed with codec {id}, known are 0 to 4")]
    Compression { id: i16 },
    #[error("record batch claims {what} = {value}, which no batch has")]
    Field { what: &'static str, value: i64 },
    #[error("bytes after the record batch: one batch for each partition of a request")]
    Trailing,
    /// Only the broker may write it.
    #[error("control batches are the broker's to write")]
    Control,
    #[error("record batch is part of a transaction, which this broker does not serve")]
    Transactional,
    #[error("append time is the broker's to set (message.timestamp.type)")]
    AppendTime,
    #[error("record {index} of the batch points outside of it")]
    Record { index: usize },
    #[error("batch does not decompress: {why}")]
    Decompress { why: String },
    /// Will never fit: whole, or decompressed.
    #[error("batch of more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

impl BatchHeader {
    /// Reads the header of `batch`, which is one whole batch, and checks everything but its checksum and its records.
    ///
    /// # Errors
    /// [`BatchError`], but `Checksum` and what is said of records.
    pub fn parse(batch: &[u8]) -> Result<Self, BatchError> {
        check_magic(batch)?;
        let Some(head) = batch.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Short { have: batch.len(), need: HEADER_BYTES });
        };
        let length = i32_at(head, LENGTH_AT);
        let batch_bytes = match usize::try_from(length) {
            Ok(length) if length + BEFORE_LENGTH_BYTES >= HEADER_BYTES => length + BEFORE_LENGTH_BYTES,
            _ => return Err(BatchError::Field { what: "length", value: i64::from(length) }),
        };
        if batch.len() < batch_bytes {
            return Err(BatchError::Short { have: batch.len(), need: batch_bytes });
        }
        if batch.len() > batch_bytes {
            return Err(BatchError::Trailing);
        }
        let attributes = i16_at(head, ATTRIBUTES_AT);
        let header = Self {
            base_offset: i64_at(head, 0),
            batch_bytes,
            leader_epoch: i32_at(head, EPOCH_AT),
            compression: Compression::of(attributes)?,
            append_time: attributes & ATTRIBUTE_APPEND_TIME != 0,
            transactional: attributes & ATTRIBUTE_TRANSACTIONAL != 0,
            control: attributes & ATTRIBUTE_CONTROL != 0,
            delete_horizon: attributes & ATTRIBUTE_DELETE_HORIZON != 0,
            last_offset_delta: i32_at(head, LAST_OFFSET_DELTA_AT),
            base_timestamp: i64_at(head, BASE_TIMESTAMP_AT),
            max_timestamp: i64_at(head, MAX_TIMESTAMP_AT),
            producer_id: i64_at(head, PRODUCER_ID_AT),
            producer_epoch: i16_at(head, PRODUCER_EPOCH_AT),
            base_sequence: i32_at(head, BASE_SEQUENCE_AT),
            record_count: i32_at(head, RECORD_COUNT_AT),
        };
        header.check_counts()?;
        Ok(header)
    }

    /// As [`parse`](Self::parse), with the checksum.
    ///
    /// # Errors
    /// [`BatchError`], but what is said of records.
    pub fn check(batch: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse(batch)?;
        let stored = i32_at(batch, CRC_AT) as u32;
        let computed = crc(&batch[ATTRIBUTES_AT..]);
        if stored != computed {
            return Err(BatchError::Checksum { stored, computed });
        }
        Ok(header)
    }

    fn check_counts(&self) -> Result<(), BatchError> {
        let field = |what, value| Err(BatchError::Field { what, value });
        // One more is the frame's count, which must be a number.
        if !(0..i32::MAX).contains(&self.last_offset_delta) {
            return field("last_offset_delta", i64::from(self.last_offset_delta));
        }
        if !(0..=self.last_offset_delta + 1).contains(&self.record_count) {
            return field("record_count", i64::from(self.record_count));
        }
        Ok(())
    }

    /// Offsets from the first record's to the last's, removed records included. At least 1.
    #[must_use]
    pub fn offsets_count(&self) -> u32 {
        self.last_offset_delta as u32 + 1
    }

    fn attributes(&self) -> i16 {
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        self.compression.id()
            | bit(self.append_time, ATTRIBUTE_APPEND_TIME)
            | bit(self.transactional, ATTRIBUTE_TRANSACTIONAL)
            | bit(self.control, ATTRIBUTE_CONTROL)
            | bit(self.delete_horizon, ATTRIBUTE_DELETE_HORIZON)
    }

    /// Writes the header over the first bytes of `batch`, which is whole, with its size and checksum.
    pub(crate) fn seal(&self, batch: &mut [u8]) {
        assert_eq!(batch.len(), self.batch_bytes);
        let length = i32::try_from(self.batch_bytes - BEFORE_LENGTH_BYTES).expect("below FRAME_BYTES_MAX");
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(EPOCH_AT, &self.leader_epoch.to_be_bytes());
        put(MAGIC_AT, &MAGIC.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes().to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID_AT, &self.producer_id.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &self.producer_epoch.to_be_bytes());
        put(BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(RECORD_COUNT_AT, &self.record_count.to_be_bytes());
        let crc = crc(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Every format has its magic at one place, and old ones may be shorter than a header.
fn check_magic(batch: &[u8]) -> Result<(), BatchError> {
    match batch.get(MAGIC_AT).map(|magic| *magic as i8) {
        None => Err(BatchError::Short { have: batch.len(), need: HEADER_BYTES }),
        Some(MAGIC) => Ok(()),
        Some(magic @ (0 | 1)) => Err(BatchError::OldMagic { magic }),
        Some(magic) => Err(BatchError::Magic { magic }),
    }
}

pub(crate) fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
