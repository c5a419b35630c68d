//! Connections: bytes in any pieces, answers in order, bounds, pauses, ends.

use std::time::Duration;

use engine_api::Request;
use kafka_protocol::messages::{ApiVersionsRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;

use super::fetches::{fetch_request, wait_request};
use super::produces::produce_request;
use super::world::*;
use crate::config::{FLIGHTS_MAX, READ_BYTES_MAX};

/// Something that is asked of the broker.
fn init_request() -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(None)
}

fn correlations(world: &mut World, conn: crate::ConnId) -> Vec<i32> {
    world.answers(conn).iter().map(|answer| i32::from_be_bytes(answer[..4].try_into().unwrap())).collect()
}

#[test]
fn a_stream_of_requests_is_read_alike_in_whatever_pieces_it_comes() {
    let mut chance = Chance(5);
    for round in 0..60 {
        let mut world = World::new();
        world.add_topic("a", 2);
        let conn = world.connect();
        let mut stream = Vec::new();
        for correlation in 0..20 {
            stream.extend(match correlation % 4 {
                0 => encode(3, correlation, &ApiVersionsRequest::default()),
                1 => encode(7, correlation, &produce_request("a", 1, &[correlation.into()], -1)),
                2 => encode(12, correlation, &MetadataRequest::default()),
                _ => encode(11, correlation, &fetch_request(11, "a", 1, 0)),
            });
        }
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let piece = 1 + chance.below([1, 7, 100, 5000][round % 4]);
            let (now, later) = rest.split_at(piece.min(rest.len()));
            assert_eq!(world.feed(conn, now), now.len());
            rest = later;
        }
        assert_eq!(correlations(&mut world, conn), (0..20).collect::<Vec<_>>());
        assert_eq!(world.log("a", 1).end().0, 5);
        assert_eq!(world.server.stats().requests_open, 0);
    }
}

#[test]
fn a_waiting_fetch_holds_up_answers_behind_it_and_nothing_else() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let conn = world.connect();
    world.send(conn, 11, &wait_request("a", 0, 0));
    world.send(conn, 7, &produce_request("a", 0, &[1], 1));
    assert_eq!(world.log("a", 0).end().0, 1, "the second was carried out");
    assert!(world.answers(conn).is_empty());
    world.release();
    assert_eq!(correlations(&mut world, conn), [1, 2]);
}

