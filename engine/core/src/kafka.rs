//! The door of Kafka's protocol: TCP connections, each with a task that reads, and sending at the end of a turn.
//!
//! ```text
//! accept -> open -> read: wait for bytes, read them, tell the logic, wake the turn task   (a task each)
//! turn -> what the logic has to send leaves in few calls; a full socket is waited for by a task of its own
//! ```
//!
//! What must hold: the logic is told once that a connection has ended; while a full socket is waited for nothing else
//! sends to it; a connection is closed behind its last answer, and what its client still says then is read for a
//! while, since a socket closed with something unread takes back what the other side has not read yet.
//!
//! Idle, a connection has its task, its poll in the ring, and no buffer.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use engine_shard::Level;
use futures_lite::future::or;
use net_kafka::ConnId;
use net_sockets::{TcpGate, TcpPort, TcpRead};

use crate::core::{Core, State};
use crate::signal::Bell;

/// Chunks that leave in one call.
const SLICES: usize = 64;
/// Chunks that bring so many bytes are enough for one call; connections take turns after each.
const SEND_BYTES: usize = 1 << 20;
/// Bytes sent in a turn, some 2 ms of copying.
const TURN_BYTES: usize = 8 << 20;

/// When no connection can be accepted because something is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refused connections are told no more often.
const REFUSALS_PERIOD: Duration = Duration::from_secs(10);

/// What a client still says once it has been told the end is read so long, and so often.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_READS: usize = 256;
const LINGER_BYTES: usize = 16 << 10;

/// How long the end of the core waits for its connections' tasks.
const END_POLL: Duration = Duration::from_millis(1);
const END_POLLS: usize = 200;

/// The connections of a core, in its [`State`].
#[derive(Default)]
pub(crate) struct Connections {
    /// Until their tasks end.
    by_id: BTreeMap<ConnId, Rc<Connection>>,
    /// With something to send that did not leave for reasons of our own.
    sending: VecDeque<ConnId>,
    /// Listeners whose last try to accept failed.
    failing: usize,
    refusal_told: Option<Instant>,
}

impl Connections {
    pub(crate) fn is_failing(&self) -> bool {
        self.failing > 0
    }

    /// At most once in a while, however many knock.
    fn may_tell_refusal(&mut self, now: Instant) -> bool {
        let may = self.refusal_told.is_none_or(|told| now.duration_since(told) >= REFUSALS_PERIOD);
        if may {
            self.refusal_told = Some(now);
        }
        may
    }
}

struct Connection {
    port: TcpPort,
    phase: Cell<Phase>,
    /// It may be read again, or is over.
    news: Bell,
    /// It was not to be read when its task looked last.
    waits_for_news: Cell<bool>,
    /// Its socket is full, a task waits for it.
    is_blocked: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client has been told the end, behind its last answer.
    Finished,
    Lost,
}

