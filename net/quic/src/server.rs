//! The endpoint of one core: its connections, and which of them have something to do.
//!
//! ```text
//! datagram, answer, timeout -> ready -> drive -> sending -> poll_transmit until dry -> timer re-armed
//! ```
//! Timers are re-armed only when they have to fire earlier than before; one that fires too early finds nothing
//! due and is set again. Packets push the loss timer ahead all the time, so this is the cheap way around.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use engine_api::{Ask, Response};
use net_wire::Code;
use quinn_proto::{ConnectionHandle, DatagramEvent, Endpoint, Incoming};

use crate::config::{
    HANDSHAKES_FREE, HANDSHAKES_MAX, RESPONSES_MAX, ServerConfig, TRANSMIT_BYTES_MAX, endpoint_parts,
};
use crate::peer::Peer;
use crate::slots::Slots;

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

/// What the sessions of all connections share.
pub(crate) struct Desk {
    pub(crate) slots: Slots,
    pub(crate) asks: VecDeque<Ask>,
    pub(crate) paused: bool,
    /// Connections with streams that wait for the end of the pause.
    pub(crate) waiting_for_resume: Vec<usize>,
    /// Connections whose handshake is under way.
    pub(crate) handshakes: usize,
    /// Memory of messages that are not whole yet.
    pub(crate) partial_bytes: usize,
    pub(crate) counters: Counters,
    pub(crate) message_bytes_max: usize,
    pub(crate) send_buffer_bytes: usize,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections_opened: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) migrations: u64,
    connections_refused: u64,
    /// Of connections that are gone.
    lost_packets: u64,
    client_errors: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub(crate) fn client_error(&mut self, name: &'static str) {
        *self.client_errors.entry(name).or_default() += 1;
    }
}

/// See the crate.
pub struct Server {
    endpoint: Endpoint,
    connections_max: usize,
    /// By the endpoint's handle.
    peers: Vec<Option<Box<Peer>>>,
    connections: usize,
    desk: Desk,
    ready: VecDeque<usize>,
    sending: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    /// What the endpoint itself wants sent.
    responses: VecDeque<(quinn_proto::Transmit, Vec<u8>)>,
    is_closing: bool,
    /// The latest time told.
    now: Option<Instant>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Server {
    /// # Panics
    /// When `config.tls` cannot do QUIC or does not offer ALPN `millstream/1`.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        let (endpoint, server) = endpoint_parts(&config);
        Self {
            endpoint: Endpoint::new(Arc::new(endpoint), Some(Arc::new(server)), true, None),
            connections_max: config.connections_max,
            peers: Vec::new(),
            connections: 0,
            desk: Desk {
                slots: Slots::default(),
                asks: VecDeque::new(),
                paused: false,
                waiting_for_resume: Vec::new(),
                handshakes: 0,
                partial_bytes: 0,
                counters: Counters::default(),
                message_bytes_max: config.message_bytes_max,
                send_buffer_bytes: config.send_buffer_bytes,
            },
            ready: VecDeque::new(),
            sending: VecDeque::new(),
            timers: BTreeSet::new(),
            responses: VecDeque::new(),
            is_closing: false,
            now: None,
        }
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
        self.now = Some(now);
        let mut buffer = Vec::new();
        match self.endpoint.handle(now, remote, local_ip, ecn, data, &mut buffer) {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(peer) = &mut self.peers[handle.0] {
                    peer.quic.handle_event(event);
                    self.mark_ready(handle.0);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(transmit, buffer),
            Some(DatagramEvent::NewConnection(incoming)) => self.on_incoming(now, incoming),
        }
    }

    fn on_incoming(&mut self, now: Instant, incoming: Incoming) {
        let mut buffer = Vec::new();
        let handshakes = self.desk.handshakes;
        if self.is_closing || self.connections >= self.connections_max {
            reach::mark!("quic.connection_refused");
            self.desk.counters.connections_refused += 1;
            let transmit = self.endpoint.refuse(incoming, &mut buffer);
            self.respond(transmit, buffer);
        } else if handshakes >= HANDSHAKES_MAX {
            reach::mark!("quic.connection_ignored");
            self.desk.counters.connections_refused += 1;
            self.endpoint.ignore(incoming);
        } else if handshakes >= HANDSHAKES_FREE
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            reach::mark!("quic.retry_asked");
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut buffer) {
                self.respond(transmit, buffer);
            }
        } else {
            self.accept(now, incoming);
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) {
        let mut buffer = Vec::new();
        match self.endpoint.accept(incoming, now, &mut buffer, None) {
            Ok((ConnectionHandle(index), quic)) => {
                if self.peers.len() <= index {
                    self.peers.resize_with(index + 1, || None);
                }
                assert!(
                    self.peers[index].is_none(),
                    "the endpoint gives a handle to one connection at a time"
                );
                self.peers[index] = Some(Box::new(Peer::new(quic, index, now)));
                self.connections += 1;
                self.desk.handshakes += 1;
                self.mark_ready(index);
            }
            Err(error) => {
                reach::mark!("quic.first_packet_not_accepted");
                self.desk.counters.client_error("handshake");
                if let Some(transmit) = error.response {
                    self.respond(transmit, buffer);
                }
            }
        }
    }

