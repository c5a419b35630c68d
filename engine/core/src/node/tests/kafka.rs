//! Kafka's clients over real sockets. Only what the door does: each asks for ApiVersions, which needs no topic.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::*;

/// The number in the request comes back in its answer.
fn ask(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(10u32.to_be_bytes());
    bytes.extend(18u16.to_be_bytes());
    bytes.extend(0u16.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    // No client id.
    bytes.extend((-1i16).to_be_bytes());
    bytes
}

fn connect(place: &Place) -> TcpStream {
    let stream = TcpStream::connect(place.kafka.unwrap()).unwrap();
    stream.set_read_timeout(Some(STOP)).unwrap();
    stream
}

/// The number of the next answer.
fn answer(stream: &mut TcpStream) -> std::io::Result<u32> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut body = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut body)?;
    Ok(u32::from_be_bytes(body[..4].try_into().unwrap()))
}

#[track_caller]
fn check(stream: &mut TcpStream, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(answer(stream).unwrap(), number);
    }
}

fn stats(node: &Node) -> net_kafka::ServerStats {
    let mut total = net_kafka::ServerStats::default();
    for core in block_on(node.stats()).cores {
        total.connections += core.kafka.connections;
        total.connections_opened += core.kafka.connections_opened;
        total.connections_refused += core.kafka.connections_refused;
        total.requests_open += core.kafka.requests_open;
    }
    total
}

fn wait_until(node: &Node, holds: impl Fn(&net_kafka::ServerStats) -> bool) {
    let begun = Instant::now();
    while !holds(&stats(node)) {
        assert!(begun.elapsed() < STOP, "{:?}", stats(node));
        std::thread::yield_now();
    }
}

#[test]
fn requests_sent_together_are_answered_in_order_on_every_core() {
    let mut place = Place::new();
    let (node, _) = place.start(cores());
    let mut streams: Vec<TcpStream> = (0..6).map(|_| connect(&place)).collect();
    for stream in &mut streams {
        let all: Vec<u8> = (0..300).flat_map(ask).collect();
        // In pieces that end anywhere.
        for piece in all.chunks(701) {
            stream.write_all(piece).unwrap();
        }
    }
    streams.iter_mut().for_each(|stream| check(stream, 0..300));
    drop(streams);
    wait_until(&node, |stats| stats.connections == 0);
    node.stop_within(STOP).unwrap();
}

/// It sends and does not read until all of its answers would fill every buffer on the way; TCP holds it back, and
/// nobody else.
#[test]
fn a_client_that_does_not_read_is_held_back_and_then_gets_everything() {
    const ASKED: u32 = 60_000;
    let mut place = Place::new();
    let (node, _) = place.start(1);
    let mut slow = connect(&place);
    let mut writer = slow.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for batch in 0..ASKED / 1000 {
            let bytes: Vec<u8> = (batch * 1000..(batch + 1) * 1000).flat_map(ask).collect();
            writer.write_all(&bytes).unwrap();
        }
    });
    let mut quick = connect(&place);
    for number in 0..1000 {
        quick.write_all(&ask(number)).unwrap();
        check(&mut quick, number..number + 1);
    }
    check(&mut slow, 0..ASKED);
    writing.join().unwrap();
    node.stop_within(STOP).unwrap();
}

#[test]
fn connections_beyond_the_bound_are_closed_and_places_are_given_again() {
    let mut place = Place::new();
    let (node, _) = place.start(1);
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(&place)).collect();
    for stream in &mut streams {
        stream.write_all(&ask(1)).unwrap();
        check(stream, 1..2);
    }
    assert_eq!(connect(&place).read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(stats(&node).connections_refused, 1);
    streams.pop();
    wait_until(&node, |stats| stats.connections == 7);
    let mut next = connect(&place);
    next.write_all(&ask(2)).unwrap();
    check(&mut next, 2..3);
    node.stop_within(STOP).unwrap();
}

#[test]
fn a_client_that_speaks_something_else_is_closed_and_others_go_on() {
    let mut place = Place::new();
    let (node, _) = place.start(1);
    let mut good = connect(&place);
    for foreign in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0, 200, 1], &[0xff; 100]] {
        let mut stream = connect(&place);
        stream.write_all(foreign).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed without an answer");
    }
    good.write_all(&ask(5)).unwrap();
    check(&mut good, 5..6);
    // It closes last: nothing of it is left here.
    wait_until(&node, |stats| stats.connections == 1);
    node.stop_within(STOP).unwrap();
}

/// What it has sent is answered, whatever else it is still sending.
#[test]
fn a_stop_closes_connections_behind_their_last_answers() {
    let mut place = Place::new();
    let (node, _) = place.start(cores());
    let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&place)).collect();
    for stream in &mut streams {
        stream.write_all(&(0..50).flat_map(ask).collect::<Vec<u8>>()).unwrap();
        check(stream, 0..1);
    }
    node.stop();
    for stream in &mut streams {
        let mut next = 1;
        loop {
            match answer(stream) {
                Ok(number) => {
                    assert_eq!(number, next);
                    next += 1;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => panic!("{error} after answer {next}"),
            }
        }
        assert!(next >= 50, "all that was sent was answered, not {next}");
    }
    node.stop_within(STOP).unwrap();
}
