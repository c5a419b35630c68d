//! The connections of one core, and which of them have something to do.
//!
//! ```text
//! open -> reserve, read, received -> poll_ask -> handle_response -> poll_ready -> outgoing, sent
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use engine_api::{Ask, Catalog, Response};

use crate::config::ServerConfig;
use crate::conn::Conn;
use crate::context::Peer;
use crate::desk::Desk;

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
///
/// Handlers look things up, so they run where the catalog is at hand: `poll_ask` and `poll_ready` drive every
/// connection that something has happened to. As long as the catalog is not loaded nothing is begun.
pub struct Server {
    places: Vec<Place>,
    free: Vec<usize>,
    connections: usize,
    desk: Desk,
    /// Places with something to do.
    dirty: VecDeque<usize>,
    /// Places the door is to look at.
    ready: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    is_closing: bool,
}

struct Place {
    /// Times it was used before.
    generation: u32,
    conn: Option<Box<Conn>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Server {
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            connections: 0,
            desk: Desk::new(config),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            is_closing: false,
        }
    }

    /// A client has connected to `local`. `None`: there are too many, close it.
    pub fn open(&mut self, now: Instant, remote: SocketAddr, local: SocketAddr) -> Option<ConnId> {
        if self.is_closing || self.connections >= self.desk.config.connections_max {
            self.desk.counters.connections_refused += 1;
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, conn: None });
            self.places.len() - 1
        });
        let entry = &mut self.places[place];
        assert!(entry.conn.is_none(), "a free place holds nobody");
        entry.conn = Some(Box::new(Conn::new(place, Peer { remote, local }, now)));
        self.connections += 1;
        self.desk.counters.connections_opened += 1;
        let id = id_of(place, entry.generation);
        self.rearm(place);
        Some(id)
    }

    /// Where the next bytes go, with room for some: read from the socket into its spare capacity, then call
    /// [`received`](Self::received). `None`: the connection is gone.
    pub fn reserve(&mut self, conn: ConnId) -> Option<&mut BytesMut> {
        let place = self.find(conn)?;
        let conn = self.places[place].conn.as_mut().filter(|conn| !conn.is_closing())?;
        Some(conn.reserve(&mut self.desk))
    }

    /// Bytes were appended to what [`reserve`](Self::reserve) gave.
    pub fn received(&mut self, now: Instant, conn: ConnId) {
        let Some(place) = self.find(conn) else { return };
        let Some(conn) = self.places[place].conn.as_mut() else { return };
        self.desk.counters.bytes_in += conn.received(now) as u64;
        self.mark_dirty(place);
    }

    /// The client has closed the connection, or its socket failed: nothing more is sent to it. Requests that have
    /// come whole are carried out.
    pub fn ended(&mut self, now: Instant, conn: ConnId) {
        let _ = now;
        let Some(place) = self.find(conn) else { return };
        let Some(conn) = &mut self.places[place].conn else { return };
        conn.leave(&mut self.desk);
        if let Some(at) = conn.armed.take() {
            self.timers.remove(&(at, place));
        }
        self.connections -= 1;
        if conn.is_spent() {
            self.bury(place);
        } else {
            self.mark_dirty(place);
        }
    }

    /// Its place may be given away.
    fn bury(&mut self, place: usize) {
        let entry = &mut self.places[place];
        let Some(mut conn) = entry.conn.take() else { return };
        conn.drop_all(&mut self.desk);
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(place);
        // Its successor starts afresh; the queues are few and short.
        self.dirty.retain(|other| *other != place);
        self.ready.retain(|other| *other != place);
    }

    /// What clients want next. `catalog` is what this core knows of topics and nodes.
    pub fn poll_ask(&mut self, now: Instant, catalog: &dyn Catalog) -> Option<Ask> {
        if self.desk.asks.is_empty() {
            self.drive(now, catalog);
        }
        self.desk.asks.pop_front()
    }

    /// Sending has made room for requests that had been read: [`poll_ask`](Self::poll_ask) has them.
    #[must_use]
    pub fn has_asks(&self) -> bool {
        !self.desk.asks.is_empty()
    }

    /// An answer to a cancelled key is dropped.
    pub fn handle_response(&mut self, now: Instant, key: u64, response: Response) {
        let _ = now;
        let Some(slot) = self.desk.slots.remove(key) else {
            return;
        };
        let conn = self.places[slot.place].conn.as_mut().expect("connections that go cancel their asks");
        let bytes_max = self.desk.config.request_bytes_max;
        let could_read = conn.may_read(bytes_max);
        conn.on_response(slot, response);
        // Requests without answers have nothing to send by which the door would look at it again.
        let may_read_now = !could_read && conn.may_read(bytes_max);
        self.mark_dirty(slot.place);
        if may_read_now {
            self.mark_ready(slot.place);
        }
    }

    /// A connection that has something to send, is to be closed, or may be read again; each once until it changes.
    pub fn poll_ready(&mut self, now: Instant, catalog: &dyn Catalog) -> Option<ConnId> {
        self.drive(now, catalog);
        let place = self.ready.pop_front()?;
        let entry = &mut self.places[place];
        let conn = entry.conn.as_mut().expect("who goes leaves the queue");
        conn.is_ready = false;
        Some(id_of(place, entry.generation))
    }

    /// Fills `slices` with what is to be sent first; returns how many were filled.
    pub fn outgoing<'a>(&'a self, conn: ConnId, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(conn) = self.find(conn).and_then(|place| self.places[place].conn.as_ref()) else { return 0 };
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(conn.out()) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// So many bytes of [`outgoing`](Self::outgoing) have left.
    pub fn sent(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(place) = self.find(conn) else { return };
        let Some(conn) = self.places[place].conn.as_mut() else { return };
        self.desk.counters.bytes_out += bytes as u64;
        let could_take = conn.may_take();
        conn.sent(now, bytes);
        if conn.may_take() && !could_take {
            // Requests may have been left in its buffer.
            self.mark_dirty(place);
            self.mark_ready(place);
        }
    }

    /// Whether the connection is to be read from now: not while too much of it waits for answers or to be sent.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        let conn = self.find(conn).and_then(|place| self.places[place].conn.as_ref());
        !self.desk.paused && conn.is_some_and(|conn| conn.may_read(self.desk.config.request_bytes_max))
    }

    /// The connection is over once [`outgoing`](Self::outgoing) is empty: close it, then say [`ended`](Self::ended).
    #[must_use]
    pub fn is_closing(&self, conn: ConnId) -> bool {
        let conn = self.find(conn).and_then(|place| self.places[place].conn.as_ref());
        conn.is_none_or(|conn| conn.is_closing())
    }

    /// Paused: requests already read are answered, no new ones are taken.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        let _ = now;
        let was_paused = std::mem::replace(&mut self.desk.paused, paused);
        if was_paused && !paused {
            for place in 0..self.places.len() {
                if self.places[place].conn.is_some() {
                    self.mark_dirty(place);
                    self.mark_ready(place);
                }
            }
        }
    }

    /// Refuses new connections; the others end once what they asked is answered and sent.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
        self.is_closing = true;
        for place in 0..self.places.len() {
            if let Some(conn) = &mut self.places[place].conn {
                conn.drain();
                if conn.is_spent() {
                    self.bury(place);
                } else {
                    self.mark_ready(place);
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, place)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(conn) = &mut self.places[place].conn else { continue };
            conn.armed = None;
            if conn.due(&self.desk) <= now {
                if conn.is_closing() {
                    // Its client does not take the last answers.
                    conn.drop_all(&mut self.desk);
                } else {
                    conn.on_timeout(now, &mut self.desk);
                }
                self.mark_ready(place);
            }
            self.rearm(place);
        }
    }

    /// Something to log since it was last asked: a name and fields. At most a few per second.
    pub fn poll_event(&mut self) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        self.desk.events.poll()
    }

    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let counters = &self.desk.counters;
        let conns = || self.places.iter().filter_map(|place| place.conn.as_ref());
        ServerStats {
            connections: self.connections as u64,
            connections_opened: counters.connections_opened,
            connections_refused: counters.connections_refused,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            requests: self
                .desk
                .apis
                .rows()
                .iter()
                .map(|api| api.name)
                .zip(counters.requests.clone())
                .collect(),
            client_errors: counters.client_errors.iter().map(|(name, count)| (*name, *count)).collect(),
            requests_open: conns().map(|conn| conn.flights_open() as u64).sum(),
            send_buffered_bytes: conns().map(|conn| conn.out_bytes() as u64).sum(),
        }
    }

    fn find(&self, conn: ConnId) -> Option<usize> {
        let place = usize::try_from(conn.0 & u64::from(u32::MAX)).ok()?;
        let entry = self.places.get(place)?;
        let is_there = entry.conn.as_ref().is_some_and(|conn| !conn.is_gone());
        (u64::from(entry.generation) == conn.0 >> 32 && is_there).then_some(place)
    }

    fn drive(&mut self, now: Instant, catalog: &dyn Catalog) {
        if !catalog.is_loaded() {
            return;
        }
        while let Some(place) = self.dirty.pop_front() {
            let Some(conn) = &mut self.places[place].conn else { continue };
            conn.is_dirty = false;
            let bytes_max = self.desk.config.request_bytes_max;
            let could_read = conn.may_read(bytes_max);
            let sent_before = conn.out_bytes();
            conn.drive(now, catalog, &mut self.desk);
            let has_news = conn.out_bytes() > sent_before
                || conn.is_closing()
                || conn.may_read(bytes_max) && !could_read;
            if conn.is_spent() {
                self.bury(place);
                continue;
            }
            if has_news {
                self.mark_ready(place);
            }
            self.rearm(place);
        }
    }

    fn mark_dirty(&mut self, place: usize) {
        if let Some(conn) = &mut self.places[place].conn
            && !std::mem::replace(&mut conn.is_dirty, true)
        {
            self.dirty.push_back(place);
        }
    }

    fn mark_ready(&mut self, place: usize) {
        if let Some(conn) = &mut self.places[place].conn
            && !conn.is_gone()
            && !std::mem::replace(&mut conn.is_ready, true)
        {
            self.ready.push_back(place);
        }
    }

    /// Sets the timer when it has to fire earlier than before; one that fires too early is set again.
    fn rearm(&mut self, place: usize) {
        let Some(conn) = &mut self.places[place].conn else { return };
        if conn.is_gone() || conn.is_closing() && conn.out_bytes() == 0 {
            return;
        }
        let due = conn.due(&self.desk);
        if conn.armed.is_none_or(|armed| due < armed) {
            if let Some(armed) = conn.armed.replace(due) {
                self.timers.remove(&(armed, place));
            }
            self.timers.insert((due, place));
        }
    }
}

fn id_of(place: usize, generation: u32) -> ConnId {
    ConnId(u64::from(generation) << 32 | place as u64)
}