    fn respond(&mut self, transmit: quinn_proto::Transmit, bytes: Vec<u8>) {
        reach::mark!("quic.response_dropped", self.responses.len() >= RESPONSES_MAX);
        if self.responses.len() < RESPONSES_MAX {
            self.responses.push_back((transmit, bytes));
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some(&(at, index)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(peer) = &mut self.peers[index] else { continue };
            peer.armed = None;
            if peer.next_timeout().is_some_and(|due| due <= now) {
                peer.handle_timeout(now, &mut self.desk);
                self.mark_ready(index);
            } else {
                self.rearm(index);
            }
        }
    }

    /// `now` is for the connection's timers. An answer to a cancelled key is dropped.
    pub fn handle_response(&mut self, now: Instant, key: u64, response: Response) {
        self.now = Some(now);
        let Some(slot) = self.desk.slots.remove(key) else {
            reach::mark!("quic.answer_to_cancelled");
            return;
        };
        let peer = self.peers[slot.peer].as_mut().expect("connections that go cancel their slots");
        peer.on_response(now, &mut self.desk, slot, response);
        self.mark_ready(slot.peer);
    }

    /// Paused: requests already begun are read to their end, no new ones are taken from streams, so QUIC's
    /// flow control stops the clients; readers get no new pushes.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        self.now = Some(now);
        reach::mark!("quic.paused_with_requests_open", paused && self.desk.slots.open_count() > 0);
        self.desk.paused = paused;
        if !paused {
            for index in std::mem::take(&mut self.desk.waiting_for_resume) {
                reach::mark!("quic.resumed_after_connection_went", self.peers[index].is_none());
                if let Some(peer) = &mut self.peers[index] {
                    peer.waits_for_resume = false;
                    self.mark_ready(index);
                }
            }
        }
    }

