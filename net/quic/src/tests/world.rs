use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine_api::{
    Acks, CoreId, Durability, Fetch, FetchError, Fetched, PartitionId, Produced, Request, Response,
    StageTimings, TopicId,
};
use net_wire::{Message, MessageReader, OpenRead, ServerMessage, encode};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ReadError, StreamEvent, StreamId, TransportConfig, VarInt, WriteError,
};
use storage_frame::{BatchBuilder, Frame, LeaderEpoch, Offset, TimestampMs};

use crate::{Ask, Server, ServerConfig};

pub(crate) const CORE: u8 = 5;
pub(crate) const LATENCY: Duration = Duration::from_millis(1);
pub(crate) const PARTITION: PartitionId = PartitionId { topic: TopicId(77), index: 1 };
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);

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

pub(crate) fn server_config() -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certificate().key.clone());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate().chain.clone()], key.into())
        .expect("key and certificate belong together");
    tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    ServerConfig {
        core: CoreId(CORE),
        tls: Arc::new(tls),
        secret: [7; 32],
        idle_timeout: Duration::from_secs(20),
        connections_max: 10,
        message_bytes_max: 2 << 20,
        receive_window_bytes: 1 << 20,
        send_buffer_bytes: 128 << 10,
        seed: None,
    }
}

/// What differs between clients.
#[derive(Clone)]
pub(crate) struct ClientSetup {
    pub(crate) alpn: Vec<u8>,
    pub(crate) keeps_alive: bool,
}

impl Default for ClientSetup {
    fn default() -> Self {
        Self { alpn: net_wire::ALPN.to_vec(), keeps_alive: true }
    }
}

fn client_config(setup: &ClientSetup) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate().chain.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![setup.alpn.clone()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("ciphers for QUIC")));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(setup.keeps_alive.then_some(Duration::from_secs(5)));
    let mut discovery = quinn_proto::MtuDiscoveryConfig::default();
    discovery.upper_bound(net_wire::DATAGRAM_BYTES_MAX);
    let mut congestion = quinn_proto::congestion::CubicConfig::default();
    congestion.initial_window(net_wire::FIRST_WINDOW_BYTES);
    transport.mtu_discovery_config(Some(discovery)).congestion_controller_factory(Arc::new(congestion));
    config.transport_config(Arc::new(transport));
    config
}

/// One stream as its client sees it.
pub(crate) struct ClientStream {
    to_send: VecDeque<Bytes>,
    finish: bool,
    reader: MessageReader,
    /// Whether arriving bytes are taken.
    pub(crate) reads: bool,
    pub(crate) messages: Vec<Message>,
    pub(crate) is_ended: bool,
    /// The server does not want more, and why.
    pub(crate) stopped: Option<u64>,
}

pub(crate) struct Client {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    pub(crate) quic: Connection,
    pub(crate) address: SocketAddr,
    pub(crate) is_connected: bool,
    pub(crate) lost: Option<ConnectionError>,
    streams: BTreeMap<StreamId, ClientStream>,
    /// Everything sent, for looking at.
    pub(crate) sent: Vec<Bytes>,
    pub(crate) is_mute: bool,
}

struct Flight {
    at: Instant,
    to: SocketAddr,
    from: SocketAddr,
    bytes: BytesMut,
}

