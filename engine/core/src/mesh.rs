//! Messages between the cores of a node.
//!
//! Each ordered pair of cores has a link: a bounded queue that takes a turn's messages in one go. What does not
//! fit stays with the sender, in order, and goes first next time; whoever empties a link that has refused
//! something tells the sender. A core empties its links whatever the state of its own backlog, so two cores that
//! are full of messages for each other both go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use engine_api::{CoreId, ReplySlot, Request, Response};
use engine_shard::MetaUpdate;

use crate::signal::{Doorbell, lock};
use crate::stats::MeshStats;

/// Messages in one link. A request is answered by the destination within its turn or waits in its shard, so the
/// queue is only as long as one turn of the destination makes it.
const LINK_MESSAGES_MAX: usize = 4096;

/// A core with more messages than this waiting to leave takes no new requests.
const BACKLOG_MESSAGES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) enum Message {
    Request { slot: ReplySlot, request: Request },
    Cancel(ReplySlot),
    Reply { key: u64, response: Response },
    Meta(MetaUpdate),
    MetaApplied { core: CoreId, version: u64 },
}

struct Link {
    state: Mutex<LinkState>,
}

struct LinkState {
    messages: VecDeque<Message>,
    /// Something was refused since the link was last emptied.
    refused: bool,
}

/// What all cores of a node share.
pub(crate) struct Mesh {
    /// `links[from][to]`; those to oneself stay empty.
    links: Vec<Vec<Link>>,
    pub(crate) doorbells: Vec<Arc<Doorbell>>,
}

impl Mesh {
    pub(crate) fn new(cores: usize) -> Self {
        let link = || Link { state: Mutex::new(LinkState { messages: VecDeque::new(), refused: false }) };
        Self {
            links: (0..cores).map(|_| (0..cores).map(|_| link()).collect()).collect(),
            doorbells: (0..cores).map(|_| Arc::default()).collect(),
        }
    }

    pub(crate) fn cores(&self) -> usize {
        self.links.len()
    }
}

/// One core's end of the mesh.
pub(crate) struct MeshEnd {
    mesh: Arc<Mesh>,
    me: usize,
    /// By destination: this turn's messages behind those that found the link full.
    outboxes: Vec<VecDeque<Message>>,
    sent: u64,
    received: u64,
    batches: u64,
}

impl MeshEnd {
    pub(crate) fn new(mesh: Arc<Mesh>, me: CoreId) -> Self {
        let outboxes = (0..mesh.cores()).map(|_| VecDeque::new()).collect();
        Self { me: usize::from(me.0), mesh, outboxes, sent: 0, received: 0, batches: 0 }
    }

    /// Leaves with [`flush`](Self::flush).
    pub(crate) fn send(&mut self, to: CoreId, message: Message) {
        let to = usize::from(to.0);
        assert!(to != self.me && to < self.outboxes.len(), "core {} sends to core {to}", self.me);
        self.outboxes[to].push_back(message);
    }

    pub(crate) fn send_to_all_others(&mut self, message: impl Fn() -> Message) {
        for (to, outbox) in self.outboxes.iter_mut().enumerate() {
            if to != self.me {
                outbox.push_back(message());
            }
        }
    }

    /// Hands over what fits, one batch per destination.
    pub(crate) fn flush(&mut self) {
        for (to, outbox) in self.outboxes.iter_mut().enumerate() {
            if outbox.is_empty() {
                continue;
            }
            let mut link = lock(&self.mesh.links[self.me][to].state);
            let fits = (LINK_MESSAGES_MAX - link.messages.len()).min(outbox.len());
            link.messages.extend(outbox.drain(..fits));
            link.refused |= !outbox.is_empty();
            drop(link);
            if fits > 0 {
                self.sent += fits as u64;
                self.batches += 1;
                self.mesh.doorbells[to].ring();
            }
        }
    }

