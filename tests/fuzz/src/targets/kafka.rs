//! What clients can do to the broker's Kafka server (`net/kafka`): any bytes on several connections, in any pieces,
//! with and without the head of a request that is served before them. The input is a list of steps.
//!
//! What must hold: what is sent are whole answers, each to a request; an ask is open once and is answered or
//! cancelled; when the connections are gone nothing is left.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::BufMut;
use engine_api::{Ask, Catalog, CoreId, NodeId, PartitionId, Request, TopicBrief, TopicId};
use net_kafka::{ConnId, Server, ServerConfig};
use storage_frame::LeaderEpoch;

use super::quic::response;
use crate::script::Script;

const CONNECTIONS_MAX: usize = 4;
const STEPS_MAX: usize = 100;
/// Of one step's bytes, repeated.
const WRITE_BYTES_MAX: usize = 128 << 10;
const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Keys of APIs are below, served and not.
const KEYS: u8 = 80;
const VERSIONS: u8 = 14;

pub fn kafka(data: &[u8]) {
    let mut world = World::new();
    let mut script = Script::new(data);
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.take_asks();
    }
    world.end();
}

/// One topic, led here.
struct Topics;

impl Catalog for Topics {
    fn is_loaded(&self) -> bool {
        true
    }

    fn version(&self) -> u64 {
        1
    }

    fn find_topic(&self, name: &str) -> Option<TopicBrief> {
        (name == "t").then_some(TopicBrief { id: TopicId(77), partitions: 3 })
    }

    fn topic_name(&self, id: TopicId) -> Option<&str> {
        (id == TopicId(77)).then_some("t")
    }

    fn leader(&self, _partition: PartitionId) -> Option<(NodeId, LeaderEpoch)> {
        Some((NodeId(1), LeaderEpoch(1)))
    }
}

struct World {
    server: Server,
    now: Instant,
    connections: Vec<Connection>,
    /// Asked and not answered.
    open: Vec<(u64, Request)>,
}

struct Connection {
    id: ConnId,
    /// What was sent of the answer that is not whole.
    partial: Vec<u8>,
}

impl World {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let config = ServerConfig {
            core: CoreId(0),
            node: NodeId(1),
            advertise: None,
            connections_max: CONNECTIONS_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            idle_timeout: Duration::from_secs(60),
            auto_create_topics: true,
            partitions_default: 1,
            replicas_default: 1,
            topic_defaults: Vec::new(),
            node_configs: Vec::new(),
        };
        let mut world = Self {
            server: Server::new(config),
            now: Instant::now(),
            connections: Vec::new(),
            open: Vec::new(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let address = "127.0.0.1:9092".parse().expect("an address");
        if let Some(id) = self.server.open(self.now, address, address) {
            self.connections.push(Connection { id, partial: Vec::new() });
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.u8();
        if what & 0x80 != 0 || self.connections.is_empty() {
            self.connect();
        }
        let nth = usize::from(script.u8()) % self.connections.len();
        let id = self.connections[nth].id;
        match what % 8 {
            0 => self.feed(id, script.piece()),
            1 => {
                let times = 1 + usize::from(script.u8());
                let piece = script.piece().repeat(times);
                self.feed(id, &piece[..piece.len().min(WRITE_BYTES_MAX)]);
            }
            2 | 3 => {
                let request = request(script);
                self.feed(id, &request);
            }
            4 => {
                if !self.open.is_empty() {
                    let nth = usize::from(script.u8()) % self.open.len();
                    let (key, request) = self.open.remove(nth);
                    let well = script.u8() & 1 == 0;
                    self.server.handle_response(self.now, key, response(&request, well));
                }
            }
            5 => self.send(nth, usize::from(script.u16())),
            6 => match script.u8() % 4 {
                0 => self.pass(Duration::from_millis(100 * u64::from(script.u8()))),
                1 => self.server.set_paused(self.now, true),
                2 => self.server.set_paused(self.now, false),
                _ => self.close(nth),
            },
            _ => while self.server.poll_ready(self.now, &Topics).is_some() {},
        }
    }

    fn feed(&mut self, id: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.server.wants_read(id) {
            let Some(buffer) = self.server.reserve(id) else { return };
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "a read has somewhere to go");
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            buffer.put_slice(now);
            bytes = rest;
            self.server.received(self.now, id);
            self.take_asks();
        }
    }

    fn take_asks(&mut self) {
        while let Some(ask) = self.server.poll_ask(self.now, &Topics) {
            match ask {
                Ask::Request { key, request } => {
                    assert!(self.open.iter().all(|(open, _)| *open != key), "a key is used once at a time");
                    self.open.push((key, request));
                }
                Ask::Cancel { key } => {
                    let nth = self.open.iter().position(|(open, _)| *open == key);
                    self.open.remove(nth.expect("what is cancelled was asked"));
                }
            }
        }
    }

    /// The socket takes so many bytes.
    fn send(&mut self, nth: usize, bytes_max: usize) {
        let id = self.connections[nth].id;
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self.server.outgoing(id, &mut slices);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        bytes.truncate(bytes_max);
        self.server.sent(self.now, id, bytes.len());
        let partial = &mut self.connections[nth].partial;
        partial.extend_from_slice(&bytes);
        while let Some(size) = partial.first_chunk::<4>() {
            let size = usize::try_from(i32::from_be_bytes(*size)).expect("a size");
            assert!((4..=64 << 20).contains(&size), "an answer of {size} bytes");
            if partial.len() < 4 + size {
                break;
            }
            partial.drain(..4 + size);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.server.next_timeout().is_some_and(|due| due <= self.now) {
            self.server.handle_timeout(self.now);
        }
    }

    fn close(&mut self, nth: usize) {
        let connection = self.connections.remove(nth);
        self.server.ended(self.now, connection.id);
    }

    /// Everything is answered and sent; then the connections go.
    fn end(mut self) {
        self.server.set_paused(self.now, false);
        self.take_asks();
        while let Some((key, request)) = self.open.pop() {
            self.server.handle_response(self.now, key, response(&request, true));
            self.take_asks();
        }
        for nth in 0..self.connections.len() {
            while self.server.outgoing(self.connections[nth].id, &mut [IoSlice::new(&[])]) > 0 {
                self.send(nth, usize::MAX);
                self.take_asks();
                while let Some((key, request)) = self.open.pop() {
                    self.server.handle_response(self.now, key, response(&request, true));
                    self.take_asks();
                }
            }
            assert!(self.connections[nth].partial.is_empty(), "answers are whole");
        }
        assert_eq!(self.server.stats().requests_open, 0);
        while !self.connections.is_empty() {
            self.close(0);
        }
        self.take_asks();
        let stats = self.server.stats();
        assert_eq!((stats.connections, stats.send_buffered_bytes, self.open.len()), (0, 0, 0));
        assert_eq!(self.server.next_timeout(), None, "nothing is waited for");
    }
}

/// A head that is served, more often than not, and the fuzzer's body.
fn request(script: &mut Script<'_>) -> Vec<u8> {
    let (key, version) = (script.u8() % KEYS, script.u8() % VERSIONS);
    let tags: &[u8] = if script.u8() & 1 == 0 { &[0] } else { &[] };
    let head = [0, key, 0, version, 0, 0, 0, 9, 0, 1, b'c'];
    let body = script.piece();
    let size = (head.len() + tags.len() + body.len()) as u32;
    [&size.to_be_bytes()[..], &head, tags, body].concat()
}