#[derive(Default)]
pub(crate) struct Broker {
    /// Asked and not answered.
    pub(crate) open: Vec<(u64, Request)>,
    pub(crate) cancelled: Vec<u64>,
    /// Answers produce and fetch by itself from `log`.
    pub(crate) is_serving: bool,
    pub(crate) log: Vec<Frame>,
    pub(crate) asked: usize,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) broker: Broker,
    flights: Vec<Flight>,
    /// Of 1000 datagrams, both ways.
    pub(crate) lost_of_1000: u64,
    /// Added to the latency at random, so that datagrams overtake.
    pub(crate) jitter: Duration,
    /// Larger datagrams do not get through.
    pub(crate) path_bytes_max: usize,
    /// The largest that got through to a client.
    pub(crate) received_bytes_max: usize,
    dice: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(server_config())
    }

    // There is no other way to make an `Instant`; only what is added to it matters.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn with(config: ServerConfig) -> Self {
        Self {
            now: Instant::now(),
            server: Server::new(config),
            clients: Vec::new(),
            broker: Broker::default(),
            flights: Vec::new(),
            lost_of_1000: 0,
            jitter: Duration::ZERO,
            path_bytes_max: usize::MAX,
            received_bytes_max: 0,
            dice: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// A client whose handshake has been given time.
    pub(crate) fn connect(&mut self) -> usize {
        let client = self.dial(ClientSetup::default());
        self.run(Duration::from_millis(20));
        assert!(self.clients[client].is_connected, "{:?}", self.clients[client].lost);
        client
    }

    pub(crate) fn dial(&mut self, setup: ClientSetup) -> usize {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"client");
        let mut config = EndpointConfig::new(Arc::new(key));
        config.max_udp_payload_size(net_wire::DATAGRAM_BYTES_MAX).expect("above QUIC's minimum");
        let mut endpoint = Endpoint::new(Arc::new(config), None, true, None);
        let (handle, quic) =
            endpoint.connect(self.now, client_config(&setup), SERVER, "localhost").expect("a good config");
        let port = 40_000 + self.clients.len() as u16;
        self.clients.push(Client {
            endpoint,
            handle,
            quic,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            is_connected: false,
            lost: None,
            streams: BTreeMap::new(),
            sent: Vec::new(),
            is_mute: false,
        });
        self.clients.len() - 1
    }

    pub(crate) fn open(&mut self, client: usize) -> StreamId {
        let client = &mut self.clients[client];
        let id = client.quic.streams().open(Dir::Bi).expect("a stream left");
        let stream = ClientStream {
            to_send: VecDeque::new(),
            finish: false,
            reader: MessageReader::new(net_wire::MESSAGE_BYTES_MAX),
            reads: true,
            messages: Vec::new(),
            is_ended: false,
            stopped: None,
        };
        client.streams.insert(id, stream);
        id
    }

    pub(crate) fn stream(&mut self, client: usize, id: StreamId) -> &mut ClientStream {
        self.clients[client].streams.get_mut(&id).expect("an open stream")
    }

    pub(crate) fn send(&mut self, client: usize, id: StreamId, bytes: impl Into<Bytes>) {
        self.stream(client, id).to_send.push_back(bytes.into());
    }

    pub(crate) fn finish(&mut self, client: usize, id: StreamId) {
        self.stream(client, id).finish = true;
    }

    pub(crate) fn open_request(&mut self, client: usize, correlation: u64, request: &Request) -> StreamId {
        let id = self.open(client);
        self.send(client, id, encode::request(correlation, request));
        self.finish(client, id);
        id
    }

    pub(crate) fn open_produce(&mut self, client: usize) -> StreamId {
        let id = self.open(client);
        self.send(client, id, encode::open_produce(&PARTITION));
        id
    }

    pub(crate) fn produce(
        &mut self,
        client: usize,
        id: StreamId,
        correlation: u64,
        acks: Acks,
        frame: &Frame,
    ) {
        let mut chunks = Vec::new();
        encode::produce(correlation, acks, frame, &mut chunks);
        for chunk in chunks {
            self.send(client, id, chunk);
        }
    }

    pub(crate) fn open_read(&mut self, client: usize, offset: u64, bytes_max: u32) -> StreamId {
        let id = self.open(client);
        let open = OpenRead { partition: PARTITION, offset: Offset(offset), bytes_max, group: None };
        self.send(client, id, encode::open_read(3, &open));
        id
    }

    /// What has arrived on a stream since the last call.
    pub(crate) fn received(&mut self, client: usize, id: StreamId) -> Vec<(u64, ServerMessage)> {
        std::mem::take(&mut self.stream(client, id).messages)
            .into_iter()
            .map(|m| (m.correlation, m.into_server().expect("a server's message")))
            .collect()
    }

    /// The client does not want the server's side of a stream any more.
    pub(crate) fn stop(&mut self, client: usize, id: StreamId) {
        self.clients[client].quic.recv_stream(id).stop(VarInt::from_u32(0)).expect("an open stream");
        self.stream(client, id).reads = false;
    }

    pub(crate) fn reset(&mut self, client: usize, id: StreamId) {
        self.clients[client].quic.send_stream(id).reset(VarInt::from_u32(0)).expect("an open stream");
    }

    /// As [`stop`](Self::stop), if there is still something to stop.
    pub(crate) fn try_stop(&mut self, client: usize, id: StreamId) {
        let _ = self.clients[client].quic.recv_stream(id).stop(VarInt::from_u32(0));
        self.stream(client, id).reads = false;
    }

    pub(crate) fn try_reset(&mut self, client: usize, id: StreamId) {
        let _ = self.clients[client].quic.send_stream(id).reset(VarInt::from_u32(0));
    }

    pub(crate) fn answer(&mut self, key: u64, response: Response) {
        self.broker.open.retain(|(open, _)| *open != key);
        self.server.handle_response(self.now, key, response);
    }

    /// Everything that happens in `time`.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.settle();
            let timeouts = self.clients.iter_mut().filter_map(|c| c.quic.poll_timeout());
            let next =
                timeouts.chain(self.flights.iter().map(|f| f.at)).chain(self.server.next_timeout()).min();
            let Some(next) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            self.deliver();
            for client in &mut self.clients {
                if client.quic.poll_timeout().is_some_and(|at| at <= self.now) {
                    client.quic.handle_timeout(self.now);
                }
            }
            if self.server.next_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
        }
        self.now = until;
    }

    /// Everything that happens without time going by.
    fn settle(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].drive();
            let mut buffer = Vec::new();
            while let Some(transmit) = self.clients[client].quic.poll_transmit(self.now, 1, &mut buffer) {
                let bytes = BytesMut::from(&buffer[..transmit.size]);
                buffer.clear();
                let from = self.clients[client].address;
                self.clients[client].sent.push(bytes.clone().freeze());
                if !self.clients[client].is_mute {
                    self.fly(from, SERVER, bytes);
                }
            }
        }
        loop {
            self.drive_broker();
            let mut buffer = Vec::new();
            let mut is_dry = true;
            while let Some(transmit) = self.server.poll_transmit(self.now, 64, &mut buffer) {
                assert!(transmit.bytes <= 65_507, "what the kernel cuts up at once");
                is_dry = false;
                for segment in buffer[..transmit.bytes].chunks(transmit.segment_bytes.unwrap_or(usize::MAX)) {
                    self.fly(SERVER, transmit.remote, BytesMut::from(segment));
                }
            }
            if is_dry {
                break;
            }
        }
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: BytesMut) {
        if self.roll() % 1000 < self.lost_of_1000 || bytes.len() > self.path_bytes_max {
            return;
        }
        if to != SERVER {
            self.received_bytes_max = self.received_bytes_max.max(bytes.len());
        }
        let late = self.jitter.mul_f64((self.roll() % 1000) as f64 / 1000.0);
        self.flights.push(Flight { at: self.now + LATENCY + late, to, from, bytes });
    }

    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    fn deliver(&mut self) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|f| f.at <= self.now);
        self.flights = rest;
        for Flight { to, from, bytes, .. } in due {
            if to == SERVER {
                self.server.handle_datagram(self.now, from, None, None, bytes);
            } else if let Some(client) = self.clients.iter_mut().find(|c| c.address == to) {
                client.on_datagram(self.now, bytes);
            }
        }
    }

    /// A datagram that no client of ours made.
    pub(crate) fn inject(&mut self, bytes: &[u8]) {
        self.server.handle_datagram(
            self.now,
            (Ipv4Addr::LOCALHOST, 6).into(),
            None,
            None,
            BytesMut::from(bytes),
        );
    }

    pub(crate) fn drive_broker(&mut self) {
        while let Some(ask) = self.server.poll_ask() {
            match ask {
                Ask::Request { key, request } => {
                    self.broker.asked += 1;
                    self.broker.open.push((key, request));
                }
                Ask::Cancel { key } => {
                    self.broker.open.retain(|(open, _)| *open != key);
                    self.broker.cancelled.push(key);
                }
            }
            if self.broker.is_serving {
                for (key, response) in self.broker.serve() {
                    self.server.handle_response(self.now, key, response);
                }
            }
        }
    }
}

