//! Fetch: limits, waiting, sessions, encodings.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{Fetch, FetchError, ReaderId, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage_frame::{BatchBuilder as NativeBatch, Frame, Offset, TimestampMs};
use storage_recordbatch::{BatchHeader, Compression, to_frame};

use super::world::*;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn part(partition: i32, offset: i64, bytes_max: i32) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max)
}

fn many(version: i16, topic: &str, parts: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(parts);
    let request =
        FetchRequest::default().with_replica_id((-1).into()).with_max_bytes(1 << 20).with_topics(vec![topic]);
    // Without a session.
    if version >= 7 { request.with_session_epoch(-1) } else { request }
}

/// One partition, answered at once.
pub(super) fn fetch_request(version: i16, topic: &str, partition: i32, offset: i64) -> FetchRequest {
    many(version, topic, vec![part(partition, offset, 1 << 20)])
}

/// One partition, waiting for a byte.
pub(super) fn wait_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    fetch_request(11, topic, partition, offset).with_min_bytes(1).with_max_wait_ms(500)
}

fn told(response: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
    parts
        .map(|part| (part.partition_index, part.error_code, part.records.as_ref().map_or(0, Bytes::len)))
        .collect()
}

fn only(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

/// Base offsets and record counts of the batches in an answer.
#[track_caller]
fn batches(part: &PartitionData) -> Vec<(i64, i32)> {
    let mut rest = part.records.clone().unwrap_or_default();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let bytes = 12 + usize::try_from(i32::from_be_bytes(rest[8..12].try_into().unwrap())).unwrap();
        let batch = rest.split_to(bytes);
        let header = BatchHeader::check(&batch).unwrap();
        assert_eq!(header.leader_epoch, 3);
        found.push((header.base_offset, header.record_count));
    }
    found
}

fn world_with(frames: &[&[i64]]) -> World {
    let mut world = World::new();
    world.add_topic("a", 4);
    for times in frames {
        world.log("a", 0).append(frame(times), EPOCH);
    }
    world
}

#[test]
fn batches_come_back_in_every_version_with_their_offsets() {
    let mut world = world_with(&[&[1, 2, 3], &[4], &[5, 6]]);
    let conn = world.connect();
    for version in 4..=12 {
        for (isolation, aborted) in [(0, None), (1, Some(0))] {
            let request = fetch_request(version, "a", 0, 0).with_isolation_level(isolation);
            let response = world.call(conn, version, &request);
            assert_eq!((response.error_code, response.session_id), (0, 0));
            let part = only(&response);
            assert_eq!(batches(part), [(0, 3), (3, 1), (4, 2)]);
            assert_eq!((part.error_code, part.high_watermark, part.last_stable_offset), (0, 6, 6));
            assert_eq!(part.log_start_offset, if version >= 5 { 0 } else { -1 });
            assert_eq!(part.aborted_transactions.as_ref().map(Vec::len), aborted);
            assert_eq!(part.preferred_read_replica.0, -1);
        }
        // From the middle of a batch: the whole of it.
        let response = world.call(conn, version, &fetch_request(version, "a", 0, 2));
        assert_eq!(batches(only(&response)), [(0, 3), (3, 1), (4, 2)]);
        let response = world.call(conn, version, &fetch_request(version, "a", 0, 6));
        assert_eq!(told(&response), [(0, 0, 0)]);
        assert_eq!(only(&response).records, Some(Bytes::new()));
    }
}

#[test]
fn native_batches_are_converted_once_while_they_are_hot() {
    let mut world = world_with(&[]);
    let mut native = NativeBatch::new();
    for index in 0..3 {
        native.push(TimestampMs(index), Some(b"k"), Some(b"v"), [("h", Some(&b"x"[..]))]).unwrap();
    }
    world.log("a", 0).append(native.seal(None), EPOCH);
    world.log("a", 0).append(frame(&[9]), EPOCH);
    let conn = world.connect();
    let first = world.call(conn, 12, &fetch_request(12, "a", 0, 0));
    assert_eq!(batches(only(&first)), [(0, 3), (3, 1)]);
    let again = world.call(conn, 12, &fetch_request(12, "a", 0, 0));
    assert_eq!(first, again);
}

