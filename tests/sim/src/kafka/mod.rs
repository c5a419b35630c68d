//! Clients that speak Kafka's protocol in bytes, over connections that are cut anywhere.
//!
//! - [`Kafka`]: all of them, the topics they know of. `line`: one's connection; `asked`: what is under way on it;
//!   `versions`: what is found out first.
//! - `writer`: produces, on `lane`s that try again; `reader`: fetches, with sessions and without; `records`: what is in
//!   an answer.
//! - `member`: of a `group`.
//!
//! Told of bytes and losses; says which facts follow. Does not know: cores, time beyond what it is told.

// Codes and versions are numbers, and what is not asked for is no answer.
#![allow(clippy::wildcard_enum_match_arm, reason = "each client looks at what it asks")]

mod asked;
mod group;
mod lane;
mod line;
mod member;
mod reader;
mod records;
mod versions;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::{PartitionId, TopicId};
use kafka_protocol::messages::TopicName;
use storage_frame::TimestampMs;
use tests_disk::Dice;

use crate::direct::{Moment, SHARED};
use crate::fact::{BatchId, CommitId, Fact, TopicFacts};
use crate::net::tcp::Roads;
use crate::net::{PipeId, Tcp};
use group::Group;
use member::Member;
use reader::Reader;
use writer::Writer;

/// How Kafka's clients behave, drawn once for each run.
#[derive(Debug, Clone)]
pub struct KafkaManners {
    pub writers: u32,
    pub readers: u32,
    pub groups: usize,
    pub members: u32,
    pub batch_records_max: u32,
    pub value_bytes_max: u32,
    pub session: Duration,
    pub rebalance: Duration,
    pub topics: Vec<String>,
    pub roads: Roads,
}

/// Behind the numbers of all others.
const CLIENTS_FROM: u32 = 3000;
/// Below those of clients on the SDK, which are told apart by their numbers.
const BATCHES_FROM: u64 = 1 << 39;
const COMMITS_FROM: u64 = 1 << 40;

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
    may_cache: bool,
    may_retire: bool,
}

#[derive(Debug, Default)]
pub struct KafkaWishes {
    pub facts: Vec<Fact>,
    /// What the node did that no client can make sense of.
    pub wrong: Vec<String>,
}

/// See the module.
pub struct Kafka {
    manners: KafkaManners,
    tcp: Tcp,
    topics: BTreeMap<String, Topic>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    groups: Vec<Group>,
    members: Vec<Member>,
    numbers: Numbers,
    open_commits: Vec<CommitId>,
    wishes: KafkaWishes,
    moment: Moment,
    /// When faults ended.
    calm_since: Option<Duration>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Numbers {
    connections: u64,
    batches: u64,
    commits: u64,
    lanes: u32,
}

/// What a client sees of the rest.
struct Scene<'a> {
    now: Duration,
    wall: TimestampMs,
    is_calm: bool,
    calm_since: Duration,
    manners: &'a KafkaManners,
    tcp: &'a mut Tcp,
    topics: &'a BTreeMap<String, Topic>,
    connections: &'a mut u64,
    batches: &'a mut u64,
    commits: &'a mut u64,
    lanes: &'a mut u32,
    open_commits: &'a mut Vec<CommitId>,
    wishes: &'a mut KafkaWishes,
}

impl Scene<'_> {
    fn tell(&mut self, fact: Fact) {
        self.wishes.facts.push(fact);
    }

    fn check(&mut self, result: Result<(), String>) {
        self.wishes.wrong.extend(result.err());
    }

    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.wishes.wrong.push(why)).ok()
    }

    fn next_batch(&mut self) -> BatchId {
        *self.batches += 1;
        BatchId(BATCHES_FROM + *self.batches)
    }

    fn next_commit(&mut self) -> CommitId {
        *self.commits += 1;
        CommitId(COMMITS_FROM + *self.commits)
    }

    fn next_lane(&mut self) -> u32 {
        *self.lanes += 1;
        *self.lanes
    }

    /// With whether it may promise from memory.
    fn any_partition(&self, dice: &mut Dice) -> Option<(String, PartitionId, bool)> {
        let nth = dice.below(self.topics.len().max(1) as u64) as usize;
        let (name, topic) = self.topics.iter().nth(nth)?;
        let index = dice.below(u64::from(topic.partitions)) as u32;
        Some((name.clone(), PartitionId { topic: topic.id, index }, topic.may_cache))
    }

    fn name(&self, partition: PartitionId) -> Option<&str> {
        let found = self.topics.iter().find(|(_, topic)| topic.id == partition.topic);
        found.map(|(name, _)| name.as_str())
    }

    fn may_cache(&self, partition: PartitionId) -> bool {
        self.topics.values().any(|topic| topic.id == partition.topic && topic.may_cache)
    }
}

