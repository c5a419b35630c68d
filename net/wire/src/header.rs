//! The 16 bytes before every message.
//!
//! ```text
//!  0  bytes u32         of everything after this header
//!  4  version u8
//!  5  kind u8
//!  6  meta_bytes u16    in kinds with bulk: where it begins, counted from the end of this header; else 0
//!  8  correlation u64   chosen by the asker, repeated in the answer
//! ```
//! Little endian.

use std::fmt;

use crate::error::WireError;

/// Names the protocol and its major version in the TLS handshake.
pub const ALPN: &[u8] = b"millstream/1";
/// In every header. A side that gets another one answers with a `Refused` message and gives the stream up.
pub const VERSION: u8 = 1;
pub const MESSAGE_HEADER_BYTES: usize = 16;
/// Both sides accept datagrams of this size and look whether the path between them carries such: loopback and
/// networks with jumbo frames do. Each packet costs more than its bytes, so the broker's CPU per byte falls by
/// a third. Not larger, because ten of them (a batch of the SDK's QUIC) must fit into 64 KiB.
pub const DATAGRAM_BYTES_MAX: u16 = 6500;
/// What either side sends before the first acknowledgement: ten of those. With fewer in flight, receivers that were not
/// asked for [`ACK_DELAY_MAX`] yet wait for a second packet before they acknowledge, and a small request takes their 25 ms
/// longer.
pub const FIRST_WINDOW_BYTES: u64 = 10 * DATAGRAM_BYTES_MAX as u64;
/// Packets that either side asks the other to take without acknowledging them (draft-ietf-quic-ack-frequency), and how
/// long an acknowledgement may wait for the next one. An acknowledgement is a datagram of its own, dearer than the packets it is for.
pub const PACKETS_WITHOUT_ACK: u32 = 60;
pub const ACK_DELAY_MAX: std::time::Duration = std::time::Duration::from_millis(1);

const OK: u8 = 0x80;
const FAILED: u8 = 0xC0;

macro_rules! kinds {
    ($($name:ident = $number:expr,)*) => {
        /// What a message is. Requests are below 0x80; the answer to request `k` is `0x80 | k`, its failure
        /// `0xC0 | k`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($name = $number,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $(n if n == $number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => stringify!($name),)*
                })
            }
        }
    };
}

kinds! {
    OpenProduce = 0x01,
    Produce = 0x02,
    OpenRead = 0x03,
    FindOffset = 0x04,
    DeleteRecords = 0x05,
    CreateTopic = 0x06,
    AlterTopic = 0x07,
    DeleteTopic = 0x08,
    DescribeTopics = 0x09,
    DescribeCluster = 0x0A,
    InitProducer = 0x0B,
    Group = 0x0C,
    ListGroups = 0x0D,
    MeasureLag = 0x0E,

    Produced = OK | 0x02,
    ReadOpened = OK | 0x03,
    OffsetFound = OK | 0x04,
    RecordsDeleted = OK | 0x05,
    TopicCreated = OK | 0x06,
    TopicAltered = OK | 0x07,
    TopicDeleted = OK | 0x08,
    TopicsDescribed = OK | 0x09,
    ClusterDescribed = OK | 0x0A,
    ProducerInited = OK | 0x0B,
    GroupAnswered = OK | 0x0C,
    GroupsListed = OK | 0x0D,
    LagMeasured = OK | 0x0E,
    Frames = OK | 0x20,

    ProduceFailed = FAILED | 0x02,
    ReadFailed = FAILED | 0x03,
    FindOffsetFailed = FAILED | 0x04,
    DeleteRecordsFailed = FAILED | 0x05,
    CreateTopicFailed = FAILED | 0x06,
    AlterTopicFailed = FAILED | 0x07,
    DeleteTopicFailed = FAILED | 0x08,
    DescribeTopicsFailed = FAILED | 0x09,
    InitProducerFailed = FAILED | 0x0B,
    GroupFailed = FAILED | 0x0C,
    ListGroupsFailed = FAILED | 0x0D,
    MeasureLagFailed = FAILED | 0x0E,
    Refused = 0xFF,
}

impl Kind {
    /// Followed by frames after its meta.
    #[must_use]
    pub fn has_bulk(self) -> bool {
        self == Self::Produce || self == Self::Frames
    }

    /// Sent by clients.
    #[must_use]
    pub fn is_request(self) -> bool {
        (self as u8) < OK
    }
}

/// A header whose fields make sense together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHeader {
    pub bytes: u32,
    pub kind: Kind,
    /// 0 in kinds without bulk; at most `bytes` otherwise.
    pub meta_bytes: u16,
    pub correlation: u64,
}

impl MessageHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_HEADER_BYTES] {
        let mut out = [0; MESSAGE_HEADER_BYTES];
        out[0..4].copy_from_slice(&self.bytes.to_le_bytes());
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&self.meta_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.correlation.to_le_bytes());
        out
    }

    /// # Errors
    /// `Version`, `Kind`, `Malformed`. The size is for the caller to judge.
    pub fn decode(head: &[u8; MESSAGE_HEADER_BYTES]) -> Result<Self, WireError> {
        let [b0, b1, b2, b3, version, kind, m0, m1, correlation @ ..] = *head;
        // The version comes first: nothing else is known to mean the same in another one.
        if version != VERSION {
            return Err(WireError::Version { got: version });
        }
        let kind = Kind::from_number(kind).ok_or(WireError::Kind { kind })?;
        let header = Self {
            bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            kind,
            meta_bytes: u16::from_le_bytes([m0, m1]),
            correlation: u64::from_le_bytes(correlation),
        };
        if !kind.has_bulk() && header.meta_bytes != 0 {
            return Err(WireError::Malformed { kind, why: "meta_bytes is not 0 in a kind without bulk" });
        }
        if u32::from(header.meta_bytes) > header.bytes {
            return Err(WireError::Malformed { kind, why: "meta_bytes is above bytes" });
        }
        Ok(header)
    }
}