#[test]
fn one_batch_comes_however_large_and_limits_hold_beyond_it() {
    let mut world = world_with(&[&[1; 50], &[2; 50], &[3; 50]]);
    for times in [[4; 50], [5; 50]] {
        world.log("a", 1).append(frame(&times), EPOCH);
    }
    let bytes = world.log("a", 0).frames[0].payload().len();
    let conn = world.connect();
    let limited = |partition_max: usize, max: usize| {
        let max_of = |bytes: usize| i32::try_from(bytes).unwrap();
        let parts = vec![part(0, 0, max_of(partition_max)), part(1, 0, max_of(partition_max))];
        many(11, "a", parts).with_max_bytes(max_of(max))
    };
    let counts = |response: &FetchResponse| -> Vec<usize> {
        response.responses[0].partitions.iter().map(|part| batches(part).len()).collect()
    };
    assert_eq!(counts(&world.call(conn, 11, &limited(1, 1))), [1, 0]);
    assert_eq!(counts(&world.call(conn, 11, &limited(1, 1 << 20))), [1, 0]);
    assert_eq!(counts(&world.call(conn, 11, &limited(2 * bytes, 1 << 20))), [2, 2]);
    assert_eq!(counts(&world.call(conn, 11, &limited(2 * bytes, 3 * bytes))), [2, 1]);
    assert_eq!(counts(&world.call(conn, 11, &limited(1 << 20, 1 << 20))), [3, 2]);
    assert_eq!(counts(&world.call(conn, 11, &limited(0, 0))), [1, 0]);
}

#[test]
fn a_single_partition_waits_with_the_limits_of_the_request() {
    let mut world = world_with(&[&[1]]);
    let conn = world.connect();
    let request = wait_request("a", 0, 1).with_min_bytes(1000).with_max_wait_ms(250);
    world.send(conn, 11, &request);
    let Request::Fetch(Fetch { bytes_min, wait_max, offset, reader, .. }) = &world.asked[0] else { panic!() };
    assert_eq!((*bytes_min, *wait_max, *offset), (1000, Some(Duration::from_millis(250)), Offset(1)));
    // A coordinator recognises a member by them.
    assert_eq!(*reader, Some(ReaderId::of_client("tester", "/127.0.0.1")));
    world.log("a", 0).append(frame(&[2]), EPOCH);
    world.release();
    let (_, response) = decode::<FetchRequest>(11, world.answers(conn).remove(0));
    assert_eq!(batches(only(&response)), [(1, 1)]);
    assert_eq!(world.asked.len(), 1);
}

/// Makes the waiting fetch of a partition answer as it now stands.
fn wake(world: &mut World, index: u32) {
    let place = world
        .open
        .iter()
        .position(|(_, asked)| matches!(asked, Request::Fetch(fetch) if fetch.partition.index == index))
        .expect("it waits");
    let (key, asked) = world.open.remove(place);
    let others = std::mem::replace(&mut world.open, vec![(key, asked)]);
    world.release();
    world.open.splice(0..0, others);
}

#[test]
fn several_partitions_wait_together_and_the_others_are_cancelled() {
    let mut world = world_with(&[]);
    let conn = world.connect();
    let parts = (0..3).map(|index| part(index, 0, 1 << 20)).collect();
    world.send(conn, 11, &many(11, "a", parts).with_min_bytes(1).with_max_wait_ms(500));
    assert_eq!((world.asked.len(), world.open.len()), (6, 3), "asked for what is there, then waiting");
    world.log("a", 1).append(frame(&[2]), EPOCH);
    wake(&mut world, 1);
    assert_eq!(world.cancelled, 2);
    let (_, response) = decode::<FetchRequest>(11, world.answers(conn).remove(0));
    assert_eq!(response.responses[0].partitions.iter().map(|part| batches(part).len()).sum::<usize>(), 1);
    assert_eq!(world.server.stats().requests_open, 0);
}

#[test]
fn what_has_come_is_kept_until_it_is_enough_or_time_is_over() {
    let mut world = world_with(&[]);
    let bytes = i32::try_from(frame(&[1]).payload().len()).unwrap();
    let conn = world.connect();
    let parts = || (0..2).map(|index| part(index, 0, 1 << 20)).collect();
    let request = many(11, "a", parts()).with_min_bytes(2 * bytes).with_max_wait_ms(500);
    world.send(conn, 11, &request);
    world.log("a", 0).append(frame(&[1]), EPOCH);
    wake(&mut world, 0);
    assert!(world.answers(conn).is_empty(), "not enough");
    world.log("a", 0).append(frame(&[2]), EPOCH);
    wake(&mut world, 0);
    let (_, response) = decode::<FetchRequest>(11, world.answers(conn).remove(0));
    assert_eq!(batches(only(&response)), [(0, 1), (1, 1)]);
    // Time over: each has waited in vain, the last of them ends it.
    world.send(
        conn,
        11,
        &many(11, "a", vec![part(1, 0, 9), part(2, 0, 9)]).with_min_bytes(9).with_max_wait_ms(5),
    );
    world.release();
    let (_, response) = decode::<FetchRequest>(11, world.answers(conn).remove(0));
    assert_eq!(told(&response), [(1, 0, 0), (2, 0, 0)]);
}

