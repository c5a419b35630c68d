//! A broker that keeps its promises, a network that keeps none, and what must hold of the records all the same.

mod gone;
mod under_way;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine_api::{Acks, Durability, Produced, StageTimings};
use proptest::prelude::*;
use storage_frame::{BatchView, Frame, LeaderEpoch, Offset, Producer};

use super::*;
use crate::state::lane::AfterAnswer;
use crate::state::outcome::Trouble;
use storage_recordbatch::archived::codec::Compression;

const PARTITIONS: u32 = 2;
const MEMORY_BYTES: usize = 8 << 10;

fn settings(idempotent: bool) -> AccumulatorSettings {
    AccumulatorSettings {
        batch_bytes_max: 512,
        memory_bytes_max: MEMORY_BYTES,
        lane: LaneSettings {
            acks: Acks::All,
            idempotent,
            in_flight_max: 5,
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_secs(5),
        },
        metadata_age_max: Duration::from_secs(60),
        seed: 1,
    }
}

#[derive(Debug, Default)]
struct Known {
    next_sequence: u32,
    /// The last five: base sequence, count, offset.
    window: VecDeque<(u32, u32, u64)>,
}

/// One partition as the broker has it.
#[derive(Debug, Default)]
struct Log {
    values: Vec<u64>,
    producers: BTreeMap<u64, Known>,
}

impl Log {
    /// Limits come before duplicates: the worse order for the client.
    fn append(&mut self, frame: &Frame, batch_bytes_max: u64) -> Result<Produced, ProduceError> {
        let count = frame.header().record_count;
        let batch_bytes = frame.header().frame_bytes() as u64;
        if batch_bytes > batch_bytes_max {
            return Err(ProduceError::TooLarge { batch_bytes, batch_bytes_max });
        }
        let values = values_of(frame);
        if values.iter().any(|value| value % POISON == POISON - 1) {
            return Err(ProduceError::Invalid { why: "poison".into() });
        }
        if let Some(Producer { id, base_sequence: sent, .. }) = frame.header().producer {
            // A producer nobody knows may start anywhere.
            let fresh = Known { next_sequence: sent, window: VecDeque::new() };
            let known = self.producers.entry(id).or_insert(fresh);
            if let Some((.., offset)) = known.window.iter().find(|(s, c, _)| (*s, *c) == (sent, count)) {
                return Ok(produced(*offset, true));
            }
            let expected = known.next_sequence;
            if sent != expected {
                return Err(ProduceError::OutOfSequence { producer_id: id, sent, expected });
            }
            known.next_sequence = sent + count;
            known.window.push_back((sent, count, self.values.len() as u64));
            if known.window.len() > 5 {
                known.window.pop_front();
            }
        }
        let base = self.values.len() as u64;
        self.values.extend(values);
        Ok(produced(base, false))
    }
}

fn values_of(frame: &Frame) -> Vec<u64> {
    let view = BatchView::open(frame).expect("uncompressed");
    let value_of = |record: Result<storage_frame::Record<'_>, _>| {
        let value = record.expect("whole").value.expect("there");
        u64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
    };
    view.records().map(value_of).collect()
}

/// One in so many values is refused for good.
const POISON: u64 = 50;

fn produced(base: u64, duplicate: bool) -> Produced {
    Produced {
        append_time: None,
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(1),
        durability: Durability::AllDisks,
        duplicate,
        timings: StageTimings::default(),
    }
}

#[derive(Debug, Default)]
struct Wire {
    /// Stream there, and what is on its way either way.
    connected: bool,
    asked: VecDeque<Frame>,
    answers: VecDeque<Result<Produced, ProduceError>>,
    /// Left over from streams that were given up: may still arrive, in their order, unanswered.
    ghosts: VecDeque<VecDeque<Frame>>,
}

impl Wire {
    fn drop_stream(&mut self) {
        self.connected = false;
        self.answers.clear();
        let ghost = std::mem::take(&mut self.asked);
        if !ghost.is_empty() {
            self.ghosts.push_back(ghost);
        }
    }
}

struct World {
    accumulator: Accumulator,
    idempotent: bool,
    dice: Dice,
    now: Duration,
    /// By lane.
    wires: Vec<Wire>,
    /// By partition.
    logs: Vec<Log>,
    next_id: u64,
    next_value: u64,
    deliveries: Vec<(u64, Delivery)>,
    faults: bool,
    /// Of the broker; falls, and never rises.
    batch_bytes_max: u64,
}

