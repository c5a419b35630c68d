//! What all groups of a coordinator share: effects on their way out, who waits for what, timers, new ids.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine_api::{GroupAnswer, GroupError, ReplySlot};
use storage_frame::Now;

use crate::offsets::Applied;
use crate::seam::{Effect, GroupsConfig, StoredRecord, Topics};

#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) effects: VecDeque<Effect>,
    /// Whoever is to be answered later.
    pub(crate) waiting: BTreeMap<ReplySlot, Waiting>,
    pub(crate) stores: BTreeMap<u64, Store>,
    next_ticket: u64,
    pub(crate) timers: BTreeSet<(Duration, Arc<str>)>,
    ids: Ids,
    /// Held by groups, their members, ids handed out and offsets, roughly.
    pub(crate) bytes: usize,
    pub(crate) counters: Counters,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) rebalances: u64,
    pub(crate) sessions_expired: u64,
    pub(crate) commits: u64,
    pub(crate) offsets_expired: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Waiting {
    /// A member's Join or Sync.
    Member {
        group: Arc<str>,
        member: Arc<str>,
    },
    Store(u64),
}

/// Records on their way to the disk, and what is to happen then.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) group: Arc<str>,
    pub(crate) slot: Option<ReplySlot>,
    pub(crate) then: Then,
}

#[derive(Debug)]
pub(crate) enum Then {
    Apply {
        changes: Vec<Applied>,
        answer: Option<GroupAnswer>,
    },
    /// Numbers up to this one may be told.
    Reserved {
        upto: i32,
    },
    /// The members of this generation may know their assignments.
    Completed {
        generation: i32,
    },
    /// A static member may know its new id.
    Replaced {
        answer: GroupAnswer,
    },
    /// The last member has left.
    Emptied {
        upto: i32,
    },
    /// The group's own records are gone.
    Forgotten {
        answer: Option<GroupAnswer>,
    },
}

impl Desk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            effects: VecDeque::new(),
            waiting: BTreeMap::new(),
            stores: BTreeMap::new(),
            next_ticket: 1,
            timers: BTreeSet::new(),
            ids: Ids { state: seed },
            bytes: 0,
            counters: Counters::default(),
        }
    }

    pub(crate) fn reply(&mut self, slot: ReplySlot, result: Result<GroupAnswer, GroupError>) {
        self.waiting.remove(&slot);
        self.effects.push_back(Effect::Reply(slot, result));
    }

    pub(crate) fn store(&mut self, records: Vec<StoredRecord>, store: Store) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(slot) = store.slot {
            self.waiting.insert(slot, Waiting::Store(ticket));
        }
        self.stores.insert(ticket, store);
        self.effects.push_back(Effect::Store { ticket, records });
        ticket
    }

    pub(crate) fn event(&mut self, name: &'static str, fields: Vec<(&'static str, String)>) {
        self.effects.push_back(Effect::Event(name, fields));
    }

    pub(crate) fn new_member_id(&mut self, prefix: &str) -> Arc<str> {
        let (high, low) = (self.ids.next(), self.ids.next());
        // As a UUID looks, for tools that cut it off.
        let hex = format!("{high:016x}{low:016x}");
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        format!("{prefix}-{}", parts.join("-")).into()
    }
}

/// SplitMix64: ids differ within a life, and from one life to the next by the seed.
#[derive(Debug)]
struct Ids {
    state: u64,
}

impl Ids {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a group needs around it while something happens to it.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupsConfig,
    pub(crate) desk: &'a mut Desk,
    /// Absent where nobody has said what topics there are: what needs them waits for the next tick.
    pub(crate) topics: Option<&'a dyn Topics>,
}

impl Turn<'_> {
    pub(crate) fn reply(&mut self, slot: ReplySlot, result: Result<GroupAnswer, GroupError>) {
        self.desk.reply(slot, result);
    }

    pub(crate) fn wait(&mut self, slot: ReplySlot, group: &Arc<str>, member: &Arc<str>) {
        let waiting = Waiting::Member { group: Arc::clone(group), member: Arc::clone(member) };
        self.desk.waiting.insert(slot, waiting);
    }
}
