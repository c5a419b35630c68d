//! The cluster, its disks and replicas, and SASL.

use bytes::Bytes;
use engine_api::{DescribeTopics, Request, Response, TopicError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeClusterRequest, DescribeLogDirsRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};

use crate::operations;

use super::{call, name, not_asked, text, unwilling, willing, world};
use crate::tests::world::NODE;

fn own() -> BrokerId {
    BrokerId(NODE.0 as i32)
}

#[test]
fn the_cluster_is_described_as_the_client_reaches_it() {
    for version in 0..=1 {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let (response, _) = call(&mut world(), version, &request, willing);
        assert_eq!((response.error_code, response.controller_id), (0, own()));
        assert_eq!(&*response.cluster_id, "00000000000000000000000000000abc");
        let broker = &response.brokers[0];
        assert_eq!((broker.broker_id, &*broker.host, broker.port), (own(), "127.0.0.1", 9092));
        assert_ne!(response.cluster_authorized_operations, i32::MIN);
    }
    let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    let (response, _) = call(&mut world(), 1, &controllers, not_asked);
    assert_eq!(response.error_code, ResponseError::UnsupportedEndpointType.code());
}

#[test]
fn what_the_client_may_do_is_told_when_it_asks() {
    for version in 8..=10 {
        for asks in [false, true] {
            let request = MetadataRequest::default()
                .with_topics(None)
                .with_include_cluster_authorized_operations(asks)
                .with_include_topic_authorized_operations(asks);
            let (response, _) = call(&mut world(), version, &request, willing);
            let told =
                [response.cluster_authorized_operations, response.topics[0].topic_authorized_operations];
            let expect = if asks { [operations::OF_CLUSTER, operations::OF_TOPIC] } else { [i32::MIN; 2] };
            assert_eq!(told, expect);
        }
    }
}

#[test]
fn the_quorum_is_this_node() {
    let topic = |topic: &str| {
        let partitions = vec![PartitionData::default()];
        TopicData::default().with_topic_name(name(topic)).with_partitions(partitions)
    };
    let request = DescribeQuorumRequest::default().with_topics(vec![topic("__cluster_metadata"), topic("x")]);
    for version in 0..=2 {
        let (response, _) = call(&mut world(), version, &request, willing);
        let metadata = &response.topics[0].partitions[0];
        assert_eq!((metadata.error_code, metadata.leader_id, metadata.leader_epoch), (0, own(), 4));
        assert_eq!(metadata.current_voters[0].log_end_offset, metadata.high_watermark);
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(response.topics[1].partitions[0].error_code, unknown);
        assert_eq!(response.nodes.len(), usize::from(version >= 2));
    }
}

#[test]
fn logs_of_all_cores_are_in_one_directory() {
    for version in 1..=4 {
        let (response, _) =
            call(&mut world(), version, &DescribeLogDirsRequest::default().with_topics(None), willing);
        let directory = &response.results[0];
        assert_eq!((directory.error_code, &*directory.log_dir), (0, "data"));
        let sizes: Vec<(i32, i64)> = directory.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.partition_size))
            .collect();
        assert_eq!((&*directory.topics[0].name.0, sizes), ("orders", vec![(0, 0), (1, 11), (2, 20)]));
        let some = DescribableLogDirTopic::default().with_topic(name("orders")).with_partitions(vec![2, 7]);
        let some = DescribeLogDirsRequest::default().with_topics(Some(vec![some]));
        let (response, _) = call(&mut world(), version, &some, willing);
        assert_eq!(response.results[0].topics[0].partitions.len(), 1);
        let (response, _) = call(&mut world(), version, &some, unwilling);
        assert_eq!(response.results[0].error_code, ResponseError::LeaderNotAvailable.code());
    }
}

fn pages(topics: &[&str], limit: i32) -> DescribeTopicPartitionsRequest {
    let topics = topics.iter().map(|topic| TopicRequest::default().with_name(name(topic)));
    DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
}