impl World {
    fn new(seed: u64, idempotent: bool) -> Self {
        let mut accumulator = Accumulator::new(settings(idempotent));
        accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", PARTITIONS, 1 << 20);
        Self {
            accumulator,
            idempotent,
            dice: Dice(seed),
            now: Duration::ZERO,
            wires: Vec::new(),
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            next_id: 1,
            next_value: 0,
            deliveries: Vec::new(),
            faults: true,
            batch_bytes_max: 1_000,
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.dice.roll().is_multiple_of(count)
    }

    fn fault(&mut self, one_in: u64) -> bool {
        self.faults && self.one_in(one_in)
    }

    fn append(&mut self) {
        let mut value = self.next_value.to_le_bytes().to_vec();
        value.resize(8 + (self.dice.roll() % 100) as usize, 7);
        let record = Record::new("t", &value).partition((self.dice.roll() % u64::from(PARTITIONS)) as u32);
        match self.accumulator.append(self.now, &record, TimestampMs(0)) {
            Ok(appended) => {
                if appended.is_new_lane {
                    self.wires.push(Wire::default());
                }
                self.deliveries.push((self.next_value, appended.delivery));
                self.next_value += 1;
            }
            Err(AppendError::NoRoom) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(self.accumulator.charged_bytes() <= MEMORY_BYTES);
    }

    fn lost(&mut self, lane: usize) {
        self.wires[lane].drop_stream();
        let (state, ledger) = self.accumulator.lane(lane);
        state.on_disconnected(self.now, Trouble::Disconnected("fault".into()), ledger);
    }

    /// Lets the lane do everything it wants now.
    fn drive(&mut self, lane: usize) {
        for _ in 0..100 {
            let link = if self.wires[lane].connected { Link::Ready } else { Link::Down };
            match self.accumulator.next_step(lane, self.now, link).expect("not closed") {
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "waits for the future");
                    return;
                }
                Step::Abandon => self.wires[lane].drop_stream(),
                Step::Connect if self.fault(3) => self.lost(lane),
                Step::Connect => self.wires[lane].connected = true,
                Step::Identify if self.fault(3) => self.lost(lane),
                Step::Identify => {
                    self.accumulator.on_identity(lane, self.next_id);
                    self.next_id += 1;
                }
                Step::Send(sending) => {
                    let (frame, builder) = sending.seal(Compression::None);
                    assert_eq!(frame.header().producer.is_some(), self.idempotent);
                    self.accumulator.lane(lane).0.put_back(frame.clone());
                    if let Some(builder) = builder {
                        self.accumulator.supply().return_builder(builder);
                    }
                    self.wires[lane].asked.push_back(frame);
                    assert!(self.wires[lane].asked.len() + self.wires[lane].answers.len() <= 5);
                }
            }
        }
        panic!("a lane never comes to rest");
    }

    fn partition(&mut self, lane: usize) -> usize {
        self.accumulator.lane(lane).0.partition as usize
    }

    /// The broker takes the oldest request off the stream.
    fn serve(&mut self, lane: usize) {
        let partition = self.partition(lane);
        let Some(frame) = self.wires[lane].asked.pop_front() else { return };
        if self.fault(200) {
            self.batch_bytes_max = (self.batch_bytes_max * 3 / 4).max(150);
        }
        let log = &mut self.logs[partition];
        let answer = if self.faults && self.dice.roll().is_multiple_of(5) {
            match self.dice.roll() % 6 {
                0 => Err(ProduceError::NotLeader),
                1 => Err(ProduceError::NoSpace),
                2 => Err(ProduceError::Overloaded),
                3 => Err(ProduceError::ShuttingDown),
                4 => Err(ProduceError::StorageFailed { why: String::new() }),
                _ => {
                    // Stored, and not said so.
                    let _ = log.append(&frame, self.batch_bytes_max);
                    Err(ProduceError::StorageFailed { why: String::new() })
                }
            }
        } else {
            log.append(&frame, self.batch_bytes_max)
        };
        self.wires[lane].answers.push_back(answer);
    }

    fn serve_ghost(&mut self, lane: usize) {
        let partition = self.partition(lane);
        let wire = &mut self.wires[lane];
        let Some(ghost) = wire.ghosts.front_mut() else { return };
        let frame = ghost.pop_front().expect("not empty");
        if ghost.is_empty() {
            wire.ghosts.pop_front();
        }
        let _ = self.logs[partition].append(&frame, self.batch_bytes_max);
    }

