//! SKELETON of the server's public face: bodies to come, signatures agreed with `engine/core`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use engine_api::{CoreId, Request, Response};

#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Goes into the first byte of every connection id this server issues.
    pub core: CoreId,
    /// TLS 1.3 with ALPN `millstream/1`.
    pub tls: Arc<rustls::ServerConfig>,
    /// Keys for stateless resets and tokens, the same on every core of a node.
    pub secret: [u8; 32],
    pub idle_timeout: Duration,
    pub connections_max: usize,
    /// Messages above it are refused and their stream is reset.
    pub message_bytes_max: usize,
    /// Receive window of a connection; keep below the socket's receive buffer.
    pub receive_window_bytes: u32,
    /// Bytes buffered for sending on one stream before its reader has to wait.
    pub send_buffer_bytes: usize,
}

/// What clients want from the broker.
#[derive(Debug)]
pub enum Ask {
    /// Answer by [`Server::handle_response`] with `key`.
    Request { key: u64, request: Request },
    /// The answer to `key` is no longer wanted.
    Cancel { key: u64 },
}

/// A datagram (or several of `segment_bytes` each, for GSO) to send; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Transmit {
    pub remote: SocketAddr,
    pub local_ip: Option<IpAddr>,
    pub ecn: Option<quinn_proto::EcnCodepoint>,
    pub bytes: usize,
    pub segment_bytes: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub struct ServerStats {
    pub connections: u64,
    pub connections_opened: u64,
    pub connections_refused: u64,
    pub streams_open: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Streams or connections ended because of what the client sent, by reason.
    pub client_errors: Vec<(&'static str, u64)>,
    pub lost_packets: u64,
    pub migrations: u64,
    /// Asked and not answered.
    pub requests_open: u64,
    pub send_buffered_bytes: u64,
}

/// See the crate.
#[derive(Debug)]
pub struct Server {}

#[allow(unused_variables, clippy::todo)]
impl Server {
    pub fn new(config: ServerConfig) -> Self {
        todo!()
    }
    /// `data` is one datagram, already split from its GRO batch.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<quinn_proto::EcnCodepoint>,
        data: BytesMut,
    ) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// `now` is for the connection's timers. An answer to a cancelled key is dropped.
    pub fn handle_response(&mut self, now: Instant, key: u64, response: Response) {
        todo!()
    }
    /// Paused: requests already begun are read to their end, no new ones are taken from streams, so QUIC's
    /// flow control stops the clients.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        todo!()
    }
    /// Refuses new connections and closes the others with a reason that says "shutting down".
    pub fn close(&mut self, now: Instant) {
        todo!()
    }
    pub fn poll_ask(&mut self) -> Option<Ask> {
        todo!()
    }
    /// Appends to `buffer`, which it clears first. `None`: nothing to send now.
    pub fn poll_transmit(&mut self, now: Instant, segments_max: usize, buffer: &mut Vec<u8>) -> Option<Transmit> {
        todo!()
    }
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        todo!()
    }
    pub fn stats(&self) -> ServerStats {
        todo!()
    }
}
