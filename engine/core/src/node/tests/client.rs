//! A QUIC client without a runtime: one socket, one connection, time by the wall clock.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine_api::{Acks, FetchError, PartitionId, ProduceError, Produced, Request, Response};
use net_wire::{Message, MessageReader, OpenRead, ServerMessage, encode};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, ConnectionId, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, StreamEvent, StreamId, TransportConfig,
};
use storage_frame::Frame;

/// Everything here answers within it or has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    quic: Connection,
    connected: bool,
    pub(super) lost: Option<String>,
    streams: BTreeMap<StreamId, Stream>,
}

struct Stream {
    to_send: BytesMut,
    reader: MessageReader,
    messages: Vec<Message>,
}

impl Client {
    /// Connects so that the first packet names `core`.
    pub(super) fn connect(
        server: SocketAddr,
        core: u8,
        root: rustls::pki_types::CertificateDer<'static>,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let config = client_config(core, root);
        let (handle, quic) = endpoint.connect(Instant::now(), config, server, "localhost").unwrap();
        let streams = BTreeMap::new();
        let mut client =
            Self { socket, server, endpoint, handle, quic, connected: false, lost: None, streams };
        client.until(|client| client.connected.then_some(()));
        client
    }

    pub(super) fn call(&mut self, request: &Request) -> Response {
        let id = self.open(&[encode::request(1, request)]);
        self.quic.send_stream(id).finish().unwrap();
        let message = self.next_message(id);
        let ServerMessage::Response(response) = message else { panic!("{message:?}") };
        response
    }

    /// Produces each frame on one stream and waits for all answers.
    pub(super) fn produce(
        &mut self,
        partition: PartitionId,
        frames: &[Frame],
    ) -> Vec<Result<Produced, ProduceError>> {
        let mut chunks = vec![encode::open_produce(&partition)];
        for frame in frames {
            encode::produce(1, Acks::All, frame, &mut chunks);
        }
        let id = self.open(&chunks);
        self.quic.send_stream(id).finish().unwrap();
        let answers = frames.iter().map(|_| {
            let message = self.next_message(id);
            let ServerMessage::Produced(result) = message else { panic!("{message:?}") };
            result
        });
        answers.collect()
    }

    pub(super) fn open_read(&mut self, open: &OpenRead) -> StreamId {
        let id = self.open(&[encode::open_read(1, open)]);
        let message = self.next_message(id);
        assert!(matches!(message, ServerMessage::ReadOpened(_)), "{message:?}");
        id
    }

    pub(super) fn failed_read(&mut self, open: &OpenRead) -> FetchError {
        let id = self.open(&[encode::open_read(1, open)]);
        let message = self.next_message(id);
        let ServerMessage::ReadFailed(error) = message else { panic!("{message:?}") };
        error
    }

    /// The frames of the next push.
    pub(super) fn next_frames(&mut self, id: StreamId) -> Vec<Frame> {
        let message = self.next_message(id);
        let ServerMessage::Frames(frames) = message else { panic!("{message:?}") };
        frames.frames().unwrap()
    }

    pub(super) fn wait_until_lost(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        while self.lost.is_none() {
            assert!(Instant::now() < end, "still connected");
            self.turn();
        }
        self.lost.clone().unwrap()
    }

    fn open(&mut self, chunks: &[Bytes]) -> StreamId {
        let id = self.quic.streams().open(Dir::Bi).unwrap();
        let mut to_send = BytesMut::new();
        chunks.iter().for_each(|chunk| to_send.extend_from_slice(chunk));
        let reader = MessageReader::new(net_wire::MESSAGE_BYTES_MAX);
        self.streams.insert(id, Stream { to_send, reader, messages: Vec::new() });
        self.write(id);
        self.until(|client| client.streams[&id].to_send.is_empty().then_some(()));
        id
    }

    fn next_message(&mut self, id: StreamId) -> ServerMessage {
        let message = self.until(|client| {
            let messages = &mut client.streams.get_mut(&id).unwrap().messages;
            (!messages.is_empty()).then(|| messages.remove(0))
        });
        message.into_server().unwrap()
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(self.lost.is_none(), "connection lost: {:?}", self.lost);
            assert!(Instant::now() < end, "no answer");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut buffer = Vec::new();
        while let Some(transmit) = self.quic.poll_transmit(Instant::now(), 1, &mut buffer) {
            self.socket.send_to(&buffer[..transmit.size], self.server).unwrap();
            buffer.clear();
        }
        let timer = self.quic.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = timer.unwrap_or(PATIENCE).clamp(Duration::from_micros(100), Duration::from_millis(20));
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut datagram = [0; 2048];
        if let Ok((bytes, from)) = self.socket.recv_from(&mut datagram) {
            self.on_datagram(from, &datagram[..bytes]);
        }
        if self.quic.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            self.quic.handle_timeout(Instant::now());
        }
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        while let Some(event) = self.quic.poll() {
            self.on_event(event);
        }
    }

    fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut answer = Vec::new();
        let event =
            self.endpoint.handle(Instant::now(), from, None, None, BytesMut::from(bytes), &mut answer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
            Event::Stream(StreamEvent::Readable { id }) => self.read(id),
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

    fn read(&mut self, id: StreamId) {
        let stream = self.streams.get_mut(&id).unwrap();
        let mut receive = self.quic.recv_stream(id);
        let Ok(mut chunks) = receive.read(true) else { return };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            let mut bytes = chunk.bytes;
            while let Some(message) = stream.reader.read(&mut bytes).unwrap() {
                stream.messages.push(message);
            }
        }
        let _ = chunks.finalize();
    }
}

fn client_config(core: u8, root: rustls::pki_types::CertificateDer<'static>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&[core, 1, 2, 3, 4, 5, 6, 7])));
    config.transport_config(Arc::new(TransportConfig::default()));
    config
}
