//! Requests that are not what they claim: no panic, bounded room, others unaffected.

use kafka_protocol::messages::ApiVersionsRequest;

use super::walks::{some_request, versions};
use super::world::*;

/// Everything a mutated request asked is answered or cancelled, and its neighbour is served.
fn check(world: &mut World, neighbour: crate::ConnId, bytes: &[u8]) {
    let conn = world.connect();
    world.feed(conn, bytes);
    world.release_or_drop();
    let sent = world.sent(conn);
    assert!(sent.len() <= 1 << 20, "{} bytes answered to {}", sent.len(), bytes.len());
    world.server.ended(world.now, conn);
    world.run();
    assert!(world.open.is_empty(), "{:?}", world.open);
    world.asked.clear();
    world.call(neighbour, 3, &ApiVersionsRequest::default());
    assert_eq!(world.server.stats().requests_open, 0);
    while world.server.poll_event().is_some() {}
}

impl World {
    /// Waiting fetches are left to their connection's end.
    fn release_or_drop(&mut self) {
        self.open.retain(|(_, asked)| matches!(asked, engine_api::Request::Fetch(_)));
    }
}

#[test]
fn mutated_requests_of_every_api_and_version_do_no_harm() {
    let mut chance = Chance(11);
    let mut world = World::new();
    world.add_topic("a", 2);
    let neighbour = world.connect();
    for (api, version) in versions() {
        let header = if api.is_flexible(version) { 2 } else { 1 };
        for round in 0..40 {
            let body = some_request(api, version, &mut chance, 3);
            let mut bytes = encode_raw(api.key as i16, version, 1, header, &body);
            for _ in 0..round % 5 {
                let place = 4 + chance.below(bytes.len() - 4);
                match chance.below(3) {
                    0 => bytes[place] = chance.next() as u8,
                    1 => bytes[place] = [0, 0x7f, 0x80, 0xff][chance.below(4)],
                    _ => bytes.truncate(place.max(14)),
                }
            }
            let size = i32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            check(&mut world, neighbour, &bytes);
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut chance = Chance(12);
    let mut world = World::new();
    let neighbour = world.connect();
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..chance.below(200)).map(|_| chance.next() as u8).collect();
        if chance.below(2) == 0 && bytes.len() >= 4 {
            let size = i32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&size.to_be_bytes());
        }
        check(&mut world, neighbour, &bytes);
    }
}

/// The decoder would make room for two thousand million topics.
#[test]
fn huge_arrays_end_the_connection() {
    for (key, version, body) in [
        (3i16, 1i16, i32::MAX.to_be_bytes().to_vec()),
        (3, 9, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        (0, 3, [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &i32::MAX.to_be_bytes()].concat()),
        (1, 4, [&[0; 17][..], &i32::MAX.to_be_bytes()].concat()),
        (2, 1, [&[0; 4][..], &i32::MAX.to_be_bytes()].concat()),
    ] {
        let mut world = World::new();
        let conn = world.connect();
        let header = if key == 3 && version == 9 { 2 } else { 1 };
        world.feed(conn, &encode_raw(key, version, 1, header, &body));
        world.assert_closed(conn, "request_malformed");
    }
}

#[test]
fn what_follows_a_request_inside_its_frame_is_not_looked_at() {
    let mut world = World::new();
    let conn = world.connect();
    world.feed(conn, &encode_raw(3, 0, 1, 1, &[0, 0, 0, 0, 1, 2, 3]));
    assert_eq!(world.answers(conn).len(), 1);
}
