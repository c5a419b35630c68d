//! What each kind of stream does when everybody behaves.

use std::time::Duration;

use engine_api::{
    Acks, ClusterDescription, DescribeTopics, FetchError, InitProducerError, ProduceError, ReaderId, Request,
    Response, TopicError,
};
use net_wire::{OpenRead, ServerMessage, encode};
use storage_frame::{Frame, LeaderEpoch, Offset};

use super::world::*;
use crate::config::STREAM_PRODUCES_MAX;

const SOON: Duration = Duration::from_millis(20);

#[test]
fn every_request_gets_its_answer_on_its_stream() {
    let mut world = World::new();
    let client = world.connect();
    let describe = Request::DescribeTopics(DescribeTopics { names: vec!["orders".into()] });
    let first = world.open_request(client, 11, &describe);
    let second = world.open_request(client, 12, &Request::InitProducer);
    let third = world.open_request(client, 13, &Request::DescribeCluster);
    world.run(SOON);
    let open = world.broker.open.clone();
    assert_eq!(
        open.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(),
        [describe, Request::InitProducer, Request::DescribeCluster]
    );

    let unknown = Response::DescribeTopics(Err(TopicError::Unknown { name: "orders".into() }));
    let cluster = Response::DescribeCluster(ClusterDescription {
        cluster_id: 1,
        version: "0.1.0".into(),
        nodes: Vec::new(),
        topics_count: 0,
        partitions_count: 0,
        troubled: Vec::new(),
    });
    let not_ready = Response::InitProducer(Err(InitProducerError::NotReady));
    // In any order: each has a stream of its own.
    world.answer(open[2].0, cluster.clone());
    world.answer(open[1].0, not_ready.clone());
    world.answer(open[0].0, unknown.clone());
    world.run(SOON);
    assert_eq!(world.received(client, first), [(11, ServerMessage::Response(unknown))]);
    assert_eq!(world.received(client, second), [(12, ServerMessage::Response(not_ready))]);
    assert_eq!(world.received(client, third), [(13, ServerMessage::Response(cluster))]);
    assert!(world.stream(client, first).is_ended && world.stream(client, third).is_ended);
    let stats = world.server.stats();
    assert_eq!((stats.streams_open, stats.requests_open, stats.send_buffered_bytes), (0, 0, 0));
    assert_eq!((stats.messages_in, stats.messages_out), (3, 3));
}

#[test]
fn a_client_that_does_not_finish_its_side_is_answered_all_the_same() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open(client);
    world.send(client, id, encode::request(4, &Request::InitProducer));
    world.run(SOON);
    let key = world.broker.open[0].0;
    world.answer(key, Response::InitProducer(Ok(9)));
    world.run(SOON);
    assert_eq!(world.received(client, id), [(4, ServerMessage::Response(Response::InitProducer(Ok(9))))]);
    assert_eq!(world.stream(client, id).stopped, Some(0));
    assert_eq!(world.server.stats().streams_open, 0);
}

#[test]
fn produces_are_answered_in_the_order_they_were_sent() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    let frames: Vec<Frame> = (0..4).map(|n| frame(100 * n)).collect();
    for (n, frame) in frames.iter().enumerate() {
        let acks = if n == 1 { Acks::None } else { Acks::All };
        world.produce(client, id, 50 + n as u64, acks, frame);
    }
    world.run(SOON);
    let open = world.broker.open.clone();
    for ((_, request), sent) in open.iter().zip(&frames) {
        let Request::Produce(produce) = request else { panic!("a produce") };
        assert_eq!((produce.partition, &produce.frame), (PARTITION, sent));
    }
    // The last answer is there first and has to wait.
    for n in [3, 1, 2] {
        world.answer(open[n].0, Response::Produce(Ok(produced(n as u64))));
    }
    world.run(SOON);
    assert_eq!(world.received(client, id), []);
    world.answer(open[0].0, Response::Produce(Err(ProduceError::NoSpace)));
    world.run(SOON);
    // The second wanted no answer.
    assert_eq!(
        world.received(client, id),
        [
            (50, ServerMessage::Produced(Err(ProduceError::NoSpace))),
            (52, ServerMessage::Produced(Ok(produced(2)))),
            (53, ServerMessage::Produced(Ok(produced(3)))),
        ]
    );
    world.finish(client, id);
    world.run(SOON);
    assert!(world.stream(client, id).is_ended);
    assert_eq!(world.server.stats().streams_open, 0);
}

