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
        let counts = (stored.nodes.len(), stored.topics.len());
        state.nodes = stored.nodes.into_iter().map(load_node).collect();
        state.topics = stored.topics.into_iter().map(load_topic).map(|topic| (topic.id, topic)).collect();
        if counts != (state.nodes.len(), state.topics.len()) {
            return Err(DecodeError::Content("two of one id"));
        }
        state.derive();
        check(&state)?;
        Ok(state)
    }
}

/// Far above what is ever counted to, and far below where counting on would overflow.
const COUNT_MAX: u64 = i64::MAX as u64;

fn check(state: &ClusterState) -> Result<(), DecodeError> {
    let fault = |what| Err(DecodeError::Content(what));
    if state.next_log == 0 || state.next_producer == 0 {
        return fault("ids that begin with 0");
    }
    if state.version.max(state.next_log).max(state.next_producer) > COUNT_MAX {
        return fault("more ids or commands than there can be");
    }
    if state.nodes.values().any(|node| node.cores == 0) {
        return fault("a node without cores");
    }
    if state.topics.contains_key(&TopicId(0)) {
        return fault("a topic of id 0");
    }
    if state.names.len() != state.topics.len() {
        return fault("two topics of one name");
    }
    check_logs(state)
}

fn check_logs(state: &ClusterState) -> Result<(), DecodeError> {
    let fault = |what| Err(DecodeError::Content(what));
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
    let mut behind = 0;
    for (first, count) in &state.removed {
        let Some(end) = first.checked_add(*count).filter(|end| *end <= state.next_log) else {
            return fault("a removed log that was never given");
        };
        if *first < behind || *first == 0 || *count == 0 {
            return fault("removed logs that are not in order");
        }
        let next = logs.partition_point(|log| log < first);
        if logs.get(next).is_some_and(|log| *log < end) {
            return fault("a removed log with a partition");
        }
        behind = end;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        let address = "h:9092".to_owned();
        let commands = [
            Command::NodeStarted { cluster_id: 1, node: 1, incarnation: 1, cores: 2, address },
            Command::CreateTopic { id: 1, name: "a".into(), partitions: 4, replicas: 1, configs: Vec::new() },
            Command::CreateTopic { id: 2, name: "b".into(), partitions: 2, replicas: 1, configs: Vec::new() },
            Command::DeleteTopic { id: 1 },
        ];
        commands.iter().for_each(|command| state.apply(command).expect("a history in order"));
        state
    }

    #[track_caller]
    fn check_refused(change: fn(&mut ClusterState), expect: &'static str) {
        let mut state = state();
        change(&mut state);
        assert_eq!(ClusterState::decode(&state.encode()), Err(DecodeError::Content(expect)));
    }

    /// Fuzzing found that a snapshot with `next_log` 0 was taken: the next topic's first partition got log 0, the
    /// metadata log's own, and the snapshot made after it was refused by the next start.
    #[test]
    fn numbers_that_no_history_comes_to_are_refused() {
        check_refused(|state| state.next_log = 0, "ids that begin with 0");
        check_refused(|state| state.next_producer = 0, "ids that begin with 0");
        check_refused(|state| state.next_producer = u64::MAX, "more ids or commands than there can be");
        check_refused(|state| state.version = u64::MAX, "more ids or commands than there can be");
        check_refused(
            |state| state.nodes.values_mut().for_each(|node| node.cores = 0),
            "a node without cores",
        );
    }

    #[test]
    fn removed_logs_are_in_order_and_nobodys() {
        let state = state();
        assert_eq!(state.removed, [(1, 4)]);
        assert_eq!(ClusterState::decode(&state.encode()), Ok(state));
        check_refused(|state| state.removed = vec![(1, 5)], "a removed log with a partition");
        check_refused(|state| state.removed = vec![(3, 1), (1, 1)], "removed logs that are not in order");
        check_refused(|state| state.removed = vec![(1, 2), (2, 1)], "removed logs that are not in order");
        check_refused(|state| state.removed = vec![(1, 900)], "a removed log that was never given");
    }
}
