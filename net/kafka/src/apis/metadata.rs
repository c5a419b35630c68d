//! Metadata: brokers and topics, and making topics that are asked for and not there.

use bytes::Bytes;
use engine_api::{
    ClusterDescription, CreateTopic, DescribeTopics, OFFSETS_TOPIC, Request, Response, TopicDescription,
    TopicError, TopicId,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::topic_error;
use crate::operations;

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: MetadataRequest = context.decode(body)?;
    Ok(Plan::new(context, request).ask(context))
}

/// What the answer will hold.
#[derive(Debug, Default)]
struct Plan {
    /// Every topic there is.
    all: bool,
    /// What the client may do is to be told.
    cluster_operations: bool,
    topic_operations: bool,
    known: Vec<String>,
    missing: Vec<String>,
    refused: Vec<MetadataResponseTopic>,
}

impl Plan {
    fn new(context: &Context<'_>, request: MetadataRequest) -> Self {
        let mut plan = Self {
            cluster_operations: request.include_cluster_authorized_operations,
            topic_operations: request.include_topic_authorized_operations,
            ..Self::default()
        };
        let topics = match request.topics {
            // Before version 1 nobody could ask for none.
            Some(topics) if context.head.version > 0 || !topics.is_empty() => topics,
            Some(_) | None => return Self { all: true, ..plan },
        };
        let may_create = request.allow_auto_topic_creation && context.config.auto_create_topics;
        for topic in topics {
            match topic.name {
                Some(TopicName(name)) => plan.add(context, name, may_create),
                None => {
                    let id = TopicId(topic.topic_id.as_u128());
                    match context.catalog.topic_name(id) {
                        Some(name) => plan.known.push(name.to_owned()),
                        None => {
                            // Before version 12 an answer had to name its topics.
                            let name = (context.head.version < 12).then(StrBytes::new);
                            plan.refuse(name, topic.topic_id, ResponseError::UnknownTopicId);
                        }
                    }
                }
            }
        }
        // A topic is told of once, however often it was asked for.
        plan.known.sort_unstable();
        plan.known.dedup();
        plan.missing.sort_unstable();
        plan.missing.dedup();
        plan
    }

    fn add(&mut self, context: &Context<'_>, name: StrBytes, may_create: bool) {
        if context.catalog.find_topic(&name).is_some() {
            self.known.push(name.to_string());
        } else if !is_topic_name(&name) {
            self.refuse(Some(name), Uuid::nil(), ResponseError::InvalidTopicException);
        } else if may_create && *name != *OFFSETS_TOPIC {
            self.missing.push(name.to_string());
        } else {
            self.refuse(Some(name), Uuid::nil(), ResponseError::UnknownTopicOrPartition);
        }
    }

    fn refuse(&mut self, name: Option<StrBytes>, id: Uuid, error: ResponseError) {
        self.refused.push(refusal(name, id, error.code()));
    }

    fn ask(self, context: &mut Context<'_>) -> Outcome {
        let mut asks = vec![Request::DescribeCluster];
        let describes = self.all || !self.known.is_empty();
        if describes {
            asks.push(Request::DescribeTopics(DescribeTopics { names: self.known.clone() }));
        }
        asks.extend(self.missing.iter().map(|name| {
            Request::CreateTopic(CreateTopic {
                name: name.clone(),
                partitions: Some(context.config.partitions_default),
                replicas: Some(context.config.replicas_default),
                configs: Vec::new(),
            })
        }));
        context.gather(asks, move |context, answers| self.answer(context, answers))
    }

