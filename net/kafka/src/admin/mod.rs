//! Administrators' APIs: topics, configs, the cluster as it is shown to tools.
//!
//! What may be done is the engine's to say, and its reason is what the client is shown. Refused here is only what the
//! engine has no words for: the same thing named twice, replicas assigned by hand to other nodes than there are, the
//! internal topic.

use std::collections::BTreeMap;

use engine_api::{OFFSETS_TOPIC, TopicError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;

use crate::api::Api;
use crate::context::Context;
use crate::errors::topic_error;
use crate::shapes;
use crate::walk::Kind::{Fixed, List, Text};
use crate::walk::{Shape, always};

mod alter_configs;
mod broker_configs;
mod cluster;
mod describe_configs;
mod log_dirs;
mod partitions;
mod records;
mod replicas;
mod sasl;
#[cfg(test)]
mod tests;
mod topics;

const QUORUM_PARTITION: Shape = &[always(Fixed(4))];
const QUORUM_TOPIC: Shape = &[always(Text), always(List(QUORUM_PARTITION))];
const DESCRIBE_QUORUM: Shape = &[always(List(QUORUM_TOPIC))];

#[rustfmt::skip]
pub(crate) const APIS: &[Api] = &[
    Api::new(ApiKey::SaslHandshake, "SaslHandshake", 0, 1, shapes::SASL_HANDSHAKE, sasl::handshake),
    Api::new(ApiKey::CreateTopics, "CreateTopics", 2, 7, shapes::CREATE_TOPICS, topics::create),
    Api::new(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, shapes::DELETE_TOPICS, topics::delete),
    Api::new(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, shapes::DELETE_RECORDS, records::delete),
    Api::new(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, shapes::DESCRIBE_CONFIGS, describe_configs::describe),
    Api::new(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, shapes::ALTER_CONFIGS, alter_configs::replace),
    Api::new(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4, shapes::DESCRIBE_LOG_DIRS, log_dirs::describe),
    Api::new(ApiKey::SaslAuthenticate, "SaslAuthenticate", 0, 2, shapes::SASL_AUTHENTICATE, sasl::authenticate),
    Api::new(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, shapes::CREATE_PARTITIONS, topics::grow),
    Api::new(ApiKey::ElectLeaders, "ElectLeaders", 0, 2, shapes::ELECT_LEADERS, replicas::elect),
    Api::new(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, shapes::INCREMENTAL_ALTER_CONFIGS, alter_configs::change),
    Api::new(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 0, shapes::ALTER_PARTITION_REASSIGNMENTS, replicas::reassign),
    Api::new(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0, shapes::LIST_PARTITION_REASSIGNMENTS, replicas::reassignments),
    Api::new(ApiKey::DescribeQuorum, "DescribeQuorum", 0, 2, DESCRIBE_QUORUM, cluster::quorum),
    Api::new(ApiKey::DescribeCluster, "DescribeCluster", 0, 1, shapes::DESCRIBE_CLUSTER, cluster::describe),
    Api::new(ApiKey::ListConfigResources, "ListConfigResources", 0, 1, shapes::LIST_CONFIG_RESOURCES, describe_configs::list),
    Api::new(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", 0, 0, shapes::DESCRIBE_TOPIC_PARTITIONS, partitions::describe),
];

/// Why something is refused, in Kafka's words and in ours.
#[derive(Debug, Clone)]
struct Fault {
    error: ResponseError,
    why: StrBytes,
}

impl Fault {
    fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Self { error, why: why.into().into() }
    }

    fn invalid(why: impl Into<String>) -> Self {
        Self::new(ResponseError::InvalidRequest, why)
    }

    fn code(&self) -> i16 {
        self.error.code()
    }

    /// As messages have it.
    fn text(&self) -> Option<StrBytes> {
        Some(self.why.clone())
    }
}

impl From<TopicError> for Fault {
    fn from(error: TopicError) -> Self {
        Self::new(topic_error(&error), error.to_string())
    }
}

/// The broker's own topic is not the clients' to make, change or delete.
fn refuse_internal(topic: &str) -> Result<(), Fault> {
    if topic == OFFSETS_TOPIC {
        let why = format!("topic {topic} is the broker's own");
        return Err(Fault::new(ResponseError::InvalidTopicException, why));
    }
    Ok(())
}

/// How often each of `names` is there.
fn counts<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.to_owned()).or_insert(0) += 1;
    }
    counts
}

fn own_id(context: &Context<'_>) -> BrokerId {
    broker_id(context.config.node.0)
}

fn broker_id(node: u32) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap_or(i32::MAX))
}

/// The partition of a topic that there is.
fn find_partition(context: &Context<'_>, topic: &str, index: i32) -> Option<engine_api::PartitionId> {
    let brief = context.catalog.find_topic(topic)?;
    let index = u32::try_from(index).ok().filter(|index| *index < brief.partitions)?;
    Some(engine_api::PartitionId { topic: brief.id, index })
}