#[test]
fn produces_of_a_connection_are_asked_in_its_order() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let conn = world.connect();
    for time in 0..10 {
        world.send(conn, 7, &produce_request("a", 0, &[time], 1));
    }
    let times = world.asked.iter().map(|asked| match asked {
        Request::Produce(produce) => produce.frame.header().max_timestamp.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(times.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn who_asks_without_taking_answers_is_not_read_any_more() {
    let mut world = World::new();
    world.holds = true;
    let conn = world.connect();
    let mut bytes = Vec::new();
    for correlation in 0..5000 {
        bytes.extend(encode(0, correlation, &init_request()));
    }
    let read = world.feed(conn, &bytes);
    assert!(read < 2 * READ_BYTES_MAX, "{read} of {}", bytes.len());
    assert_eq!(world.open.len(), FLIGHTS_MAX);
    assert!(!world.server.wants_read(conn));
    world.release();
    let mut rest = &bytes[read..];
    while !rest.is_empty() {
        let read = world.feed(conn, rest);
        assert!(read > 0, "goes on");
        rest = &rest[read..];
    }
    assert_eq!(correlations(&mut world, conn), (0..5000).collect::<Vec<_>>());
}

#[test]
fn paused_nothing_is_begun_and_what_was_begun_is_answered() {
    let mut world = World::new();
    world.holds = true;
    let conn = world.connect();
    world.send(conn, 0, &init_request());
    world.server.set_paused(world.now, true);
    assert!(!world.server.wants_read(conn));
    world.release();
    assert_eq!(correlations(&mut world, conn), [1]);
    world.server.set_paused(world.now, false);
    assert_eq!(world.server.poll_ready(world.now, &world.topics), Some(conn));
    assert!(world.server.wants_read(conn));
    world.send(conn, 0, &init_request());
    assert_eq!(correlations(&mut world, conn), [2]);
}

#[test]
fn as_long_as_metadata_is_read_nothing_is_begun() {
    let mut world = World::new();
    world.topics.is_loading = true;
    let conn = world.connect();
    world.send(conn, 1, &MetadataRequest::default());
    assert!(world.answers(conn).is_empty());
    world.topics.is_loading = false;
    world.run();
    assert_eq!(correlations(&mut world, conn), [1]);
}

#[test]
fn what_a_connection_waits_for_ends_with_it() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let conn = world.connect();
    world.send(conn, 11, &wait_request("a", 0, 0));
    let (key, request) = world.open[0].clone();
    world.server.ended(world.now, conn);
    world.run();
    assert_eq!((world.cancelled, world.open.len()), (1, 0));
    // An answer that was on its way finds nobody, its place's next owner least of all.
    let next = world.connect();
    assert_ne!(next, conn);
    world.open.push((key, request));
    world.release();
    assert!(world.answers(next).is_empty());
    assert!(world.server.reserve(conn).is_none() && world.server.is_closing(conn));
    assert_eq!(world.server.stats().connections, 1);
}

#[test]
fn half_a_request_is_waited_for_half_a_minute() {
    let mut world = World::new();
    let conn = world.connect();
    let bytes = encode(1, 1, &MetadataRequest::default());
    world.feed(conn, &bytes[..6]);
    world.pass(Duration::from_secs(29));
    assert!(!world.server.is_closing(conn));
    world.feed(conn, &bytes[6..8]);
    world.pass(Duration::from_secs(2));
    world.assert_closed(conn, "request_timeout");
}

#[test]
fn a_client_that_waits_for_us_is_not_idle_and_one_that_says_nothing_is() {
    let mut world = World::new();
    world.holds = true;
    let (waits, idle) = (world.connect(), world.connect());
    world.send(waits, 0, &init_request());
    world.pass(Duration::from_secs(601));
    world.assert_closed(idle, "idle");
    assert!(!world.server.is_closing(waits));
    world.release();
    assert_eq!(correlations(&mut world, waits), [1]);
    world.pass(Duration::from_secs(1300));
    assert!(world.server.is_closing(waits));
}

/// Its timer went off for ever in one moment, and the core did nothing else any more.
#[test]
fn a_connection_that_is_over_waits_for_its_client_to_take_the_last_answers_for_a_while_only() {
    let mut world = World::new();
    let conn = world.connect();
    world.send(conn, 0, &init_request());
    world.feed(conn, &[0xff; 8]);
    world.assert_closed(conn, "request_size");
    assert!(world.server.stats().send_buffered_bytes > 0);
    while world.server.poll_ready(world.now, &world.topics).is_some() {}
    world.pass(Duration::from_secs(601));
    assert_eq!(world.server.stats().send_buffered_bytes, 0);
    assert_eq!(world.server.poll_ready(world.now, &world.topics), Some(conn), "to be closed now");
    assert_eq!(world.server.next_timeout(), None);
    // A byte of what was dropped was on its way to the socket.
    world.server.sent(world.now, conn, 1);
    assert_eq!(world.server.stats().send_buffered_bytes, 0);
}

#[test]
fn there_is_room_for_so_many_connections() {
    let mut world = World::with(crate::ServerConfig { connections_max: 2, ..config() });
    let first = world.connect();
    world.connect();
    let address = "127.0.0.1:1".parse().unwrap();
    assert_eq!(world.server.open(world.now, address, address), None);
    assert_eq!(world.server.stats().connections_refused, 1);
    world.server.ended(world.now, first);
    world.connect();
}

#[test]
fn at_the_end_what_was_asked_is_answered() {
    let mut world = World::new();
    world.holds = true;
    let (busy, quiet) = (world.connect(), world.connect());
    world.send(busy, 0, &init_request());
    world.server.close(world.now);
    assert!(world.server.is_closing(quiet));
    assert!(!world.server.is_closing(busy) && !world.server.wants_read(busy));
    world.release();
    assert_eq!(correlations(&mut world, busy), [1]);
    assert!(world.server.is_closing(busy));
    let address = "127.0.0.1:1".parse().unwrap();
    assert_eq!(world.server.open(world.now, address, address), None);
}

/// Room follows what has come, not what is announced, when much is announced at once.
#[test]
fn announced_requests_take_little_room_until_they_come() {
    let config = crate::ServerConfig { request_bytes_max: 100 << 20, ..config() };
    let mut world = World::with(config);
    let mut room = 0;
    for _ in 0..100 {
        let conn = world.connect();
        world.feed(conn, &(90i32 << 20).to_be_bytes());
        room += world.server.reserve(conn).unwrap().capacity();
    }
    assert!(room < 100 * (256 << 10), "{room} bytes");
}

#[test]
fn records_are_where_the_socket_put_them() {
    let mut world = World::with(crate::ServerConfig { request_bytes_max: 8 << 20, ..config() });
    world.add_topic("a", 1);
    let conn = world.connect();
    let times: Vec<i64> = (0..50_000).collect();
    let request: ProduceRequest = produce_request("a", 0, &times, 1);
    let bytes = encode(7, 1, &request);
    assert!(bytes.len() > 1 << 20);
    // The first read brings some; then there is room for the rest, where reads of any size go.
    world.read_bytes_max = 100_000;
    world.feed(conn, &bytes[..1000]);
    let (begins, capacity) = {
        let buffer = world.server.reserve(conn).unwrap();
        (buffer.as_ptr() as usize, buffer.capacity())
    };
    assert!(capacity >= bytes.len());
    world.feed(conn, &bytes[1000..]);
    let payload = world.log("a", 0).frames[0].payload().as_ptr() as usize;
    assert!((begins..begins + bytes.len()).contains(&payload), "not moved since");
    // And from there to the socket.
    world.correlation = 1;
    world.answers(conn);
    world.send(conn, 11, &fetch_request(11, "a", 0, 0));
    while world.server.poll_ready(world.now, &world.topics).is_some() {}
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let count = world.server.outgoing(conn, &mut slices);
    let records = payload + 61;
    assert!(slices[..count].iter().any(|slice| slice.as_ptr() as usize == records));
}

#[test]
fn what_else_is_spoken_is_named() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], "http"),
        (b"POST /topics HTTP/1.1\r\n", "http"),
        (b"PRI * HTTP/2.0\r\n", "http"),
        (&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], "tls"),
        (&[0xff; 8], "request_size"),
        (&[0; 8], "request_size"),
        (&[0x10, 0, 0, 0], "request_too_large"),
    ] {
        let mut world = World::new();
        let conn = world.connect();
        world.feed(conn, bytes);
        world.assert_closed(conn, reason);
        let (name, fields) = world.server.poll_event().expect("is logged");
        assert_eq!(name, "kafka_connection_closed");
        assert!(fields.contains(&("reason", reason.to_owned())), "{fields:?}");
        assert!(world.sent(conn).is_empty());
        assert_eq!(world.server.poll_ready(world.now, &world.topics), None, "said once");
        world.server.ended(world.now, conn);
        assert_eq!(world.server.stats().connections, 0);
    }
}

