//! Settings, and the limits that are not settings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine_api::CoreId;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TimeSource, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use ring::{hkdf, hmac};

use crate::cid::CoreCids;

#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Goes into the first byte of every connection id this server issues.
    pub core: CoreId,
    /// TLS 1.3 with ALPN `millstream/1`.
    pub tls: Arc<rustls::ServerConfig>,
    /// Keys for stateless resets and tokens, the same on every core of a node and over restarts.
    pub secret: [u8; 32],
    pub idle_timeout: Duration,
    pub connections_max: usize,
    /// Messages above it are refused and their stream is given up.
    pub message_bytes_max: usize,
    /// Receive window of a connection; keep below the socket's receive buffer.
    pub receive_window_bytes: u32,
    /// Bytes buffered for sending on one stream before its reader has to wait.
    pub send_buffer_bytes: usize,
    /// Where every random choice but TLS's comes from, for simulations: another for each core and each life of it.
    /// With it tokens do not age, for there is no wall clock. `None`: the system is asked.
    pub seed: Option<u64>,
}

/// Of several datagrams handed out at once: the kernel cuts up no more than one IP packet's worth.
pub(crate) const TRANSMIT_BYTES_MAX: usize = 65_000;
/// Streams a client may have open on one connection.
pub(crate) const STREAMS_MAX: u32 = 1024;
/// Produces of one stream not yet answered.
pub(crate) const STREAM_PRODUCES_MAX: usize = 256;
/// Their bytes, unless one message alone is larger.
pub(crate) const STREAM_PRODUCE_BYTES_MAX: usize = 8 << 20;
/// Answers of one produce stream that the client has not taken.
pub(crate) const STREAM_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Requests of one connection not yet answered, of all kinds.
pub(crate) const CONNECTION_REQUESTS_MAX: usize = 4096;
/// Their bytes, unless one message alone is larger.
pub(crate) const CONNECTION_REQUEST_BYTES_MAX: usize = 32 << 20;
/// Memory for messages of one connection that are not whole yet, unless one message alone is larger. What is
/// above is refused with `TooMany`.
pub(crate) const CONNECTION_PARTIAL_BYTES_MAX: usize = 64 << 20;
/// The same of all connections of a core.
pub(crate) const SERVER_PARTIAL_BYTES_MAX: usize = 256 << 20;
/// Unsent bytes of one connection, in send buffers of a stream. Above it a stream gets a push only when it has
/// nothing unsent, and a small one: readers who stand still do not hold up the others.
pub(crate) const CONNECTION_SEND_BUFFERS: usize = 8;
/// A push when the client leaves its size to the broker: large enough to make the rest cheap, small enough
/// for several readers to take turns.
pub(crate) const PUSH_BYTES_DEFAULT: u32 = 256 << 10;
pub(crate) const PUSH_BYTES_CROWDED: u32 = 64 << 10;
/// In this time a message under way has to get on by `PROGRESS_BYTES` or end, and a new stream to say
/// what it is for.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const PROGRESS_BYTES: u64 = 16 << 10;
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way before clients have to prove their address first (one more round trip).
pub(crate) const HANDSHAKES_FREE: usize = 256;
/// Handshakes under way before new ones are ignored; clients retry by themselves.
pub(crate) const HANDSHAKES_MAX: usize = 1024;
/// Datagrams the endpoint itself wants sent (resets, refusals, retries); more are dropped.
pub(crate) const RESPONSES_MAX: usize = 256;

/// quinn-proto's parts made from `config`.
///
/// # Panics
/// When `config.tls` cannot do QUIC or does not name our protocol.
pub(crate) fn endpoint_parts(config: &ServerConfig) -> (EndpointConfig, quinn_proto::ServerConfig) {
    assert!(
        config.tls.alpn_protocols.iter().any(|name| name == net_wire::ALPN),
        "the TLS configuration does not offer {:?}",
        std::str::from_utf8(net_wire::ALPN)
    );
    let hmac_key = |purpose: &str| hmac::Key::new(hmac::HMAC_SHA256, &derive(&config.secret, purpose));
    let cids = CoreCids::new(config.core, hmac_key("connection id"), config.seed);
    let mut endpoint = EndpointConfig::new(Arc::new(hmac_key("stateless reset")));
    endpoint.cid_generator(move || Box::new(cids.clone()));
    endpoint.max_udp_payload_size(net_wire::DATAGRAM_BYTES_MAX).expect("above QUIC's minimum");
    endpoint.rng_seed(config.seed.map(|seed| derive(&seeding(seed), "endpoint")));

    let crypto = QuicServerConfig::try_from(Arc::clone(&config.tls)).expect("TLS 1.3 with AES-128-GCM");
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&derive(&config.secret, "token"));
    let mut server = quinn_proto::ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
    // Tokens for later connections save a round trip that is not spent below HANDSHAKES_FREE anyway.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    server.transport_config(Arc::new(transport(config))).validation_token_config(tokens).migration(true);
    if config.seed.is_some() {
        server.time_source(Arc::new(NoTime));
    }
    (endpoint, server)
}

fn transport(config: &ServerConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let window = VarInt::from_u32(config.receive_window_bytes);
    let idle = IdleTimeout::try_from(config.idle_timeout).expect("an idle timeout below 2^62 ms");
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(window)
        // One stream that is not read for a while leaves half of the connection's window to the others.
        .stream_receive_window(VarInt::from_u32((config.receive_window_bytes / 2).max(64 << 10)))
        .send_window(send_window_bytes(config))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(None);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(net_wire::DATAGRAM_BYTES_MAX);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(net_wire::FIRST_WINDOW_BYTES);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(net_wire::PACKETS_WITHOUT_ACK))
        .max_ack_delay(Some(net_wire::ACK_DELAY_MAX));
    transport.ack_frequency_config(Some(acks));
    transport.mtu_discovery_config(Some(discovery)).congestion_controller_factory(Arc::new(congestion));
    transport
}

/// What QUIC itself may hold of a connection's bytes: sent and not acknowledged, or admitted by the client's
/// window and not sent.
fn send_window_bytes(config: &ServerConfig) -> u64 {
    (4 * config.send_buffer_bytes as u64).max(4 << 20)
}

/// The time of a simulation that has no wall clock.
struct NoTime;

impl TimeSource for NoTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

fn seeding(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// Another key for each purpose.
fn derive(secret: &[u8; 32], purpose: &str) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose.as_bytes());
    tag.as_ref().try_into().expect("SHA-256 makes 32 bytes")
}
