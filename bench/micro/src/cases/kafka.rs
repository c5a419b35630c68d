//! net/kafka: a request's bytes in, the broker asked and answered, the answer's bytes out.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use engine_api::{
    Ask, Catalog, CoreId, Durability, Fetched, NodeId, PartitionId, Produced, Request, Response,
    StageTimings, TopicBrief, TopicId,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{self, Encodable, StrBytes};
use net_kafka::{ConnId, Server, ServerConfig};
use storage_frame::{Frame, LeaderEpoch, Offset};

use crate::batches::Shape;
use crate::case::{Case, Step};
use crate::meter::Meter;

/// Those that librdkafka speaks.
const PRODUCE_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 11;

const RECORD: Shape = Shape::one(100);
const BATCH_16: Shape = Shape::new(1 << 10, 16 << 10);
const BATCH_256: Shape = Shape::new(1 << 10, 256 << 10);

pub(super) const CASES: &[Case] = &[
    case("kafka/produce 100 B", 1, || produce(RECORD, 1)),
    case("kafka/produce 16 KiB", 16, || produce(BATCH_16, 1)),
    case("kafka/produce 256 KiB", 256, || produce(BATCH_256, 1)),
    case("kafka/produce 100 B to each of 100 partitions", 100, || produce(RECORD, 100)),
    case("kafka/fetch 100 B", 1, || fetch(1, vec![placed(RECORD.kafka_frame())])),
    case("kafka/fetch 16 KiB", 16, || fetch(1, vec![placed(BATCH_16.kafka_frame())])),
    case("kafka/fetch 256 KiB", 256, || fetch(1, vec![placed(BATCH_256.kafka_frame())])),
    case("kafka/fetch 100 frames of 100 B", 100, || fetch(1, frames(100))),
    case("kafka/fetch 100 partitions, 16 KiB of one", 16, || {
        fetch(100, vec![placed(BATCH_16.kafka_frame())])
    }),
    case("kafka/fetch 16 KiB, converted before", 16, || fetch(1, vec![placed(BATCH_16.archived())])),
];

const fn case(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 20, steps: 50, prepare }
}

fn placed(mut frame: Frame) -> Frame {
    frame.assign(Offset(0), LeaderEpoch(1));
    frame
}

fn frames(count: u64) -> Vec<Frame> {
    let frame = RECORD.kafka_frame();
    let at = |offset| {
        let mut frame = frame.clone();
        frame.assign(Offset(offset), LeaderEpoch(1));
        frame
    };
    (0..count).map(at).collect()
}

const NODE: NodeId = NodeId(1);
const TOPIC: &str = "orders";
const TOPIC_ID: TopicId = TopicId(77);

/// One topic.
struct OneTopic;

impl Catalog for OneTopic {
    fn is_loaded(&self) -> bool {
        true
    }

    fn version(&self) -> u64 {
        1
    }

    fn find_topic(&self, name: &str) -> Option<TopicBrief> {
        (name == TOPIC).then_some(TopicBrief { id: TOPIC_ID, partitions: 100 })
    }

    fn topic_name(&self, id: TopicId) -> Option<&str> {
        (id == TOPIC_ID).then_some(TOPIC)
    }

    fn leader(&self, _partition: PartitionId) -> Option<(NodeId, LeaderEpoch)> {
        Some((NODE, LeaderEpoch(1)))
    }
}

pub(super) fn config() -> ServerConfig {
    ServerConfig {
        core: CoreId(0),
        node: NODE,
        advertise: None,
        connections_max: 100,
        request_bytes_max: 2 << 20,
        idle_timeout: Duration::from_secs(600),
        auto_create_topics: true,
        partitions_default: 1,
        replicas_default: 1,
        topic_defaults: Vec::new(),
        node_configs: Vec::new(),
    }
}

