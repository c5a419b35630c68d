//! Topics and records.

use engine_api::{
    AlterTopic, CheckTopic, DeleteRecords, DeleteRecordsError, DeleteTopic, FoundOffset, OFFSETS_TOPIC,
    Place, Request, Response, TopicError, TopicId,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
};
use storage_frame::Offset;
use uuid::Uuid;

use super::{call, name, not_asked, text, unwilling, willing, world};
use crate::tests::world::{Chance, NODE, encode};

fn new_topic(topic: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics)
}

fn by_hand(topic: &str, partitions: &[(i32, u32)]) -> CreatableTopic {
    let assignments = partitions.iter().map(|(index, node)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(vec![BrokerId(*node as i32)])
    });
    new_topic(topic, -1, -1).with_assignments(assignments.collect())
}

#[test]
fn topics_are_made_with_what_is_asked_or_the_defaults() {
    let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
    for version in 2..=7 {
        let request =
            create(vec![new_topic("a", 4, 1).with_configs(vec![config.clone()]), new_topic("b", -1, -1)]);
        let (response, asks) = call(&mut world(), version, &request, willing);
        let [Request::CreateTopic(a), Request::CreateTopic(b)] = &asks[..] else { panic!("asks {asks:?}") };
        assert_eq!((a.partitions, a.replicas), (Some(4), Some(1)));
        assert_eq!(a.configs, [("retention.ms".to_owned(), "5".to_owned())]);
        // The world's num.partitions.
        assert_eq!((b.partitions, b.replicas), (Some(2), Some(1)));
        let made = &response.topics[0];
        assert_eq!((made.error_code, made.error_message.as_ref()), (0, None));
        if version >= 5 {
            assert_eq!((made.num_partitions, made.replication_factor), (4, 1));
            let configs = made.configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| *config.name == *"retention.ms").unwrap();
            assert_eq!((retention.config_source, retention.read_only), (1, false));
            assert_eq!(configs.iter().filter(|config| config.config_source == 5).count(), configs.len() - 1);
        }
        assert_eq!(made.topic_id.is_nil(), version < 7);
    }
}

#[test]
fn topics_that_are_only_checked_are_not_made() {
    let request = create(vec![new_topic("a", 4, 1)]).with_validate_only(true);
    for version in 2..=7 {
        let (response, asks) = call(&mut world(), version, &request, willing);
        assert!(matches!(&asks[..], [Request::CheckTopic(CheckTopic::Create(_))]));
        assert_eq!(response.topics[0].error_code, 0);
        assert!(response.topics[0].topic_id.is_nil());
    }
}

#[test]
fn topics_that_make_no_sense_are_refused_one_by_one() {
    let own = NODE.0;
    let no_value = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(None);
    let request = create(vec![
        new_topic("good", 1, 1),
        new_topic("twice", 1, 1),
        new_topic("twice", 2, 1),
        new_topic("none", 0, 1),
        new_topic("unreplicated", 1, 0),
        new_topic(OFFSETS_TOPIC, 1, 1),
        new_topic("unset", 1, 1).with_configs(vec![no_value]),
        by_hand("by-hand", &[(1, own), (0, own)]),
        by_hand("elsewhere", &[(0, own + 1)]),
        by_hand("gap", &[(0, own), (2, own)]),
        by_hand("both", &[(0, own)]).with_num_partitions(1),
    ]);
    let (response, asks) = call(&mut world(), 7, &request, willing);
    let asked: Vec<_> = asks
        .iter()
        .map(|ask| match ask {
            Request::CreateTopic(create) => (create.name.as_str(), create.partitions, create.replicas),
            other => panic!("asks {other:?}"),
        })
        .collect();
    assert_eq!(asked, [("good", Some(1), Some(1)), ("by-hand", Some(2), Some(1))]);
    let mut told: Vec<_> = response.topics.iter().map(|t| (t.name.to_string(), t.error_code)).collect();
    told.sort();
    let mut expect = [
        (OFFSETS_TOPIC, ResponseError::InvalidTopicException.code()),
        ("both", ResponseError::InvalidRequest.code()),
        ("by-hand", 0),
        ("elsewhere", ResponseError::InvalidReplicaAssignment.code()),
        ("gap", ResponseError::InvalidReplicaAssignment.code()),
        ("good", 0),
        ("none", ResponseError::InvalidPartitions.code()),
        ("twice", ResponseError::InvalidRequest.code()),
        ("unreplicated", ResponseError::InvalidReplicationFactor.code()),
        ("unset", ResponseError::InvalidConfig.code()),
    ]
    .map(|(name, code)| (name.to_owned(), code));
    expect.sort();
    assert_eq!(told, expect);
    assert!(response.topics.iter().all(|t| (t.error_code == 0) == t.error_message.is_none()));
}

