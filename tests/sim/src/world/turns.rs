//! Cores taking turns: what has gathered goes in, what they want is done; the mesh between them.

use std::fmt::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_api::{ReplySlot, Request};
use engine_shard::Input;
use engine_turn::{Message, Want};
use storage_frame::{FrameHeader, LogId, Salt};
use storage_log::inspect::SegmentWalk;
use storage_log::{BLOCK_BYTES, DiskOp, OpId, SegmentId};

use super::{Event, World, node_address};
use crate::fact::{Fact, FrameFact};
use crate::members;
use crate::net::Arrival;
use crate::trace::Detail;

const TICK: Duration = Duration::from_millis(10);
const FREE_SPACE_PERIOD: Duration = Duration::from_secs(1);
/// Datagrams within a turn; what is left leaves in the next.
const DATAGRAMS_PER_TURN: usize = 256;
const SEGMENTS_MAX: usize = 8;

impl World {
    pub(super) fn on_arrival(&mut self, arrival: Arrival) {
        let instant = self.instant();
        let Some(process) = &mut self.process else { return };
        let core = usize::from(arrival.core) % process.core_count();
        let ecn = arrival.ecn.and_then(quinn_proto::EcnCodepoint::from_bits);
        self.trace.note(Detail::Everything, || {
            format!("core {core} gets {} bytes from {}", arrival.bytes.len(), arrival.from)
        });
        let logic = &mut process.cores[core].logic;
        logic.handle_datagram(instant, arrival.from, None, ecn, BytesMut::from(&arrival.bytes[..]));
        self.wake(core);
    }

    /// The core takes a turn soon.
    pub(super) fn wake(&mut self, core: usize) {
        let delay = Self::between(&mut self.dice.schedule, self.plan.turn_delay);
        self.wake_at(core, self.now + delay);
    }

    pub(super) fn wake_at(&mut self, core: usize, at: Duration) {
        let Some(process) = &mut self.process else { return };
        let life = process.life;
        let core_state = &mut process.cores[core];
        let at = at.max(core_state.stalled_until);
        if core_state.turn_at.is_none_or(|turn_at| at < turn_at) {
            core_state.turn_at = Some(at);
            self.queue.push(at, Event::Turn { life, core: core as u8 });
        }
    }

    pub(super) fn tick(&mut self, core: usize) {
        let process = self.process.as_mut().expect("it lives");
        let life = process.life;
        process.cores[core].logic.note(Input::Tick);
        self.queue.push(self.now + TICK, Event::Tick { life, core: core as u8 });
        self.wake(core);
    }

    pub(super) fn measure_space(&mut self, core: usize) {
        self.disk.give_up_spares(core as u8);
        let free_bytes = self.disk.free_bytes();
        let process = self.process.as_mut().expect("it lives");
        let life = process.life;
        process.cores[core].logic.note(Input::FreeSpace { free_bytes });
        self.queue.push(self.now + FREE_SPACE_PERIOD, Event::FreeSpace { life, core: core as u8 });
        self.wake(core);
    }

    pub(super) fn turn(&mut self, core: usize) {
        let instant = self.instant();
        let process = self.process.as_mut().expect("it lives");
        let life = process.life;
        // An earlier turn has done what this one was for.
        if process.cores[core].turn_at.is_none_or(|at| at > self.now) {
            return;
        }
        process.cores[core].turn_at = None;
        let begun = process.begun;
        let mut senders: Vec<usize> = (0..=process.core_count()).collect();
        shuffle(&mut self.dice.mesh, &mut senders);
        let waiting = process.receive(core, &senders);
        let now = self.node_now(begun);
        let process = self.process.as_mut().expect("it lives");
        let mut wants = Vec::new();
        let mut more = process.cores[core].logic.turn(now, instant, &mut wants);
        for sender in waiting {
            self.tell_room(sender);
        }
        for want in wants {
            self.carry_out(core, want);
            if !self.burn() {
                return;
            }
        }
        if !self.send_messages(core) {
            return;
        }
        let process = self.process.as_mut().expect("it lives");
        more |= process.cores[core].logic.settle(instant);
        let Some(has_more) = self.send_pipes(core) else { return };
        more |= has_more;
        more |= self.send_datagrams(core);
        if !self.lives_still(life) {
            return;
        }
        self.check_bounds(core);
        self.after_turn(core, more);
    }

