//! net/quic: the server's side of produce and read streams, and beside it a bare quinn-proto endpoint that throws the
//! same bytes away: what is above it is ours.
//!
//! Datagrams go from side to side without loss, ten to a turn as a socket brings them; only the server's work counts.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine_api::{
    Acks, Ask, CoreId, Durability, Fetched, PartitionId, Produced, Request, Response, StageTimings, TopicId,
};
use net_quic::{Server, ServerConfig};
use net_wire::{Message, MessageReader, OpenRead, encode};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    StreamEvent, StreamId, TransportConfig, VarInt,
};
use storage_frame::{Frame, LeaderEpoch, Offset};

use crate::batches::Shape;
use crate::case::{Case, Step};
use crate::meter::Meter;

const RECORD: Shape = Shape::one(100);
const BATCH_16: Shape = Shape::new(1 << 10, 16 << 10);
const BATCH_256: Shape = Shape::new(1 << 10, 256 << 10);

pub(super) const CASES: &[Case] = &[
    case("quic/sink of 1 MiB, every byte, bare quinn-proto", 0, sink),
    case("quic/produce 1 MiB in batches of 256 KiB", 1024, || produce(BATCH_256, 4)),
    case("quic/produce 1 MiB in batches of 16 KiB", 1024, || produce(BATCH_16, 64)),
    case("quic/produce 1000 batches of 100 B", 1000, || produce(RECORD, 1000)),
    case("quic/produce 100 B, one at a time", 1, || produce(RECORD, 1)),
    case("quic/push 1 MiB in frames of 256 KiB", 1024, || push(BATCH_256, 4)),
    case("quic/push 1000 frames of 100 B", 1000, || push(RECORD, 1000)),
];

const fn case(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 20, steps: 10, prepare }
}

const PARTITION: PartitionId = PartitionId { topic: TopicId(77), index: 1 };
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);
/// One way.
const LATENCY: Duration = Duration::from_micros(50);
const DATAGRAMS_A_TURN: usize = 10;
/// As much as goes through a system call with GSO.
const SEGMENTS_MAX: usize = 10;
const RECEIVE_WINDOW_BYTES: u32 = 4 << 20;

struct Certificate {
    chain: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        Certificate { chain: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    })
}

fn server_tls() -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certificate().key.clone());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate().chain.clone()], key.into())
        .expect("key and certificate belong together");
    tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    Arc::new(tls)
}

/// As a core has it, but for its luck, which is always the same.
pub(super) fn server() -> Server {
    Server::new(ServerConfig {
        core: CoreId(0),
        tls: server_tls(),
        secret: [7; 32],
        idle_timeout: Duration::from_secs(20),
        connections_max: 10,
        message_bytes_max: 2 << 20,
        receive_window_bytes: RECEIVE_WINDOW_BYTES,
        send_buffer_bytes: 1 << 20,
        seed: Some(1),
    })
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut discovery = quinn_proto::MtuDiscoveryConfig::default();
    discovery.upper_bound(net_wire::DATAGRAM_BYTES_MAX);
    let mut congestion = quinn_proto::congestion::CubicConfig::default();
    congestion.initial_window(net_wire::FIRST_WINDOW_BYTES);
    transport
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES / 2))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(16 << 20);
    transport
}

fn endpoint(server: Option<quinn_proto::ServerConfig>, seed: u8) -> Endpoint {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(net_wire::DATAGRAM_BYTES_MAX).expect("above QUIC's minimum");
    config.rng_seed(Some([seed; 32]));
    Endpoint::new(Arc::new(config), server.map(Arc::new), true, None)
}

/// The broker's end of the wire: net/quic or nothing but quinn-proto.
trait Side {
    fn take(&mut self, meter: &mut Meter, now: Instant, datagrams: Vec<BytesMut>);
    /// `false`: there is nothing to send.
    fn send(&mut self, meter: &mut Meter, now: Instant, out: &mut Vec<BytesMut>) -> bool;
    fn next_timeout(&mut self) -> Option<Instant>;
    fn expire(&mut self, meter: &mut Meter, now: Instant);
}

/// net/quic with a broker that knows its answers.
struct Broker {
    server: Server,
    buffer: Vec<u8>,
    /// For the reader, as fast as he asks.
    to_push: VecDeque<Frame>,
    /// The reader's request, and how much it wants at most.
    waiting: Option<(u64, usize)>,
    next_offset: u64,
}

