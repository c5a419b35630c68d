//! Clients that are members of consumer groups: they sit in the mesh beside the direct clients and speak in requests.
//!
//! - [`Members`]: all of them, what they have asked and not been answered, their groups and topics.
//! - `consumer`: one member: joins, stays alive, commits, leaves, dies, sleeps past its session.
//! - `answers`: what it does about what it is told.
//! - `plan`: how they behave, and what a leader assigns.
//!
//! A group's first offsets are committed before anybody joins it, so it is never forgotten in a run. Told of answers
//! and losses; says what it asks and which facts follow. Does not know: cores, time beyond what it is told.

mod answers;
mod consumer;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::{
    AlterTopic, CommitOffset, CommitOffsets, CreateTopic, DeleteTopic, GroupAsk, GroupRequest, MemberId,
    OFFSETS_TOPIC, Request, Response, TopicError,
};
use storage_frame::{Offset, TimestampMs};
use tests_disk::Dice;

use crate::direct::{Moment, Wishes};
use crate::fact::{ClientId, CommitId, Fact};
use consumer::Consumer;

pub use plan::{GroupManners, groups_config};
pub(crate) use plan::{assign, assigned};

/// Above every key of the direct clients.
pub const KEYS_FROM: u64 = 1 << 40;
const CLIENTS_FROM: u32 = 2000;
const PARTITIONS_ADDED_MAX: u32 = 4;

#[derive(Debug, Clone)]
enum Asked {
    Topic {
        nth: usize,
    },
    Join {
        consumer: usize,
    },
    Sync {
        consumer: usize,
    },
    Heartbeat {
        consumer: usize,
    },
    Leave {
        consumer: usize,
    },
    Commit {
        commit: CommitId,
        consumer: Option<usize>,
        group: usize,
    },
    Offsets {
        group: usize,
        is_audit: bool,
    },
    Describe {
        group: usize,
    },
    Alter,
    /// Of the offsets topic.
    Delete,
}

#[derive(Debug)]
struct Group {
    name: String,
    is_native: bool,
    /// The first offsets are durable.
    is_begun: bool,
    /// They are being committed.
    is_beginning: bool,
    is_audited: bool,
    is_auditing: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Members {
    manners: GroupManners,
    dice: Dice,
    pending: BTreeMap<u64, (Duration, Asked)>,
    keys_count: u64,
    commits_count: u64,
    /// By topic: it is there; it has been asked for.
    topics: Vec<(bool, bool)>,
    groups: Vec<Group>,
    consumers: Vec<Consumer>,
    wishes: Wishes,
    moment: Moment,
    /// When faults ended: nobody leaves, dies or sleeps any more.
    calm_since: Option<Duration>,
    is_auditing: bool,
    partitions_added: u32,
}

impl Members {
    #[must_use]
    pub fn new(seed: u64, manners: Option<GroupManners>) -> Self {
        let manners = manners.unwrap_or_else(plan::nobody);
        let mut dice = Dice::new(seed, "members");
        let groups: Vec<Group> = (0..manners.groups)
            .map(|nth| Group {
                name: format!("group-{nth}"),
                is_native: dice.below(100) < manners.native_percent,
                is_begun: false,
                is_beginning: false,
                is_audited: false,
                is_auditing: false,
            })
            .collect();
        let consumers = (0..manners.consumers)
            .map(|nth| {
                let group = dice.below(groups.len().max(1) as u64) as usize;
                let is_static = dice.below(100) < manners.static_percent;
                Consumer::new(
                    ClientId(CLIENTS_FROM + nth as u32),
                    group,
                    is_static.then(|| format!("{}{nth}", plan::INSTANCE)),
                )
            })
            .collect();
        Self {
            topics: vec![(false, false); manners.topics],
            manners,
            dice,
            pending: BTreeMap::new(),
            keys_count: 0,
            commits_count: 0,
            groups,
            consumers,
            wishes: Wishes::default(),
            moment: Moment { now: Duration::ZERO, wall: TimestampMs(0) },
            calm_since: None,
            is_auditing: false,
            partitions_added: 0,
        }
    }

    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    pub fn take_wishes(&mut self) -> Wishes {
        std::mem::take(&mut self.wishes)
    }