#[test]
fn the_engines_reason_is_what_the_client_is_shown() {
    let exists = |_: &Request| Response::CreateTopic(Err(TopicError::Exists { name: "a".into() }));
    let (response, _) = call(&mut world(), 4, &create(vec![new_topic("a", 1, 1)]), exists);
    assert_eq!(response.topics[0].error_code, ResponseError::TopicAlreadyExists.code());
    assert_eq!(response.topics[0].error_message, Some(text("topic 'a' exists already")));
}

#[test]
fn topics_are_deleted_by_name() {
    let names = vec![name("orders"), name("gone"), name(OFFSETS_TOPIC), name("users"), name("users")];
    let request = DeleteTopicsRequest::default().with_topic_names(names);
    for version in 1..=5 {
        let (response, asks) = call(&mut world(), version, &request, |ask| match ask {
            Request::DeleteTopic(DeleteTopic { name, id: None }) if name == "gone" => {
                Response::DeleteTopic(Err(TopicError::Unknown { name: name.clone() }))
            }
            _ => Response::DeleteTopic(Ok(())),
        });
        assert_eq!(asks.len(), 2);
        let codes: Vec<i16> = response.responses.iter().map(|told| told.error_code).collect();
        let (unknown, internal, twice) = (
            ResponseError::UnknownTopicOrPartition,
            ResponseError::InvalidTopicException,
            ResponseError::InvalidRequest,
        );
        assert_eq!(codes, [0, unknown.code(), internal.code(), twice.code(), twice.code()]);
        assert_eq!(response.responses[1].name, Some(name("gone")));
        assert_eq!(response.responses[1].error_message.is_some(), version >= 5);
    }
}

#[test]
fn topics_are_deleted_by_id() {
    let mut world = world();
    let id = Uuid::from_u128(world.topics.topics["users"].id.0);
    let unknown = Uuid::from_u128(5);
    let state = |name, id| DeleteTopicState::default().with_name(name).with_topic_id(id);
    let states = vec![
        state(None, id),
        state(Some(name("orders")), Uuid::nil()),
        state(None, unknown),
        state(Some(name("orders")), id),
    ];
    let request = DeleteTopicsRequest::default().with_topics(states);
    let (response, asks) = call(&mut world, 6, &request, willing);
    let delete = |name: &str, id| Request::DeleteTopic(DeleteTopic { name: name.into(), id });
    assert_eq!(asks, [delete("users", Some(TopicId(id.as_u128()))), delete("orders", None)]);
    let [users, orders, nobody, both] = &response.responses[..] else { panic!("{response:?}") };
    assert_eq!((&users.name, users.topic_id, users.error_code), (&Some(name("users")), id, 0));
    assert_eq!((&orders.name, orders.topic_id.is_nil()), (&Some(name("orders")), false));
    assert_eq!((&nobody.name, nobody.error_code), (&None, ResponseError::UnknownTopicId.code()));
    assert_eq!((nobody.topic_id, both.error_code), (unknown, ResponseError::InvalidRequest.code()));
}

/// Deleted by another client and made again while this one was on its way.
#[test]
fn a_topic_that_took_the_name_of_the_one_asked_for_by_id_is_left_alone() {
    let mut world = world();
    let id = Uuid::from_u128(world.topics.topics["users"].id.0);
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![DeleteTopicState::default().with_name(None).with_topic_id(id)]);
    let (response, _) = call(&mut world, 6, &request, |_| {
        Response::DeleteTopic(Err(TopicError::Unknown { name: "users".into() }))
    });
    let [told] = &response.responses[..] else { panic!("{response:?}") };
    assert_eq!((&told.name, told.topic_id), (&None, id));
    assert_eq!(told.error_code, ResponseError::UnknownTopicId.code());
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let grow = |topic: &str, count| {
        CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
    };
    let at = |node: u32| CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(node as i32)]);
    let own = NODE.0;
    let cases = [
        (grow("orders", 5), 0),
        (grow("orders", 3), ResponseError::InvalidPartitions.code()),
        (grow("orders", -1), ResponseError::InvalidPartitions.code()),
        (grow("gone", 5), ResponseError::UnknownTopicOrPartition.code()),
        (grow(OFFSETS_TOPIC, 60), ResponseError::InvalidTopicException.code()),
        (grow("orders", 4).with_assignments(Some(vec![at(own)])), 0),
        (
            grow("orders", 5).with_assignments(Some(vec![at(own)])),
            ResponseError::InvalidReplicaAssignment.code(),
        ),
        (
            grow("orders", 4).with_assignments(Some(vec![at(own + 1)])),
            ResponseError::InvalidReplicaAssignment.code(),
        ),
    ];
    for version in 0..=3 {
        for (topic, code) in &cases {
            let request = CreatePartitionsRequest::default().with_topics(vec![topic.clone()]);
            let (response, asks) = call(&mut world(), version, &request, willing);
            assert_eq!((response.results.len(), response.results[0].error_code), (1, *code), "{topic:?}");
            assert_eq!(response.results[0].error_message.is_none(), *code == 0);
            assert_eq!(asks.len(), usize::from(*code == 0));
        }
    }
    let both = vec![grow("orders", 5), grow("users", 3)];
    let request = CreatePartitionsRequest::default().with_topics(both).with_validate_only(true);
    let (response, asks) = call(&mut world(), 3, &request, willing);
    assert_eq!(response.results.len(), 2);
    let alter =
        AlterTopic { name: "orders".into(), partitions: Some(5), configs: Vec::new(), based_on: None };
    assert_eq!(asks[0], Request::CheckTopic(CheckTopic::Alter(alter)));
    let twice = vec![grow("orders", 5), grow("orders", 6)];
    let (response, _) =
        call(&mut world(), 3, &CreatePartitionsRequest::default().with_topics(twice), not_asked);
    assert_eq!(response.results[0].error_code, ResponseError::InvalidRequest.code());
}