#[test]
fn a_produce_stream_ends_after_its_last_answer() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    world.produce(client, id, 1, Acks::All, &frame(10));
    world.finish(client, id);
    world.run(SOON);
    assert!(!world.stream(client, id).is_ended);
    let key = world.broker.open[0].0;
    world.answer(key, Response::Produce(Ok(produced(0))));
    world.run(SOON);
    assert_eq!(world.received(client, id).len(), 1);
    assert!(world.stream(client, id).is_ended);
}

#[test]
fn only_so_many_produces_of_a_stream_are_open() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    let other = world.open_produce(client);
    for n in 0..3 * STREAM_PRODUCES_MAX as u64 {
        // Without answers, too.
        world.produce(client, id, n, if n % 2 == 0 { Acks::None } else { Acks::All }, &frame(10));
    }
    world.run(SOON);
    assert_eq!(world.broker.open.len(), STREAM_PRODUCES_MAX);
    // Others are not held up.
    world.produce(client, other, 1, Acks::All, &frame(10));
    world.run(SOON);
    assert_eq!(world.broker.open.len(), STREAM_PRODUCES_MAX + 1);
    world.broker.is_serving = true;
    for (key, _) in world.broker.open.clone() {
        world.answer(key, Response::Produce(Ok(produced(0))));
    }
    world.run(SOON);
    assert_eq!(world.broker.asked, 3 * STREAM_PRODUCES_MAX + 1);
    assert_eq!(world.received(client, id).len(), 3 * STREAM_PRODUCES_MAX / 2);
    assert_eq!(world.server.stats().requests_open, 0);
}

#[test]
fn a_bad_frame_is_refused_in_its_place_and_the_stream_goes_on() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let id = world.open_produce(client);
    world.produce(client, id, 1, Acks::All, &frame(10));
    let mut chunks = Vec::new();
    encode::produce(2, Acks::All, &frame(2000), &mut chunks);
    let mut damaged = chunks.concat();
    let last = damaged.len() - 500;
    damaged[last] ^= 1;
    world.send(client, id, damaged);
    world.produce(client, id, 3, Acks::All, &frame(10));
    world.run(SOON);
    let received = world.received(client, id);
    let ServerMessage::Produced(Err(ProduceError::Invalid { why })) = &received[1].1 else {
        panic!("{received:?}")
    };
    assert!(why.contains("payload damaged"), "{why}");
    assert_eq!(received[2], (3, ServerMessage::Produced(Ok(produced(1)))));
    assert_eq!(world.broker.log.len(), 2);
}

#[test]
fn a_reader_gets_what_is_there_and_then_what_comes() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let writer = world.open_produce(client);
    for n in 0..3 {
        world.produce(client, writer, n, Acks::All, &frame(1000));
    }
    world.run(SOON);
    let reader = world.open_read(client, 1, 0);
    world.run(SOON);
    let received = world.received(client, reader);
    let ServerMessage::ReadOpened(opened) = received[0].1 else { panic!("{received:?}") };
    assert_eq!((opened.log_start, opened.high_watermark), (Offset(0), Offset(3)));
    assert_eq!(offsets(&received), [1, 2]);
    // Nothing new: one fetch waits in the broker, nobody polls.
    let asked = world.broker.asked;
    world.run(Duration::from_secs(10));
    assert_eq!(world.broker.asked, asked);

    world.produce(client, writer, 4, Acks::All, &frame(70_000));
    world.run(SOON);
    assert_eq!(offsets(&world.received(client, reader)), [3]);
    assert_eq!(world.broker.open.len(), 1, "the next fetch waits");
}

fn offsets(received: &[(u64, ServerMessage)]) -> Vec<u64> {
    let mut offsets = Vec::new();
    for (_, message) in received {
        if let ServerMessage::Frames(frames) = message {
            for frame in frames.clone().frames().expect("good frames") {
                assert_eq!(frame.header().leader_epoch, LeaderEpoch(1));
                offsets.push(frame.header().base_offset.0);
            }
        }
    }
    offsets
}

#[test]
fn a_reader_out_of_range_is_told_the_range_and_its_stream_ends() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let reader = world.open_read(client, 9, 0);
    world.run(SOON);
    let error = FetchError::OffsetOutOfRange {
        asked: Offset(9),
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
    };
    assert_eq!(world.received(client, reader), [(3, ServerMessage::ReadFailed(error))]);
    assert!(world.stream(client, reader).is_ended);
    assert_eq!(world.server.stats().streams_open, 0);
}

