//! DescribeTopicPartitions: topics by name, in pages (KIP-966).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine_api::{DescribeTopics, OFFSETS_TOPIC, Request, Response, TopicDescription, TopicError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor as AskedCursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use uuid::Uuid;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::topic_error;
use crate::operations;

use super::broker_id;

/// Partitions of one answer, as Kafka's default has it.
const PAGE_PARTITIONS_MAX: usize = 2000;

/// By name; in the order of names.
type Topics = BTreeMap<String, Result<TopicDescription, ResponseError>>;

pub(super) fn describe(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DescribeTopicPartitionsRequest = context.decode(body)?;
    let limit = usize::try_from(asked.response_partition_limit).unwrap_or(0).clamp(1, PAGE_PARTITIONS_MAX);
    let cursor = asked.cursor;
    let first = cursor.as_ref().map(|cursor| cursor.topic_name.to_string());
    let names: BTreeSet<String> = asked.topics.iter().map(|topic| topic.name.to_string()).collect();
    let is_past = |name: &String| first.as_ref().is_none_or(|first| name >= first);
    let names: Vec<String> = names.into_iter().filter(is_past).collect();
    let asks = if asked.topics.is_empty() {
        vec![Request::DescribeTopics(DescribeTopics { names: Vec::new() })]
    } else {
        names
            .iter()
            .map(|name| Request::DescribeTopics(DescribeTopics { names: vec![name.clone()] }))
            .collect()
    };
    Ok(context.gather(asks, move |context, answers| {
        let mut topics = Topics::new();
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                Response::DescribeTopics(Ok(described)) => {
                    topics.extend(described.into_iter().map(|topic| (topic.name.clone(), Ok(topic))));
                }
                Response::DescribeTopics(Err(error)) => {
                    // Of all topics, or of one that has a name.
                    let name = names.get(at).cloned().unwrap_or_default();
                    let code = match error {
                        TopicError::Unknown { .. } if context.catalog.find_topic(&name).is_some() => {
                            ResponseError::LeaderNotAvailable
                        }
                        error => topic_error(&error),
                    };
                    topics.insert(name, Err(code));
                }
                other => return Outcome::unexpected(&other),
            }
        }
        context.reply(&page(topics, cursor.as_ref(), limit))
    }))
}

/// From `cursor` on, `limit` partitions at most, and where to go on.
fn page(topics: Topics, cursor: Option<&AskedCursor>, limit: usize) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = limit;
    for (name, topic) in topics {
        let start = match cursor {
            Some(cursor) if *cursor.topic_name.0 > *name => continue,
            Some(cursor) if *cursor.topic_name.0 == *name => {
                usize::try_from(cursor.partition_index).unwrap_or(0)
            }
            Some(_) | None => 0,
        };
        let wire_name = TopicName(name.into());
        if room == 0 {
            response.next_cursor = Some(Cursor::default().with_topic_name(wire_name));
            return response;
        }
        let topic = match topic {
            Ok(topic) => topic,
            Err(error) => {
                let refusal = DescribeTopicPartitionsResponseTopic::default()
                    .with_name(Some(wire_name))
                    .with_error_code(error.code());
                response.topics.push(refusal);
                continue;
            }
        };
        let end = topic.partitions.len().min(start.saturating_add(room));
        let (described, rest) = described(&topic, start, end);
        room -= described.partitions.len();
        response.topics.push(described);
        if rest > 0 {
            let index = i32::try_from(end).unwrap_or(i32::MAX);
            response.next_cursor =
                Some(Cursor::default().with_topic_name(wire_name).with_partition_index(index));
            return response;
        }
    }
    response
}

/// Partitions from `start` to before `end`, and how many are left.
fn described(
    topic: &TopicDescription,
    start: usize,
    end: usize,
) -> (DescribeTopicPartitionsResponseTopic, usize) {
    let shown = topic.partitions.get(start..end).unwrap_or_default();
    let partitions = shown.iter().map(|partition| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(i32::try_from(partition.index).unwrap_or(i32::MAX))
            .with_leader_id(broker_id(partition.leader.0))
            .with_leader_epoch(i32::try_from(partition.leader_epoch.0).unwrap_or(i32::MAX))
            .with_replica_nodes(partition.replicas.iter().map(|node| broker_id(node.0)).collect())
            .with_isr_nodes(partition.in_sync.iter().map(|node| broker_id(node.0)).collect())
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    let told = DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(topic.name.clone().into())))
        .with_topic_id(Uuid::from_u128(topic.id.0))
        .with_is_internal(topic.name == OFFSETS_TOPIC)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations::OF_TOPIC);
    (told, topic.partitions.len().saturating_sub(end))
}
