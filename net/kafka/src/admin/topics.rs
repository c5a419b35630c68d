//! CreateTopics, DeleteTopics, CreatePartitions. Each topic of a request stands for itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine_api::{
    AlterTopic, CheckTopic, ConfigEntry, CreateTopic, DeleteTopic, Request, Response, TopicError, TopicId,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

use super::describe_configs::source;
use super::{Fault, counts, own_id, refuse_internal};

/// As the broker finds right.
const DEFAULT: i32 = -1;

pub(super) fn create(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: CreateTopicsRequest = context.decode(body)?;
    let named = counts(asked.topics.iter().map(|topic| &**topic.name));
    let mut refused = BTreeMap::new();
    let (mut names, mut asks) = (Vec::new(), Vec::new());
    for topic in asked.topics {
        let name = topic.name.clone();
        let create = match named[&**name] {
            1 => create_of(context, topic),
            _ => Err(Fault::invalid("the topic is in the request more than once")),
        };
        match create {
            Ok(create) => {
                names.push(name);
                asks.push(match asked.validate_only {
                    true => Request::CheckTopic(CheckTopic::Create(create)),
                    false => Request::CreateTopic(create),
                });
            }
            // Named more than once, it is answered once.
            Err(fault) => {
                refused.insert(name, fault);
            }
        }
    }
    Ok(context.gather(asks, move |context, answers| {
        let mut results: Vec<_> = refused.into_iter().map(|(name, fault)| not_created(name, fault)).collect();
        for (name, answer) in names.into_iter().zip(answers) {
            results.push(match answer {
                Response::CreateTopic(Ok(made)) => {
                    let partitions = made.partitions.len() as u32;
                    created(context, name, partitions, made.replicas, made.configs)
                        .with_topic_id(Uuid::from_u128(made.id.0))
                }
                Response::CheckTopic(Ok(checked)) => {
                    created(context, name, checked.partitions, checked.replicas, checked.configs)
                }
                Response::CreateTopic(Err(error)) | Response::CheckTopic(Err(error)) => {
                    not_created(name, error.into())
                }
                other => return Outcome::unexpected(&other),
            });
        }
        context.reply(&CreateTopicsResponse::default().with_topics(results))
    }))
}

fn create_of(context: &Context<'_>, topic: CreatableTopic) -> Result<CreateTopic, Fault> {
    refuse_internal(&topic.name)?;
    let (partitions, replicas) = if topic.assignments.is_empty() {
        let partitions = match topic.num_partitions {
            DEFAULT => context.config.partitions_default,
            given => u32::try_from(given).ok().filter(|count| *count > 0).ok_or_else(|| {
                Fault::new(
                    ResponseError::InvalidPartitions,
                    "a topic has at least 1 partition, or -1 for the default",
                )
            })?,
        };
        let replicas = match i32::from(topic.replication_factor) {
            DEFAULT => context.config.replicas_default,
            given => u32::try_from(given).ok().filter(|count| *count > 0).ok_or_else(|| {
                Fault::new(
                    ResponseError::InvalidReplicationFactor,
                    "a topic has at least 1 replica, or -1 for the default",
                )
            })?,
        };
        (partitions, replicas)
    } else {
        (assigned(context, &topic)?, 1)
    };
    let mut configs = Vec::with_capacity(topic.configs.len());
    for config in topic.configs {
        let value = config.value.ok_or_else(|| {
            let why = format!("topic config {} has no value", &*config.name);
            Fault::new(ResponseError::InvalidConfig, why)
        })?;
        configs.push((config.name.to_string(), value.to_string()));
    }
    Ok(CreateTopic {
        name: topic.name.to_string(),
        partitions: Some(partitions),
        replicas: Some(replicas),
        configs,
    })
}

