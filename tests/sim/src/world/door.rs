//! The node's door for Kafka's clients: what `engine/core` does with sockets, done with the connections of the run.
//!
//! A connection belongs to one core and one life. One read a time, of as much as is drawn; sending at the end of a
//! turn; a full connection is waited for, and closed behind its last answer.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use bytes::BufMut;
use net_kafka::ConnId;
use tests_disk::Dice;

use super::{Event, World, node_address};
use crate::net::{PipeId, Side};
use crate::trace::Detail;

/// Chunks and bytes that leave in one call, and bytes that leave in one turn.
const SLICES: usize = 64;
const SEND_BYTES: usize = 64 << 10;
const TURN_BYTES: usize = 1 << 20;
/// Between two reads of what is there.
const READ_AGAIN: Duration = Duration::from_micros(5);

#[derive(Debug)]
pub(super) struct Door {
    dice: Dice,
    served: BTreeMap<PipeId, Served>,
    by_conn: BTreeMap<(usize, ConnId), PipeId>,
    /// By core: with something to send that did not leave.
    sending: Vec<VecDeque<PipeId>>,
}

#[derive(Debug, Clone, Copy)]
struct Served {
    core: usize,
    conn: ConnId,
    is_blocked: bool,
    is_open: bool,
}

impl Door {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed, "door"),
            served: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            sending: Vec::new(),
        }
    }

    fn find(&self, core: usize, conn: ConnId) -> Option<PipeId> {
        self.by_conn.get(&(core, conn)).copied()
    }

    fn forget(&mut self, pipe: PipeId) {
        if let Some(served) = self.served.remove(&pipe) {
            self.by_conn.remove(&(served.core, served.conn));
        }
    }
}

impl World {
    /// Something may have changed on a connection, for either side.
    pub(super) fn look_at_pipe(&mut self, pipe: PipeId) {
        self.kafka.set_moment(self.moment());
        if !self.kafka.tcp().has_left(pipe, Side::Node) {
            self.serve_pipe(pipe);
        }
        self.kafka.on_pipe(pipe);
        self.perform_wishes();
    }

    fn serve_pipe(&mut self, pipe: PipeId) {
        let (readable, is_end) = self.kafka.tcp().readable(self.now, pipe, Side::Node);
        let Some(process) = &self.process else {
            return self.kafka.tcp().close(self.now, pipe, Side::Node);
        };
        let core = match self.door.served.get(&pipe) {
            Some(served) => served.core,
            None => self.door.dice.below(process.core_count() as u64) as usize,
        };
        let stalled_until = process.cores[core].stalled_until;
        if stalled_until > self.now {
            return self.queue.push(stalled_until, Event::Pipe(pipe));
        }
        if !self.door.served.contains_key(&pipe) && !self.accept(pipe, core) {
            return;
        }
        self.unblock(pipe);
        if readable > 0 || is_end {
            self.read_pipe(pipe);
        }
    }

    fn accept(&mut self, pipe: PipeId, core: usize) -> bool {
        let instant = self.instant();
        let process = self.process.as_mut().expect("just seen");
        let remote = std::net::SocketAddr::from(([10, 0, 1, 1], 1024 + (pipe.0 % 60_000) as u16));
        let kafka = process.cores[core].logic.kafka_mut();
        let Some(conn) = kafka.open(instant, remote, node_address()) else {
            self.kafka.tcp().close(self.now, pipe, Side::Node);
            return false;
        };
        self.door.served.insert(pipe, Served { core, conn, is_blocked: false, is_open: true });
        self.door.by_conn.insert((core, conn), pipe);
        self.wake(core);
        true
    }

    /// There may be room to send again.
    fn unblock(&mut self, pipe: PipeId) {
        let is_writable = self.kafka.tcp().is_writable(self.now, pipe, Side::Node);
        let served = self.door.served.get_mut(&pipe);
        let Some(served) = served.filter(|served| served.is_blocked && is_writable) else { return };
        served.is_blocked = false;
        let core = served.core;
        self.sending(core).push_back(pipe);
        self.wake(core);
    }

    fn sending(&mut self, core: usize) -> &mut VecDeque<PipeId> {
        if self.door.sending.len() <= core {
            self.door.sending.resize_with(core + 1, VecDeque::new);
        }
        &mut self.door.sending[core]
    }

    fn read_pipe(&mut self, pipe: PipeId) {
        let instant = self.instant();
        let Some(served) = self.door.served.get(&pipe).copied() else { return };
        let process = self.process.as_mut().expect("it is served");
        let kafka = process.cores[served.core].logic.kafka_mut();
        if !served.is_open {
            // What its client still says is read and forgotten.
            let heard = self.kafka.tcp().read(self.now, pipe, Side::Node, usize::MAX);
            if heard.is_end {
                self.kafka.tcp().close(self.now, pipe, Side::Node);
                self.door.forget(pipe);
            }
            return;
        }
        if !kafka.wants_read(served.conn) {
            return;
        }
        let Some(buffer) = kafka.reserve(served.conn) else { return };
        let room = buffer.capacity() - buffer.len();
        let most = self.door.dice.between(1, room.max(1) as u64 + 1) as usize;
        let heard = self.kafka.tcp().read(self.now, pipe, Side::Node, most);
        if heard.bytes.is_empty() {
            if heard.is_end {
                self.lose_pipe(pipe);
            }
            return;
        }
        buffer.put_slice(&heard.bytes);
        kafka.received(instant, served.conn);
        self.trace.note(Detail::Everything, || {
            format!("core {} reads {} bytes of pipe {}", served.core, heard.bytes.len(), pipe.0)
        });
        self.queue.push(self.now + READ_AGAIN, Event::Pipe(pipe));
        self.wake(served.core);
        self.schedule_pipes();
    }

