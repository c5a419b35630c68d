//! From `host:port` to a QUIC connection with a chosen core of that broker, or an error that says what to do.
//!
//! The first byte of the connection id that we choose for the first packet is the core; the broker's packet
//! filter hands the connection to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, VarInt};
use tokio::time::{sleep, timeout};

use crate::config::{Config, DEFAULT_PORT};
use crate::outside::Outside;
use crate::trust::{TrustError, tls_config};

/// Why there is no connection to any broker. Nothing was asked of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum ConnectError {
    /// Nothing to check a broker's certificate against.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Not `host:port`, or the name is not known.
    #[error("cannot resolve '{address}': {why}")]
    Address { address: String, why: String },
    /// The machine is there and says that nobody listens.
    #[error(
        "nothing listens on UDP port {port} of {address}: is the broker running, and on this address? Its QUIC \
         port is UDP"
    )]
    PortClosed { address: String, port: u16 },
    /// No QUIC packet came back in time.
    #[error("no QUIC answer from {address} within {after:?}: is the broker running, is UDP open?")]
    NoAnswer { address: String, after: Duration },
    /// A broker answered, and its certificate is not one to be believed.
    #[error(
        "the certificate of {address} is not trusted: {why}; give the CA of that broker (its tls/ca.pem, by \
         MILLSTREAM_CA_FILE or Trust::CaFile) or pin its certificate's SHA-256 (Trust::Fingerprint)"
    )]
    NotTrusted { address: String, why: String },
    /// Something answered that speaks QUIC and not this protocol.
    #[error("{address} does not speak {}: is it a millstream broker of this major version?", alpn())]
    WrongProtocol { address: String },
    /// The broker closed the connection at once.
    #[error("{address} refused the connection: {why}")]
    Refused { address: String, why: String },
    /// Anything else.
    #[error("cannot connect to {address}: {why}")]
    Failed { address: String, why: String },
    /// None of several addresses.
    #[error("no broker reached: {}", list(attempts))]
    All { attempts: Vec<ConnectError> },
    /// `Config::servers` is empty.
    #[error("no server address given")]
    NoServers,
    /// The client was closed or dropped.
    #[error("client is closed")]
    Closed,
}

fn alpn() -> &'static str {
    std::str::from_utf8(net_wire::ALPN).expect("ASCII")
}

fn list(attempts: &[ConnectError]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A connection and the socket it lives on. Dropping it closes the connection, whoever else has a handle.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: quinn::Connection,
    /// Alive as long as the connection is used.
    endpoint: quinn::Endpoint,
}

impl Link {
    /// Once is enough; later ones are not heard.
    pub(crate) fn close(&self) {
        let done = VarInt::from_u32(u32::from(net_wire::Code::Done.number()));
        self.connection.close(done, b"client closed");
    }

    /// Closes it and waits until the broker has been told, several times if it does not answer.
    pub(crate) async fn until_gone(self) {
        self.close();
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// Dials.
pub(crate) struct Dialer {
    crypto: Arc<QuicClientConfig>,
    transport: Arc<quinn::TransportConfig>,
    outside: Arc<dyn Outside>,
    connect_timeout: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("connect_timeout", &self.connect_timeout).finish_non_exhaustive()
    }
}

/// Bytes of the connection id we choose for the first packet; QUIC asks for 8 at least.
const FIRST_ID_BYTES: usize = 16;
/// Of one stream: what a partition may be ahead of a reader inside QUIC.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// A handshake on the same machine takes a few milliseconds: after this the port may well be closed.
const PROBE_AFTER: Duration = Duration::from_millis(100);
const PROBE_AGAIN: Duration = Duration::from_millis(200);
const WATCH_EVERY: Duration = Duration::from_millis(250);

impl Dialer {
    pub(crate) fn new(config: &Config, outside: Arc<dyn Outside>) -> Result<Self, ConnectError> {
        let tls = tls_config(&config.trust)?;
        let crypto = QuicClientConfig::try_from(tls).expect("ring has the initial cipher suite");
        let mut transport = quinn::TransportConfig::default();
        // Bounded, so that the conversion cannot fail: QUIC counts milliseconds in 62 bits.
        let idle_timeout = config.idle_timeout.clamp(Duration::from_millis(100), Duration::from_secs(3600));
        let mut discovery = quinn::MtuDiscoveryConfig::default();
        discovery.upper_bound(net_wire::DATAGRAM_BYTES_MAX);
        let mut congestion = quinn::congestion::CubicConfig::default();
        congestion.initial_window(net_wire::FIRST_WINDOW_BYTES);
        let mut acks = quinn::AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(net_wire::PACKETS_WITHOUT_ACK))
            .max_ack_delay(Some(net_wire::ACK_DELAY_MAX));
        transport
            .ack_frequency_config(Some(acks))
            .mtu_discovery_config(Some(discovery))
            .congestion_controller_factory(Arc::new(congestion))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            .keep_alive_interval(Some(idle_timeout / 4))
            .max_idle_timeout(Some(idle_timeout.try_into().expect("clamped")))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        Ok(Self {
            crypto: Arc::new(crypto),
            transport: Arc::new(transport),
            outside,
            connect_timeout: config.connect_timeout,
        })
    }

