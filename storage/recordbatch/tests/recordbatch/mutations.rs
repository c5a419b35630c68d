//! Batches with a few bytes changed and their checksums made to agree: nothing panics, and nothing is read that is
//! not there.

use bytes::Bytes;
use proptest::prelude::*;
use storage_frame::Frame;
use storage_recordbatch::{BatchHeader, Compression, Records, from_archived, retain, served, to_frame};

use crate::support::{CODECS, Owned, batch, read, record, unchecked};

fn sample() -> Vec<Owned> {
    let mut records: Vec<Owned> = (0..30)
        .map(|offset| record(offset, 5, Some("key"), Some(&"again and ".repeat(offset as usize))))
        .collect();
    records[3].headers = vec![("a".into(), None), ("b".into(), Some(vec![0; 40]))];
    records
}

fn with_checksum(mut bytes: Vec<u8>) -> Bytes {
    if bytes.len() > 21 {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}

/// Everything that is done with a frame.
fn use_frame(frame: &Frame, bytes_max: usize) {
    let _ = served(frame);
    let _ = from_archived(frame);
    let _ = retain(frame, bytes_max, |record| record.offset.0 % 2 == 0);
    let _ = read(frame);
    if let Ok(records) = Records::open(frame, bytes_max) {
        let bytes: usize = records
            .iter()
            .map_while(Result::ok)
            .map(|record| record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len))
            .sum();
        assert!(bytes <= bytes_max);
    }
}

/// Every offset has its record, and each can be read.
fn is_whole(frame: &Frame) -> bool {
    let count = frame.header().record_count as usize;
    read(frame).is_ok_and(|records| records.len() == count)
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(
        codec in 0usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = batch(CODECS[codec], &sample()).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(61));
            let length = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        if let Ok(frame) = to_frame(with_checksum(bytes)) {
            use_frame(&frame, 1 << 16);
            if BatchHeader::parse(frame.payload()).unwrap().compression == Compression::None {
                prop_assert!(is_whole(&frame), "what is let in can be read");
            }
        }
    }

    /// Two readers of one format: nothing is let in that cannot be read, nothing is refused that can.
    #[test]
    fn records_are_let_in_exactly_where_they_can_be_read(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = batch(Compression::None, &sample()).to_vec();
        for (at, byte) in changes {
            let at = 61 + at.index(bytes.len() - 61);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(61 + cut.index(bytes.len() - 61));
            let length = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        let bytes = with_checksum(bytes);
        let is_whole = is_whole(&unchecked(bytes.clone(), sample().len() as u32));
        prop_assert_eq!(to_frame(bytes).is_ok(), is_whole);
    }

    #[test]
    fn any_records_section_in_any_codec_never_panics(
        section in proptest::collection::vec(any::<u8>(), 0..300),
        codec in 0i16..5,
        count in 1i32..5,
    ) {
        let mut bytes = batch(Compression::None, &sample()).to_vec();
        bytes.truncate(61);
        bytes.extend_from_slice(&section);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[21..23].copy_from_slice(&codec.to_be_bytes());
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        use_frame(&unchecked(with_checksum(bytes), count as u32), 1 << 16);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = to_frame(bytes.into()) {
            use_frame(&frame, 1 << 16);
        }
    }
}
