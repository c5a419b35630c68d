//! The coordinator: all groups of one partition of the offsets topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine_api::{
    CommittedOffset, GroupAnswer, GroupAsk, GroupError, GroupListing, GroupRequest, JoinGroup,
    RebalanceCause, ReplySlot,
};
use storage_frame::Now;

use crate::describe;
use crate::desk::{Desk, Store, Then, Turn, Waiting};
use crate::group::{Group, Phase};
use crate::join::check_join;
#[cfg(test)]
use crate::limits::ENTRY_BYTES;
use crate::limits::{EXPIRY_EVERY_MAX, GROUP_ID_BYTES_MAX, GROUPS_MAX, GROUPS_PER_TICK, TOPICS_EVERY};
use crate::member::Member;
use crate::offsets::Applied;
use crate::record::{self, Change, StoredGroup};
use crate::seam::{Effect, GroupsConfig, Measured, Place, StoredRecord, Topics};

/// See the crate.
#[derive(Debug)]
pub struct Groups {
    config: GroupsConfig,
    groups: BTreeMap<Arc<str>, Group>,
    desk: Desk,
    is_loaded: bool,
    records_skipped: u64,
    topics_look_at: Duration,
    expiry_look_at: Duration,
    /// Groups still to be looked at for expired offsets.
    to_expire: VecDeque<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupsStats {
    pub groups: u64,
    pub members: u64,
    pub offsets: u64,
    /// Partitions whose member does nothing.
    pub stuck: u64,
    /// Since the start: generations made, and so on.
    pub rebalances: u64,
    pub sessions_expired: u64,
    pub commits: u64,
    pub offsets_expired: u64,
    pub records_skipped: u64,
}

impl Groups {
    #[must_use]
    pub fn new(config: GroupsConfig, now: Now) -> Self {
        let desk = Desk::new(config.seed);
        Self {
            config,
            groups: BTreeMap::new(),
            desk,
            is_loaded: false,
            records_skipped: 0,
            topics_look_at: now.mono,
            expiry_look_at: now.mono,
            to_expire: VecDeque::new(),
        }
    }

    /// While loading, in log order. Damaged and unknown records are skipped and counted.
    pub fn restore(&mut self, record: StoredRecord) {
        assert!(!self.is_loaded, "records are told before anything else");
        match record::parse(&record) {
            Ok(Change::Offset { group, topic, partition, to }) => {
                let id = self.restored(&group);
                let group = self.groups.get_mut(&id).expect("it was made");
                group.offsets.apply(&mut self.desk, Applied { topic, partition, to });
            }
            Ok(Change::Group { group, to }) => {
                let id = self.restored(&group);
                let group = self.groups.get_mut(&id).expect("it was made");
                restore_group(group, &mut self.desk, to.map(|to| *to));
            }
            Ok(Change::Reservation { group, upto }) => {
                let id = self.restored(&group);
                let group = self.groups.get_mut(&id).expect("it was made");
                group.has_record |= upto.is_some();
                group.generation_used = upto.map_or(0, |upto| group.generation_used.max(upto));
            }
            Err(_) => self.records_skipped += 1,
        }
    }

    fn restored(&mut self, id: &str) -> Arc<str> {
        if let Some((id, _)) = self.groups.get_key_value(id) {
            return Arc::clone(id);
        }
        let id: Arc<str> = id.into();
        self.insert(Group::new(Arc::clone(&id), Default::default()));
        id
    }

    fn insert(&mut self, group: Group) {
        self.desk.bytes += group.own_bytes();
        self.groups.insert(Arc::clone(&group.id), group);
    }

    /// Everything has been told. Members get a session's time to come back.
    pub fn loaded(&mut self, now: Now) {
        assert!(!self.is_loaded, "told once");
        self.is_loaded = true;
        self.groups.retain(|_, group| {
            let stays = !group.is_blank() || group.has_record;
            if !stays {
                self.desk.bytes = self.desk.bytes.saturating_sub(group.own_bytes());
            }
            stays
        });
        for group in self.groups.values_mut() {
            for member in group.members.values_mut() {
                member.renew(now.mono);
            }
            // Whatever was reserved may have been told.
            group.generation_reserved = group.generation_used;
            if let Some(at) = group.members.values().map(|member| member.expires_at).min() {
                group.phase = Phase::Stable { sync_deadline: None };
                group.wake_by(&mut self.desk, at);
            }
        }
        self.topics_look_at = now.mono;
        self.expiry_look_at = now.mono + self.expiry_every();
    }

