//! A client of `quinn-proto` and the server, with nothing between them but time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine_api::CoreId;
use net_quic::{Server, ServerConfig};
use net_wire::MessageReader;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ReadError, StreamId, TransportConfig, VarInt,
};

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);
const STRANGER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6);
/// Exchanges in one moment; more is two sides that never come to rest.
const ROUNDS_MAX: usize = 10_000;

pub(super) struct Wire {
    pub(super) now: Instant,
    pub(super) server: Server,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    quic: Connection,
    is_connected: bool,
    pub(super) lost: Option<ConnectionError>,
    streams: Vec<Stream>,
    /// Of the next datagram to the server: which byte, which bit.
    damage: Option<(u16, u8)>,
}

/// As its client sees it.
struct Stream {
    id: StreamId,
    to_send: BytesMut,
    finishes: bool,
    is_over: bool,
    reads: bool,
    reader: MessageReader,
}

impl Wire {
    // There is no other way to make an `Instant`; only what is added to it matters.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn connect() -> Self {
        let now = Instant::now();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"client");
        let mut config = EndpointConfig::new(Arc::new(key));
        // Nobody looks for room for larger datagrams: probes are mostly padding, which costs time to read.
        config.max_udp_payload_size(1200).expect("QUIC's minimum");
        config.rng_seed(Some([3; 32]));
        let mut endpoint = Endpoint::new(Arc::new(config), None, true, Some([4; 32]));
        let (handle, quic) =
            endpoint.connect(now, Tls::get().client.clone(), SERVER, "localhost").expect("a good config");
        let server = Server::new(Tls::get().server.clone());
        let (streams, damage, lost) = (Vec::new(), None, None);
        let mut wire =
            Self { now, server, endpoint, handle, quic, is_connected: false, lost, streams, damage };
        wire.run(Duration::from_millis(10));
        assert!(wire.is_connected, "{:?}", wire.lost);
        wire
    }

    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn open(&mut self) {
        let Some(id) = self.quic.streams().open(Dir::Bi) else { return };
        let reader = MessageReader::new(net_wire::MESSAGE_BYTES_MAX);
        let to_send = BytesMut::new();
        self.streams.push(Stream { id, to_send, finishes: false, is_over: false, reads: true, reader });
    }

    pub(super) fn write(&mut self, nth: usize, bytes: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(nth) else { return };
        if !stream.finishes && !stream.is_over {
            stream.to_send.extend_from_slice(&bytes);
        }
        self.exchange();
    }

    pub(super) fn finish(&mut self, nth: usize) {
        if let Some(stream) = self.streams.get_mut(nth) {
            stream.finishes = true;
        }
        self.exchange();
    }

    pub(super) fn reset(&mut self, nth: usize) {
        if let Some(stream) = self.streams.get_mut(nth) {
            // An error says that it has ended already.
            let _ = self.quic.send_stream(stream.id).reset(VarInt::from_u32(7));
            stream.is_over = true;
            stream.to_send.clear();
        }
        self.exchange();
    }

    pub(super) fn stop(&mut self, nth: usize) {
        if let Some(stream) = self.streams.get_mut(nth) {
            let _ = self.quic.recv_stream(stream.id).stop(VarInt::from_u32(7));
            stream.reads = false;
        }
        self.exchange();
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.server.set_paused(self.now, paused);
        self.exchange();
    }

    /// A datagram that no client of ours made.
    pub(super) fn inject(&mut self, bytes: &[u8]) {
        self.server.handle_datagram(self.now, STRANGER, None, None, BytesMut::from(bytes));
        self.exchange();
    }

    pub(super) fn damage_next(&mut self, (byte, bit): (u16, u8)) {
        self.damage = Some((byte, bit % 8));
    }

    pub(super) fn close(&mut self) {
        self.quic.close(self.now, VarInt::from_u32(0), Bytes::new());
        self.exchange();
    }

    /// Everything that happens in `time`.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..ROUNDS_MAX {
            self.exchange();
            let next = [self.quic.poll_timeout(), self.server.next_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if self.quic.poll_timeout().is_some_and(|at| at <= self.now) {
                self.quic.handle_timeout(self.now);
            }
            if self.server.next_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
        }
        panic!("time stands still");
    }

    /// Datagrams both ways until nobody has any.
    fn exchange(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.drive();
            let said = self.send_to_server();
            let answered = self.send_to_client();
            if !said && !answered {
                return;
            }
        }
        panic!("they never come to rest");
    }

    fn send_to_server(&mut self) -> bool {
        let mut buffer = Vec::new();
        let mut any = false;
        while let Some(transmit) = self.quic.poll_transmit(self.now, 1, &mut buffer) {
            any = true;
            if let Some((byte, bit)) = self.damage.take() {
                let at = usize::from(byte) % transmit.size;
                buffer[at] ^= 1 << bit;
            }
            self.server.handle_datagram(
                self.now,
                CLIENT,
                None,
                None,
                BytesMut::from(&buffer[..transmit.size]),
            );
            buffer.clear();
        }
        any
    }

    fn send_to_client(&mut self) -> bool {
        let mut buffer = Vec::new();
        let mut any = false;
        while let Some(transmit) = self.server.poll_transmit(self.now, 8, &mut buffer) {
            any = true;
            if transmit.remote != CLIENT {
                continue;
            }
            for datagram in buffer[..transmit.bytes].chunks(transmit.segment_bytes.unwrap_or(usize::MAX)) {
                let mut answer = Vec::new();
                let event =
                    self.endpoint.handle(self.now, SERVER, None, None, BytesMut::from(datagram), &mut answer);
                match event {
                    Some(DatagramEvent::ConnectionEvent(_, event)) => self.quic.handle_event(event),
                    Some(DatagramEvent::NewConnection(_) | DatagramEvent::Response(_)) | None => {}
                }
            }
        }
        any
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
                Event::HandshakeDataReady
                | Event::Stream(_)
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
        if self.lost.is_none() && !self.quic.is_closed() {
            for stream in &mut self.streams {
                stream.send(&mut self.quic);
                stream.receive(&mut self.quic);
            }
        }
    }
}