#[test]
fn topics_are_described_in_pages_that_together_are_all_of_them() {
    let mut request = pages(&[], 2);
    let mut told = Vec::new();
    for _ in 0..4 {
        let (response, _) = call(&mut world(), 0, &request, willing);
        let count: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
        assert!(count <= 2);
        for topic in &response.topics {
            let name = topic.name.as_ref().unwrap().to_string();
            told.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
        }
        let Some(cursor) = response.next_cursor else { break };
        let cursor =
            Cursor::default().with_topic_name(cursor.topic_name).with_partition_index(cursor.partition_index);
        request = request.with_cursor(Some(cursor));
    }
    let expect = [("orders", 0), ("orders", 1), ("orders", 2), ("users", 0), ("users", 1)];
    assert_eq!(told, expect.map(|(name, index)| (name.to_owned(), index)));
}

#[test]
fn topics_that_are_not_there_are_told_beside_those_that_are() {
    let request = pages(&["orders", "gone", "orders"], 2000);
    let (response, asks) = call(&mut world(), 0, &request, |ask| match ask {
        Request::DescribeTopics(DescribeTopics { names }) if names[0] == "gone" => {
            Response::DescribeTopics(Err(TopicError::Unknown { name: "gone".into() }))
        }
        other => willing(other),
    });
    assert_eq!(asks.len(), 2, "each is asked about once");
    let [gone, orders] = &response.topics[..] else { panic!("{response:?}") };
    assert_eq!(gone.error_code, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!((gone.name.as_ref(), orders.partitions.len()), (Some(&name("gone")), 3));
    assert_eq!((orders.partitions[0].leader_id, orders.partitions[0].leader_epoch), (own(), 3));
    assert!(response.next_cursor.is_none());
}

#[test]
fn a_partition_with_one_replica_has_its_leader_and_its_place() {
    let partitions = TopicPartitions::default().with_topic(name("orders")).with_partitions(vec![0, 3]);
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for version in 0..=2 {
        let some = ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions.clone()]));
        let (response, _) = call(&mut world(), version, &some, not_asked);
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ResponseError::ElectionNotNeeded.code(), unknown]);
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        assert!(call(&mut world(), version, &all, not_asked).0.replica_election_results.is_empty());
    }
    let to = |index, replicas: Option<Vec<BrokerId>>| {
        ReassignablePartition::default().with_partition_index(index).with_replicas(replicas)
    };
    let partitions =
        vec![to(0, Some(vec![own()])), to(1, Some(vec![BrokerId(8)])), to(2, None), to(3, Some(vec![own()]))];
    let topic = ReassignableTopic::default().with_name(name("orders")).with_partitions(partitions);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let (response, _) = call(&mut world(), 0, &request, not_asked);
    let codes: Vec<i16> = response.responses[0].partitions.iter().map(|told| told.error_code).collect();
    let told = &response.responses[0].partitions[0];
    assert_eq!((&response.error_message, &told.error_message), (&None, &None));
    let (invalid, idle) = (ResponseError::InvalidReplicaAssignment, ResponseError::NoReassignmentInProgress);
    assert_eq!(codes, [0, invalid.code(), idle.code(), unknown]);
    let (response, _) = call(&mut world(), 0, &ListPartitionReassignmentsRequest::default(), not_asked);
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}

#[test]
fn no_sasl_mechanism_is_enabled() {
    for version in 0..=1 {
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        let (response, _) = call(&mut world(), version, &request, not_asked);
        assert_eq!(response.error_code, ResponseError::UnsupportedSaslMechanism.code());
        assert!(response.mechanisms.is_empty());
    }
    for version in 0..=2 {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0me\0secret"));
        let (response, _) = call(&mut world(), version, &request, not_asked);
        assert_eq!(response.error_code, ResponseError::IllegalSaslState.code());
        assert!(response.error_message.unwrap().contains("PLAINTEXT"));
    }
}
