//! Where a group stands: OffsetCommit, OffsetFetch, OffsetDelete.
//!
//! Partitions are numbers of 32 bits with a sign in messages and without one in the engine; a number below zero goes
//! there and back as a very large one, which no topic has.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use engine_api::{
    CommitOffset, CommitOffsets, CommittedOffset, FindOffset, GroupAnswer, GroupAsk, GroupError, PartitionId,
    Place, Request, Response,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use storage_frame::Offset;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::fetch_error;

use super::errors::{commit_error, group_error, request, the_answer};
use super::membership::member_id;

/// kafkajs resets a group's offsets by committing -2 for the start of the log and -1 for its end. Kafka stores them; here
/// the first becomes the log's start, and the second is nothing, which is told as -1 too.
const TO_THE_START: i64 = -2;

/// A request's topics and partitions with a code for each; those still to be decided by the coordinator have none.
type Codes = Vec<(TopicName, Vec<(i32, Option<i16>)>)>;

/// What a group has committed, by topic and partition, in the order asked.
type Offsets = Vec<(String, Vec<(u32, Option<CommittedOffset>)>)>;

/// Where a commit of a log's start stands among the topics, and its code.
struct Start {
    topic: usize,
    commit: usize,
    code: (usize, usize),
}

pub(super) fn commit(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: OffsetCommitRequest = context.decode(body)?;
    let mut codes: Codes = Vec::with_capacity(asked.topics.len());
    let mut topics = Vec::new();
    let (mut places, mut finds) = (Vec::new(), Vec::new());
    for topic in asked.topics {
        let brief = context.catalog.find_topic(&topic.name);
        let mut partition_codes = Vec::with_capacity(topic.partitions.len());
        let mut commits = Vec::new();
        for partition in topic.partitions {
            let (index, is_start) = (partition.partition_index, partition.committed_offset == TO_THE_START);
            let Some(brief) = brief.filter(|brief| index.cast_unsigned() < brief.partitions) else {
                partition_codes.push((index, Some(ResponseError::UnknownTopicOrPartition.code())));
                continue;
            };
            if is_start {
                let partition = PartitionId { topic: brief.id, index: index.cast_unsigned() };
                let code = (codes.len(), partition_codes.len());
                places.push(Start { topic: topics.len(), commit: commits.len(), code });
                finds.push(Request::FindOffset(FindOffset { partition, place: Place::Start }));
            }
            partition_codes.push((index, None));
            commits.push(commit_of(partition));
        }
        if !commits.is_empty() {
            topics.push((topic.name.to_string(), commits));
        }
        codes.push((topic.name, partition_codes));
    }
    if topics.is_empty() {
        return Ok(committed(context, codes));
    }
    let retention = u64::try_from(asked.retention_time_ms).ok().map(Duration::from_millis);
    let member = member_id(asked.member_id, asked.generation_id_or_member_epoch, asked.group_instance_id);
    let group = asked.group_id;
    Ok(context.gather(finds, move |context, answers| {
        let mut lost = BTreeSet::new();
        for (at, answer) in places.into_iter().zip(answers) {
            match answer {
                Response::FindOffset(Ok(found)) => topics[at.topic].1[at.commit].offset = found.log_start,
                // Left out: committed as it stands here, what was committed before would be forgotten.
                Response::FindOffset(Err(error)) => {
                    lost.insert((at.topic, at.commit));
                    codes[at.code.0].1[at.code.1].1 = Some(fetch_error(&error).code());
                }
                other => return Outcome::unexpected(&other),
            }
        }
        leave_out(&mut topics, &lost);
        if topics.is_empty() {
            return committed(context, codes);
        }
        commit_found(context, &group, CommitOffsets { member, retention, topics }, codes)
    }))
}

/// Those that stand at `lost`, and topics of which nothing remains.
fn leave_out(topics: &mut Vec<(String, Vec<CommitOffset>)>, lost: &BTreeSet<(usize, usize)>) {
    for (topic, (_, commits)) in topics.iter_mut().enumerate() {
        let mut places = 0..;
        commits.retain(|_| places.next().is_none_or(|place| !lost.contains(&(topic, place))));
    }
    topics.retain(|(_, commits)| !commits.is_empty());
}

fn commit_found(
    context: &mut Context<'_>,
    group: &GroupId,
    commit: CommitOffsets,
    mut codes: Codes,
) -> Outcome {
    let asks = vec![request(group, GroupAsk::Commit(commit))];
    context.gather(asks, move |context, answers| match the_answer(answers) {
        Some(Ok(GroupAnswer::Committed(topics))) => {
            fill(&mut codes, topics.into_iter().flat_map(|(_, results)| results));
            committed(context, codes)
        }
        Some(Err(error)) => {
            fill_all(&mut codes, commit_error(&error).code());
            committed(context, codes)
        }
        _ => Outcome::Close("answer_of_another_kind", String::new()),
    })
}