impl Broker {
    fn serve(&mut self, meter: &mut Meter, now: Instant) {
        while let Some(ask) = meter.count(|| self.server.poll_ask()) {
            match ask {
                Ask::Request { key, request: Request::Produce(produce) } => {
                    let base_offset = Offset(self.next_offset);
                    self.next_offset += u64::from(produce.frame.header().record_count);
                    drop(produce);
                    let produced = Produced {
                        base_offset,
                        leader_epoch: LeaderEpoch(1),
                        durability: Durability::AllDisks,
                        append_time: None,
                        duplicate: false,
                        timings: StageTimings::default(),
                    };
                    meter.count(|| self.server.handle_response(now, key, Response::Produce(Ok(produced))));
                }
                Ask::Request { key, request: Request::Fetch(fetch) } => match fetch.wait_max {
                    // The first one only asks whether the offset is there.
                    Some(_) => self.answer(meter, now, key, Vec::new()),
                    None => self.waiting = Some((key, fetch.bytes_max as usize)),
                },
                Ask::Request { request, .. } => panic!("{request:?}"),
                Ask::Cancel { .. } => unreachable!("nothing is given up"),
            }
        }
        if !self.to_push.is_empty()
            && let Some((key, bytes_max)) = self.waiting.take()
        {
            let mut frames: Vec<Frame> = self.to_push.pop_front().into_iter().collect();
            let mut bytes = frames[0].header().frame_bytes();
            while let Some(next) = self.to_push.front()
                && bytes + next.header().frame_bytes() <= bytes_max
            {
                bytes += next.header().frame_bytes();
                frames.extend(self.to_push.pop_front());
            }
            self.answer(meter, now, key, frames);
        }
    }

    fn answer(&mut self, meter: &mut Meter, now: Instant, key: u64, frames: Vec<Frame>) {
        let end = frames.last().map_or(Offset(self.next_offset), |frame| frame.header().end_offset());
        let fetched = Fetched { log_start: Offset(0), high_watermark: end, frames };
        meter.count(|| self.server.handle_response(now, key, Response::Fetch(Ok(fetched))));
    }
}

impl Side for Broker {
    fn take(&mut self, meter: &mut Meter, now: Instant, datagrams: Vec<BytesMut>) {
        meter.count(|| {
            for datagram in datagrams {
                self.server.handle_datagram(now, CLIENT, None, None, datagram);
            }
        });
        self.serve(meter, now);
    }

    fn send(&mut self, meter: &mut Meter, now: Instant, out: &mut Vec<BytesMut>) -> bool {
        self.serve(meter, now);
        let transmit = meter.count(|| self.server.poll_transmit(now, SEGMENTS_MAX, &mut self.buffer));
        let Some(transmit) = transmit else { return false };
        let segment_bytes = transmit.segment_bytes.unwrap_or(usize::MAX);
        out.extend(self.buffer[..transmit.bytes].chunks(segment_bytes).map(BytesMut::from));
        true
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        self.server.next_timeout()
    }

    fn expire(&mut self, meter: &mut Meter, now: Instant) {
        meter.count(|| self.server.handle_timeout(now));
    }
}

/// Reads and forgets.
struct Sink {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    stream: Option<StreamId>,
    buffer: Vec<u8>,
    drained_bytes: usize,
}

impl Sink {
    fn new() -> Self {
        let crypto = QuicServerConfig::try_from(server_tls()).expect("TLS 1.3");
        let mut config = quinn_proto::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        Self {
            endpoint: endpoint(Some(config), 2),
            connection: None,
            stream: None,
            buffer: Vec::new(),
            drained_bytes: 0,
        }
    }

    fn on_datagram(&mut self, now: Instant, datagram: BytesMut) {
        self.buffer.clear();
        match self.endpoint.handle(now, CLIENT, None, None, datagram, &mut self.buffer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                let (_, connection) = self.connection.as_mut().expect("its connection");
                connection.handle_event(event);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut self.buffer, None);
                self.connection = Some(accepted.unwrap_or_else(|error| panic!("{:?}", error.cause)));
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    fn drive(&mut self) {
        let Some((handle, connection)) = &mut self.connection else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            if matches!(event, Event::Stream(StreamEvent::Opened { .. })) {
                self.stream = connection.streams().accept(Dir::Bi);
            }
            let Some(stream) = self.stream else { continue };
            let mut stream = connection.recv_stream(stream);
            let Ok(mut chunks) = stream.read(true) else { continue };
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.drained_bytes += chunk.bytes.len();
                black_box(chunk);
            }
            let _ = chunks.finalize();
        }
    }
}

