//! One connection: QUIC's state, its streams, and what they may use up together.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use engine_api::Response;
use net_wire::Code;
use quinn_proto::{
    Connection, ConnectionError, Dir, Event, StreamEvent, StreamId, TransportErrorCode, VarInt,
};

use crate::budget::{Around, Budget};
use crate::config::HANDSHAKE_TIMEOUT;
use crate::server::Desk;
use crate::slots::Slot;
use crate::stream::{Fate, Stream};

/// Looking for stalled streams costs a look at each, so not more often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// TLS's alert when no protocol is in common.
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

pub(crate) struct Peer {
    pub(crate) quic: Connection,
    /// Its place in the server.
    index: usize,
    /// Ordered, so that what is cancelled together is cancelled in one order.
    streams: BTreeMap<StreamId, Stream>,
    dirty: VecDeque<StreamId>,
    held: VecDeque<StreamId>,
    pub(crate) budget: Budget,
    /// Until the handshake is done.
    handshake_by: Option<Instant>,
    remote: SocketAddr,
    pub(crate) is_ready: bool,
    pub(crate) is_sending: bool,
    pub(crate) waits_for_resume: bool,
    /// In the server's timers.
    pub(crate) armed: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(quic: Connection, index: usize, now: Instant) -> Self {
        Self {
            remote: quic.remote_address(),
            quic,
            index,
            streams: BTreeMap::new(),
            dirty: VecDeque::new(),
            held: VecDeque::new(),
            budget: Budget::default(),
            handshake_by: Some(now + HANDSHAKE_TIMEOUT),
            is_ready: false,
            is_sending: false,
            waits_for_resume: false,
            armed: None,
        }
    }