    fn answer(&mut self, lane: usize) {
        let Some(answer) = self.wires[lane].answers.pop_front() else { return };
        let (state, ledger) = self.accumulator.lane(lane);
        match state.on_answer(self.now, answer, ledger).expect("asked for") {
            AfterAnswer::Continue => {}
            AfterAnswer::Abandon | AfterAnswer::Refresh => self.wires[lane].drop_stream(),
            AfterAnswer::Fatal(error) => panic!("{error}"),
        }
    }

    fn act(&mut self) {
        let lanes_count = self.wires.len() as u64;
        if lanes_count == 0 || self.one_in(3) {
            return self.append();
        }
        let lane = (self.dice.roll() % lanes_count) as usize;
        match self.dice.roll() % 8 {
            0..=1 => self.drive(lane),
            2..=3 => self.serve(lane),
            4..=5 => self.answer(lane),
            6 => {
                self.now += Duration::from_millis(self.dice.roll() % 300);
                if self.one_in(4) {
                    self.serve_ghost(lane);
                }
            }
            _ if self.fault(6) && self.wires[lane].connected => self.lost(lane),
            _ => {}
        }
    }

    /// No more faults: everything must get its answer.
    fn heal(&mut self) {
        self.faults = false;
        self.accumulator.flush();
        for _ in 0..10_000 {
            for lane in 0..self.wires.len() {
                self.drive(lane);
                self.serve(lane);
                self.answer(lane);
                if self.one_in(5) {
                    self.serve_ghost(lane);
                }
            }
            self.now += Duration::from_millis(20);
            if self.accumulator.charged_bytes() == 0 {
                break;
            }
        }
        for lane in 0..self.wires.len() {
            while !self.wires[lane].ghosts.is_empty() {
                self.serve_ghost(lane);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.accumulator.charged_bytes(), 0, "all memory is released");
        assert!(self.accumulator.is_settled(u64::MAX), "every batch is settled");
        let mut last_offsets = vec![None; PARTITIONS as usize];
        for (value, delivery) in &self.deliveries {
            let partition = delivery.partition() as usize;
            let values = &self.logs[partition].values;
            match delivery.peek().expect("no delivery waits for ever") {
                Ok(metadata) => {
                    let offset = metadata.offset.expect("acknowledged").0;
                    assert_eq!(values[offset as usize], *value, "acknowledged with its own offset");
                    if self.idempotent {
                        assert!(last_offsets[partition].is_none_or(|last| last < offset), "order is kept");
                    }
                    last_offsets[partition] = Some(offset);
                }
                Err(DeliveryError::Refused(_) | DeliveryError::NotSent { .. }) if self.idempotent => {
                    assert!(!values.contains(value), "{value} was said not to be stored");
                }
                Err(_) => {}
            }
        }
        if self.idempotent {
            for log in &self.logs {
                let distinct: BTreeSet<_> = log.values.iter().collect();
                assert_eq!(distinct.len(), log.values.len(), "nothing is stored twice");
            }
        }
    }
}

fn run(seed: u64, idempotent: bool, actions: usize) -> World {
    let mut world = World::new(seed, idempotent);
    for _ in 0..actions {
        world.act();
    }
    world.heal();
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn faults_lose_nothing_acknowledged_and_double_nothing(seed: u64, actions in 10usize..3_000) {
        run(seed, true, actions);
    }

    #[test]
    fn without_idempotence_every_delivery_still_resolves(seed: u64, actions in 10usize..1_000) {
        run(seed, false, actions);
    }
}

#[test]
fn random_faults_reach_the_rare_paths() {
    let (mut retries, mut identities, mut seen) = (0, 0, [0; 5]);
    for seed in 0..40 {
        let world = run(seed, true, 2_000);
        retries += world.accumulator.retries_count();
        identities += world.accumulator.identities_count();
        for (_, delivery) in &world.deliveries {
            let case = match delivery.peek().expect("resolved") {
                Ok(metadata) if metadata.duplicate => 0,
                Err(DeliveryError::Refused(_)) => 1,
                Err(DeliveryError::RefusedOnRetry(_)) => 2,
                Err(DeliveryError::NotSent { .. }) => 3,
                Err(DeliveryError::TimedOut { .. }) => 4,
                Ok(_) | Err(DeliveryError::OffsetUnknown | DeliveryError::Closed { .. }) => continue,
            };
            seen[case] += 1;
        }
    }
    assert!(retries > 100 && identities > 10, "{retries} {identities}");
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn without_faults_everything_is_stored_in_order() {
    let mut world = World::new(3, true);
    world.faults = false;
    for _ in 0..5_000 {
        world.act();
    }
    world.heal();
    world.check();
    assert!(world.deliveries.len() > 1_000);
    let refused = |delivery: &Delivery| matches!(delivery.peek(), Some(Err(DeliveryError::Refused(_))));
    let refused_count = world.deliveries.iter().filter(|(_, delivery)| refused(delivery)).count();
    assert!(refused_count * 4 < world.deliveries.len(), "the poisoned and their batches only");
    assert!(world.deliveries.iter().all(|(_, d)| refused(d) || matches!(d.peek(), Some(Ok(_)))));
}

/// An accumulator with one partition, connected and identified by hand.
struct One {
    accumulator: Accumulator,
}

impl One {
    fn new(settings: AccumulatorSettings) -> Self {
        let mut accumulator = Accumulator::new(settings);
        accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 1, 1 << 20);
        Self { accumulator }
    }

    /// One record has been stored.
    fn proven(settings: AccumulatorSettings) -> Self {
        let mut one = Self::new(settings);
        one.put(0, b"first");
        one.accumulator.flush();
        one.step(0).expect("flushed");
        one.answer(Ok(produced(0, false)));
        one
    }

    fn append(&mut self, now_ms: u64, value: &[u8]) -> Delivery {
        let now = Duration::from_millis(now_ms);
        self.accumulator.append(now, &Record::new("t", value), TimestampMs(0)).expect("room").delivery
    }

    fn put(&mut self, now_ms: u64, value: &[u8]) {
        drop(self.append(now_ms, value));
    }

    /// The next frame, or how long there is none.
    fn step(&mut self, now_ms: u64) -> Result<Frame, Option<u64>> {
        for id in 1.. {
            match self.accumulator.next_step(0, Duration::from_millis(now_ms), Link::Ready) {
                Some(Step::Identify) => self.accumulator.on_identity(0, id),
                Some(Step::Send(sending)) => {
                    let (frame, _) = sending.seal(Compression::None);
                    self.accumulator.lane(0).0.put_back(frame.clone());
                    return Ok(frame);
                }
                Some(Step::Wait(until)) => return Err(until.map(|until| until.as_millis() as u64)),
                Some(Step::Connect | Step::Abandon) => {}
                None => return Err(None),
            }
        }
        unreachable!("ids do not end")
    }

    fn answer(&mut self, answer: Result<Produced, ProduceError>) -> AfterAnswer {
        self.answer_at(0, answer)
    }

    fn answer_at(&mut self, now_ms: u64, answer: Result<Produced, ProduceError>) -> AfterAnswer {
        let (lane, ledger) = self.accumulator.lane(0);
        lane.on_answer(Duration::from_millis(now_ms), answer, ledger).expect("asked for")
    }

    fn lose(&mut self, now_ms: u64) {
        let (lane, ledger) = self.accumulator.lane(0);
        let trouble = Trouble::Disconnected("fault".into());
        lane.on_disconnected(Duration::from_millis(now_ms), trouble, ledger);
    }
}

#[test]
fn without_linger_a_third_batch_waits_for_an_answer() {
    let mut one = One::proven(settings(true));
    one.put(0, b"a");
    assert_eq!(one.step(0).unwrap().header().record_count, 1);
    one.put(0, b"b");
    assert_eq!(one.step(0).unwrap().header().record_count, 1);
    one.put(0, b"c");
    one.put(0, b"d");
    assert!(one.step(0).is_err());
    one.answer(Ok(produced(0, false)));
    assert_eq!(one.step(0).unwrap().header().record_count, 2);
}

#[test]
fn linger_holds_a_partly_filled_batch_back_and_not_a_full_one() {
    let mut settings = settings(true);
    settings.lane.linger = Duration::from_millis(50);
    let mut one = One::proven(settings);
    one.put(10, b"a");
    assert_eq!(one.step(10), Err(Some(60)));
    assert!(one.step(60).is_ok());
    for _ in 0..3 {
        one.put(100, &[0; 180]);
    }
    assert_eq!(one.step(100).unwrap().header().record_count, 2);
    assert_eq!(one.step(100), Err(Some(150)));
    one.accumulator.flush();
    assert_eq!(one.step(100).unwrap().header().record_count, 1);
}

#[test]
fn sequences_go_on_over_batches_and_stay_through_retries() {
    let mut one = One::proven(settings(true));
    one.put(0, b"a");
    one.put(0, b"b");
    let first = one.step(0).unwrap();
    one.put(0, b"c");
    let second = one.step(0).unwrap();
    let sequence = |frame: &Frame| frame.header().producer.unwrap().base_sequence;
    assert_eq!((sequence(&first), sequence(&second)), (1, 3));
    assert_eq!(one.answer(Err(ProduceError::NotLeader)), AfterAnswer::Refresh);
    assert_eq!(one.step(1_000).unwrap(), first);
    assert_eq!(one.step(1_000), Err(Some(5_000)), "alone, until the broker shows that it knows the producer");
    one.answer(Ok(produced(1, false)));
    assert_eq!(one.step(1_000).unwrap(), second);
}

#[test]
fn fenced_producer_takes_no_more() {
    let mut one = One::new(settings(true));
    let delivery = one.append(0, b"a");
    one.step(0).unwrap();
    let fenced = ProduceError::ProducerFenced { producer_id: 1, sent: 0, current: 1 };
    assert_eq!(one.answer(Err(fenced.clone())), AfterAnswer::Fatal(fenced.clone()));
    one.accumulator.fence(fenced.clone());
    assert_eq!(delivery.peek(), Some(Err(DeliveryError::Refused(fenced.clone()))));
    let refused = one.accumulator.append(Duration::ZERO, &Record::new("t", b"b"), TimestampMs(0));
    assert_eq!(refused.unwrap_err(), AppendError::Fenced(fenced));
}

#[test]
fn broker_that_lost_acknowledged_batches_gets_the_rest_under_a_new_id() {
    let mut one = One::new(settings(true));
    one.put(0, b"a");
    one.step(0).unwrap();
    one.answer(Ok(produced(0, false)));
    let delivery = one.append(0, b"b");
    let before = one.step(0).unwrap().header().producer.unwrap();
    assert_eq!(before.base_sequence, 1);
    let lost = ProduceError::OutOfSequence { producer_id: before.id, sent: 1, expected: 0 };
    assert_eq!(one.answer(Err(lost)), AfterAnswer::Abandon);
    let after = one.step(0).unwrap().header().producer.unwrap();
    assert_eq!(after.base_sequence, 0);
    one.answer(Ok(produced(0, false)));
    assert_eq!(delivery.peek().unwrap().unwrap().offset, Some(Offset(0)));
    assert_eq!(one.accumulator.identities_count(), 1);
}

#[test]
fn record_never_sent_says_so_at_its_deadline_and_one_sent_says_unknown() {
    let mut one = One::proven(settings(true));
    let sent = one.append(0, b"a");
    one.step(0).unwrap();
    one.put(0, b"b");
    one.step(0).unwrap();
    let waiting = one.append(1, b"c");
    assert!(one.step(5_001).is_err());
    assert!(matches!(sent.peek(), Some(Err(DeliveryError::TimedOut { .. }))));
    assert!(matches!(waiting.peek(), Some(Err(DeliveryError::NotSent { .. }))));
    assert_eq!(one.accumulator.charged_bytes(), 0);
}

#[test]
fn batch_refused_every_time_says_not_stored_at_its_deadline() {
    let mut one = One::proven(settings(true));
    let refused = one.append(0, b"a");
    for now_ms in [0, 1_000, 2_000] {
        let sequence = one.step(now_ms).unwrap().header().producer.unwrap().base_sequence;
        assert_eq!(sequence, 1);
        one.answer_at(now_ms, Err(ProduceError::NoSpace));
    }
    assert!(one.step(5_000).is_err());
    let Some(Err(DeliveryError::NotSent { last, .. })) = refused.peek() else { panic!("{refused:?}") };
    assert_eq!(last, Some(Trouble::Refused(ProduceError::NoSpace)));
    // Its sequence is a hole, so the next begins anew.
    one.put(5_000, b"b");
    let next = one.step(5_000).unwrap().header().producer.unwrap();
    assert_eq!((next.base_sequence, one.accumulator.identities_count()), (0, 1));
}

#[test]
fn batch_refused_once_and_lost_once_says_unknown_at_its_deadline() {
    let mut one = One::proven(settings(true));
    let lost = one.append(0, b"a");
    one.step(0).unwrap();
    one.answer_at(0, Err(ProduceError::NoSpace));
    one.step(1_000).unwrap();
    one.lose(1_000);
    one.step(2_000).unwrap();
    one.answer_at(2_000, Err(ProduceError::NoSpace));
    assert!(one.step(5_000).is_err());
    assert!(matches!(lost.peek(), Some(Err(DeliveryError::TimedOut { .. }))));
}

/// Each batch sent after the first one's deadline kept the stream for another timeout, up to five.
#[test]
fn stream_that_never_answers_is_given_up_within_two_timeouts() {
    let mut one = One::proven(settings(true));
    let mut frames_count = 0;
    for now_ms in (0..=10_000).step_by(500) {
        if now_ms % 1_500 == 0 {
            one.put(now_ms, &[0; 400]);
            one.accumulator.flush();
        }
        match one.accumulator.next_step(0, Duration::from_millis(now_ms), Link::Ready) {
            Some(Step::Send(sending)) => {
                assert!(now_ms < 5_000, "the front has had its time");
                one.accumulator.lane(0).0.put_back(sending.seal(Compression::None).0);
                frames_count += 1;
            }
            Some(Step::Abandon) => {
                assert!(frames_count > 1);
                return;
            }
            Some(Step::Wait(_)) => {}
            step => panic!("{step:?}"),
        }
    }
    panic!("it was never given up");
}

/// The pieces of a split batch are not stored; what was behind it on the stream may be, and was said not to be.
#[test]
fn without_sequences_a_split_leaves_what_was_behind_it_in_doubt() {
    let mut one = One::proven(settings(false));
    let front: Vec<_> = (0..2).map(|_| one.append(0, &[0; 100])).collect();
    one.step(0).unwrap();
    let behind = one.append(0, &[1; 400]);
    one.step(0).unwrap();
    one.answer_at(0, Err(ProduceError::TooLarge { batch_bytes: 400, batch_bytes_max: 250 }));
    assert!(one.accumulator.next_step(0, Duration::from_secs(6), Link::Busy).is_some());
    for piece in front {
        assert!(matches!(piece.peek(), Some(Err(DeliveryError::NotSent { .. }))));
    }
    assert!(matches!(behind.peek(), Some(Err(DeliveryError::TimedOut { .. }))));
}

fn append_to(accumulator: &mut Accumulator, partition: u32) -> Appended {
    let record = Record::new("t", b"x").partition(partition);
    accumulator.append(Duration::ZERO, &record, TimestampMs(0)).expect("room")
}

/// The id of the next frame; ids asked for are `new_id`.
fn id_of_next(accumulator: &mut Accumulator, lane: usize, new_id: u64) -> u64 {
    loop {
        match accumulator.next_step(lane, Duration::ZERO, Link::Ready) {
            Some(Step::Identify) => accumulator.on_identity(lane, new_id),
            Some(Step::Send(sending)) => {
                let (frame, _) = sending.seal(Compression::None);
                accumulator.lane(lane).0.put_back(frame.clone());
                let producer = frame.header().producer.expect("idempotent");
                assert_eq!(producer.base_sequence, 0);
                return producer.id;
            }
            step => panic!("{step:?}"),
        }
    }
}

/// It began again at sequence 0 of the id it had used: the broker took what was new for duplicates.
#[test]
fn partition_whose_topic_was_made_anew_gets_a_producer_id_of_its_own() {
    let mut accumulator = Accumulator::new(settings(true));
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 2, 1 << 20);
    let (first, waiting) = (append_to(&mut accumulator, 0), append_to(&mut accumulator, 1));
    assert_eq!(id_of_next(&mut accumulator, first.lane, 1), 1);
    accumulator.on_topic_gone(first.lane);
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 2, 1 << 20);
    let (anew, anew_waiting) = (append_to(&mut accumulator, 0), append_to(&mut accumulator, 1));
    assert_eq!(id_of_next(&mut accumulator, anew.lane, 2), 2);
    assert_eq!(id_of_next(&mut accumulator, anew_waiting.lane, 3), 2, "shared by those that are new");
    assert_eq!(id_of_next(&mut accumulator, waiting.lane, 4), 4, "beside the one that took its place");
}