    /// A random number, for seeds.
    pub(crate) fn seed(&self) -> u64 {
        u64::from_le_bytes(random_bytes(&*self.outside))
    }

    pub(crate) async fn dial(&self, address: &str, core: u8) -> Result<Link, ConnectError> {
        let (host, port) = split_address(address)?;
        let unresolved = |why: String| ConnectError::Address { address: address.into(), why };
        let resolved: Vec<SocketAddr> = timeout(self.connect_timeout, self.outside.resolve(host, port))
            .await
            .map_err(|_| {
                unresolved(format!("no answer from the resolver within {:?}", self.connect_timeout))
            })?
            .map_err(|error| unresolved(error.to_string()))?;
        let mut first_error = None;
        for remote in resolved {
            match self.dial_resolved(address, host, remote, core).await {
                Ok(link) => return Ok(link),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| unresolved("the name has no address".into())))
    }

    async fn dial_resolved(
        &self,
        address: &str,
        host: &str,
        remote: SocketAddr,
        core: u8,
    ) -> Result<Link, ConnectError> {
        let failed = |why: String| ConnectError::Failed { address: address.into(), why };
        let endpoint = self.endpoint(remote).map_err(|error| failed(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::clone(&self.crypto) as _);
        config.transport_config(Arc::clone(&self.transport));
        let outside = Arc::clone(&self.outside);
        config.initial_dst_cid_provider(Arc::new(move || {
            let mut id: [u8; FIRST_ID_BYTES] = random_bytes(&*outside);
            id[0] = core;
            quinn_proto::ConnectionId::new(&id)
        }));
        let connecting =
            endpoint.connect_with(config, remote, host).map_err(|error| failed(error.to_string()))?;
        let no_answer = ConnectError::NoAnswer { address: address.into(), after: self.connect_timeout };
        let connection = tokio::select! {
            result = timeout(self.connect_timeout, connecting) => match result {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(explain(address, error, no_answer)),
                Err(_) => return Err(no_answer),
            },
            () = until_port_closed(&*self.outside, remote) => {
                return Err(ConnectError::PortClosed { address: address.into(), port: remote.port() });
            }
        };
        tokio::spawn(watch(Arc::clone(&self.outside), connection.clone(), remote));
        Ok(Link { connection, endpoint })
    }

    fn endpoint(&self, remote: SocketAddr) -> io::Result<quinn::Endpoint> {
        let mut config = quinn::EndpointConfig::default();
        config.max_udp_payload_size(net_wire::DATAGRAM_BYTES_MAX).expect("above QUIC's minimum");
        self.outside.endpoint(remote, config)
    }
}

fn random_bytes<const COUNT: usize>(outside: &dyn Outside) -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    outside.fill_random(&mut bytes);
    bytes
}

