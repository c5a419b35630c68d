//! ListOffsets and OffsetForLeaderEpoch.

use engine_api::{FetchError, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage_frame::{BatchBuilder as NativeBatch, Offset, TimestampMs};

use super::world::*;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Error, offset, timestamp, leader epoch.
fn list(world: &mut World, version: i16, at: i64) -> (i16, i64, i64, i32) {
    let partition = ListOffsetsPartition::default().with_timestamp(at);
    let topic = ListOffsetsTopic::default().with_name(name("a")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let conn = world.connect();
    let response = world.call(conn, version, &request);
    world.server.ended(world.now, conn);
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp, found.leader_epoch)
}

fn world_with(frames: &[&[i64]]) -> World {
    let mut world = World::new();
    world.add_topic("a", 1);
    for times in frames {
        world.log("a", 0).append(frame(times), EPOCH);
    }
    world
}

#[test]
fn the_ends_are_told_in_every_version() {
    let mut world = world_with(&[&[10, 20], &[30]]);
    world.log("a", 0).start = Offset(1);
    for version in 1..=7 {
        let epoch = if version >= 4 { 3 } else { -1 };
        assert_eq!(list(&mut world, version, -1), (0, 3, -1, epoch));
        assert_eq!(list(&mut world, version, -2), (0, 1, -1, epoch));
    }
}

#[test]
fn a_time_is_found_to_the_record() {
    let mut world = world_with(&[&[10, 20, 15], &[30, 40], &[35, 50]]);
    let mut native = NativeBatch::new();
    for at in [60, 70] {
        native.push(TimestampMs(at), None, Some(b"v"), []).unwrap();
    }
    world.log("a", 0).append(native.seal(None), EPOCH);
    for version in 1..=7 {
        let epoch = if version >= 4 { 3 } else { -1 };
        for (at, offset, found) in
            [(0, 0, 10), (10, 0, 10), (11, 1, 20), (20, 1, 20), (21, 3, 30), (41, 6, 50), (65, 8, 70)]
        {
            assert_eq!(list(&mut world, version, at), (0, offset, found, epoch), "at {at}");
        }
        assert_eq!(list(&mut world, version, 71), (0, -1, -1, -1));
    }
    // Records below the log's start are gone.
    world.log("a", 0).start = Offset(2);
    assert_eq!(list(&mut world, 5, 0), (0, 2, 15, 3));
    // Found in a later frame than the index says.
    world.log("a", 0).start = Offset(2);
    assert_eq!(list(&mut world, 5, 16), (0, 3, 30, 3));
}

#[test]
fn the_record_of_the_largest_time_is_found() {
    let mut world = world_with(&[]);
    assert_eq!(list(&mut world, 7, -3), (0, -1, -1, -1));
    let mut world = world_with(&[&[10, 20], &[5, 90, 90], &[30], &[90]]);
    assert_eq!(list(&mut world, 7, -3), (0, 3, 90, 3));
    let mut world = world_with(&[&[-1]]);
    assert_eq!(list(&mut world, 7, -3), (0, 0, -1, 3));
    assert_eq!(list(&mut world, 6, -3).0, ResponseError::InvalidRequest.code());
    let mut world = world_with(&[&[1_700_000_000_000], &[1_700_000_000_001]]);
    assert_eq!(list(&mut world, 7, -3), (0, 1, 1_700_000_000_001, 3));
}

#[test]
fn errors_are_told_by_partition() {
    let mut world = world_with(&[&[1]]);
    assert_eq!(list(&mut world, 5, -4).0, ResponseError::InvalidRequest.code());
    world.scripted.push_back(Response::FindOffset(Err(FetchError::NotLeader)));
    assert_eq!(list(&mut world, 5, -1), (ResponseError::NotLeaderOrFollower.code(), -1, -1, -1));
    world.topics.topics.clear();
    assert_eq!(list(&mut world, 5, -1).0, ResponseError::UnknownTopicOrPartition.code());
}

/// Error, epoch, end.
fn end_of(world: &mut World, version: i16, epoch: i32, current: i32) -> (i16, i32, i64) {
    let partition =
        OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(current);
    let topic = OffsetForLeaderTopic::default().with_topic(name("a")).with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let conn = world.connect();
    let response = world.call(conn, version, &request);
    world.server.ended(world.now, conn);
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.leader_epoch, found.end_offset)
}

#[test]
fn an_epoch_ends_where_the_next_begins() {
    let mut world = world_with(&[]);
    for (epoch, times) in [(0, &[1, 2][..]), (0, &[3]), (2, &[4, 5, 6]), (2, &[7]), (2, &[8]), (3, &[9])] {
        world.log("a", 0).append(frame(times), epoch);
    }
    for version in 2..=4 {
        assert_eq!(end_of(&mut world, version, 3, -1), (0, 3, 9));
        assert_eq!(end_of(&mut world, version, 2, 3), (0, 2, 8));
        assert_eq!(end_of(&mut world, version, 1, 3), (0, 0, 3));
        assert_eq!(end_of(&mut world, version, 0, 3), (0, 0, 3));
        assert_eq!(end_of(&mut world, version, 4, 3), (0, -1, -1));
        assert_eq!(end_of(&mut world, version, 2, 2).0, ResponseError::FencedLeaderEpoch.code());
        assert_eq!(end_of(&mut world, version, 2, 4).0, ResponseError::UnknownLeaderEpoch.code());
    }
    // What retention took is not searched.
    world.log("a", 0).start = Offset(4);
    assert_eq!(end_of(&mut world, 4, 0, 3), (0, 0, 4));
    assert_eq!(end_of(&mut world, 4, 2, 3), (0, 2, 8));
    let mut world = world_with(&[]);
    assert_eq!(end_of(&mut world, 4, 1, 3), (0, 1, 0));
}
