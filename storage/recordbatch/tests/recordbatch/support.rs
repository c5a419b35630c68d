//! Records to build from and to compare with.

use bytes::Bytes;
use storage_frame::{Frame, LeaderEpoch, Offset, TimestampMs};
use storage_recordbatch::{BatchBuilder, BatchFields, Compression, Records, RecordsError, to_frame};

pub(crate) const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

pub(crate) const BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) fn record(offset: u64, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Owned {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Owned { offset, timestamp, key: key.map(bytes), value: value.map(bytes), headers: Vec::new() }
}

/// A batch as a client sends it, of records at offsets from 0.
pub(crate) fn batch(compression: Compression, records: &[Owned]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let timestamp = TimestampMs(record.timestamp);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.offset as u32, timestamp, key, value, headers).expect("small");
    }
    builder.seal(compression, &BatchFields::UNASSIGNED)
}

/// The frame of `batch` at its place in a log.
pub(crate) fn stored(batch: Bytes, base_offset: u64) -> Frame {
    let mut frame = to_frame(batch).expect("a client may send it");
    frame.assign(Offset(base_offset), LeaderEpoch(7));
    frame
}

/// A frame of `count` records whose payload nobody has looked at.
pub(crate) fn unchecked(payload: Bytes, count: u32) -> Frame {
    let mut header = *stored(batch(Compression::None, &[record(0, 0, None, None)]), 0).header();
    header.record_count = count;
    Frame::seal(header, payload)
}

pub(crate) fn read(frame: &Frame) -> Result<Vec<Owned>, RecordsError> {
    let records = Records::open(frame, BYTES_MAX)?;
    let owned = records.iter().map(|record| {
        let record = record?;
        Ok(Owned {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        })
    });
    owned.collect()
}
