//! One turn: everything that has gathered goes through the shard, and what the shard wants is done.

use std::rc::Rc;
use std::time::{Duration, Instant};

use engine_api::{CoreId, ReplySlot};
use engine_shard::{Effect, Input};
use net_quic::Ask;
use net_sockets::{Outgoing, Sent};

use crate::core::{Core, Phase, State};
use crate::mesh::Message;
use crate::node::Control;
use crate::stats::CoreStats;

/// Rounds within a turn: an answer may let a push reader ask again at once. Beyond it the executor gets to look
/// at completions first.
const ROUNDS_PER_TURN: usize = 8;

/// Sends within a turn; each may carry tens of datagrams. Together they take some 3 ms at most, encryption
/// included.
const SENDS_PER_TURN: usize = 64;

/// Datagrams offered to one segmented send: at 1,452 bytes they stay below the 64 KiB a send may carry.
const SEGMENTS_MAX: usize = 32;

/// Until a full socket is tried again.
const SEND_RETRY: Duration = Duration::from_millis(1);

/// Answers on their way out when the node stops get this long before connections are closed.
const DRAIN: Duration = Duration::from_millis(500);

/// Rounds of sends that say goodbye: enough for 65,536 connections.
const CLOSE_ROUNDS_MAX: usize = 65_536 / SENDS_PER_TURN;

const CONTROLLER: CoreId = CoreId(0);

impl Core {
    /// Returns whether there is more to do at once.
    pub(crate) fn turn(self: &Rc<Self>) -> bool {
        let begun = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.turns.turns += 1;
        self.take_control(state);
        self.expire(state, begun);
        let mut more = true;
        for _ in 0..ROUNDS_PER_TURN {
            more = self.round(state, begun);
            if !more {
                break;
            }
        }
        state.mesh.flush();
        self.pause_or_resume(state, begun);
        more |= self.send_datagrams(state, begun);
        self.advance_end(state, begun);
        self.arm(state);
        state.turns.turn_longest = state.turns.turn_longest.max(begun.elapsed());
        more
    }

    fn expire(&self, state: &mut State, now: Instant) {
        if state.server.next_timeout().is_some_and(|at| at <= now) {
            state.server.handle_timeout(now);
        }
    }

    /// One pass of inputs and effects; returns whether there was anything.
    fn round(self: &Rc<Self>, state: &mut State, begun: Instant) -> bool {
        let before = state.turns.inputs;
        let now = self.now();
        let handle = |state: &mut State, input| {
            state.turns.inputs += 1;
            state.shard.handle(now, input);
        };
        for (log, op, result) in std::mem::take(&mut *self.disk_done.borrow_mut()) {
            handle(state, Input::Disk { log, op, result });
        }
        for note in std::mem::take(&mut *self.notes.borrow_mut()) {
            handle(state, note);
        }
        state.mesh.receive(&mut state.inbox);
        while let Some(message) = state.inbox.pop_front() {
            match message {
                Message::Request { slot, request } => handle(state, Input::Request { slot, request }),
                Message::Cancel(slot) => handle(state, Input::Cancel(slot)),
                Message::Meta(update) => handle(state, Input::Meta(update)),
                Message::MetaApplied { core, version } => handle(state, Input::MetaApplied { core, version }),
                Message::Reply { key, response } => {
                    state.turns.inputs += 1;
                    if state.forwarded.remove(&key).is_some() {
                        state.server.handle_response(begun, key, response);
                    }
                }
            }
        }
        while !state.mesh.is_backlogged() {
            let Some(ask) = state.server.poll_ask() else { break };
            if let Some(input) = self.route(state, ask) {
                handle(state, input);
            }
        }
        state.shard.end_turn(now, &mut state.effects);
        let mut effects = std::mem::take(&mut state.effects);
        state.turns.effects += effects.len() as u64;
        let worked = state.turns.inputs != before || !effects.is_empty();
        for effect in effects.drain(..) {
            self.perform(state, begun, effect);
        }
        state.effects = effects;
        worked
    }

    /// To the owner: `Some` if that is this core.
    fn route(&self, state: &mut State, ask: Ask) -> Option<Input> {
        match ask {
            Ask::Request { key, request } => {
                let slot = ReplySlot { core: self.me, key };
                let owner = state.shard.route(&request);
                if owner == self.me {
                    state.turns.requests_owned += 1;
                    return Some(Input::Request { slot, request });
                }
                state.turns.requests_forwarded += 1;
                state.turns.inputs += 1;
                state.forwarded.insert(key, owner);
                state.mesh.send(owner, Message::Request { slot, request });
                None
            }
            Ask::Cancel { key } => {
                let slot = ReplySlot { core: self.me, key };
                match state.forwarded.remove(&key) {
                    None => Some(Input::Cancel(slot)),
                    Some(owner) => {
                        state.turns.inputs += 1;
                        state.mesh.send(owner, Message::Cancel(slot));
                        None
                    }
                }
            }
        }
    }

