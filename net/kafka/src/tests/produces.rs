//! Produce: what is stored, what is refused, and how it is told.

use bytes::Bytes;
use engine_api::{Acks, ProduceError, Produced, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use storage_frame::{Offset, TimestampMs};
use storage_recordbatch::{BatchBuilder, BatchFields, Compression};

use super::world::*;

pub(super) fn produce_request(topic: &str, partition: i32, times: &[i64], acks: i16) -> ProduceRequest {
    produce_bytes(topic, partition, batch(times, Compression::None), acks)
}

fn produce_bytes(topic: &str, partition: i32, records: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

#[track_caller]
fn produce(world: &mut World, version: i16, request: &ProduceRequest) -> PartitionProduceResponse {
    let conn = world.connect();
    let response = world.call(conn, version, request);
    response.responses[0].partition_responses[0].clone()
}

#[track_caller]
fn check_refused(request: &ProduceRequest, version: i16, error: ResponseError) {
    let mut world = World::new();
    world.add_topic("a", 1);
    let response = produce(&mut world, version, request);
    assert_eq!(response.error_code, error.code(), "{response:?}");
    assert_eq!(response.base_offset, -1);
    assert!(!world.asked.iter().any(|asked| matches!(asked, Request::Produce(_))), "nothing was asked");
}

#[test]
fn batches_are_stored_as_they_are_in_every_version_codec_and_acks() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for version in 3..=11 {
        for codec in codecs.into_iter().filter(|codec| version >= 7 || *codec != Compression::Zstd) {
            for (acks, expected) in [(1, Acks::Leader), (-1, Acks::All)] {
                let mut world = World::new();
                world.add_topic("a", 2);
                let sent = batch(&[5, 6, 7], codec);
                let response = produce(&mut world, version, &produce_bytes("a", 1, sent.clone(), acks));
                assert_eq!((response.error_code, response.base_offset, response.index), (0, 0, 1));
                let Request::Produce(asked) = &world.asked[0] else { panic!() };
                assert_eq!((asked.acks, asked.frame.payload()), (expected, &sent));
                assert_eq!(world.log("a", 1).end(), Offset(3));
            }
        }
    }
}

#[test]
fn without_acks_there_is_no_answer_and_an_error_ends_the_connection() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let conn = world.connect();
    world.send(conn, 7, &produce_request("a", 0, &[1], 0));
    assert!(matches!(&world.asked[0], Request::Produce(produce) if produce.acks == Acks::None));
    world.send(conn, 7, &produce_request("a", 0, &[2], 1));
    let answers = world.answers(conn);
    assert_eq!(answers.len(), 1, "only the second is answered");
    let (_, response) = decode::<ProduceRequest>(7, answers[0].clone());
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
    world.send(conn, 7, &produce_request("nothing", 0, &[1], 0));
    world.assert_closed(conn, "produce_without_acks_failed");
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    let good = || batch(&[1], Compression::None);
    check_refused(&produce_request("nothing", 0, &[1], 1), 7, ResponseError::UnknownTopicOrPartition);
    check_refused(&produce_request("a", 1, &[1], 1), 7, ResponseError::UnknownTopicOrPartition);
    check_refused(&produce_request("a", -1, &[1], 1), 7, ResponseError::UnknownTopicOrPartition);
    check_refused(
        &produce_request("__consumer_offsets", 0, &[1], 1),
        7,
        ResponseError::InvalidTopicException,
    );
    check_refused(&produce_request("a", 0, &[1], 2), 7, ResponseError::InvalidRequiredAcks);
    check_refused(&produce_bytes("a", 0, Bytes::new(), 1), 7, ResponseError::InvalidRecord);
    check_refused(&produce_bytes("a", 0, good().slice(..60), 1), 7, ResponseError::CorruptMessage);
    let mut damaged = good().to_vec();
    damaged[70] ^= 1;
    check_refused(&produce_bytes("a", 0, damaged.into(), 1), 7, ResponseError::CorruptMessage);
    let two: Vec<u8> = [good(), good()].concat();
    check_refused(&produce_bytes("a", 0, two.into(), 1), 7, ResponseError::InvalidRecord);
    for magic in [0, 1] {
        let mut old = good().to_vec();
        old[16] = magic;
        let request = produce_bytes("a", 0, old.into(), 1);
        check_refused(&request, 3, ResponseError::UnsupportedForMessageFormat);
    }
    let zstd = produce_bytes("a", 0, batch(&[1], Compression::Zstd), 1);
    check_refused(&zstd, 6, ResponseError::UnsupportedCompressionType);
    let transactional = produce_request("a", 0, &[1], -1)
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("t"))));
    check_refused(&transactional, 11, ResponseError::TransactionalIdAuthorizationFailed);
}

#[test]
fn records_that_are_absent_are_refused() {
    let mut request = produce_request("a", 0, &[1], 1);
    request.topic_data[0].partition_data[0].records = None;
    check_refused(&request, 9, ResponseError::InvalidRecord);
}

