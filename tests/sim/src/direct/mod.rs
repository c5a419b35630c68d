//! Clients that sit in the mesh beside the cores and speak in requests: fast, and free to ask what no well-behaved
//! client would.
//!
//! - [`Direct`]: all of them, what they have asked and not been answered, the topics they know of.
//! - `lanes`: producers, idempotent ones that retry and plain ones that do not.
//! - `readers`: fetches that follow, wait, jump and are cancelled.
//! - `topics`: making, changing, describing and deleting topics; `places`: finding and deleting records.
//! - `rude`: what must be refused and change nothing.
//! - `audit`: reading everything at the end.
//!
//! Told of answers and losses; says what it asks and which facts follow. Does not know: cores, time beyond what it
//! is told.

mod audit;
mod lanes;
mod places;
mod readers;
mod rude;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::{PartitionId, Place, Request, Response, TopicId};
use storage_frame::{FRAME_BYTES_MAX, Frame, LogId, Offset, TimestampMs};
use storage_recordbatch::Records;
use tests_disk::Dice;

use crate::fact::{BatchId, ClientId, Fact, Seen, TopicFacts};
use crate::value::Value;
use audit::Audit;
use lanes::{LaneId, Lanes};
use readers::Readers;

pub use topics::{SHARED, TopicDraw};

/// What a request was for.
#[derive(Debug, Clone)]
enum Asked {
    Produce { lane: LaneId, batch: BatchId },
    PlainProduce { batch: BatchId },
    Identify { lane: LaneId },
    Fetch { reader: usize },
    Create { name: String },
    Alter { name: String },
    Describe,
    Delete { name: String },
    Find { partition: PartitionId, place: Place },
    DeleteRecords { partition: PartitionId, before: Offset },
    Rude { what: &'static str },
    RudeProduce { batch: BatchId },
    Audit { partition: PartitionId },
}

/// How far somebody has come in making or deleting a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// Asked for, not answered, or answered by silence.
    Perhaps,
    Alive(TopicFacts),
    /// Asked to be deleted: may be there or not.
    Going(TopicFacts),
    /// Whether it was ever made nobody knows; it is being deleted.
    Condemned,
    Gone,
}

/// What the world is to do for the clients, and what the oracles are to hear.
#[derive(Debug, Default)]
pub struct Wishes {
    pub asks: Vec<(u64, Request)>,
    pub cancels: Vec<u64>,
    pub facts: Vec<Fact>,
    /// What the node did that no client can make sense of.
    pub wrong: Vec<String>,
}

/// What the clients are told of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Duration,
    pub wall: TimestampMs,
}

/// How the direct clients behave, drawn once for each run.
#[derive(Debug, Clone)]
pub struct Manners {
    pub topics: TopicDraw,
    pub topics_max: usize,
    pub lanes_max: usize,
    pub readers: usize,
    pub value_bytes_max: u32,
    pub batch_records_max: u32,
    pub in_flight_max: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Direct {
    manners: Manners,
    dice: Dice,
    /// With when it was asked.
    pending: BTreeMap<u64, (Duration, Asked)>,
    next_key: u64,
    next_batch: u64,
    next_lane: u32,
    next_topic: u32,
    topics: BTreeMap<String, Known>,
    /// In this life of the node.
    deleted: BTreeSet<TopicId>,
    lanes: Lanes,
    readers: Readers,
    audit: Audit,
    wishes: Wishes,
    moment: Moment,
    /// Of the frame that was read last.
    time_heard: TimestampMs,
}

const PRODUCER: ClientId = ClientId(1);
const READERS_FROM: u32 = 100;
/// For an answer, once faults are off.
const PATIENCE: Duration = Duration::from_secs(30);
const AUDITOR: ClientId = ClientId(99);

impl Direct {
    #[must_use]
    pub fn new(seed: u64, manners: Manners) -> Self {
        Self {
            readers: Readers::new(manners.readers),
            manners,
            dice: Dice::new(seed, "direct clients"),
            pending: BTreeMap::new(),
            next_key: 0,
            next_batch: 0,
            next_lane: 0,
            next_topic: 0,
            topics: BTreeMap::new(),
            deleted: BTreeSet::new(),
            lanes: Lanes::default(),
            audit: Audit::default(),
            wishes: Wishes::default(),
            moment: Moment { now: Duration::ZERO, wall: TimestampMs(0) },
            time_heard: TimestampMs(0),
        }
    }

    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    pub fn take_wishes(&mut self) -> Wishes {
        std::mem::take(&mut self.wishes)
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
            (Asked::Produce { lane, batch }, Response::Produce(answer)) => {
                self.on_produced(lane, batch, answer);
            }
            (Asked::PlainProduce { batch }, Response::Produce(answer)) => self.on_plain(batch, answer),
            (Asked::RudeProduce { batch }, Response::Produce(answer)) => self.on_rude(batch, answer),
            (Asked::Identify { lane }, Response::InitProducer(answer)) => self.on_identity(lane, answer),
            (Asked::Fetch { reader }, Response::Fetch(answer)) => self.on_fetched(reader, asked_at, answer),
            (Asked::Create { name }, Response::CreateTopic(answer)) => self.on_created(&name, answer),
            (Asked::Alter { name }, Response::AlterTopic(answer)) => self.on_altered(&name, answer),
            (Asked::Describe, Response::DescribeTopics(answer)) => self.on_described(answer),
            (Asked::Delete { name }, Response::DeleteTopic(answer)) => self.on_deleted(&name, answer),
            (Asked::Find { partition, place }, Response::FindOffset(answer)) => {
                self.on_found(partition, place, asked_at, answer);
            }
            (Asked::DeleteRecords { partition, before }, Response::DeleteRecords(answer)) => {
                self.on_records_deleted(partition, before, answer);
            }
            (Asked::Audit { partition }, Response::Fetch(answer)) => {
                self.on_audited(partition, asked_at, answer)
            }
            (Asked::Rude { what }, response) => return rude::check(what, &response),
            (asked, response) => return Err(format!("{asked:?} was answered by {response:?}")),
        }
        Ok(())
    }

