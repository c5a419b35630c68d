//! DescribeCluster and DescribeQuorum: the nodes, and who decides on metadata.

use bytes::Bytes;
use engine_api::{ClusterDescription, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, DescribeQuorumResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::apis::metadata;
use crate::codec::Malformed;
use crate::context::Context;
use crate::operations;

use super::own_id;

/// The nodes as clients reach them; the other kind is controllers.
const BROKERS: i8 = 1;

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn describe(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DescribeClusterRequest = context.decode(body)?;
    if asked.endpoint_type != BROKERS {
        let refusal = DescribeClusterResponse::default()
            .with_error_code(ResponseError::UnsupportedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str("this endpoint is a broker's")));
        return Ok(context.reply(&refusal));
    }
    let operations = operations::told(asked.include_cluster_authorized_operations, operations::OF_CLUSTER);
    Ok(with_cluster(context, move |context, cluster| {
        let brokers = metadata::brokers(context, cluster).into_iter().map(|broker| {
            DescribeClusterBroker::default()
                .with_broker_id(broker.node_id)
                .with_host(broker.host)
                .with_port(broker.port)
        });
        let response = DescribeClusterResponse::default()
            .with_cluster_id(format!("{:032x}", cluster.cluster_id).into())
            .with_controller_id(own_id(context))
            .with_brokers(brokers.collect())
            .with_cluster_authorized_operations(operations);
        context.reply(&response)
    }))
}

/// Metadata as tools look at it: one voter, whose log ends with the last change.
pub(super) fn quorum(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DescribeQuorumRequest = context.decode(body)?;
    Ok(with_cluster(context, move |context, cluster| {
        let own = cluster.nodes.iter().find(|node| node.id == context.config.node);
        let epoch = own.map_or(0, |node| i32::try_from(node.incarnation).unwrap_or(i32::MAX));
        let end = i64::try_from(context.catalog.version()).unwrap_or(i64::MAX);
        let topics = asked.topics.into_iter().map(|topic| {
            let is_known = *topic.topic_name.0 == *METADATA_TOPIC;
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                if !is_known || index != 0 {
                    return PartitionData::default()
                        .with_error_message(None)
                        .with_partition_index(index)
                        .with_error_code(ResponseError::UnknownTopicOrPartition.code());
                }
                let voter = ReplicaState::default().with_replica_id(own_id(context)).with_log_end_offset(end);
                PartitionData::default()
                    .with_error_message(None)
                    .with_partition_index(0)
                    .with_leader_id(own_id(context))
                    .with_leader_epoch(epoch)
                    .with_high_watermark(end)
                    .with_current_voters(vec![voter])
            });
            TopicData::default().with_partitions(partitions.collect()).with_topic_name(topic.topic_name)
        });
        let response =
            DescribeQuorumResponse::default().with_error_message(None).with_topics(topics.collect());
        // Who the voters are is told since version 2.
        if context.head.version < 2 {
            return context.reply(&response);
        }
        let nodes = metadata::brokers(context, cluster).into_iter().map(|broker| {
            let listener = Listener::default()
                .with_name(StrBytes::from_static_str("CONTROLLER"))
                .with_host(broker.host)
                .with_port(u16::try_from(broker.port).unwrap_or(0));
            Node::default().with_node_id(broker.node_id).with_listeners(vec![listener])
        });
        context.reply(&response.with_nodes(nodes.collect()))
    }))
}

fn with_cluster(
    context: &mut Context<'_>,
    then: impl FnOnce(&Context<'_>, &ClusterDescription) -> Outcome + Send + 'static,
) -> Outcome {
    context.gather(vec![Request::DescribeCluster], move |context, answers| {
        match answers.into_iter().next().expect("one answer to one question") {
            Response::DescribeCluster(cluster) => then(context, &cluster),
            other => Outcome::unexpected(&other),
        }
    })
}
