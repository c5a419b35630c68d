//! Why bytes are not a message.

use storage_frame::FrameError;

use crate::code::{Code, Refusal};
use crate::header::{Kind, VERSION};

/// Every case ends the stream it happened on; other streams of the connection go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("message of protocol version {got}, this build speaks {VERSION}")]
    Version { got: u8 },
    #[error("message kind {kind:#04x} is unknown")]
    Kind { kind: u8 },
    #[error("message of {bytes} bytes, limit {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("malformed {kind} message: {why}")]
    Malformed { kind: Kind, why: &'static str },
    /// Well formed, and not to be sent in this direction or at this point of a stream.
    #[error("{kind} message is not allowed here: {why}")]
    Unexpected { kind: Kind, why: &'static str },
    #[error("stream ended inside a message: {have} bytes of it arrived")]
    Truncated { have: usize },
    #[error("bad frame in a {kind} message: {source}")]
    Frame { kind: Kind, source: FrameError },
}

impl WireError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Version { .. } => Code::Version,
            Self::Kind { .. } => Code::Kind,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Malformed { .. } | Self::Frame { .. } => Code::Malformed,
            Self::Unexpected { .. } => Code::Unexpected,
            Self::Truncated { .. } => Code::Truncated,
        }
    }

    /// What to tell the other side before the stream is given up.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let remedy = match self {
            Self::Version { .. } => "use a client of the same major version as the broker",
            Self::Kind { .. } => "use a client not newer than the broker",
            Self::TooLarge { .. } => "send smaller batches, or raise the broker's message limit",
            Self::Malformed { .. } | Self::Unexpected { .. } => {
                "the client has a defect or does not speak this protocol: see net/PROTOCOL.md"
            }
            Self::Truncated { .. } => "finish the stream after whole messages only",
            Self::Frame { .. } => "the frame was damaged before it was sent: check the client and its memory",
        };
        Refusal { code: self.code(), cause: self.to_string(), remedy: remedy.into() }
    }
}
