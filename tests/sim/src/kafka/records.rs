//! What a partition's part of a fetch answer holds: whole batches, and their records.

use bytes::Bytes;
use storage_frame::{Codec, Encoding, FRAME_BYTES_MAX, Frame, FrameHeader, LeaderEpoch, Offset, TimestampMs};
use storage_recordbatch::{BatchHeader, Records};

use crate::direct::seen_of;
use crate::fact::Seen;

#[derive(Debug, Default)]
pub(super) struct Batches {
    /// First offset and end of each.
    pub(super) spans: Vec<(Offset, Offset)>,
    pub(super) records: Vec<Seen>,
    /// Behind the last whole batch.
    pub(super) loose_bytes: usize,
}

/// Before the length, and with it.
const LENGTH_END: usize = 12;

/// # Errors
/// A batch that is none.
pub(super) fn batches_of(mut bytes: Bytes) -> Result<Batches, String> {
    let mut batches = Batches::default();
    while !bytes.is_empty() {
        let length = bytes.get(LENGTH_END - 4..LENGTH_END).and_then(|field| field.try_into().ok());
        let length = length.map_or(usize::MAX, |field| u32::from_be_bytes(field) as usize);
        if length > bytes.len() - LENGTH_END.min(bytes.len()) {
            batches.loose_bytes = bytes.len();
            break;
        }
        let batch = bytes.split_to(LENGTH_END + length);
        let header = BatchHeader::check(&batch).map_err(|error| error.to_string())?;
        let frame = frame_of(&header, batch);
        batches.spans.push((frame.header().base_offset, frame.header().end_offset()));
        let records = Records::open(&frame, FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
        batches.records.extend(seen_of(&records)?);
    }
    Ok(batches)
}

/// As a broker would hold it.
fn frame_of(batch: &BatchHeader, bytes: Bytes) -> Frame {
    let header = FrameHeader {
        encoding: Encoding::KafkaV2,
        codec: Codec::None,
        append_time: batch.append_time,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset(batch.base_offset.cast_unsigned()),
        leader_epoch: LeaderEpoch(0),
        record_count: batch.offsets_count(),
        first_timestamp: TimestampMs(batch.base_timestamp),
        max_timestamp: TimestampMs(batch.max_timestamp),
        producer: None,
        compaction: None,
    };
    Frame::seal(header, bytes)
}
