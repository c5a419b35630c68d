//! Settings, and the limits that are not settings.

use std::time::Duration;

use engine_api::{CoreId, NodeId};

#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub core: CoreId,
    pub node: NodeId,
    /// Told to clients as the broker's address; absent: the address they have reached.
    pub advertise: Option<(String, u16)>,
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
}
