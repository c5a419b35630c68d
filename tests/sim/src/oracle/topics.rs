//! Topics as clients know them: their logs and every promise that may ever have been in force.

use std::collections::BTreeMap;

use engine_api::{PartitionId, TopicId};
use storage_frame::LogId;

use crate::fact::{At, Fact, TopicPromise};

#[derive(Debug, Default)]
pub(super) struct Topics {
    by_id: BTreeMap<TopicId, Topic>,
    by_log: BTreeMap<LogId, PartitionId>,
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    logs: Vec<LogId>,
    /// Each once. A change is in force before anybody hears of it, and what an old one allowed may still be on its
    /// way, so each of them allows what it allows for ever.
    pub(super) promises: Vec<TopicPromise>,
    pub(super) delete_asked: bool,
    pub(super) is_deleted: bool,
}

impl Topics {
    pub(super) fn hear(&mut self, at: &At) {
        match &at.fact {
            Fact::Topic(facts) => {
                for (index, log) in facts.logs.iter().enumerate() {
                    let partition = PartitionId { topic: facts.id, index: index as u32 };
                    self.by_log.insert(*log, partition);
                }
                let topic = self.by_id.entry(facts.id).or_default();
                topic.name.clone_from(&facts.name);
                topic.logs.clone_from(&facts.logs);
                topic.allow(&facts.promise);
            }
            Fact::TopicAlterAsked { id, promise } => self.by_id.entry(*id).or_default().allow(promise),
            Fact::TopicDeleteAsked(id) => self.by_id.entry(*id).or_default().delete_asked = true,
            Fact::TopicDeleted(id) => self.by_id.entry(*id).or_default().is_deleted = true,
            _ => {}
        }
    }

    pub(super) fn topic(&self, partition: PartitionId) -> Option<&Topic> {
        self.by_id.get(&partition.topic)
    }

    pub(super) fn log(&self, partition: PartitionId) -> Option<LogId> {
        self.topic(partition)?.logs.get(partition.index as usize).copied()
    }

    pub(super) fn partition(&self, log: LogId) -> Option<PartitionId> {
        self.by_log.get(&log).copied()
    }

    /// It may ever have promised from memory. What nobody has described yet may: one client can use a topic before
    /// another one has heard that it was made.
    pub(super) fn may_cache(&self, partition: PartitionId) -> bool {
        self.topic(partition).is_none_or(|topic| topic.promises.iter().any(|promise| promise.write_caching))
    }

    /// Its records may go by themselves; those of a topic that nobody has described yet may.
    pub(super) fn may_retire(&self, partition: PartitionId) -> bool {
        self.topic(partition).is_none_or(|topic| topic.promises.iter().any(TopicPromise::may_retire))
    }

    /// Every partition of topics that nobody has asked to delete.
    pub(super) fn kept(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.by_id.iter().filter(|(_, topic)| !topic.delete_asked).flat_map(|(id, topic)| {
            (0..topic.logs.len() as u32).map(|index| PartitionId { topic: *id, index })
        })
    }

    /// `orders/3`
    pub(super) fn label(&self, partition: PartitionId) -> String {
        let name = self.topic(partition).map_or("?", |topic| topic.name.as_str());
        match self.log(partition) {
            Some(log) => format!("{name}/{} (log {log})", partition.index),
            None => format!("{name}/{}", partition.index),
        }
    }
}

impl Topic {
    fn allow(&mut self, promise: &TopicPromise) {
        if !self.promises.contains(promise) {
            self.promises.push(promise.clone());
        }
    }
}

impl TopicPromise {
    /// Records may go by themselves.
    pub(crate) fn may_retire(&self) -> bool {
        self.retention_ms.is_some() || self.retention_bytes.is_some()
    }
}
