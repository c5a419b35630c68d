//! A record on its way in.

use storage_frame::{HEADER_BYTES, TimestampMs};

/// One record to send. Borrows everything: [`send`](crate::Producer::send) copies the bytes once, into the batch.
///
/// ```
/// use millstream_client::Record;
/// let record = Record::new("orders", b"{}").key(b"customer-7").header("source", b"shop");
/// # let _ = record;
/// ```
#[derive(Debug, Clone)]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<u32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(crate) timestamp: Option<TimestampMs>,
}

impl<'a> Record<'a> {
    /// A record without key or headers, for the partition that the producer chooses, stamped when it is sent.
    #[must_use]
    pub fn new(topic: &'a str, value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::tombstone(topic) }
    }

    /// A record whose value is null, which is not the same as empty.
    #[must_use]
    pub fn tombstone(topic: &'a str) -> Self {
        Self { topic, partition: None, key: None, value: None, headers: Vec::new(), timestamp: None }
    }

    /// Records of one key go to one partition, the one Kafka's clients choose for it, unless
    /// [`partition`](Self::partition) says otherwise.
    #[must_use]
    pub fn key(self, key: &'a [u8]) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Goes to this partition, from 0, whatever the key.
    #[must_use]
    pub fn partition(self, partition: u32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Milliseconds since 1970; absent: the clock when it is sent.
    #[must_use]
    pub fn timestamp(self, timestamp: TimestampMs) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// Adds a header. Names may repeat and keep their order; at most 65,535 bytes each.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a [u8]) -> Self {
        self.headers.push((name, Some(value)));
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, name: &'a str) -> Self {
        self.headers.push((name, None));
        self
    }

    /// Bytes in an uncompressed batch beside the batch's own.
    pub(crate) fn batch_bytes(&self) -> usize {
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| HEADER_OVERHEAD_BYTES + name.len() + bytes(*value)).sum();
        INDEX_ENTRY_BYTES + bytes(self.key) + bytes(self.value) + headers
    }
}

const INDEX_ENTRY_BYTES: usize = 16;
const HEADER_OVERHEAD_BYTES: usize = 6;
/// Bytes of a frame beside its records: header, archive root, padding.
pub(crate) const BATCH_OVERHEAD_BYTES: usize = HEADER_BYTES + 16 + 16;

#[cfg(test)]
mod tests {
    use storage_frame::BatchBuilder;

    use super::*;

    #[test]
    fn batch_bytes_are_what_the_frame_grows_by() {
        let record = Record::new("t", b"value").key(b"key").header("name", b"x").null_header("none");
        let mut batch = BatchBuilder::new();
        batch.push(TimestampMs(0), record.key, record.value, record.headers.iter().copied()).expect("small");
        let one = batch.frame_bytes();
        batch.push(TimestampMs(0), record.key, record.value, record.headers.iter().copied()).expect("small");
        assert_eq!(batch.frame_bytes() - one, record.batch_bytes());
        assert!(batch.seal(None).header().frame_bytes() <= BATCH_OVERHEAD_BYTES + 2 * record.batch_bytes());
    }
}