    fn end_handshake(&mut self, desk: &mut Desk) {
        if self.handshake_by.take().is_some() {
            desk.handshakes -= 1;
        }
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Takes what QUIC has to tell and drives the streams that have something to do.
    pub(crate) fn drive(&mut self, now: Instant, desk: &mut Desk) {
        while let Some(event) = self.quic.poll() {
            self.on_event(now, desk, event);
        }
        if self.quic.remote_address() != self.remote {
            self.remote = self.quic.remote_address();
            reach::mark!("quic.client_migrated");
            desk.counters.migrations += 1;
        }
        while let Some(id) = self.dirty.pop_front() {
            self.drive_stream(now, desk, id);
        }
        // Once around at most: who is held again waits for the next turn.
        for _ in 0..self.held.len() {
            if !self.budget.takes_requests(desk) {
                break;
            }
            let Some(id) = self.held.pop_front() else { break };
            if let Some(stream) = self.streams.get_mut(&id) {
                reach::mark!("quic.held_stream_goes_on");
                stream.is_held = false;
                self.drive_stream(now, desk, id);
            }
        }
        if desk.paused && !self.held.is_empty() && !self.waits_for_resume {
            self.waits_for_resume = true;
            reach::mark!("quic.waits_for_resume");
            desk.waiting_for_resume.push(self.index);
        }
    }

    fn on_event(&mut self, now: Instant, desk: &mut Desk, event: Event) {
        match event {
            Event::Connected => {
                self.end_handshake(desk);
                desk.counters.connections_opened += 1;
            }
            Event::ConnectionLost { reason } => {
                reach::mark!("quic.lost_with_requests_open", self.budget.requests > 0);
                reach::mark!("quic.lost_in_handshake", self.handshake_by.is_some());
                reach::mark!("quic.lost_by_timeout", reason == ConnectionError::TimedOut);
                reach::mark!("quic.lost_by_reset", reason == ConnectionError::Reset);
                reach::mark!("quic.lost_with_partial_message", self.budget.partial_bytes > 0);
                if let Some(name) = error_name(&reason) {
                    desk.counters.client_error(name);
                }
                self.abandon(now, desk);
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                while let Some(id) = self.quic.streams().accept(Dir::Bi) {
                    self.streams.insert(id, Stream::new(desk.message_bytes_max));
                    self.mark(id);
                }
            }
            Event::Stream(StreamEvent::Readable { id } | StreamEvent::Writable { id }) => self.mark(id),
            Event::Stream(StreamEvent::Stopped { id, .. }) => {
                let (streams, quic, mut around) = self.around(now, desk, id);
                if let Some(stream) = streams.get_mut(&id) {
                    reach::mark!("quic.stream_stopped_by_client");
                    stream.leave(quic, &mut around, Code::Done);
                    self.mark(id);
                }
            }
            // None of ours: no unidirectional streams, none opened by us, no datagrams.
            Event::Stream(
                StreamEvent::Opened { dir: Dir::Uni }
                | StreamEvent::Finished { .. }
                | StreamEvent::Available { .. },
            )
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn mark(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.is_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    fn drive_stream(&mut self, now: Instant, desk: &mut Desk, id: StreamId) {
        let (streams, quic, mut around) = self.around(now, desk, id);
        let Some(stream) = streams.get_mut(&id) else { return };
        stream.is_dirty = false;
        match stream.drive(quic, &mut around) {
            Fate::Waits => {}
            Fate::Held => {
                if !std::mem::replace(&mut stream.is_held, true) {
                    self.held.push_back(id);
                }
            }
            Fate::Over => {
                streams.remove(&id);
            }
        }
    }

    pub(crate) fn on_response(&mut self, now: Instant, desk: &mut Desk, slot: Slot, response: Response) {
        let (streams, quic, mut around) = self.around(now, desk, slot.stream);
        let stream = streams.get_mut(&slot.stream).expect("streams that go cancel their slots");
        stream.on_response(quic, &mut around, slot.sequence, response);
        self.mark(slot.stream);
    }

    /// The earliest of what this connection waits for.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        [self.quic.poll_timeout(), self.handshake_by, self.budget.sweep_at].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, desk: &mut Desk) {
        if self.quic.poll_timeout().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        if self.handshake_by.is_some_and(|by| by <= now) {
            reach::mark!("quic.handshake_too_slow");
            desk.counters.client_error("handshake_too_slow");
            self.close(now, desk, Code::TooSlow, "handshake not done in time");
        }
        if self.budget.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now, desk);
        }
    }

    /// Gives up the streams whose deadline is over.
    fn sweep(&mut self, now: Instant, desk: &mut Desk) {
        self.budget.sweep_at = None;
        let due: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, s)| s.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let (streams, quic, mut around) = self.around(now, desk, id);
            if let Some(stream) = streams.get_mut(&id) {
                stream.on_stalled(quic, &mut around);
            }
            self.mark(id);
        }
        let next = self.streams.values().filter_map(Stream::deadline).min();
        self.budget.sweep_at = next.map(|at| at.max(now + SWEEP_INTERVAL));
    }

    pub(crate) fn close(&mut self, now: Instant, desk: &mut Desk, code: Code, reason: &'static str) {
        self.abandon(now, desk);
        let code = VarInt::from_u32(code.number().into());
        self.quic.close(now, code, bytes::Bytes::from_static(reason.as_bytes()));
    }

    /// Everything asked for this connection is cancelled; QUIC itself may still have packets to send.
    pub(crate) fn abandon(&mut self, now: Instant, desk: &mut Desk) {
        self.end_handshake(desk);
        for (id, mut stream) in std::mem::take(&mut self.streams) {
            let (_, _, mut around) = self.around(now, desk, id);
            stream.abandon(&mut around);
        }
        self.dirty.clear();
        self.held.clear();
        assert_eq!(
            (
                self.budget.requests,
                self.budget.request_bytes,
                self.budget.unsent_bytes,
                self.budget.partial_bytes
            ),
            (0, 0, 0, 0),
            "a connection without streams uses nothing up"
        );
        self.budget.sweep_at = None;
    }

    fn around<'a>(
        &'a mut self,
        now: Instant,
        desk: &'a mut Desk,
        id: StreamId,
    ) -> (&'a mut BTreeMap<StreamId, Stream>, &'a mut Connection, Around<'a>) {
        let around = Around { id, peer: self.index, now, budget: &mut self.budget, desk };
        (&mut self.streams, &mut self.quic, around)
    }
}

/// `None`: not the client's fault.
fn error_name(reason: &ConnectionError) -> Option<&'static str> {
    match reason {
        ConnectionError::TransportError(error) => {
            Some(if error.code == TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL) {
                "no_application_protocol"
            } else {
                "transport"
            })
        }
        ConnectionError::VersionMismatch => Some("quic_version"),
        ConnectionError::ConnectionClosed(_) => Some("closed_by_client_transport"),
        ConnectionError::TimedOut => Some("timed_out"),
        ConnectionError::Reset => Some("reset"),
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => None,
    }
}