#[test]
fn a_reader_that_does_not_read_costs_its_buffers_and_no_more() {
    let mut world = World::new();
    let config = server_config();
    let client = world.connect();
    for n in 0..200 {
        let mut frame = frame(100_000);
        frame.assign(Offset(n), LeaderEpoch(1));
        world.broker.log.push(frame);
    }
    world.broker.is_serving = true;
    let reader = world.open_read(client, 0, 1 << 30);
    world.stream(client, reader).reads = false;
    world.run(Duration::from_secs(5));
    let stats = world.server.stats();
    // A push is at most as large as the buffer, or one frame.
    assert!(stats.send_buffered_bytes <= 2 * config.send_buffer_bytes as u64, "{stats:?}");
    let asked = world.broker.asked;
    assert!(asked < 40, "{asked} fetches for a reader that takes nothing");
    world.run(Duration::from_secs(5));
    assert_eq!(world.broker.asked, asked);
    // Another one of the same connection is served meanwhile.
    let other = world.open_read(client, 150, 0);
    world.run(Duration::from_secs(10));
    assert_eq!(offsets(&world.received(client, other)), (150..200).collect::<Vec<_>>());
    // And it gets on when it reads again.
    world.stream(client, reader).reads = true;
    world.run(Duration::from_secs(5));
    assert_eq!(offsets(&world.received(client, reader)), (0..200).collect::<Vec<_>>());
    assert_eq!(world.server.stats().send_buffered_bytes, 0);
}

#[test]
fn readers_that_stand_still_do_not_hold_up_the_others() {
    let mut world = World::new();
    let config = server_config();
    let client = world.connect();
    for n in 0..100 {
        let mut frame = frame(100_000);
        frame.assign(Offset(n), LeaderEpoch(1));
        world.broker.log.push(frame);
    }
    world.broker.is_serving = true;
    for _ in 0..100 {
        let reader = world.open_read(client, 0, 0);
        world.stream(client, reader).reads = false;
    }
    world.run(Duration::from_secs(10));
    let stats = world.server.stats();
    // Above the connection's share each holds one push at most.
    let bytes_max =
        (2 * crate::config::CONNECTION_SEND_BUFFERS * config.send_buffer_bytes + 100 * 100_200) as u64;
    assert!(stats.send_buffered_bytes <= bytes_max, "{stats:?}");
    let reader = world.open_read(client, 0, 0);
    let writer = world.open_produce(client);
    world.produce(client, writer, 1, Acks::All, &frame(10));
    world.server.set_paused(world.now, true);
    world.run(SOON);
    world.server.set_paused(world.now, false);
    world.run(Duration::from_secs(10));
    assert_eq!(offsets(&world.received(client, reader)), (0..=100).collect::<Vec<_>>());
    assert_eq!(world.received(client, writer).len(), 1);
}

#[test]
fn who_leaves_has_his_asks_cancelled() {
    let mut world = World::new();
    let client = world.connect();
    // A reader by stopping, a producer by resetting, a request by both.
    let reader = world.open_read(client, 0, 0);
    let writer = world.open_produce(client);
    world.produce(client, writer, 1, Acks::All, &frame(10));
    world.produce(client, writer, 2, Acks::All, &frame(10));
    let one = world.open(client);
    world.send(client, one, encode::request(1, &Request::InitProducer));
    world.run(SOON);
    let keys: Vec<u64> = world.broker.open.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys.len(), 4);
    world.stop(client, reader);
    world.reset(client, writer);
    world.stop(client, one);
    world.reset(client, one);
    world.run(SOON);
    let mut cancelled = world.broker.cancelled.clone();
    cancelled.sort_unstable();
    assert_eq!(cancelled, keys);
    let stats = world.server.stats();
    assert_eq!((stats.requests_open, stats.streams_open), (1 - 1, 0));
    // Late answers find nobody.
    world.server.handle_response(world.now, keys[0], Response::InitProducer(Ok(1)));
    world.run(SOON);
    assert_eq!(world.server.stats().messages_out, 0);
    assert_eq!(world.server.stats().client_errors, []);
}

#[test]
fn a_reader_may_finish_its_side_and_goes_on_reading() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let reader = world.open_read(client, 0, 0);
    world.finish(client, reader);
    world.run(SOON);
    let writer = world.open_produce(client);
    world.produce(client, writer, 1, Acks::Leader, &frame(10));
    world.run(SOON);
    assert_eq!(offsets(&world.received(client, reader)), [0]);
    // It leaves by stopping only.
    world.stop(client, reader);
    world.run(SOON);
    assert_eq!(world.broker.cancelled.len(), 1);
}

