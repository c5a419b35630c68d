//! From a client's batch to a frame, and from a stored frame to the bytes that clients are sent.

use bytes::{Bytes, BytesMut};
use storage_frame::{
    Codec, Encoding, FRAME_BYTES_MAX, Frame, FrameHeader, HEADER_BYTES as FRAME_HEADER_BYTES, LeaderEpoch,
    Offset, Producer, TimestampMs,
};

use crate::builder::empty;
use crate::crc::crc_with_start_replaced;
use crate::header::{
    ATTRIBUTE_APPEND_TIME, ATTRIBUTES_AT, BatchError, BatchHeader, CRC_AT, Compression, EPOCH_AT,
    HEADER_BYTES, MAX_TIMESTAMP_AT, NO_PRODUCER, NO_TIMESTAMP, i16_at, i32_at,
};
use crate::walk::check_records;

/// No batch is larger: it would not be a frame.
pub const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

/// Makes what a client sent a frame without copying, if it is what a client may send: one whole batch with its
/// checksum, counts that agree, possible timestamps, nothing that only a broker writes. Records that are not compressed
/// lie where they say, at offsets without holes; compressed ones are not looked at.
///
/// # Errors
/// [`BatchError`].
pub fn to_frame(batch: Bytes) -> Result<Frame, BatchError> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge { bytes_max: BATCH_BYTES_MAX });
    }
    let header = BatchHeader::check(&batch)?;
    check_sent(&header)?;
    if header.compression == Compression::None {
        check_records(&batch[HEADER_BYTES..], header.offsets_count())?;
    }
    let (first_timestamp, max_timestamp) = timestamps(&header)?;
    let frame = FrameHeader {
        encoding: Encoding::KafkaV2,
        codec: Codec::None,
        append_time: false,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset::ZERO,
        leader_epoch: LeaderEpoch(0),
        record_count: header.offsets_count(),
        first_timestamp: TimestampMs(first_timestamp),
        max_timestamp: TimestampMs(max_timestamp),
        producer: producer(&header)?,
        compaction: None,
    };
    Ok(Frame::seal(frame, batch))
}

/// What Kafka's brokers refuse of a client, too.
fn check_sent(header: &BatchHeader) -> Result<(), BatchError> {
    if header.control {
        return Err(BatchError::Control);
    }
    if header.transactional {
        return Err(BatchError::Transactional);
    }
    if header.append_time {
        return Err(BatchError::AppendTime);
    }
    let field = |what, value| Err(BatchError::Field { what, value });
    if header.delete_horizon {
        return field("delete_horizon", 1);
    }
    if header.base_offset != 0 {
        return field("base_offset", header.base_offset);
    }
    if header.record_count < 1 || header.record_count as u32 != header.offsets_count() {
        return field("record_count", i64::from(header.record_count));
    }
    Ok(())
}

/// The frame's first and largest timestamp, in this order. Some clients leave one of them out.
fn timestamps(header: &BatchHeader) -> Result<(i64, i64), BatchError> {
    match (header.base_timestamp, header.max_timestamp) {
        (base, NO_TIMESTAMP) => Ok((base, base)),
        (base, max) if base <= max => Ok((base, max)),
        (_, max) => Err(BatchError::Field { what: "max_timestamp", value: max }),
    }
}

fn producer(header: &BatchHeader) -> Result<Option<Producer>, BatchError> {
    if header.producer_id == NO_PRODUCER {
        return Ok(None);
    }
    let field = |what, value| BatchError::Field { what, value };
    let id = u64::try_from(header.producer_id).ok().filter(|id| *id != 0);
    let epoch = u16::try_from(header.producer_epoch);
    let base_sequence = u32::try_from(header.base_sequence);
    Ok(Some(Producer {
        // They are given out from 1.
        id: id.ok_or_else(|| field("producer_id", header.producer_id))?,
        epoch: epoch.map_err(|_| field("producer_epoch", i64::from(header.producer_epoch)))?,
        base_sequence: base_sequence.map_err(|_| field("base_sequence", i64::from(header.base_sequence)))?,
    }))
}

/// A stored batch as clients are sent it: `head`, then `rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The 61 bytes of the header, written anew.
    pub head: Bytes,
    /// The records, as they lie in the frame's payload.
    pub rest: Bytes,
}

/// A `KafkaV2` frame's batch with the frame's offset, epoch and, where it has one, time of appending. The records are
/// neither copied nor read: the new checksum follows from the old one. A frame that compaction left no records is a
/// batch without any, for its offsets.
///
/// # Errors
/// [`BatchError::Short`]: the payload holds no batch. [`BatchError::Field`]: it is a frame of another encoding.
pub fn served(frame: &Frame) -> Result<Served, BatchError> {
    let (header, payload) = (frame.header(), frame.payload());
    if header.encoding != Encoding::KafkaV2 {
        return Err(BatchError::Field { what: "encoding", value: 1 });
    }
    if header.has_no_records() {
        return Ok(Served { head: empty(header), rest: Bytes::new() });
    }
    let Some(stored) = payload.first_chunk::<HEADER_BYTES>() else {
        return Err(BatchError::Short { have: payload.len(), need: HEADER_BYTES });
    };
    let mut head = *stored;
    head[..8].copy_from_slice(&offset(header).to_be_bytes());
    head[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&leader_epoch(header).to_be_bytes());
    if header.append_time {
        set_append_time(&mut head, header.max_timestamp, payload.len() - HEADER_BYTES);
    }
    Ok(Served { head: BytesMut::from(&head[..]).freeze(), rest: payload.slice(HEADER_BYTES..) })
}

fn set_append_time(head: &mut [u8; HEADER_BYTES], now: TimestampMs, rest_bytes: usize) {
    let stored = *head;
    let attributes = i16_at(head, ATTRIBUTES_AT) | ATTRIBUTE_APPEND_TIME;
    head[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    head[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now.0.to_be_bytes());
    let (old, new) = (&stored[ATTRIBUTES_AT..], &head[ATTRIBUTES_AT..]);
    let crc = crc_with_start_replaced(i32_at(&stored, CRC_AT) as u32, old, new, rest_bytes);
    head[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// The frame's offset as Kafka has it: frames are checked to be below 2^63.
pub(crate) fn offset(header: &FrameHeader) -> i64 {
    i64::try_from(header.base_offset.0).expect("checked when the header was read")
}

/// Epochs rise by one with each leadership: none gets there.
pub(crate) fn leader_epoch(header: &FrameHeader) -> i32 {
    i32::try_from(header.leader_epoch.0).unwrap_or(i32::MAX)
}
