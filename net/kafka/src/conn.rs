//! One connection: requests split off what was read, each begun in order, answers sent in the same order.
//!
//! ```text
//! read buffer -> frame -> flight (asks open) -> done -> outgoing, once all flights before it are done
//! ```
//! A flight that waits holds up the answers behind it and nothing else. How many flights, asks and bytes may be held
//! is bounded; beyond that nothing is read, and TCP holds the client back.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use engine_api::{Ask, Catalog, Response};
use kafka_protocol::messages::ApiKey;

use crate::api::{Api, Outcome, Pending};
use crate::apis::api_versions;
use crate::apis::fetch::session::{self, Session};
use crate::codec::{Malformed, Reply, RequestHead, SIZE_BYTES, take_head, take_head_tags};
use crate::config::{
    CONN_ASKS_MAX, FLIGHTS_MAX, GRANT_BYTES_MAX, GRANTED_BYTES_MAX, HELD_BYTES_MAX, READ_BYTES_MAX,
    READ_BYTES_MIN, REQUEST_BYTES_PER_S, REQUEST_TIMEOUT,
};
use crate::context::{Context, Peer};
use crate::desk::Desk;
use crate::slots::Slot;
use crate::walk::walk;

/// Shortest request: a head without a client id.
const REQUEST_BYTES_MIN: usize = 10;

/// A request that was begun.
struct Flight {
    key: ApiKey,
    head: RequestHead,
    /// Of the request, then of its answer.
    bytes: usize,
    /// Every ask made; those that are still open are cancelled with the flight.
    keys: Vec<u64>,
    state: State,
}

impl Flight {
    fn is_wide(&self) -> bool {
        matches!(&self.state, State::Open(pending) if pending.is_wide())
    }
}

enum State {
    Open(Box<dyn Pending>),
    Done(Reply),
    Silent,
}

/// An answer that came in.
struct Answered {
    sequence: u64,
    tag: usize,
    response: Response,
}

/// Why a connection is closed.
struct End {
    reason: &'static str,
    why: String,
}

impl End {
    fn new(reason: &'static str, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> Self {
        Self::new("request_malformed", error.why)
    }
}

/// See the module.
pub(crate) struct Conn {
    place: usize,
    peer: Peer,
    read: BytesMut,
    /// Of it, what was there before the next read.
    read_before: usize,
    /// Room for the next read.
    read_bytes: usize,
    /// Of [`Desk::granted_bytes`].
    granted_bytes: usize,
    has_asked: bool,
    session: Option<Session>,
    flights: VecDeque<Flight>,
    /// The first flight's number.
    sequence: u64,
    inbox: Vec<Answered>,
    asks_open: usize,
    flight_bytes: usize,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    is_closing: bool,
    /// The client has closed it: nobody is told anything, but what has come is carried out.
    is_gone: bool,
    /// No further requests are taken: the broker ends.
    is_draining: bool,
    /// Since when the request that is being read has been waited for.
    half_since: Option<Instant>,
    active_at: Instant,
    /// Its timer.
    pub(crate) armed: Option<Instant>,
    /// In the queue of those that have something to do.
    pub(crate) is_dirty: bool,
    /// In the queue of those the door is to look at.
    pub(crate) is_ready: bool,
}

