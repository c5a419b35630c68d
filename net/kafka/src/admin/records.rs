//! DeleteRecords: everything below an offset becomes unreadable.

use bytes::Bytes;
use engine_api::{DeleteRecords, DeleteRecordsError, FindOffset, PartitionId, Place, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use storage_frame::Offset;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::fetch_error;

use super::{find_partition, refuse_internal};

/// Everything there is.
const TO_THE_END: i64 = -1;

/// A partition of the request, and how far it has come.
struct Row {
    topic: usize,
    index: i32,
    state: State,
}

enum State {
    /// Where its end is must be found first.
    Find(PartitionId),
    Delete(PartitionId, Offset),
    Done(Result<Offset, ResponseError>),
}

pub(super) fn delete(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DeleteRecordsRequest = context.decode(body)?;
    let mut names = Vec::with_capacity(asked.topics.len());
    let mut rows = Vec::new();
    for (topic, of_topic) in asked.topics.into_iter().enumerate() {
        for partition in of_topic.partitions {
            let index = partition.partition_index;
            let state = begin(context, &of_topic.name, index, partition.offset);
            rows.push(Row { topic, index, state });
        }
        names.push(of_topic.name);
    }
    let finds = rows.iter().filter_map(|row| match row.state {
        State::Find(partition) => Some(Request::FindOffset(FindOffset { partition, place: Place::End })),
        State::Delete(..) | State::Done(_) => None,
    });
    let finds = finds.collect();
    Ok(context.gather(finds, move |context, answers| {
        let mut answers = answers.into_iter();
        for row in &mut rows {
            let State::Find(partition) = row.state else { continue };
            row.state = match answers.next().expect("one for each") {
                Response::FindOffset(Ok(found)) => State::Delete(partition, found.high_watermark),
                Response::FindOffset(Err(error)) => State::Done(Err(fetch_error(&error))),
                other => return Outcome::unexpected(&other),
            };
        }
        delete_found(context, names, rows)
    }))
}

fn begin(context: &Context<'_>, topic: &str, index: i32, offset: i64) -> State {
    if let Err(fault) = refuse_internal(topic) {
        return State::Done(Err(fault.error));
    }
    let Some(partition) = find_partition(context, topic, index) else {
        return State::Done(Err(ResponseError::UnknownTopicOrPartition));
    };
    match u64::try_from(offset) {
        Ok(offset) => State::Delete(partition, Offset(offset)),
        Err(_) if offset == TO_THE_END => State::Find(partition),
        Err(_) => State::Done(Err(ResponseError::OffsetOutOfRange)),
    }
}

fn delete_found(context: &mut Context<'_>, names: Vec<TopicName>, mut rows: Vec<Row>) -> Outcome {
    let asks = rows.iter().filter_map(|row| match row.state {
        State::Delete(partition, before) => Some(Request::DeleteRecords(DeleteRecords { partition, before })),
        State::Find(_) | State::Done(_) => None,
    });
    let asks = asks.collect();
    context.gather(asks, move |context, answers| {
        let mut answers = answers.into_iter();
        for row in &mut rows {
            let State::Delete(..) = row.state else { continue };
            row.state = State::Done(match answers.next().expect("one for each") {
                Response::DeleteRecords(result) => result.map_err(|error| delete_records_error(&error)),
                other => return Outcome::unexpected(&other),
            });
        }
        context.reply(&response(names, rows))
    })
}

fn response(names: Vec<TopicName>, rows: Vec<Row>) -> DeleteRecordsResponse {
    let mut topics: Vec<_> =
        names.into_iter().map(|name| DeleteRecordsTopicResult::default().with_name(name)).collect();
    for row in rows {
        let State::Done(result) = row.state else { unreachable!("every partition is decided") };
        let partition = DeleteRecordsPartitionResult::default().with_partition_index(row.index);
        topics[row.topic].partitions.push(match result {
            Ok(start) => partition.with_low_watermark(i64::try_from(start.0).unwrap_or(i64::MAX)),
            Err(error) => partition.with_low_watermark(-1).with_error_code(error.code()),
        });
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete_records_error(error: &DeleteRecordsError) -> ResponseError {
    match error {
        DeleteRecordsError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        DeleteRecordsError::NotLeader | DeleteRecordsError::ShuttingDown => {
            ResponseError::NotLeaderOrFollower
        }
        DeleteRecordsError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        DeleteRecordsError::StorageFailed { .. } => ResponseError::KafkaStorageError,
    }
}
