//! Requests that wait for something: data, the disk, a log to open. One entry each, found by its key, by its
//! slot, or by its deadline; never by looking through partitions.

use std::collections::BTreeSet;
use std::time::Duration;

use ahash::AHashMap;
use engine_api::{Fetch, FindOffset, ReplySlot, Request};
use slab::Slab;

/// A partition's place in the roster.
pub(crate) type PartitionKey = usize;
pub(crate) type WaiterKey = usize;

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) slot: ReplySlot,
    pub(crate) partition: PartitionKey,
    pub(crate) deadline: Option<Duration>,
    pub(crate) what: Waiting,
}

#[derive(Debug)]
pub(crate) enum Waiting {
    /// Until the partition's log is open; `bytes` of memory are taken.
    Held {
        request: Request,
        bytes: usize,
    },
    /// Until the partition has committed `wake_bytes` since it was opened.
    Data {
        fetch: Fetch,
        wake_bytes: u64,
    },
    /// Until other reads have given memory back.
    Memory(Fetch),
    /// Until the disk has answered; `bytes` of memory are set aside.
    Read {
        fetch: Fetch,
        bytes: usize,
    },
    Find {
        find: FindOffset,
        bytes: usize,
    },
    /// The asker of a read or a find is gone, the disk is still at it.
    Abandoned {
        bytes: usize,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    entries: Slab<Waiter>,
    by_slot: AHashMap<ReplySlot, WaiterKey>,
    deadlines: BTreeSet<(Duration, WaiterKey)>,
}

impl Waiters {
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn add(&mut self, waiter: Waiter) -> WaiterKey {
        let (slot, deadline) = (waiter.slot, waiter.deadline);
        let key = self.entries.insert(waiter);
        self.by_slot.insert(slot, key);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, key));
        }
        key
    }

    pub(crate) fn find(&self, slot: ReplySlot) -> Option<WaiterKey> {
        self.by_slot.get(&slot).copied()
    }

    /// Nobody waits for the read any more; its memory is taken until the disk has answered.
    pub(crate) fn abandon(&mut self, key: WaiterKey, bytes: usize) {
        let waiter = &mut self.entries[key];
        assert!(waiter.deadline.is_none(), "the disk takes as long as it takes");
        waiter.what = Waiting::Abandoned { bytes };
        let slot = waiter.slot;
        if self.by_slot.get(&slot) == Some(&key) {
            self.by_slot.remove(&slot);
        }
    }

    pub(crate) fn at(&self, key: WaiterKey) -> Option<&Waiter> {
        self.entries.get(key)
    }

    /// # Panics
    /// When there is no such waiter: whoever removes one takes its key out of its partition too.
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Waiter {
        let waiter = self.entries.remove(key);
        if self.by_slot.get(&waiter.slot) == Some(&key) {
            self.by_slot.remove(&waiter.slot);
        }
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        waiter
    }

    /// One whose deadline is over; it stays until it is removed.
    pub(crate) fn first_overdue(&self, now: Duration) -> Option<WaiterKey> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| *key)
    }
}