    fn expiry_every(&self) -> Duration {
        (self.config.offsets_retention / 10).clamp(Duration::from_secs(1), EXPIRY_EVERY_MAX)
    }

    /// `topics` must know every topic there is.
    pub fn handle(&mut self, now: Now, slot: ReplySlot, request: GroupRequest, topics: &dyn Topics) {
        let GroupRequest { group: id, ask } = request;
        if let Err(error) = self.check(&id, &ask) {
            return self.desk.reply(slot, Err(error));
        }
        let is_new = !self.groups.contains_key(id.as_str());
        if is_new {
            if let Some(answer) = answer_of_unknown(&id, &ask) {
                return self.desk.reply(slot, answer);
            }
            if self.groups.len() >= GROUPS_MAX {
                return self.desk.reply(slot, Err(GroupError::Overloaded));
            }
            self.insert(Group::new(id.as_str().into(), now.wall));
        }
        self.with(&id, now, Some(topics), |group, turn| dispatch(group, turn, slot, ask));
    }

    fn check(&self, id: &str, ask: &GroupAsk) -> Result<(), GroupError> {
        if !self.is_loaded {
            return Err(GroupError::Loading);
        }
        let invalid = |why: &str| {
            Err(GroupError::InvalidGroup { group: id.chars().take(100).collect(), why: why.to_owned() })
        };
        if id.len() > GROUP_ID_BYTES_MAX {
            return invalid("it is longer than 4096 bytes");
        }
        match ask {
            GroupAsk::Join(join) if !id.is_empty() => check_join(&self.config, join),
            // Kafka's old consumers commit under the empty name.
            GroupAsk::Commit(_) | GroupAsk::FetchOffsets(_) | GroupAsk::Describe | GroupAsk::Delete => Ok(()),
            GroupAsk::Join(_)
            | GroupAsk::Sync(_)
            | GroupAsk::Heartbeat(_)
            | GroupAsk::Leave(_)
            | GroupAsk::DeleteOffsets(_) => {
                if id.is_empty() {
                    return invalid("it is empty");
                }
                Ok(())
            }
        }
    }

    /// Something happens to a group; afterwards it is gone if nothing is left of it.
    fn with<T>(
        &mut self,
        id: &str,
        now: Now,
        topics: Option<&dyn Topics>,
        then: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let mut turn = Turn { now, config: &self.config, desk: &mut self.desk, topics };
        let result = then(group, &mut turn);
        if group.is_blank() && !group.has_record {
            group.sleep(&mut self.desk);
            self.desk.bytes = self.desk.bytes.saturating_sub(group.own_bytes());
            self.groups.remove(id);
        }
        Some(result)
    }

    /// Timeouts, expiry, native groups' topics. Every 100 ms or so, once every topic is known.
    pub fn tick(&mut self, now: Now, topics: &dyn Topics) {
        if !self.is_loaded {
            return;
        }
        let late = |(at, _): &&(Duration, Arc<str>)| *at <= now.mono;
        let due: Vec<Arc<str>> =
            self.desk.timers.iter().take_while(late).map(|(_, id)| Arc::clone(id)).collect();
        for id in due {
            self.with(&id, now, Some(topics), |group, turn| {
                group.sleep(turn.desk);
                group.on_time(turn);
            });
        }
        if self.topics_look_at <= now.mono {
            self.topics_look_at = now.mono + TOPICS_EVERY;
            self.look_at_topics(now, topics);
        }
        self.expire(now);
    }

    fn look_at_topics(&mut self, now: Now, topics: &dyn Topics) {
        let has_changed = |group: &Group| {
            matches!(group.phase, Phase::Stable { .. })
                && group.is_native()
                && group.topics.iter().any(|(topic, count)| topics.partitions(topic).unwrap_or(0) != *count)
        };
        let changed: Vec<Arc<str>> = self
            .groups
            .values()
            .filter(|group| has_changed(group))
            .map(|group| Arc::clone(&group.id))
            .collect();
        for id in changed {
            reach::mark!("groups.native_topic_changed");
            self.with(&id, now, Some(topics), |group, turn| {
                group.prepare(turn, RebalanceCause::TopicChanged, "");
            });
        }
    }