impl Kafka {
    #[must_use]
    pub fn new(seed: u64, manners: Option<KafkaManners>) -> Self {
        let manners = manners.unwrap_or_else(nobody);
        let mut clients = 0;
        let mut client = || {
            clients += 1;
            (CLIENTS_FROM + clients, Dice::nth(seed, "kafka client", u64::from(clients)))
        };
        let writers =
            (0..manners.writers).map(|_| client()).map(|(id, dice)| Writer::new(id, dice)).collect();
        let readers =
            (0..manners.readers).map(|_| client()).map(|(id, dice)| Reader::new(id, dice, false)).collect();
        let groups: Vec<Group> = (0..manners.groups).map(Group::new).collect();
        let members = (0..manners.members).map(|nth| {
            let (id, dice) = client();
            let group = nth as usize % manners.groups.max(1);
            Member::new(id, group, &groups[group].name, dice)
        });
        Self {
            members: members.collect(),
            tcp: Tcp::new(seed, manners.roads.clone()),
            manners,
            topics: BTreeMap::new(),
            writers,
            readers,
            groups,
            numbers: Numbers::default(),
            open_commits: Vec::new(),
            wishes: KafkaWishes::default(),
            moment: Moment { now: Duration::ZERO, wall: TimestampMs(0) },
            calm_since: None,
            is_over: false,
        }
    }

    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.manners.topics
    }

    pub fn tcp(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    pub fn take_wishes(&mut self) -> KafkaWishes {
        std::mem::take(&mut self.wishes)
    }

    /// Only topics that nobody deletes are theirs.
    pub fn learn(&mut self, topic: &TopicFacts) {
        if topic.name.starts_with(SHARED) {
            let known = Topic {
                id: topic.id,
                partitions: topic.logs.len() as u32,
                may_cache: topic.promise.write_caching,
                may_retire: topic.promise.may_retire(),
            };
            self.topics.insert(topic.name.clone(), known);
        }
    }

    /// The groups that have committed something.
    #[must_use]
    pub fn begun_groups(&self) -> BTreeSet<String> {
        self.groups.iter().filter(|group| group.is_begun).map(|group| group.name.clone()).collect()
    }

    /// Faults are off.
    pub fn calm_down(&mut self) {
        let now = self.moment.now;
        self.calm_since = Some(now);
        self.tcp.heal(now);
        self.writers.iter_mut().for_each(Writer::calm_down);
        self.readers.iter_mut().for_each(Reader::calm_down);
        self.members.iter_mut().for_each(|member| member.calm_down(now));
    }

    /// The node is gone: what it had not done it never will.
    pub fn on_node_lost(&mut self) {
        let commits = std::mem::take(&mut self.open_commits);
        self.wishes.facts.extend(commits.into_iter().map(|commit| Fact::CommitDoubtful { commit }));
        self.each_writer(|writer, scene| writer.on_node_lost(scene));
    }

    /// Everybody does what it is time for.
    pub fn step(&mut self) {
        if self.is_over {
            return;
        }
        self.each_writer(|writer, scene| writer.step(scene));
        self.each_reader(|reader, scene| reader.step(scene));
        self.each_member(|member, scene, group| member.step(scene, group));
    }

    /// Something may have come on a connection.
    pub fn on_pipe(&mut self, pipe: PipeId) {
        self.each_writer(|writer, scene| {
            writer.on_pipe(scene, pipe);
        });
        self.each_reader(|reader, scene| {
            reader.on_pipe(scene, pipe);
        });
        self.each_member(|member, scene, group| {
            member.on_pipe(scene, group, pipe);
        });
    }

    /// One member stops reading, if any has something to be watched for.
    pub fn begin_idling(&mut self) -> bool {
        let is_idling = std::cell::Cell::new(false);
        self.each_member(|member, scene, group| {
            if !is_idling.get() {
                is_idling.set(member.idle(scene, group));
            }
        });
        is_idling.get()
    }

    /// Somebody of each group is told what it has committed, before its lag is looked at.
    pub fn look_at_offsets(&mut self) {
        self.each_member(|member, scene, group| member.ask_where_the_group_is(scene, group));
    }

    pub fn end_idling(&mut self) {
        self.each_member(|member, scene, group| member.go_on(scene, group));
    }

    /// They do nothing any more.
    pub fn end(&mut self) {
        self.is_over = true;
        self.each_writer(Writer::hang_up);
        self.each_reader(Reader::hang_up);
        self.each_member(|member, scene, group| member.hang_up(scene, group));
    }

    /// Every batch is taken, every reader has seen the end, every member owns its part and has committed it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.undrained().is_none()
    }

    /// Who has not.
    #[must_use]
    pub fn undrained(&self) -> Option<String> {
        // The answer to whoever made them was lost, and so are they.
        if self.topics.is_empty() {
            return None;
        }
        if let Some(writer) = self.writers.iter().find(|writer| !writer.is_drained()) {
            return Some(format!("{writer:?}"));
        }
        if let Some(reader) = self.readers.iter().find(|reader| !reader.is_drained()) {
            return Some(format!("{reader:?}"));
        }
        let mut generations: BTreeMap<usize, i32> = BTreeMap::new();
        for member in &self.members {
            let Some(generation) = member.stable_generation().filter(|_| member.is_drained()) else {
                return Some(format!("{member:?}"));
            };
            let known = *generations.entry(member.group).or_insert(generation);
            if known != generation {
                return Some(format!("{member:?}: another member is in generation {known}"));
            }
        }
        None
    }

    fn each_writer(&mut self, act: impl Fn(&mut Writer, &mut Scene<'_>)) {
        let mut writers = std::mem::take(&mut self.writers);
        let mut scene = self.scene();
        writers.iter_mut().for_each(|writer| act(writer, &mut scene));
        self.writers = writers;
    }

    fn each_reader(&mut self, act: impl Fn(&mut Reader, &mut Scene<'_>)) {
        let mut readers = std::mem::take(&mut self.readers);
        let mut scene = self.scene();
        readers.iter_mut().for_each(|reader| act(reader, &mut scene));
        self.readers = readers;
    }

    fn each_member(&mut self, act: impl Fn(&mut Member, &mut Scene<'_>, &mut Group)) {
        let (mut members, mut groups) = (std::mem::take(&mut self.members), std::mem::take(&mut self.groups));
        let mut scene = self.scene();
        for member in &mut members {
            let group = member.group;
            act(member, &mut scene, &mut groups[group]);
        }
        (self.members, self.groups) = (members, groups);
    }

    fn scene(&mut self) -> Scene<'_> {
        Scene {
            now: self.moment.now,
            wall: self.moment.wall,
            is_calm: self.calm_since.is_some(),
            calm_since: self.calm_since.unwrap_or_default(),
            manners: &self.manners,
            tcp: &mut self.tcp,
            topics: &self.topics,
            connections: &mut self.numbers.connections,
            batches: &mut self.numbers.batches,
            commits: &mut self.numbers.commits,
            lanes: &mut self.numbers.lanes,
            open_commits: &mut self.open_commits,
            wishes: &mut self.wishes,
        }
    }
}

fn name_of(topic: &TopicName) -> String {
    topic.to_string()
}

/// Of a run without them.
fn nobody() -> KafkaManners {
    KafkaManners {
        writers: 0,
        readers: 0,
        groups: 0,
        members: 0,
        batch_records_max: 1,
        value_bytes_max: 1,
        session: Duration::ZERO,
        rebalance: Duration::ZERO,
        topics: Vec::new(),
        roads: Roads { delay_max: Duration::ZERO, room_bytes: 1, piece_bytes_max: 1 },
    }
}
