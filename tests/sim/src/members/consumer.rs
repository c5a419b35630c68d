//! One member: when it joins, says that it is alive, commits, leaves, dies, or sleeps past its session.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Assignor, GroupAsk, JoinGroup, Leaving, MemberId, MemberProtocol, SyncGroup};

use super::{Asked, Members, plan};
use crate::fact::{ClientId, Fact};

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) client: ClientId,
    pub(super) group: usize,
    pub(super) instance: Option<String>,
    /// Empty: a stranger.
    pub(super) member: String,
    pub(super) generation: i32,
    pub(super) stage: Stage,
    /// A join, sync, heartbeat or leave is under way.
    pub(super) is_waiting: bool,
    pub(super) is_committing: bool,
    pub(super) owned: Vec<(String, u32)>,
    positions: BTreeMap<(String, u32), u64>,
    /// Does nothing before.
    pub(super) sleeps_until: Duration,
    pub(super) heartbeat_at: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Out {
        until: Duration,
    },
    Joining,
    /// With what the leader assigns, if it is the leader.
    Syncing {
        assignments: Vec<(String, bytes::Bytes)>,
    },
    Stable,
    Leaving,
}

impl Consumer {
    pub(super) fn new(client: ClientId, group: usize, instance: Option<String>) -> Self {
        Self {
            client,
            group,
            instance,
            member: String::new(),
            generation: -1,
            stage: Stage::Out { until: Duration::ZERO },
            is_waiting: false,
            is_committing: false,
            owned: Vec::new(),
            positions: BTreeMap::new(),
            sleeps_until: Duration::ZERO,
            heartbeat_at: Duration::ZERO,
        }
    }

    pub(super) fn id(&self) -> MemberId {
        MemberId { member: self.member.clone(), generation: self.generation, instance: self.instance.clone() }
    }

    pub(super) fn stable_generation(&self) -> Option<i32> {
        (self.stage == Stage::Stable).then_some(self.generation)
    }

    /// What was asked will not be answered.
    pub(super) fn on_lost(&mut self, now: Duration) {
        self.is_waiting = false;
        match self.stage {
            // Its id is unknown or its generation may have passed: from the beginning of joining.
            Stage::Joining | Stage::Syncing { .. } => self.stage = Stage::Joining,
            Stage::Leaving => self.go(now),
            Stage::Out { .. } | Stage::Stable => {}
        }
    }

    /// Is nobody's member any more.
    pub(super) fn go(&mut self, until: Duration) {
        self.member.clear();
        self.generation = -1;
        self.owned.clear();
        self.stage = Stage::Out { until };
    }

    pub(super) fn calm_down(&mut self, now: Duration) {
        self.sleeps_until = self.sleeps_until.min(now);
        if let Stage::Out { until } = &mut self.stage {
            *until = (*until).min(now);
        }
    }

    /// Has read on, in some of what it owns: what is to be committed.
    fn read_on(&mut self, dice: &mut tests_disk::Dice) -> Vec<(String, u32, u64)> {
        let mut read = Vec::new();
        for place in &self.owned {
            if dice.one_in(2) {
                let position = self.positions.entry(place.clone()).or_default();
                *position += dice.below(10);
                read.push((place.0.clone(), place.1, *position));
            }
        }
        read
    }
}

impl Members {
    pub(super) fn step_one(&mut self, nth: usize) {
        let now = self.moment.now;
        let is_calm = self.calm_since.is_some();
        let consumer = &mut self.consumers[nth];
        if now < consumer.sleeps_until || !self.groups[consumer.group].is_begun {
            return;
        }
        if consumer.stage == Stage::Stable && !consumer.is_committing && self.dice.one_in(8) {
            let (group, id) = (consumer.group, consumer.id());
            let read = consumer.read_on(&mut self.dice);
            if !read.is_empty() {
                consumer.is_committing = true;
                self.commit(group, Some(nth), id, read);
            }
        }
        let consumer = &mut self.consumers[nth];
        if !is_calm && self.dice.one_in(100) {
            if self.manners.sleeps && self.dice.one_in(2) {
                let nap = self.manners.session.as_millis() as u64 * 2;
                consumer.sleeps_until = now + Duration::from_millis(self.dice.below(nap));
                return;
            }
            if self.manners.dies && self.dice.one_in(2) {
                return self.die(nth);
            }
        }
        if consumer.is_waiting {
            return;
        }
        match consumer.stage {
            Stage::Out { until } if until <= now => {
                consumer.stage = Stage::Joining;
                let (client, group) = (consumer.client, self.groups[consumer.group].name.clone());
                self.wishes.facts.push(Fact::GroupJoining { client, group });
                self.join(nth);
            }
            Stage::Joining => self.join(nth),
            Stage::Syncing { .. } => self.sync(nth),
            Stage::Stable if !is_calm && self.manners.leaves && self.dice.one_in(200) => self.leave(nth),
            Stage::Stable if consumer.heartbeat_at <= now => self.heartbeat(nth),
            Stage::Out { .. } | Stage::Stable | Stage::Leaving => {}
        }
    }