    /// A bounded number of groups per call.
    fn expire(&mut self, now: Now) {
        if self.to_expire.is_empty() {
            if self.expiry_look_at > now.mono {
                return;
            }
            self.expiry_look_at = now.mono + self.expiry_every();
            self.to_expire.extend(self.groups.keys().cloned());
        }
        for _ in 0..GROUPS_PER_TICK {
            let Some(id) = self.to_expire.pop_front() else { return };
            self.with(&id, now, None, |group, turn| {
                group.expire_offsets(turn);
                if group.phase == Phase::Empty && group.is_blank() && group.has_record {
                    forget(group, turn, None, None);
                }
            });
        }
    }

    /// A topic is gone, and what was committed for it means nothing; so does what is on its way to the disk, or a
    /// topic made again under this name would begin there.
    pub fn topic_deleted(&mut self, now: Now, topic: &str) {
        let mut concerned: BTreeMap<Arc<str>, BTreeSet<u32>> = BTreeMap::new();
        for group in self.groups.values().filter(|group| group.offsets.has_topic(topic)) {
            let of_topic = group.offsets.iter().filter(|(name, ..)| *name == topic);
            let partitions = of_topic.map(|(_, partition, _)| partition).collect();
            concerned.insert(Arc::clone(&group.id), partitions);
        }
        for Store { group, then, .. } in self.desk.stores.values() {
            let Then::Apply { changes, .. } = then else { continue };
            let commits = changes.iter().filter(|change| change.topic == topic && change.to.is_some());
            for change in commits {
                concerned.entry(Arc::clone(group)).or_default().insert(change.partition);
            }
        }
        for (id, partitions) in concerned {
            let gone = partitions.into_iter().map(|partition| (topic.to_owned(), partition)).collect();
            self.with(&id, now, None, |group, turn| group.forget_offsets(turn, gone, None, None));
        }
    }

    /// The asker is gone: no answer.
    pub fn cancel(&mut self, now: Now, slot: ReplySlot) {
        match self.desk.waiting.remove(&slot) {
            Some(Waiting::Member { group, member }) => {
                self.with(&group, now, None, |group, turn| group.cancel(turn, &member, slot));
            }
            Some(Waiting::Store(ticket)) => {
                if let Some(store) = self.desk.stores.get_mut(&ticket) {
                    store.slot = None;
                }
            }
            None => {}
        }
    }

    /// The records of `ticket` are durable.
    pub fn stored(&mut self, now: Now, ticket: u64) {
        let Some(Store { group: id, slot, then }) = self.desk.stores.remove(&ticket) else { return };
        self.with(&id, now, None, |group, turn| {
            group.stores_pending -= 1;
            match then {
                Then::Apply { changes, answer } => {
                    for change in changes {
                        group.offsets.apply(turn.desk, change);
                    }
                    answer_stored(turn, slot, answer);
                }
                Then::Reserved { upto } => group.on_reserved(turn, ticket, upto),
                Then::Completed { generation } => group.on_completed(turn, ticket, generation),
                Then::Replaced { answer } => answer_stored(turn, slot, Some(answer)),
                Then::Emptied { upto } => group.raise_reserved(ticket, upto),
                Then::Forgotten { answer } => {
                    // Unless it has come to life again, in a record that comes later.
                    group.has_record &= group.recorded_by > ticket;
                    answer_stored(turn, slot, answer);
                }
            }
        });
    }

    /// The records of `ticket` never will be durable.
    pub fn store_failed(&mut self, now: Now, ticket: u64, error: GroupError) {
        let Some(Store { group: id, slot, then }) = self.desk.stores.remove(&ticket) else { return };
        reach::mark!("groups.store_failed");
        self.with(&id, now, None, |group, turn| {
            group.stores_pending -= 1;
            if let Some(slot) = slot {
                turn.reply(slot, Err(error.clone()));
            }
            match then {
                Then::Reserved { .. } => group.on_reserve_failed(turn, &error),
                Then::Completed { generation } => group.on_completion_failed(turn, generation, &error),
                // Nothing has changed, and nobody was told that it had.
                Then::Apply { .. }
                | Then::Replaced { .. }
                | Then::Emptied { .. }
                | Then::Forgotten { .. } => {}
            }
        });
    }

    /// Told every [`GroupsConfig::stuck_interval`], or more often, for each of [`places`](Self::places).
    pub fn lag_measured(&mut self, now: Now, group: &str, topic: &str, partition: u32, lag: Measured) {
        self.with(group, now, None, |group, turn| group.lag_measured(turn, topic, partition, lag));
    }

    pub fn poll(&mut self) -> Option<Effect> {
        self.desk.effects.pop_front()
    }