impl Broker {
    fn serve(&mut self) -> Vec<(u64, Response)> {
        let mut answers = Vec::new();
        let mut open = std::mem::take(&mut self.open);
        // Produces before fetches, which they may wake.
        open.sort_by_key(|(_, request)| !matches!(request, Request::Produce(_)));
        for (key, request) in open {
            match self.answer(&request) {
                Some(response) => answers.push((key, response)),
                None => self.open.push((key, request)),
            }
        }
        answers
    }

    fn end(&self) -> Offset {
        self.log.last().map_or(Offset::ZERO, |frame| frame.header().end_offset())
    }

    fn answer(&mut self, request: &Request) -> Option<Response> {
        match request {
            Request::Produce(produce) => {
                let base_offset = self.end();
                let mut frame = produce.frame.clone();
                frame.assign(base_offset, LeaderEpoch(1));
                self.log.push(frame);
                Some(Response::Produce(Ok(produced(base_offset.0))))
            }
            Request::Fetch(fetch) => self.fetch(fetch),
            _ => None,
        }
    }

    fn fetch(&self, fetch: &Fetch) -> Option<Response> {
        let end = self.end();
        if fetch.offset > end {
            let error = FetchError::OffsetOutOfRange {
                asked: fetch.offset,
                log_start: Offset::ZERO,
                high_watermark: end,
            };
            return Some(Response::Fetch(Err(error)));
        }
        let mut bytes = 0;
        let frames: Vec<Frame> = self
            .log
            .iter()
            .filter(|frame| frame.header().end_offset() > fetch.offset)
            .take_while(|frame| {
                bytes += frame.header().frame_bytes();
                bytes <= fetch.bytes_max as usize || bytes == frame.header().frame_bytes()
            })
            .cloned()
            .collect();
        if frames.is_empty() && fetch.wait_max.is_none() {
            return None;
        }
        Some(Response::Fetch(Ok(Fetched { log_start: Offset::ZERO, high_watermark: end, frames })))
    }
}