/// Takes connections from one listener.
pub(crate) async fn accept(core: Rc<Core>, gate: TcpGate) {
    let mut is_failing = false;
    loop {
        match gate.accept().await {
            Ok(port) => {
                core.note_accept(&mut is_failing, false);
                if let Some((id, connection)) = core.open(port) {
                    // Looks at the state at once, before this returns.
                    core.ring.spawn(read(Rc::clone(&core), id, connection)).detach();
                }
            }
            // Gone before it was looked at.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::NotConnected
                ) => {}
            Err(error) => {
                if core.note_accept(&mut is_failing, true) {
                    core.event(Level::Warn, "tcp_accept_failed", error.to_string());
                }
                core.ring.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Reads one connection until it is over.
async fn read(core: Rc<Core>, id: ConnId, connection: Rc<Connection>) {
    while connection.phase.get() == Phase::Open {
        if !core.state.borrow().logic.kafka().wants_read(id) {
            connection.waits_for_news.set(true);
            connection.news.heard().await;
            connection.waits_for_news.set(false);
            continue;
        }
        let news = async {
            connection.news.heard().await;
            None
        };
        let Some(readable) = or(async { Some(connection.port.readable().await) }, news).await else {
            continue;
        };
        if readable.is_err() || !core.take(id, &connection) {
            core.lose(&mut core.state.borrow_mut(), id, &connection);
        }
    }
    if connection.phase.get() == Phase::Finished {
        or(linger(&connection.port), core.ring.sleep(LINGER)).await;
    }
    core.state.borrow_mut().kafka.by_id.remove(&id);
}

/// Reads and forgets until the other side is done, too.
async fn linger(port: &TcpPort) {
    let mut buffer = BytesMut::with_capacity(LINGER_BYTES);
    for _ in 0..LINGER_READS {
        buffer.clear();
        if port.readable().await.is_err() || matches!(port.read(&mut buffer), Err(_) | Ok(TcpRead::End)) {
            return;
        }
    }
}

/// Waits for a full socket. Begun while the state is borrowed, so it waits before it looks.
async fn unblock(core: Rc<Core>, id: ConnId, connection: Rc<Connection>) {
    let writable = connection.port.writable().await;
    let state = &mut *core.state.borrow_mut();
    connection.is_blocked.set(false);
    if connection.phase.get() != Phase::Open {
        return;
    }
    match writable {
        Ok(()) => state.kafka.sending.push_back(id),
        Err(_) => core.lose(state, id, &connection),
    }
    core.work.ring();
}

/// Ends what is left, so that no task outlives the core.
pub(crate) async fn end(core: &Core) {
    for _ in 0..END_POLLS {
        if core.state.borrow().kafka.by_id.is_empty() {
            return;
        }
        core.ring.sleep(END_POLL).await;
    }
    for connection in core.state.borrow().kafka.by_id.values() {
        connection.phase.set(Phase::Lost);
        connection.port.close();
        connection.news.ring();
    }
    for _ in 0..END_POLLS {
        if core.state.borrow().kafka.by_id.is_empty() {
            return;
        }
        core.ring.sleep(END_POLL).await;
    }
}

impl Core {
    /// Whether that is news.
    fn note_accept(&self, was_failing: &mut bool, is_failing: bool) -> bool {
        if std::mem::replace(was_failing, is_failing) == is_failing {
            return false;
        }
        let failing = &mut self.state.borrow_mut().kafka.failing;
        *failing = if is_failing { *failing + 1 } else { *failing - 1 };
        true
    }

    fn open(&self, port: TcpPort) -> Option<(ConnId, Rc<Connection>)> {
        let state = &mut *self.state.borrow_mut();
        let now = Instant::now();
        let Some(id) = state.logic.kafka_mut().open(now, port.remote(), port.local()) else {
            if state.kafka.may_tell_refusal(now) {
                let connections = state.logic.kafka().stats().connections;
                let why = format!("{} came to {connections} connections", port.remote());
                self.event(Level::Warn, "kafka_connection_refused", why);
            }
            return None;
        };
        let connection = Rc::new(Connection {
            port,
            phase: Cell::new(Phase::Open),
            news: Bell::default(),
            waits_for_news: Cell::new(false),
            is_blocked: Cell::new(false),
        });
        state.kafka.by_id.insert(id, Rc::clone(&connection));
        self.work.ring();
        Some((id, connection))
    }

    /// One read a time: the task waits for the ring before the next, so that connections take turns. Returns whether
    /// the connection goes on.
    fn take(&self, id: ConnId, connection: &Connection) -> bool {
        let state = &mut *self.state.borrow_mut();
        let kafka = state.logic.kafka_mut();
        let Some(buffer) = kafka.reserve(id) else { return true };
        let read = connection.port.read(buffer);
        kafka.received(Instant::now(), id);
        self.work.ring();
        matches!(read, Ok(TcpRead::Bytes(_) | TcpRead::Empty))
    }

    /// Nothing more is sent or read.
    fn lose(&self, state: &mut State, id: ConnId, connection: &Connection) {
        if connection.phase.get() != Phase::Open {
            return;
        }
        connection.phase.set(Phase::Lost);
        connection.port.close();
        connection.news.ring();
        state.logic.kafka_mut().ended(Instant::now(), id);
        // Cancels of what it had asked.
        self.work.ring();
    }

    /// Sends what there is for Kafka's clients. Returns whether there is more to do at once.
    pub(crate) fn send_kafka(self: &Rc<Self>, state: &mut State, now: Instant) -> bool {
        let mut bytes_left = TURN_BYTES;
        while bytes_left > 0 {
            let next = state.kafka.sending.pop_front().or_else(|| state.logic.poll_kafka_ready(now));
            let Some(id) = next else { return state.logic.has_kafka_asks() };
            let Some(connection) = state.kafka.by_id.get(&id).map(Rc::clone) else { continue };
            if connection.phase.get() != Phase::Open {
                continue;
            }
            let sent = self.send_to(state, now, id, &connection);
            bytes_left = bytes_left.saturating_sub(sent);
        }
        true
    }

    /// One call. Returns how many bytes have left.
    fn send_to(
        self: &Rc<Self>,
        state: &mut State,
        now: Instant,
        id: ConnId,
        connection: &Rc<Connection>,
    ) -> usize {
        let mut sent = 0;
        if !connection.is_blocked.get() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = state.logic.kafka().outgoing(id, &mut slices);
            let offered = enough(&slices[..filled], SEND_BYTES);
            if !offered.is_empty() {
                match connection.port.send(offered) {
                    Ok(0) => {
                        connection.is_blocked.set(true);
                        self.ring.spawn(unblock(Rc::clone(self), id, Rc::clone(connection))).detach();
                    }
                    Ok(bytes) => {
                        sent = bytes;
                        state.logic.kafka_mut().sent(now, id, bytes);
                        // The rest, or the socket's word that it is full.
                        if has_outgoing(state, id) {
                            state.kafka.sending.push_back(id);
                        }
                    }
                    Err(_) => self.lose(state, id, connection),
                }
            }
        }
        let kafka = state.logic.kafka();
        if kafka.wants_read(id) {
            if connection.waits_for_news.get() {
                connection.news.ring();
            }
        } else if kafka.is_closing(id) && !has_outgoing(state, id) && connection.phase.get() == Phase::Open {
            connection.phase.set(Phase::Finished);
            connection.port.finish();
            connection.news.ring();
            state.logic.kafka_mut().ended(now, id);
        }
        sent
    }
}

fn has_outgoing(state: &State, id: ConnId) -> bool {
    state.logic.kafka().outgoing(id, &mut [IoSlice::new(&[])]) > 0
}

/// As many of `slices` as bring `bytes` together.
fn enough<'a, 'b>(slices: &'a [IoSlice<'b>], bytes: usize) -> &'a [IoSlice<'b>] {
    let mut left = bytes;
    for (index, slice) in slices.iter().enumerate() {
        if slice.len() >= left {
            return &slices[..=index];
        }
        left -= slice.len();
    }
    slices
}