    #[must_use]
    pub fn list(&self) -> Vec<GroupListing> {
        self.groups.values().map(Group::list).collect()
    }

    /// Group, topic, partition.
    pub fn committed(&self) -> impl Iterator<Item = (&str, &str, u32, &CommittedOffset)> {
        self.groups.iter().flat_map(|(id, group)| {
            let each = move |(topic, partition, at)| {
                let at: &crate::offsets::Committed = at;
                (&**id, topic, partition, &at.committed)
            };
            group.offsets.iter().map(each)
        })
    }

    /// Groups, and how many members each has.
    pub fn members(&self) -> impl Iterator<Item = (&str, usize)> {
        self.groups.iter().map(|(id, group)| (&**id, group.members.len()))
    }

    /// Where groups are in the partitions that they have committed for, or that belong to a member; without the first
    /// `skip`, which are only counted.
    pub fn places(&self, mut skip: usize) -> impl Iterator<Item = Place<'_>> {
        self.groups.values().flat_map(move |group| {
            let count = group.places_count();
            let skipped = skip.min(count);
            skip -= skipped;
            let places = if skipped == count { Vec::new() } else { group.places() };
            places.into_iter().skip(skipped)
        })
    }

    #[must_use]
    pub fn places_count(&self) -> usize {
        self.groups.values().map(Group::places_count).sum()
    }

    /// Groups with partitions whose member does nothing, and how many.
    pub fn stuck(&self) -> impl Iterator<Item = (&str, u64)> {
        self.groups
            .iter()
            .map(|(id, group)| (&**id, group.watches.stuck_count() as u64))
            .filter(|(_, count)| *count > 0)
    }

    /// As counted, and as it is found by looking at everything.
    #[cfg(test)]
    pub(crate) fn bytes_counted_and_found(&self) -> (usize, usize) {
        let of = |group: &Group| {
            let members = group.members.iter().map(|(id, member)| id.len() + member.bytes());
            let handed_out = group.handed_out.keys().map(|id| ENTRY_BYTES + id.len());
            let offsets = group.offsets.iter().map(|(_, _, at)| ENTRY_BYTES + at.committed.metadata.len());
            group.own_bytes() + members.chain(handed_out).chain(offsets).sum::<usize>()
        };
        (self.desk.bytes, self.groups.values().map(of).sum())
    }

    #[must_use]
    pub fn stats(&self) -> GroupsStats {
        let sum = |of: fn(&Group) -> usize| self.groups.values().map(of).sum::<usize>() as u64;
        let counters = self.desk.counters;
        GroupsStats {
            groups: self.groups.len() as u64,
            members: sum(|group| group.members.len()),
            offsets: sum(|group| group.offsets.iter().count()),
            stuck: sum(|group| group.watches.stuck_count()),
            rebalances: counters.rebalances,
            sessions_expired: counters.sessions_expired,
            commits: counters.commits,
            offsets_expired: counters.offsets_expired,
            records_skipped: self.records_skipped,
        }
    }
}

/// What is said of a group that does not exist; `None`: it is to be made.
fn answer_of_unknown(id: &str, ask: &GroupAsk) -> Option<Result<GroupAnswer, GroupError>> {
    let unknown = |member: &str| GroupError::UnknownMember { member: member.to_owned() };
    let not_found = || GroupError::NotFound { group: id.to_owned() };
    Some(match ask {
        GroupAsk::Join(JoinGroup { member, .. }) if member.is_empty() => return None,
        GroupAsk::Commit(commit) if commit.member.generation < 0 => return None,
        GroupAsk::Join(join) => Err(unknown(&join.member)),
        GroupAsk::Sync(sync) => Err(unknown(&sync.member.member)),
        GroupAsk::Heartbeat(member) => Err(unknown(&member.member)),
        GroupAsk::Leave(leaving) => {
            Ok(GroupAnswer::Left(leaving.iter().map(|leaving| Err(unknown(&leaving.member))).collect()))
        }
        GroupAsk::Commit(commit) => {
            Err(GroupError::IllegalGeneration { sent: commit.member.generation, current: -1 })
        }
        GroupAsk::FetchOffsets(Some(wanted)) => {
            let none = |(topic, partitions): &(String, Vec<u32>)| {
                (topic.clone(), partitions.iter().map(|partition| (*partition, None)).collect())
            };
            Ok(GroupAnswer::Offsets(wanted.iter().map(none).collect()))
        }
        GroupAsk::FetchOffsets(None) => Ok(GroupAnswer::Offsets(Vec::new())),
        GroupAsk::Describe => Ok(GroupAnswer::Described(describe::dead(id))),
        GroupAsk::Delete | GroupAsk::DeleteOffsets(_) => Err(not_found()),
    })
}

