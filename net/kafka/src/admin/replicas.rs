//! ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments: of partitions that have one replica, there
//! is nothing to elect and nowhere to move them.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

use super::{Fault, find_partition, own_id};

pub(super) fn elect(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: ElectLeadersRequest = context.decode(body)?;
    // Of all partitions, only those are told of whose leader has changed.
    let topics = asked.topic_partitions.unwrap_or_default().into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            let fault = match find_partition(context, &topic.topic, *index) {
                Some(_) => Fault::new(ResponseError::ElectionNotNeeded, "the only replica is the leader"),
                None => unknown(),
            };
            PartitionResult::default()
                .with_partition_id(*index)
                .with_error_code(fault.code())
                .with_error_message(fault.text())
        });
        let partitions = partitions.collect();
        ReplicaElectionResult::default().with_partition_result(partitions).with_topic(topic.topic)
    });
    let results = topics.collect();
    Ok(context.reply(&ElectLeadersResponse::default().with_replica_election_results(results)))
}

pub(super) fn reassign(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: AlterPartitionReassignmentsRequest = context.decode(body)?;
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let response =
                ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
            match check_move(context, &topic.name, partition) {
                Ok(()) => response.with_error_message(None),
                Err(fault) => response.with_error_code(fault.code()).with_error_message(fault.text()),
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_partitions(partitions).with_name(topic.name)
    });
    let responses = topics.collect();
    Ok(context.reply(
        &AlterPartitionReassignmentsResponse::default().with_error_message(None).with_responses(responses),
    ))
}

fn check_move(context: &Context<'_>, topic: &str, partition: &ReassignablePartition) -> Result<(), Fault> {
    find_partition(context, topic, partition.partition_index).ok_or_else(unknown)?;
    let own = own_id(context);
    match &partition.replicas {
        // Where it is already.
        Some(replicas) if *replicas == [own] => Ok(()),
        Some(_) => {
            let why = format!("a partition can be on broker {} alone: there is no other", *own);
            Err(Fault::new(ResponseError::InvalidReplicaAssignment, why))
        }
        None => Err(Fault::new(ResponseError::NoReassignmentInProgress, "the partition is not being moved")),
    }
}

/// None is under way, ever.
pub(super) fn reassignments(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let _: ListPartitionReassignmentsRequest = context.decode(body)?;
    Ok(context.reply(&ListPartitionReassignmentsResponse::default().with_error_message(None)))
}

fn unknown() -> Fault {
    Fault::new(ResponseError::UnknownTopicOrPartition, "no such topic or partition")
}
