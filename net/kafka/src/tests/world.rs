//! A core's server with a broker behind it that keeps its logs in memory, and clients made of kafka-protocol.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use engine_api::{
    Ask, Catalog, ClusterDescription, CoreId, Durability, Fetch, FetchError, Fetched, FoundOffset, NodeId,
    PartitionDescription, PartitionId, Place, Produced, Request, Response, StageTimings, TopicBrief,
    TopicDescription, TopicError, TopicId,
};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{self, Decodable, Encodable, HeaderVersion, StrBytes};
use storage_frame::{Frame, LeaderEpoch, LogId, Offset, TimestampMs};
use storage_recordbatch::{BatchBuilder, BatchFields, Compression};

use crate::config::ServerConfig;
use crate::server::{ConnId, Server};

pub(crate) const NODE: NodeId = NodeId(7);
pub(crate) const EPOCH: u32 = 3;

pub(crate) fn config() -> ServerConfig {
    ServerConfig {
        core: CoreId(0),
        node: NODE,
        advertise: None,
        connections_max: 100,
        request_bytes_max: 1 << 20,
        idle_timeout: Duration::from_secs(600),
        auto_create_topics: true,
        partitions_default: 2,
        replicas_default: 1,
        topic_defaults: Vec::new(),
        node_configs: Vec::new(),
    }
}

/// What the core knows of topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    pub(crate) is_loading: bool,
    pub(crate) topics: BTreeMap<String, TopicBrief>,
    pub(crate) led_elsewhere: bool,
}

impl Topics {
    pub(crate) fn add(&mut self, name: &str, partitions: u32) -> TopicId {
        let id = TopicId(self.topics.len() as u128 + 100);
        self.topics.insert(name.to_owned(), TopicBrief { id, partitions });
        id
    }

    fn describe(&self, name: &str) -> TopicDescription {
        let brief = self.topics[name];
        let partitions = (0..brief.partitions).map(|index| PartitionDescription {
            index,
            leader: NODE,
            leader_epoch: LeaderEpoch(EPOCH),
            core: CoreId(0),
            replicas: vec![NODE],
            in_sync: vec![NODE],
            log: LogId(1),
        });
        let (name, partitions) = (name.to_owned(), partitions.collect());
        TopicDescription { name, id: brief.id, replicas: 1, partitions, configs: Vec::new() }
    }
}

impl Catalog for Topics {
    fn is_loaded(&self) -> bool {
        !self.is_loading
    }

    fn version(&self) -> u64 {
        1
    }

    fn find_topic(&self, name: &str) -> Option<TopicBrief> {
        self.topics.get(name).copied()
    }

    fn topic_name(&self, id: TopicId) -> Option<&str> {
        self.topics.iter().find(|(_, brief)| brief.id == id).map(|(name, _)| name.as_str())
    }

    fn leader(&self, _partition: PartitionId) -> Option<(NodeId, LeaderEpoch)> {
        Some((if self.led_elsewhere { NodeId(8) } else { NODE }, LeaderEpoch(EPOCH)))
    }
}

/// A partition's records, all of them readable.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) start: Offset,
    pub(crate) frames: Vec<Frame>,
}

impl Log {
    pub(crate) fn end(&self) -> Offset {
        self.frames.last().map_or(Offset::ZERO, |frame| frame.header().end_offset())
    }

    pub(crate) fn append(&mut self, mut frame: Frame, epoch: u32) -> Offset {
        let base = self.end();
        frame.assign(base, LeaderEpoch(epoch));
        self.frames.push(frame);
        base
    }

    fn fetch(&self, fetch: &Fetch) -> Result<Fetched, FetchError> {
        let (log_start, high_watermark) = (self.start, self.end());
        if fetch.offset < log_start || fetch.offset > high_watermark {
            return Err(FetchError::OffsetOutOfRange { asked: fetch.offset, log_start, high_watermark });
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        for frame in self.frames.iter().filter(|frame| frame.header().end_offset() > fetch.offset) {
            bytes += frame.payload().len();
            if !frames.is_empty() && bytes > fetch.bytes_max as usize {
                break;
            }
            frames.push(frame.clone());
        }
        Ok(Fetched { log_start, high_watermark, frames })
    }

    fn find(&self, place: Place) -> FoundOffset {
        let (log_start, high_watermark) = (self.start, self.end());
        let found = |offset: Offset, timestamp| FoundOffset { offset, timestamp, log_start, high_watermark };
        match place {
            Place::Start => found(log_start, None),
            Place::End => found(high_watermark, None),
            Place::Timestamp(at) => {
                let holds = |frame: &&Frame| {
                    frame.header().max_timestamp >= at && frame.header().end_offset() > log_start
                };
                self.frames.iter().find(holds).map_or(found(high_watermark, None), |frame| {
                    found(frame.header().base_offset.max(log_start), Some(frame.header().max_timestamp))
                })
            }
        }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) topics: Topics,
    pub(crate) logs: BTreeMap<PartitionId, Log>,
    pub(crate) now: Instant,
    /// Asked and not answered: fetches that wait, and everything while `holds`.
    pub(crate) open: Vec<(u64, Request)>,
    /// Every ask there was.
    pub(crate) asked: Vec<Request>,
    pub(crate) cancelled: usize,
    pub(crate) holds: bool,
    /// Answers given before any other, to whatever is asked.
    pub(crate) scripted: VecDeque<Response>,
    /// Largest number of bytes a read brings.
    pub(crate) read_bytes_max: usize,
    pub(crate) correlation: i32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    #[allow(clippy::disallowed_methods)]
    pub(crate) fn with(config: ServerConfig) -> Self {
        Self {
            server: Server::new(config),
            topics: Topics::default(),
            logs: BTreeMap::new(),
            now: Instant::now(),
            open: Vec::new(),
            asked: Vec::new(),
            cancelled: 0,
            holds: false,
            scripted: VecDeque::new(),
            read_bytes_max: usize::MAX,
            correlation: 0,
        }
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        let remote: SocketAddr = "127.0.0.1:50000".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:9092".parse().unwrap();
        self.server.open(self.now, remote, local).expect("there is room")
    }

    pub(crate) fn add_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        self.topics.add(name, partitions)
    }