#[test]
fn records_are_deleted_up_to_an_offset_or_the_end() {
    let partition =
        |index, offset| DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
    let topic = |topic: &str, partitions| {
        DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(partitions)
    };
    let request = DeleteRecordsRequest::default().with_topics(vec![
        topic("orders", vec![partition(0, 5), partition(1, -1), partition(2, 99), partition(3, 0)]),
        topic(OFFSETS_TOPIC, vec![partition(0, -1)]),
        topic("users", vec![partition(0, -2)]),
    ]);
    for version in 0..=2 {
        let (response, asks) = call(&mut world(), version, &request, |ask| match ask {
            Request::FindOffset(find) => {
                assert_eq!((find.partition.index, find.place), (1, Place::End));
                Response::FindOffset(Ok(FoundOffset {
                    offset: Offset(40),
                    timestamp: None,
                    log_start: Offset(0),
                    high_watermark: Offset(40),
                }))
            }
            Request::DeleteRecords(DeleteRecords { before: Offset(99), .. }) => {
                Response::DeleteRecords(Err(DeleteRecordsError::OffsetOutOfRange {
                    asked: Offset(99),
                    log_start: Offset(0),
                    high_watermark: Offset(40),
                }))
            }
            Request::DeleteRecords(delete) => Response::DeleteRecords(Ok(delete.before)),
            other => panic!("asks {other:?}"),
        });
        assert_eq!(asks.len(), 4);
        let told = |index: usize| -> Vec<(i64, i16)> {
            let partitions = response.topics[index].partitions.iter();
            partitions.map(|told| (told.low_watermark, told.error_code)).collect()
        };
        let out = ResponseError::OffsetOutOfRange.code();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(told(0), [(5, 0), (40, 0), (-1, out), (-1, unknown)]);
        assert_eq!(told(1), [(-1, ResponseError::InvalidTopicException.code())]);
        assert_eq!(told(2), [(-1, out)]);
    }
}

#[test]
fn refusals_can_be_said_in_every_version() {
    for version in 2..=7 {
        let (response, _) = call(&mut world(), version, &create(vec![new_topic("a", 1, 1)]), unwilling);
        assert_eq!(response.topics[0].error_code, ResponseError::KafkaStorageError.code());
    }
    for version in 1..=5 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]);
        call(&mut world(), version, &request, unwilling);
    }
}

#[test]
fn mutated_requests_are_answered_or_end_their_connection_alone() {
    let mut chance = Chance(12);
    let mut world = world();
    world.holds = true;
    for round in 0..2000 {
        let version = 2 + chance.below(6) as i16;
        let partition = DeleteRecordsPartition::default().with_offset(3);
        let records =
            DeleteRecordsTopic::default().with_name(name("orders")).with_partitions(vec![partition]);
        let mut bytes = match round % 3 {
            0 => encode(version, 1, &create(vec![by_hand("a", &[(0, NODE.0)]), new_topic("b", 1, 1)])),
            1 => {
                let names = vec![name("orders"), name("users")];
                encode(version.min(5), 1, &DeleteTopicsRequest::default().with_topic_names(names))
            }
            _ => encode(version.min(2), 1, &DeleteRecordsRequest::default().with_topics(vec![records])),
        };
        // Not the size and not the key.
        for _ in 0..=chance.below(3) {
            let place = 8 + chance.below(bytes.len() - 8);
            bytes[place] = chance.next() as u8;
        }
        let conn = world.connect();
        world.feed(conn, &bytes);
        while let Some((key, request)) = world.open.first().cloned() {
            let answer = match &request {
                Request::DeleteRecords(delete) => Response::DeleteRecords(Ok(delete.before)),
                other => willing(other),
            };
            world.answer(key, answer);
        }
        assert!(world.server.is_closing(conn) || !world.sent(conn).is_empty(), "round {round}");
        world.server.ended(world.now, conn);
        while world.server.poll_event().is_some() {}
    }
}
