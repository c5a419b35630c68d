//! A core without its door: its shard, its clients' servers, one for each protocol, and the order in which they are
//! told things.
//!
//! A driver notes what has happened, moves what other cores sent into the inbox, and takes a turn:
//!
//! ```text
//! handle_datagram, kafka_mut, note, inbox -> turn -> Wants
//!                                         -> outbox(..) to each link -> settle
//!                                         -> poll_transmit, poll_kafka_ready until dry or blocked
//!                                         -> next_timeout
//! ```
//!
//! What must hold: a request of a client of this core has one owner and is answered through this core; the inbox is
//! drained in every turn, whatever waits to leave; while something waits for a full link, or the shard is short of
//! memory, no new requests are taken from clients.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ahash::AHashMap;
use bytes::BytesMut;
use engine_api::{Ask, CoreId, ReplySlot, Response};
use engine_shard::{Effect, Event, Input, Level, SHARD_KEY_BIT, Shard};
use net_kafka::ConnId;
use net_kafka::server::KEY_BIT;
use net_quic::{Server, Transmit};
use quinn_proto::EcnCodepoint;
use storage_frame::Now;

use crate::message::{Message, Want};
use crate::outboxes::Outboxes;
use crate::phase::{DRAIN, Phase};

/// Rounds within a turn: an answer may let a push reader ask again at once. Beyond it the driver gets to look at
/// what has arrived first.
const ROUNDS_PER_TURN: usize = 8;

const CONTROLLER: CoreId = CoreId(0);

/// See the module.
pub struct CoreLogic {
    me: CoreId,
    shard: Shard,
    server: Server,
    kafka: net_kafka::Server,
    outboxes: Outboxes,
    /// Requests of this core's clients that another core answers, by key.
    forwarded: AHashMap<u64, CoreId>,
    notes: VecDeque<Input>,
    inbox: VecDeque<Message>,
    /// Empty between turns: its memory is used again.
    effects: Vec<Effect>,
    /// Clients' requests were not looked at because of the backlog.
    asks_wait: bool,
    is_paused: bool,
    phase: Phase,
    stats: TurnStats,
}

/// Counted up since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnStats {
    pub turns: u64,
    pub inputs: u64,
    pub effects: u64,
    /// Requests of this core's own clients that this core owned.
    pub requests_owned: u64,
    /// Requests of this core's own clients that went to another core.
    pub requests_forwarded: u64,
    /// Times the clients were paused because the shard was over its budget or a link was full.
    pub pauses: u64,
}

impl CoreLogic {
    /// `mesh_ends` counts those who send each other messages: all cores of the shard's node, and a driver's own
    /// ends behind them, which are answered like cores and told no news.
    ///
    /// # Panics
    /// When there are fewer ends than cores.
    #[must_use]
    pub fn new(me: CoreId, mesh_ends: usize, shard: Shard, server: Server, kafka: net_kafka::Server) -> Self {
        assert!(mesh_ends >= usize::from(shard.cores()), "every core has its end of the mesh");
        Self {
            me,
            shard,
            server,
            kafka,
            outboxes: Outboxes::new(me, mesh_ends),
            forwarded: AHashMap::new(),
            notes: VecDeque::new(),
            inbox: VecDeque::new(),
            effects: Vec::new(),
            asks_wait: false,
            is_paused: false,
            phase: Phase::Running,
            stats: TurnStats::default(),
        }
    }

    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    #[must_use]
    pub fn kafka(&self) -> &net_kafka::Server {
        &self.kafka
    }

    /// For telling it of connections and of bytes that came or left. The requests in them are taken in the next
    /// turn.
    pub fn kafka_mut(&mut self) -> &mut net_kafka::Server {
        &mut self.kafka
    }

    /// The next connection of Kafka's protocol that has something to send, is to be closed, or may be read again.
    pub fn poll_kafka_ready(&mut self, at: Instant) -> Option<ConnId> {
        self.kafka.poll_ready(at, self.shard.catalog())
    }

    /// Sending has brought requests to light that a turn can take.
    #[must_use]
    pub fn has_kafka_asks(&self) -> bool {
        self.kafka.has_asks() && !self.outboxes.is_backlogged()
    }

    #[must_use]
    pub fn stats(&self) -> TurnStats {
        self.stats
    }