    pub(crate) fn log(&mut self, topic: &str, index: u32) -> &mut Log {
        let topic = self.topics.topics[topic].id;
        self.logs.entry(PartitionId { topic, index }).or_default()
    }

    /// Bytes of the client, as a socket brings them. What does not fit is not read yet.
    pub(crate) fn feed(&mut self, conn: ConnId, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() && self.server.wants_read(conn) {
            let Some(buffer) = self.server.reserve(conn) else { break };
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "a read has somewhere to go");
            let (now, rest) = bytes.split_at(room.min(bytes.len()).min(self.read_bytes_max));
            buffer.put_slice(now);
            bytes = rest;
            self.server.received(self.now, conn);
        }
        self.run();
        all - bytes.len()
    }

    /// Carries asks to the broker and answers back until nothing moves.
    pub(crate) fn run(&mut self) {
        while let Some(ask) = self.server.poll_ask(self.now, &self.topics) {
            match ask {
                Ask::Request { key, request } => {
                    self.asked.push(request.clone());
                    match self.answer_to(&request) {
                        Some(response) => self.server.handle_response(self.now, key, response),
                        None => self.open.push((key, request)),
                    }
                }
                Ask::Cancel { key } => {
                    self.cancelled += 1;
                    self.open.retain(|(other, _)| *other != key);
                }
            }
        }
    }

    pub(crate) fn answer(&mut self, key: u64, response: Response) {
        self.open.retain(|(other, _)| *other != key);
        self.server.handle_response(self.now, key, response);
        self.run();
    }

    /// Everything that waits is answered as it stands now.
    pub(crate) fn release(&mut self) {
        self.holds = false;
        for (key, request) in std::mem::take(&mut self.open) {
            let response = if let Request::Fetch(fetch) = &request {
                Response::Fetch(self.fetch(fetch))
            } else {
                self.answer_to(&request).expect("only fetches wait")
            };
            self.server.handle_response(self.now, key, response);
        }
        self.run();
    }

    pub(crate) fn fetch(&self, fetch: &Fetch) -> Result<Fetched, FetchError> {
        self.logs.get(&fetch.partition).map_or(
            Ok(Fetched { log_start: Offset::ZERO, high_watermark: Offset::ZERO, frames: Vec::new() }),
            |log| log.fetch(fetch),
        )
    }

    #[allow(clippy::wildcard_enum_match_arm)]
    fn answer_to(&mut self, request: &Request) -> Option<Response> {
        if self.holds {
            return None;
        }
        if let Some(scripted) = self.scripted.pop_front() {
            return Some(scripted);
        }
        Some(match request {
            Request::Produce(produce) => {
                let log = self.logs.entry(produce.partition).or_default();
                Response::Produce(Ok(produced(log.append(produce.frame.clone(), EPOCH))))
            }
            Request::Fetch(fetch) => {
                let result = self.fetch(fetch);
                let bytes = result.as_ref().map_or(usize::MAX, |fetched| {
                    fetched.frames.iter().map(|frame| frame.payload().len()).sum()
                });
                if bytes < fetch.bytes_min as usize && fetch.wait_max != Some(Duration::ZERO) {
                    return None;
                }
                Response::Fetch(result)
            }
            Request::FindOffset(find) => {
                Response::FindOffset(Ok(self.logs.entry(find.partition).or_default().find(find.place)))
            }
            Request::CreateTopic(create) => {
                self.add_topic(&create.name, create.partitions.unwrap_or(1));
                Response::CreateTopic(Ok(self.topics.describe(&create.name)))
            }
            Request::DescribeTopics(describe) => {
                let all = || self.topics.topics.keys().cloned().collect();
                let names = if describe.names.is_empty() { all() } else { describe.names.clone() };
                match names.iter().find(|name| !self.topics.topics.contains_key(*name)) {
                    Some(name) => Response::DescribeTopics(Err(TopicError::Unknown { name: name.clone() })),
                    None => {
                        let described = names.iter().map(|name| self.topics.describe(name));
                        Response::DescribeTopics(Ok(described.collect()))
                    }
                }
            }
            Request::DescribeCluster => Response::DescribeCluster(cluster()),
            Request::InitProducer => Response::InitProducer(Ok(4711)),
            // Answered by those who test them.
            _ => return None,
        })
    }

    /// What a socket that takes everything has taken.
    pub(crate) fn sent(&mut self, conn: ConnId) -> Vec<u8> {
        while self.server.poll_ready(self.now, &self.topics).is_some() {}
        let mut sent = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.server.outgoing(conn, &mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            if bytes.is_empty() {
                return sent;
            }
            // Not all at once: pieces are cut anywhere.
            let now = bytes.len().div_ceil(2);
            sent.extend_from_slice(&bytes[..now]);
            self.server.sent(self.now, conn, now);
            self.run();
        }
    }

    /// The answers a client has got, sizes taken off.
    pub(crate) fn answers(&mut self, conn: ConnId) -> Vec<Bytes> {
        let mut sent = Bytes::from(self.sent(conn));
        let mut answers = Vec::new();
        while !sent.is_empty() {
            let size = sent.split_to(4);
            let size = i32::from_be_bytes(size[..].try_into().unwrap());
            answers.push(sent.split_to(usize::try_from(size).unwrap()));
        }
        answers
    }

    /// Sends a request and returns its answer.
    #[track_caller]
    pub(crate) fn call<R>(&mut self, conn: ConnId, version: i16, request: &R) -> R::Response
    where
        R: protocol::Request,
    {
        self.send(conn, version, request);
        let mut answers = self.answers(conn);
        assert_eq!(answers.len(), 1, "one request, one answer; events: {:?}", self.server.poll_event());
        let (correlation, response) = decode::<R>(version, answers.remove(0));
        assert_eq!(correlation, self.correlation);
        response
    }

    /// Sends a request and leaves it at that.
    pub(crate) fn send<R: protocol::Request>(&mut self, conn: ConnId, version: i16, request: &R) {
        self.correlation += 1;
        let bytes = encode(version, self.correlation, request);
        assert_eq!(self.feed(conn, &bytes), bytes.len(), "is read whole");
    }

    #[track_caller]
    pub(crate) fn assert_closed(&mut self, conn: ConnId, reason: &str) {
        self.run();
        assert!(self.server.is_closing(conn), "the connection is closed");
        let errors = self.server.stats().client_errors;
        assert!(errors.iter().any(|(name, _)| *name == reason), "{reason} among {errors:?}");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.server.next_timeout().is_some_and(|due| due <= self.now) {
            self.server.handle_timeout(self.now);
        }
        self.run();
    }
}

