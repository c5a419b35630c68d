//! ApiVersions, Metadata, InitProducerId.

use engine_api::{InitProducerError, Request, Response, TopicError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, MetadataRequest, MetadataResponse,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use uuid::Uuid;

use super::world::*;
use crate::api::all;

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
}

fn ask(names: &[&str], create: bool) -> MetadataRequest {
    let topics = names.iter().map(|name| named(name)).collect();
    MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(create)
}

fn codes(response: &MetadataResponse) -> Vec<(String, i16, usize)> {
    let topic = |topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        let name = topic.name.as_ref().map_or_else(String::new, |name| name.to_string());
        (name, topic.error_code, topic.partitions.len())
    };
    response.topics.iter().map(topic).collect()
}

#[test]
fn versions_are_told_exactly_as_they_are_served() {
    let mut world = World::new();
    let conn = world.connect();
    for version in 0..=4 {
        let response = world.call(conn, version, &ApiVersionsRequest::default());
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), all().count());
        for told in &response.api_keys {
            let api = all().find(|api| api.key as i16 == told.api_key).unwrap();
            assert_eq!((told.min_version, told.max_version), (api.advertised_min, api.version_max));
        }
        let produce = response.api_keys.iter().find(|told| told.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 11));
    }
}

#[test]
fn a_version_of_the_future_is_told_which_there_are() {
    let mut world = World::new();
    let conn = world.connect();
    // Its body is anything.
    world.feed(conn, &encode_raw(18, 77, 5, 2, &[9; 30]));
    let mut answer = world.answers(conn).remove(0);
    assert_eq!(i32::from_be_bytes(answer.split_to(4)[..].try_into().unwrap()), 5);
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert!(answer.is_empty());
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), all().count());
    world.call(conn, 3, &ApiVersionsRequest::default());
}

#[test]
fn metadata_tells_all_some_and_none_in_every_version() {
    let mut world = World::new();
    let id = world.add_topic("a", 3);
    world.add_topic("__consumer_offsets", 1);
    let conn = world.connect();
    for version in 0..=12 {
        let all = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
        let response = world.call(conn, version, &all);
        assert_eq!(codes(&response), [("__consumer_offsets".into(), 0, 1), ("a".into(), 0, 3)]);
        let broker = &response.brokers[0];
        assert_eq!((broker.node_id.0, &*broker.host, broker.port), (7, "127.0.0.1", 9092));
        let [internal, topic] = response.topics.as_slice() else { panic!() };
        assert_eq!((internal.is_internal, topic.is_internal), (version >= 1, false));
        let partition = &topic.partitions[2];
        assert_eq!((partition.partition_index, partition.leader_id.0, partition.error_code), (2, 7, 0));
        assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (1, 1));
        assert_eq!(partition.leader_epoch, if version >= 7 { 3 } else { -1 });
        assert_eq!(topic.topic_authorized_operations, i32::MIN);
        if version >= 1 {
            assert_eq!((response.controller_id.0, broker.rack.as_deref()), (7, Some("")));
            assert!(codes(&world.call(conn, version, &ask(&[], true))).is_empty());
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("00000000000000000000000000000abc"));
        }
        if version >= 10 {
            assert_eq!(topic.topic_id.as_u128(), id.0);
        }
        let some = world.call(conn, version, &ask(&["a", "a"], true));
        assert_eq!(codes(&some), [("a".into(), 0, 3)]);
    }
}

#[test]
fn a_missing_topic_is_made_when_both_sides_want_it() {
    let mut world = World::new();
    let conn = world.connect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    let response = world.call(conn, 4, &ask(&["new"], false));
    assert_eq!(codes(&response), [("new".into(), unknown, 0)]);
    let response = world.call(conn, 4, &ask(&["new"], true));
    assert_eq!(codes(&response), [("new".into(), 0, 2)]);
    // Before version 4 clients could not say that they do not want it.
    let response = world.call(conn, 3, &ask(&["newer"], true));
    assert_eq!(codes(&response), [("newer".into(), 0, 2)]);
    let response = world.call(conn, 4, &ask(&["__consumer_offsets"], true));
    assert_eq!(codes(&response), [("__consumer_offsets".into(), unknown, 0)]);

    let mut world = World::with(crate::ServerConfig { auto_create_topics: false, ..config() });
    let conn = world.connect();
    let response = world.call(conn, 4, &ask(&["new"], true));
    assert_eq!(codes(&response), [("new".into(), unknown, 0)]);
}