    /// Nothing more is sent or read.
    fn lose_pipe(&mut self, pipe: PipeId) {
        let instant = self.instant();
        let Some(served) = self.door.served.get(&pipe).copied() else { return };
        self.door.forget(pipe);
        self.kafka.tcp().close(self.now, pipe, Side::Node);
        let process = self.process.as_mut().expect("it is served");
        process.cores[served.core].logic.kafka_mut().ended(instant, served.conn);
        self.wake(served.core);
    }

    /// Sends what there is. `None`: the process has died of it; else whether there is more to do at once.
    pub(super) fn send_pipes(&mut self, core: usize) -> Option<bool> {
        let instant = self.instant();
        let mut bytes_left = TURN_BYTES;
        while bytes_left > 0 {
            let next = self.sending(core).pop_front();
            let logic = &mut self.process.as_mut().expect("it lives").cores[core].logic;
            let next = match next {
                Some(pipe) => Some(pipe),
                None => match logic.poll_kafka_ready(instant) {
                    None => return Some(logic.has_kafka_asks()),
                    Some(conn) => self.door.find(core, conn),
                },
            };
            let Some(pipe) = next else { continue };
            bytes_left = bytes_left.saturating_sub(self.send_pipe(core, pipe));
            if !self.burn() {
                return None;
            }
        }
        Some(true)
    }

    /// One call. Returns how many bytes have left.
    fn send_pipe(&mut self, core: usize, pipe: PipeId) -> usize {
        let instant = self.instant();
        let Some(served) = self.door.served.get(&pipe).copied().filter(|served| served.is_open) else {
            return 0;
        };
        let logic = &mut self.process.as_mut().expect("it lives").cores[core].logic;
        let mut sent = 0;
        if !served.is_blocked {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = logic.kafka().outgoing(served.conn, &mut slices);
            let bytes = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
            let offered: Vec<u8> = bytes.take(SEND_BYTES).collect();
            if !offered.is_empty() {
                // A socket takes what it likes.
                let most = if self.door.dice.one_in(2) { offered.len() as u64 } else { 2000 };
                let most = self.door.dice.between(1, most.min(offered.len() as u64) + 1) as usize;
                match self.kafka.tcp().write(self.now, pipe, Side::Node, &offered[..most]) {
                    None => {
                        self.lose_pipe(pipe);
                        return 0;
                    }
                    Some(0) => self.door.served.get_mut(&pipe).expect("just seen").is_blocked = true,
                    Some(bytes) => {
                        sent = bytes;
                        logic.kafka_mut().sent(instant, served.conn, bytes);
                        self.sending(core).push_back(pipe);
                    }
                }
                self.trace.note(Detail::Everything, || {
                    format!("core {core} sends {sent} bytes to pipe {}", pipe.0)
                });
            }
        }
        let logic = &mut self.process.as_mut().expect("it lives").cores[core].logic;
        let has_more = logic.kafka().outgoing(served.conn, &mut [IoSlice::new(&[])]) > 0;
        if logic.kafka().wants_read(served.conn) {
            self.queue.push(self.now + READ_AGAIN, Event::Pipe(pipe));
        } else if logic.kafka().is_closing(served.conn) && !has_more {
            logic.kafka_mut().ended(instant, served.conn);
            let entry = self.door.served.get_mut(&pipe).expect("just seen");
            entry.is_open = false;
            let conn = entry.conn;
            self.door.by_conn.remove(&(core, conn));
            self.kafka.tcp().finish(self.now, pipe, Side::Node);
            self.queue.push(self.now + READ_AGAIN, Event::Pipe(pipe));
        }
        self.schedule_pipes();
        sent
    }

    /// The process is gone: its kernel tells the clients, whatever had left before.
    pub(super) fn lose_pipes(&mut self) {
        let held: Vec<PipeId> = self.door.served.keys().copied().collect();
        for pipe in held {
            self.kafka.tcp().abandon(self.now, pipe, Side::Node);
        }
        self.door.served.clear();
        self.door.by_conn.clear();
        self.door.sending.clear();
        self.schedule_pipes();
    }

    /// A connection breaks, if there is one.
    pub(super) fn break_pipe(&mut self) {
        let held: Vec<PipeId> = self.kafka.tcp().held().collect();
        if !held.is_empty() {
            let pipe = *self.dice.chaos.pick(&held);
            self.kafka.tcp().cut(self.now, pipe);
            self.schedule_pipes();
        }
    }

    /// When connections are to be looked at.
    pub(super) fn schedule_pipes(&mut self) {
        for (at, pipe) in self.kafka.tcp().take_due() {
            self.queue.push(at.max(self.now), Event::Pipe(pipe));
        }
    }
}
