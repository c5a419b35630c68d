//! Batches to measure with, always of the same bytes.

use bytes::Bytes;
use storage_frame::{BatchBuilder, Frame, TimestampMs};
use storage_recordbatch::{BatchFields, Compression};

pub(crate) const KEY_BYTES: usize = 16;
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// Records of a size, as many as a batch of a size takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) record_bytes: usize,
    pub(crate) records: u32,
}

impl Shape {
    pub(crate) const fn new(record_bytes: usize, batch_bytes: usize) -> Self {
        Self { record_bytes, records: (batch_bytes / record_bytes) as u32 }
    }

    pub(crate) const fn one(record_bytes: usize) -> Self {
        Self { record_bytes, records: 1 }
    }

    /// Keys and values, of `record_bytes` together.
    pub(crate) fn records(self) -> Vec<Made> {
        let mut dice = Dice::new(1);
        let made = |nth: u32| Made {
            timestamp: TimestampMs(FIRST_TIMESTAMP + i64::from(nth / 8)),
            key: dice.bytes(KEY_BYTES),
            value: dice.bytes(self.record_bytes - KEY_BYTES),
        };
        (0..self.records).map(made).collect()
    }

    pub(crate) fn archived(self) -> Frame {
        let mut builder = BatchBuilder::new();
        for record in self.records() {
            builder.push(record.timestamp, Some(&record.key), Some(&record.value), []).expect("it fits");
        }
        builder.seal(None)
    }

    /// As a client of Kafka's sends it.
    pub(crate) fn kafka(self) -> Bytes {
        let mut builder = storage_recordbatch::BatchBuilder::new();
        for (delta, record) in (0..).zip(self.records()) {
            let (key, value) = (Some(&record.key[..]), Some(&record.value[..]));
            builder.push(delta, record.timestamp, key, value, []).expect("it fits");
        }
        builder.seal(Compression::None, &BatchFields::UNASSIGNED)
    }

    pub(crate) fn kafka_frame(self) -> Frame {
        storage_recordbatch::to_frame(self.kafka()).expect("a client may send it")
    }
}

pub(crate) struct Made {
    pub(crate) timestamp: TimestampMs,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Numbers that look random, the same in every run (xorshift64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