/// How many partitions the assignment by hand names: every one from 0 on, each on this node, which is all there are.
fn assigned(context: &Context<'_>, topic: &CreatableTopic) -> Result<u32, Fault> {
    if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
        return Err(Fault::invalid(
            "replicas are assigned by hand: number of partitions and replication factor must be -1",
        ));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assigned| assigned.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..indexes.len() as i32) {
        let why = "the assignment by hand must name each partition from 0 on once";
        return Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
    }
    for assigned in &topic.assignments {
        check_replicas(context, &assigned.broker_ids)?;
    }
    Ok(indexes.len() as u32)
}

fn check_replicas(context: &Context<'_>, brokers: &[BrokerId]) -> Result<(), Fault> {
    let own = own_id(context);
    if brokers != [own] {
        let why = format!("a partition can be assigned to broker {} alone: there is no other", *own);
        return Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
    }
    Ok(())
}

fn created(
    context: &Context<'_>,
    name: TopicName,
    partitions: u32,
    replicas: u32,
    configs: Vec<ConfigEntry>,
) -> CreatableTopicResult {
    let configs = configs.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_config_source(source(context, &entry))
            .with_name(entry.key.into())
            .with_value(Some(entry.value.into()))
    });
    // Told since version 5.
    let configs = if context.head.version >= 5 { configs.collect() } else { Vec::new() };
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_message(None)
        .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(configs))
}

fn not_created(name: TopicName, fault: Fault) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(fault.code())
        .with_error_message(fault.text())
}

pub(super) fn delete(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DeleteTopicsRequest = context.decode(body)?;
    let by_name = asked.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let found: Vec<Found> =
        asked.topics.into_iter().chain(by_name).map(|state| find(context, state)).collect();
    let named = counts(found.iter().filter_map(|found| found.name.as_deref().map(|name| &**name)));
    let mut asks = Vec::new();
    let mut results = Vec::with_capacity(found.len());
    for Found { name, id, wanted, fault } in found {
        let verdict = match (&name, fault) {
            (_, Some(fault)) => Err(fault),
            (Some(name), None) if named[&***name] == 1 => refuse_internal(name).map(|()| name.to_string()),
            _ => Err(Fault::invalid("the topic is in the request more than once")),
        };
        let result = DeletableTopicResult::default().with_name(name).with_topic_id(id);
        results.push(match verdict {
            Ok(name) => {
                asks.push(Request::DeleteTopic(DeleteTopic { name, id: wanted }));
                (result, Some(wanted.is_some()))
            }
            Err(fault) => (not_deleted(result, fault), None),
        });
    }
    Ok(context.gather(asks, move |context, answers| {
        let mut answers = answers.into_iter();
        let mut told = Vec::with_capacity(results.len());
        for (result, asked_by_id) in results {
            let Some(by_id) = asked_by_id else {
                told.push(result);
                continue;
            };
            told.push(match answers.next().expect("one for each") {
                Response::DeleteTopic(Ok(())) => result,
                // Asked for by its id it is gone, whoever has its name.
                Response::DeleteTopic(Err(TopicError::Unknown { .. })) if by_id => {
                    let why = format!("no topic has the id {}", result.topic_id);
                    not_deleted(result.with_name(None), Fault::new(ResponseError::UnknownTopicId, why))
                }
                Response::DeleteTopic(Err(error)) => not_deleted(result, error.into()),
                other => return Outcome::unexpected(&other),
            });
        }
        context.reply(&DeleteTopicsResponse::default().with_responses(told))
    }))
}

/// A topic that is to be deleted, by both its names as far as they are known.
struct Found {
    name: Option<TopicName>,
    id: Uuid,
    /// The one that was asked for by its id: whatever has its name by the time it is done.
    wanted: Option<TopicId>,
    fault: Option<Fault>,
}

