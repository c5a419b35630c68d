//! What taking in a batch costs: everything, and the walk over its records alone, as the difference to a batch of the
//! same bytes that is not walked over because it says that it is compressed. Medians of many rounds.
//!
//!     cargo bench -p millstream-storage-recordbatch --bench check

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use storage_frame::TimestampMs;
use storage_recordbatch::{BatchBuilder, BatchFields, Compression, to_frame};

const RECORDS: u32 = 10_000;
const ROUNDS: usize = 301;
const ATTRIBUTES_AT: usize = 21;

fn main() {
    println!("records  value  all ns/record  walk ns/record");
    for value_bytes in [10, 100, 1024] {
        let plain = batch(value_bytes);
        let opaque = opaque(&plain);
        let (all, without) = (ns_per_record(&plain), ns_per_record(&opaque));
        println!("{RECORDS:>7}  {value_bytes:>5}  {all:>13.2}  {:>14.2}", all - without);
    }
}

fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    let value = vec![7; value_bytes];
    for index in 0..RECORDS {
        let none = std::iter::empty::<(&str, Option<&[u8]>)>();
        let at = TimestampMs(1_700_000_000_000 + i64::from(index / 8));
        builder.push(index, at, None, Some(&value), none).expect("it fits");
    }
    builder.seal(Compression::None, &BatchFields::UNASSIGNED)
}

/// The same bytes, said to be compressed.
fn opaque(batch: &Bytes) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[ATTRIBUTES_AT + 1] = Compression::Zstd.id() as u8;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES_AT..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn ns_per_record(batch: &Bytes) -> f64 {
    let round = || {
        let begun = Instant::now();
        black_box(to_frame(black_box(batch.clone()))).expect("a good batch");
        begun.elapsed().as_nanos() as f64 / f64::from(RECORDS)
    };
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