#[test]
fn partitions_that_went_and_came_back_get_a_producer_id_of_their_own() {
    let mut accumulator = Accumulator::new(settings(true));
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 2, 1 << 20);
    let before = append_to(&mut accumulator, 1);
    assert_eq!(id_of_next(&mut accumulator, before.lane, 1), 1);
    let second = Duration::from_secs(1);
    accumulator.set_topic(second, second, "t", 1, 1 << 20);
    accumulator.set_topic(second, second, "t", 2, 1 << 20);
    let anew = append_to(&mut accumulator, 1);
    assert!(anew.is_new_lane);
    assert_eq!(id_of_next(&mut accumulator, anew.lane, 2), 2);
}

#[test]
fn metadata_older_than_what_is_known_is_not_heard() {
    let mut accumulator = Accumulator::new(settings(true));
    accumulator.set_topic(Duration::ZERO, Duration::from_millis(5), "t", 2, 1 << 20);
    let lane = append_to(&mut accumulator, 1).lane;
    accumulator.set_topic(Duration::ZERO, Duration::from_millis(4), "t", 1, 1 << 20);
    assert_eq!(append_to(&mut accumulator, 1).lane, lane);
}

#[test]
fn oversized_records_and_partitions_out_of_range_are_refused_at_once() {
    let mut accumulator = Accumulator::new(settings(true));
    let now = Duration::ZERO;
    let append = |accumulator: &mut Accumulator, record: Record<'_>| {
        accumulator.append(now, &record, TimestampMs(0)).map(|_| ()).unwrap_err()
    };
    assert_eq!(append(&mut accumulator, Record::new("t", b"")), AppendError::TopicNotLoaded);
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 3, 1_000);
    let too_large = append(&mut accumulator, Record::new("t", &[0; 1_000]));
    assert!(matches!(too_large, AppendError::RecordTooLarge { record_bytes_max: 1_000, .. }));
    assert_eq!(
        append(&mut accumulator, Record::new("t", b"").partition(3)),
        AppendError::PartitionOutOfRange { partition: 3, partitions_count: 3 }
    );
    let name = "n".repeat(70_000);
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 3, 1 << 20);
    let mut large = Accumulator::new(AccumulatorSettings { memory_bytes_max: 1 << 20, ..settings(true) });
    large.set_topic(Duration::ZERO, Duration::ZERO, "t", 3, 1 << 20);
    assert_eq!(
        append(&mut large, Record::new("t", b"").header(&name, b"")),
        AppendError::HeaderName { bytes: 70_000 }
    );
    assert_eq!(large.charged_bytes(), 0);
}

