//! What clients ask for: refused with the cause, or turned into the [`Command`] that does it.
//!
//! Checked against the state as of the last command decided on, before the command is stored; replay does not
//! check again, so a bound made tighter later never makes old metadata unreadable.

use std::collections::BTreeMap;

use engine_api::{
    AlterTopic, CheckTopic, CheckedTopic, CreateTopic, DeleteTopic, PartitionDescription, TopicDescription,
    TopicError, TopicId,
};

use crate::command::Command;
use crate::config::{self, ConfigError, TopicConfig};
use crate::name::name_fault;
use crate::state::{ClusterState, Topic};

pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Of the whole cluster: every core keeps the whole picture, about 40 bytes a partition.
pub const PARTITIONS_MAX: u32 = 100_000;

impl ClusterState {
    /// # Errors
    /// [`TopicError`] with the reason; nothing is to be stored then.
    pub fn check_create(
        &self,
        asked: &CreateTopic,
        id: TopicId,
        defaults: &[(String, String)],
    ) -> Result<Command, TopicError> {
        if let Some(why) = name_fault(&asked.name) {
            return Err(TopicError::Name { name: asked.name.chars().take(300).collect(), why });
        }
        if self.topic_named(&asked.name).is_some() {
            return Err(TopicError::Exists { name: asked.name.clone() });
        }
        let partitions = asked.partitions.unwrap_or(1);
        self.check_partitions(0, partitions)?;
        let replicas = asked.replicas.unwrap_or(1);
        self.check_replicas(replicas)?;
        let pairs = asked.configs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let configs = config::canonical(pairs).map_err(refused)?;
        check_together(&config::effective(defaults, &configs), replicas)?;
        let configs = configs.into_iter().collect();
        Ok(Command::CreateTopic { id: id.0, name: asked.name.clone(), partitions, replicas, configs })
    }