/// An offset below zero goes as one above all offsets, which forgets what was committed.
fn commit_of(asked: OffsetCommitRequestPartition) -> CommitOffset {
    CommitOffset {
        partition: asked.partition_index.cast_unsigned(),
        offset: Offset(asked.committed_offset.cast_unsigned()),
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
    }
}

fn committed(context: &Context<'_>, codes: Codes) -> Outcome {
    let topics = codes.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.unwrap_or_default())
        });
        OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    context.reply(&OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// Gives those that waited for the coordinator its results, which come in the same order.
fn fill(codes: &mut Codes, mut results: impl Iterator<Item = (u32, Result<(), GroupError>)>) {
    for (_, code) in
        codes.iter_mut().flat_map(|(_, partitions)| partitions).filter(|(_, code)| code.is_none())
    {
        let result = results.next();
        *code = Some(match result {
            Some((_, Ok(()))) => 0,
            Some((_, Err(error))) => group_error(&error).code(),
            None => ResponseError::UnknownServerError.code(),
        });
    }
}

fn fill_all(codes: &mut Codes, with: i16) {
    for (_, code) in codes.iter_mut().flat_map(|(_, partitions)| partitions) {
        code.get_or_insert(with);
    }
}

fn partitions_of(context: &Context<'_>, topic: &str) -> Option<u32> {
    Some(context.catalog.find_topic(topic)?.partitions)
}

/// What was asked about one group. `None`: everything it has committed.
type Wanted = Option<Vec<(String, Vec<u32>)>>;

pub(super) fn fetch(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: OffsetFetchRequest = context.decode(body)?;
    let version = context.head.version;
    let groups: Vec<(GroupId, Wanted)> = if version >= 8 {
        let groups = asked.groups.into_iter().map(|group| {
            let wanted = |topics: Vec<_>| {
                let topics = topics.into_iter();
                topics.map(
                    |topic: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics| {
                        (topic.name.to_string(), unsigned(topic.partition_indexes))
                    },
                )
            };
            (group.group_id, group.topics.map(|topics| wanted(topics).collect()))
        });
        merge(groups)
    } else {
        // Before version 2 nobody could ask for everything.
        let topics = asked.topics.or((version < 2).then(Vec::new));
        let wanted = topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| (topic.name.to_string(), unsigned(topic.partition_indexes))).collect()
        });
        vec![(asked.group_id, wanted.map(once_each))]
    };
    let asks =
        groups.iter().map(|(group, wanted)| request(group, GroupAsk::FetchOffsets(wanted.clone()))).collect();
    Ok(context.gather(asks, move |context, answers| {
        let mut found: Vec<(GroupId, Result<Offsets, GroupError>)> = Vec::with_capacity(answers.len());
        for ((group, wanted), answer) in groups.into_iter().zip(answers) {
            let offsets = match answer {
                Response::Group(Ok(GroupAnswer::Offsets(offsets))) => Ok(offsets),
                // A group nobody knows has committed nothing, and that is no error.
                Response::Group(Err(GroupError::NotFound { .. })) => Ok(nothing(wanted.as_ref())),
                Response::Group(Err(error)) if version < 2 => {
                    return context.reply(&failed_v1(wanted, group_error(&error).code()));
                }
                Response::Group(Err(error)) => Err(error),
                other => return Outcome::unexpected(&other),
            };
            found.push((group, offsets));
        }
        if version >= 8 {
            let groups = found.into_iter().map(|(group, offsets)| found_group(group, offsets));
            return context.reply(&OffsetFetchResponse::default().with_groups(groups.collect()));
        }
        let (_, offsets) = found.pop().expect("one was asked about");
        context.reply(&found_one(offsets))
    }))
}

/// A group that is named again is asked once, about all that was wanted of it.
fn merge(groups: impl Iterator<Item = (GroupId, Wanted)>) -> Vec<(GroupId, Wanted)> {
    let mut places = BTreeMap::new();
    let mut merged: Vec<(GroupId, Wanted)> = Vec::new();
    for (group, wanted) in groups {
        match places.entry(group.clone()) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push((group, wanted));
            }
            Entry::Occupied(place) => {
                let before = &mut merged[*place.get()].1;
                match (&mut *before, wanted) {
                    (Some(before), Some(more)) => before.extend(more),
                    _ => *before = None,
                }
            }
        }
    }
    merged.into_iter().map(|(group, wanted)| (group, wanted.map(once_each))).collect()
}

