use bytes::Bytes;
use storage_frame::{BatchBuilder, LeaderEpoch, Offset};
use storage_recordbatch::{BatchBuilder as KafkaBuilder, BatchFields, Compression, to_frame};

use super::*;

const RECORDS: [(&str, Option<&str>); 5] =
    [("a", Some("1")), ("b", None), ("a", Some("2")), ("c", Some("3")), ("b", Some("4"))];

fn archived(compression: codec::Compression) -> Frame {
    let mut builder = BatchBuilder::new();
    for (nth, (key, value)) in RECORDS.iter().enumerate() {
        let value = value.map(|value| value.repeat(100));
        let value = value.as_ref().map(|value| value.as_bytes());
        builder.push(TimestampMs(100 + nth as i64), Some(key.as_bytes()), value, []).unwrap();
    }
    builder.seal_with(None, |plain| compress(compression, plain))
}

fn kafka(compression: Compression) -> Frame {
    let mut builder = KafkaBuilder::new();
    for (nth, (key, value)) in RECORDS.iter().enumerate() {
        let value = value.map(|value| value.repeat(100));
        let value = value.as_ref().map(|value| value.as_bytes());
        let no_headers: [(&str, Option<&[u8]>); 0] = [];
        let at = TimestampMs(100 + nth as i64);
        builder.push(nth as u32, at, Some(key.as_bytes()), value, no_headers).unwrap();
    }
    to_frame(builder.seal(compression, &BatchFields::UNASSIGNED)).unwrap()
}

type Found = Vec<(u32, Vec<u8>, bool)>;

fn visited(frame: &Frame) -> Found {
    let mut found = Vec::new();
    StoredRecords
        .visit(frame, &mut |at| found.push((at.offset_delta, at.key.unwrap().to_vec(), at.is_tombstone)))
        .unwrap();
    found
}

#[test]
fn records_are_taken_out_of_frames_of_every_kind() {
    let frames = [
        archived(codec::Compression::None),
        archived(codec::Compression::Lz4),
        archived(codec::Compression::Zstd { level: 0 }),
        kafka(Compression::None),
        kafka(Compression::Gzip),
        kafka(Compression::Snappy),
        kafka(Compression::Lz4),
        kafka(Compression::Zstd),
    ];
    for mut frame in frames {
        frame.assign(Offset(70), LeaderEpoch(3));
        let all = visited(&frame);
        assert_eq!(all.len(), 5);
        assert_eq!(all[1], (1, b"b".to_vec(), true));
        let part = StoredRecords.retain(&frame, &[1, 3]).unwrap();
        let (before, after) = (frame.header(), part.header());
        assert_eq!((after.encoding, after.codec), (before.encoding, before.codec));
        assert_eq!((after.base_offset, after.end_offset()), (Offset(70), Offset(75)));
        assert_eq!((after.max_timestamp, after.has_holes()), (TimestampMs(103), true));
        assert_eq!(visited(&part), [all[1].clone(), all[3].clone()]);
        // What is left is taken out of again.
        let less = StoredRecords.retain(&part, &[3]).unwrap();
        assert_eq!(visited(&less), [all[3].clone()]);
        let served = Records::open(&less, FRAME_BYTES_MAX).unwrap();
        assert_eq!(served.iter().map(|record| record.unwrap().offset).collect::<Vec<_>>(), [Offset(73)]);
    }
}

#[test]
fn record_without_key_is_named() {
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(1), Some(b"a"), None, []).unwrap();
    assert_eq!(check_keys(&builder.seal(None)), Ok(()));
    builder.push(TimestampMs(1), Some(b"a"), None, []).unwrap();
    builder.push(TimestampMs(1), None, Some(b"v"), []).unwrap();
    let why = check_keys(&builder.seal(None)).unwrap_err();
    assert!(why.starts_with("record 1 has no key"), "{why}");
    let header = *archived(codec::Compression::Lz4).header();
    let garbage = Frame::seal(header, Bytes::from_static(b"no lz4 at all"));
    assert!(check_keys(&garbage).is_err());
}
