//! Requests of Kafka's clients, as steps of the target: head, body, the broker's answer, sending.

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, GroupId, InitProducerIdRequest, JoinGroupRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use storage_frame::TimestampMs;
use storage_recordbatch::{BatchBuilder, BatchFields, Compression};

pub(super) fn kafka() -> Vec<Vec<u8>> {
    let session = [
        step(3, &ApiVersionsRequest::default()),
        step(9, &metadata()),
        step(1, &InitProducerIdRequest::default().with_transactional_id(None)),
        step(7, &produce(-1)),
        step(7, &list_offsets()),
        step(12, &fetch(0)),
        step(11, &fetch(1)),
        step(5, &join()),
    ];
    // All of it at once and in order, one at a time in other versions, two clients with a pause and an end between.
    vec![
        session.concat(),
        [step(4, &metadata()), step(3, &produce(1)), step(4, &fetch(1)), step(11, &produce(0))].concat(),
        [
            &step(12, &fetch(1))[..],
            &[0x80, 1, 6, 0, b'G', b'E', b'T', b' ', b'/', b' ', 6, 0, 1, 6, 1, 2, 6, 0, 3, 6, 0, 0, 255],
            &step(9, &produce(1)),
        ]
        .concat(),
    ]
}

/// The request, its answers, and as much of them sent as there is.
fn step<R: Request>(version: u8, request: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    request.encode(&mut body, version.into()).expect("can be said in this version");
    let is_flexible = R::header_version(version.into()) >= 2;
    let key = u8::try_from(R::KEY).expect("keys are small");
    let mut step = vec![2, 0, key, version, u8::from(!is_flexible)];
    step.extend(u16::try_from(body.len()).expect("samples are small").to_le_bytes());
    step.extend(body);
    step.extend([4, 0, 0, 0, 5, 0, 0xff, 0xff]);
    step
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn metadata() -> MetadataRequest {
    let missing = TopicName(StrBytes::from_static_str("missing"));
    let topics = [topic(), missing].map(|name| MetadataRequestTopic::default().with_name(Some(name)));
    MetadataRequest::default().with_topics(Some(topics.into()))
}

fn produce(acks: i16) -> ProduceRequest {
    let mut batch = BatchBuilder::new();
    batch.push(0, TimestampMs(1), Some(b"k"), Some(b"v"), []).expect("small");
    batch.push(1, TimestampMs(2), None, None, [("h", Some(&b"x"[..]))]).expect("small");
    let records = batch.seal(Compression::None, &BatchFields::UNASSIGNED);
    let data = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

fn fetch(wait_ms: i32) -> FetchRequest {
    let partitions = (0..2).map(|index| {
        FetchPartition::default().with_partition(index).with_fetch_offset(3).with_partition_max_bytes(1000)
    });
    let topic = FetchTopic::default().with_topic(topic()).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(10_000)
        .with_topics(vec![topic])
}

fn list_offsets() -> ListOffsetsRequest {
    let partitions = [-1, -2, -3, 5].map(|at| ListOffsetsPartition::default().with_timestamp(at));
    let topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(partitions.into());
    ListOffsetsRequest::default().with_topics(vec![topic])
}

fn join() -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(6000)
        .with_protocols(vec![protocol])
}