#[test]
fn an_api_or_version_that_is_not_served_ends_the_connection_with_its_name() {
    for (key, version, reason) in
        [(0, 2, "version_unsupported"), (1, 13, "version_unsupported"), (999, 0, "api_unknown")]
    {
        let mut world = World::new();
        let conn = world.connect();
        world.send(conn, 0, &init_request());
        world.feed(conn, &encode_raw(key, version, 2, 1, &[]));
        world.assert_closed(conn, reason);
        let (_, fields) = world.server.poll_event().unwrap();
        for field in [
            ("client_id", "tester".to_owned()),
            ("api_key", key.to_string()),
            ("api_version", version.to_string()),
        ] {
            assert!(fields.contains(&field), "{field:?} in {fields:?}");
        }
        assert_eq!(correlations(&mut world, conn), [1], "what was answered before is sent");
    }
}

#[test]
fn events_are_few_and_say_how_many_were_left_out() {
    let mut world = World::new();
    for _ in 0..50 {
        let conn = world.connect();
        world.feed(conn, b"GET /");
        world.server.ended(world.now, conn);
    }
    let events = std::iter::from_fn(|| world.server.poll_event()).count();
    assert_eq!(events, 5);
    assert_eq!(world.server.stats().client_errors, [("http", 50)]);
    world.pass(Duration::from_secs(2));
    let conn = world.connect();
    world.feed(conn, b"GET /");
    let (_, fields) = world.server.poll_event().unwrap();
    assert!(fields.contains(&("events_dropped_before", "45".to_owned())));
}

#[test]
fn a_client_without_a_name_is_served() {
    let mut world = World::new();
    let conn = world.connect();
    let mut bytes = vec![0, 0, 0, 10];
    bytes.extend([0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff]);
    world.feed(conn, &bytes);
    assert_eq!(correlations(&mut world, conn), [9]);
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("a name! with (anything)"));
    world.call(conn, 3, &request);
}

/// Clients without acks close as soon as the last byte has left.
#[test]
fn what_came_before_the_end_is_carried_out_but_keeps_nobody_waiting() {
    let mut world = World::new();
    world.add_topic("a", 1);
    let conn = world.connect();
    let mut bytes = Vec::new();
    for time in 0..200 {
        bytes.extend(encode(7, 1, &produce_request("a", 0, &[time], 0)));
    }
    bytes.extend(encode(11, 2, &wait_request("a", 0, 200)));
    bytes.extend(encode(7, 3, &produce_request("a", 0, &[5], 1)));
    bytes.extend([0, 0, 9, 9, 9]);
    // Read, and the end noticed, before anything is done about it.
    world.server.reserve(conn).unwrap().extend_from_slice(&bytes);
    world.server.received(world.now, conn);
    world.server.ended(world.now, conn);
    assert_eq!(world.server.stats().connections, 0);
    assert!(world.server.is_closing(conn) && world.server.reserve(conn).is_none());
    let next = world.connect();
    assert_ne!(conn, next);
    world.run();
    assert_eq!(world.log("a", 0).end().0, 201);
    assert!(!world.asked.iter().any(|asked| matches!(asked, Request::Fetch(_))));
    assert_eq!((world.cancelled, world.server.stats().requests_open), (0, 0));
    assert_eq!(world.server.poll_ready(world.now, &world.topics), None);
    // Its place is free again.
    world.send(next, 0, &init_request());
    assert_eq!(correlations(&mut world, next), [1]);
}

#[test]
fn what_is_on_its_way_to_the_log_is_not_taken_back() {
    let mut world = World::new();
    world.add_topic("a", 1);
    world.holds = true;
    let conn = world.connect();
    world.send(conn, 7, &produce_request("a", 0, &[1], 0));
    world.server.ended(world.now, conn);
    world.run();
    assert_eq!((world.open.len(), world.cancelled), (1, 0));
    world.release();
    assert_eq!(world.log("a", 0).end().0, 1);
}
