//! What a protocol's machine may look up between two requests, without asking: which topics there are.
//!
//! Everything else about topics and nodes is asked for: `DescribeTopics`, `DescribeCluster`.

use storage_frame::LeaderEpoch;

use crate::ids::{NodeId, PartitionId, TopicId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicBrief {
    pub id: TopicId,
    pub partitions: u32,
}

/// The cluster as this core knows it.
pub trait Catalog {
    /// Metadata has been read; before that nothing is known.
    fn is_loaded(&self) -> bool;
    /// Grows with every change.
    fn version(&self) -> u64;
    fn find_topic(&self, name: &str) -> Option<TopicBrief>;
    fn topic_name(&self, id: TopicId) -> Option<&str>;
    /// Who leads it, since which epoch.
    fn leader(&self, partition: PartitionId) -> Option<(NodeId, LeaderEpoch)>;
}
