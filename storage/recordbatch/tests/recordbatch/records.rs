//! Records in and out, in every codec.

use bytes::Bytes;
use proptest::prelude::*;
use storage_recordbatch::{BatchError, Compression, Records, RecordsError, compression, to_frame};

use crate::support::{BYTES_MAX, CODECS, Owned, batch, read, record, stored, unchecked};

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))
}

fn some_records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = proptest::collection::vec((".{0,6}", some_bytes()), 0..4);
    let one = (prop_oneof![0i64..1000, any::<i64>()], some_bytes(), some_bytes(), headers);
    proptest::collection::vec(one, 1..20).prop_map(|records| {
        let numbered = records.into_iter().enumerate();
        numbered
            .map(|(offset, (timestamp, key, value, headers))| Owned {
                offset: offset as u64,
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(mut records in some_records(), base in 0u64..1 << 60) {
        for compression in CODECS {
            let batch = batch(compression, &records);
            let max = records.iter().map(|record| record.timestamp).max();
            prop_assert!(max >= Some(records[0].timestamp));
            if max == Some(-1) && records[0].timestamp != -1 {
                // Said to be absent.
                continue;
            }
            let frame = stored(batch, base);
            records.iter_mut().for_each(|record| record.offset += base);
            prop_assert_eq!(&read(&frame).unwrap(), &records);
            records.iter_mut().for_each(|record| record.offset -= base);
        }
    }
}

#[test]
fn long_batches_come_back_in_every_codec() {
    let records: Vec<Owned> = (0..2_000)
        .map(|offset| {
            record(offset, offset as i64 * 3, Some(&format!("key {offset}")), Some(&"wheat ".repeat(20)))
        })
        .collect();
    for compression in CODECS {
        let batch = batch(compression, &records);
        let is_small = batch.len() < 60_000;
        assert_eq!(is_small, compression != Compression::None, "{compression:?}: {} bytes", batch.len());
        assert_eq!(read(&stored(batch, 0)).unwrap(), records);
    }
}

#[test]
fn batch_that_grows_above_the_bound_is_refused() {
    let frames = CODECS
        .map(|compression| stored(batch(compression, &[record(0, 0, None, Some(&"0".repeat(1 << 20)))]), 0));
    for frame in frames {
        let error = Records::open(&frame, 100_000).unwrap_err();
        assert_eq!(error, RecordsError::Kafka(BatchError::TooLarge { bytes_max: 100_000 }));
    }
}

#[test]
fn snappy_without_framing_is_read_too() {
    let plain = b"to and fro and to and fro and to and fro".repeat(10);
    let raw = Bytes::from(snap::raw::Encoder::new().compress_vec(&plain).unwrap());
    assert_eq!(compression::decompress(Compression::Snappy, &raw, BYTES_MAX).unwrap(), plain);
}

#[test]
fn snappy_that_claims_too_much_sets_no_memory_aside() {
    // Claims 2^32 - 1 bytes, then 1 MiB from six bytes.
    let claims: [&'static [u8]; 2] = [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &[0x80, 0x80, 0x40, 0, 0, 0]];
    for claim in claims {
        assert!(compression::decompress(Compression::Snappy, &Bytes::from_static(claim), 1 << 26).is_err());
    }
}

#[test]
fn offsets_that_do_not_rise_or_leave_the_batch_are_an_error() {
    let two = [record(0, 0, None, Some("a")), record(1, 0, None, Some("b"))];
    // The last record: length, attributes, timestamp delta, offset delta at 7 from the end.
    for delta in [0u8, 4] {
        let mut bytes = batch(Compression::None, &two).to_vec();
        let at = bytes.len() - 5;
        assert_eq!(bytes[at], 2, "an offset delta of 1, folded");
        bytes[at] = delta;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(to_frame(bytes.clone().into()), Err(BatchError::Record { index: 1 }));
        let frame = unchecked(bytes.into(), 2);
        assert_eq!(read(&frame), Err(RecordsError::Kafka(BatchError::Record { index: 1 })));
    }
}

#[test]
fn bytes_after_the_last_record_are_an_error() {
    let mut bytes = batch(Compression::None, &[record(0, 0, None, Some("a"))]).to_vec();
    bytes.push(0);
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(to_frame(bytes.clone().into()), Err(BatchError::Record { index: 1 }));
    let frame = unchecked(bytes.into(), 1);
    assert_eq!(read(&frame), Err(RecordsError::Kafka(BatchError::Record { index: 1 })));
}

#[test]
fn header_name_that_is_not_text_ends_where_it_stops_being_it() {
    let mut one = record(0, 0, None, Some("v"));
    one.headers = vec![("name".into(), Some(b"x".to_vec()))];
    let mut bytes = batch(Compression::None, &[one]).to_vec();
    let at = bytes.windows(4).position(|window| window == b"name").unwrap();
    bytes[at + 2] = 0xff;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let read = read(&to_frame(bytes.into()).unwrap()).unwrap();
    assert_eq!(read[0].headers, [("na".to_owned(), Some(b"x".to_vec()))]);
}
