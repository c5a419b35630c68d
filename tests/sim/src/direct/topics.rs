//! Making, changing, describing and deleting topics. Names are used again once their topic is gone.

use engine_api::{
    AlterTopic, ConfigEntry, CreateTopic, DeleteTopic, DescribeTopics, Request, TopicDescription, TopicError,
};

use super::{Asked, Direct, Known};
use crate::fact::{Fact, TopicFacts, TopicPromise};

/// What topics are like, drawn once for each run.
#[derive(Debug, Clone)]
pub struct TopicDraw {
    pub partitions_max: u32,
    pub write_caching_percent: u64,
    pub append_time_percent: u64,
    pub retention_percent: u64,
    /// Small segments roll often.
    pub compact_percent: u64,
    pub segment_bytes: Vec<u64>,
    pub segment_ms: Vec<u64>,
    pub message_bytes: Option<u64>,
}

/// Names of the topics of the clients on the SDK begin so.
pub const SHARED: &str = "shared";

impl Direct {
    /// One for the clients on the SDK, which nobody deletes.
    pub fn create_shared_topic(&mut self, name: &str) {
        self.create_named(name.to_owned());
    }

    pub fn create_topic(&mut self) {
        let busy = self.topics.values().filter(|known| **known != Known::Gone).count();
        if busy >= self.manners.topics_max {
            return;
        }
        let gone = self.topics.iter().find(|(_, known)| **known == Known::Gone);
        let name = match gone {
            Some((name, _)) if self.dice.one_in(2) => name.clone(),
            _ => {
                self.next_topic += 1;
                format!("t{}", self.next_topic)
            }
        };
        self.create_named(name);
    }

    fn create_named(&mut self, name: String) {
        let partitions = Some(1 + self.dice.below(u64::from(self.manners.topics.partitions_max)) as u32);
        let configs = self.draw_configs();
        self.topics.insert(name.clone(), Known::Perhaps);
        let create = CreateTopic { name: name.clone(), partitions, replicas: None, configs };
        self.ask(Asked::Create { name }, Request::CreateTopic(create));
    }

    fn draw_configs(&mut self) -> Vec<(String, String)> {
        let draw = self.manners.topics.clone();
        let dice = &mut self.dice;
        let mut configs = vec![("segment.bytes", dice.pick(&draw.segment_bytes).to_string())];
        if !draw.segment_ms.is_empty() {
            configs.push(("segment.ms", dice.pick(&draw.segment_ms).to_string()));
        }
        if let Some(bytes) = draw.message_bytes {
            configs.push(("max.message.bytes", bytes.to_string()));
        }
        if dice.below(100) < draw.write_caching_percent {
            configs.push(("write.caching", "true".to_owned()));
            configs.push(("flush.ms", [1, 20, 100, 2000][dice.below(4) as usize].to_string()));
        }
        if dice.below(100) < draw.append_time_percent {
            configs.push(("message.timestamp.type", "LogAppendTime".to_owned()));
        }
        if dice.below(100) < draw.retention_percent {
            if dice.one_in(2) {
                configs.push(("retention.bytes", dice.between(20_000, 600_000).to_string()));
            } else {
                configs.push(("retention.ms", dice.between(2_000, 120_000).to_string()));
            }
        }
        if draw.compact_percent > 0 && dice.below(100) < draw.compact_percent {
            configs.push(("cleanup.policy", "compact,delete".to_owned()));
            configs.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
        }
        configs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    pub(super) fn on_created(&mut self, name: &str, answer: Result<TopicDescription, TopicError>) {
        match answer {
            Ok(topic) if self.topics.get(name) == Some(&Known::Perhaps) => self.learn(&topic),
            Ok(_) => {}
            // Asked before, and the answer was lost: what it is like is found out by describing.
            Err(TopicError::Exists { .. }) => {}
            Err(TopicError::StorageFailed { .. } | TopicError::ShuttingDown) => {}
            Err(
                TopicError::Unknown { .. }
                | TopicError::Name { .. }
                | TopicError::Partitions { .. }
                | TopicError::Replicas { .. }
                | TopicError::Config { .. }
                | TopicError::NoSpace
                | TopicError::NotReady
                | TopicError::Changed { .. },
            ) => {
                if self.topics.get(name) == Some(&Known::Perhaps) {
                    self.topics.insert(name.to_owned(), Known::Gone);
                }
            }
        }
    }

    /// Asks for everything: what was made and deleted meanwhile shows.
    pub fn describe(&mut self) {
        self.ask(Asked::Describe, Request::DescribeTopics(DescribeTopics { names: Vec::new() }));
    }

    pub(super) fn on_described(&mut self, answer: Result<Vec<TopicDescription>, TopicError>) {
        let Ok(topics) = answer else { return };
        for topic in &topics {
            let known = self.topics.get(&topic.name);
            if known == Some(&Known::Perhaps) {
                self.learn(topic);
            }
        }
    }

    /// Asks again until no topic is in doubt. Only while nothing else goes on: an answer overtaken by a change
    /// would be believed.
    pub fn resolve(&mut self) {
        let doubtful: Vec<String> = self
            .topics
            .iter()
            .filter(|(_, known)| matches!(known, Known::Perhaps | Known::Going(_) | Known::Condemned))
            .map(|(name, _)| name.clone())
            .collect();
        for name in doubtful {
            // To be rid of it is to know.
            if self.topics.get(&name) == Some(&Known::Perhaps) {
                self.topics.insert(name.clone(), Known::Condemned);
            }
            self.ask(
                Asked::Delete { name: name.clone() },
                Request::DeleteTopic(DeleteTopic { name, id: None }),
            );
        }
    }

    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.topics.values().all(|known| matches!(known, Known::Alive(_) | Known::Gone))
    }