    /// Moves everything that other cores have sent to `into`, in order per sender.
    pub(crate) fn receive(&mut self, into: &mut VecDeque<Message>) {
        let before = into.len();
        for from in (0..self.mesh.cores()).filter(|from| *from != self.me) {
            let mut link = lock(&self.mesh.links[from][self.me].state);
            into.append(&mut link.messages);
            let refused = std::mem::take(&mut link.refused);
            drop(link);
            if refused {
                self.mesh.doorbells[from].ring();
            }
        }
        self.received += (into.len() - before) as u64;
    }

    /// Nothing waits for a full link.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outboxes.iter().all(VecDeque::is_empty)
    }

    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlog() > BACKLOG_MESSAGES_MAX
    }

    fn backlog(&self) -> usize {
        self.outboxes.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn stats(&self) -> MeshStats {
        let inbox = (0..self.mesh.cores())
            .map(|from| lock(&self.mesh.links[from][self.me].state).messages.len() as u64);
        MeshStats {
            sent: self.sent,
            received: self.received,
            batches: self.batches,
            inbox: inbox.sum(),
            backlog: self.backlog() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn pair() -> (Arc<Mesh>, MeshEnd, MeshEnd) {
        let mesh = Arc::new(Mesh::new(2));
        (Arc::clone(&mesh), MeshEnd::new(Arc::clone(&mesh), CoreId(0)), MeshEnd::new(mesh, CoreId(1)))
    }

    fn cancel(key: u64) -> Message {
        Message::Cancel(ReplySlot { core: CoreId(0), key })
    }

    fn keys(messages: &VecDeque<Message>) -> Vec<u64> {
        messages
            .iter()
            .map(|message| match message {
                Message::Cancel(slot) => slot.key,
                other @ (Message::Request { .. }
                | Message::Reply { .. }
                | Message::Meta(_)
                | Message::MetaApplied { .. }) => {
                    panic!("{other:?}")
                }
            })
            .collect()
    }

    fn rung(mesh: &Mesh, core: usize) -> bool {
        block_on(poll_once(poll_fn(|context| mesh.doorbells[core].poll(context)))).is_some()
    }

    #[test]
    fn a_turn_s_messages_leave_together_and_ring_once() {
        let (mesh, mut zero, mut one) = pair();
        (0..10).for_each(|key| zero.send(CoreId(1), cancel(key)));
        let mut got = VecDeque::new();
        one.receive(&mut got);
        assert!(got.is_empty(), "not before the flush");
        zero.flush();
        assert!(rung(&mesh, 1) && !rung(&mesh, 0));
        one.receive(&mut got);
        assert_eq!(keys(&got), (0..10).collect::<Vec<_>>());
        assert_eq!((zero.stats().batches, zero.stats().sent, one.stats().received), (1, 10, 10));
    }

    #[test]
    fn a_full_link_keeps_the_rest_with_its_sender_in_order() {
        let (mesh, mut zero, mut one) = pair();
        let count = (LINK_MESSAGES_MAX + BACKLOG_MESSAGES_MAX + 1) as u64;
        (0..count).for_each(|key| zero.send(CoreId(1), cancel(key)));
        zero.flush();
        assert!(!zero.is_flushed() && zero.is_backlogged());
        zero.send(CoreId(1), cancel(count));
        let mut got = VecDeque::new();
        one.receive(&mut got);
        assert!(rung(&mesh, 0), "the sender is told that there is room");
        while !zero.is_flushed() {
            zero.flush();
            one.receive(&mut got);
        }
        assert_eq!(keys(&got), (0..=count).collect::<Vec<_>>());
        assert_eq!(zero.stats().backlog, 0);
    }

    #[test]
    fn a_broadcast_reaches_all_but_the_sender() {
        let mesh = Arc::new(Mesh::new(3));
        let mut ends: Vec<MeshEnd> =
            (0..3).map(|core| MeshEnd::new(Arc::clone(&mesh), CoreId(core))).collect();
        ends[1].send_to_all_others(|| cancel(7));
        ends[1].flush();
        for (core, end) in ends.iter_mut().enumerate() {
            let mut got = VecDeque::new();
            end.receive(&mut got);
            assert_eq!(got.len(), usize::from(core != 1));
        }
    }
}