    #[must_use]
    pub fn waits_for(&self, key: u64) -> bool {
        self.pending.contains_key(&key)
    }

    /// Faults are off.
    pub fn calm_down(&mut self) {
        self.calm_since = Some(self.moment.now);
        for consumer in &mut self.consumers {
            consumer.calm_down(self.moment.now);
        }
    }

    /// The node is gone, and with it every request.
    pub fn on_node_lost(&mut self) {
        for (_, (_, asked)) in std::mem::take(&mut self.pending) {
            match asked {
                Asked::Topic { nth } => self.topics[nth].1 = false,
                Asked::Join { consumer }
                | Asked::Sync { consumer }
                | Asked::Heartbeat { consumer }
                | Asked::Leave { consumer } => self.consumers[consumer].on_lost(self.moment.now),
                Asked::Commit { commit, consumer, group } => {
                    self.wishes.facts.push(Fact::CommitDoubtful { commit });
                    self.commit_is_over(consumer, group);
                }
                Asked::Offsets { group, .. } => self.groups[group].is_auditing = false,
                Asked::Describe { .. } | Asked::Alter | Asked::Delete => {}
            }
        }
    }

    /// Everybody does what it is time for.
    pub fn step(&mut self) {
        self.make_topics();
        self.meddle();
        for group in 0..self.groups.len() {
            self.begin_group(group);
            self.audit_group(group);
        }
        for consumer in 0..self.consumers.len() {
            self.step_one(consumer);
        }
        if !self.groups.is_empty() && self.dice.one_in(10) {
            let group = self.dice.below(self.groups.len() as u64) as usize;
            self.ask_offsets(group, false);
            self.ask_group(group, Asked::Describe { group }, GroupAsk::Describe);
        }
    }

    /// Every consumer is in its group's last generation, and every group has begun.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// Who keeps the groups from being whole.
    #[must_use]
    pub fn unsettled(&self) -> Option<String> {
        if let Some(group) = self.groups.iter().find(|group| !group.is_begun) {
            return Some(format!("{} has no offsets yet", group.name));
        }
        let mut generations: BTreeMap<usize, i32> = BTreeMap::new();
        for consumer in &self.consumers {
            let Some(generation) = consumer.stable_generation() else {
                return Some(format!("{consumer:?} is not in its group"));
            };
            let known = *generations.entry(consumer.group).or_insert(generation);
            if known != generation {
                return Some(format!("{consumer:?}: another member is in generation {known}"));
            }
        }
        None
    }

    /// Of groups of others, too, in which something is committed.
    pub fn begin_audit(&mut self, others: BTreeSet<String>) {
        let known = |name: &String| self.groups.iter().any(|group| group.name == *name);
        let others: Vec<String> = others.into_iter().filter(|name| !known(name)).collect();
        self.groups.extend(others.into_iter().map(|name| Group {
            name,
            is_native: false,
            is_begun: true,
            is_beginning: false,
            is_audited: false,
            is_auditing: false,
        }));
        self.is_auditing = true;
    }

    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.groups.iter().all(|group| group.is_audited)
    }

    fn ask(&mut self, asked: Asked, request: Request) -> u64 {
        self.keys_count += 1;
        let key = KEYS_FROM + self.keys_count;
        self.pending.insert(key, (self.moment.now, asked));
        self.wishes.asks.push((key, request));
        key
    }

    fn ask_group(&mut self, group: usize, asked: Asked, ask: GroupAsk) -> u64 {
        let group = self.groups[group].name.clone();
        self.ask(asked, Request::Group(GroupRequest { group, ask }))
    }

    fn make_topics(&mut self) {
        for nth in 0..self.topics.len() {
            if self.topics[nth] != (false, false) || !self.dice.one_in(4) {
                continue;
            }
            self.topics[nth].1 = true;
            let create = CreateTopic {
                name: plan::topic_name(nth),
                partitions: Some(self.manners.partitions),
                replicas: None,
                configs: Vec::new(),
            };
            self.ask(Asked::Topic { nth }, Request::CreateTopic(create));
        }
    }

