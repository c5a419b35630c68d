//! A QUIC client without a socket: one connection to one core.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine_api::{Acks, CoreId, PartitionId, Request};
use net_quic::ServerConfig;
use net_wire::{MessageReader, OpenRead, ServerMessage, encode};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    StreamEvent, StreamId, VarInt,
};
use storage_frame::{Frame, Offset};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);

pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// The core its datagrams go to.
    pub(super) core: usize,
    pub(super) lost: Option<String>,
    /// Nothing it is sent arrives.
    pub(super) is_deaf: bool,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    quic: Connection,
    is_connected: bool,
    streams: BTreeMap<StreamId, Stream>,
}

struct Stream {
    to_send: BytesMut,
    reader: MessageReader,
    messages: Vec<ServerMessage>,
}

impl Client {
    pub(super) fn new(at: Instant, core: usize, port: u16) -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (handle, quic) = endpoint.connect(at, client_config(), SERVER, "localhost").unwrap();
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            core,
            lost: None,
            is_deaf: false,
            endpoint,
            handle,
            quic,
            is_connected: false,
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected && self.lost.is_none()
    }

    pub(super) fn request(&mut self, request: &Request) -> StreamId {
        let id = self.open(&[encode::request(1, request)]);
        let _ = self.quic.send_stream(id).finish();
        id
    }

    /// Produces each frame on one stream.
    pub(super) fn produce(&mut self, partition: PartitionId, frames: &[Frame]) -> StreamId {
        let mut chunks = vec![encode::open_produce(&partition)];
        for frame in frames {
            encode::produce(1, Acks::All, frame, &mut chunks);
        }
        self.open(&chunks)
    }

    /// Opens a stream of everything from the start.
    pub(super) fn read(&mut self, partition: PartitionId) -> StreamId {
        self.open(&[encode::open_read(
            1,
            &OpenRead { partition, offset: Offset(0), bytes_max: 0, group: None },
        )])
    }

    /// How many have arrived on a reading stream since the last call.
    pub(super) fn frames(&mut self, id: StreamId) -> usize {
        let count = |message| match message {
            ServerMessage::Frames(frames) => frames.frames().unwrap().len(),
            ServerMessage::ReadOpened(_) => 0,
            other @ (ServerMessage::Produced(_)
            | ServerMessage::ReadFailed(_)
            | ServerMessage::Response(_)
            | ServerMessage::Refused(_)) => panic!("{other:?}"),
        };
        self.received(id).into_iter().map(count).sum()
    }

    /// Wants no answer any more.
    pub(super) fn stop(&mut self, id: StreamId) {
        self.quic.recv_stream(id).stop(VarInt::from_u32(0)).unwrap();
    }

    /// What has arrived on a stream since the last call.
    pub(super) fn received(&mut self, id: StreamId) -> Vec<ServerMessage> {
        std::mem::take(&mut self.streams.get_mut(&id).unwrap().messages)
    }

    fn open(&mut self, chunks: &[Bytes]) -> StreamId {
        let id = self.quic.streams().open(Dir::Bi).unwrap();
        let mut to_send = BytesMut::new();
        chunks.iter().for_each(|chunk| to_send.extend_from_slice(chunk));
        let reader = MessageReader::new(net_wire::MESSAGE_BYTES_MAX);
        self.streams.insert(id, Stream { to_send, reader, messages: Vec::new() });
        self.write(id);
        id
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.quic.poll_timeout()
    }

    pub(super) fn expire(&mut self, at: Instant) {
        if self.quic.poll_timeout().is_some_and(|due| due <= at) {
            self.quic.handle_timeout(at);
            self.drive();
        }
    }

    pub(super) fn on_datagram(&mut self, at: Instant, bytes: &[u8]) {
        if self.is_deaf {
            return;
        }
        let mut answer = Vec::new();
        let event = self.endpoint.handle(at, SERVER, None, None, BytesMut::from(bytes), &mut answer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
            self.drive();
        }
    }

    pub(super) fn poll_transmit(&mut self, at: Instant) -> Option<BytesMut> {
        let mut buffer = Vec::new();
        let transmit = self.quic.poll_transmit(at, 1, &mut buffer)?;
        Some(BytesMut::from(&buffer[..transmit.size]))
    }

    fn drive(&mut self) {
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        while let Some(event) = self.quic.poll() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => self.is_connected = true,
            Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
            Event::Stream(StreamEvent::Readable { id }) => self.take(id),
            Event::Stream(StreamEvent::Writable { id }) => self.write(id),
            Event::HandshakeDataReady
            | Event::Stream(
                StreamEvent::Opened { .. }
                | StreamEvent::Finished { .. }
                | StreamEvent::Stopped { .. }
                | StreamEvent::Available { .. },
            )
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn write(&mut self, id: StreamId) {
        let stream = self.streams.get_mut(&id).unwrap();
        while !stream.to_send.is_empty() {
            let Ok(written) = self.quic.send_stream(id).write(&stream.to_send) else { return };
            drop(stream.to_send.split_to(written));
        }
    }

    fn take(&mut self, id: StreamId) {
        let stream = self.streams.get_mut(&id).unwrap();
        let mut receive = self.quic.recv_stream(id);
        let Ok(mut chunks) = receive.read(true) else { return };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            let mut bytes = chunk.bytes;
            while let Some(message) = stream.reader.read(&mut bytes).unwrap() {
                stream.messages.push(message.into_server().unwrap());
            }
        }
        let _ = chunks.finalize();
    }
}

struct Certificate {
    chain: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        Certificate { chain: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    })
}

pub(super) fn server_config(core: CoreId) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certificate().key.clone());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate().chain.clone()], key.into())
        .unwrap();
    tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    ServerConfig {
        core,
        tls: Arc::new(tls),
        secret: [9; 32],
        idle_timeout: Duration::from_secs(30),
        connections_max: 100,
        message_bytes_max: 2 << 20,
        receive_window_bytes: 1 << 20,
        send_buffer_bytes: 256 << 10,
        seed: None,
    }
}

fn client_config() -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate().chain.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}