    fn join(&mut self, nth: usize) {
        let manners = self.manners.clone();
        let consumer = &mut self.consumers[nth];
        consumer.is_waiting = true;
        let group = consumer.group;
        let topics: Vec<String> = (0..manners.topics).map(plan::topic_name).collect();
        let protocol = if self.groups[group].is_native {
            let assignor = if self.dice.one_in(2) { Assignor::Range } else { Assignor::Sticky };
            MemberProtocol::Native { topics, assignor }
        } else {
            let metadata = bytes::Bytes::from(topics.join(" "));
            MemberProtocol::Classic {
                protocol_type: "sim".to_owned(),
                protocols: vec![("round".to_owned(), metadata)],
            }
        };
        let ask = JoinGroup {
            member: consumer.member.clone(),
            instance: consumer.instance.clone(),
            client_id: format!("client-{}", consumer.client.0),
            client_host: "/10.0.0.2".to_owned(),
            session_timeout: manners.session,
            rebalance_timeout: manners.rebalance,
            member_id_required: nth.is_multiple_of(2),
            supports_skip_assignment: nth.is_multiple_of(3),
            protocol,
        };
        self.ask_group(group, Asked::Join { consumer: nth }, GroupAsk::Join(ask));
    }

    fn sync(&mut self, nth: usize) {
        let consumer = &mut self.consumers[nth];
        let Stage::Syncing { assignments } = &consumer.stage else { return };
        consumer.is_waiting = true;
        let ask = SyncGroup {
            member: consumer.id(),
            protocol_type: Some("sim".to_owned()),
            protocol: Some("round".to_owned()),
            assignments: assignments.clone(),
        };
        let group = consumer.group;
        self.ask_group(group, Asked::Sync { consumer: nth }, GroupAsk::Sync(ask));
    }

    fn heartbeat(&mut self, nth: usize) {
        let consumer = &mut self.consumers[nth];
        consumer.is_waiting = true;
        consumer.heartbeat_at = self.moment.now + self.manners.heartbeat();
        let (group, id) = (consumer.group, consumer.id());
        self.ask_group(group, Asked::Heartbeat { consumer: nth }, GroupAsk::Heartbeat(id));
    }

    fn leave(&mut self, nth: usize) {
        let consumer = &mut self.consumers[nth];
        consumer.is_waiting = true;
        consumer.stage = Stage::Leaving;
        let leaving = Leaving { member: consumer.member.clone(), instance: None, reason: None };
        let (client, group) = (consumer.client, consumer.group);
        let name = self.groups[group].name.clone();
        self.wishes.facts.push(Fact::GroupLeft { client, group: name });
        self.ask_group(group, Asked::Leave { consumer: nth }, GroupAsk::Leave(vec![leaving]));
    }

    /// It is gone, with whatever it waits for, and another process takes its place after a while.
    fn die(&mut self, nth: usize) {
        let mine = |asked: &Asked| match asked {
            Asked::Join { consumer }
            | Asked::Sync { consumer }
            | Asked::Heartbeat { consumer }
            | Asked::Leave { consumer } => *consumer == nth,
            Asked::Commit { consumer, .. } => *consumer == Some(nth),
            Asked::Topic { .. }
            | Asked::Offsets { .. }
            | Asked::Describe { .. }
            | Asked::Alter
            | Asked::Delete => false,
        };
        let keys: Vec<u64> =
            self.pending.iter().filter(|(_, (_, asked))| mine(asked)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some((_, Asked::Commit { commit, .. })) = self.pending.remove(&key) {
                self.wishes.facts.push(Fact::CommitDoubtful { commit });
            }
            self.wishes.cancels.push(key);
        }
        let back_at = self.moment.now + Duration::from_millis(self.dice.below(2000));
        let consumer = &mut self.consumers[nth];
        consumer.is_waiting = false;
        consumer.is_committing = false;
        let (client, group) = (consumer.client, self.groups[consumer.group].name.clone());
        if !consumer.member.is_empty() {
            let (member, session) = (consumer.member.clone(), self.manners.session);
            self.wishes.facts.push(Fact::MemberSilent { group: group.clone(), member, session });
        }
        consumer.go(back_at);
        self.wishes.facts.push(Fact::GroupLeft { client, group });
    }
}
