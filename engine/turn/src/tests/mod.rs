//! Whole turns of several cores, through the public face.

mod client;
mod kafka;
mod node;

use std::time::Duration;

use engine_api::{Fetch, FindOffset, Place, ProduceError, Request, Response};
use net_wire::ServerMessage;
use storage_frame::{BatchBuilder, Frame, Offset, TimestampMs};

use crate::outboxes::BACKLOG_MESSAGES_MAX;
use crate::phase::DRAIN;
use crate::{CoreLogic, LINK_MESSAGES_MAX};
use client::Client;
use node::{Node, partition_of};

/// Enough for everything but deadlines.
const SOON: Duration = Duration::from_millis(50);

fn frame(number: usize) -> Frame {
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(1_700_000_000_000), None, Some(number.to_string().as_bytes()), []).unwrap();
    builder.seal(None)
}

fn frames(count: usize) -> Vec<Frame> {
    (0..count).map(frame).collect()
}

fn large_frame() -> Frame {
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(1_700_000_000_000), None, Some(&[7; 900_000]), []).unwrap();
    builder.seal(None)
}

/// The base offsets of what was stored.
fn stored(messages: Vec<ServerMessage>) -> Vec<u64> {
    let offset = |message| {
        let ServerMessage::Produced(Ok(produced)) = message else { panic!("{message:?}") };
        produced.base_offset.0
    };
    messages.into_iter().map(offset).collect()
}

fn assert_nothing_open(node: &Node) {
    for core in &node.cores {
        assert_eq!((core.server().stats().requests_open, core.forwarded_count(), core.backlog()), (0, 0, 0));
        let shard = core.shard().stats();
        assert_eq!((shard.waiting_fetches, shard.waiting_produces), (0, 0));
    }
}

#[test]
fn a_request_on_the_wrong_core_is_answered_through_it() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(4);
    for core in 0..2 {
        let client = node.connect(core);
        let ids = [0, 1].map(|owner| node.clients[client].produce(partition_of(&topic, owner), &frames(3)));
        node.run(SOON);
        for id in ids {
            let first = core as u64 * 3;
            assert_eq!(stored(node.clients[client].received(id)), [first, first + 1, first + 2]);
        }
        let stats = node.cores[core].stats();
        assert_eq!((stats.requests_owned, stats.requests_forwarded), (3, 3));
    }
    assert_nothing_open(&node);
}

#[test]
fn a_cancel_that_crosses_its_reply_leaves_nothing_and_misleads_nobody() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let partition = partition_of(&topic, 1);
    let client = node.connect(0);
    // The answer is on its way, and not taken.
    node.held.push((1, 0));
    let find = Request::FindOffset(FindOffset { partition, place: Place::End });
    let id = node.clients[client].request(&find);
    node.run(SOON);
    assert_eq!(node.cores[0].forwarded_count(), 1);
    node.clients[client].stop(id);
    node.run(SOON);
    assert_eq!((node.cores[0].forwarded_count(), node.cores[0].server().stats().requests_open), (0, 0));
    // When the late answer comes, another request waits in the place of the first, for the same core.
    let next = node.clients[client].read(partition);
    node.run(SOON);
    assert_eq!(node.cores[0].forwarded_count(), 1);
    node.held.clear();
    node.run(SOON);
    assert_eq!(node.cores[1].shard().stats().waiting_fetches, 1, "it got its own answer and asked again");
    assert_eq!(node.clients[client].frames(next), 0);
    let write = node.clients[client].produce(partition, &frames(1));
    node.run(SOON);
    assert_eq!(stored(node.clients[client].received(write)), [0]);
    assert_eq!(node.clients[client].frames(next), 1);
    assert!(node.clients[client].received(id).is_empty());
    node.clients[client].stop(next);
    node.run(SOON);
    assert_nothing_open(&node);
}

#[test]
fn a_cancel_reaches_a_request_that_waits_with_its_owner() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let client = node.connect(0);
    let id = node.clients[client].read(partition_of(&topic, 1));
    node.run(SOON);
    assert_eq!(node.cores[1].shard().stats().waiting_fetches, 1);
    node.clients[client].stop(id);
    node.run(SOON);
    assert_nothing_open(&node);
}

#[test]
fn a_request_and_its_cancel_may_arrive_in_one_turn() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let client = node.connect(0);
    node.asleep[1] = true;
    let id = node.clients[client].read(partition_of(&topic, 1));
    node.run(SOON);
    node.clients[client].stop(id);
    node.run(SOON);
    node.asleep[1] = false;
    node.run(SOON);
    assert_nothing_open(&node);
}

