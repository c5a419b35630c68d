//! The cluster's picture, and [`ClusterState::apply`], the one way to change it.
//!
//! ```text
//! every partition's leader is a known node, its core below that node's count
//! every log id < next_log, in one partition or removed, never both
//! names and topics are the same set
//! ```
//!
//! Lives on: every core, one copy each. Applying the same commands in the same order gives equal states.

use std::collections::BTreeMap;

use engine_api::{Catalog, CoreId, NodeId, PartitionId, TopicBrief, TopicId};
use storage_frame::{LeaderEpoch, LogId};

use crate::command::Command;
use crate::place::Loads;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `host:port` for clients.
    pub address: String,
    pub cores: u8,
    pub incarnation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub replicas: u32,
    /// Those set for this topic, in canonical spelling.
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub log: LogId,
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    pub core: CoreId,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    pub(crate) version: u64,
    /// 0 until the first node has started.
    pub(crate) cluster_id: u128,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    /// Derived from `topics`.
    pub(crate) names: BTreeMap<String, TopicId>,
    /// Derived from `topics`.
    pub(crate) partitions_count: u32,
    /// Derived from `nodes` and `topics`: neither placing nor describing goes through all partitions.
    pub(crate) loads: Loads,
    pub(crate) next_log: u64,
    pub(crate) next_producer: u64,
    /// Logs of deleted topics that may still be on disk: first id and how many, in order, not touching.
    pub(crate) removed: Vec<(u64, u64)>,
}

/// Why a command cannot be applied: it was not checked against this state. The state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("no topic {0}")]
    NoTopic(TopicId),
    #[error("topic {0} or its name exists already")]
    Exists(TopicId),
    #[error("no node to place partitions on")]
    NoNode,
    #[error("node {0} starts with no cores")]
    NoCores(u32),
    #[error("partitions of topic {0} would become fewer")]
    FewerPartitions(TopicId),
    #[error("metadata belongs to cluster {held:032x}, the node to {given:032x}")]
    OtherCluster { held: u128, given: u128 },
    #[error("incarnation {given} of node {node} is not above {held}")]
    OldIncarnation { node: u32, held: u32, given: u32 },
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            version: 0,
            cluster_id: 0,
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            partitions_count: 0,
            loads: Loads::default(),
            // Log 0 is the metadata log's own.
            next_log: 1,
            // 0 says "no producer" in a frame.
            next_producer: 1,
            removed: Vec::new(),
        }
    }
}