#[test]
fn an_error_is_told_at_once() {
    let mut world = world_with(&[&[1]]);
    world.log("a", 0).start = Offset(0);
    let conn = world.connect();
    let code = |error: ResponseError| error.code();
    let mut check = |asked: FetchPartition, error: ResponseError| {
        let waiting = part(3, 0, 1 << 20);
        let request = many(11, "a", vec![asked.clone(), waiting]).with_min_bytes(1).with_max_wait_ms(500);
        let response = world.call(conn, 11, &request);
        assert_eq!(told(&response), [(asked.partition, code(error), 0), (3, 0, 0)]);
    };
    check(part(0, 2, 9), ResponseError::OffsetOutOfRange);
    check(part(0, -1, 9), ResponseError::OffsetOutOfRange);
    check(part(4, 0, 9), ResponseError::UnknownTopicOrPartition);
    check(part(0, 0, 9).with_current_leader_epoch(2), ResponseError::FencedLeaderEpoch);
    check(part(0, 0, 9).with_current_leader_epoch(4), ResponseError::UnknownLeaderEpoch);
    let mut world = world_with(&[&[1]]);
    let conn = world.connect();
    for (error, expected) in [
        (FetchError::NotLeader, ResponseError::NotLeaderOrFollower),
        (FetchError::Damaged { why: String::new() }, ResponseError::KafkaStorageError),
        (FetchError::Overloaded, ResponseError::KafkaStorageError),
    ] {
        world.scripted.push_back(Response::Fetch(Err(error)));
        let response = world.call(conn, 11, &wait_request("a", 0, 0));
        assert_eq!(told(&response), [(0, code(expected), 0)]);
    }
    let response = world.call(conn, 11, &part_with_epoch());
    assert_eq!(batches(only(&response)), [(0, 1)]);
}

fn part_with_epoch() -> FetchRequest {
    many(11, "a", vec![part(0, 0, 1 << 20).with_current_leader_epoch(3)])
}

#[test]
fn zstd_goes_to_those_who_can_read_it() {
    let mut world = world_with(&[&[1]]);
    let zstd = to_frame(batch(&[2], Compression::Zstd)).unwrap();
    world.log("a", 0).append(zstd, EPOCH);
    let conn = world.connect();
    let response = world.call(conn, 9, &fetch_request(9, "a", 0, 0));
    assert_eq!(batches(only(&response)), [(0, 1)], "up to it");
    let response = world.call(conn, 9, &fetch_request(9, "a", 0, 1));
    assert_eq!(told(&response), [(0, ResponseError::UnsupportedCompressionType.code(), 0)]);
    let response = world.call(conn, 10, &fetch_request(10, "a", 0, 0));
    assert_eq!(batches(only(&response)), [(0, 1), (1, 1)]);
}

fn in_session(id: i32, epoch: i32, parts: Vec<FetchPartition>) -> FetchRequest {
    let request = many(11, "a", parts).with_session_id(id).with_session_epoch(epoch);
    if request.topics[0].partitions.is_empty() { request.with_topics(Vec::new()) } else { request }
}