#[test]
fn a_full_link_pauses_the_clients_and_nothing_is_lost_or_overtakes() {
    const FRAMES: usize = 2000;
    let mut node = Node::start(2, 3);
    let topic = node.create_topic(2);
    let clients = [node.connect(0), node.connect(0)];
    node.asleep[1] = true;
    let ids = clients.map(|client| node.clients[client].produce(partition_of(&topic, 1), &frames(FRAMES)));
    node.run(Duration::from_millis(200));
    let backlog = node.cores[0].backlog();
    assert!(backlog > 0, "the link is full");
    assert_eq!(node.cores[0].stats().pauses, 1);
    let taken = node.cores[0].stats().requests_forwarded;
    node.run(Duration::from_millis(200));
    assert_eq!(node.cores[0].stats().requests_forwarded, taken, "nothing is taken while paused");
    node.asleep[1] = false;
    node.run(Duration::from_secs(2));
    let mut all = Vec::new();
    for (client, id) in clients.into_iter().zip(ids) {
        let offsets = stored(node.clients[client].received(id));
        assert!(offsets.is_sorted(), "{offsets:?}");
        all.extend(offsets);
    }
    all.sort_unstable();
    assert_eq!(all, (0..2 * FRAMES as u64).collect::<Vec<_>>());
    assert_nothing_open(&node);
}

#[test]
fn cores_that_are_full_of_messages_for_each_other_both_go_on() {
    const FRAMES: usize = 300;
    let mut node = Node::start(3, 1);
    let topic = node.create_topic(3);
    let mut streams = Vec::new();
    for core in 0..3 {
        let client = node.connect(core);
        for owner in 0..3 {
            let id = node.clients[client].produce(partition_of(&topic, owner), &frames(FRAMES));
            streams.push((client, id));
        }
    }
    node.run(Duration::from_secs(2));
    for (client, id) in streams {
        let offsets = stored(node.clients[client].received(id));
        assert!(offsets.len() == FRAMES && offsets.is_sorted(), "{offsets:?}");
    }
    assert!(node.cores.iter().all(|core| core.stats().pauses > 0));
    assert_nothing_open(&node);
}

/// Replies to the other end pile up; the core keeps reading what it is sent, and takes nothing from its clients.
#[test]
fn the_inbox_is_drained_and_clients_wait_whatever_the_backlog() {
    const LINK: usize = 64;
    let mut node = Node::start(1, LINK);
    let client = node.connect(0);
    node.held.push((0, 1));
    let asked = LINK + BACKLOG_MESSAGES_MAX + 100;
    let keys: Vec<u64> = (0..asked).map(|_| node.ask(0, Request::DescribeCluster)).collect();
    node.pump();
    assert_eq!(node.cores[0].backlog(), asked - LINK);
    let id = node.clients[client].request(&Request::DescribeCluster);
    node.run(SOON);
    assert!(node.clients[client].received(id).is_empty());
    let late = node.ask(0, Request::DescribeCluster);
    node.run(SOON);
    assert_eq!(node.cores[0].backlog(), asked - LINK + 1, "read and answered all the same");
    node.held.clear();
    node.run(SOON);
    assert!(node.replies.keys().copied().eq(keys.into_iter().chain([late])));
    assert_eq!(node.clients[client].received(id).len(), 1);
    assert_nothing_open(&node);
}

/// The links take it all, so nobody rings when there is room again.
#[test]
fn a_backlog_that_leaves_at_once_leaves_no_request_waiting() {
    let mut node = Node::start(1, 2 * BACKLOG_MESSAGES_MAX);
    for _ in 0..=BACKLOG_MESSAGES_MAX {
        node.ask(0, Request::DescribeCluster);
    }
    node.move_messages();
    node.turn(0);
    assert_eq!((node.cores[0].backlog(), node.more[0]), (0, true), "there was one, and it is gone");
    node.turn(0);
    assert!(!node.more[0]);
}

#[test]
fn an_end_that_is_no_core_is_answered_and_told_no_news() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    // The node would panic at a message that is no reply.
    let topic = node.create_topic(2);
    let partition = partition_of(&topic, 1);
    let fetch = Fetch {
        partition,
        offset: Offset(0),
        bytes_max: 1 << 20,
        bytes_min: 1,
        wait_max: None,
        reader: None,
    };
    let key = node.ask(1, Request::Fetch(fetch));
    node.run(SOON);
    assert!(node.replies.is_empty(), "it waits");
    let client = node.connect(0);
    node.clients[client].produce(partition_of(&topic, 1), &frames(1));
    node.run(SOON);
    let Response::Fetch(Ok(fetched)) = &node.replies[&key] else { panic!("{:?}", node.replies) };
    assert_eq!(fetched.frames.len(), 1);
}

