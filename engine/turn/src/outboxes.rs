//! What waits to leave for other cores, in order for each of them: this turn's messages behind those that found
//! their link full.

use std::collections::VecDeque;

use engine_api::CoreId;

use crate::message::Message;

/// A core with more messages than this waiting to leave takes no new requests. It goes on answering and
/// broadcasting, which the requests already taken bound.
pub(crate) const BACKLOG_MESSAGES_MAX: usize = 4096;

pub(crate) struct Outboxes {
    me: usize,
    by_destination: Vec<VecDeque<Message>>,
}

impl Outboxes {
    pub(crate) fn new(me: CoreId, mesh_ends: usize) -> Self {
        let me = usize::from(me.0);
        assert!(me < mesh_ends, "core {me} of {mesh_ends}");
        Self { me, by_destination: (0..mesh_ends).map(|_| VecDeque::new()).collect() }
    }

    pub(crate) fn send(&mut self, to: CoreId, message: Message) {
        self.outbox(to).push_back(message);
    }

    /// To the first `cores` but the sender: ends behind them are no cores.
    pub(crate) fn send_to_other_cores(&mut self, cores: usize, message: impl Fn() -> Message) {
        for (to, outbox) in self.by_destination[..cores].iter_mut().enumerate() {
            if to != self.me {
                outbox.push_back(message());
            }
        }
    }

    pub(crate) fn outbox(&mut self, to: CoreId) -> &mut VecDeque<Message> {
        let to = usize::from(to.0);
        assert!(to != self.me && to < self.by_destination.len(), "core {} sends to core {to}", self.me);
        &mut self.by_destination[to]
    }

    /// Nothing waits for a full link.
    pub(crate) fn is_flushed(&self) -> bool {
        self.by_destination.iter().all(VecDeque::is_empty)
    }

    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlog() > BACKLOG_MESSAGES_MAX
    }

    pub(crate) fn backlog(&self) -> usize {
        self.by_destination.iter().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use engine_api::ReplySlot;

    use super::*;

    #[test]
    fn a_broadcast_reaches_all_cores_but_the_sender_and_no_other_end() {
        let mut outboxes = Outboxes::new(CoreId(1), 4);
        outboxes.send_to_other_cores(3, || Message::Cancel(ReplySlot { core: CoreId(1), key: 7 }));
        let counts = [0, 2, 3].map(|to| outboxes.outbox(CoreId(to)).len());
        assert_eq!(counts, [1, 1, 0]);
        assert_eq!(outboxes.backlog(), 2);
        assert!(!outboxes.is_flushed() && !outboxes.is_backlogged());
    }
}