#[test]
fn in_a_session_only_news_are_told() {
    let mut world = world_with(&[&[1]]);
    let conn = world.connect();
    let all = (0..3).map(|index| part(index, 0, 1 << 20)).collect();
    let first = world.call(conn, 11, &in_session(0, 0, all));
    let id = first.session_id;
    assert!(id > 0);
    assert_eq!(told(&first).len(), 3);
    // Records are told again as long as the client does not move on.
    let response = world.call(conn, 11, &in_session(id, 1, Vec::new()));
    assert_eq!((response.session_id, told(&response).len()), (id, 1));
    let response = world.call(conn, 11, &in_session(id, 2, vec![part(0, 1, 1 << 20)]));
    assert_eq!(told(&response), []);
    world.log("a", 2).append(frame(&[1]), EPOCH);
    let response = world.call(conn, 11, &in_session(id, 3, Vec::new()));
    assert_eq!(told(&response).iter().map(|told| told.0).collect::<Vec<_>>(), [2]);
    // Without it, by the client's wish.
    let forgotten = ForgottenTopic::default().with_topic(name("a")).with_partitions(vec![2]);
    let request = in_session(id, 4, Vec::new()).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(told(&world.call(conn, 11, &request)), []);
    // Another partition, which is not there; an error is told until it is over.
    let response = world.call(conn, 11, &in_session(id, 5, vec![part(9, 0, 1)]));
    assert_eq!(told(&response), [(9, ResponseError::UnknownTopicOrPartition.code(), 0)]);
    assert_eq!(told(&world.call(conn, 11, &in_session(id, 6, Vec::new()))).len(), 1);
    let wrong = world.call(conn, 11, &in_session(id, 6, Vec::new()));
    assert_eq!(wrong.error_code, ResponseError::InvalidFetchSessionEpoch.code());
    // Ended by the client.
    let all = vec![part(0, 0, 1 << 20)];
    assert_eq!(world.call(conn, 11, &in_session(id, -1, all)).session_id, 0);
    let gone = world.call(conn, 11, &in_session(id, 7, Vec::new()));
    assert_eq!(gone.error_code, ResponseError::FetchSessionIdNotFound.code());
    assert_eq!(told(&gone), []);
}

#[test]
fn a_session_is_its_connections_own_and_ends_with_it() {
    let mut world = world_with(&[&[1]]);
    let (conn, other) = (world.connect(), world.connect());
    let id = world.call(conn, 11, &in_session(0, 0, vec![part(0, 0, 1)])).session_id;
    let stranger = world.call(other, 11, &in_session(id, 1, Vec::new()));
    assert_eq!(stranger.error_code, ResponseError::FetchSessionIdNotFound.code());
    for _ in 0..2000 {
        let conn = world.connect();
        assert!(world.call(conn, 11, &in_session(0, 0, vec![part(0, 0, 1)])).session_id > 0);
        world.server.ended(world.now, conn);
    }
}

#[test]
fn partitions_take_turns_at_the_answers_room() {
    let mut world = world_with(&[&[1]]);
    world.log("a", 1).append(frame(&[1]), EPOCH);
    let conn = world.connect();
    let both = vec![part(0, 0, 1 << 20), part(1, 0, 1 << 20)];
    let mut id = 0;
    let mut had = Vec::new();
    for epoch in 0..4 {
        let parts = if epoch == 0 { both.clone() } else { Vec::new() };
        let response = world.call(conn, 11, &in_session(id, epoch, parts).with_max_bytes(1));
        id = response.session_id;
        had.extend(told(&response).into_iter().filter(|told| told.2 > 0).map(|told| told.0));
    }
    assert_eq!(had, [0, 1, 0, 1]);
}

#[test]
fn nothing_asked_for_is_answered_at_once() {
    let mut world = world_with(&[]);
    let conn = world.connect();
    let request = many(12, "a", Vec::new()).with_topics(Vec::new()).with_min_bytes(1).with_max_wait_ms(500);
    assert_eq!(told(&world.call(conn, 12, &request)), []);
}

/// Version 12 can say names that the versions before it cannot, and a session outlives a version.
#[test]
fn names_longer_than_topics_have_are_not_remembered() {
    let of = |name: &str, id, epoch| {
        many(12, name, vec![part(0, 0, 1)]).with_session_id(id).with_session_epoch(epoch)
    };
    let mut world = world_with(&[]);
    let conn = world.connect();
    let response = world.call(conn, 12, &of(&"n".repeat(250), 0, 0));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!((response.session_id, told(&response)), (0, vec![(0, unknown, 0)]));
    let id = world.call(conn, 12, &of(&"n".repeat(249), 0, 0)).session_id;
    assert!(id > 0);
    let response = world.call(conn, 12, &of(&"n".repeat(250), id, 1));
    assert_eq!(response.error_code, ResponseError::FetchSessionIdNotFound.code());
    let response = world.call(conn, 11, &in_session(id, 2, Vec::new()));
    assert_eq!(told(&response), [(0, unknown, 0)]);
    world.send(conn, 12, &of(&"n".repeat(40_000), id, 3));
    world.assert_closed(conn, "request_malformed");
}

