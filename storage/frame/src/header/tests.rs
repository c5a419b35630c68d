use super::*;

fn header() -> FrameHeader {
    FrameHeader {
        encoding: Encoding::Archived,
        codec: Codec::Zstd,
        append_time: true,
        starts_write: true,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset(7),
        leader_epoch: LeaderEpoch(3),
        record_count: 5,
        first_timestamp: TimestampMs(-4),
        max_timestamp: TimestampMs(9),
        producer: Some(Producer { id: 11, epoch: 2, base_sequence: 40 }),
        compaction: None,
    }
}

fn stored(frame: &Frame, salt: Salt) -> Bytes {
    let mut out = BytesMut::new();
    frame.write_to(salt, &mut out);
    out.freeze()
}

#[test]
fn frame_comes_back_as_it_was_stored() {
    let frame = Frame::seal(header(), Bytes::from_static(b"some payload"));
    let mut bytes = stored(&frame, Salt(77));
    assert_eq!(bytes.len(), frame.header().frame_bytes());
    assert_eq!(peek_frame_bytes(&bytes), Some(bytes.len()));
    assert_eq!(Frame::split_from(&mut bytes, Salt(77)).unwrap(), frame);
    assert!(bytes.is_empty());
}

#[test]
fn frame_of_another_life_never_verifies() {
    let frame = Frame::seal(header(), Bytes::from_static(b"some payload"));
    for salt in [0, 1, 2, 78, u32::MAX] {
        let mut bytes = stored(&frame, Salt(77));
        let refused = Frame::split_from(&mut bytes, Salt(salt));
        assert!(matches!(refused, Err(FrameError::HeaderChecksum { .. })), "salt {salt}: {refused:?}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let frame = Frame::seal(header(), Bytes::from_static(b"0123456789abcdef"));
    let good = stored(&frame, Salt(1));
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::split_from(&mut Bytes::from(bad), Salt(1)).is_err(), "bit {bit}");
    }
}

#[test]
fn assigning_an_offset_leaves_the_payload_checksum_alone() {
    let mut frame = Frame::seal(header(), Bytes::from_static(b"p"));
    let sealed_crc = frame.header().payload_crc;
    frame.assign(Offset(1 << 40), LeaderEpoch(9));
    assert_eq!(frame.header().payload_crc, sealed_crc);
    let back = Frame::split_from(&mut stored(&frame, Salt::NONE), Salt::NONE).unwrap();
    assert_eq!(back.header().base_offset, Offset(1 << 40));
    assert_eq!(back.header().end_offset(), Offset((1 << 40) + 5));
}

fn compacted() -> Frame {
    let compaction = Some(Compaction { holes: true, tombstones_at: Some(TimestampMs(-9)) });
    let header = FrameHeader { producer: None, compaction, ..header() };
    Frame::seal(header, Bytes::from_static(b"0123456789abcdef"))
}

#[test]
fn compacted_frame_is_of_a_version_of_its_own() {
    let frame = compacted();
    let good = stored(&frame, Salt(1));
    assert_eq!(good[2], VERSION_COMPACTED);
    assert_eq!(Frame::split_from(&mut good.clone(), Salt(1)).unwrap(), frame);
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::split_from(&mut Bytes::from(bad), Salt(1)).is_err(), "bit {bit}");
    }
}

#[test]
fn frame_of_a_newer_version_is_told_from_a_damaged_one() {
    let mut newer = stored(&compacted(), Salt(1)).to_vec();
    newer[2] = 3;
    assert_eq!(FrameHeader::decode(&newer, Salt(1)), Err(FrameError::Version { version: 3 }));
}

#[test]
fn zeros_are_no_frame() {
    let mut zeros = Bytes::from_static(&[0; 128]);
    assert_eq!(Frame::split_from(&mut zeros, Salt::NONE), Err(FrameError::NoFrame { magic: 0 }));
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Frame::split_from(&mut Bytes::from(bytes), Salt::NONE);
    }
}
