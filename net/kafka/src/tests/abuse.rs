//! Requests that are not what they claim: each is answered or ends its connection for a reason that is counted and
//! logged; room is bounded, others are unaffected.
//!
//! Every byte of requests of every API and version is cut off and damaged, none left out: those made from their shapes
//! have a hundred bytes or two, and half a million damaged ones take a few seconds.

use std::time::Duration;

use engine_api::{FetchError, GroupError, Request, Response, TopicError};
use kafka_protocol::messages::ApiVersionsRequest;

use super::fetches::fetch_request;
use super::produces::produce_request;
use super::walks::{some_request, versions};
use super::world::*;
use crate::config::{READ_BYTES_MAX, REQUEST_BYTES_PER_S, REQUEST_TIMEOUT};

/// For requests of some hundred bytes; the configs of the node with their meanings are the longest.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A core with a client that does as it should, and another for each stream of bytes.
struct Victim {
    world: World,
    neighbour: crate::ConnId,
    errors: u64,
    answered: usize,
    closed: usize,
}

impl Victim {
    fn new() -> Self {
        let mut world = World::new();
        world.add_topic("a", 2);
        world.holds = true;
        let neighbour = world.connect();
        Self { world, neighbour, errors: 0, answered: 0, closed: 0 }
    }

    /// `bytes` are all that a client sends.
    #[track_caller]
    fn take(&mut self, bytes: &[u8]) {
        // A second has room for a few events.
        self.world.pass(Duration::from_secs(1));
        let conn = self.world.connect();
        self.world.asked.clear();
        self.world.feed(conn, bytes);
        let asked = self.answer_all();
        assert!(asked <= bytes.len(), "{asked} asks for {bytes:02x?}");
        assert_eq!(self.world.server.stats().requests_open, 0, "{bytes:02x?}");
        let sent = self.world.sent(conn).len();
        assert!(sent <= ANSWER_BYTES_MAX, "{sent} bytes answered to {bytes:02x?}");
        if !self.world.server.is_closing(conn) {
            let room = self.world.server.reserve(conn).expect("is open").capacity();
            let room_max = config().request_bytes_max + READ_BYTES_MAX;
            assert!(room <= room_max, "room of {room} bytes for {bytes:02x?}");
            if !is_whole(bytes) {
                let seconds = config().request_bytes_max / REQUEST_BYTES_PER_S;
                self.world.pass(REQUEST_TIMEOUT + Duration::from_secs(seconds as u64));
                let is_over = self.world.server.is_closing(conn) || bytes.is_empty();
                assert!(is_over, "the rest of {bytes:02x?} is waited for");
            }
        }
        let is_closed = self.world.server.is_closing(conn);
        // Who wants no acks gets none.
        let is_produce = bytes.get(4..6) == Some(&[0, 0]);
        let is_done = is_closed || sent > 0 || is_produce || bytes.is_empty();
        assert!(is_done, "nothing comes of {bytes:02x?}");
        self.check_told(is_closed, bytes);
        self.answered += usize::from(sent > 0);
        self.closed += usize::from(is_closed);

        self.world.server.ended(self.world.now, conn);
        self.world.run();
        self.world.logs.clear();
        self.serves_neighbour();
    }

    /// A close is counted and logged, once; nothing else is.
    #[track_caller]
    fn check_told(&mut self, is_closed: bool, bytes: &[u8]) {
        let errors = self.world.server.stats().client_errors.iter().map(|(_, count)| count).sum();
        let counted = errors - std::mem::replace(&mut self.errors, errors);
        assert_eq!(counted, u64::from(is_closed), "counted for {bytes:02x?}");
        let events: Vec<_> = std::iter::from_fn(|| self.world.server.poll_event()).collect();
        assert_eq!(events.len(), usize::from(is_closed), "{events:?} for {bytes:02x?}");
        for (name, fields) in events {
            assert_eq!(name, "kafka_connection_closed");
            for field in ["reason", "why", "remote"] {
                let is_said = fields.iter().any(|(key, value)| *key == field && !value.is_empty());
                assert!(is_said, "{field} in {fields:?} for {bytes:02x?}");
            }
        }
    }

    #[track_caller]
    fn serves_neighbour(&mut self) {
        assert!(self.world.open.is_empty(), "{:?}", self.world.open);
        self.world.call(self.neighbour, 3, &ApiVersionsRequest::default());
        let stats = self.world.server.stats();
        assert_eq!((stats.connections, stats.requests_open, stats.send_buffered_bytes), (1, 0, 0));
    }

    /// Returns how many there were.
    fn answer_all(&mut self) -> usize {
        while let Some((key, request)) = self.world.open.first().cloned() {
            let response = answer(&self.world, &request);
            self.world.answer(key, response);
        }
        self.world.asked.len()
    }
}

/// The first request has come to its end.
fn is_whole(bytes: &[u8]) -> bool {
    let size = bytes.first_chunk().and_then(|size| usize::try_from(i32::from_be_bytes(*size)).ok());
    size.is_some_and(|size| bytes.len() >= 4 + size)
}

