//! Topics, producers' ids, the cluster's picture.

use storage_frame::{LeaderEpoch, LogId, Offset};

use crate::ids::{CoreId, NodeId, PartitionId, TopicId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..` (Kafka's rule).
    pub name: String,
    /// 1 to 10,000; absent: 1.
    pub partitions: Option<u32>,
    /// Absent: 1. More than there are nodes is refused.
    pub replicas: Option<u32>,
    /// Topic configs by Kafka's names and units, ours under `write.caching` and `flush.ms`.
    pub configs: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTopic {
    pub name: String,
    /// Not less than now.
    pub partitions: Option<u32>,
    /// `None` as value: back to the default.
    pub configs: Vec<(String, Option<String>)>,
    /// The configs set for the topic from which this change follows: with others set by now it is refused.
    pub based_on: Option<Vec<(String, String)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteTopic {
    pub name: String,
    /// That one, and no other that has its name by now.
    pub id: Option<TopicId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeTopics {
    /// Empty: every topic. A name that does not exist is an error.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    pub id: TopicId,
    pub replicas: u32,
    pub partitions: Vec<PartitionDescription>,
    /// Every config with its value and whether it was set for this topic.
    pub configs: Vec<ConfigEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub key: String,
    pub value: String,
    pub is_default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub index: u32,
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// The leader's core that owns it: dial it by the first byte of the connection id.
    pub core: CoreId,
    pub replicas: Vec<NodeId>,
    pub in_sync: Vec<NodeId>,
    /// Names its directory under `logs/` on the leader.
    pub log: LogId,
}

/// Would it be done? Nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckTopic {
    Create(CreateTopic),
    Alter(AlterTopic),
}

/// What the topic would be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTopic {
    pub partitions: u32,
    pub replicas: u32,
    pub configs: Vec<ConfigEntry>,
}

/// The logs of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribeLogs {
    pub core: CoreId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    pub partition: PartitionId,
    /// On disk.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("topic '{name}' does not exist")]
    Unknown { name: String },
    #[error("topic '{name}' exists already")]
    Exists { name: String },
    #[error("topic name '{name}' is not allowed: {why}")]
    Name { name: String, why: String },
    #[error("{why}")]
    Partitions { why: String },
    #[error("{why}")]
    Replicas { why: String },
    /// Unknown key (the nearest known one is named) or a value outside of its bounds.
    #[error("{why}")]
    Config { why: String },
    #[error("metadata could not be stored: {why}")]
    StorageFailed { why: String },
    #[error("data disk is below its free-space watermark: delete data or add space, then retry")]
    NoSpace,
    #[error("broker is not ready: retry")]
    NotReady,
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
    /// Not what the change was to be made of any more. Nothing was done.
    #[error("topic '{name}' was changed by another client meanwhile: retry")]
    Changed { name: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    pub cluster_id: u128,
    pub version: String,
    pub nodes: Vec<NodeDescription>,
    pub topics_count: u32,
    pub partitions_count: u32,
    /// Partitions that cannot be written now, with the reason.
    pub troubled: Vec<TroubledPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    pub id: NodeId,
    /// `host:port` that clients are to dial.
    pub address: String,
    pub cores: u8,
    pub partitions_led: u32,
    /// Counted up at each start.
    pub incarnation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TroubledPartition {
    pub topic: String,
    pub index: u32,
    pub end: Offset,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitProducerError {
    #[error("metadata could not be stored: {why}")]
    StorageFailed { why: String },
    #[error("data disk is below its free-space watermark: delete data or add space, then retry")]
    NoSpace,
    #[error("broker is not ready: retry")]
    NotReady,
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
}