impl Side for Sink {
    fn take(&mut self, meter: &mut Meter, now: Instant, datagrams: Vec<BytesMut>) {
        meter.count(|| {
            for datagram in datagrams {
                self.on_datagram(now, datagram);
            }
            self.drive();
        });
    }

    fn send(&mut self, meter: &mut Meter, now: Instant, out: &mut Vec<BytesMut>) -> bool {
        self.buffer.clear();
        let Some((_, connection)) = &mut self.connection else { return false };
        let Some(transmit) = meter.count(|| connection.poll_transmit(now, SEGMENTS_MAX, &mut self.buffer))
        else {
            return false;
        };
        let segment_bytes = transmit.segment_size.unwrap_or(usize::MAX);
        out.extend(self.buffer[..transmit.size].chunks(segment_bytes).map(BytesMut::from));
        meter.count(|| self.drive());
        true
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout())
    }

    fn expire(&mut self, meter: &mut Meter, now: Instant) {
        if let Some((_, connection)) = &mut self.connection {
            meter.count(|| connection.handle_timeout(now));
        }
    }
}

/// A client of one stream, and the wire between it and the side that is measured.
struct Wire<S> {
    now: Instant,
    side: S,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    client: Connection,
    is_connected: bool,
    stream: Option<StreamId>,
    to_send: VecDeque<Bytes>,
    reader: MessageReader,
    messages: Vec<Message>,
    to_server: VecDeque<(Instant, BytesMut)>,
    to_client: VecDeque<(Instant, BytesMut)>,
}

impl<S: Side> Wire<S> {
    fn connected(side: S) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate().chain.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("ciphers for QUIC");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        let now = Instant::now();
        let mut endpoint = endpoint(None, 1);
        let (handle, client) = endpoint.connect(now, config, SERVER, "localhost").expect("a good config");
        let mut wire = Self {
            now,
            side,
            endpoint,
            handle,
            client,
            is_connected: false,
            stream: None,
            to_send: VecDeque::new(),
            reader: MessageReader::new(net_wire::MESSAGE_BYTES_MAX),
            messages: Vec::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
        };
        wire.run_until(&mut Meter::default(), |wire| wire.is_connected);
        wire.stream = wire.client.streams().open(Dir::Bi);
        wire
    }

    /// Time goes by until `is_done`, from one event to the next.
    fn run_until(&mut self, meter: &mut Meter, is_done: impl Fn(&Self) -> bool) {
        loop {
            self.write();
            self.send_to_server();
            self.send_to_client(meter);
            if is_done(self) {
                return;
            }
            let arrivals = [self.to_server.front(), self.to_client.front()];
            let arrivals = arrivals.into_iter().flatten().map(|(at, _)| *at);
            let timeouts = [self.client.poll_timeout(), self.side.next_timeout()];
            let next = arrivals.chain(timeouts.into_iter().flatten()).min().expect("something will happen");
            self.now = self.now.max(next);
            self.deliver(meter);
            if self.client.poll_timeout().is_some_and(|due| due <= self.now) {
                self.client.handle_timeout(self.now);
            }
            if self.side.next_timeout().is_some_and(|due| due <= self.now) {
                self.side.expire(meter, self.now);
            }
        }
    }

    fn write(&mut self) {
        let Some(stream) = self.stream else { return };
        let mut stream = self.client.send_stream(stream);
        while !self.to_send.is_empty() {
            let Ok(written) = stream.write_chunks(self.to_send.make_contiguous()) else { return };
            self.to_send.drain(..written.chunks);
        }
    }

    fn send_to_server(&mut self) {
        let mut buffer = Vec::new();
        while let Some(transmit) = self.client.poll_transmit(self.now, 1, &mut buffer) {
            self.to_server.push_back((self.now + LATENCY, BytesMut::from(&buffer[..transmit.size])));
            buffer.clear();
        }
    }

    fn send_to_client(&mut self, meter: &mut Meter) {
        let mut out = Vec::new();
        while self.side.send(meter, self.now, &mut out) {}
        let at = self.now + LATENCY;
        self.to_client.extend(out.into_iter().map(|datagram| (at, datagram)));
    }

    fn deliver(&mut self, meter: &mut Meter) {
        loop {
            let is_due = |(at, _): &&(Instant, BytesMut)| *at <= self.now;
            let due = self.to_server.iter().take(DATAGRAMS_A_TURN).take_while(is_due).count();
            if due == 0 {
                break;
            }
            let datagrams = self.to_server.drain(..due).map(|(_, datagram)| datagram).collect();
            self.side.take(meter, self.now, datagrams);
            self.send_to_client(meter);
        }
        while self.to_client.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, datagram) = self.to_client.pop_front().expect("just seen");
            let mut answer = Vec::new();
            let event = self.endpoint.handle(self.now, SERVER, None, None, datagram, &mut answer);
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                self.client.handle_event(event);
            }
            self.drive_client();
        }
    }

    fn drive_client(&mut self) {
        while let Some(event) = self.client.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.client.handle_event(event);
            }
        }
        while let Some(event) = self.client.poll() {
            self.is_connected |= matches!(event, Event::Connected);
            assert!(!matches!(event, Event::ConnectionLost { .. }), "{event:?}");
        }
        let Some(stream) = self.stream else { return };
        let mut stream = self.client.recv_stream(stream);
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Ok(Some(mut chunk)) = chunks.next(usize::MAX) {
            while let Some(message) = self.reader.read(&mut chunk.bytes).expect("a server's message") {
                self.messages.push(message);
            }
        }
        let _ = chunks.finalize();
    }

    /// Nothing is on the way; a side that paces itself or waits for company may have more to send.
    fn is_at_rest(&self) -> bool {
        self.to_send.is_empty() && self.to_server.is_empty() && self.to_client.is_empty()
    }
}