    /// The node is gone, and with it every request; and what the logs that `loses_memory` tells had in memory.
    pub fn on_node_lost(&mut self, loses_memory: impl Fn(LogId) -> bool) {
        for (_, (_, asked)) in std::mem::take(&mut self.pending) {
            self.on_lost(asked);
        }
        self.forget_caching_lanes(loses_memory);
        self.lanes.prove_again();
        self.deleted.clear();
    }

    fn on_lost(&mut self, asked: Asked) {
        match asked {
            Asked::Produce { lane, batch } => self.lanes.on_lost(lane, batch),
            Asked::PlainProduce { batch } | Asked::RudeProduce { batch } => {
                self.wishes.facts.push(Fact::Doubtful { batch });
            }
            Asked::Identify { lane } => self.lanes.on_no_identity(lane),
            Asked::Fetch { reader } => self.readers.on_lost(reader),
            Asked::Audit { partition } => self.audit.on_lost(partition),
            // Whether these were done is found out by describing and reading.
            Asked::Create { .. }
            | Asked::Alter { .. }
            | Asked::Describe
            | Asked::Delete { .. }
            | Asked::Find { .. }
            | Asked::DeleteRecords { .. }
            | Asked::Rude { .. } => {}
        }
    }

    /// A client dies with a request in flight.
    pub fn cancel_one(&mut self) {
        let keys: Vec<u64> = self.pending.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = *self.dice.pick(&keys);
        let (_, asked) = self.pending.remove(&key).expect("just listed");
        self.wishes.cancels.push(key);
        self.on_lost(asked);
    }

    /// All of them die.
    pub fn cancel_all(&mut self) {
        while !self.pending.is_empty() {
            self.cancel_one();
        }
    }

    /// Whether an answer to `key` is still of use: the answer to a cancelled one may come.
    #[must_use]
    pub fn waits_for(&self, key: u64) -> bool {
        self.pending.contains_key(&key)
    }

    /// Requests that are long overdue, nothing having been wrong with the node since `healed_at`; those that may wait
    /// for ever are not.
    #[must_use]
    pub fn overdue(&self, healed_at: Duration) -> Vec<String> {
        let is_overdue = |asked_at: &Duration, asked: &Asked| {
            let wait = if let Asked::Fetch { reader } = asked {
                self.readers.may_wait_for(*reader)
            } else {
                Some(Duration::ZERO)
            };
            wait.is_some_and(|wait| healed_at.max(*asked_at + wait) + PATIENCE < self.moment.now)
        };
        let overdue = self.pending.iter().filter(|(_, (at, asked))| is_overdue(at, asked));
        overdue.map(|(key, (at, asked))| format!("request {key}, asked at {at:?}: {asked:?}")).collect()
    }

    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    fn ask(&mut self, asked: Asked, request: Request) {
        self.next_key += 1;
        self.pending.insert(self.next_key, (self.moment.now, asked));
        self.wishes.asks.push((self.next_key, request));
    }

    fn next_batch(&mut self) -> BatchId {
        self.next_batch += 1;
        BatchId(self.next_batch)
    }

    /// A partition of a topic that is there, or was when last heard of.
    fn any_partition(&mut self) -> Option<(TopicFacts, PartitionId)> {
        let alive_count = self.alive().count();
        let nth = self.dice.below(alive_count as u64) as usize;
        let topic = self.alive().nth(nth)?.clone();
        let index = self.dice.below(topic.logs.len() as u64) as u32;
        let id = topic.id;
        Some((topic, PartitionId { topic: id, index }))
    }

    fn alive(&self) -> impl Iterator<Item = &TopicFacts> {
        self.topics.values().filter_map(|known| match known {
            Known::Alive(facts) => Some(facts),
            Known::Perhaps | Known::Going(_) | Known::Condemned | Known::Gone => None,
        })
    }
}

/// What frames hold, record by record, of either encoding.
///
/// # Errors
/// A batch that is none.
fn records_of(frames: &[Frame]) -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    for frame in frames {
        let records = Records::open(frame, FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
        seen.extend(seen_of(&records)?);
    }
    Ok(seen)
}

/// # Errors
/// A record that is none.
pub(crate) fn seen_of(records: &Records) -> Result<Vec<Seen>, String> {
    let seen = records.iter().map(|record| {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.value.and_then(Value::decode);
        Ok(Seen { offset: record.offset, value, timestamp: record.timestamp })
    });
    seen.collect()
}
