//! The native protocol as pure code: the only copy of its encoding, used by the broker and by the SDK.
//!
//! ```text
//! message = header (16 bytes) + meta (an rkyv archive, checked before it is read) + bulk (whole frames)
//! ```
//! - [`header`]: the 16 bytes, the [`Kind`]s, ALPN and version.
//! - [`message`]: messages as values, both directions: [`ClientMessage`], [`ServerMessage`].
//! - [`encode`]: values to bytes; payloads of frames are shared, never copied.
//! - [`reader`]: bytes of a stream in any chunks to whole [`Message`]s.
//! - [`code`]: reset and close codes, and the [`Refusal`] that says why in words.
//!
//! No length from the other side is believed: buffers grow with what has arrived, every archive is checked
//! before it is read, counts and texts have limits. `PROTOCOL.md` beside this room draws every byte.
//!
//! Does not know: connections, streams, retries, clocks.
#![forbid(unsafe_code)]

pub mod code;
pub mod encode;
pub mod error;
pub mod header;
pub mod message;
mod mirror;
pub mod reader;

pub use code::{Code, Refusal};
pub use error::WireError;
pub use header::{
    ACK_DELAY_MAX, ALPN, DATAGRAM_BYTES_MAX, FIRST_WINDOW_BYTES, Kind, MESSAGE_HEADER_BYTES, MessageHeader,
    PACKETS_WITHOUT_ACK, VERSION,
};
pub use message::{ClientMessage, Frames, OpenRead, ReadOpened, ServerMessage, take_produced_frame};
pub use reader::{Message, MessageReader};

/// Elements of any list in a message.
pub const COUNT_MAX: usize = 1_000_000;
/// Bytes of any text in a message: reasons, config values, addresses.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a topic's name or a config's key as a message carries it. Which names are good is for the broker
/// to say, with a reason; this only bounds what it has to look at.
pub const NAME_BYTES_MAX: usize = 4 << 10;
/// A message larger than this is refused by everybody: one frame of the largest size and room for the rest.
pub const MESSAGE_BYTES_MAX: usize = storage_frame::FRAME_BYTES_MAX + (1 << 20);

#[cfg(test)]
mod tests;