    /// Topics of groups get more partitions, and somebody tries to be rid of the groups.
    fn meddle(&mut self) {
        if self.calm_since.is_some() || self.topics.is_empty() || !self.dice.one_in(100) {
            return;
        }
        if self.dice.one_in(4) {
            let delete = DeleteTopic { name: OFFSETS_TOPIC.to_owned(), id: None };
            self.ask(Asked::Delete, Request::DeleteTopic(delete));
        } else if self.partitions_added < PARTITIONS_ADDED_MAX {
            self.partitions_added += 1;
            let name = plan::topic_name(self.dice.below(self.topics.len() as u64) as usize);
            let partitions = Some(self.manners.partitions + self.partitions_added);
            let alter = AlterTopic { name, partitions, configs: Vec::new(), based_on: None };
            self.ask(Asked::Alter, Request::AlterTopic(alter));
        }
    }

    fn on_topic(&mut self, nth: usize, is_there: bool) {
        self.topics[nth] = (is_there, false);
    }

    fn begin_group(&mut self, nth: usize) {
        let group = &mut self.groups[nth];
        let has_topics = self.topics.iter().all(|(is_there, _)| *is_there);
        if group.is_begun || group.is_beginning || !has_topics || !self.dice.one_in(4) {
            return;
        }
        group.is_beginning = true;
        let nobody = MemberId { member: String::new(), generation: -1, instance: None };
        self.commit(nth, None, nobody, vec![(plan::topic_name(0), 0, 0)]);
    }

    fn audit_group(&mut self, nth: usize) {
        let group = &mut self.groups[nth];
        if self.is_auditing && !group.is_audited && !group.is_auditing {
            group.is_auditing = true;
            self.ask_offsets(nth, true);
        }
    }

    fn ask_offsets(&mut self, group: usize, is_audit: bool) {
        self.ask_group(group, Asked::Offsets { group, is_audit }, GroupAsk::FetchOffsets(None));
    }

    /// The commit's number goes with each offset, and must come back with it.
    fn commit(
        &mut self,
        group: usize,
        consumer: Option<usize>,
        member: MemberId,
        offsets: Vec<(String, u32, u64)>,
    ) {
        self.commits_count += 1;
        let commit = CommitId(self.commits_count);
        self.wishes.facts.push(Fact::CommitSent {
            commit,
            group: self.groups[group].name.clone(),
            member: member.member.clone(),
            generation: member.generation,
            offsets: offsets.clone(),
        });
        let mut topics: BTreeMap<String, Vec<CommitOffset>> = BTreeMap::new();
        for (topic, partition, offset) in offsets {
            topics.entry(topic).or_default().push(CommitOffset {
                partition,
                offset: Offset(offset),
                leader_epoch: -1,
                metadata: commit.0.to_string(),
            });
        }
        let ask = CommitOffsets { member, retention: None, topics: topics.into_iter().collect() };
        self.ask_group(group, Asked::Commit { commit, consumer, group }, GroupAsk::Commit(ask));
    }

    fn commit_is_over(&mut self, consumer: Option<usize>, group: usize) {
        match consumer {
            Some(consumer) => self.consumers[consumer].is_committing = false,
            None => self.groups[group].is_beginning = false,
        }
    }

    /// An answer to what was asked with `key`.
    ///
    /// # Errors
    /// What is wrong with it: a key nobody waits for, an answer to something else.
    pub fn on_answer(&mut self, key: u64, response: Response) -> Result<(), String> {
        let Some((asked_at, asked)) = self.pending.remove(&key) else {
            return Err(format!("an answer to {key}, which nobody waits for: {response:?}"));
        };
        match (asked, response) {
            (Asked::Topic { nth }, Response::CreateTopic(answer)) => {
                self.on_topic(nth, matches!(answer, Ok(_) | Err(TopicError::Exists { .. })));
                Ok(())
            }
            (Asked::Alter, Response::AlterTopic(_)) => Ok(()),
            (Asked::Delete, Response::DeleteTopic(Ok(()))) => Err("groups' own topic was deleted".to_owned()),
            (Asked::Delete, Response::DeleteTopic(Err(_))) => Ok(()),
            (asked, Response::Group(answer)) => self.on_group_answer(asked, asked_at, answer),
            (asked, response) => Err(format!("{asked:?} was answered by {response:?}")),
        }
    }
}