    fn after_turn(&mut self, core: usize, more: bool) {
        let Some(process) = &mut self.process else { return };
        if process.cores[core].logic.is_ended() {
            if process.cores.iter().all(|core| core.logic.is_ended()) {
                self.on_ended();
            }
            return;
        }
        if more {
            return self.wake(core);
        }
        if let Some(due) = process.cores[core].logic.next_timeout() {
            let at = due.saturating_duration_since(self.net.instant(Duration::ZERO));
            self.wake_at(core, at.max(self.now));
        }
    }

    /// `false`: the process has died of it.
    pub(super) fn burn(&mut self) -> bool {
        match &mut self.fuse {
            None => true,
            Some(0) => {
                self.fuse = None;
                self.crash("between two effects of a turn");
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn mesh_delay(&mut self) -> Duration {
        // Seldom a doorbell is heard late.
        let late = if self.dice.mesh.one_in(200) { 50 } else { 1 };
        Self::between(&mut self.dice.mesh, self.plan.mesh_delay) * late
    }

    fn send_messages(&mut self, core: usize) -> bool {
        let told = self.process.as_mut().expect("it lives").send(core);
        for (to, count) in told {
            self.trace.note(Detail::Everything, || format!("core {core} sends {count} messages to {to}"));
            let at = self.now + self.mesh_delay();
            self.ring(to, at);
            if !self.burn() {
                return false;
            }
        }
        true
    }

    fn ring(&mut self, to: usize, at: Duration) {
        let process = self.process.as_ref().expect("it lives");
        if to == process.core_count() {
            let life = process.life;
            self.queue.push(at, Event::Answers { life });
        } else {
            self.wake_at(to, at);
        }
    }

    /// A sender that found its link full may send again.
    fn tell_room(&mut self, sender: usize) {
        let at = self.now + self.mesh_delay();
        let cores = self.process.as_ref().map_or(0, |process| process.core_count());
        if sender == cores {
            self.flush_direct();
        } else {
            self.wake_at(sender, at);
        }
    }

    fn send_datagrams(&mut self, core: usize) -> bool {
        let instant = self.instant();
        let mut buffer = Vec::new();
        for _ in 0..DATAGRAMS_PER_TURN {
            let process = self.process.as_mut().expect("it lives");
            let Some(transmit) = process.cores[core].logic.poll_transmit(instant, SEGMENTS_MAX, &mut buffer)
            else {
                return false;
            };
            let ecn = transmit.ecn.map(|ecn| ecn as u8);
            let piece = transmit.segment_bytes.unwrap_or(transmit.bytes).max(1);
            self.trace.note(Detail::Everything, || {
                format!("core {core} sends {} bytes to {}", transmit.bytes, transmit.remote)
            });
            for datagram in buffer[..transmit.bytes].chunks(piece) {
                self.net.wire().send(self.now, node_address(), transmit.remote, ecn, datagram);
            }
            if !self.burn() {
                return false;
            }
        }
        true
    }

    fn carry_out(&mut self, core: usize, want: Want) {
        let life = self.process.as_ref().expect("it lives").life;
        match want {
            Want::Disk { log, op, what } => {
                self.trace
                    .note(Detail::Everything, || format!("core {core} log {log} {op:?}: {}", brief(&what)));
                self.tell_disk_op(log, &what);
                let takes = self.disk.submit(core as u8, log, op, what);
                self.queue.push(self.now + takes, Event::DiskDone { life, core: core as u8, log, op });
            }
            Want::Ready => {
                let process = self.process.as_mut().expect("it lives");
                process.ready_count += 1;
                if process.is_ready() {
                    self.tell(Fact::Ready { life });
                }
            }
            Want::Stopped => self.on_core_stopped(),
            Want::Event(event) => {
                let fields: Vec<String> =
                    event.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let fields = fields.join(" ");
                let (level, name) = (event.level, event.name);
                self.tell(Fact::Event { life, core: core as u8, level, name, fields });
            }
        }
    }

    fn tell_disk_op(&mut self, log: LogId, what: &DiskOp) {
        match what {
            // In a log that is compacted others hold what it held: whoever reads the records sees to that.
            DiskOp::RetireSegment { segment } => {
                let mut salts = self.salts.range((log, SegmentId::REWRITTEN_FIRST)..);
                if salts.next().is_none_or(|((of, _), _)| *of != log) {
                    self.tell(Fact::Retiring { log, segment: *segment });
                }
            }
            DiskOp::RemoveLog => self.tell(Fact::LogRemoving { log }),
            // Not when it is answered: a crash may come before, and leave it.
            DiskOp::Write { segment, position: 0, parts } => {
                if let Ok(walk) = SegmentWalk::open(Bytes::from(parts.concat())) {
                    self.salts.insert((log, *segment), Salt(walk.info().generation));
                }
            }
            DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::Zero { .. }
            | DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::RemoveFile { .. } => {}
        }
    }

    pub(super) fn disk_done(&mut self, core: usize, log: LogId, op: OpId) {
        let asked = self.disk.under_way().find(|(of, number, _)| *of == log && *number == op);
        let written = match asked {
            Some((_, _, DiskOp::Write { segment, position, parts })) => {
                Some((*segment, *position, parts.concat()))
            }
            _ => None,
        };
        let result = self.disk.complete(log, op);
        self.trace.note(Detail::Everything, || match &result {
            Ok(_) => format!("core {core} log {log} {op:?} done"),
            Err(error) => format!("core {core} log {log} {op:?} failed: {error}"),
        });
        self.tell_injected();
        if let (Some((segment, position, bytes)), Ok(_)) = (written, &result) {
            self.tell_written(log, segment, position, bytes);
        }
        let process = self.process.as_mut().expect("it lives");
        process.cores[core].logic.note(Input::Disk { log, op, result });
        self.wake(core);
    }

    fn tell_written(&mut self, log: LogId, segment: SegmentId, position: u64, bytes: Vec<u8>) {
        let mut at = if position == 0 { BLOCK_BYTES } else { 0 };
        let Some(salt) = self.salts.get(&(log, segment)) else { return };
        let mut frames = Vec::new();
        while at < bytes.len() {
            let Ok(header) = FrameHeader::decode(&bytes[at..], *salt) else {
                at += storage_frame::FRAME_ALIGN;
                continue;
            };
            // Before the first new frame stands what the tail block held of older ones.
            if header.starts_write {
                frames.clear();
            }
            frames.push(FrameFact {
                base_offset: header.base_offset,
                end_offset: header.end_offset(),
                max_timestamp: header.max_timestamp,
                bytes: header.frame_bytes() as u32,
            });
            at += header.frame_bytes();
        }
        if !frames.is_empty() {
            self.tell(Fact::Written { log, segment, frames });
        }
    }

    pub(super) fn hear_answers(&mut self) {
        let process = self.process.as_mut().expect("it lives");
        let (messages, waiting) = process.receive_directly();
        for core in waiting {
            self.wake(core);
        }
        self.direct.set_moment(self.moment());
        self.members.set_moment(self.moment());
        for message in messages {
            match message {
                Message::Reply { key, response } => {
                    let is_members = key > members::KEYS_FROM;
                    let is_awaited =
                        if is_members { self.members.waits_for(key) } else { self.direct.waits_for(key) };
                    if !is_awaited {
                        // Cancelled while the answer was on its way; or answered twice.
                        if !self.cancelled.remove(&key) {
                            self.fail("world", format!("request {key} was answered twice: {response:?}"));
                        }
                        continue;
                    }
                    self.trace.note(Detail::Everything, || format!("answer to {key}: {}", short(&response)));
                    let heard = if is_members {
                        self.members.on_answer(key, response)
                    } else {
                        self.direct.on_answer(key, response)
                    };
                    if let Err(why) = heard {
                        self.fail("world", why);
                    }
                }
                Message::Request { .. }
                | Message::Cancel(_)
                | Message::Meta(_)
                | Message::MetaApplied { .. } => {
                    self.fail("world", format!("the direct clients were sent {message:?}"));
                }
            }
        }
        self.perform_wishes();
    }

    /// Sends what the direct clients ask.
    pub(super) fn perform_wishes(&mut self) {
        let members = self.members.take_wishes();
        let mut wishes = self.direct.take_wishes();
        wishes.asks.extend(members.asks);
        wishes.cancels.extend(members.cancels);
        let kafka = self.kafka.take_wishes();
        for fact in wishes.facts.into_iter().chain(members.facts).chain(kafka.facts) {
            self.tell(fact);
        }
        self.schedule_pipes();
        if !self.plan.beyond_promise
            && let Some(wrong) = kafka.wrong.into_iter().next()
        {
            self.fail("kafka", wrong);
        }
        if !self.plan.beyond_promise
            && let Some(wrong) = wishes.wrong.into_iter().next()
        {
            self.fail("idempotence", wrong);
        }
        for (key, request) in wishes.asks {
            self.send_request(key, request);
        }
        for key in wishes.cancels {
            self.send_cancel(key);
        }
    }

    fn send_request(&mut self, key: u64, request: Request) {
        let lost = self.dice.mesh.one_in(20);
        let Some(process) = &self.process else { return };
        let cores = process.core_count() as u64;
        let entry = self.dice.mesh.below(cores) as usize;
        // Seldom one goes to whoever it meets first.
        let to = if lost { entry } else { usize::from(process.cores[entry].logic.shard().route(&request).0) };
        let slot = ReplySlot { core: process.direct_end(), key };
        self.trace.note(Detail::Everything, || format!("request {key} to core {to}: {}", short(&request)));
        self.sent_to.insert(key, to);
        self.send_direct(to, Message::Request { slot, request });
    }

    fn send_cancel(&mut self, key: u64) {
        let Some(process) = &self.process else { return };
        let slot = ReplySlot { core: process.direct_end(), key };
        let Some(to) = self.sent_to.get(&key).copied() else { return };
        self.cancelled.insert(key);
        self.send_direct(to, Message::Cancel(slot));
    }

    fn send_direct(&mut self, to: usize, message: Message) {
        let Some(process) = &mut self.process else { return };
        if process.send_directly(to, Some(message)) {
            let at = self.now + self.mesh_delay();
            self.wake_at(to, at);
        }
    }

    pub(super) fn flush_direct(&mut self) {
        let cores = self.process.as_ref().map_or(0, |process| process.core_count());
        for to in 0..cores {
            let process = self.process.as_mut().expect("it lives");
            if process.send_directly(to, None) {
                self.wake(to);
            }
        }
    }

    /// What is bounded stays within its bounds.
    fn check_bounds(&mut self, core: usize) {
        let process = self.process.as_ref().expect("it lives");
        let logic = &process.cores[core].logic;
        // Everything within a turn may go beyond it, since a turn is only refused afterwards.
        let memory_bytes = logic.shard().memory_bytes();
        let bound = self.plan.memory_bytes + MEMORY_SLACK_BYTES;
        if memory_bytes > bound {
            self.fail(
                "bounds",
                format!("core {core} holds {memory_bytes} bytes of frames, the bound is {bound}"),
            );
        }
        let backlog = self.process.as_ref().expect("it lives").cores[core].logic.backlog();
        if backlog > BACKLOG_MAX {
            self.fail("bounds", format!("core {core} has {backlog} messages waiting for full links"));
        }
    }
}

/// What one turn, the reads under way and the answers on their way may add.
const MEMORY_SLACK_BYTES: usize = 24 << 20;
/// What is refused at 4096, and what one turn's answers add.
const BACKLOG_MAX: usize = 20_000;

fn shuffle(dice: &mut tests_disk::Dice, items: &mut [usize]) {
    for last in (1..items.len()).rev() {
        items.swap(last, dice.below(last as u64 + 1) as usize);
    }
}

fn brief(what: &DiskOp) -> String {
    match what {
        DiskOp::Write { segment, position, parts } => {
            let bytes: usize = parts.iter().map(Bytes::len).sum();
            format!("write {bytes} bytes at {position} of segment {}", segment.0)
        }
        DiskOp::ReplaceFile { name, bytes } => format!("replace {name} by {} bytes", bytes.len()),
        other @ (DiskOp::List
        | DiskOp::ReadFile { .. }
        | DiskOp::MakeSegment { .. }
        | DiskOp::Zero { .. }
        | DiskOp::Read { .. }
        | DiskOp::RetireSegment { .. }
        | DiskOp::RemoveFile { .. }
        | DiskOp::RemoveLog) => format!("{other:?}"),
    }
}

/// The beginning of what it says; not all of it is formatted, for there may be megabytes.
fn short(value: &impl std::fmt::Debug) -> String {
    let mut beginning = Beginning(String::new());
    // Refuses what is too long, which ends the formatting.
    if write!(beginning, "{value:?}").is_err() {
        beginning.0.push_str("...");
    }
    beginning.0
}

struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        const BYTES_MAX: usize = 300;
        if self.0.len() + text.len() > BYTES_MAX {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