/// The floor: what any server on quinn-proto would pay for the bytes of the produces below.
fn sink() -> Step {
    let mut wire = Wire::connected(Sink::new());
    let messages = produce_messages(BATCH_256, 4);
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    let mut end = 0;
    Box::new(move |meter| {
        end += bytes;
        wire.to_send.extend(messages.iter().cloned());
        wire.run_until(meter, |wire| wire.side.drained_bytes == end && wire.is_at_rest());
    })
}

fn produce_messages(shape: Shape, count: usize) -> Vec<Bytes> {
    let frame = shape.archived();
    let mut chunks = Vec::new();
    for correlation in 0..count as u64 {
        encode::produce(correlation, Acks::All, &frame, &mut chunks);
    }
    chunks
}

fn broker() -> Broker {
    let server = server();
    Broker { server, buffer: Vec::new(), to_push: VecDeque::new(), waiting: None, next_offset: 0 }
}

/// All sent at once; until every answer has come.
fn produce(shape: Shape, count: usize) -> Step {
    let mut wire = Wire::connected(broker());
    wire.to_send.push_back(encode::open_produce(&PARTITION));
    let messages = produce_messages(shape, count);
    Box::new(move |meter| {
        wire.to_send.extend(messages.iter().cloned());
        wire.run_until(meter, |wire| wire.messages.len() == count && wire.is_at_rest());
        wire.messages.clear();
    })
}

/// Given to a reader who waits; until he has all of it.
fn push(shape: Shape, count: u64) -> Step {
    let mut wire = Wire::connected(broker());
    let frame = shape.archived();
    let open = OpenRead { partition: PARTITION, offset: Offset(0), bytes_max: 0, group: None };
    wire.to_send.push_back(encode::open_read(3, &open));
    let is_waiting = |wire: &Wire<Broker>| {
        wire.side.waiting.is_some() && wire.side.to_push.is_empty() && wire.is_at_rest()
    };
    wire.run_until(&mut Meter::default(), is_waiting);
    wire.messages.clear();
    let bytes = count as usize * frame.header().frame_bytes();
    let mut offset = Offset(0);
    Box::new(move |meter| {
        for _ in 0..count {
            let mut frame = frame.clone();
            frame.assign(offset, LeaderEpoch(1));
            offset = frame.header().end_offset();
            wire.side.to_push.push_back(frame);
        }
        wire.side.next_offset = offset.0;
        wire.run_until(meter, |wire| pushed_bytes(&wire.messages) == bytes && is_waiting(wire));
        wire.messages.clear();
    })
}

fn pushed_bytes(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.bulk.len()).sum()
}
