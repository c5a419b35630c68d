//! Batches of the native protocol as Kafka's clients read them, kept while they are hot.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use engine_api::PartitionId;
use storage_frame::Frame;
use storage_recordbatch::{ArchivedError, from_archived};

/// Of a core. Conversions that would not fit beside others are not kept.
const BYTES_MAX: usize = 16 << 20;
const ENTRY_BYTES_MAX: usize = 4 << 20;

/// A frame: its partition, its place and its content.
type Key = (PartitionId, u64, u32);

/// First in, first out: readers of one place come together.
#[derive(Debug, Default)]
pub(crate) struct Conversions {
    batches: BTreeMap<Key, Bytes>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Conversions {
    pub(crate) fn convert(&mut self, partition: PartitionId, frame: &Frame) -> Result<Bytes, ArchivedError> {
        let header = frame.header();
        let key = (partition, header.base_offset.0, header.payload_crc);
        if let Some(batch) = self.batches.get(&key) {
            return Ok(batch.clone());
        }
        let batch = from_archived(frame)?;
        if batch.len() <= ENTRY_BYTES_MAX {
            self.keep(key, batch.clone());
        }
        Ok(batch)
    }

    fn keep(&mut self, key: Key, batch: Bytes) {
        self.bytes += batch.len();
        self.order.push_back(key);
        self.batches.insert(key, batch);
        while self.bytes > BYTES_MAX {
            let oldest = self.order.pop_front().expect("bytes are of entries");
            let gone = self.batches.remove(&oldest).expect("each entry has its place");
            self.bytes -= gone.len();
        }
    }
}
