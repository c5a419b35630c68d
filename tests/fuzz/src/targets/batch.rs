//! Archived batches (`storage/frame`): flags, first timestamp, then the payload.

use bytes::Bytes;
use storage_frame::{
    BatchBuilder, BatchError, BatchView, Codec, Encoding, Frame, FrameHeader, LeaderEpoch, Offset, PushError,
    Record, TimestampMs,
};

use crate::script::Script;

pub fn batch(data: &[u8]) {
    let mut script = Script::new(data);
    let append_time = script.u8() & 1 != 0;
    let first_timestamp = TimestampMs(script.i64());
    check(header(append_time, first_timestamp), Bytes::copy_from_slice(script.rest()));
}

/// Of a batch whose number of records is not known yet.
#[must_use]
pub fn header(append_time: bool, first_timestamp: TimestampMs) -> FrameHeader {
    FrameHeader {
        encoding: Encoding::Archived,
        codec: Codec::None,
        append_time,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset(1000),
        leader_epoch: LeaderEpoch(1),
        record_count: 1,
        first_timestamp,
        max_timestamp: first_timestamp,
        producer: None,
        compaction: None,
    }
}

/// What must hold of a batch from anywhere.
pub fn check(header: FrameHeader, payload: Bytes) {
    let header = match BatchView::open_plain(header, payload.clone()) {
        Err(BatchError::Count { index, .. }) if index > 0 => {
            FrameHeader { record_count: index as u32, ..header }
        }
        Err(_) => return,
        Ok(_) => header,
    };
    let frame = Frame::seal(header, payload);
    let view = BatchView::open(&frame).expect("its count is what was missing");
    let mut records = Vec::new();
    for (index, record) in view.records().enumerate() {
        match record {
            Ok(record) => {
                assert_eq!(view.record(index), Ok(record));
                assert_eq!(record.offset.0, 1000 + index as u64);
                records.push(record);
            }
            Err(error) => {
                assert_eq!(error, BatchError::Record { index });
                assert_eq!(view.record(index), Err(error));
            }
        }
    }
    assert!(records.len() <= view.record_count() as usize);
    assert_eq!(
        view.record(view.record_count() as usize),
        Err(BatchError::Record { index: view.record_count() as usize })
    );
    let bytes: usize = records.iter().map(record_bytes).sum();
    assert!(bytes <= frame.payload().len(), "records share no bytes");
    rebuilt(&records);
}

fn record_bytes(record: &Record<'_>) -> usize {
    let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    let headers: usize = record.headers().map(|(name, value)| 6 + name.len() + bytes(value)).sum();
    bytes(record.key) + bytes(record.value) + headers
}

/// The same records make a batch that reads the same.
fn rebuilt(records: &[Record<'_>]) {
    let mut builder = BatchBuilder::new();
    for record in records {
        match builder.push(record.timestamp, record.key, record.value, record.headers()) {
            Ok(()) => {}
            // Deltas of a foreign batch count from its header, ours from the first record.
            Err(PushError::TimestampSpan) => return,
            Err(error) => panic!("it was in a batch before: {error}"),
        }
    }
    if builder.is_empty() {
        return;
    }
    let view = BatchView::open(&builder.seal(None)).expect("a batch of our own");
    let again: Vec<_> = view.records().map(|record| record.expect("a batch of our own")).collect();
    assert_eq!(again.len(), records.len());
    for (again, record) in again.iter().zip(records) {
        assert_eq!((again.timestamp, again.key, again.value), (record.timestamp, record.key, record.value));
        assert!(again.headers().eq(record.headers()));
    }
}