/// Every kind of ask is answered, so that nothing waits; reads succeed, the rest is refused.
fn answer(world: &World, request: &Request) -> Response {
    let error = TopicError::NoSpace;
    match request {
        Request::Produce(_) => Response::Produce(Ok(produced(storage_frame::Offset::ZERO))),
        Request::Fetch(fetch) => Response::Fetch(world.fetch(fetch)),
        Request::FindOffset(_) => Response::FindOffset(Err(FetchError::ShuttingDown)),
        Request::DeleteRecords(_) => Response::DeleteRecords(Ok(storage_frame::Offset::ZERO)),
        Request::CreateTopic(_) => Response::CreateTopic(Err(error)),
        Request::AlterTopic(_) => Response::AlterTopic(Err(error)),
        Request::DeleteTopic(_) => Response::DeleteTopic(Err(error)),
        Request::DescribeTopics(_) => Response::DescribeTopics(Err(error)),
        Request::DescribeCluster => Response::DescribeCluster(cluster()),
        Request::InitProducer => Response::InitProducer(Ok(4711)),
        Request::Group(_) => Response::Group(Err(GroupError::NotReady)),
        Request::ListGroups(_) => Response::ListGroups(Ok(Vec::new())),
        Request::MeasureLag(_) => Response::MeasureLag(Err(FetchError::ShuttingDown)),
        Request::CheckTopic(_) => Response::CheckTopic(Err(error)),
        Request::DescribeLogs(_) => Response::DescribeLogs(Ok(Vec::new())),
    }
}

/// Some of every API and version, and those that carry records and ask for them.
fn requests(chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut requests: Vec<_> = (0..3)
        .flat_map(|_| versions())
        .map(|(api, version)| {
            let header = if api.is_flexible(version) { 2 } else { 1 };
            encode_raw(api.key as i16, version, 1, header, &some_request(api, version, chance, 3))
        })
        .collect();
    requests.extend((3..=11).map(|version| encode(version, 1, &produce_request("a", 1, &[1, 2], -1))));
    requests.extend((4..=12).map(|version| encode(version, 1, &fetch_request(version, "a", 1, 0))));
    requests
}

fn set_size(bytes: &mut [u8]) {
    if let Some(size) = i32::try_from(bytes.len()).unwrap().checked_sub(4)
        && let Some(place) = bytes.first_chunk_mut()
    {
        *place = size.to_be_bytes();
    }
}

#[test]
fn a_request_cut_anywhere_is_answered_or_ends_its_connection_for_a_reason() {
    let mut chance = Chance(13);
    let mut victim = Victim::new();
    for request in requests(&mut chance) {
        for end in 0..request.len() {
            // Not all of it comes.
            victim.take(&request[..end]);
            // It is shorter and says so.
            let mut shorter = request[..end].to_vec();
            set_size(&mut shorter);
            victim.take(&shorter);
            // It is longer than it says: what follows is taken for the next.
            let mut longer = request.clone();
            longer[..4].copy_from_slice(&u32::try_from(end).unwrap().to_be_bytes());
            victim.take(&longer);
        }
        victim.take(&request);
    }
    assert!(victim.answered > 100 && victim.closed > 10_000, "{} {}", victim.answered, victim.closed);
}

#[test]
fn a_request_with_any_byte_changed_is_answered_or_ends_its_connection_for_a_reason() {
    let mut chance = Chance(14);
    let mut victim = Victim::new();
    for mut request in requests(&mut chance) {
        for place in 0..request.len() {
            let was = request[place];
            for byte in [0, 0x7f, 0x80, 0xff, chance.next() as u8] {
                request[place] = byte;
                victim.take(&request);
            }
            request[place] = was;
        }
    }
    assert!(victim.answered > 10_000 && victim.closed > 10_000, "{} {}", victim.answered, victim.closed);
}

#[test]
fn a_request_with_any_length_made_negative_or_huge_is_answered_or_ends_its_connection_for_a_reason() {
    let lengths: [&[u8]; 10] = [
        &[0xfe],
        &(-1i16).to_be_bytes(),
        &(-2i16).to_be_bytes(),
        &i16::MAX.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &(-2i32).to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        // As varints: 2^31 - 1, 2^32 - 1, and more than 32 bits.
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let mut chance = Chance(15);
    let mut victim = Victim::new();
    for request in requests(&mut chance) {
        for place in 0..request.len() {
            for length in lengths.iter().filter(|length| place + length.len() <= request.len()) {
                let mut changed = request.clone();
                changed[place..place + length.len()].copy_from_slice(length);
                victim.take(&changed);
            }
        }
    }
    assert!(victim.answered > 10_000 && victim.closed > 10_000, "{} {}", victim.answered, victim.closed);
}

#[test]
fn mutated_requests_of_every_api_and_version_do_no_harm() {
    let mut chance = Chance(11);
    let mut victim = Victim::new();
    for _ in 0..14 {
        for mut bytes in requests(&mut chance) {
            for _ in 0..chance.below(5) {
                let place = 4 + chance.below(bytes.len() - 4);
                match chance.below(3) {
                    0 => bytes[place] = chance.next() as u8,
                    1 => bytes[place] = [0, 0x7f, 0x80, 0xff][chance.below(4)],
                    _ => bytes.truncate(place.max(14)),
                }
            }
            set_size(&mut bytes);
            victim.take(&bytes);
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut chance = Chance(12);
    let mut victim = Victim::new();
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..chance.below(200)).map(|_| chance.next() as u8).collect();
        if chance.below(2) == 0 {
            set_size(&mut bytes);
        }
        victim.take(&bytes);
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
