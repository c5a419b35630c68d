//! What the cores of a node share to send each other messages: a link for each ordered pair, a doorbell for each
//! core. The order of messages, their bounds and what happens at them are `engine/turn`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use engine_api::CoreId;
use engine_turn::{Link, Message};

use crate::signal::{Doorbell, lock};
use crate::sync::Mutex;

/// Messages between this core and the others.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeshStats {
    pub sent: u64,
    pub received: u64,
    /// Batches sent: one per turn and destination.
    pub batches: u64,
    /// Now: messages sent to this core and not yet taken.
    pub inbox: u64,
    /// Now: messages of this core that found the other side's inbox full.
    pub backlog: u64,
}

/// What all cores of a node share.
pub(crate) struct Mesh {
    /// `links[from][to]`; those to oneself stay empty.
    links: Vec<Vec<Mutex<Link>>>,
    pub(crate) doorbells: Vec<Arc<Doorbell>>,
}

impl Mesh {
    pub(crate) fn new(cores: usize, link_messages_max: usize) -> Self {
        let link = || Mutex::new(Link::new(link_messages_max));
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
    me: CoreId,
    sent: u64,
    received: u64,
    batches: u64,
}

impl MeshEnd {
    pub(crate) fn new(mesh: Arc<Mesh>, me: CoreId) -> Self {
        Self { me, mesh, sent: 0, received: 0, batches: 0 }
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let me = self.me;
        (0..=u8::MAX).map(CoreId).take(self.mesh.cores()).filter(move |core| *core != me)
    }

    /// Hands over what fits of `outbox`, as one batch.
    pub(crate) fn offer(&mut self, to: CoreId, outbox: &mut VecDeque<Message>) {
        if outbox.is_empty() {
            return;
        }
        let taken = lock(self.link(self.me, to)).offer(outbox);
        if taken > 0 {
            self.sent += taken as u64;
            self.batches += 1;
            self.mesh.doorbells[usize::from(to.0)].ring();
        }
    }

    /// Moves everything that other cores have sent to `inbox`, in order per sender.
    pub(crate) fn receive(&mut self, inbox: &mut VecDeque<Message>) {
        let before = inbox.len();
        for from in self.others() {
            let refused = lock(self.link(from, self.me)).take(inbox);
            if refused {
                self.mesh.doorbells[usize::from(from.0)].ring();
            }
        }
        self.received += (inbox.len() - before) as u64;
    }

    fn link(&self, from: CoreId, to: CoreId) -> &Mutex<Link> {
        &self.mesh.links[usize::from(from.0)][usize::from(to.0)]
    }

    pub(crate) fn stats(&self, backlog: usize) -> MeshStats {
        let inbox = self.others().map(|from| lock(self.link(from, self.me)).count() as u64);
        MeshStats {
            sent: self.sent,
            received: self.received,
            batches: self.batches,
            inbox: inbox.sum(),
            backlog: backlog as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use engine_api::ReplySlot;
    use engine_turn::LINK_MESSAGES_MAX;
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const ZERO: CoreId = CoreId(0);
    const ONE: CoreId = CoreId(1);

    fn pair() -> (Arc<Mesh>, MeshEnd, MeshEnd) {
        let mesh = Arc::new(Mesh::new(2, LINK_MESSAGES_MAX));
        (Arc::clone(&mesh), MeshEnd::new(Arc::clone(&mesh), ZERO), MeshEnd::new(mesh, ONE))
    }

    fn cancels(count: usize) -> VecDeque<Message> {
        (0..count as u64).map(|key| Message::Cancel(ReplySlot { core: ZERO, key })).collect()
    }

    fn rung(mesh: &Mesh, core: usize) -> bool {
        block_on(poll_once(poll_fn(|context| mesh.doorbells[core].poll(context)))).is_some()
    }

    #[test]
    fn a_turn_s_messages_leave_together_and_ring_once() {
        let (mesh, mut zero, mut one) = pair();
        zero.offer(ONE, &mut VecDeque::new());
        assert!(!rung(&mesh, 1), "nothing was sent");
        zero.offer(ONE, &mut cancels(10));
        assert!(rung(&mesh, 1) && !rung(&mesh, 0));
        assert_eq!(one.stats(0).inbox, 10);
        let mut got = VecDeque::new();
        one.receive(&mut got);
        assert_eq!(got.len(), 10);
        assert!(!rung(&mesh, 0), "nobody waits for room");
        assert_eq!((zero.stats(0).batches, zero.stats(0).sent), (1, 10));
        assert_eq!((one.stats(0).received, one.stats(0).inbox), (10, 0));
    }

    #[test]
    fn a_sender_whose_messages_were_refused_is_told_when_there_is_room() {
        let (mesh, mut zero, mut one) = pair();
        let mut outbox = cancels(LINK_MESSAGES_MAX + 1);
        zero.offer(ONE, &mut outbox);
        assert_eq!(outbox.len(), 1);
        assert!(rung(&mesh, 1));
        zero.offer(ONE, &mut outbox);
        assert!(!rung(&mesh, 1), "nothing new");
        one.receive(&mut VecDeque::new());
        assert!(rung(&mesh, 0));
    }

    #[test]
    fn every_core_has_all_others() {
        let mesh = Arc::new(Mesh::new(3, LINK_MESSAGES_MAX));
        let others = |me| MeshEnd::new(Arc::clone(&mesh), CoreId(me)).others().collect::<Vec<_>>();
        assert_eq!(others(1), [ZERO, CoreId(2)]);
        assert_eq!(others(2), [ZERO, ONE]);
    }
}