/// Each topic and partition once, where it was named first.
fn once_each(topics: Vec<(String, Vec<u32>)>) -> Vec<(String, Vec<u32>)> {
    let mut places = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut once: Vec<(String, Vec<u32>)> = Vec::new();
    for (topic, partitions) in topics {
        let place = *places.entry(topic.clone()).or_insert(once.len());
        if place == once.len() {
            once.push((topic, Vec::new()));
        }
        once[place].1.extend(partitions.into_iter().filter(|index| seen.insert((place, *index))));
    }
    once
}

fn unsigned(indexes: Vec<i32>) -> Vec<u32> {
    indexes.into_iter().map(i32::cast_unsigned).collect()
}

fn nothing(wanted: Option<&Vec<(String, Vec<u32>)>>) -> Offsets {
    let topics = wanted.into_iter().flatten();
    topics
        .map(|(topic, partitions)| (topic.clone(), partitions.iter().map(|index| (*index, None)).collect()))
        .collect()
}

/// Offset, leader epoch, metadata. Nothing committed is -1 with metadata that is empty, not null.
fn told(committed: Option<CommittedOffset>) -> (i64, i32, Option<StrBytes>) {
    committed.map_or((-1, -1, Some(StrBytes::new())), |committed| {
        let offset = i64::try_from(committed.offset.0).unwrap_or(i64::MAX);
        (offset, committed.leader_epoch, Some(committed.metadata.into()))
    })
}

fn found_group(group: GroupId, offsets: Result<Offsets, GroupError>) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group);
    let offsets = match offsets {
        Ok(offsets) => offsets,
        Err(error) => return response.with_error_code(group_error(&error).code()),
    };
    let topics = offsets.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, committed)| {
            let (offset, epoch, metadata) = told(committed);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index.cast_signed())
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(metadata)
        });
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(topic.into()))
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

fn found_one(offsets: Result<Offsets, GroupError>) -> OffsetFetchResponse {
    let offsets = match offsets {
        Ok(offsets) => offsets,
        Err(error) => return OffsetFetchResponse::default().with_error_code(group_error(&error).code()),
    };
    let topics = offsets.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, committed)| {
            let (offset, epoch, metadata) = told(committed);
            OffsetFetchResponsePartition::default()
                .with_partition_index(index.cast_signed())
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(metadata)
        });
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(topic.into()))
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// Version 1 has no place for an error but each partition's.
fn failed_v1(wanted: Wanted, code: i16) -> OffsetFetchResponse {
    let mut response = found_one(Ok(nothing(wanted.as_ref())));
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = code;
    }
    response
}

pub(super) fn delete(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: OffsetDeleteRequest = context.decode(body)?;
    let mut codes: Codes = Vec::with_capacity(asked.topics.len());
    let mut topics = Vec::new();
    for topic in asked.topics {
        let count = partitions_of(context, &topic.name);
        let mut known = Vec::new();
        let mut partition_codes = Vec::with_capacity(topic.partitions.len());
        for index in topic.partitions.iter().map(|partition| partition.partition_index) {
            let partition = index.cast_unsigned();
            if count.is_some_and(|count| partition < count) {
                known.push(partition);
                partition_codes.push((index, None));
            } else {
                partition_codes.push((index, Some(ResponseError::UnknownTopicOrPartition.code())));
            }
        }
        if !known.is_empty() {
            topics.push((topic.name.to_string(), known));
        }
        codes.push((topic.name, partition_codes));
    }
    // Asked even when there is nothing to delete: the group's own error comes first.
    let asks = vec![request(&asked.group_id, GroupAsk::DeleteOffsets(topics))];
    Ok(context.gather(asks, move |context, answers| match the_answer(answers) {
        Some(Ok(GroupAnswer::OffsetsDeleted(topics))) => {
            fill(&mut codes, topics.into_iter().flat_map(|(_, results)| results));
            context.reply(&OffsetDeleteResponse::default().with_topics(deleted(codes)))
        }
        Some(Err(error)) => {
            context.reply(&OffsetDeleteResponse::default().with_error_code(group_error(&error).code()))
        }
        _ => Outcome::Close("answer_of_another_kind", String::new()),
    }))
}

fn deleted(codes: Codes) -> Vec<OffsetDeleteResponseTopic> {
    let topics = codes.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.unwrap_or_default())
        });
        OffsetDeleteResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    topics.collect()
}