#[test]
fn a_failing_partition_ends_its_readers_with_the_reason() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let reader = world.open_read(client, 0, 0);
    world.run(SOON);
    let key = world.broker.open[0].0;
    world.answer(key, Response::Fetch(Err(FetchError::NotLeader)));
    world.run(SOON);
    let received = world.received(client, reader);
    assert_eq!(received.last(), Some(&(3, ServerMessage::ReadFailed(FetchError::NotLeader))));
    assert!(world.stream(client, reader).is_ended);
}

#[test]
fn nothing_new_is_taken_while_paused() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let writer = world.open_produce(client);
    let reader = world.open_read(client, 0, 0);
    world.run(SOON);
    world.server.set_paused(world.now, true);
    let asked = world.broker.asked;
    for n in 0..20 {
        world.produce(client, writer, n, Acks::All, &frame(1000));
    }
    let one = world.open_request(client, 1, &Request::InitProducer);
    world.run(Duration::from_secs(60));
    assert_eq!(world.broker.asked, asked);
    assert_eq!(world.server.stats().client_errors, [], "waiting for us is not being slow");
    world.server.set_paused(world.now, false);
    world.run(SOON);
    assert_eq!(world.received(client, writer).len(), 20);
    assert_eq!(offsets(&world.received(client, reader)), (0..20).collect::<Vec<_>>());
    let key =
        world.broker.open.iter().find(|(_, r)| *r == Request::InitProducer).expect("asked after the pause").0;
    world.answer(key, Response::InitProducer(Ok(1)));
    world.run(SOON);
    assert_eq!(world.received(client, one).len(), 1);
}

/// A stream was full by its own bound when a pause began; the answers that made room came during it. The stream was
/// driven, might not go on, and was not remembered as one that waits for the pause's end: what its client had sent
/// by then was never read, and the client waited for answers for ever. Found by cores that paused for full links.
#[test]
fn a_stream_that_gets_room_during_a_pause_goes_on_after_it() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    for n in 0..STREAM_PRODUCES_MAX as u64 + 10 {
        world.produce(client, id, n, Acks::All, &frame(10));
    }
    world.run(SOON);
    assert_eq!(world.broker.asked, STREAM_PRODUCES_MAX);
    world.server.set_paused(world.now, true);
    for (key, _) in world.broker.open.clone() {
        world.answer(key, Response::Produce(Ok(produced(0))));
    }
    world.run(SOON);
    assert_eq!(world.broker.asked, STREAM_PRODUCES_MAX);
    world.server.set_paused(world.now, false);
    world.run(SOON);
    assert_eq!(world.broker.asked, STREAM_PRODUCES_MAX + 10);
}

#[test]
fn everything_arrives_over_a_bad_link() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    world.lost_of_1000 = 50;
    world.jitter = Duration::from_millis(5);
    let writer = world.open_produce(client);
    let reader = world.open_read(client, 0, 0);
    for n in 0..40 {
        world.produce(client, writer, n, Acks::All, &frame(30_000));
    }
    world.run(Duration::from_secs(60));
    let answers = world.received(client, writer);
    assert_eq!(
        answers.iter().map(|(correlation, _)| *correlation).collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
    assert_eq!(offsets(&world.received(client, reader)), (0..40).collect::<Vec<_>>());
    assert!(world.server.stats().lost_packets > 0);
    assert_eq!(world.server.stats().client_errors, []);
}

#[test]
fn many_streams_share_one_connection() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let writers: Vec<_> = (0..300).map(|_| world.open_produce(client)).collect();
    for (n, writer) in writers.iter().enumerate() {
        world.produce(client, *writer, n as u64, Acks::All, &frame(5000));
        world.finish(client, *writer);
    }
    world.run(Duration::from_secs(2));
    for (n, writer) in writers.iter().enumerate() {
        let received = world.received(client, *writer);
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].0, n as u64);
    }
    assert_eq!(world.server.stats().streams_open, 0);
}

#[test]
fn a_push_is_never_larger_than_the_reader_asked_for_and_its_fetches_name_its_group() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open(client);
    let open = OpenRead { partition: PARTITION, offset: Offset(0), bytes_max: 4096, group: Some("g".into()) };
    world.send(client, id, encode::open_read(1, &open));
    let large = world.open_read(client, 0, u32::MAX);
    world.run(SOON);
    let asked: Vec<_> = world
        .broker
        .open
        .iter()
        .map(|(_, request)| match request {
            Request::Fetch(fetch) => (fetch.bytes_max, fetch.reader),
            other => panic!("{other:?}"),
        })
        .collect();
    let member = Some(ReaderId::of_group("g"));
    assert_eq!(asked, [(4096, member), (server_config().send_buffer_bytes as u32, None)]);
    let _ = large;
}