#[test]
fn old_metadata_is_said_to_be_once() {
    let mut one = One::new(settings(true));
    let mut is_stale = |now| {
        let now = Duration::from_secs(now);
        one.accumulator.append(now, &Record::new("t", b""), TimestampMs(0)).expect("room").is_stale
    };
    assert_eq!([is_stale(0), is_stale(60), is_stale(61), is_stale(62)], [false, false, true, false]);
}

#[test]
fn record_above_the_batch_size_goes_alone() {
    let mut one = One::proven(settings(true));
    one.put(0, b"small");
    one.put(0, &[1; 2_000]);
    one.put(0, b"small");
    let counts: Vec<u32> = std::iter::from_fn(|| one.step(0).ok()).map(|f| f.header().record_count).collect();
    assert_eq!(counts, [1, 1]);
    one.answer(Ok(produced(0, false)));
    assert_eq!(one.step(0).unwrap().header().record_count, 1);
}

#[test]
fn keyed_records_go_where_kafka_puts_them_and_unkeyed_ones_stick_until_their_batch_leaves() {
    let mut accumulator = Accumulator::new(settings(true));
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 4, 1 << 20);
    let mut partition_of = |record: Record<'_>| {
        accumulator.append(Duration::ZERO, &record, TimestampMs(0)).expect("room").delivery.partition()
    };
    assert_eq!(partition_of(Record::new("t", b"").key(b"foobar")), partition_of_key(b"foobar", 4));
    let first = partition_of(Record::new("t", b"x"));
    assert_eq!(partition_of(Record::new("t", b"x")), first);
    let visited: BTreeSet<u32> = (0..40).map(|_| partition_of(Record::new("t", &[0; 100]))).collect();
    assert_eq!(visited.len(), 4, "full batches move on to every partition");
}
