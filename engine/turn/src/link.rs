//! The way from one core to another: a bounded queue that takes a turn's messages in one go.
//!
//! What does not fit stays with the sender, in order, and goes first next time; whoever empties a link that has
//! refused something tells the sender. A core empties its links whatever the state of its own backlog, so two cores
//! that are full of messages for each other both go on.

use std::collections::VecDeque;

use crate::message::Message;

/// Messages in one link of a node. A request is answered by the destination within its turn or waits in its shard,
/// so the queue is only as long as one turn of the destination makes it.
pub const LINK_MESSAGES_MAX: usize = 4096;

/// From one core to another; the way back is a link of its own.
#[derive(Debug)]
pub struct Link {
    messages: VecDeque<Message>,
    messages_max: usize,
    /// Something was refused since the link was last emptied.
    refused: bool,
}

impl Link {
    /// # Panics
    /// When nothing would ever fit.
    #[must_use]
    pub const fn new(messages_max: usize) -> Self {
        assert!(messages_max > 0, "a link carries something");
        Self { messages: VecDeque::new(), messages_max, refused: false }
    }

    /// Takes what fits from the front of `outbox`; returns how many messages that is. The receiver is to be told
    /// unless it is none.
    pub fn offer(&mut self, outbox: &mut VecDeque<Message>) -> usize {
        let fits = (self.messages_max - self.messages.len()).min(outbox.len());
        self.messages.extend(outbox.drain(..fits));
        reach::mark!("turn.link_full", !outbox.is_empty());
        self.refused |= !outbox.is_empty();
        fits
    }

    /// Moves everything behind what is in `inbox`. `true`: something had been refused, tell the sender that there
    /// is room.
    pub fn take(&mut self, inbox: &mut VecDeque<Message>) -> bool {
        inbox.append(&mut self.messages);
        std::mem::take(&mut self.refused)
    }

    /// Messages sent and not yet taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use engine_api::{CoreId, ReplySlot};

    use super::*;

    fn cancels(keys: std::ops::Range<u64>) -> VecDeque<Message> {
        keys.map(|key| Message::Cancel(ReplySlot { core: CoreId(0), key })).collect()
    }

    fn keys(messages: &VecDeque<Message>) -> Vec<u64> {
        let key = |message: &Message| match message {
            Message::Cancel(slot) => slot.key,
            other @ (Message::Request { .. }
            | Message::Reply { .. }
            | Message::Meta(_)
            | Message::MetaApplied { .. }) => panic!("{other:?}"),
        };
        messages.iter().map(key).collect()
    }

    #[test]
    fn a_turn_s_messages_go_over_together() {
        let mut link = Link::new(10);
        let (mut outbox, mut inbox) = (cancels(0..10), VecDeque::new());
        assert_eq!(link.offer(&mut outbox), 10);
        assert_eq!((outbox.len(), link.count()), (0, 10));
        assert!(!link.take(&mut inbox), "nothing was refused");
        assert_eq!((keys(&inbox), link.count()), ((0..10).collect(), 0));
    }

    #[test]
    fn a_full_link_keeps_the_rest_with_its_sender_in_order_and_says_so_once() {
        let mut link = Link::new(4);
        let (mut outbox, mut inbox) = (cancels(0..6), VecDeque::new());
        assert_eq!(link.offer(&mut outbox), 4);
        outbox.extend(cancels(6..7));
        assert_eq!(link.offer(&mut outbox), 0);
        assert!(link.take(&mut inbox), "the sender is told that there is room");
        assert!(!link.take(&mut inbox), "once");
        assert_eq!(link.offer(&mut outbox), 3);
        assert!(!link.take(&mut inbox));
        assert_eq!(keys(&inbox), (0..7).collect::<Vec<_>>());
    }
}