fn find(context: &Context<'_>, state: DeleteTopicState) -> Found {
    let id = state.topic_id;
    match state.name {
        Some(name) if id.is_nil() => {
            let known = context.catalog.find_topic(&name);
            let id = known.map_or(id, |brief| Uuid::from_u128(brief.id.0));
            Found { name: Some(name), id, wanted: None, fault: None }
        }
        Some(_) => {
            let fault = Fault::invalid("a topic is deleted by its name or by its id, not by both");
            Found { name: None, id, wanted: None, fault: Some(fault) }
        }
        None => match context.catalog.topic_name(TopicId(id.as_u128())) {
            Some(name) => Found {
                name: Some(TopicName(name.to_owned().into())),
                id,
                wanted: Some(TopicId(id.as_u128())),
                fault: None,
            },
            None => {
                let fault = Fault::new(ResponseError::UnknownTopicId, format!("no topic has the id {id}"));
                Found { name: None, id, wanted: None, fault: Some(fault) }
            }
        },
    }
}

fn not_deleted(result: DeletableTopicResult, fault: Fault) -> DeletableTopicResult {
    result.with_error_code(fault.code()).with_error_message(fault.text())
}

pub(super) fn grow(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: CreatePartitionsRequest = context.decode(body)?;
    let named = counts(asked.topics.iter().map(|topic| &**topic.name));
    let mut refused: BTreeMap<TopicName, Fault> = BTreeMap::new();
    let (mut names, mut asks) = (Vec::new(), Vec::new());
    for topic in asked.topics {
        let grown = match named[&**topic.name] {
            1 => grow_of(context, &topic),
            _ => Err(Fault::invalid("the topic is in the request more than once")),
        };
        match grown {
            Ok(alter) => {
                names.push(topic.name);
                asks.push(match asked.validate_only {
                    true => Request::CheckTopic(CheckTopic::Alter(alter)),
                    false => Request::AlterTopic(alter),
                });
            }
            Err(fault) => {
                refused.insert(topic.name, fault);
            }
        }
    }
    Ok(context.gather(asks, move |context, answers| {
        let result = |name, fault: Option<Fault>| {
            let result = CreatePartitionsTopicResult::default().with_name(name);
            match fault {
                Some(fault) => result.with_error_code(fault.code()).with_error_message(fault.text()),
                None => result,
            }
        };
        let mut results: Vec<_> =
            refused.into_iter().map(|(name, fault)| result(name, Some(fault))).collect();
        for (name, answer) in names.into_iter().zip(answers) {
            results.push(match answer {
                Response::AlterTopic(Ok(_)) | Response::CheckTopic(Ok(_)) => result(name, None),
                Response::AlterTopic(Err(error)) | Response::CheckTopic(Err(error)) => {
                    result(name, Some(error.into()))
                }
                other => return Outcome::unexpected(&other),
            });
        }
        context.reply(&CreatePartitionsResponse::default().with_results(results))
    }))
}

fn grow_of(context: &Context<'_>, topic: &CreatePartitionsTopic) -> Result<AlterTopic, Fault> {
    refuse_internal(&topic.name)?;
    let name: &StrBytes = &topic.name;
    let have = match context.catalog.find_topic(name) {
        Some(brief) => brief.partitions,
        None => {
            let why = format!("topic '{}' does not exist", &**name);
            return Err(Fault::new(ResponseError::UnknownTopicOrPartition, why));
        }
    };
    let added = i64::from(topic.count) - i64::from(have);
    let wrong = |why| Err(Fault::new(ResponseError::InvalidPartitions, why));
    if added < 0 {
        return wrong(format!("topic has {have} partitions, they cannot become {}", topic.count));
    }
    if added == 0 {
        return wrong(format!("topic has {have} partitions already"));
    }
    if let Some(assignments) = &topic.assignments {
        if assignments.len() as i64 != added {
            let why = format!("{} partitions are added, {} are assigned", added, assignments.len());
            return Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
        }
        for assignment in assignments {
            check_replicas(context, &assignment.broker_ids)?;
        }
    }
    let partitions = topic.count.cast_unsigned();
    Ok(AlterTopic {
        name: name.to_string(),
        partitions: Some(partitions),
        configs: Vec::new(),
        based_on: None,
    })
}