impl Client {
    fn on_datagram(&mut self, now: Instant, bytes: BytesMut) {
        let mut buffer = Vec::new();
        let from = SERVER;
        match self.endpoint.handle(now, from, None, None, bytes, &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.quic.handle_event(event),
            Some(DatagramEvent::NewConnection(_) | DatagramEvent::Response(_)) | None => {}
        }
    }

    fn drive(&mut self) {
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.stopped = Some(error_code.into_inner());
                        stream.to_send.clear();
                    }
                }
                _ => {}
            }
        }
        if self.lost.is_none() {
            for (id, stream) in &mut self.streams {
                stream.write(&mut self.quic, *id);
                stream.read(&mut self.quic, *id);
            }
        }
    }
}

impl ClientStream {
    fn write(&mut self, quic: &mut Connection, id: StreamId) {
        let mut sender = quic.send_stream(id);
        while !self.to_send.is_empty() {
            match sender.write_chunks(self.to_send.as_mut_slices().0) {
                Ok(written) => {
                    self.to_send.drain(..written.chunks);
                }
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return self.to_send.clear(),
            }
        }
        if std::mem::take(&mut self.finish) {
            let _ = sender.finish();
        }
    }

    fn read(&mut self, quic: &mut Connection, id: StreamId) {
        if !self.reads || self.is_ended {
            return;
        }
        let mut receiver = quic.recv_stream(id);
        let Ok(mut chunks) = receiver.read(true) else { return };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(mut chunk)) => {
                    while let Some(message) = self.reader.read(&mut chunk.bytes).expect("a server's message")
                    {
                        self.messages.push(message);
                    }
                }
                Ok(None) => {
                    self.reader.end().expect("whole messages");
                    self.is_ended = true;
                    return;
                }
                Err(ReadError::Blocked) => return,
                Err(ReadError::Reset(_)) => {
                    self.is_ended = true;
                    return;
                }
            }
        }
    }
}

pub(crate) fn produced(base_offset: u64) -> Produced {
    Produced {
        append_time: None,
        base_offset: Offset(base_offset),
        leader_epoch: LeaderEpoch(1),
        durability: Durability::LeaderDisk,
        duplicate: false,
        timings: StageTimings::default(),
    }
}

/// One record of `value_bytes`.
pub(crate) fn frame(value_bytes: usize) -> Frame {
    let mut batch = BatchBuilder::new();
    batch.push(TimestampMs(1), None, Some(&vec![0x5A; value_bytes]), []).expect("room");
    batch.seal(None)
}
