//! Producers. An idempotent lane keeps what is not acknowledged and sends it again, in order, until it is; a plain
//! batch is sent once.
//!
//! A lane behaves as the SDK's do: nothing follows its first batch until something of it was stored since it last
//! got stuck (a broker that does not know a producer takes any sequence for its first), and after any refusal it
//! waits for all answers and begins again at the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine_api::{Acks, InitProducerError, PartitionId, Produce, ProduceError, Produced, Request};
use storage_frame::{BatchBuilder, Frame, LogId, Producer, TimestampMs};

use super::{Asked, Direct, PRODUCER};
use crate::fact::{BatchId, Fact, TopicFacts};
use crate::value::{VALUE_BYTES_MIN, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) u32);

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneId, Lane>,
}

#[derive(Debug)]
struct Lane {
    to: PartitionId,
    log: LogId,
    is_caching: bool,
    identity: Identity,
    next_number: u64,
    next_nth: u64,
    /// Not acknowledged, oldest first.
    batches: VecDeque<Batch>,
    is_proven: bool,
    /// Something went wrong: wait for all answers, then begin again.
    is_stuck: bool,
    retry_at: Duration,
    /// Its partition is gone, or will take nothing more.
    is_dead: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Wanted,
    Asked,
    Given(u64),
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    /// Of the lane's batches, from 0.
    nth: u64,
    /// Sequences are record numbers: a lane has one producer id for ever.
    base_sequence: u32,
    frame: Frame,
    in_flight: bool,
    /// An earlier try may have been stored: a topic that was changed since may refuse the next all the same.
    is_doubtful: bool,
}

const RETRY_MAX: u64 = 400;

impl Lane {
    fn in_flight_count(&self) -> usize {
        self.batches.iter().filter(|batch| batch.in_flight).count()
    }

    fn is_drained(&self) -> bool {
        self.is_dead || self.batches.is_empty()
    }

    fn get_stuck(&mut self, until: Duration) {
        self.is_stuck = true;
        self.is_proven = false;
        self.retry_at = until;
    }
}

impl Lanes {
    /// Of a node that comes back nobody knows what it knows: as the SDK does on a new stream.
    pub(super) fn prove_again(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.is_proven = false);
    }

    pub(super) fn on_lost(&mut self, lane: LaneId, batch: BatchId) {
        let lane = self.lanes.get_mut(&lane).expect("lanes stay");
        if let Some(batch) = lane.batches.iter_mut().find(|sent| sent.id == batch) {
            batch.in_flight = false;
            batch.is_doubtful = true;
        }
        lane.get_stuck(Duration::ZERO);
    }

    pub(super) fn on_no_identity(&mut self, lane: LaneId) {
        let lane = self.lanes.get_mut(&lane).expect("lanes stay");
        if lane.identity == Identity::Asked {
            lane.identity = Identity::Wanted;
        }
    }
}

impl Direct {
    /// A batch on one of the lanes, or on a new one.
    pub fn produce(&mut self) {
        let open: Vec<LaneId> =
            self.lanes.lanes.iter().filter(|(_, lane)| !lane.is_dead).map(|(id, _)| *id).collect();
        let is_new = open.is_empty() || open.len() < self.manners.lanes_max && self.dice.one_in(8);
        if !is_new {
            let id = *self.dice.pick(&open);
            return self.produce_on(id);
        }
        if let Some((topic, to)) = self.any_partition() {
            self.open_lane(&topic, to);
        }
    }

    /// A lane for every partition there is, each with one more batch: does the node take them?
    pub fn produce_everywhere(&mut self) {
        let topics: Vec<TopicFacts> = self.alive().cloned().collect();
        for topic in topics {
            for index in 0..topic.logs.len() as u32 {
                let id = self.open_lane(&topic, PartitionId { topic: topic.id, index });
                self.new_batch(id);
            }
        }
    }

    fn open_lane(&mut self, topic: &TopicFacts, to: PartitionId) -> LaneId {
        self.next_lane += 1;
        let id = LaneId(self.next_lane);
        let lane = Lane {
            to,
            log: topic.logs[to.index as usize],
            is_caching: topic.promise.write_caching,
            identity: Identity::Wanted,
            next_number: 0,
            next_nth: 0,
            batches: VecDeque::new(),
            is_proven: false,
            is_stuck: false,
            retry_at: Duration::ZERO,
            is_dead: false,
        };
        self.lanes.lanes.insert(id, lane);
        self.identify(id);
        id
    }

    fn identify(&mut self, id: LaneId) {
        self.lanes.lanes.get_mut(&id).expect("a lane").identity = Identity::Asked;
        self.ask(Asked::Identify { lane: id }, Request::InitProducer);
    }

