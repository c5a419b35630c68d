//! What the network may do to datagrams.

use std::net::IpAddr;
use std::time::Duration;

/// How the weather is on every path. Settable at any time; holds for what is sent from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    pub lost_per_million: u32,
    /// A second copy with a delay of its own.
    pub doubled_per_million: u32,
    /// One bit is flipped.
    pub damaged_per_million: u32,
    /// Overtaken by what is sent up to `reorder_span` later.
    pub reordered_per_million: u32,
    pub reorder_span: Duration,
    /// Marked as having met congestion, if it says that it can be.
    pub congested_per_million: u32,
    /// One way. Never less than [`DELAY_MIN`].
    pub delay: Duration,
    /// Added at random; what is not reordered stays in order.
    pub jitter: Duration,
    /// Larger datagrams vanish.
    pub datagram_bytes_max: usize,
}

/// The least that a datagram takes, so that nobody is answered in no time.
pub const DELAY_MIN: Duration = Duration::from_micros(5);
/// The least that QUIC needs.
pub const DATAGRAM_BYTES_MIN: usize = 1200;

impl Weather {
    /// A network that does nothing wrong.
    #[must_use]
    pub fn fair() -> Self {
        Self {
            lost_per_million: 0,
            doubled_per_million: 0,
            damaged_per_million: 0,
            reordered_per_million: 0,
            reorder_span: Duration::ZERO,
            congested_per_million: 0,
            delay: Duration::from_micros(100),
            jitter: Duration::ZERO,
            datagram_bytes_max: usize::MAX,
        }
    }
}

/// Which way a cut holds, as seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    ToNodes,
    FromNodes,
}

/// Nothing gets through until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The client machine it is about; `None`: all.
    pub client: Option<IpAddr>,
    pub way: Way,
    pub until: Duration,
}

impl Cut {
    pub(super) fn hits(&self, now: Duration, client: IpAddr, to_node: bool) -> bool {
        let way = match self.way {
            Way::Both => true,
            Way::ToNodes => to_node,
            Way::FromNodes => !to_node,
        };
        now < self.until && way && self.client.is_none_or(|cut| cut == client)
    }
}