#[test]
fn a_wide_fetch_asks_some_at_a_time_and_keeps_what_fits() {
    let mut world = World::new();
    world.add_topic("a", 200);
    for index in 0..200 {
        world.log("a", index).append(frame(&[1; 50]), EPOCH);
    }
    let bytes = i32::try_from(frame(&[1; 50]).payload().len()).unwrap();
    let conn = world.connect();
    let parts = (0..200).map(|index| part(index, 0, 1 << 20)).collect();
    world.holds = true;
    world.send(conn, 11, &many(11, "a", parts).with_max_bytes(3 * bytes));
    assert_eq!(world.open.len(), 64);
    world.release();
    let (_, response) = decode::<FetchRequest>(11, world.answers(conn).remove(0));
    let parts = &response.responses[0].partitions;
    assert_eq!(world.asked.len(), 200);
    assert!(parts.iter().all(|part| part.high_watermark == 50), "told of each, with records or without");
    assert_eq!(parts.iter().filter(|part| !batches(part).is_empty()).count(), 3);
}

#[test]
fn of_a_partition_that_is_named_again_what_was_said_last_counts() {
    let mut world = world_with(&[&[1], &[2]]);
    let conn = world.connect();
    let parts = vec![part(0, 0, 1 << 20), part(1, 0, 9), part(0, 1, 1 << 20)];
    let response = world.call(conn, 11, &many(11, "a", parts));
    assert_eq!(told(&response).iter().map(|told| told.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(batches(only(&response)), [(1, 1)]);
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn waiting_fetches_count_as_what_they_may_hold() {
    let mut world = world_with(&[]);
    let conn = world.connect();
    let parts = || vec![part(0, 0, i32::MAX)];
    let wait = || many(11, "a", parts()).with_max_bytes(i32::MAX).with_min_bytes(1).with_max_wait_ms(500);
    world.send(conn, 11, &wait());
    assert!(world.server.wants_read(conn));
    world.send(conn, 11, &wait());
    assert!(!world.server.wants_read(conn), "two of 16 MiB");
    world.release();
    assert_eq!(world.answers(conn).len(), 2);
    assert!(world.server.wants_read(conn));
}

#[test]
fn a_batch_that_compaction_has_emptied_is_not_the_one_that_may_exceed_the_limits() {
    let mut world = world_with(&[]);
    let emptied = |times: &[i64]| {
        let count = u32::try_from(times.len()).unwrap();
        Frame::without_records(frame(times).header(), count)
    };
    world.log("a", 0).append(emptied(&[1, 2]), EPOCH);
    world.log("a", 1).append(emptied(&[1]), EPOCH);
    world.log("a", 1).append(frame(&[3; 50]), EPOCH);
    world.log("a", 2).append(frame(&[4]), EPOCH);
    let conn = world.connect();
    let parts = (0..3).map(|index| part(index, 0, 1 << 20)).collect();
    let response = world.call(conn, 11, &many(11, "a", parts).with_max_bytes(1));
    let counts: Vec<_> = response.responses[0].partitions.iter().map(|part| batches(part).len()).collect();
    assert_eq!(counts, [1, 2, 0], "both that are empty, and one with records");
    assert_eq!(batches(&response.responses[0].partitions[1]), [(0, 0), (1, 50)]);
}

/// Each would come to wait with an ask for every partition, however many fetches a client sends at once.
#[test]
fn a_connection_has_one_fetch_of_many_partitions_at_a_time() {
    let mut world = World::new();
    world.add_topic("a", 100);
    let conn = world.connect();
    let all = |count| (0..count).map(|index| part(index, 0, 1 << 20)).collect();
    let id = world.call(conn, 11, &in_session(0, 0, all(100)).with_max_wait_ms(0)).session_id;
    world.asked.clear();
    let next = |epoch| in_session(id, epoch, Vec::new()).with_min_bytes(1).with_max_wait_ms(500);
    world.send(conn, 11, &next(1));
    let second = encode(11, 2, &next(2));
    assert_eq!(world.feed(conn, &second), 0, "nothing is read meanwhile");
    let fetches =
        |world: &World| world.asked.iter().filter(|asked| matches!(asked, Request::Fetch(_))).count();
    // What is there, then what may come; of the first one alone.
    assert_eq!(fetches(&world), 200);
    world.log("a", 7).append(frame(&[1]), EPOCH);
    world.release();
    assert_eq!(world.answers(conn).len(), 1);
    assert_eq!(world.feed(conn, &second), second.len());
    // Narrow ones go on side by side.
    let conn = world.connect();
    world.asked.clear();
    for index in 0..3 {
        world.send(conn, 11, &wait_request("a", index, 0));
    }
    assert_eq!(fetches(&world), 3);
}