    /// Refuses new connections and closes the others with a reason that says "shutting down".
    ///
    /// What has not been handed out by [`poll_transmit`](Self::poll_transmit) before is not sent any more.
    pub fn close(&mut self, now: Instant) {
        self.now = Some(now);
        reach::mark!("quic.closed_with_requests_open", self.desk.slots.open_count() > 0);
        self.is_closing = true;
        for index in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[index]
                && !peer.quic.is_closed()
            {
                peer.close(now, &mut self.desk, Code::ShuttingDown, "broker is shutting down");
                self.mark_ready(index);
            }
        }
    }

    pub fn poll_ask(&mut self) -> Option<Ask> {
        if self.desk.asks.is_empty() {
            self.drive_ready();
        }
        self.desk.asks.pop_front()
    }

    /// Appends to `buffer`, which it clears first. `None`: nothing to send now.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.now = Some(now);
        buffer.clear();
        if let Some((transmit, bytes)) = self.responses.pop_front() {
            buffer.extend_from_slice(&bytes[..transmit.size]);
            return Some(to_transmit(&transmit));
        }
        self.drive_ready();
        while let Some(index) = self.sending.pop_front() {
            let Some(peer) = &mut self.peers[index] else { continue };
            let fitting = TRANSMIT_BYTES_MAX / usize::from(peer.quic.current_mtu());
            if let Some(transmit) = peer.quic.poll_transmit(now, segments_max.min(fitting), buffer) {
                // Behind the others: connections take turns.
                self.sending.push_back(index);
                return Some(to_transmit(&transmit));
            }
            peer.is_sending = false;
            if !self.settle(index) {
                self.rearm(index);
            }
        }
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; for use once
    /// [`poll_transmit`](Self::poll_transmit) has run dry.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let peers = || self.peers.iter().flatten();
        let counters = &self.desk.counters;
        ServerStats {
            connections: self.connections as u64,
            connections_opened: counters.connections_opened,
            connections_refused: counters.connections_refused,
            streams_open: peers().map(|peer| peer.stream_count() as u64).sum(),
            messages_in: counters.messages_in,
            messages_out: counters.messages_out,
            client_errors: counters.client_errors.iter().map(|(name, count)| (*name, *count)).collect(),
            lost_packets: counters.lost_packets
                + peers().map(|peer| peer.quic.stats().path.lost_packets).sum::<u64>(),
            migrations: counters.migrations,
            requests_open: self.desk.slots.open_count() as u64,
            send_buffered_bytes: peers().map(|peer| peer.budget.unsent_bytes as u64).sum(),
        }
    }

    #[cfg(test)]
    pub(crate) fn partial_bytes(&self) -> usize {
        self.desk.partial_bytes
    }

    fn mark_ready(&mut self, index: usize) {
        if let Some(peer) = &mut self.peers[index]
            && !std::mem::replace(&mut peer.is_ready, true)
        {
            self.ready.push_back(index);
        }
    }

    /// Drives the connections something has happened to.
    fn drive_ready(&mut self) {
        let Some(now) = self.now else { return };
        while let Some(index) = self.ready.pop_front() {
            let Some(peer) = &mut self.peers[index] else { continue };
            peer.is_ready = false;
            peer.drive(now, &mut self.desk);
            if !self.settle(index)
                && let Some(peer) = &mut self.peers[index]
                && !std::mem::replace(&mut peer.is_sending, true)
            {
                self.sending.push_back(index);
            }
        }
    }

    /// Exchanges what endpoint and connection have to tell each other. `true`: the connection is gone.
    fn settle(&mut self, index: usize) -> bool {
        let Some(peer) = &mut self.peers[index] else { return true };
        while let Some(event) = peer.quic.poll_endpoint_events() {
            let is_gone = event.is_drained();
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                peer.quic.handle_event(event);
                if !std::mem::replace(&mut peer.is_ready, true) {
                    self.ready.push_back(index);
                }
            }
            if is_gone {
                self.forget(index);
                return true;
            }
        }
        false
    }

    fn forget(&mut self, index: usize) {
        let Some(mut peer) = self.peers[index].take() else { return };
        let now = self.now.expect("something has happened before a connection goes");
        peer.abandon(now, &mut self.desk);
        self.desk.counters.lost_packets += peer.quic.stats().path.lost_packets;
        if let Some(at) = peer.armed {
            self.timers.remove(&(at, index));
        }
        self.connections -= 1;
    }

    fn rearm(&mut self, index: usize) {
        let Some(peer) = &mut self.peers[index] else { return };
        let Some(at) = peer.next_timeout() else { return };
        match peer.armed {
            Some(armed) if armed <= at => return,
            Some(armed) => {
                self.timers.remove(&(armed, index));
            }
            None => {}
        }
        peer.armed = Some(at);
        self.timers.insert((at, index));
    }
}

fn to_transmit(transmit: &quinn_proto::Transmit) -> Transmit {
    Transmit {
        remote: transmit.destination,
        local_ip: transmit.src_ip,
        ecn: transmit.ecn,
        bytes: transmit.size,
        segment_bytes: transmit.segment_size,
    }
}
