//! From a client's batch to a frame and out again.

use bytes::{Bytes, BytesMut};
use storage_frame::{LeaderEpoch, Offset, Producer, TimestampMs};
use storage_recordbatch::{
    BatchBuilder, BatchError, BatchFields, BatchHeader, Compression, Records, RecordsError, empty,
    from_archived, retain, served, to_frame,
};

use crate::support::{BYTES_MAX, CODECS, Owned, batch, read, record, stored};

fn three() -> Vec<Owned> {
    vec![
        record(0, 1000, Some("a"), Some("one")),
        record(1, 1007, Some("b"), None),
        record(2, 1002, None, Some("three")),
    ]
}

fn served_bytes(frame: &storage_frame::Frame) -> Bytes {
    let served = served(frame).unwrap();
    [&served.head[..], &served.rest[..]].concat().into()
}

/// `batch` with some bytes replaced and, unless those are it, its checksum made anew.
fn changed(batch: &Bytes, at: usize, new: &[u8]) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[at..at + new.len()].copy_from_slice(new);
    if at >= 21 {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch.freeze()
}

#[track_caller]
fn refused(at: usize, new: &[u8], expect: BatchError) {
    let batch = batch(Compression::None, &three());
    assert_eq!(to_frame(changed(&batch, at, new)), Err(expect));
}

fn field(what: &'static str, value: i64) -> BatchError {
    BatchError::Field { what, value }
}

#[test]
fn what_no_client_may_send_is_refused() {
    refused(0, &5i64.to_be_bytes(), field("base_offset", 5));
    refused(8, &48i32.to_be_bytes(), field("length", 48));
    refused(8, &(-1i32).to_be_bytes(), field("length", -1));
    refused(16, &[0], BatchError::OldMagic { magic: 0 });
    refused(16, &[1], BatchError::OldMagic { magic: 1 });
    refused(16, &[3], BatchError::Magic { magic: 3 });
    refused(21, &5i16.to_be_bytes(), BatchError::Compression { id: 5 });
    refused(21, &(1i16 << 3).to_be_bytes(), BatchError::AppendTime);
    refused(21, &(1i16 << 4).to_be_bytes(), BatchError::Transactional);
    refused(21, &(1i16 << 5).to_be_bytes(), BatchError::Control);
    refused(21, &(1i16 << 6).to_be_bytes(), field("delete_horizon", 1));
    refused(23, &(-1i32).to_be_bytes(), field("last_offset_delta", -1));
    refused(23, &i32::MAX.to_be_bytes(), field("last_offset_delta", i64::from(i32::MAX)));
    refused(23, &1i32.to_be_bytes(), field("record_count", 3));
    refused(23, &3i32.to_be_bytes(), field("record_count", 3));
    refused(57, &0i32.to_be_bytes(), field("record_count", 0));
    refused(35, &999i64.to_be_bytes(), field("max_timestamp", 999));
    refused(43, &0i64.to_be_bytes(), field("producer_id", 0));
    refused(43, &(-2i64).to_be_bytes(), field("producer_id", -2));
    refused(43, &4i64.to_be_bytes(), field("producer_epoch", -1));
}

#[test]
fn damage_and_wrong_sizes_are_refused() {
    let batch = batch(Compression::Zstd, &three());
    for have in 0..batch.len() {
        let error = to_frame(batch.slice(..have)).unwrap_err();
        assert!(matches!(error, BatchError::Short { .. }), "{have} bytes: {error}");
    }
    let twice: Bytes = [&batch[..], &batch[..]].concat().into();
    assert_eq!(to_frame(twice), Err(BatchError::Trailing));
    let mut damaged = BytesMut::from(&batch[..]);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(matches!(to_frame(damaged.freeze()), Err(BatchError::Checksum { .. })));
}

#[test]
fn message_of_an_old_format_is_told_from_a_cut_off_batch() {
    let mut old = vec![0; 30];
    old[16] = 1;
    assert_eq!(to_frame(old.into()), Err(BatchError::OldMagic { magic: 1 }));
}

#[test]
fn timestamps_that_some_clients_leave_out_are_made_up_for() {
    let batch = batch(Compression::None, &three());
    let without_max = to_frame(changed(&batch, 35, &(-1i64).to_be_bytes())).unwrap();
    assert_eq!(without_max.header().max_timestamp, TimestampMs(1000));
    let without_base = to_frame(changed(&batch, 27, &(-1i64).to_be_bytes())).unwrap();
    assert_eq!(without_base.header().first_timestamp, TimestampMs(-1));
    assert_eq!(without_base.header().max_timestamp, TimestampMs(1007));
}

#[test]
fn served_batch_has_its_place_and_shares_its_records() {
    for compression in CODECS {
        let sent = batch(compression, &three());
        let frame = stored(sent.clone(), 1 << 40);
        let served = served(&frame).unwrap();
        assert_eq!(served.rest.as_ptr(), sent[61..].as_ptr(), "not copied");
        let header = BatchHeader::check(&served_bytes(&frame)).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (1 << 40, 7));
        assert_eq!(
            header,
            BatchHeader { base_offset: 1 << 40, leader_epoch: 7, ..BatchHeader::check(&sent).unwrap() }
        );
    }
}