impl Conn {
    pub(crate) fn new(place: usize, peer: Peer, now: Instant) -> Self {
        Self {
            place,
            peer,
            read: BytesMut::new(),
            read_before: 0,
            read_bytes: READ_BYTES_MIN,
            granted_bytes: 0,
            has_asked: false,
            session: None,
            flights: VecDeque::new(),
            sequence: 0,
            inbox: Vec::new(),
            asks_open: 0,
            flight_bytes: 0,
            out: VecDeque::new(),
            out_bytes: 0,
            is_closing: false,
            is_gone: false,
            is_draining: false,
            half_since: None,
            active_at: now,
            armed: None,
            is_dirty: false,
            is_ready: false,
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Gone, and nothing is left of it that can be carried out.
    pub(crate) fn is_spent(&self) -> bool {
        let has_request = self.missing_bytes() == Some(0) || self.read_has_more();
        self.is_gone && (self.is_closing || self.is_draining || !has_request)
    }

    /// More than one request, or more than its size says.
    fn read_has_more(&self) -> bool {
        self.read.len() >= SIZE_BYTES && self.missing_bytes().is_none()
    }

    pub(crate) fn flights_open(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    pub(crate) fn out(&self) -> impl Iterator<Item = &Bytes> {
        self.out.iter()
    }

    /// Whether another request may be begun.
    pub(crate) fn may_take(&self) -> bool {
        !self.is_closing
            && !self.is_draining
            && self.flights.len() < FLIGHTS_MAX
            && !self.flights.iter().any(Flight::is_wide)
            && self.asks_open < CONN_ASKS_MAX
            && self.flight_bytes + self.out_bytes < HELD_BYTES_MAX
    }

    /// Whether more is to be read: not ahead of what is taken, but for the rest of a request that may be one.
    pub(crate) fn may_read(&self, request_bytes_max: usize) -> bool {
        let is_half = self.missing_bytes().is_some_and(|missing| missing > 0)
            && self.read.len() < SIZE_BYTES + request_bytes_max;
        self.may_take() && (self.read.len() < READ_BYTES_MAX || is_half)
    }

    pub(crate) fn reserve(&mut self, desk: &mut Desk) -> &mut BytesMut {
        let room = self.missing_bytes().map_or(self.read_bytes, |missing| {
            let whole = self.read.len() + missing;
            let exact = whole <= GRANT_BYTES_MAX
                && (self.granted_bytes > 0 || desk.granted_bytes + whole <= GRANTED_BYTES_MAX);
            if missing <= self.read_bytes {
                self.read_bytes
            } else if exact {
                if self.granted_bytes == 0 {
                    self.granted_bytes = whole;
                    desk.granted_bytes += whole;
                }
                missing
            } else {
                missing.min(self.read.len().max(READ_BYTES_MAX))
            }
        });
        self.read.reserve(room);
        &mut self.read
    }

    /// Of the request whose size has been read.
    fn missing_bytes(&self) -> Option<usize> {
        let size = i32::from_be_bytes(*self.read.first_chunk()?);
        (SIZE_BYTES + usize::try_from(size).ok()?).checked_sub(self.read.len())
    }

    /// Returns how many bytes have come.
    pub(crate) fn received(&mut self, now: Instant) -> usize {
        self.active_at = now;
        // Read to the brim: there is probably more.
        if self.read.len() == self.read.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        let bytes = self.read.len() - self.read_before;
        self.read_before = self.read.len();
        bytes
    }

    pub(crate) fn on_response(&mut self, slot: Slot, response: Response) {
        self.asks_open -= 1;
        self.inbox.push(Answered { sequence: slot.sequence, tag: slot.tag, response });
    }

    /// Answers first, then new requests as long as there is room for them.
    pub(crate) fn drive(&mut self, now: Instant, catalog: &dyn Catalog, desk: &mut Desk) {
        for answered in std::mem::take(&mut self.inbox) {
            self.on_answered(now, catalog, desk, answered);
        }
        loop {
            // First: what is answered makes room.
            self.flush();
            if desk.paused || !self.may_take() {
                break;
            }
            match self.take_frame(desk) {
                Ok(None) => break,
                Ok(Some(frame)) => self.begin(now, catalog, desk, frame),
                Err(end) => self.end(now, desk, None, &end),
            }
        }
        if self.is_gone {
            self.out.clear();
            self.out_bytes = 0;
        }
        self.note_half(now, desk);
        if self.is_draining && self.flights.is_empty() {
            self.is_closing = true;
        }
    }

    /// Times out only what the client owes: not while nothing is read for our own reasons.
    fn note_half(&mut self, now: Instant, desk: &Desk) {
        if self.read.is_empty() || desk.paused || !self.may_take() {
            self.half_since = None;
        } else {
            self.half_since.get_or_insert(now);
        }
    }

    fn take_frame(&mut self, desk: &mut Desk) -> Result<Option<Bytes>, End> {
        let Some(first) = self.read.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        if !self.has_asked
            && let Some((reason, why)) = foreign_protocol(*first)
        {
            return Err(End::new(reason, why));
        }
        let size = i32::from_be_bytes(*first);
        let bytes = usize::try_from(size).unwrap_or(0);
        if bytes < REQUEST_BYTES_MIN {
            return Err(End::new("request_size", format!("a request of {size} bytes")));
        }
        if bytes > desk.config.request_bytes_max {
            let why = format!("a request of {size} bytes, limit {}", desk.config.request_bytes_max);
            return Err(End::new("request_too_large", why));
        }
        if self.read.len() < SIZE_BYTES + bytes {
            return Ok(None);
        }
        self.has_asked = true;
        self.half_since = None;
        self.release_grant(desk);
        let mut frame = self.read.split_to(SIZE_BYTES + bytes).freeze();
        self.read_before = self.read.len();
        frame.advance(SIZE_BYTES);
        Ok(Some(frame))
    }

    fn release_grant(&mut self, desk: &mut Desk) {
        desk.granted_bytes -= self.granted_bytes;
        self.granted_bytes = 0;
    }

    fn begin(&mut self, now: Instant, catalog: &dyn Catalog, desk: &mut Desk, mut frame: Bytes) {
        let bytes = frame.len();
        let head = match take_head(&mut frame) {
            Ok(head) => head,
            Err(error) => return self.end(now, desk, None, &error.into()),
        };
        let Some((row, api)) = desk.apis.find(head.key) else {
            let why = format!("API {} is not served", head.key);
            return self.end(now, desk, Some(&head), &End::new("api_unknown", why));
        };
        desk.counters.requests[row] += 1;
        if !api.serves(head.version) {
            return self.refuse_version(now, desk, api, head);
        }
        if let Err(error) = check(api, head.version, &mut frame) {
            return self.end(now, desk, Some(&head), &error.into());
        }
        if self.is_gone && waits_for_others(api.key) {
            return;
        }
        let mut context = Context::new(now, catalog, desk, self.peer, api.key, &head, &mut self.session);
        let outcome = (api.start)(&mut context, frame);
        let asked = std::mem::take(&mut context.asked);
        let outcome = outcome.unwrap_or_else(|error| Outcome::Close("request_malformed", error.why));
        self.flights.push_back(Flight { key: api.key, head, bytes, keys: Vec::new(), state: State::Silent });
        self.flight_bytes += bytes;
        let sequence = self.sequence + self.flights.len() as u64 - 1;
        self.settle(now, desk, sequence, outcome, asked);
    }

    /// ApiVersions of a version we do not know is answered in the oldest way; others end the connection.
    fn refuse_version(&mut self, now: Instant, desk: &mut Desk, api: &Api, head: RequestHead) {
        if api.key == ApiKey::ApiVersions
            && let Some(reply) = api_versions::unsupported(&head)
        {
            let bytes = reply.bytes();
            self.flight_bytes += bytes;
            let state = State::Done(reply);
            return self.flights.push_back(Flight { key: api.key, head, bytes, keys: Vec::new(), state });
        }
        let why = format!(
            "{} version {}, served are {} to {}",
            api.name, head.version, api.version_min, api.version_max
        );
        self.end(now, desk, Some(&head), &End::new("version_unsupported", why));
    }

    fn on_answered(&mut self, now: Instant, catalog: &dyn Catalog, desk: &mut Desk, answered: Answered) {
        // Closed since, or done without this answer.
        let Some(index) = answered.sequence.checked_sub(self.sequence) else { return };
        let Some(flight) = self.flights.get_mut(usize::try_from(index).expect("flights are few")) else {
            return;
        };
        let state = std::mem::replace(&mut flight.state, State::Silent);
        let State::Open(mut pending) = state else {
            flight.state = state;
            return;
        };
        let mut context =
            Context::new(now, catalog, desk, self.peer, flight.key, &flight.head, &mut self.session);
        let outcome = pending.answered(&mut context, answered.tag, answered.response);
        let asked = std::mem::take(&mut context.asked);
        self.settle(now, desk, answered.sequence, outcome.unwrap_or(Outcome::Wait(pending)), asked);
    }

    /// Notes what became of a flight.
    fn settle(
        &mut self,
        now: Instant,
        desk: &mut Desk,
        sequence: u64,
        outcome: Outcome,
        asked: Vec<(usize, engine_api::Request)>,
    ) {
        let index = usize::try_from(sequence - self.sequence).expect("flights are few");
        let flight = &mut self.flights[index];
        match outcome {
            Outcome::Wait(pending) => {
                let bytes = flight.bytes.max(pending.held_bytes());
                self.flight_bytes += bytes - flight.bytes;
                flight.bytes = bytes;
                flight.state = State::Open(pending);
                for (tag, request) in asked {
                    let key = desk.slots.insert(Slot { place: self.place, sequence, tag });
                    flight.keys.push(key);
                    self.asks_open += 1;
                    desk.asks.push_back(Ask::Request { key, request });
                }
            }
            Outcome::Reply(reply) => {
                self.flight_bytes = self.flight_bytes - flight.bytes + reply.bytes();
                flight.bytes = reply.bytes();
                flight.state = State::Done(reply);
                self.cancel(desk, index);
            }
            Outcome::Silence => {
                flight.state = State::Silent;
                self.cancel(desk, index);
            }
            Outcome::Close(reason, why) => {
                let head = flight.head.clone();
                self.end(now, desk, Some(&head), &End::new(reason, why));
            }
        }
    }

    /// Cancels what a flight has still open. What was produced is not taken back: only its answer is dropped.
    fn cancel(&mut self, desk: &mut Desk, index: usize) {
        let flight = &mut self.flights[index];
        for key in std::mem::take(&mut flight.keys) {
            if desk.slots.remove(key).is_some() {
                self.asks_open -= 1;
                if flight.key != ApiKey::Produce {
                    desk.asks.push_back(Ask::Cancel { key });
                }
            }
        }
    }

    fn cancel_all(&mut self, desk: &mut Desk) {
        for index in 0..self.flights.len() {
            self.cancel(desk, index);
        }
        self.flights.clear();
        self.flight_bytes = 0;
        self.inbox.clear();
        session::close(&mut self.session, &mut desk.sessions);
        self.release_grant(desk);
    }

    /// Moves answers whose turn it is to what is sent.
    fn flush(&mut self) {
        while let Some(flight) = self.flights.pop_front() {
            match flight.state {
                State::Open(_) => return self.flights.push_front(flight),
                State::Silent => {}
                State::Done(reply) => {
                    self.out_bytes += reply.bytes();
                    self.out.extend(reply.chunks.into_iter().filter(|chunk| !chunk.is_empty()));
                }
            }
            self.flight_bytes -= flight.bytes;
            self.sequence += 1;
        }
    }

    /// What was dropped while it was on its way to the socket may be named here still.
    pub(crate) fn sent(&mut self, now: Instant, bytes: usize) {
        let mut bytes = bytes.min(self.out_bytes);
        self.active_at = now;
        self.out_bytes -= bytes;
        while let Some(chunk) = self.out.front_mut() {
            if bytes < chunk.len() {
                chunk.advance(bytes);
                return;
            }
            bytes -= chunk.len();
            self.out.pop_front();
        }
    }

    /// The client has broken the protocol: what was answered is still sent.
    fn end(&mut self, now: Instant, desk: &mut Desk, head: Option<&RequestHead>, end: &End) {
        desk.counters.client_error(end.reason);
        let mut fields = vec![
            ("reason", end.reason.to_owned()),
            ("why", end.why.clone()),
            ("remote", self.peer.remote.to_string()),
        ];
        if let Some(head) = head {
            fields.push(("client_id", head.client_id.to_string()));
            fields.push(("api_key", head.key.to_string()));
            fields.push(("api_version", head.version.to_string()));
        }
        desk.events.push(now, "kafka_connection_closed", fields);
        self.flush();
        self.close(desk);
    }

    /// Nothing more is read or asked.
    pub(crate) fn close(&mut self, desk: &mut Desk) {
        self.cancel_all(desk);
        self.read = BytesMut::new();
        self.half_since = None;
        self.is_closing = true;
    }

    /// The client has closed it. Producers without acks close right after their last request, so what has come whole
    /// is still carried out; who waited for something waits no longer.
    pub(crate) fn leave(&mut self, desk: &mut Desk) {
        self.is_gone = true;
        for index in 0..self.flights.len() {
            if self.flights[index].key != ApiKey::Produce {
                self.cancel(desk, index);
                self.flights[index].state = State::Silent;
            }
        }
        self.flush();
        self.out.clear();
        self.out_bytes = 0;
    }

    /// Over without a word, from either side.
    pub(crate) fn drop_all(&mut self, desk: &mut Desk) {
        self.close(desk);
        self.out.clear();
        self.out_bytes = 0;
    }

    /// Ends once what was asked is answered.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
        if self.flights.is_empty() {
            self.is_closing = true;
        }
    }

    /// When [`on_timeout`](Self::on_timeout) has something to do, unless something happens before.
    pub(crate) fn due(&self, desk: &Desk) -> Instant {
        let idle = self.active_at + desk.config.idle_timeout;
        let Some(since) = self.half_since else { return idle };
        let seconds = self.missing_bytes().unwrap_or(0) / REQUEST_BYTES_PER_S;
        let half = since + REQUEST_TIMEOUT + std::time::Duration::from_secs(seconds as u64);
        idle.min(half)
    }

    pub(crate) fn on_timeout(&mut self, now: Instant, desk: &mut Desk) {
        if self.half_since.is_some() && now < self.active_at + desk.config.idle_timeout {
            let why = format!("{} bytes of a request have come and no more", self.read.len());
            return self.end(now, desk, None, &End::new("request_timeout", why));
        }
        if self.flights.is_empty() || self.out_bytes > 0 {
            desk.counters.client_error("idle");
            return self.drop_all(desk);
        }
        // Waits for us, not we for it.
        self.active_at = now;
    }
}

/// Begun for nobody they would make others wait: a group for a member that is not there.
fn waits_for_others(key: ApiKey) -> bool {
    key == ApiKey::Fetch || key == ApiKey::JoinGroup || key == ApiKey::SyncGroup
}

/// Walks over everything behind the head's fixed part.
fn check(api: &Api, version: i16, frame: &mut Bytes) -> Result<(), Malformed> {
    let flexible = api.is_flexible(version);
    if flexible {
        take_head_tags(frame)?;
    }
    walk(api.shape, version, flexible, frame)
        .map_err(|error| Malformed::new(format!("{} version {version}: {error}", api.name)))?;
    Ok(())
}

/// What else is spoken to this port by mistake, by its first bytes; none of them is a size a first request has.
fn foreign_protocol(first: [u8; SIZE_BYTES]) -> Option<(&'static str, &'static str)> {
    match &first {
        [0x16, 0x03, ..] => Some((
            "tls",
            "TLS is spoken to the port for plain connections: set security.protocol to PLAINTEXT",
        )),
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" | b"PATC" | b"CONN" | b"TRAC" | b"HTTP"
        | b"PRI " => Some(("http", "HTTP is spoken to the port of Kafka's protocol")),
        _ => None,
    }
}
