//! What clients do wrong: each is told why, pays for it alone, and its connection goes on where it can.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{Acks, DescribeTopics, Request, Response};
use net_wire::{Code, Kind, MessageHeader, Refusal, ServerMessage, encode};
use quinn_proto::{ConnectionError, StreamId};

use super::world::*;

const SOON: Duration = Duration::from_millis(20);

#[track_caller]
fn refusal(world: &mut World, client: usize, id: StreamId) -> Refusal {
    let received = world.received(client, id);
    assert!(world.stream(client, id).is_ended);
    match received.last() {
        Some((_, ServerMessage::Refused(refusal))) => refusal.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The connection still serves.
#[track_caller]
fn still_serves(world: &mut World, client: usize) {
    let id = world.open_request(client, 1, &Request::InitProducer);
    world.run(SOON);
    let key = world.broker.open.iter().find(|(_, r)| *r == Request::InitProducer).expect("asked").0;
    world.answer(key, Response::InitProducer(Ok(1)));
    world.run(SOON);
    assert_eq!(world.received(client, id).len(), 1);
    let stats = world.server.stats();
    assert_eq!((stats.streams_open, stats.requests_open, stats.connections), (0, 0, 1));
}

#[track_caller]
fn check_refused(bytes: Vec<Bytes>, finish: bool, code: Code, cause: &str) {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open(client);
    for bytes in bytes {
        world.send(client, id, bytes);
    }
    if finish {
        world.finish(client, id);
    }
    world.run(SOON);
    let refusal = refusal(&mut world, client, id);
    assert_eq!(refusal.code, code);
    assert!(refusal.cause.contains(cause), "{refusal}");
    assert!(!refusal.remedy.is_empty());
    if !finish {
        assert_eq!(world.stream(client, id).stopped, Some(u64::from(code.number())));
    }
    assert_eq!(world.server.stats().client_errors, [(code.name(), 1)]);
    assert_eq!(world.broker.asked, world.broker.cancelled.len());
    still_serves(&mut world, client);
}

#[test]
fn garbage_on_a_stream_is_refused() {
    check_refused(
        vec![Bytes::from_static(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")],
        false,
        Code::Version,
        "version 47",
    );
}

#[test]
fn another_version_is_refused() {
    let mut bytes = encode::request(1, &Request::InitProducer).to_vec();
    bytes[4] = 9;
    check_refused(vec![bytes.into()], true, Code::Version, "version 9, this build speaks 1");
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut bytes = encode::request(1, &Request::InitProducer).to_vec();
    bytes[5] = 0x70;
    check_refused(vec![bytes.into()], true, Code::Kind, "0x70");
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let mut bytes =
        encode::request(1, &Request::DescribeTopics(DescribeTopics { names: vec!["x".repeat(100)] }))
            .to_vec();
    let end = bytes.len();
    bytes[end - 8..].fill(0xFF);
    check_refused(vec![bytes.into()], true, Code::Malformed, "not a valid archive");
}

#[test]
fn a_truncated_message_is_refused() {
    let whole = encode::request(1, &Request::DescribeTopics(DescribeTopics { names: vec!["orders".into()] }));
    check_refused(vec![whole.slice(..whole.len() - 1)], true, Code::Truncated, "inside a message");
    check_refused(vec![whole.slice(..7)], true, Code::Truncated, "7 bytes");
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_header() {
    let header = MessageHeader { bytes: u32::MAX, kind: Kind::Produce, meta_bytes: 1, correlation: 0 };
    let bytes = vec![encode::open_produce(&PARTITION), Bytes::copy_from_slice(&header.encode())];
    check_refused(bytes, false, Code::TooLarge, "limit 2097152");
}

#[test]
fn a_produce_without_its_opening_is_refused() {
    let mut chunks = Vec::new();
    encode::produce(8, Acks::All, &frame(10), &mut chunks);
    check_refused(chunks, false, Code::Unexpected, "OpenProduce comes first");
}

#[test]
fn a_second_request_on_a_stream_is_refused() {
    let one = encode::request(1, &Request::InitProducer);
    check_refused(vec![one.clone(), one], true, Code::Unexpected, "sent already");
}

#[test]
fn an_answer_from_a_client_is_refused() {
    let answer = encode::response(1, &Response::InitProducer(Ok(1)));
    check_refused(vec![answer], true, Code::Unexpected, "only brokers");
}

#[test]
fn what_was_good_before_a_violation_is_answered_first() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    world.produce(client, id, 1, Acks::All, &frame(10));
    world.send(client, id, Bytes::from_static(&[0xFF; 64]));
    world.run(SOON);
    assert_eq!(world.received(client, id), []);
    let key = world.broker.open[0].0;
    world.answer(key, Response::Produce(Ok(produced(0))));
    world.run(SOON);
    assert_eq!(world.stream(client, id).messages.len(), 2);
    assert_eq!(refusal(&mut world, client, id).code, Code::Version);
    still_serves(&mut world, client);
}

#[test]
fn a_stream_that_never_ends_its_message_times_out() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open_produce(client);
    let mut chunks = Vec::new();
    encode::produce(8, Acks::All, &frame(1_000_000), &mut chunks);
    let bytes = Bytes::from(chunks.concat());
    world.send(client, id, bytes.slice(..500_000));
    // A byte now and then does not help.
    for n in 0..29 {
        world.run(Duration::from_secs(1));
        world.send(client, id, bytes.slice(500_000 + n..500_001 + n));
    }
    assert_eq!(world.received(client, id), []);
    world.run(Duration::from_secs(3));
    assert_eq!(refusal(&mut world, client, id).code, Code::TooSlow);
    still_serves(&mut world, client);
}

#[test]
fn a_slow_message_that_gets_on_is_not_given_up() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let id = world.open_produce(client);
    let mut chunks = Vec::new();
    encode::produce(8, Acks::All, &frame(200_000), &mut chunks);
    let bytes = Bytes::from(chunks.concat());
    for part in bytes.chunks(10_000) {
        world.send(client, id, part.to_vec());
        world.run(Duration::from_secs(10));
    }
    assert_eq!(world.received(client, id).len(), 1);
}

#[test]
fn a_stream_that_does_not_say_what_it_is_for_times_out() {
    let mut world = World::new();
    let client = world.connect();
    let id = world.open(client);
    world.send(client, id, Bytes::from_static(&[0]));
    world.run(Duration::from_secs(29));
    assert_eq!(world.server.stats().streams_open, 1);
    world.run(Duration::from_secs(3));
    assert_eq!(refusal(&mut world, client, id).code, Code::TooSlow);
    still_serves(&mut world, client);
}

#[test]
fn many_large_messages_at_once_do_not_lock_each_other_out() {
    let mut world = World::new();
    let client = world.connect();
    let mut chunks = Vec::new();
    encode::produce(8, Acks::All, &frame(200_000), &mut chunks);
    let bytes = Bytes::from(chunks.concat());
    // Together far more than the connection's window.
    let streams: Vec<_> = (0..40).map(|_| world.open_produce(client)).collect();
    for id in &streams {
        world.send(client, *id, bytes.slice(..100_000));
    }
    world.run(Duration::from_secs(1));
    for id in &streams {
        world.send(client, *id, bytes.slice(100_000..));
    }
    world.broker.is_serving = true;
    world.run(Duration::from_secs(1));
    for id in &streams {
        assert_eq!(world.received(client, *id).len(), 1);
    }
}

#[test]
fn unfinished_messages_of_a_connection_are_bounded_in_memory() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let mut chunks = Vec::new();
    encode::produce(8, Acks::All, &frame(1_900_000), &mut chunks);
    let bytes = Bytes::from(chunks.concat());
    let streams: Vec<_> = (0..60).map(|_| world.open_produce(client)).collect();
    for id in &streams {
        world.send(client, *id, bytes.slice(..1_800_000));
    }
    world.run(Duration::from_secs(10));
    let refused: Vec<_> = streams.iter().copied().filter(|id| world.stream(client, *id).is_ended).collect();
    assert!(!refused.is_empty() && refused.len() < 40, "{} refused", refused.len());
    for id in refused.clone() {
        assert_eq!(refusal(&mut world, client, id).code, Code::TooMany);
    }
    // The others end well.
    for id in streams.iter().filter(|id| !refused.contains(id)) {
        world.send(client, *id, bytes.slice(1_800_000..));
        world.run(Duration::from_secs(1));
        assert_eq!(world.received(client, *id).len(), 1);
        world.finish(client, *id);
    }
    world.broker.is_serving = false;
    world.broker.asked = 0;
    world.run(SOON);
    still_serves(&mut world, client);
}

#[test]
fn garbage_datagrams_are_ignored() {
    let mut world = World::new();
    let client = world.connect();
    let mut dice = 1u32;
    for bytes in 0..1500usize {
        let garbage: Vec<u8> = (0..bytes)
            .map(|_| {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (dice >> 24) as u8
            })
            .collect();
        world.inject(&garbage);
    }
    let template = world.clients[client].sent.last().expect("something sent").to_vec();
    for at in 0..template.len() {
        let mut damaged = template.clone();
        damaged[at] ^= 0x10;
        world.inject(&damaged);
    }
    world.run(SOON);
    still_serves(&mut world, client);
}

#[test]
fn a_client_of_another_protocol_is_told_so_by_tls() {
    let mut world = World::new();
    let client = world.dial(ClientSetup { alpn: b"h3".to_vec(), ..ClientSetup::default() });
    world.run(Duration::from_secs(1));
    match &world.clients[client].lost {
        // 0x100 + the TLS alert no_application_protocol.
        Some(ConnectionError::ConnectionClosed(close)) => assert_eq!(u64::from(close.error_code), 0x178),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.server.stats().connections, 0);
    assert_eq!(world.server.stats().connections_opened, 0);
}
