//! The connections of one core, and which of them have something to do.
//!
//! ```text
//! open -> reserve, read, received -> poll_ask -> handle_response -> poll_ready -> outgoing, sent
//! ```

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use engine_api::{Ask, Catalog, Response};

use crate::config::ServerConfig;

/// Set in every key of this room, never in QUIC's.
pub const KEY_BIT: u64 = 1 << 31;

/// A connection; never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

#[derive(Debug, Clone, Default)]
pub struct ServerStats {
    pub connections: u64,
    pub connections_opened: u64,
    pub connections_refused: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// By API name.
    pub requests: Vec<(&'static str, u64)>,
    /// Connections ended because of what the client sent, by reason.
    pub client_errors: Vec<(&'static str, u64)>,
    /// Requests read and not answered.
    pub requests_open: u64,
    pub send_buffered_bytes: u64,
}

/// See the crate.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
}

impl Server {
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self { config }
    }

    /// A client has connected to `local`. `None`: there are too many, close it.
    pub fn open(&mut self, now: Instant, remote: SocketAddr, local: SocketAddr) -> Option<ConnId> {
        let _ = (now, remote, local, &self.config);
        None
    }

    /// Where the next bytes go, with room for some: read from the socket into its spare capacity, then call
    /// [`received`](Self::received). `None`: the connection is gone.
    pub fn reserve(&mut self, conn: ConnId) -> Option<&mut BytesMut> {
        let _ = conn;
        None
    }

    /// Bytes were appended to what [`reserve`](Self::reserve) gave.
    pub fn received(&mut self, now: Instant, conn: ConnId) {
        let _ = (now, conn);
    }

    /// The client has closed the connection, or its socket failed: nothing more is sent to it.
    pub fn ended(&mut self, now: Instant, conn: ConnId) {
        let _ = (now, conn);
    }

    /// What clients want next. `catalog` is what this core knows of topics and nodes.
    pub fn poll_ask(&mut self, now: Instant, catalog: &dyn Catalog) -> Option<Ask> {
        let _ = (now, catalog.version());
        None
    }

    /// An answer to a cancelled key is dropped.
    pub fn handle_response(&mut self, now: Instant, key: u64, response: Response) {
        let _ = (now, key, response);
    }

    /// A connection that has something to send, is to be closed, or may be read again; each once until it changes.
    pub fn poll_ready(&mut self, now: Instant, catalog: &dyn Catalog) -> Option<ConnId> {
        let _ = (now, catalog.version());
        None
    }

    /// Fills `slices` with what is to be sent first; returns how many were filled.
    pub fn outgoing<'a>(&'a self, conn: ConnId, slices: &mut [IoSlice<'a>]) -> usize {
        let _ = (conn, slices);
        0
    }

    /// So many bytes of [`outgoing`](Self::outgoing) have left.
    pub fn sent(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let _ = (now, conn, bytes);
    }

    /// Whether the connection is to be read from now: not while too much of it waits for answers or to be sent.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        let _ = conn;
        false
    }

    /// The connection is over once [`outgoing`](Self::outgoing) is empty: close it, then say [`ended`](Self::ended).
    #[must_use]
    pub fn is_closing(&self, conn: ConnId) -> bool {
        let _ = conn;
        true
    }

    /// Paused: requests already read are answered, no new ones are taken.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        let _ = (now, paused);
    }

    /// Refuses new connections; the others end once what they asked is answered and sent.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Something to log since it was last asked: a name and fields. At most a few per second.
    pub fn poll_event(&mut self) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        None
    }

    #[must_use]
    pub fn stats(&self) -> ServerStats {
        ServerStats::default()
    }
}
