//! One group: its phase, members, numbers and offsets.
//!
//! ```text
//! Empty -> Preparing -> Completing -> Stable
//!   ^          |  ^________|____________|     whoever comes, goes or changes
//!   '----------'                              nobody is left
//! ```
//! Preparing: members are to join again. Completing: the generation is made, and its assignment is on its way from
//! the leader (classic) or to the disk (both kinds). Stable: members know it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine_api::{GroupError, GroupState, MemberProtocol, NATIVE_PROTOCOL_TYPE, RebalanceEvent, ReplySlot};
use storage_frame::TimestampMs;

use crate::desk::{Desk, Store, Then, Turn};
use crate::limits::ENTRY_BYTES;
use crate::member::{Member, Members};
use crate::offsets::Offsets;
use crate::record;
use crate::seam::StoredRecord;
use crate::stuck::Watches;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) phase: Phase,
    /// What its members speak, or spoke last; `None`: it never had any.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<Arc<str>>,
    /// The last one made.
    pub(crate) generation: i32,
    /// No number up to it may be given again: `generation <= generation_used`.
    pub(crate) generation_used: i32,
    /// Durable: numbers up to it may be told.
    pub(crate) generation_reserved: i32,
    pub(crate) is_reserving: bool,
    pub(crate) members: Members,
    /// Ids handed out (KIP-394) to members that have not come back yet, and until when they may.
    pub(crate) handed_out: BTreeMap<Arc<str>, Duration>,
    /// Static members by instance.
    pub(crate) statics: BTreeMap<String, Arc<str>>,
    pub(crate) offsets: Offsets,
    pub(crate) stores_pending: u32,
    /// There are records of the group itself, or will be.
    pub(crate) has_record: bool,
    /// The last ticket of its own records, in this life of the coordinator.
    pub(crate) recorded_by: u64,
    /// The last ticket of its own records' tombstones.
    pub(crate) forgotten_by: u64,
    /// When it became empty, or its last generation complete.
    pub(crate) changed_at: TimestampMs,
    pub(crate) events: VecDeque<RebalanceEvent>,
    pub(crate) rebalancing_since: Option<Duration>,
    /// Its place among the timers.
    pub(crate) wake_at: Option<Duration>,
    /// Native: partitions of each topic subscribed to, as they were assigned.
    pub(crate) topics: BTreeMap<String, u32>,
    pub(crate) watches: Watches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Preparing {
        deadline: Duration,
        initial: Option<Initial>,
    },
    Completing {
        deadline: Duration,
        is_storing: bool,
    },
    /// Until `sync_deadline` there are members that have not asked for their assignment.
    Stable {
        sync_deadline: Option<Duration>,
    },
}

