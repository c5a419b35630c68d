//! What a node tells about itself. Everything is counted up since the start unless said otherwise.

use std::time::Duration;

use engine_api::CoreId;
use engine_shard::ShardStats;
use engine_turn::TurnStats;
use net_quic::ServerStats;
use net_sockets::UdpStats;
use storage_disk::DiskStats;

pub use crate::mesh::MeshStats;

#[derive(Debug, Clone, Default)]
pub struct NodeStats {
    /// In core order; a core that has ended is missing.
    pub cores: Vec<CoreStats>,
}

#[derive(Debug, Clone)]
pub struct CoreStats {
    pub core: CoreId,
    /// The processor it is pinned to.
    pub cpu: usize,
    pub shard: ShardStats,
    pub quic: ServerStats,
    pub kafka: net_kafka::ServerStats,
    /// Now: connections of Kafka's clients can be accepted.
    pub accepts: bool,
    pub disk: DiskStats,
    pub udp: UdpStats,
    pub mesh: MeshStats,
    pub turns: TurnStats,
    pub executor: ExecutorStats,
}

/// The core's thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecutorStats {
    /// Since the core began.
    pub up: Duration,
    /// Of it, time spent on work rather than on looking for some: the busy ratio is the quotient of two
    /// differences.
    pub busy: Duration,
    /// Longest turn since the last time anybody asked.
    pub turn_longest: Duration,
    /// Now: disk operations under way or waiting for a place.
    pub disk_waiting: u64,
}
