//! Where a core is in its life.
//!
//! ```text
//! Running -> Stopping -> Stopped -> Draining -> Closing -> Ended
//!        stop      shard's logs   every core's   answers    goodbyes
//!                  are closed     are            are gone   are gone
//! ```

use std::time::{Duration, Instant};

/// Answers on their way out when the node stops get this long before connections are closed, goodbyes as long again
/// before the core ends without them.
pub(crate) const DRAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// The shard was told to stop.
    Stopping,
    /// The shard has closed its logs; other cores may still need this one.
    Stopped,
    /// Every core has: answers on their way out get until this moment.
    Draining {
        until: Instant,
    },
    /// Connections were told that this is the end. Each is told once; its client finds out by itself where that is
    /// lost.
    Closing {
        until: Instant,
    },
    Ended,
}

impl Phase {
    /// When the phase ends by itself.
    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Draining { until } | Self::Closing { until } => Some(until),
            Self::Running | Self::Stopping | Self::Stopped | Self::Ended => None,
        }
    }
}