#[test]
fn append_time_stands_for_every_record() {
    for compression in CODECS {
        let mut frame = stored(batch(compression, &three()), 10);
        frame.set_append_time(TimestampMs(5_000));
        let header = BatchHeader::check(&served_bytes(&frame)).expect("the checksum is right");
        assert!(header.append_time);
        assert_eq!(header.max_timestamp, 5_000);
        assert!(read(&frame).unwrap().iter().all(|record| record.timestamp == 5_000));
    }
}

fn native(records: &[Owned], producer: Option<Producer>) -> storage_frame::Frame {
    let mut builder = storage_frame::BatchBuilder::new();
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(TimestampMs(record.timestamp), key, value, headers).unwrap();
    }
    let mut frame = builder.seal_with(producer, |plain| {
        storage_recordbatch::archived::codec::compress(
            storage_recordbatch::archived::codec::Compression::Lz4,
            plain,
        )
    });
    frame.assign(Offset(100), LeaderEpoch(3));
    frame
}

#[test]
fn native_batch_is_read_by_kafkas_clients() {
    let mut records = three();
    records[1].headers = vec![("h".into(), None), ("h".into(), Some(vec![1, 2]))];
    records[2].value = Some(vec![b'x'; 500]);
    let frame = native(&records, Some(Producer { id: 9, epoch: 2, base_sequence: 4 }));
    let converted = from_archived(&frame).unwrap();
    let header = BatchHeader::check(&converted).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch, header.record_count), (100, 3, 3));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 4));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1007));
    let mut again = to_frame(changed(&converted, 0, &0i64.to_be_bytes())).unwrap();
    again.assign(Offset(100), LeaderEpoch(3));
    assert_eq!(read(&again).unwrap(), read(&frame).unwrap());
}

#[test]
fn native_batch_with_append_time_says_so() {
    let mut frame = native(&three(), None);
    frame.set_append_time(TimestampMs(9_999));
    let header = BatchHeader::check(&from_archived(&frame).unwrap()).unwrap();
    assert!(header.append_time);
    assert_eq!((header.max_timestamp, header.producer_id), (9_999, -1));
}

#[test]
fn records_taken_out_leave_holes() {
    for compression in CODECS {
        let frame = stored(batch(compression, &three()), 40);
        assert_eq!(retain(&frame, BYTES_MAX, |_| true).unwrap(), None);
        let left = retain(&frame, BYTES_MAX, |record| record.offset != Offset(41)).unwrap().unwrap();
        let header = BatchHeader::check(&left).unwrap();
        assert_eq!((header.record_count, header.last_offset_delta, header.base_offset), (2, 2, 40));
        assert_eq!(header.compression, compression);
        let left = storage_frame::Frame::seal(*frame.header(), left);
        let offsets: Vec<u64> = read(&left).unwrap().iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [40, 42]);
        let none = retain(&left, BYTES_MAX, |_| false).unwrap().unwrap();
        assert_eq!(BatchHeader::check(&none).unwrap().record_count, 0);
        assert_eq!(read(&storage_frame::Frame::seal(*frame.header(), none)).unwrap(), []);
    }
}

#[test]
fn native_batch_with_records_taken_out_becomes_one_of_kafkas() {
    let frame = native(&three(), None);
    let left = retain(&frame, BYTES_MAX, |record| record.key.is_some()).unwrap().unwrap();
    let header = BatchHeader::check(&left).unwrap();
    assert_eq!((header.record_count, header.last_offset_delta, header.base_offset), (2, 2, 100));
}

#[test]
fn batch_without_records_stands_for_its_offsets() {
    let frame = stored(batch(Compression::None, &three()), 8);
    let header = BatchHeader::check(&empty(frame.header())).unwrap();
    assert_eq!((header.base_offset, header.last_offset_delta, header.record_count), (8, 2, 0));
    let mut gone = *frame.header();
    gone.compaction = Some(storage_frame::Compaction { holes: true, tombstones_at: None });
    let gone = storage_frame::Frame::seal(gone, Bytes::new());
    assert_eq!(served_bytes(&gone), empty(frame.header()));
    assert_eq!(read(&gone).unwrap(), []);
}

#[test]
fn frame_and_batch_of_two_minds_are_not_read() {
    let frame = stored(batch(Compression::None, &three()), 0);
    let mut header = *frame.header();
    header.record_count = 4;
    let frame = storage_frame::Frame::seal(header, frame.payload().clone());
    assert_eq!(Records::open(&frame, BYTES_MAX).unwrap_err(), RecordsError::Span { batch: 3, frame: 4 });
}

#[test]
fn builder_takes_records_until_a_frame_is_full() {
    let mut builder = BatchBuilder::new();
    let value = vec![0; 8 << 20];
    let push = |builder: &mut BatchBuilder| {
        let next = builder.record_count();
        builder.push(next, TimestampMs(0), None, Some(&value), [])
    };
    while push(&mut builder).is_ok() {}
    assert_eq!(builder.record_count(), 7);
    to_frame(builder.seal(Compression::None, &BatchFields::UNASSIGNED)).expect("it fits");
}