    /// Not of one that was deleted: a delete is answered at a stop before every core has heard of it, and an answer
    /// may be overtaken on its way through another core.
    fn learn(&mut self, topic: &TopicDescription) {
        if self.deleted.contains(&topic.id) {
            return;
        }
        let facts = TopicFacts {
            id: topic.id,
            name: topic.name.clone(),
            logs: topic.partitions.iter().map(|partition| partition.log).collect(),
            promise: promise_of(&topic.configs),
        };
        self.topics.insert(topic.name.clone(), Known::Alive(facts.clone()));
        self.wishes.facts.push(Fact::Topic(facts));
    }

    fn any_alive(&mut self) -> Option<TopicFacts> {
        let own = self.alive().filter(|topic| !topic.name.starts_with(SHARED));
        let alive: Vec<TopicFacts> = own.cloned().collect();
        (!alive.is_empty()).then(|| self.dice.pick(&alive).clone())
    }

    pub fn alter_topic(&mut self) {
        let Some(topic) = self.any_alive() else { return };
        let partitions = self.dice.one_in(3).then(|| topic.logs.len() as u32 + 1);
        let partitions = partitions.filter(|count| *count <= self.manners.topics.partitions_max);
        let mut configs = Vec::new();
        if self.dice.one_in(2) {
            let bytes = *self.dice.pick(&self.manners.topics.segment_bytes.clone());
            configs.push(("segment.bytes".to_owned(), Some(bytes.to_string())));
        }
        let mut promise = topic.promise.clone();
        if promise.retention_bytes.is_some() {
            let bytes = self.dice.between(20_000, 600_000);
            promise.retention_bytes = Some(bytes);
            configs.push(("retention.bytes".to_owned(), Some(bytes.to_string())));
        }
        self.wishes.facts.push(Fact::TopicAlterAsked { id: topic.id, promise });
        let alter = AlterTopic { name: topic.name.clone(), partitions, configs, based_on: None };
        self.ask(Asked::Alter { name: topic.name }, Request::AlterTopic(alter));
    }

    pub(super) fn on_altered(&mut self, name: &str, answer: Result<TopicDescription, TopicError>) {
        if let (Ok(topic), Some(Known::Alive(_))) = (answer, self.topics.get(name)) {
            self.learn(&topic);
        }
    }

    pub fn delete_topic(&mut self) {
        let Some(topic) = self.any_alive() else { return };
        let name = topic.name.clone();
        self.wishes.facts.push(Fact::TopicDeleteAsked(topic.id));
        self.topics.insert(name.clone(), Known::Going(topic));
        self.ask(Asked::Delete { name: name.clone() }, Request::DeleteTopic(DeleteTopic { name, id: None }));
    }

    pub(super) fn on_deleted(&mut self, name: &str, answer: Result<(), TopicError>) {
        let is_gone = matches!(answer, Ok(()) | Err(TopicError::Unknown { .. }));
        let known = self.topics.get(name).cloned();
        if !is_gone {
            return;
        }
        if let Some(Known::Going(facts) | Known::Alive(facts)) = known {
            self.deleted.insert(facts.id);
            self.wishes.facts.push(Fact::TopicDeleted(facts.id));
        }
        self.topics.insert(name.to_owned(), Known::Gone);
    }
}

/// What of a topic's configs counts.
fn promise_of(configs: &[ConfigEntry]) -> TopicPromise {
    let value = |key: &str| configs.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    TopicPromise {
        write_caching: value("write.caching") == Some("true"),
        retention_ms: value("retention.ms").and_then(|value| value.parse().ok()),
        retention_bytes: value("retention.bytes").and_then(|value| value.parse().ok()),
        append_time: value("message.timestamp.type") == Some("LogAppendTime"),
    }
}