/// A server with one connection, and a broker that knows its answers.
struct Rig {
    server: Server,
    conn: ConnId,
    now: Instant,
    asked: Vec<(u64, Request)>,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        let mut server = Server::new(config());
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let conn = server.open(now, address(50_000), address(9092)).expect("there is room");
        Self { server, conn, now, asked: Vec::new() }
    }

    /// One request; returns the bytes of its answer.
    fn call(&mut self, meter: &mut Meter, mut bytes: &[u8], answer: &impl Fn(Request) -> Response) -> usize {
        while !bytes.is_empty() {
            let buffer = meter.count(|| self.server.reserve(self.conn)).expect("an open connection");
            let room = (buffer.capacity() - buffer.len()).min(bytes.len());
            // What the kernel does.
            buffer.put_slice(&bytes[..room]);
            bytes = &bytes[room..];
            meter.count(|| {
                self.server.received(self.now, self.conn);
                self.take_asks();
            });
        }
        while !self.asked.is_empty() {
            let asked = self.asked.drain(..);
            let answers: Vec<_> = asked.map(|(key, request)| (key, answer(request))).collect();
            meter.count(|| {
                for (key, response) in answers {
                    self.server.handle_response(self.now, key, response);
                }
                self.take_asks();
            });
        }
        meter.count(|| self.send())
    }

    fn take_asks(&mut self) {
        while let Some(ask) = self.server.poll_ask(self.now, &OneTopic) {
            match ask {
                Ask::Request { key, request } => self.asked.push((key, request)),
                Ask::Cancel { .. } => unreachable!("nothing is given up"),
            }
        }
    }

    /// To a socket that takes everything; how much that was.
    fn send(&mut self) -> usize {
        while self.server.poll_ready(self.now, &OneTopic).is_some() {}
        let mut sent = 0;
        loop {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = self.server.outgoing(self.conn, &mut slices);
            let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            if bytes == 0 {
                return sent;
            }
            sent += bytes;
            self.server.sent(self.now, self.conn, bytes);
        }
    }
}

fn encoded<R: protocol::Request>(version: i16, request: &R) -> Vec<u8> {
    let head = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    head.encode(&mut bytes, R::header_version(version)).expect("can be said");
    request.encode(&mut bytes, version).expect("can be said");
    let size = i32::try_from(bytes.len() - 4).expect("small");
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes.to_vec()
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn produce(shape: Shape, partitions: i32) -> Step {
    let batch = shape.kafka();
    let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
    let data = TopicProduceData::default()
        .with_name(topic())
        .with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
    let bytes = encoded(PRODUCE_VERSION, &request);
    let mut rig = Rig::new();
    let produced = |_| {
        Response::Produce(Ok(Produced {
            base_offset: Offset(1),
            leader_epoch: LeaderEpoch(1),
            durability: Durability::AllDisks,
            append_time: None,
            duplicate: false,
            timings: StageTimings::default(),
        }))
    };
    Box::new(move |meter| assert!(rig.call(meter, &bytes, &produced) > 0))
}

/// `frames` are in the first of the partitions, nothing is in the others.
fn fetch(partitions: i32, frames: Vec<Frame>) -> Step {
    let part = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20);
    let parts = (0..partitions).map(part).collect();
    let asked = FetchTopic::default().with_topic(topic()).with_partitions(parts);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_min_bytes(1)
        .with_max_wait_ms(500)
        .with_max_bytes(1 << 20)
        // Without a session, as librdkafka asks.
        .with_session_epoch(-1)
        .with_topics(vec![asked]);
    let bytes = encoded(FETCH_VERSION, &request);
    let payload_bytes: usize = frames.iter().map(|frame| frame.payload().len()).sum();
    let end = frames.last().expect("something to fetch").header().end_offset();
    let answer = move |request| {
        let Request::Fetch(fetch) = request else { panic!("{request:?}") };
        let is_first = fetch.partition.index == 0;
        let frames = if is_first { frames.clone() } else { Vec::new() };
        let high_watermark = if is_first { end } else { Offset(0) };
        Response::Fetch(Ok(Fetched { log_start: Offset(0), high_watermark, frames }))
    };
    let mut rig = Rig::new();
    Box::new(move |meter| assert!(rig.call(meter, &bytes, &answer) > payload_bytes / 2))
}