/// `host:port`, `host`, `[v6]:port`, `[v6]`, or a bare IPv6 address.
pub(crate) fn split_address(address: &str) -> Result<(&str, u16), ConnectError> {
    let bad = |why: &str| ConnectError::Address { address: address.into(), why: why.into() };
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad("'[' without ']'"))?;
        (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
    } else if address.matches(':').count() > 1 {
        (address, Some(""))
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, Some("")),
        }
    };
    let port = match port {
        Some("") => DEFAULT_PORT,
        Some(digits) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("not a port from 1 to 65535"))?
        }
        None => return Err(bad("expected ':port' after ']'")),
    };
    if host.is_empty() { Err(bad("no host")) } else { Ok((host, port)) }
}

/// TLS alerts as QUIC carries them.
const CRYPTO_ERRORS: u64 = 0x100;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
const ALERTS_CERTIFICATE: std::ops::RangeInclusive<u64> = 42..=51;

fn explain(address: &str, error: ConnectionError, no_answer: ConnectError) -> ConnectError {
    let address = address.to_owned();
    let (code, why) = match error {
        ConnectionError::TimedOut => return no_answer,
        ConnectionError::TransportError(error) => (u64::from(error.code), error.reason),
        ConnectionError::ConnectionClosed(close) => {
            (u64::from(close.error_code), String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::ApplicationClosed(close) => {
            let code = net_wire::Code::from_number(close.error_code.into_inner());
            let reason = String::from_utf8_lossy(&close.reason);
            return ConnectError::Refused { address, why: format!("{reason} ({code})") };
        }
        error @ (ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted) => {
            return ConnectError::Failed { address, why: error.to_string() };
        }
    };
    match code.checked_sub(CRYPTO_ERRORS) {
        Some(ALERT_NO_APPLICATION_PROTOCOL) => ConnectError::WrongProtocol { address },
        Some(alert) if ALERTS_CERTIFICATE.contains(&alert) => ConnectError::NotTrusted { address, why },
        Some(_) => ConnectError::Failed { address, why: format!("TLS: {why}") },
        // CONNECTION_REFUSED of QUIC itself.
        None if code == 2 => {
            ConnectError::Refused { address, why: "too many connections, or shutting down".into() }
        }
        None => ConnectError::Failed { address, why: format!("QUIC error {code:#x}: {why}") },
    }
}

/// Ends when the other machine says that nobody listens on the port. Asks only if the handshake is not done soon.
async fn until_port_closed(outside: &dyn Outside, remote: SocketAddr) {
    sleep(PROBE_AFTER).await;
    while !outside.is_port_closed(remote).await {
        sleep(PROBE_AGAIN).await;
    }
}

/// Closes `connection` soon after the broker's port has closed, instead of at the idle timeout: a broker that
/// is restarted is found again in a fraction of a second.
async fn watch(outside: Arc<dyn Outside>, connection: quinn::Connection, remote: SocketAddr) {
    let mut received = 0;
    // Datagrams sent when the other side was last heard of.
    let mut sent_then = None;
    loop {
        tokio::select! {
            _ = connection.closed() => return,
            () = sleep(WATCH_EVERY) => {}
        }
        let stats = connection.stats();
        let sent = stats.udp_tx.datagrams;
        if stats.udp_rx.datagrams != received {
            received = stats.udp_rx.datagrams;
            sent_then = Some(sent);
            continue;
        }
        if sent_then.is_none_or(|then| sent > then) && outside.is_port_closed(remote).await {
            connection.close(VarInt::from_u32(0), b"the broker's port is closed");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expect: Option<(&str, u16)>) {
        assert_eq!(split_address(address).ok(), expect, "{address}");
    }

    #[test]
    fn addresses_with_and_without_port() {
        check("localhost:1234", Some(("localhost", 1234)));
        check("localhost", Some(("localhost", 9092)));
        check("10.0.0.1:9", Some(("10.0.0.1", 9)));
        check("[::1]:5", Some(("::1", 5)));
        check("[::1]", Some(("::1", 9092)));
        check("::1", Some(("::1", 9092)));
        check("host:0", None);
        check("host:99999", None);
        check(":9092", None);
        check("[::1", None);
        check("[::1]9092", None);
    }
}