fn dispatch(group: &mut Group, turn: &mut Turn<'_>, slot: ReplySlot, ask: GroupAsk) {
    match ask {
        GroupAsk::Join(join) => group.join(turn, slot, join),
        GroupAsk::Sync(sync) => group.sync(turn, slot, sync),
        GroupAsk::Heartbeat(member) => {
            let alive = group.heartbeat(turn, &member).map(|()| GroupAnswer::Alive);
            turn.reply(slot, alive);
        }
        GroupAsk::Leave(leaving) => {
            let left = leaving.iter().map(|leaving| group.leave(turn, leaving)).collect();
            turn.reply(slot, Ok(GroupAnswer::Left(left)));
        }
        GroupAsk::Commit(commit) => group.commit(turn, slot, commit),
        GroupAsk::FetchOffsets(wanted) => {
            let found = group.fetch_offsets(wanted);
            turn.reply(slot, Ok(found));
        }
        GroupAsk::Describe => {
            let description = group.describe();
            turn.reply(slot, Ok(GroupAnswer::Described(description)));
        }
        GroupAsk::Delete => delete(group, turn, slot),
        GroupAsk::DeleteOffsets(wanted) => group.delete_offsets(turn, slot, wanted),
    }
}

fn delete(group: &mut Group, turn: &mut Turn<'_>, slot: ReplySlot) {
    if group.phase != Phase::Empty {
        return turn.reply(slot, Err(GroupError::NotEmpty { group: group.id.to_string() }));
    }
    let gone: Vec<(String, u32)> =
        group.offsets.iter().map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
    group.forget_offsets(turn, gone, None, None);
    forget(group, turn, Some(slot), Some(GroupAnswer::Deleted));
}

/// Tombstones of the group's own records. Should it come to life again before they are durable, it reserves its
/// next generation anew: that record comes after them.
fn forget(group: &mut Group, turn: &mut Turn<'_>, slot: Option<ReplySlot>, answer: Option<GroupAnswer>) {
    group.generation_reserved = 0;
    group.forgotten_by = group.store(turn, slot, record::forget(&group.id), Then::Forgotten { answer });
}

fn answer_stored(turn: &mut Turn<'_>, slot: Option<ReplySlot>, answer: Option<GroupAnswer>) {
    if let (Some(slot), Some(answer)) = (slot, answer) {
        turn.reply(slot, Ok(answer));
    }
}

fn restore_group(group: &mut Group, desk: &mut Desk, to: Option<StoredGroup>) {
    for id in group.members.keys().cloned().collect::<Vec<_>>() {
        group.take_member(desk, &id);
    }
    group.topics.clear();
    let Some(to) = to else {
        *group = Group {
            offsets: std::mem::take(&mut group.offsets),
            ..Group::new(Arc::clone(&group.id), group.changed_at)
        };
        return;
    };
    group.has_record = true;
    group.generation = to.generation;
    group.generation_used = group.generation_used.max(to.reserved).max(to.generation);
    group.changed_at = to.changed_at;
    group.protocol_type = to.protocol_type;
    group.protocol = to.protocol;
    group.leader = None;
    for member in to.members {
        let id: Arc<str> = member.id.into();
        if to.leader.as_deref() == Some(&*id) {
            group.leader = Some(Arc::clone(&id));
        }
        for (topic, partitions) in &member.owned {
            let count = partitions.iter().max().map_or(0, |last| last.saturating_add(1));
            let known = group.topics.entry(topic.clone()).or_default();
            *known = count.max(*known);
        }
        if let engine_api::MemberProtocol::Native { topics, .. } = &member.protocol {
            for topic in topics {
                group.topics.entry(topic.clone()).or_default();
            }
        }
        let member = Member {
            instance: member.instance,
            client_id: member.client_id,
            client_host: member.client_host,
            session_timeout: member.session_timeout,
            rebalance_timeout: member.rebalance_timeout,
            protocol: member.protocol,
            assignment: member.assignment,
            owned: member.owned,
            has_joined: false,
            join: None,
            has_synced: true,
            sync: None,
            is_known: true,
            expires_at: Duration::ZERO,
        };
        if !group.members.contains_key(&id) {
            group.insert_member(desk, id, member);
        }
    }
}