    /// Messages that found their link full.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outboxes.backlog()
    }

    #[cfg(test)]
    pub(crate) fn forwarded_count(&self) -> usize {
        self.forwarded.len()
    }

    /// `data` is one datagram, already split from its GRO batch. Its requests are taken in the next turn.
    pub fn handle_datagram(
        &mut self,
        at: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
    ) {
        self.server.handle_datagram(at, remote, local_ip, ecn, data);
    }

    /// For the next turn: what the disk answers, ticks, free space.
    pub fn note(&mut self, input: Input) {
        self.notes.push_back(input);
    }

    /// Begins to stop; asking again does nothing.
    pub fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.note(Input::Stop);
        }
    }

    /// Every core's shard has told [`Want::Stopped`]: the last answers leave, then the connections are closed.
    /// Asking again, or before, does nothing.
    pub fn all_stopped(&mut self, at: Instant) {
        if self.phase == Phase::Stopped {
            self.phase = Phase::Draining { until: at + DRAIN };
            // Its goodbye is the end of a stream, behind the last answer: there is nothing to wait for.
            self.kafka.close(at);
        }
    }

    /// There is nothing left to do, ever.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// What other cores sent goes here before a turn.
    pub fn inbox(&mut self) -> &mut VecDeque<Message> {
        &mut self.inbox
    }

    /// Everything that has gathered goes through the shard. Appends to `wants`; returns whether there is more to do
    /// at once.
    #[must_use]
    pub fn turn(&mut self, now: Now, at: Instant, wants: &mut Vec<Want>) -> bool {
        self.stats.turns += 1;
        self.expire(at);
        let mut more = true;
        for _ in 0..ROUNDS_PER_TURN {
            more = self.round(now, at, wants);
            if !more {
                break;
            }
        }
        reach::mark!("turn.more_than_a_turn", more);
        while let Some((name, fields)) = self.kafka.poll_event() {
            wants.push(Want::Event(Event { level: Level::Warn, name, fields }));
        }
        more
    }

    fn expire(&mut self, at: Instant) {
        if self.server.next_timeout().is_some_and(|due| due <= at) {
            self.server.handle_timeout(at);
        }
        if self.kafka.next_timeout().is_some_and(|due| due <= at) {
            self.kafka.handle_timeout(at);
        }
        if self.phase.until().is_some_and(|until| until <= at) {
            reach::mark!("turn.end_by_deadline");
            self.advance_end(at);
        }
    }

    /// One pass of inputs and effects; returns whether there was anything.
    fn round(&mut self, now: Now, at: Instant, wants: &mut Vec<Want>) -> bool {
        let before = self.stats.inputs;
        while let Some(note) = self.notes.pop_front() {
            self.handle(now, note);
        }
        while let Some(message) = self.inbox.pop_front() {
            self.receive(now, at, message);
        }
        reach::mark!("turn.requests_backlogged", self.outboxes.is_backlogged());
        self.asks_wait = self.take_asks(now, at);
        let mut effects = std::mem::take(&mut self.effects);
        self.shard.end_turn(now, &mut effects);
        self.stats.effects += effects.len() as u64;
        let worked = self.stats.inputs != before || !effects.is_empty();
        for effect in effects.drain(..) {
            self.perform(at, effect, wants);
        }
        self.effects = effects;
        worked
    }

    /// What clients ask, of each protocol in turn. `true`: the backlog kept some from being looked at.
    fn take_asks(&mut self, now: Now, at: Instant) -> bool {
        loop {
            if self.outboxes.is_backlogged() {
                return true;
            }
            let native = self.server.poll_ask();
            let kafka = self.kafka.poll_ask(at, self.shard.catalog());
            if native.is_none() && kafka.is_none() {
                return false;
            }
            for ask in [native, kafka].into_iter().flatten() {
                self.route(now, ask);
            }
        }
    }

    fn answer(&mut self, at: Instant, key: u64, response: Response) {
        if key & KEY_BIT == 0 {
            self.server.handle_response(at, key, response);
        } else {
            self.kafka.handle_response(at, key, response);
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        self.stats.inputs += 1;
        self.shard.handle(now, input);
    }

    fn receive(&mut self, now: Now, at: Instant, message: Message) {
        match message {
            Message::Request { slot, request } => self.handle(now, Input::Request { slot, request }),
            Message::Cancel(slot) => self.handle(now, Input::Cancel(slot)),
            Message::Meta(update) => self.handle(now, Input::Meta(update)),
            Message::MetaApplied { core, version } => self.handle(now, Input::MetaApplied { core, version }),
            Message::Reply { key, response } if key & SHARD_KEY_BIT != 0 => {
                self.handle(now, Input::Answer { key, response });
            }
            Message::Reply { key, response } => {
                self.stats.inputs += 1;
                // Cancelled while the answer was on its way: nobody waits.
                reach::mark!("turn.reply_after_cancel", !self.forwarded.contains_key(&key));
                if self.forwarded.remove(&key).is_some() {
                    self.answer(at, key, response);
                }
            }
        }
    }

    /// To the owner: this core's shard, or another core's.
    fn route(&mut self, now: Now, ask: Ask) {
        match ask {
            Ask::Request { key, request } => {
                let slot = ReplySlot { core: self.me, key };
                let owner = self.shard.route(&request);
                if owner == self.me {
                    self.stats.requests_owned += 1;
                    self.handle(now, Input::Request { slot, request });
                    return;
                }
                self.stats.requests_forwarded += 1;
                self.stats.inputs += 1;
                self.forwarded.insert(key, owner);
                self.outboxes.send(owner, Message::Request { slot, request });
            }
            Ask::Cancel { key } => {
                let slot = ReplySlot { core: self.me, key };
                match self.forwarded.remove(&key) {
                    None => self.handle(now, Input::Cancel(slot)),
                    Some(owner) => {
                        self.stats.inputs += 1;
                        reach::mark!("turn.cancel_forwarded");
                        self.outboxes.send(owner, Message::Cancel(slot));
                    }
                }
            }
        }
    }

    fn perform(&mut self, at: Instant, effect: Effect, wants: &mut Vec<Want>) {
        match effect {
            Effect::Reply(slot, response) if slot.core == self.me && slot.key & SHARD_KEY_BIT != 0 => {
                self.note(Input::Answer { key: slot.key, response });
            }
            Effect::Ask { key, request } => {
                let slot = ReplySlot { core: self.me, key };
                let owner = self.shard.route(&request);
                if owner == self.me {
                    self.note(Input::Request { slot, request });
                } else {
                    self.outboxes.send(owner, Message::Request { slot, request });
                }
            }
            Effect::Reply(slot, response) if slot.core == self.me => {
                self.answer(at, slot.key, response);
            }
            Effect::Reply(slot, response) => {
                self.outboxes.send(slot.core, Message::Reply { key: slot.key, response });
            }
            Effect::Disk { log, op, what } => wants.push(Want::Disk { log, op, what }),
            Effect::Publish(update) => {
                let cores = usize::from(self.shard.cores());
                self.outboxes.send_to_other_cores(cores, || Message::Meta(update.clone()));
            }
            Effect::MetaApplied { version } if self.me == CONTROLLER => {
                self.note(Input::MetaApplied { core: self.me, version });
            }
            Effect::MetaApplied { version } => {
                self.outboxes.send(CONTROLLER, Message::MetaApplied { core: self.me, version });
            }
            Effect::Ready => wants.push(Want::Ready),
            Effect::Stopped => {
                self.phase = Phase::Stopped;
                wants.push(Want::Stopped);
            }
            Effect::Event(event) => wants.push(Want::Event(event)),
        }
    }

    /// What leaves for `to`, for its link after a turn.
    ///
    /// # Panics
    /// When `to` is this core, or no end of the mesh.
    pub fn outbox(&mut self, to: CoreId) -> &mut VecDeque<Message> {
        self.outboxes.outbox(to)
    }

    /// The outboxes have been offered to their links: pauses the clients or lets them go on. Returns whether there
    /// is more to do at once, since requests may have waited for it.
    #[must_use]
    pub fn settle(&mut self, at: Instant) -> bool {
        let asks_can_go = self.asks_wait && !self.outboxes.is_backlogged();
        let pause = self.shard.is_overloaded() || !self.outboxes.is_flushed();
        if pause == self.is_paused {
            return asks_can_go;
        }
        self.is_paused = pause;
        self.stats.pauses += u64::from(pause);
        reach::mark!("turn.paused_by_memory", pause && self.shard.is_overloaded());
        reach::mark!("turn.paused_by_link", pause && !self.outboxes.is_flushed());
        reach::mark!("turn.clients_resumed", !pause);
        self.server.set_paused(at, pause);
        self.kafka.set_paused(at, pause);
        self.note(Input::Paused(pause));
        asks_can_go || !pause
    }

    /// The next datagram (or several, for GSO), its bytes in `buffer`, which is cleared first. `None`: nothing to
    /// send now.
    pub fn poll_transmit(
        &mut self,
        at: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        loop {
            let transmit = self.server.poll_transmit(at, segments_max, buffer);
            if transmit.is_some() || !self.is_drained() {
                return transmit;
            }
            self.advance_end(at);
        }
    }

    /// What this phase of the end waits for is done, given that everything that could be sent has been.
    fn is_drained(&self) -> bool {
        match self.phase {
            Phase::Draining { .. } => {
                // Answers of other cores may be on their way, though their logs are closed.
                self.outboxes.is_flushed()
                    && self.forwarded.is_empty()
                    && self.server.stats().send_buffered_bytes == 0
                    && self.kafka.stats().connections == 0
            }
            Phase::Closing { .. } => true,
            Phase::Running | Phase::Stopping | Phase::Stopped | Phase::Ended => false,
        }
    }

    fn advance_end(&mut self, at: Instant) {
        match self.phase {
            Phase::Draining { .. } => {
                reach::mark!("turn.drain_given_up", !self.is_drained());
                self.server.close(at);
                self.phase = Phase::Closing { until: at + DRAIN };
            }
            Phase::Closing { .. } => self.phase = Phase::Ended,
            Phase::Running | Phase::Stopping | Phase::Stopped | Phase::Ended => {}
        }
    }

    /// When the next turn is due at the latest; for use once [`poll_transmit`](Self::poll_transmit) has run dry.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        let timeouts = [self.server.next_timeout(), self.kafka.next_timeout(), self.phase.until()];
        timeouts.into_iter().flatten().min()
    }
}