    fn answer(mut self, context: &mut Context<'_>, answers: Vec<Response>) -> Outcome {
        let mut cluster = None;
        let mut topics = std::mem::take(&mut self.refused);
        let mut made = self.missing.iter();
        for answer in answers {
            match answer {
                Response::DescribeCluster(described) => cluster = Some(described),
                Response::DescribeTopics(Ok(described)) => {
                    topics.extend(described.iter().map(describe));
                }
                Response::DescribeTopics(Err(TopicError::Unknown { name })) => {
                    // Deleted since it was looked up.
                    self.known.retain(|known| *known != name);
                    self.refused = topics;
                    self.refused.push(refusal(
                        Some(name.into()),
                        Uuid::nil(),
                        ResponseError::UnknownTopicOrPartition.code(),
                    ));
                    // Those made before are there now, or refused in the same way again.
                    return self.ask(context);
                }
                Response::DescribeTopics(Err(error)) => {
                    topics.extend(self.known.iter().map(|name| {
                        refusal(Some(name.clone().into()), Uuid::nil(), topic_error(&error).code())
                    }));
                }
                Response::CreateTopic(result) => {
                    let name = made.next().expect("one answer for each");
                    topics.push(created(context, name, result));
                }
                other => return Outcome::unexpected(&other),
            }
        }
        let cluster = cluster.expect("was asked for");
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = operations::told(self.topic_operations, operations::OF_TOPIC);
        }
        let response = response(context, &cluster, topics).with_cluster_authorized_operations(
            operations::told(self.cluster_operations, operations::OF_CLUSTER),
        );
        context.reply(&response)
    }
}

fn created(
    context: &Context<'_>,
    name: &str,
    result: Result<TopicDescription, TopicError>,
) -> MetadataResponseTopic {
    let code = match result {
        // Other cores may learn of it later than this answer arrives: the client asks again.
        Ok(topic) if context.catalog.find_topic(name).is_some() => return describe(&topic),
        Ok(_) | Err(TopicError::Exists { .. }) => ResponseError::LeaderNotAvailable,
        Err(error) => topic_error(&error),
    };
    refusal(Some(name.to_owned().into()), Uuid::nil(), code.code())
}

fn response(
    context: &Context<'_>,
    cluster: &ClusterDescription,
    topics: Vec<MetadataResponseTopic>,
) -> MetadataResponse {
    let brokers = brokers(context, cluster);
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_cluster_id(Some(format!("{:032x}", cluster.cluster_id).into()))
        .with_controller_id(broker_id(context.config.node.0))
        .with_topics(topics)
}

pub(crate) fn brokers(context: &Context<'_>, cluster: &ClusterDescription) -> Vec<MetadataResponseBroker> {
    let (own_host, own_port) = context.own_address();
    let others = cluster.nodes.iter().filter(|node| node.id != context.config.node).map(|node| {
        // They serve Kafka's clients on the same port as this one.
        let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host);
        (node.id, host.to_owned())
    });
    std::iter::once((context.config.node, own_host))
        .chain(others)
        .map(|(id, host)| {
            MetadataResponseBroker::default()
                .with_node_id(broker_id(id.0))
                .with_host(host.into())
                .with_port(i32::from(own_port))
                // Absent is null, which clients take less well than none.
                .with_rack(Some(StrBytes::new()))
        })
        .collect()
}

fn describe(topic: &TopicDescription) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(i32::try_from(partition.index).unwrap_or(i32::MAX))
            .with_leader_id(broker_id(partition.leader.0))
            .with_leader_epoch(i32::try_from(partition.leader_epoch.0).unwrap_or(i32::MAX))
            .with_replica_nodes(partition.replicas.iter().map(|node| broker_id(node.0)).collect())
            .with_isr_nodes(partition.in_sync.iter().map(|node| broker_id(node.0)).collect())
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(topic.name.clone().into())))
        .with_topic_id(Uuid::from_u128(topic.id.0))
        .with_is_internal(topic.name == OFFSETS_TOPIC)
        .with_partitions(partitions.collect())
}

fn refusal(name: Option<StrBytes>, id: Uuid, code: i16) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code).with_name(name.map(TopicName)).with_topic_id(id)
}

fn broker_id(node: u32) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap_or(i32::MAX))
}

/// 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
