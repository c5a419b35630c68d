//! Kafka's RecordBatch v2 as bytes: checking what a client sent, serving it again, reading and building records.
//!
//! A `KafkaV2` frame's payload is the batch as its client sent it. Base offset and leader epoch stand in the frame's
//! header and are written over the batch's first bytes when it is served, which its own CRC does not cover.
//!
//! Does not know: requests, connections, topics, segments.
#![forbid(unsafe_code)]

pub mod header;

pub use header::{BatchError, BatchHeader, Compression, HEADER_BYTES};
