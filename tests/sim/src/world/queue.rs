//! What happens next: events by virtual time; those of one moment in an order drawn by chance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use storage_frame::LogId;
use storage_log::OpId;
use tests_disk::Dice;

use crate::net::PipeId;

/// Something that is due. What belongs to a process of the node carries its life, and is nothing to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The process is to be started.
    Start,
    /// A core takes a turn.
    Turn {
        life: u32,
        core: u8,
    },
    Tick {
        life: u32,
        core: u8,
    },
    FreeSpace {
        life: u32,
        core: u8,
    },
    DiskDone {
        life: u32,
        core: u8,
        log: LogId,
        op: OpId,
    },
    /// Answers to the direct clients have arrived.
    Answers {
        life: u32,
    },
    /// Something may have changed on a connection of Kafka's clients.
    Pipe(PipeId),
    /// The workload does something.
    Work,
    /// Something is done to the node.
    Chaos,
    /// A direct client looks at what it has to try again.
    Retry,
}

#[derive(Debug)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Duration, u64, u64, Event)>>,
    pushed: u64,
    dice: Dice,
}

impl Queue {
    pub(crate) fn new(seed: u64) -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0, dice: Dice::new(seed, "order") }
    }

    pub(crate) fn push(&mut self, at: Duration, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse((at, self.dice.roll(), self.pushed, event)));
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, Event)> {
        self.heap.pop().map(|Reverse((at, _, _, event))| (at, event))
    }
}
