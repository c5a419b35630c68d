use super::*;
use storage_frame::{Codec, Encoding, Frame, LeaderEpoch};

fn header(offset: u64, payload_bytes: usize, timestamp: i64) -> FrameHeader {
    let header = FrameHeader {
        encoding: Encoding::Archived,
        codec: Codec::None,
        append_time: false,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(1),
        record_count: 10,
        first_timestamp: TimestampMs(timestamp),
        max_timestamp: TimestampMs(timestamp),
        producer: None,
        compaction: None,
    };
    *Frame::seal(header, Bytes::from(vec![0; payload_bytes])).header()
}

fn segment(end_position: u64) -> Segment {
    let mut segment = Segment::planned(SegmentId(4), Offset(100));
    segment.generation = 77;
    segment.end_position = end_position;
    segment
}

/// 100 frames of 10 records and 16 KiB each.
fn filled() -> (SegmentIndex, u64) {
    let mut index = SegmentIndex::of_whole(&segment(u64::MAX));
    let mut position = FIRST_FRAME;
    for nth in 0..100 {
        let header = header(100 + nth * 10, (16 << 10) - 64, nth as i64);
        index.note(position, &header);
        position += header.frame_bytes() as u64;
    }
    (index, position)
}

#[test]
fn one_entry_for_each_interval() {
    let (index, end) = filled();
    assert_eq!(index.entry_count(), 24);
    assert_eq!(index.end_position(), end);
    assert_eq!(index.place_of_offset(Offset(100)), Place { position: FIRST_FRAME, offset: Offset(100) });
    let far = index.place_of_offset(Offset(100 + 57 * 10 + 3));
    assert_eq!(far, Place { position: FIRST_FRAME + 56 * (16 << 10), offset: Offset(100 + 560) });
    let late = index.place_of_timestamp(TimestampMs(57));
    assert_eq!(late.offset, Offset(100 + 560), "frames before it are all older than 57");
}

#[test]
fn file_comes_back_and_flipped_bytes_are_noticed() {
    let (index, end) = filled();
    let file = index.encode(LogId(1), 77);
    assert_eq!(SegmentIndex::decode(&file, LogId(1), &segment(end)).unwrap(), index);
    assert!(SegmentIndex::decode(&file, LogId(2), &segment(end)).is_err());
    for at in 0..file.len() {
        let mut bad = file.to_vec();
        bad[at] ^= 0x40;
        assert!(SegmentIndex::decode(&bad, LogId(1), &segment(end)).is_err(), "byte {at}");
    }
}

#[test]
fn stored_beginning_and_remembered_end_make_a_whole() {
    let (whole, end) = filled();
    let mut stored = SegmentIndex::of_whole(&segment(end));
    let mut point = segment(end).first_point(LeaderEpoch(1));
    let mut late = None;
    for nth in 0..100 {
        let header = header(100 + nth * 10, (16 << 10) - 64, nth as i64);
        if nth == 50 {
            late = Some(SegmentIndex::starting_at(&segment(end), point));
        }
        late.as_mut().unwrap_or(&mut stored).note(point.position, &header);
        point = point.after(&header);
    }
    let joined = late.unwrap().behind(&stored).unwrap();
    assert_eq!(joined.end_position(), whole.end_position());
    assert!(joined.entry_count() >= whole.entry_count());
    assert!(joined.is_whole_from_start());
    let gap = SegmentIndex::starting_at(&segment(end), Point { position: end + 16, ..point });
    assert_eq!(gap.behind(&stored), None);
}
