//! One turn from outside: the messages of other cores go in, what the core wants is carried out, messages and
//! datagrams leave. What happens in between is `engine/turn`'s.

use std::rc::Rc;
use std::time::{Duration, Instant};

use engine_shard::Input;
use engine_turn::Want;
use net_quic::Transmit;
use net_sockets::{Outgoing, Sent};

use crate::core::{Core, State};
use crate::node::Control;
use crate::stats::{CoreStats, ExecutorStats};

/// Sends within a turn; each may carry tens of datagrams. Together they take some 3 ms at most, encryption
/// included.
const SENDS_PER_TURN: usize = 64;

/// Datagrams offered to one segmented send: at 1,452 bytes they stay below the 64 KiB a send may carry.
const SEGMENTS_MAX: usize = 32;

/// Until a full socket is tried again.
const SEND_RETRY: Duration = Duration::from_millis(1);

impl Core {
    /// Returns whether there is more to do at once.
    pub(crate) fn turn(self: &Rc<Self>) -> bool {
        let begun = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        self.take_control(state, begun);
        state.mesh.receive(state.logic.inbox());
        let mut more = state.logic.turn(self.now(), begun, &mut state.wants);
        self.carry_out(state);
        for to in state.mesh.others() {
            state.mesh.offer(to, state.logic.outbox(to));
        }
        more |= state.logic.settle(begun);
        // Before the datagrams: once these have run dry the end of the core looks whether its connections are gone.
        more |= self.send_kafka(state, begun);
        more |= self.send_datagrams(state, begun);
        self.arm(state);
        state.turn_longest = state.turn_longest.max(begun.elapsed());
        more
    }

    fn take_control(&self, state: &mut State, now: Instant) {
        while let Some(control) = self.shared.next_control(self.me) {
            match control {
                Control::Stats(reply) => reply.answer(self.stats(state)),
                Control::Ends(reply) => reply.answer(state.logic.shard().partition_ends()),
                Control::GroupOffsets(reply) => reply.answer(state.logic.shard().group_offsets()),
                Control::Stop => state.logic.stop(),
                // Told before the core began.
                Control::Begin => {}
            }
        }
        if state.is_stopped && self.shared.all_stopped() {
            state.logic.all_stopped(now);
        }
    }

    fn carry_out(self: &Rc<Self>, state: &mut State) {
        for want in state.wants.drain(..) {
            match want {
                Want::Disk { log, op, what } => {
                    let core = Rc::clone(self);
                    self.disk_waiting.set(self.disk_waiting.get() + 1);
                    // As many tasks as the logs have operations under way, which each log bounds for itself.
                    let run = async move {
                        let result = core.disk.run(log, what).await;
                        core.disk_waiting.set(core.disk_waiting.get() - 1);
                        core.note(Input::Disk { log, op, result });
                    };
                    self.ring.spawn(run).detach();
                }
                Want::Ready => self.shared.core_ready(self.me),
                Want::Stopped => {
                    state.is_stopped = true;
                    self.shared.core_stopped(self.me);
                }
                Want::Event(event) => (self.events)(self.me, event),
            }
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
            let Some(transmit) = state.logic.poll_transmit(now, segments_max, &mut state.outgoing) else {
                return false;
            };
            if !self.send(state, now, transmit) {
                return false;
            }
        }
        true
    }

    /// `false`: the socket is full, the datagram is kept.
    fn send(&self, state: &mut State, now: Instant, transmit: Transmit) -> bool {
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
        let next = [state.logic.next_timeout(), blocked].into_iter().flatten().min();
        let Some(next) = next else { return };
        if self.deadline.get().is_none_or(|armed| next < armed) {
            self.deadline.set(Some(next));
            self.deadline_moved.ring();
        }
    }

    fn stats(&self, state: &mut State) -> CoreStats {
        let up = self.shared.begun.elapsed();
        CoreStats {
            core: self.me,
            cpu: self.cpu,
            shard: state.logic.shard().stats(),
            quic: state.logic.server().stats(),
            kafka: state.logic.kafka().stats(),
            accepts: !state.kafka.is_failing(),
            disk: self.disk.stats(),
            udp: self.port.stats(),
            mesh: state.mesh.stats(state.logic.backlog()),
            turns: state.logic.stats(),
            executor: ExecutorStats {
                up,
                // Spinning and sleeping are not in it.
                busy: up.saturating_sub(self.ring.idle()),
                turn_longest: std::mem::take(&mut state.turn_longest),
                disk_waiting: self.disk_waiting.get(),
            },
        }
    }
}