impl Stream {
    fn send(&mut self, quic: &mut Connection) {
        let mut sender = quic.send_stream(self.id);
        while !self.to_send.is_empty() {
            match sender.write(&self.to_send) {
                Ok(written) => drop(self.to_send.split_to(written)),
                Err(quinn_proto::WriteError::Blocked) => return,
                Err(quinn_proto::WriteError::Stopped(_) | quinn_proto::WriteError::ClosedStream) => {
                    self.is_over = true;
                    self.to_send.clear();
                }
            }
        }
        if self.finishes && !std::mem::replace(&mut self.is_over, true) {
            // An error says that the server does not want more.
            let _ = sender.finish();
        }
    }

    /// What the server says are whole messages of its own.
    fn receive(&mut self, quic: &mut Connection) {
        let mut receiver = quic.recv_stream(self.id);
        let Ok(mut chunks) = receiver.read(true) else { return };
        while self.reads {
            match chunks.next(usize::MAX) {
                Ok(Some(mut chunk)) => {
                    while let Some(message) = self.reader.read(&mut chunk.bytes).expect("a server's message")
                    {
                        message.into_server().expect("a server's message");
                    }
                }
                Ok(None) => {
                    self.reader.end().expect("whole messages");
                    self.reads = false;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => self.reads = false,
            }
        }
        // An acknowledgement of what was read leaves with the next packet.
        let _ = chunks.finalize();
    }
}

/// Made once: keys cost more than a run.
struct Tls {
    server: ServerConfig,
    client: ClientConfig,
}

impl Tls {
    fn get() -> &'static Self {
        static MADE: OnceLock<Tls> = OnceLock::new();
        MADE.get_or_init(Self::make)
    }

    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let chain = made.cert.der().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![chain.clone()], key.into())
            .expect("key and certificate belong together");
        tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
        let server = ServerConfig {
            core: CoreId(5),
            tls: Arc::new(tls),
            secret: [7; 32],
            idle_timeout: Duration::from_secs(20),
            connections_max: 4,
            message_bytes_max: 128 << 10,
            receive_window_bytes: 128 << 10,
            send_buffer_bytes: 32 << 10,
            seed: Some(1),
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain).expect("a root");
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
        let mut client =
            ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("ciphers for QUIC")));
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(5))).mtu_discovery_config(None);
        client.transport_config(Arc::new(transport));
        Self { server, client }
    }
}