    fn perform(self: &Rc<Self>, state: &mut State, begun: Instant, effect: Effect) {
        match effect {
            Effect::Reply(slot, response) if slot.core == self.me => {
                state.server.handle_response(begun, slot.key, response);
            }
            Effect::Reply(slot, response) => {
                state.mesh.send(slot.core, Message::Reply { key: slot.key, response })
            }
            Effect::Disk { log, op, what } => {
                let core = Rc::clone(self);
                self.disk_waiting.set(self.disk_waiting.get() + 1);
                // As many tasks as the logs have operations under way, which each log bounds for itself.
                glommio::spawn_local(async move {
                    let result = core.disk.run(log, what).await;
                    core.disk_waiting.set(core.disk_waiting.get() - 1);
                    core.disk_done.borrow_mut().push_back((log, op, result));
                    core.work.ring();
                })
                .detach();
            }
            Effect::Publish(update) => state.mesh.send_to_all_others(|| Message::Meta(update.clone())),
            Effect::MetaApplied { version } if self.me == CONTROLLER => {
                self.note(Input::MetaApplied { core: self.me, version });
            }
            Effect::MetaApplied { version } => {
                state.mesh.send(CONTROLLER, Message::MetaApplied { core: self.me, version });
            }
            Effect::Ready => self.shared.core_ready(self.me),
            Effect::Stopped => {
                state.phase = Phase::Stopped;
                self.shared.core_stopped(self.me);
            }
            Effect::Event(event) => (self.events)(self.me, event),
        }
    }

    fn pause_or_resume(&self, state: &mut State, now: Instant) {
        let pause = state.shard.is_overloaded() || !state.mesh.is_flushed();
        if pause != state.paused {
            state.paused = pause;
            state.turns.pauses += u64::from(pause);
            state.server.set_paused(now, pause);
            // Requests may have waited for it.
            self.work.ring();
        }
    }

    /// Returns whether there is more to send at once.
    fn send_datagrams(&self, state: &mut State, now: Instant) -> bool {
        if let Some((transmit, retry_at)) = state.send_blocked
            && (now < retry_at || !self.send(state, now, transmit))
        {
            return false;
        }
        let segments_max = self.port.segments_max().min(SEGMENTS_MAX);
        for _ in 0..SENDS_PER_TURN {
            let Some(transmit) = state.server.poll_transmit(now, segments_max, &mut state.outgoing) else {
                return false;
            };
            if !self.send(state, now, transmit) {
                return false;
            }
        }
        true
    }

    /// `false`: the socket is full, the datagram is kept.
    fn send(&self, state: &mut State, now: Instant, transmit: net_quic::Transmit) -> bool {
        let outgoing = Outgoing {
            remote: transmit.remote,
            local_ip: transmit.local_ip,
            ecn: transmit.ecn.map(|ecn| ecn as u8),
            contents: &state.outgoing[..transmit.bytes],
            segment_bytes: transmit.segment_bytes,
        };
        match self.port.send(&outgoing) {
            Sent::Gone => {
                state.send_blocked = None;
                true
            }
            Sent::Full => {
                state.send_blocked = Some((transmit, now + SEND_RETRY));
                false
            }
        }
    }

    /// Tells the timer task if the next deadline is nearer than the one it waits for.
    fn arm(&self, state: &mut State) {
        let blocked = state.send_blocked.map(|(_, at)| at);
        let draining = match state.phase {
            Phase::Draining { until } => Some(until),
            Phase::Running | Phase::Stopping | Phase::Stopped | Phase::Ended => None,
        };
        let next = [state.server.next_timeout(), blocked, draining].into_iter().flatten().min();
        let Some(next) = next else { return };
        if self.deadline.get().is_none_or(|armed| next < armed) {
            self.deadline.set(Some(next));
            self.deadline_moved.ring();
        }
    }

    fn take_control(&self, state: &mut State) {
        while let Some(control) = self.shared.next_control(self.me) {
            match control {
                Control::Stats(reply) => reply.answer(self.stats(state)),
                Control::Stop if state.phase == Phase::Running => {
                    state.phase = Phase::Stopping;
                    self.note(Input::Stop);
                }
                // Asked twice, or before the core began.
                Control::Stop | Control::Begin => {}
            }
        }
    }

    /// The end of a stop: once every core has closed its logs, the last answers leave, then the connections are
    /// closed.
    fn advance_end(&self, state: &mut State, now: Instant) {
        if state.phase == Phase::Stopped && self.shared.all_stopped() {
            state.phase = Phase::Draining { until: now + DRAIN };
        }
        let Phase::Draining { until } = state.phase else { return };
        let quiet = state.mesh.is_flushed()
            && state.send_blocked.is_none()
            && state.server.stats().send_buffered_bytes == 0;
        if quiet || now >= until {
            state.server.close(now);
            // Each connection is told once; a full socket loses the rest, whose clients find out by themselves.
            for _ in 0..CLOSE_ROUNDS_MAX {
                if !self.send_datagrams(state, now) {
                    break;
                }
            }
            state.phase = Phase::Ended;
        }
    }

    fn stats(&self, state: &mut State) -> CoreStats {
        // The runtime's counters begin anew each time they are read. Spinning and sleeping are not in them.
        state.turns.busy += glommio::executor().executor_stats().total_runtime();
        state.turns.up = self.shared.begun.elapsed();
        state.turns.disk_waiting = self.disk_waiting.get();
        let turns = state.turns;
        state.turns.turn_longest = Duration::ZERO;
        CoreStats {
            core: self.me,
            cpu: self.cpu,
            shard: state.shard.stats(),
            quic: state.server.stats(),
            disk: self.disk.stats(),
            udp: self.port.stats(),
            mesh: state.mesh.stats(),
            turns,
        }
    }
}
