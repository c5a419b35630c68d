//! A frame with some of its records taken out, for compaction.

use bytes::Bytes;
use storage_frame::{Encoding, Frame};

use crate::builder::{BatchBuilder, BatchFields, compressed, sealed};
use crate::compression::decompress;
use crate::frame::{leader_epoch, offset};
use crate::header::{BatchHeader, Compression, HEADER_BYTES};
use crate::records::{KafkaRecords, Record, Records, RecordsError};

/// A v2 batch of the records that `keep` wants, at the offsets they have and for all the offsets the frame has; `None`:
/// it wants all of them, and the frame stays as it is.
///
/// Records of a v2 batch are copied as they are and compressed as they were; those of a native batch are made
/// anew, uncompressed. A batch of which none is left has no records (`record_count` 0) and says so to every reader.
///
/// # Errors
/// [`RecordsError`].
pub fn retain(
    frame: &Frame,
    bytes_max: usize,
    keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Option<Bytes>, RecordsError> {
    match frame.header().encoding {
        _ if frame.header().has_no_records() => Ok(None),
        Encoding::Archived => retain_archived(frame, bytes_max, keep),
        Encoding::KafkaV2 => retain_kafka(frame, bytes_max, keep),
    }
}

fn retain_kafka(
    frame: &Frame,
    bytes_max: usize,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Option<Bytes>, RecordsError> {
    let header = frame.header();
    let batch = BatchHeader::parse(frame.payload())?;
    let plain = decompress(batch.compression, &frame.payload().slice(HEADER_BYTES..), bytes_max)?;
    let mut records = KafkaRecords::new(header, &batch, &plain);
    let mut kept = vec![0; HEADER_BYTES];
    let mut record_count = 0;
    loop {
        let before = records.rest();
        let Some(record) = records.next() else { break };
        if keep(&record?) {
            kept.extend_from_slice(&before[..before.len() - records.rest().len()]);
            record_count += 1;
        }
    }
    if record_count == batch.record_count {
        return Ok(None);
    }
    let (compression, kept) =
        if record_count == 0 { (Compression::None, kept) } else { compressed(batch.compression, kept) };
    let header = BatchHeader {
        base_offset: offset(header),
        batch_bytes: kept.len(),
        leader_epoch: leader_epoch(header),
        compression,
        append_time: header.append_time || batch.append_time,
        max_timestamp: if header.append_time { header.max_timestamp.0 } else { batch.max_timestamp },
        record_count,
        ..batch
    };
    Ok(Some(sealed(&header, kept)))
}

fn retain_archived(
    frame: &Frame,
    bytes_max: usize,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Option<Bytes>, RecordsError> {
    let records = Records::open(frame, bytes_max)?;
    let base_offset = frame.header().base_offset;
    let mut batch = BatchBuilder::new();
    for record in records.iter() {
        let record = record?;
        if keep(&record) {
            let offset_delta = (record.offset.0 - base_offset.0) as u32;
            batch.push(offset_delta, record.timestamp, record.key, record.value, record.headers())?;
        }
    }
    if batch.record_count() == records.record_count() {
        return Ok(None);
    }
    Ok(Some(batch.seal(Compression::None, &BatchFields::of(frame.header()))))
}