/// A write is under way, its answer has another core to pass, and more follows when the node is told to stop.
#[test]
fn a_stop_answers_what_was_accepted_then_says_goodbye() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let clients = [node.connect(0), node.connect(1)];
    node.disk_waits = true;
    let ids = clients.map(|client| node.clients[client].produce(partition_of(&topic, 1), &frames(3)));
    node.run(SOON);
    node.cores.iter_mut().for_each(CoreLogic::stop);
    let late = node.clients[clients[0]].produce(partition_of(&topic, 1), &frames(1));
    node.run(SOON);
    assert!(matches!(
        node.clients[clients[0]].received(late)[..],
        [ServerMessage::Produced(Err(ProduceError::ShuttingDown))]
    ));
    assert!(!node.stopped[1], "accepted writes are finished first");
    let at = node.at;
    node.cores[1].all_stopped(at);
    node.disk_waits = false;
    node.run(SOON);
    assert_eq!(node.stopped, [true, true]);
    let mut offsets = Vec::new();
    for (client, id) in clients.into_iter().zip(ids) {
        offsets.extend(stored(node.clients[client].received(id)));
    }
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert!(node.clients.iter().all(Client::is_connected), "other cores may need this one");

    let at = node.at;
    node.cores.iter_mut().for_each(|core| core.all_stopped(at));
    node.pump();
    assert!(node.cores.iter().all(CoreLogic::is_ended), "nothing was on its way any more");
    for client in &node.clients {
        assert!(client.lost.as_ref().unwrap().contains("shutting down"), "{:?}", client.lost);
    }
}

/// The owner had closed its logs, the node ended, and the answer to a write that was accepted and durable was still
/// between two cores: the client's core saw nothing on its way out, said goodbye, and the answer was lost.
#[test]
fn an_end_waits_for_answers_that_are_between_cores() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let client = node.connect(0);
    let read = node.clients[client].read(partition_of(&topic, 1));
    node.disk_waits = true;
    let id = node.clients[client].produce(partition_of(&topic, 1), &frames(3));
    node.run(SOON);
    node.cores.iter_mut().for_each(CoreLogic::stop);
    node.held.push((1, 0));
    node.disk_waits = false;
    node.run(SOON);
    assert_eq!(node.stopped, [true, true]);
    let at = node.at;
    node.cores.iter_mut().for_each(|core| core.all_stopped(at));
    node.run(SOON);
    assert!(!node.cores[0].is_ended() && node.cores[1].is_ended());
    node.held.clear();
    node.pump();
    assert_eq!(stored(node.clients[client].received(id)), [0, 1, 2]);
    assert!(node.cores[0].is_ended(), "a reader's waiting question has been answered, too");
    node.clients[client].received(read);
}

/// Nothing it is sent arrives, and what it asked for does not fit on the way: the end comes all the same.
#[test]
fn a_client_that_is_gone_delays_the_end_by_a_bounded_time() {
    let mut node = Node::start(1, LINK_MESSAGES_MAX);
    let topic = node.create_topic(1);
    let [writer, reader] = [node.connect(0), node.connect(0)];
    let large = vec![large_frame(); 16];
    node.clients[writer].produce(partition_of(&topic, 0), &large);
    node.run(Duration::from_secs(1));
    for _ in 0..16 {
        node.clients[reader].read(partition_of(&topic, 0));
    }
    node.move_datagrams();
    node.clients[reader].is_deaf = true;
    node.run(SOON);
    node.cores[0].stop();
    node.run(SOON);
    assert!(node.stopped[0]);
    assert!(node.cores[0].server().stats().send_buffered_bytes > 0);
    let at = node.at;
    node.cores[0].all_stopped(at);
    node.run(DRAIN - Duration::from_millis(1));
    assert!(!node.cores[0].is_ended());
    node.run(Duration::from_millis(1));
    assert!(node.cores[0].is_ended());
    assert!(node.clients[writer].lost.as_ref().unwrap().contains("shutting down"));
}

#[test]
fn a_core_whose_socket_takes_nothing_ends_all_the_same() {
    let mut node = Node::start(1, LINK_MESSAGES_MAX);
    node.connect(0);
    node.cores[0].stop();
    node.run(SOON);
    let at = node.at;
    node.cores[0].all_stopped(at);
    node.sends = false;
    node.run(2 * DRAIN - Duration::from_millis(1));
    assert!(!node.cores[0].is_ended());
    node.run(Duration::from_millis(1));
    assert!(node.cores[0].is_ended());
    assert!(node.clients[0].is_connected(), "it finds out by itself");
}
