//! Codes that streams are reset and connections closed with, and the message that explains them.

use std::fmt;

/// Why a stream was reset or stopped, or a connection closed. The number travels in QUIC's RESET_STREAM,
/// STOP_SENDING and CONNECTION_CLOSE frames; a [`Refusal`] carries the same code with words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The sender has no more use for it. Not an error.
    Done,
    Version,
    Kind,
    Malformed,
    TooLarge,
    Unexpected,
    Truncated,
    /// A message was begun and not finished in time.
    TooSlow,
    /// Too many requests, streams or connections at once: retry later.
    TooMany,
    /// Retry elsewhere or later; outcomes of what was not answered are unknown.
    ShuttingDown,
    /// The broker failed to keep a promise of this protocol: a defect.
    Internal,
    /// From a newer version.
    Other(u16),
}

impl Code {
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::Version => 1,
            Self::Kind => 2,
            Self::Malformed => 3,
            Self::TooLarge => 4,
            Self::Unexpected => 5,
            Self::Truncated => 6,
            Self::TooSlow => 7,
            Self::TooMany => 8,
            Self::ShuttingDown => 9,
            Self::Internal => 10,
            Self::Other(number) => number,
        }
    }

    #[must_use]
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Version,
            2 => Self::Kind,
            3 => Self::Malformed,
            4 => Self::TooLarge,
            5 => Self::Unexpected,
            6 => Self::Truncated,
            7 => Self::TooSlow,
            8 => Self::TooMany,
            9 => Self::ShuttingDown,
            10 => Self::Internal,
            other => Self::Other(u16::try_from(other).unwrap_or(u16::MAX)),
        }
    }

    /// Short and fixed, for counters and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unexpected => "unexpected",
            Self::Truncated => "truncated",
            Self::TooSlow => "too_slow",
            Self::TooMany => "too_many",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

/// The broker's last message on a stream it gives up: after it the broker finishes its side and stops the
/// client's with the same code (resetting its own side would discard these words). The layout is the same in
/// every version of the protocol, so that a client of another version can read why it was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct Refusal {
    pub code: Code,
    pub cause: String,
    pub remedy: String,
}