impl ClusterState {
    /// Commands applied since the cluster began.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.cluster_id
    }

    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// By name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().map(|id| &self.topics[id])
    }

    #[must_use]
    pub fn topics_count(&self) -> u32 {
        self.topics.len() as u32
    }

    #[must_use]
    pub fn partitions_count(&self) -> u32 {
        self.partitions_count
    }

    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).map(|id| &self.topics[id])
    }

    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topic(id.topic)?.partitions.get(id.index as usize)
    }

    /// The first producer id that [`Command::AllocateProducerIds`] would give away.
    #[must_use]
    pub fn next_producer(&self) -> u64 {
        self.next_producer
    }

    /// The id the next new log will get.
    #[must_use]
    pub fn next_log(&self) -> LogId {
        LogId(self.next_log)
    }

    /// Logs of deleted topics that may still have files: first id and how many, in order.
    #[must_use]
    pub fn removed_logs(&self) -> &[(u64, u64)] {
        &self.removed
    }

    /// Partitions led by `node`.
    #[must_use]
    pub fn partitions_led(&self, node: NodeId) -> u32 {
        self.loads.of_node(node)
    }

    /// The partitions that `core` of `node` owns, by topic name and index.
    pub fn owned_by(
        &self,
        node: NodeId,
        core: CoreId,
    ) -> impl Iterator<Item = (PartitionId, &Topic, &Partition)> {
        self.topics().flat_map(move |topic| {
            (0..)
                .zip(&topic.partitions)
                .filter(move |(_, partition)| partition.leader == node && partition.core == core)
                .map(move |(index, partition)| (PartitionId { topic: topic.id, index }, topic, partition))
        })
    }

    /// Changes the state as `command` says. A function of both and nothing else.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<(), ApplyError> {
        match command {
            Command::NodeStarted { cluster_id, node, incarnation, cores, address } => {
                self.check_start(*cluster_id, *node, *incarnation, *cores)?;
                self.cluster_id = *cluster_id;
                let started = Node { address: address.clone(), cores: *cores, incarnation: *incarnation };
                self.start_node(NodeId(*node), started);
            }
            Command::CreateTopic { id, name, partitions, replicas, configs } => {
                self.create(TopicId(*id), name, *partitions, *replicas, configs)?;
            }
            Command::AlterTopic { id, partitions, configs } => {
                self.alter(TopicId(*id), *partitions, configs)?
            }
            Command::DeleteTopic { id } => self.delete(TopicId(*id))?,
            Command::AllocateProducerIds { count } => self.next_producer += u64::from(*count),
            Command::ForgetLogs { logs } => self.forget(logs),
        }
        self.version += 1;
        Ok(())
    }

    fn check_start(
        &self,
        cluster_id: u128,
        node: u32,
        incarnation: u32,
        cores: u8,
    ) -> Result<(), ApplyError> {
        if self.cluster_id != 0 && self.cluster_id != cluster_id {
            return Err(ApplyError::OtherCluster { held: self.cluster_id, given: cluster_id });
        }
        if cores == 0 {
            return Err(ApplyError::NoCores(node));
        }
        // Two lives of one number would write frames of one epoch with different content.
        match self.nodes.get(&NodeId(node)) {
            Some(known) if known.incarnation >= incarnation => {
                Err(ApplyError::OldIncarnation { node, held: known.incarnation, given: incarnation })
            }
            _ => Ok(()),
        }
    }

    fn start_node(&mut self, id: NodeId, node: Node) {
        let epoch = LeaderEpoch(node.incarnation);
        let cores = node.cores;
        let before = self.nodes.insert(id, node);
        let places_anew = before.is_some_and(|before| before.cores != cores);
        let mut loads = Loads::new(&self.nodes);
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.leader != id {
                continue;
            }
            partition.leader_epoch = epoch;
            if places_anew {
                reach::mark!("meta.core_count_changed");
                let place = loads.place(|node| node == id).expect("a started node has cores");
                partition.core = place.1;
            }
        }
        self.count_loads();
    }

    fn create(
        &mut self,
        id: TopicId,
        name: &str,
        partitions: u32,
        replicas: u32,
        configs: &[(String, String)],
    ) -> Result<(), ApplyError> {
        if id.0 == 0 || self.topics.contains_key(&id) || self.names.contains_key(name) {
            return Err(ApplyError::Exists(id));
        }
        let partitions = self.place(partitions)?;
        self.partitions_count += partitions.len() as u32;
        self.names.insert(name.to_owned(), id);
        let configs = configs.iter().cloned().collect();
        self.topics.insert(id, Topic { id, name: name.to_owned(), replicas, configs, partitions });
        Ok(())
    }

    fn alter(
        &mut self,
        id: TopicId,
        partitions: Option<u32>,
        configs: &[(String, Option<String>)],
    ) -> Result<(), ApplyError> {
        let have = self.topics.get(&id).ok_or(ApplyError::NoTopic(id))?.partitions.len() as u32;
        let more = partitions.unwrap_or(have).checked_sub(have).ok_or(ApplyError::FewerPartitions(id))?;
        let added = self.place(more)?;
        self.partitions_count += more;
        let topic = self.topics.get_mut(&id).expect("looked up above");
        topic.partitions.extend(added);
        for (key, value) in configs {
            match value {
                Some(value) => topic.configs.insert(key.clone(), value.clone()),
                None => topic.configs.remove(key),
            };
        }
        Ok(())
    }

    fn delete(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.topics.remove(&id).ok_or(ApplyError::NoTopic(id))?;
        self.names.remove(&topic.name);
        self.partitions_count -= topic.partitions.len() as u32;
        for partition in topic.partitions {
            self.loads.uncount(partition.leader, partition.core);
            self.removed.push((partition.log.0, 1));
        }
        self.join_removed();
        Ok(())
    }

    /// New partitions on the least loaded cores, with logs never used before.
    fn place(&mut self, count: u32) -> Result<Vec<Partition>, ApplyError> {
        if self.nodes.is_empty() {
            return Err(ApplyError::NoNode);
        }
        let mut placed = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (leader, core) = self.loads.place(|_| true).ok_or(ApplyError::NoNode)?;
            let leader_epoch = LeaderEpoch(self.nodes[&leader].incarnation);
            placed.push(Partition { log: LogId(self.next_log), leader, leader_epoch, core });
            self.next_log += 1;
        }
        Ok(placed)
    }

    /// Topics are made with neighbouring log ids, so ranges keep this short however many are deleted.
    fn join_removed(&mut self) {
        self.removed.sort_unstable();
        self.removed.dedup_by(|next, last| {
            let touches = last.0 + last.1 == next.0;
            if touches {
                last.1 += next.1;
            }
            touches
        });
    }

    fn forget(&mut self, gone: &[(u64, u64)]) {
        for (gone_first, gone_count) in gone.iter().filter(|(_, count)| *count > 0) {
            let gone_end = gone_first.saturating_add(*gone_count);
            let kept = |(first, count): (u64, u64)| {
                let end = first + count;
                let before = (first, end.min(*gone_first).saturating_sub(first));
                let after_first = first.max(gone_end);
                [before, (after_first, end.saturating_sub(after_first))]
            };
            self.removed = std::mem::take(&mut self.removed)
                .into_iter()
                .flat_map(kept)
                .filter(|range| range.1 > 0)
                .collect();
        }
    }

    /// What `topics` implies, after they were filled from a snapshot.
    pub(crate) fn derive(&mut self) {
        self.names = self.topics.values().map(|topic| (topic.name.clone(), topic.id)).collect();
        self.partitions_count = self.topics.values().map(|topic| topic.partitions.len() as u32).sum();
        self.count_loads();
    }

    fn count_loads(&mut self) {
        self.loads = Loads::new(&self.nodes);
        for partition in self.topics.values().flat_map(|topic| &topic.partitions) {
            self.loads.count(partition.leader, partition.core);
        }
    }
}

/// For a state that has been read: see `is_loaded`.
impl Catalog for ClusterState {
    fn is_loaded(&self) -> bool {
        self.cluster_id != 0
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn find_topic(&self, name: &str) -> Option<TopicBrief> {
        let topic = self.topic_named(name)?;
        Some(TopicBrief { id: topic.id, partitions: topic.partitions.len() as u32 })
    }

    fn topic_name(&self, id: TopicId) -> Option<&str> {
        Some(&self.topic(id)?.name)
    }

    fn leader(&self, partition: PartitionId) -> Option<(NodeId, LeaderEpoch)> {
        let partition = self.partition(partition)?;
        Some((partition.leader, partition.leader_epoch))
    }
}

#[cfg(test)]
mod tests;
