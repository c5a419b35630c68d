//! What a node must be told before it starts.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine_api::CoreId;
use engine_shard::{Event, ShardConfig};
use net_quic::ServerConfig;
use storage_disk::DiskConfig;

/// Takes events from every core; called on the core's own thread, so it must not wait.
pub type EventSink = Arc<dyn Fn(CoreId, Event) + Send + Sync>;

/// A node: as many cores as there are entries in `cpus`.
pub struct NodeConfig {
    /// The processor of each core, as [`choose_cpus`](crate::choose_cpus) gives them.
    pub cpus: Vec<usize>,
    /// Holds `logs/` and `spare/`; made where absent. Locking it is the caller's.
    pub data: PathBuf,
    /// An existing readable file of at least 4 KiB on the data directory's device: the identity file. Each core
    /// opens it before any other file, so that the runtime's probe of direct reads finds bytes to read.
    pub identity: PathBuf,
    /// One socket per core, in core order, from `net_sockets::bind_group`.
    pub udp: Vec<UdpSocket>,
    /// Listeners of each core, in core order, from `net_sockets::bind_tcp_group`, one for each address.
    pub tcp: Vec<Vec<TcpListener>>,
    /// The same for every core but for `core`, `cores`, and `seed`, which are set here. `memory_bytes_max` is a
    /// core's share.
    pub shard: ShardConfig,
    /// The same for every core but for `core`, which is set here.
    pub quic: ServerConfig,
    /// As `quic`.
    pub kafka: net_kafka::ServerConfig,
    pub disk: DiskConfig,
    /// How long an idle core looks for work before it sleeps. Zero: not at all.
    pub spin_before_park: Duration,
    pub events: EventSink,
}
