//! The frame: one batch of records as it stands on disk, in memory and on the native wire.
//!
//! A frame is a 64-byte header and an opaque payload, padded to 16 bytes. Storage and the engine read the
//! header only; what the payload holds is said by [`Encoding`] and matters at the edges alone.
//!
//! - [`header`]: the 64 bytes, their checksums, and the one way to turn foreign bytes into a [`Frame`].
//! - [`batch`]: the `Archived` payload: a flat index and a blob, read in place.
//! - [`units`]: [`Offset`], [`LeaderEpoch`], [`LogId`], [`TimestampMs`], [`Now`].
//!
//! Does not know: files, segments on disk, topics, connections, Kafka's record format.
#![forbid(unsafe_code)]

pub mod batch;
pub mod header;
pub mod units;

pub use batch::{BatchBuilder, BatchError, BatchView, PushError, Record};
pub use header::{
    Codec, Compaction, Encoding, FRAME_ALIGN, FRAME_BYTES_MAX, Frame, FrameError, FrameHeader, HEADER_BYTES,
    Producer, Salt, padded_bytes, peek_frame_bytes,
};
pub use units::{LeaderEpoch, LogId, Now, Offset, TimestampMs};