    /// # Errors
    /// [`TopicError`] with the reason; nothing is to be stored then.
    pub fn check_alter(
        &self,
        asked: &AlterTopic,
        defaults: &[(String, String)],
    ) -> Result<Command, TopicError> {
        let topic = self.known(&asked.name)?;
        if asked.based_on.as_ref().is_some_and(|pairs| !is_set(&topic.configs, pairs)) {
            return Err(TopicError::Changed { name: asked.name.clone() });
        }
        let have = topic.partitions.len() as u32;
        if let Some(partitions) = asked.partitions {
            self.check_partitions(have, partitions)?;
        }
        let set = asked.configs.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)));
        let set = config::canonical(set).map_err(refused)?;
        let mut changes: BTreeMap<String, Option<String>> =
            set.into_iter().map(|(key, value)| (key, Some(value))).collect();
        for (key, _) in asked.configs.iter().filter(|(_, value)| value.is_none()) {
            let key = config::known_key(key).map_err(refused)?;
            if changes.insert(key.to_owned(), None).is_some() {
                return Err(refused(ConfigError::Twice { key }));
            }
        }
        let mut configs = topic.configs.clone();
        let changes: Vec<_> = changes.into_iter().collect();
        overlay(&mut configs, &changes);
        check_together(&config::effective(defaults, &configs), topic.replicas)?;
        Ok(Command::AlterTopic { id: topic.id.0, partitions: asked.partitions, configs: changes })
    }

    /// What `asked` would come to.
    ///
    /// # Errors
    /// [`TopicError`] with the reason why it would be refused.
    pub fn check_topic(
        &self,
        asked: &CheckTopic,
        defaults: &[(String, String)],
    ) -> Result<CheckedTopic, TopicError> {
        let (partitions, replicas, configs) = match asked {
            CheckTopic::Create(create) => {
                // The id is drawn when it is done.
                let command = self.check_create(create, TopicId(0), defaults)?;
                let Command::CreateTopic { partitions, replicas, configs, .. } = command else {
                    unreachable!("checked as what it is")
                };
                (partitions, replicas, configs.into_iter().collect())
            }
            CheckTopic::Alter(alter) => {
                let Command::AlterTopic { partitions, configs: changes, .. } =
                    self.check_alter(alter, defaults)?
                else {
                    unreachable!("checked as what it is")
                };
                let topic = self.known(&alter.name)?;
                let mut configs = topic.configs.clone();
                overlay(&mut configs, &changes);
                (partitions.unwrap_or(topic.partitions.len() as u32), topic.replicas, configs)
            }
        };
        Ok(CheckedTopic { partitions, replicas, configs: config::describe(defaults, &configs) })
    }

    /// # Errors
    /// [`TopicError::Unknown`]
    pub fn check_delete(&self, asked: &DeleteTopic) -> Result<Command, TopicError> {
        let topic = self.known(&asked.name)?;
        if asked.id.is_some_and(|id| id != topic.id) {
            return Err(TopicError::Unknown { name: asked.name.clone() });
        }
        Ok(Command::DeleteTopic { id: topic.id.0 })
    }

    /// Topics by their names in the order asked, or all of them by name.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] for the first name that does not exist.
    pub fn describe_topics(
        &self,
        names: &[String],
        defaults: &[(String, String)],
    ) -> Result<Vec<TopicDescription>, TopicError> {
        if names.is_empty() {
            return Ok(self.topics().map(|topic| describe(topic, defaults)).collect());
        }
        names.iter().map(|name| Ok(describe(self.known(name)?, defaults))).collect()
    }

    fn known(&self, name: &str) -> Result<&Topic, TopicError> {
        self.topic_named(name).ok_or_else(|| TopicError::Unknown { name: name.chars().take(300).collect() })
    }

    fn check_partitions(&self, have: u32, want: u32) -> Result<(), TopicError> {
        let refuse = |why| Err(TopicError::Partitions { why });
        if want == 0 {
            return refuse("a topic has at least 1 partition".into());
        }
        if want < have {
            return refuse(format!(
                "topic has {have} partitions, they cannot become {want}: fewer is not possible"
            ));
        }
        if want > PARTITIONS_PER_TOPIC_MAX {
            return refuse(format!(
                "{want} partitions asked, a topic has at most {PARTITIONS_PER_TOPIC_MAX}"
            ));
        }
        let total = self.partitions_count() + (want - have);
        if total > PARTITIONS_MAX {
            return refuse(format!(
                "the cluster would have {total} partitions, at most {PARTITIONS_MAX} are allowed"
            ));
        }
        Ok(())
    }

    fn check_replicas(&self, replicas: u32) -> Result<(), TopicError> {
        let nodes = self.nodes.len();
        let refuse = |why| Err(TopicError::Replicas { why });
        if replicas == 0 {
            return refuse("a topic has at least 1 replica".to_owned());
        }
        if replicas as usize > nodes {
            return refuse(format!("{replicas} replicas asked, the cluster has {nodes} node(s)"));
        }
        if replicas > 1 {
            return refuse(format!("{replicas} replicas asked, this build keeps 1"));
        }
        Ok(())
    }
}

/// Everything a client may know of a topic.
#[must_use]
pub fn describe(topic: &Topic, defaults: &[(String, String)]) -> TopicDescription {
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| PartitionDescription {
        index,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        core: partition.core,
        replicas: vec![partition.leader],
        in_sync: vec![partition.leader],
        log: partition.log,
    });
    TopicDescription {
        name: topic.name.clone(),
        id: topic.id,
        replicas: topic.replicas,
        partitions: partitions.collect(),
        configs: config::describe(defaults, &topic.configs),
    }
}

fn overlay(configs: &mut BTreeMap<String, String>, changes: &[(String, Option<String>)]) {
    for (key, value) in changes {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
}

/// What each config alone does not show.
fn check_together(config: &TopicConfig, replicas: u32) -> Result<(), TopicError> {
    if config.in_sync_min > replicas {
        let why = format!(
            "min.insync.replicas={} and {replicas} replica(s): no record with acks=all could ever be stored",
            config.in_sync_min
        );
        return Err(TopicError::Config { why });
    }
    Ok(())
}

/// These and no others.
fn is_set(configs: &BTreeMap<String, String>, pairs: &[(String, String)]) -> bool {
    pairs.len() == configs.len() && pairs.iter().all(|(key, value)| configs.get(key) == Some(value))
}

fn refused(error: ConfigError) -> TopicError {
    TopicError::Config { why: error.to_string() }
}