#[test]
fn a_name_that_no_topic_may_have_is_never_made() {
    let mut world = World::new();
    let conn = world.connect();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "\u{e4}", "a:b", &long] {
        let response = world.call(conn, 12, &ask(&[name], true));
        assert_eq!(codes(&response), [(name.into(), ResponseError::InvalidTopicException.code(), 0)]);
    }
    assert!(!world.asked.iter().any(|asked| matches!(asked, Request::CreateTopic(_))));
}

#[test]
fn a_topic_is_found_by_its_id() {
    let mut world = World::new();
    let id = world.add_topic("a", 1);
    let conn = world.connect();
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(id));
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    assert_eq!(codes(&world.call(conn, 12, &by_id(id.0))), [("a".into(), 0, 1)]);
    let response = world.call(conn, 12, &by_id(5));
    assert_eq!(codes(&response), [(String::new(), ResponseError::UnknownTopicId.code(), 0)]);
}

#[test]
fn topics_that_come_and_go_meanwhile_are_told_as_they_are() {
    let mut world = World::new();
    world.add_topic("a", 1);
    world.add_topic("b", 1);
    let conn = world.connect();
    // Deleted after it was looked up.
    world.holds = true;
    world.send(conn, 12, &ask(&["a", "b"], true));
    let asks = world.open.clone();
    let gone = TopicError::Unknown { name: "a".into() };
    world.holds = false;
    for (key, request) in asks {
        if matches!(request, Request::DescribeTopics(_)) {
            world.answer(key, Response::DescribeTopics(Err(gone.clone())));
        } else {
            world.holds = false;
            world.open.retain(|(other, _)| *other == key);
            world.release();
        }
    }
    let (_, response) = decode::<MetadataRequest>(12, world.answers(conn).remove(0));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(codes(&response), [("a".into(), unknown, 0), ("b".into(), 0, 1)]);
}

#[test]
fn who_cannot_make_a_topic_says_why() {
    for (error, code) in [
        (TopicError::Exists { name: "x".into() }, ResponseError::LeaderNotAvailable),
        (TopicError::NotReady, ResponseError::LeaderNotAvailable),
        (TopicError::NoSpace, ResponseError::KafkaStorageError),
        (TopicError::Replicas { why: "1 node".into() }, ResponseError::InvalidReplicationFactor),
    ] {
        let mut world = World::new();
        let conn = world.connect();
        world.holds = true;
        world.send(conn, 8, &ask(&["x"], true));
        let (key, _) = world.open.iter().find(|(_, asked)| matches!(asked, Request::CreateTopic(_))).unwrap();
        world.answer(*key, Response::CreateTopic(Err(error)));
        world.release();
        let (_, response) = decode::<MetadataRequest>(8, world.answers(conn).remove(0));
        assert_eq!(codes(&response), [("x".into(), code.code(), 0)]);
    }
}

#[test]
fn the_advertised_address_is_told_when_there_is_one() {
    let advertise = Some(("broker.example".to_owned(), 1234));
    let mut world = World::with(crate::ServerConfig { advertise, ..config() });
    let conn = world.connect();
    let response = world.call(conn, 1, &ask(&[], true));
    assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("broker.example", 1234));
    // What was reached, else, be it IPv6.
    let mut world = World::new();
    let local = "[::1]:9092".parse().unwrap();
    let conn = world.server.open(world.now, "[::1]:5".parse().unwrap(), local).unwrap();
    let response = world.call(conn, 1, &ask(&[], true));
    assert_eq!(&*response.brokers[0].host, "::1");
}

#[test]
fn producers_get_ids_but_transactions_are_refused_for_good() {
    let mut world = World::new();
    let conn = world.connect();
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    for version in 0..=4 {
        let response = world.call(conn, version, &init);
        assert_eq!((response.error_code, response.producer_id.0, response.producer_epoch), (0, 4711, 0));
        let transactional = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("t"))));
        let response = world.call(conn, version, &transactional);
        assert_eq!(response.error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
        assert_eq!(response.producer_id.0, -1);
    }
    world.scripted.push_back(Response::InitProducer(Err(InitProducerError::NotReady)));
    let response = world.call(conn, 4, &init);
    assert_eq!(response.error_code, ResponseError::CoordinatorNotAvailable.code());
}