/// The first members of an empty group wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Initial {
    /// How much longer than its deadline this may take.
    pub(crate) left: Duration,
    /// Somebody has joined since the deadline was set.
    pub(crate) has_new: bool,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now: TimestampMs) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            protocol_type: None,
            protocol: None,
            leader: None,
            generation: 0,
            generation_used: 0,
            generation_reserved: 0,
            is_reserving: false,
            members: Members::new(),
            handed_out: BTreeMap::new(),
            statics: BTreeMap::new(),
            offsets: Offsets::default(),
            stores_pending: 0,
            has_record: false,
            recorded_by: 0,
            forgotten_by: 0,
            changed_at: now,
            events: VecDeque::new(),
            rebalancing_since: None,
            wake_at: None,
            topics: BTreeMap::new(),
            watches: Watches::default(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    pub(crate) fn is_native(&self) -> bool {
        self.protocol_type.as_deref() == Some(NATIVE_PROTOCOL_TYPE)
    }

    /// Nobody and nothing in it, in memory or on its way to the disk.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.is_empty()
            && self.handed_out.is_empty()
            && self.offsets.is_empty()
            && self.stores_pending == 0
    }

    /// Who says that it is `member`, is.
    pub(crate) fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMember { member: member.into() };
        if let Some(instance) = instance {
            let owner = self.statics.get(instance).ok_or_else(unknown)?;
            if **owner != *member {
                return Err(GroupError::Fenced { instance: instance.into() });
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(unknown()) }
    }

    pub(crate) fn check_generation(&self, sent: i32) -> Result<(), GroupError> {
        let current = self.generation;
        if sent == current { Ok(()) } else { Err(GroupError::IllegalGeneration { sent, current }) }
    }

    pub(crate) fn insert_member(&mut self, desk: &mut Desk, id: Arc<str>, member: Member) {
        desk.bytes += id.len() + member.bytes();
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), Arc::clone(&id));
        }
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a member's id is its own");
    }

    /// Whoever waits in it is for the caller to answer.
    pub(crate) fn take_member(&mut self, desk: &mut Desk, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        desk.bytes = desk.bytes.saturating_sub(id.len() + member.bytes());
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        Some(member)
    }

    /// Whoever has asked for an id may come back with it until then.
    pub(crate) fn hand_out(&mut self, desk: &mut Desk, id: Arc<str>, until: Duration) {
        desk.bytes += ENTRY_BYTES + id.len();
        let before = self.handed_out.insert(id, until);
        assert!(before.is_none(), "an id is handed out once");
        self.wake_by(desk, until);
    }

    pub(crate) fn take_handed_out(&mut self, desk: &mut Desk, id: &str) -> Option<Arc<str>> {
        let (id, _) = self.handed_out.remove_entry(id)?;
        desk.bytes = desk.bytes.saturating_sub(ENTRY_BYTES + id.len());
        Some(id)
    }

    /// Of the group itself, whoever is in it.
    pub(crate) fn own_bytes(&self) -> usize {
        ENTRY_BYTES + self.id.len()
    }

    pub(crate) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Topics that members subscribe to; `None`: nobody here can tell.
    pub(crate) fn subscribed(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            match &member.protocol {
                MemberProtocol::Native { topics, .. } => all.extend(topics.iter().cloned()),
                MemberProtocol::Classic { protocol_type, .. } => {
                    if protocol_type != crate::consumer::PROTOCOL_TYPE {
                        return None;
                    }
                    all.extend(crate::consumer::topics(&member.metadata(protocol))?);
                }
            }
        }
        Some(all)
    }

    pub(crate) fn store(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Option<ReplySlot>,
        records: Vec<StoredRecord>,
        then: Then,
    ) -> u64 {
        self.stores_pending += 1;
        turn.desk.store(records, Store { group: Arc::clone(&self.id), slot, then })
    }

    /// Its record as it is now, which reserves the next generation too.
    pub(crate) fn store_group(&mut self, turn: &mut Turn<'_>, slot: Option<ReplySlot>, then: Then) {
        self.has_record = true;
        let record = record::group(self, self.generation_used + 1);
        self.recorded_by = self.store(turn, slot, vec![record], then);
    }

    /// Is looked at then, if not before.
    pub(crate) fn wake_by(&mut self, desk: &mut Desk, at: Duration) {
        if self.wake_at.is_some_and(|before| before <= at) {
            return;
        }
        self.sleep(desk);
        desk.timers.insert((at, Arc::clone(&self.id)));
        self.wake_at = Some(at);
    }

    pub(crate) fn sleep(&mut self, desk: &mut Desk) {
        if let Some(before) = self.wake_at.take() {
            desk.timers.remove(&(before, Arc::clone(&self.id)));
        }
    }

    /// What is over by now; then sleeps until the next deadline.
    pub(crate) fn on_time(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let is_over = |(_, until): &(&Arc<str>, &Duration)| **until <= now;
        for id in self.handed_out.iter().filter(is_over).map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
            self.take_handed_out(turn.desk, &id);
        }
        self.expire_sessions(turn);
        match self.phase {
            Phase::Preparing { deadline, .. } if deadline <= now => self.on_join_deadline(turn),
            Phase::Preparing { .. } => self.try_complete(turn),
            Phase::Completing { deadline, .. } if deadline <= now => self.on_sync_deadline(turn),
            Phase::Stable { sync_deadline: Some(deadline) } if deadline <= now => self.on_sync_deadline(turn),
            Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => {}
        }
        if let Some(at) = self.next_deadline() {
            self.wake_by(turn.desk, at);
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let phase = match self.phase {
            Phase::Empty => None,
            // Whoever has stored the reservation goes on.
            Phase::Preparing { .. } if self.is_reserving => None,
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline, .. } => Some(deadline),
            Phase::Stable { sync_deadline } => sync_deadline,
        };
        let sessions = self.members.values().filter(|member| !member.is_waiting());
        let sessions = sessions.map(|member| member.expires_at).min();
        [phase, sessions, self.handed_out.values().min().copied()].into_iter().flatten().min()
    }
}
