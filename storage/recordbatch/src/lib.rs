//! Kafka's RecordBatch v2 as bytes: checking what a client sent, serving it again, reading and building records.
//!
//! A `KafkaV2` frame's payload is the batch as its client sent it. Base offset and leader epoch stand in the frame's
//! header and are written over the batch's first bytes when it is served, which its own CRC does not cover.
//!
//! - [`header`]: the 61 bytes and what must hold in them.
//! - [`frame`]: [`to_frame`] and [`served`].
//! - [`compression`]: a batch's records in each of the five codecs, decompressed within a bound.
//! - [`builder`]: [`BatchBuilder`], for what is not a client's own bytes.
//! - [`archived`]: batches of the native protocol: their codecs, and as Kafka's clients read them.
//! - [`records`]: [`Records`], one way to read the records of a frame of either encoding.
//! - [`retain`](mod@retain): a frame with some of its records taken out.
//!
//! Does not know: requests, connections, topics, segments.
#![forbid(unsafe_code)]

pub mod archived;
pub mod builder;
pub mod compression;
mod crc;
pub mod frame;
pub mod header;
pub mod records;
pub mod retain;
mod varint;
mod walk;

pub use archived::{ArchivedError, from_archived};
pub use builder::{BatchBuilder, BatchFields, PushError, empty};
pub use frame::{BATCH_BYTES_MAX, Served, served, to_frame};
pub use header::{BatchError, BatchHeader, Compression, HEADER_BYTES, NO_PRODUCER, NO_TIMESTAMP};
pub use records::{Record, Records, RecordsError};
pub use retain::retain;
