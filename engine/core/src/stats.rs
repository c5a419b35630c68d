//! What a node tells about itself. Everything is counted up since the start unless said otherwise.

use std::time::Duration;

use engine_api::CoreId;
use engine_shard::ShardStats;
use net_quic::ServerStats;
use net_sockets::UdpStats;
use storage_disk::DiskStats;

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
    pub disk: DiskStats,
    pub udp: UdpStats,
    pub mesh: MeshStats,
    pub turns: LoopStats,
}

/// The core's own loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopStats {
    /// Since the core began.
    pub up: Duration,
    /// Of it, time spent on work rather than on looking for some: the busy ratio is the quotient of two
    /// differences.
    pub busy: Duration,
    pub turns: u64,
    pub inputs: u64,
    pub effects: u64,
    /// Requests of this core's own clients that this core owned.
    pub requests_owned: u64,
    /// Requests of this core's own clients that went to another core.
    pub requests_forwarded: u64,
    /// Longest turn since the last time anybody asked.
    pub turn_longest: Duration,
    /// Times the sockets were paused because the shard was over its budget or the mesh was full.
    pub pauses: u64,
    /// Now: disk operations under way or waiting for a place.
    pub disk_waiting: u64,
}

/// Messages between this core and the others.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeshStats {
    pub sent: u64,
    pub received: u64,
    /// Batches sent: one per turn and destination.
    pub batches: u64,
    /// Now: messages sent to this core and not yet taken.
    pub inbox: u64,
    /// Now: messages of this core that found the other side's inbox full.
    pub backlog: u64,
}
