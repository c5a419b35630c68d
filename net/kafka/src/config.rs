//! Settings, and the limits that are not settings.

use std::time::Duration;

use engine_api::{CoreId, NodeId};

#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub core: CoreId,
    pub node: NodeId,
    /// Told to clients as the broker's address; absent: the address they have reached.
    pub advertise: Option<(String, u16)>,
    /// Of this core: its share of the node's `max.connections`, which [`node_configs`](Self::node_configs) tells.
    pub connections_max: usize,
    /// `socket.request.max.bytes`: a connection that announces more is closed.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`, `default.replication.factor`.
    pub partitions_default: u32,
    pub replicas_default: u32,
    /// Topic configs of the node, for what topics do not set.
    pub topic_defaults: Vec<(String, String)>,
    /// Other settings of the node under Kafka's names (`log.dirs`, `listeners`, `group.max.session.timeout.ms`), as
    /// DescribeConfigs is to tell them; what is not named has Kafka's default.
    pub node_configs: Vec<(String, String)>,
}

/// Requests of a connection that are read and not answered; more are not read. Clients keep 5 or so.
pub(crate) const FLIGHTS_MAX: usize = 64;
/// Asks of all of a connection's requests; with more open, no request is read.
pub(crate) const CONN_ASKS_MAX: usize = 10_000;
/// Bytes of a connection's requests and answers that wait; with more, no request is read.
pub(crate) const HELD_BYTES_MAX: usize = 32 << 20;

/// An answer but for the records in it; longer ones are not made, and the connection ends.
pub(crate) const ANSWER_BYTES_MAX: usize = 128 << 20;

/// A request is to arrive in this long, and a second for each [`REQUEST_BYTES_PER_S`].
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const REQUEST_BYTES_PER_S: usize = 64 << 10;

/// Room for a read: of a new connection, and when reads fill it.
pub(crate) const READ_BYTES_MIN: usize = 4 << 10;
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;
/// A request up to this size gets its whole room as soon as its size is known, so that its bytes are never moved,
/// while all such room of a core is below [`GRANTED_BYTES_MAX`]; else room grows with what has arrived.
pub(crate) const GRANT_BYTES_MAX: usize = 4 << 20;
pub(crate) const GRANTED_BYTES_MAX: usize = 64 << 20;

/// Events kept until they are polled, and let through in a second.
pub(crate) const EVENTS_MAX: usize = 16;
pub(crate) const EVENTS_PER_S: u32 = 5;
