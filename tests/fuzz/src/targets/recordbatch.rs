//! Kafka's record batches as clients send them (`storage/recordbatch`): flags, then the batch.
//!
//! Bit 0: its checksum is mended. Bit 1: its size, too. Bit 2: append time. Bit 3: compaction has been there.

use bytes::Bytes;
use storage_frame::{Compaction, Frame, LeaderEpoch, Offset, TimestampMs};
use storage_recordbatch::{BatchHeader, Compression, Records, from_archived, retain, served, to_frame};

use crate::script::Script;

/// As large as a reader of this target lets a batch become.
const PLAIN_BYTES_MAX: usize = 1 << 20;
const BASE: Offset = Offset(1 << 40);

pub fn recordbatch(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.u8();
    let batch = mended(flags, script.rest());
    let Ok(mut frame) = to_frame(batch.clone()) else { return };
    assert_eq!(frame.payload(), &batch, "stored as it was sent");
    assert_eq!(frame.header().record_count, BatchHeader::check(&batch).expect("checked").offsets_count());
    check_walk(&frame);
    frame.assign(BASE, LeaderEpoch(3));
    if flags & 4 != 0 {
        frame.set_append_time(TimestampMs(5));
    }
    if flags & 8 != 0 {
        let compaction = Some(Compaction { holes: true, tombstones_at: None });
        let header = storage_frame::FrameHeader { compaction, producer: None, ..*frame.header() };
        frame = Frame::seal(header, frame.payload().clone());
    }
    check_served(&frame);
    assert!(from_archived(&frame).is_err(), "it is none");
    check_records(&frame);
}

/// What is let in without being compressed can be read to its end.
fn check_walk(frame: &Frame) {
    let header = BatchHeader::parse(frame.payload()).expect("checked");
    if header.compression == Compression::None && header.batch_bytes <= PLAIN_BYTES_MAX {
        let records = Records::open(frame, PLAIN_BYTES_MAX).expect("there is nothing to decompress");
        let read = records.iter().filter(Result::is_ok).count();
        assert_eq!(read, header.record_count as usize);
    }
}

fn mended(flags: u8, batch: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    if flags & 2 != 0 && batch.len() >= 12 {
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
    }
    if flags & 1 != 0 && batch.len() > 21 {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch.into()
}

fn check_served(frame: &Frame) {
    let served = served(frame).expect("it holds a batch");
    let whole = [&served.head[..], &served.rest[..]].concat();
    let header = BatchHeader::check(&whole).expect("its checksum is right");
    assert_eq!((header.base_offset, header.leader_epoch), (BASE.0 as i64, 3));
    assert_eq!(header.append_time, frame.header().append_time);
}

fn check_records(frame: &Frame) {
    let records = match Records::open(frame, PLAIN_BYTES_MAX) {
        Ok(records) => records,
        Err(_) => return,
    };
    assert!(records.plain_bytes() <= PLAIN_BYTES_MAX);
    let mut next = BASE;
    let mut bytes = 0;
    let mut whole = true;
    for record in records.iter() {
        let Ok(record) = record else {
            whole = false;
            break;
        };
        assert!(record.offset >= next && record.offset < frame.header().end_offset());
        next = record.offset.plus(1);
        bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        bytes +=
            record.headers().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum::<usize>();
    }
    assert!(bytes <= records.plain_bytes());
    check_retained(frame, whole);
}

/// Every second record taken out: what is left is a batch, of those.
fn check_retained(frame: &Frame, whole: bool) {
    let left = retain(frame, PLAIN_BYTES_MAX, |record| record.offset.0.is_multiple_of(2));
    assert_eq!(left.is_ok(), whole);
    let Ok(Some(left)) = left else { return };
    BatchHeader::check(&left).expect("ours");
    let left = Frame::seal(*frame.header(), left);
    let records = match Records::open(&left, PLAIN_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => panic!("{error}"),
    };
    assert!(records.iter().all(|record| record.expect("ours").offset.0.is_multiple_of(2)));
}
