//! The whole state as bytes: the beginning of the metadata log once it is compacted, and what other cores
//! start from.

use engine_api::{CoreId, NodeId, TopicId};
use rkyv::{Archive, Deserialize, Serialize};
use storage_frame::{LeaderEpoch, LogId};

use crate::command::{DecodeError, with_format, without_format};
use crate::state::{ClusterState, Node, Partition, Topic};

#[derive(Archive, Serialize, Deserialize)]
struct Stored {
    version: u64,
    cluster_id: u128,
    next_log: u64,
    next_producer: u64,
    removed: Vec<(u64, u64)>,
    nodes: Vec<StoredNode>,
    topics: Vec<StoredTopic>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredNode {
    id: u32,
    incarnation: u32,
    cores: u8,
    address: String,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredTopic {
    id: u128,
    name: String,
    replicas: u32,
    configs: Vec<(String, String)>,
    partitions: Vec<StoredPartition>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredPartition {
    log: u64,
    leader: u32,
    leader_epoch: u32,
    core: u8,
}

impl ClusterState {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            version: self.version,
            cluster_id: self.cluster_id,
            next_log: self.next_log,
            next_producer: self.next_producer,
            removed: self.removed.clone(),
            nodes: self.nodes.iter().map(|(id, node)| store_node(*id, node)).collect(),
            topics: self.topics.values().map(store_topic).collect(),
        };
        let archived = rkyv::to_bytes::<rkyv::rancor::Panic>(&stored).unwrap_or_else(|never| match never {});
        with_format(&archived)
    }

    /// # Errors
    /// [`DecodeError`], also when the content breaks what [`crate::state`] says must hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let archived = without_format(bytes)?;
        let stored =
            rkyv::from_bytes::<Stored, rkyv::rancor::Failure>(archived).map_err(|_| DecodeError::Archive)?;
        let mut state = Self {
            version: stored.version,
            cluster_id: stored.cluster_id,
            next_log: stored.next_log,
            next_producer: stored.next_producer,
            removed: stored.removed,
            ..Self::default()
        };
        state.nodes = stored.nodes.into_iter().map(load_node).collect();
        state.topics = stored.topics.into_iter().map(load_topic).map(|topic| (topic.id, topic)).collect();
        state.derive();
        check(&state)?;
        Ok(state)
    }
}

fn check(state: &ClusterState) -> Result<(), DecodeError> {
    let fault = |what| Err(DecodeError::Content(what));
    if state.names.len() != state.topics.len() {
        return fault("two topics of one name");
    }
    let mut logs: Vec<u64> = Vec::with_capacity(state.partitions_count as usize);
    for partition in state.topics.values().flat_map(|topic| &topic.partitions) {
        let Some(leader) = state.nodes.get(&partition.leader) else {
            return fault("a partition led by no node");
        };
        if partition.core.0 >= leader.cores {
            return fault("a partition on a core its node has not");
        }
        logs.push(partition.log.0);
    }
    logs.sort_unstable();
    if logs.windows(2).any(|pair| pair[0] == pair[1]) {
        return fault("two partitions with one log");
    }
    if logs.first() == Some(&0) || logs.last().is_some_and(|last| *last >= state.next_log) {
        return fault("a log that was never given");
    }
    let ends = state.removed.iter().map(|(first, count)| first.checked_add(*count));
    if ends.into_iter().any(|end| end.is_none_or(|end| end > state.next_log)) {
        return fault("a removed log that was never given");
    }
    Ok(())
}

fn store_node(id: NodeId, node: &Node) -> StoredNode {
    StoredNode { id: id.0, incarnation: node.incarnation, cores: node.cores, address: node.address.clone() }
}

fn load_node(node: StoredNode) -> (NodeId, Node) {
    let StoredNode { id, incarnation, cores, address } = node;
    (NodeId(id), Node { address, cores, incarnation })
}

fn store_topic(topic: &Topic) -> StoredTopic {
    let partitions = topic.partitions.iter().map(|partition| StoredPartition {
        log: partition.log.0,
        leader: partition.leader.0,
        leader_epoch: partition.leader_epoch.0,
        core: partition.core.0,
    });
    StoredTopic {
        id: topic.id.0,
        name: topic.name.clone(),
        replicas: topic.replicas,
        configs: topic.configs.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        partitions: partitions.collect(),
    }
}

fn load_topic(topic: StoredTopic) -> Topic {
    let partitions = topic.partitions.iter().map(|partition| Partition {
        log: LogId(partition.log),
        leader: NodeId(partition.leader),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        core: CoreId(partition.core),
    });
    Topic {
        id: TopicId(topic.id),
        name: topic.name,
        replicas: topic.replicas,
        partitions: partitions.collect(),
        configs: topic.configs.into_iter().collect(),
    }
}