    pub(super) fn on_identity(&mut self, id: LaneId, answer: Result<u64, InitProducerError>) {
        let lane = self.lanes.lanes.get_mut(&id).expect("lanes stay");
        lane.identity = match answer {
            Ok(given) => Identity::Given(given),
            Err(_) => Identity::Wanted,
        };
    }

    fn produce_on(&mut self, id: LaneId) {
        let lane = &self.lanes.lanes[&id];
        let waiting = lane.batches.len() - lane.in_flight_count();
        if waiting < self.manners.in_flight_max {
            self.new_batch(id);
        }
        self.send_waiting(id);
    }

    fn new_batch(&mut self, id: LaneId) {
        let batch = self.next_batch();
        let count = 1 + self.dice.below(u64::from(self.manners.batch_records_max));
        let (to, first) = {
            let lane = self.lanes.lanes.get_mut(&id).expect("a lane");
            let first = lane.next_number;
            lane.next_number += count;
            (lane.to, first)
        };
        let records = self.draw_records(id.0, first, count);
        // Sealed again with its producer when it is sent.
        let frame = seal(&records, None);
        self.wishes.facts.push(Fact::Sent { batch, to, records, idempotent: true });
        let lane = self.lanes.lanes.get_mut(&id).expect("a lane");
        let base_sequence = u32::try_from(first).expect("a short lane");
        lane.batches.push_back(Batch {
            id: batch,
            nth: lane.next_nth,
            base_sequence,
            frame,
            in_flight: false,
            is_doubtful: false,
        });
        lane.next_nth += 1;
    }

    fn draw_records(&mut self, lane: u32, first: u64, count: u64) -> Vec<(Value, TimestampMs)> {
        let bytes_max = u64::from(self.manners.value_bytes_max);
        let span = [1, 2000][self.dice.below(2) as usize];
        let mut records = Vec::with_capacity(count as usize);
        for number in first..first + count {
            let bytes = match self.dice.below(8) {
                0 => self.dice.between(u64::from(VALUE_BYTES_MIN), bytes_max),
                // Sizes that recur put new frames where torn ones left their residue.
                1 => 384,
                _ => self.dice.between(u64::from(VALUE_BYTES_MIN), 200),
            };
            let value = Value { client: PRODUCER.0, lane, number, bytes: bytes as u32 };
            let timestamp = TimestampMs(self.moment.wall.0 - self.dice.below(span) as i64);
            records.push((value, timestamp));
        }
        records
    }

    fn send_waiting(&mut self, id: LaneId) {
        let now = self.moment.now;
        let in_flight_max = self.manners.in_flight_max;
        let lane = self.lanes.lanes.get_mut(&id).expect("a lane");
        if lane.is_dead || now < lane.retry_at {
            return;
        }
        let producer = match lane.identity {
            Identity::Wanted => return self.identify(id),
            Identity::Asked => return,
            Identity::Given(producer) => producer,
        };
        if lane.is_stuck && lane.in_flight_count() > 0 {
            return;
        }
        lane.is_stuck = false;
        let window = if lane.is_proven { in_flight_max as u64 } else { 1 };
        let to = lane.to;
        let mut going = Vec::new();
        // The broker knows so many of the last batches, and no more: those acknowledged behind the oldest that is not
        // count, too (a cancelled batch may have been stored, and find only a core that does not lead).
        let end = lane.batches.front().map_or(0, |oldest| oldest.nth + window);
        let in_window = lane.batches.iter_mut().take_while(|batch| batch.nth < end);
        for batch in in_window.filter(|batch| !batch.in_flight) {
            batch.in_flight = true;
            let mut header = *batch.frame.header();
            header.producer = Some(Producer { id: producer, epoch: 0, base_sequence: batch.base_sequence });
            going.push((batch.id, Frame::seal(header, batch.frame.payload().clone())));
        }
        for (batch, frame) in going {
            let acks = if self.dice.one_in(6) { Acks::Leader } else { Acks::All };
            let request = Request::Produce(Produce { partition: to, acks, frame });
            self.ask(Asked::Produce { lane: id, batch }, request);
        }
    }

