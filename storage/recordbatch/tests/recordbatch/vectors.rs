//! Bytes that clients sent: the same four records from each, in every codec.
//!
//! kafka-python 3.0.12 and aiokafka 0.14.0 by their batch builders, librdkafka 2.16.1 off the wire.

use bytes::Bytes;
use storage_recordbatch::{BatchHeader, to_frame};

use crate::support::{Owned, read, record, stored};

fn sent() -> Vec<Owned> {
    let mut records = vec![
        record(0, 1_700_000_000_000, Some("key-1"), Some(&"value one ".repeat(20))),
        record(1, 1_700_000_000_005, None, Some("")),
        record(2, 1_700_000_000_003, Some(""), None),
        record(3, 1_700_000_000_009, Some("key-1"), Some("zażółć")),
    ];
    records[0].headers = vec![("trace".into(), Some(b"abc".to_vec())), ("none".into(), None)];
    records[2].headers = vec![("x\u{e9}".into(), Some(Vec::new()))];
    records
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[track_caller]
fn check(client: &str, codec: &str, hex: &str) {
    let batch = bytes(hex);
    let header = BatchHeader::check(&batch).unwrap_or_else(|error| panic!("{client} {codec}: {error}"));
    assert_eq!(format!("{:?}", header.compression).to_lowercase(), codec, "{client}");
    let frame = stored(batch.clone(), 0);
    assert_eq!(frame.payload(), &batch, "stored byte for byte");
    assert_eq!(frame.header().record_count, 4);
    assert_eq!(frame.header().first_timestamp.0, 1_700_000_000_000);
    assert_eq!(frame.header().max_timestamp.0, 1_700_000_000_009);
    assert_eq!(
        read(&frame).unwrap_or_else(|error| panic!("{client} {codec}: {error}")),
        sent(),
        "{client} {codec}"
    );
}

macro_rules! vectors {
    ($name:ident, $client:literal) => {
        #[test]
        fn $name() {
            check($client, "none", include_str!(concat!("../vectors/", $client, "-none.hex")));
            check($client, "gzip", include_str!(concat!("../vectors/", $client, "-gzip.hex")));
            check($client, "snappy", include_str!(concat!("../vectors/", $client, "-snappy.hex")));
            check($client, "lz4", include_str!(concat!("../vectors/", $client, "-lz4.hex")));
            check($client, "zstd", include_str!(concat!("../vectors/", $client, "-zstd.hex")));
        }
    };
}

vectors!(batches_of_kafka_python_are_read, "kafka-python");
vectors!(batches_of_aiokafka_are_read, "aiokafka");
vectors!(batches_of_librdkafka_are_read, "librdkafka");

#[test]
fn producer_of_an_idempotent_batch_is_in_its_frame() {
    let frame = to_frame(bytes(include_str!("../vectors/kafka-python-none.hex"))).unwrap();
    let producer = frame.header().producer.expect("it has one");
    assert_eq!((producer.id, producer.epoch, producer.base_sequence), (77, 3, 12));
    assert_eq!(
        to_frame(bytes(include_str!("../vectors/kafka-python-lz4.hex"))).unwrap().header().producer,
        None
    );
}