#[test]
fn every_answer_of_the_owner_has_its_code_and_since_version_8_its_words() {
    let why = || "why".to_owned();
    for (error, code) in [
        (ProduceError::UnknownPartition, ResponseError::UnknownTopicOrPartition),
        (ProduceError::NotLeader, ResponseError::NotLeaderOrFollower),
        (ProduceError::ShuttingDown, ResponseError::NotLeaderOrFollower),
        (ProduceError::TooLarge { batch_bytes: 2, batch_bytes_max: 1 }, ResponseError::MessageTooLarge),
        (ProduceError::Invalid { why: why() }, ResponseError::InvalidRecord),
        (
            ProduceError::OutOfSequence { producer_id: 1, sent: 3, expected: 2 },
            ResponseError::OutOfOrderSequenceNumber,
        ),
        (
            ProduceError::ProducerFenced { producer_id: 1, sent: 1, current: 2 },
            ResponseError::InvalidProducerEpoch,
        ),
        (ProduceError::NoSpace, ResponseError::KafkaStorageError),
        (ProduceError::Overloaded, ResponseError::KafkaStorageError),
        (ProduceError::StorageFailed { why: why() }, ResponseError::KafkaStorageError),
        (ProduceError::Damaged { why: why() }, ResponseError::KafkaStorageError),
    ] {
        for version in [3, 7, 8, 11] {
            let mut world = World::new();
            world.add_topic("a", 1);
            world.scripted.push_back(Response::Produce(Err(error.clone())));
            let response = produce(&mut world, version, &produce_request("a", 0, &[1], 1));
            assert_eq!(response.error_code, code.code());
            let words = (version >= 8).then(|| error.to_string());
            assert_eq!(response.error_message.as_deref(), words.as_deref());
        }
    }
}

#[test]
fn a_duplicate_is_success_with_the_offset_it_has() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let duplicate = Produced { duplicate: true, ..produced(Offset(41)) };
    world.scripted.push_back(Response::Produce(Ok(duplicate)));
    let response = produce(&mut world, 9, &produce_request("a", 0, &[1], -1));
    assert_eq!((response.error_code, response.base_offset), (0, 41));
}

#[test]
fn where_the_topic_has_the_brokers_time_it_is_told() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let stored = Produced { append_time: Some(TimestampMs(77)), ..produced(Offset(41)) };
    world.scripted.push_back(Response::Produce(Ok(stored)));
    for (version, expect) in [(9, 77), (9, -1)] {
        let response = produce(&mut world, version, &produce_request("a", 0, &[1], -1));
        assert_eq!((response.error_code, response.log_append_time_ms), (0, expect));
    }
}

/// Its checksum is right, so it would have gone to every reader.
#[test]
fn a_batch_whose_records_do_not_lie_where_they_say_is_refused_and_the_broker_keeps_none_of_it() {
    let good = batch(&[1, 2, 3], Compression::None);
    // Of the first record its length, offset and key's length; of the last one the number of headers.
    for at in [61, 64, 65, good.len() - 5] {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        check_refused(&produce_bytes("a", 0, bytes.into(), -1), 9, ResponseError::InvalidRecord);
    }
}

#[test]
fn a_partition_that_is_refused_does_not_hold_up_the_others() {
    let mut world = World::new();
    world.add_topic("a", 3);
    let mut request = produce_request("a", 0, &[1], 1);
    for index in [9, 2] {
        let data = PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch(&[1, 2], Compression::None)));
        request.topic_data[0].partition_data.push(data);
    }
    let conn = world.connect();
    let response = world.call(conn, 9, &request);
    let parts = &response.responses[0].partition_responses;
    let told: Vec<_> = parts.iter().map(|part| (part.index, part.error_code, part.base_offset)).collect();
    assert_eq!(told, [(0, 0, 0), (9, ResponseError::UnknownTopicOrPartition.code(), -1), (2, 0, 0)]);
}

#[test]
fn who_leads_elsewhere_is_said() {
    let mut world = World::new();
    world.add_topic("a", 1);
    world.topics.led_elsewhere = true;
    let response = produce(&mut world, 7, &produce_request("a", 0, &[1], 1));
    assert_eq!(response.error_code, ResponseError::NotLeaderOrFollower.code());
}

#[test]
fn records_without_a_key_are_named_where_the_topic_is_compacted() {
    let mut builder = BatchBuilder::new();
    for (delta, key) in [Some(&b"k"[..]), None, Some(b"k"), None].into_iter().enumerate() {
        builder.push(delta as u32, TimestampMs(1), key, Some(b"v"), []).unwrap();
    }
    let records = builder.seal(Compression::Gzip, &BatchFields::UNASSIGNED);
    for version in [7, 8, 11] {
        let mut world = World::new();
        world.add_topic("a", 1);
        let why = "record 1 has no key".to_owned();
        world.scripted.push_back(Response::Produce(Err(ProduceError::Invalid { why })));
        let response = produce(&mut world, version, &produce_bytes("a", 0, records.clone(), -1));
        assert_eq!(response.error_code, ResponseError::InvalidRecord.code());
        let named: Vec<i32> = response.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(named, if version >= 8 { vec![1, 3] } else { Vec::new() });
    }
}
