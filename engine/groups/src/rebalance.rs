//! From one generation to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine_api::{Assignor, GroupAnswer, GroupError, MemberProtocol, RebalanceCause, RebalanceEvent};

use crate::assign;
use crate::desk::{Then, Turn};
use crate::group::{Group, Initial, Phase};
use crate::join::supports;
use crate::limits::EVENTS_MAX;
use crate::member::{Member, Owned, assignor_name};
use crate::record;

impl Group {
    /// Something has changed: the members that there are now must make a generation.
    pub(crate) fn prepare(&mut self, turn: &mut Turn<'_>, cause: RebalanceCause, member: &str) {
        let now = turn.now.mono;
        match self.phase {
            Phase::Preparing { .. } => {}
            Phase::Empty => {
                let delay = turn.config.initial_rebalance_delay;
                let initial =
                    Initial { left: self.rebalance_timeout().saturating_sub(delay), has_new: false };
                self.begin(turn, now + delay, Some(initial), cause, member);
            }
            Phase::Completing { .. } | Phase::Stable { .. } => {
                for member in self.members.values_mut() {
                    if let Some(sync) = member.sync.take() {
                        turn.desk.reply(sync, Err(GroupError::RebalanceInProgress));
                        member.renew(now);
                    }
                }
                self.begin(turn, now + self.rebalance_timeout(), None, cause, member);
            }
        }
        self.try_complete(turn);
        self.look_at_deadlines(turn);
    }

    fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        deadline: Duration,
        initial: Option<Initial>,
        cause: RebalanceCause,
        member: &str,
    ) {
        self.phase = Phase::Preparing { deadline, initial };
        self.end_event(turn);
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(RebalanceEvent {
            at: turn.now.wall,
            generation: self.generation,
            cause,
            member: member.to_owned(),
            duration: None,
        });
        self.rebalancing_since = Some(turn.now.mono);
        // Meanwhile members find out, so that it costs them nothing.
        if !self.is_native() {
            self.reserve(turn);
        }
    }

    /// The rebalance under way has come to an end, or to the beginning of another.
    fn end_event(&mut self, turn: &Turn<'_>) {
        if let Some(since) = self.rebalancing_since.take()
            && let Some(event) = self.events.back_mut()
        {
            event.duration = Some(turn.now.mono.saturating_sub(since));
            event.generation = self.generation;
        }
    }

    fn look_at_deadlines(&mut self, turn: &mut Turn<'_>) {
        let phase = match self.phase {
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline, .. } => Some(deadline),
            Phase::Stable { sync_deadline } => sync_deadline,
            Phase::Empty => None,
        };
        let sessions = self.members.values().filter(|member| !member.is_waiting());
        let first = sessions.map(|member| member.expires_at).chain(phase).min();
        if let Some(at) = first {
            self.wake_by(turn.desk, at);
        }
    }

    /// Ends the preparation if everybody is there.
    pub(crate) fn try_complete(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { deadline, initial } = self.phase else { return };
        let is_over = deadline <= turn.now.mono;
        let all_joined = self.members.values().all(|member| member.has_joined) && self.handed_out.is_empty();
        // The first members wait for others whoever is there.
        let nobody_left = self.members.is_empty() && self.handed_out.is_empty();
        if nobody_left || (all_joined && (initial.is_none() || is_over)) {
            self.complete(turn);
        }
    }

    pub(crate) fn on_join_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Preparing { deadline, initial: Some(initial) } = &mut self.phase
            && initial.has_new
            && !initial.left.is_zero()
        {
            let more = turn.config.initial_rebalance_delay.min(initial.left);
            initial.left -= more;
            initial.has_new = false;
            *deadline = turn.now.mono + more;
            return;
        }
        self.complete(turn);
    }

    /// Makes the next generation of the members that have joined.
    fn complete(&mut self, turn: &mut Turn<'_>) {
        self.remove_absent(turn);
        if self.members.is_empty() {
            return self.become_empty(turn);
        }
        if !self.members.values().any(|member| member.has_joined) {
            // Only static members, which may be away for a while: their sessions decide.
            self.phase =
                Phase::Preparing { deadline: turn.now.mono + self.rebalance_timeout(), initial: None };
            return self.look_at_deadlines(turn);
        }
        if self.is_native() { self.complete_native(turn) } else { self.complete_classic(turn) }
    }

    /// Whoever has not joined in time is out, but for classic static members.
    fn remove_absent(&mut self, turn: &mut Turn<'_>) {
        let is_native = self.is_native();
        let is_absent = |member: &Member| !member.has_joined && (is_native || member.instance.is_none());
        let absent: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| is_absent(member))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in absent {
            reach::mark!("groups.member_did_not_rejoin");
            self.drop_member(turn, &id);
            self.tell_removed(turn, &id, "rebalance_timeout");
            if let Some(event) = self.events.back_mut().filter(|event| event.duration.is_none()) {
                event.cause = RebalanceCause::RebalanceTimedOut;
                event.member = id.to_string();
            }
        }
    }

    pub(crate) fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.generation_used += 1;
        self.generation = self.generation_used;
        self.phase = Phase::Empty;
        self.protocol = None;
        self.leader = None;
        self.topics.clear();
        self.watches.clear();
        self.changed_at = turn.now.wall;
        self.end_event(turn);
        if self.has_record {
            let upto = self.generation_used + 1;
            self.store_group(turn, None, Then::Emptied { upto });
        }
    }

    fn complete_classic(&mut self, turn: &mut Turn<'_>) {
        if self.generation_used + 1 > self.generation_reserved {
            reach::mark!("groups.generation_waits_for_reservation");
            return self.reserve(turn);
        }
        self.begin_generation(turn);
        self.protocol = Some(self.select_protocol());
        self.elect_leader();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let mut member = self.take_member(turn.desk, &id).expect("it is a member");
            member.assignment = bytes::Bytes::new();
            member.owned.clear();
            // A static member that is away is not waited for.
            member.has_synced = !member.has_joined;
            if member.has_joined {
                member.renew(turn.now.mono);
            }
            member.has_joined = false;
            if let Some(slot) = member.join.take() {
                member.is_known = true;
                turn.reply(slot, Ok(GroupAnswer::Joined(joined)));
            }
            self.insert_member(turn.desk, id, member);
        }
        self.look_at_deadlines(turn);
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.generation_used += 1;
        self.generation = self.generation_used;
        self.watches.clear();
        turn.desk.counters.rebalances += 1;
        let deadline = turn.now.mono + self.rebalance_timeout();
        self.phase = Phase::Completing { deadline, is_storing: false };
    }

    /// The leader stays while it joins.
    fn elect_leader(&mut self) {
        let has_joined = |id: &&Arc<str>| self.members.get(*id).is_some_and(|member| member.has_joined);
        if self.leader.as_ref().filter(has_joined).is_none() {
            self.leader = self.members.keys().find(has_joined).cloned();
        }
    }

    /// Every member votes for the first of its protocols that all support; the first name at a tie.
    pub(crate) fn select_protocol(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let MemberProtocol::Classic { protocols, .. } = &member.protocol else { continue };
            let common = |name: &str| self.members.values().all(|member| supports(member, name));
            if let Some((name, _)) = protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let best = votes.iter().max_by_key(|(name, count)| (**count, std::cmp::Reverse(**name)));
        // Members that have none in common were refused when they joined.
        best.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }

    /// Asks for the next number to be made sure of, unless that is so or under way.
    fn reserve(&mut self, turn: &mut Turn<'_>) {
        let upto = self.generation_used + 1;
        if self.generation_reserved >= upto || self.is_reserving {
            return;
        }
        self.is_reserving = true;
        self.has_record = true;
        let record = record::reservation(&self.id, upto);
        self.recorded_by = self.store(turn, None, vec![record], Then::Reserved { upto });
    }

    /// Unless it has been forgotten in a record that comes later.
    pub(crate) fn raise_reserved(&mut self, ticket: u64, upto: i32) {
        if ticket > self.forgotten_by {
            self.generation_reserved = self.generation_reserved.max(upto);
        }
    }

    pub(crate) fn on_reserved(&mut self, turn: &mut Turn<'_>, ticket: u64, upto: i32) {
        self.is_reserving = false;
        self.raise_reserved(ticket, upto);
        if let Phase::Preparing { deadline, .. } = self.phase {
            if deadline <= turn.now.mono {
                self.on_join_deadline(turn)
            } else {
                self.try_complete(turn)
            }
            self.look_at_deadlines(turn);
        }
    }

    /// Whoever waits is told; the next who joins tries again.
    pub(crate) fn on_reserve_failed(&mut self, turn: &mut Turn<'_>, error: &GroupError) {
        self.is_reserving = false;
        if let Phase::Preparing { .. } = self.phase {
            let deadline = turn.now.mono + self.rebalance_timeout();
            self.phase = Phase::Preparing { deadline, initial: None };
            self.fail_joins(turn, error);
            self.look_at_deadlines(turn);
        }
    }

    fn fail_joins(&mut self, turn: &mut Turn<'_>, error: &GroupError) {
        let waiting = |(id, member): (&Arc<str>, &Member)| member.join.map(|slot| (Arc::clone(id), slot));
        for (id, slot) in self.members.iter().filter_map(waiting).collect::<Vec<_>>() {
            turn.reply(slot, Err(error.clone()));
            let member = self.members.get_mut(&id).expect("it was listed");
            member.join = None;
            member.has_joined = false;
            member.renew(turn.now.mono);
            if !member.is_known {
                self.drop_member(turn, &id);
            }
        }
    }

    fn complete_native(&mut self, turn: &mut Turn<'_>) {
        let Some(topics) = turn.topics else {
            reach::mark!("groups.native_waits_for_topics");
            return self.wake_by(turn.desk, turn.now.mono);
        };
        let mut counts = BTreeMap::new();
        let mut subscriptions = BTreeMap::new();
        for (id, member) in &self.members {
            let MemberProtocol::Native { topics: wanted, .. } = &member.protocol else { continue };
            for topic in wanted {
                counts.entry(topic.clone()).or_insert_with(|| topics.partitions(topic).unwrap_or(0));
            }
            subscriptions.insert(Arc::clone(id), wanted.clone());
        }
        let assignor = self.select_assignor();
        let owned: BTreeMap<Arc<str>, Owned> =
            self.members.iter().map(|(id, member)| (Arc::clone(id), member.owned.clone())).collect();
        let assigned = assign::assign(assignor, &subscriptions, &counts, &owned);
        self.begin_generation(turn);
        self.topics = counts;
        self.protocol = Some(assignor_name(assignor).to_owned());
        self.elect_leader();
        for (id, owned) in assigned {
            let mut member = self.take_member(turn.desk, &id).expect("members are assigned to");
            member.owned = owned;
            // It may have been a classic one before.
            member.assignment = bytes::Bytes::new();
            member.has_synced = true;
            self.insert_member(turn.desk, id, member);
        }
        self.begin_storing(turn);
    }

    /// Most votes; range at a tie.
    fn select_assignor(&self) -> Assignor {
        let is_sticky = |member: &&Member| supports(member, assignor_name(Assignor::Sticky));
        let sticky = self.members.values().filter(is_sticky).count();
        if 2 * sticky > self.members.len() { Assignor::Sticky } else { Assignor::Range }
    }

    /// Every assignment is known: it becomes durable, then members are told.
    pub(crate) fn begin_storing(&mut self, turn: &mut Turn<'_>) {
        let Phase::Completing { is_storing, .. } = &mut self.phase else { unreachable!("it was completing") };
        *is_storing = true;
        self.store_group(turn, None, Then::Completed { generation: self.generation });
    }

    pub(crate) fn on_completed(&mut self, turn: &mut Turn<'_>, ticket: u64, generation: i32) {
        self.raise_reserved(ticket, generation + 1);
        let Phase::Completing { deadline, is_storing: true } = self.phase else {
            reach::mark!("groups.generation_stored_too_late");
            return;
        };
        if self.generation != generation {
            reach::mark!("groups.older_generation_stored");
            return;
        }
        let is_synced = self.members.values().all(|member| member.has_synced);
        self.phase = Phase::Stable { sync_deadline: (!is_synced).then_some(deadline) };
        self.changed_at = turn.now.wall;
        self.end_event(turn);
        self.tell_rebalanced(turn);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let (join, sync) = {
                let member = self.members.get_mut(&id).expect("it is a member");
                member.has_joined = false;
                (member.join.take(), member.sync.take())
            };
            if let Some(slot) = join {
                turn.reply(slot, Ok(GroupAnswer::Joined(self.joined(&id))));
            }
            if let Some(slot) = sync {
                turn.reply(slot, Ok(GroupAnswer::Synced(self.synced(&id))));
            }
            if join.is_some() || sync.is_some() {
                let member = self.members.get_mut(&id).expect("it is a member");
                member.is_known = true;
                member.renew(turn.now.mono);
            }
        }
        self.look_at_deadlines(turn);
    }

    /// The generation stays as it was told; its assignment is to be asked for, or made, again.
    pub(crate) fn on_completion_failed(&mut self, turn: &mut Turn<'_>, generation: i32, error: &GroupError) {
        let Phase::Completing { is_storing, .. } = &mut self.phase else { return };
        if self.generation != generation || !*is_storing {
            return;
        }
        *is_storing = false;
        if self.is_native() {
            self.fail_joins(turn, error);
            return self.prepare(turn, RebalanceCause::MemberRejoined, "");
        }
        let waiting = |(id, member): (&Arc<str>, &Member)| member.sync.map(|slot| (Arc::clone(id), slot));
        for (id, slot) in self.members.iter().filter_map(waiting).collect::<Vec<_>>() {
            turn.reply(slot, Err(error.clone()));
            let member = self.members.get_mut(&id).expect("it was listed");
            member.sync = None;
            member.has_synced = false;
            member.renew(turn.now.mono);
        }
        self.look_at_deadlines(turn);
    }

    fn tell_rebalanced(&self, turn: &mut Turn<'_>) {
        let event = self.events.back();
        let millis = event.and_then(|event| event.duration).map_or(0, |took| took.as_millis());
        turn.desk.event(
            "group_rebalanced",
            vec![
                ("group", self.id.to_string()),
                ("generation", self.generation.to_string()),
                ("members", self.members.len().to_string()),
                ("cause", event.map_or(String::new(), |event| cause_name(event.cause).to_owned())),
                ("member", event.map_or(String::new(), |event| event.member.clone())),
                ("ms", millis.to_string()),
            ],
        );
    }

    pub(crate) fn tell_removed(&self, turn: &mut Turn<'_>, member: &str, why: &str) {
        turn.desk.event(
            "group_member_removed",
            vec![("group", self.id.to_string()), ("member", member.to_owned()), ("why", why.to_owned())],
        );
    }
}

fn cause_name(cause: RebalanceCause) -> &'static str {
    match cause {
        RebalanceCause::MemberJoined => "member_joined",
        RebalanceCause::MemberRejoined => "member_rejoined",
        RebalanceCause::MemberLeft => "member_left",
        RebalanceCause::SessionExpired => "session_expired",
        RebalanceCause::RebalanceTimedOut => "rebalance_timed_out",
        RebalanceCause::TopicChanged => "topic_changed",
    }
}