pub(crate) fn cluster() -> ClusterDescription {
    ClusterDescription {
        cluster_id: 0xabc,
        version: "1".into(),
        nodes: Vec::new(),
        topics_count: 0,
        partitions_count: 0,
        troubled: Vec::new(),
    }
}

pub(crate) fn produced(base_offset: Offset) -> Produced {
    Produced {
        append_time: None,
        base_offset,
        leader_epoch: LeaderEpoch(EPOCH),
        durability: Durability::LeaderDisk,
        duplicate: false,
        timings: StageTimings::default(),
    }
}

/// A request as a client sends it, size and all.
pub(crate) fn encode<R: protocol::Request>(version: i16, correlation: i32, request: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("can be said in this version");
    encode_raw(R::KEY, version, correlation, R::header_version(version), &body)
}

pub(crate) fn encode_raw(key: i16, version: i16, correlation: i32, header: i16, body: &[u8]) -> Vec<u8> {
    let head = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("tester")));
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    head.encode(&mut bytes, header).unwrap();
    bytes.put_slice(body);
    let size = i32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes.to_vec()
}

#[track_caller]
pub(crate) fn decode<R: protocol::Request>(version: i16, mut bytes: Bytes) -> (i32, R::Response) {
    let header = R::Response::header_version(version);
    let head = ResponseHeader::decode(&mut bytes, header).unwrap();
    let response = R::Response::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "nothing follows an answer");
    (head.correlation_id, response)
}

/// A client's batch: records of these times, all alike otherwise.
pub(crate) fn batch(times: &[i64], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (delta, time) in times.iter().enumerate() {
        let value = format!("value {delta} at {time}");
        let headers = [("h", Some(&b"x"[..]))];
        let delta = u32::try_from(delta).unwrap();
        builder.push(delta, TimestampMs(*time), Some(b"key"), Some(value.as_bytes()), headers).unwrap();
    }
    builder.seal(compression, &BatchFields::UNASSIGNED)
}

pub(crate) fn frame(times: &[i64]) -> Frame {
    storage_recordbatch::to_frame(batch(times, Compression::None)).unwrap()
}

/// Numbers that look random.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