    pub(super) fn on_produced(&mut self, id: LaneId, batch: BatchId, answer: Result<Produced, ProduceError>) {
        let backoff = Duration::from_millis(self.dice.below(RETRY_MAX));
        let lane = self.lanes.lanes.get_mut(&id).expect("lanes stay");
        let Some(at) = lane.batches.iter().position(|sent| sent.id == batch) else { return };
        match answer {
            Ok(produced) => {
                lane.batches.remove(at);
                lane.is_proven |= !lane.is_stuck;
                self.wishes.facts.push(acked(batch, &produced));
                self.send_waiting(id);
            }
            Err(ProduceError::UnknownPartition | ProduceError::Damaged { .. }) => self.kill(id),
            Err(ProduceError::OutOfSequence { .. }) if at == 0 && !lane.is_stuck => {
                self.wishes.facts.push(Fact::Gap { batch });
                self.kill(id);
            }
            Err(
                error @ (ProduceError::OutOfSequence { .. }
                | ProduceError::NotLeader
                | ProduceError::NoSpace
                | ProduceError::Overloaded
                | ProduceError::StorageFailed { .. }
                | ProduceError::ShuttingDown),
            ) => {
                let batch = &mut lane.batches[at];
                batch.in_flight = false;
                batch.is_doubtful |=
                    matches!(error, ProduceError::StorageFailed { .. } | ProduceError::ShuttingDown);
                lane.get_stuck(self.moment.now + backoff);
            }
            Err(
                error @ (ProduceError::TooLarge { .. }
                | ProduceError::Invalid { .. }
                | ProduceError::ProducerFenced { .. }),
            ) => {
                if !lane.batches[at].is_doubtful {
                    lane.batches.remove(at);
                    self.wishes.facts.push(Fact::Refused { batch, why: error.to_string() });
                }
                self.kill(id);
            }
        }
    }

    /// Nothing more is sent on it, and what is not acknowledged may be stored or not.
    fn kill(&mut self, id: LaneId) {
        let lane = self.lanes.lanes.get_mut(&id).expect("lanes stay");
        lane.is_dead = true;
        for batch in std::mem::take(&mut lane.batches) {
            self.wishes.facts.push(Fact::Doubtful { batch: batch.id });
        }
    }

    /// The end of what was acknowledged from memory may be lost: their producers begin anew.
    pub(super) fn forget_caching_lanes(&mut self, loses_memory: impl Fn(LogId) -> bool) {
        let is_forgotten = |lane: &Lane| lane.is_caching && !lane.is_dead && loses_memory(lane.log);
        let forgotten = self.lanes.lanes.iter().filter(|(_, lane)| is_forgotten(lane));
        let forgotten: Vec<LaneId> = forgotten.map(|(id, _)| *id).collect();
        forgotten.into_iter().for_each(|id| self.kill(id));
    }

    /// Sends again what is due.
    pub fn retry(&mut self) {
        let ids: Vec<LaneId> = self.lanes.lanes.keys().copied().collect();
        for id in ids {
            if !self.lanes.lanes[&id].is_drained() {
                self.send_waiting(id);
            }
        }
    }

    /// Everything was acknowledged or given up, and nobody waits for an answer.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lanes.lanes.values().all(Lane::is_drained)
    }

    /// What is not acknowledged, for people.
    #[must_use]
    pub fn undrained(&self) -> String {
        let lanes = self.lanes.lanes.iter().filter(|(_, lane)| !lane.is_drained());
        let told = lanes.map(|(id, lane)| {
            format!("lane {} to {}/{}: {} batches", id.0, lane.to.topic, lane.to.index, lane.batches.len())
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// One batch that nobody sends again.
    pub fn produce_plain(&mut self) {
        let Some((_, to)) = self.any_partition() else { return };
        self.next_lane += 1;
        let count = 1 + self.dice.below(u64::from(self.manners.batch_records_max));
        let records = self.draw_records(self.next_lane, 0, count);
        let frame = seal(&records, None);
        let batch = self.next_batch();
        self.wishes.facts.push(Fact::Sent { batch, to, records, idempotent: false });
        let acks = *self.dice.pick(&[Acks::None, Acks::Leader, Acks::All]);
        self.ask(Asked::PlainProduce { batch }, Request::Produce(Produce { partition: to, acks, frame }));
    }

    pub(super) fn on_plain(&mut self, batch: BatchId, answer: Result<Produced, ProduceError>) {
        let fact = match answer {
            Ok(produced) => acked(batch, &produced),
            Err(ProduceError::StorageFailed { .. } | ProduceError::ShuttingDown) => Fact::Doubtful { batch },
            Err(error) => Fact::Refused { batch, why: error.to_string() },
        };
        self.wishes.facts.push(fact);
    }
}

fn acked(batch: BatchId, produced: &Produced) -> Fact {
    Fact::Acked {
        batch,
        base_offset: produced.base_offset,
        durability: produced.durability,
        duplicate: produced.duplicate,
    }
}

/// Client, lane and number of a value.
const KEY_BYTES: usize = 16;

pub(super) fn seal(records: &[(Value, TimestampMs)], producer: Option<Producer>) -> Frame {
    let mut builder = BatchBuilder::new();
    for (value, timestamp) in records {
        let encoded = value.encode();
        // No two have the same: compaction may take none of them.
        let key = &encoded[..KEY_BYTES];
        builder.push(*timestamp, Some(key), Some(&encoded), []).expect("a small batch");
    }
    builder.seal(producer)
}
