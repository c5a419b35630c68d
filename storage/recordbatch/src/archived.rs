//! Batches of the native protocol: how they are compressed, and what Kafka's clients see of them.

use bytes::Bytes;
use storage_frame::{BatchError, BatchView, FRAME_BYTES_MAX, Frame};

use crate::builder::{BatchBuilder, BatchFields, PushError, empty};
use crate::header::Compression;

pub mod codec;

pub use codec::{DecompressError, decompress};

/// Why a native batch cannot be converted: it was produced damaged, or it is too large for one of Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchivedError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Push(#[from] PushError),
}

/// The records of an `Archived` frame as an uncompressed v2 batch with the frame's offsets, epoch, timestamps and
/// producer. Costs a decompression and a copy: keep the result while it is asked for.
///
/// # Errors
/// [`ArchivedError`].
pub fn from_archived(frame: &Frame) -> Result<Bytes, ArchivedError> {
    let header = *frame.header();
    if header.has_no_records() {
        return Ok(empty(&header));
    }
    let plain = decompress(header.codec, frame.payload(), FRAME_BYTES_MAX)?;
    let view = BatchView::open_plain(header, plain)?;
    let mut batch = BatchBuilder::new();
    for record in view.records() {
        let record = record?;
        let offset_delta = (record.offset.0 - header.base_offset.0) as u32;
        let headers = record.headers();
        batch.push(offset_delta, record.timestamp, record.key, record.value, headers)?;
    }
    Ok(batch.seal(Compression::None, &BatchFields::of(&header)))
}
