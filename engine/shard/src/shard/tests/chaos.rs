//! Random histories: clients that retry, a disk that answers in any order, crashes that keep any part of what the
//! disk was asked, stops, another core count at each start. One seed is one history; a failure names its seed.
//!
//! Held against what clients were told: a record acknowledged or read stays where it was; each is stored once and
//! in its producer's order; deleted beginnings and deleted topics stay deleted.
//!
//! Topics with `write.caching` may lose the end of what was acknowledged from memory in a crash, and nothing else:
//! what is left is a beginning of what was there, record by record, down to the life that wrote it; what was on
//! disk, or survived once, stays. Their clients ask where the log ends before they go on.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{
    Acks, DeleteRecords, DeleteTopic, Durability, FetchError, FindOffset, IN_FLIGHT_BATCHES_MAX, PartitionId,
    Place, ProduceError, Request, Response, TopicId,
};
use storage_frame::Offset;

use super::disk;
use super::node::{Node, Settings, create, fetch, fetched, produce, produced, producer, records};
use crate::Input;

const SEEDS: u64 = 60;
const STEPS: u32 = 300;
const PRODUCER: u64 = 7;
/// A value of a topic with `write.caching` is its sequence number and so many times the life that sent it.
const LIFE: u32 = 1_000_000;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// One idempotent client and one reader of a partition; values are sequence numbers.
#[derive(Debug, Default)]
struct Client {
    /// Everything below is acknowledged.
    acked: u32,
    next: u32,
    /// One past the largest ever sent.
    sent_end: u32,
    /// Answers not yet here: request and sequence.
    in_flight: Vec<(u64, u32)>,
    /// Something went wrong: wait for all answers, then send again from `acked`.
    is_stuck: bool,
    fetch: Option<u64>,
    read_end: u64,
    /// Records below are gone for certain.
    start: u64,
    delete: Option<(u64, u64)>,
    /// Content by offset, as acknowledged or read: for ever, or until it is lost where that is allowed.
    seen: BTreeMap<u64, u32>,
    is_caching: bool,
    /// Below it nothing may be lost.
    durable_end: u64,
    /// Where the log ends has to be asked, or has been.
    must_find: bool,
    find: Option<u64>,
}

impl Client {
    fn value(&self, sequence: u32, life: u32) -> u32 {
        if self.is_caching { sequence + LIFE * life } else { sequence }
    }

    /// The log ends there: what was behind it is lost. How many of those had been acknowledged.
    fn on_found(&mut self, seed: u64, id: PartitionId, end: u64) -> u32 {
        assert!(
            end >= self.durable_end,
            "seed {seed}: {id:?} ends at {end}, on disk were {}",
            self.durable_end
        );
        assert!(end <= u64::from(self.sent_end), "seed {seed}: {id:?} has more than was sent");
        self.must_find = false;
        self.is_stuck = false;
        self.durable_end = end;
        self.seen.retain(|offset, _| *offset < end);
        self.read_end = self.read_end.min(end);
        let lost_count = self.acked.saturating_sub(end as u32);
        self.acked = end as u32;
        self.next = self.acked;
        lost_count
    }
}

struct History {
    seed: u64,
    random: Random,
    node: Node,
    clients: BTreeMap<PartitionId, Client>,
    creates: Vec<(u64, bool)>,
    deletes: Vec<(u64, TopicId)>,
    /// Asked to be deleted: may be there or not.
    doubtful: Vec<TopicId>,
    gone: Vec<TopicId>,
    /// In this life: a log without room does not wait for it when it is closed.
    was_full: bool,
    /// Acknowledged from memory, gone with a crash.
    lost_count: u32,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let settings = settings(&mut random);
        let mut node = Node::new(disk::with_luck(seed), &settings);
        node.disk_waits = true;
        Self {
            seed,
            random,
            node,
            clients: BTreeMap::new(),
            creates: Vec::new(),
            deletes: Vec::new(),
            doubtful: Vec::new(),
            gone: Vec::new(),
            was_full: false,
            lost_count: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.work_disk(),
            50..55 => self.node.pass(Duration::from_millis(10)),
            55..57 => self.node.pass(Duration::from_millis(500)),
            57..59 => self.create(),
            59 => self.delete_topic(),
            60..62 => self.delete_records(),
            62 => self.crash(),
            63 => self.stop(),
            64 => self.node.disk.faults_mut().full = !self.node.disk.faults().full,
            65..80 => self.fetch(),
            _ => self.produce(),
        }
        self.was_full |= self.node.disk.faults().full;
        self.node.pump();
        self.hear();
    }

    fn work_disk(&mut self) {
        for _ in 0..=self.random.below(4) {
            if self.node.disk_queue.is_empty() {
                return;
            }
            let nth = self.random.below(self.node.disk_queue.len());
            let op = self.node.disk_queue.remove(nth).expect("below the length");
            let rest = std::mem::replace(&mut self.node.disk_queue, [op].into());
            self.node.run_disk();
            self.node.disk_queue.extend(rest);
            self.node.pump();
        }
    }

    fn create(&mut self) {
        let name = format!("t{}", self.random.below(3));
        let partitions = 1 + self.random.below(3) as u32;
        let flush_ms = ["10", "100", "60000"][self.random.below(3)];
        let is_caching = self.random.below(2) == 0;
        let configs: &[_] =
            if is_caching { &[("write.caching", "true"), ("flush.ms", flush_ms)] } else { &[] };
        self.creates.push((self.node.send(create(&name, partitions, configs)), is_caching));
    }

    fn delete_topic(&mut self) {
        let Some(id) = self.any_partition() else { return };
        let Some(name) = self.name_of(id.topic) else { return };
        // Whichever topic has the name when it is decided on; the client asks for the one it knows.
        if self.creates.is_empty() && self.deletes.is_empty() {
            let key = self.node.send(Request::DeleteTopic(DeleteTopic { name, id: None }));
            self.deletes.push((key, id.topic));
            self.doubtful.push(id.topic);
        }
    }

    fn name_of(&mut self, topic: TopicId) -> Option<String> {
        let names = Request::DescribeTopics(engine_api::DescribeTopics { names: Vec::new() });
        match self.node.ask(names) {
            Response::DescribeTopics(Ok(topics)) => {
                topics.into_iter().find(|t| t.id == topic).map(|t| t.name)
            }
            _ => None,
        }
    }

    fn any_partition(&mut self) -> Option<PartitionId> {
        let count = self.clients.len();
        (count > 0).then(|| *self.clients.keys().nth(self.random.below(count)).expect("below the count"))
    }

    /// A partition whose client need not ask where it ends; asks for another one.
    fn any_found(&mut self) -> Option<PartitionId> {
        let id = self.any_partition()?;
        let client = self.clients.get_mut(&id).expect("known");
        if client.must_find && client.find.is_none() {
            let find = FindOffset { partition: id, place: Place::End };
            client.find = Some(self.node.send(Request::FindOffset(find)));
        }
        (!client.must_find).then_some(id)
    }

    fn produce(&mut self) {
        let Some(id) = self.any_found() else { return };
        let client = self.clients.get_mut(&id).expect("known");
        if client.is_stuck && client.in_flight.is_empty() {
            client.is_stuck = false;
            client.next = client.acked;
        }
        if client.is_stuck || client.in_flight.len() >= IN_FLIGHT_BATCHES_MAX {
            return;
        }
        let sequence = client.next;
        client.next += 1;
        client.sent_end = client.sent_end.max(client.next);
        let value = client.value(sequence, self.node.incarnation).to_string();
        let request = produce(id, Acks::All, &[&value], producer(PRODUCER, 0, sequence));
        client.in_flight.push((self.node.send(request), sequence));
    }

    fn fetch(&mut self) {
        let Some(id) = self.any_found() else { return };
        let client = self.clients.get_mut(&id).expect("known");
        if client.fetch.is_none() {
            let wait = [None, Some(Duration::ZERO), Some(Duration::from_millis(30))][self.random.below(3)];
            let bytes_min = [0, 1, 300][self.random.below(3)];
            client.fetch = Some(self.node.send(fetch(id, client.read_end, bytes_min, wait)));
        }
    }

    fn delete_records(&mut self) {
        let Some(id) = self.any_found() else { return };
        let client = self.clients.get_mut(&id).expect("known");
        if client.delete.is_none() && client.read_end > 0 {
            let before = self.random.below(client.read_end as usize + 1) as u64;
            let key = self
                .node
                .send(Request::DeleteRecords(DeleteRecords { partition: id, before: Offset(before) }));
            client.delete = Some((key, before));
        }
    }

    fn crash(&mut self) {
        self.begin_again();
    }

    fn stop(&mut self) {
        self.node.disk_waits = false;
        self.node.input(Input::Stop);
        self.node.pass(Duration::from_millis(50));
        assert!(self.node.stopped.iter().all(|stopped| *stopped), "seed {}: not stopped", self.seed);
        self.hear();
        if !self.was_full {
            for client in self.clients.values_mut().filter(|client| !client.must_find) {
                client.durable_end = client.durable_end.max(u64::from(client.acked));
            }
        }
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.node.assert_no_errors();
        let settings = settings(&mut self.random);
        let disk = self.node.disk.clone();
        self.was_full = disk.faults().full;
        self.node = Node::new(disk, &settings);
        self.node.disk_waits = true;
        self.creates.clear();
        self.deletes.clear();
        for client in self.clients.values_mut() {
            client.is_stuck = true;
            client.in_flight.clear();
            client.fetch = None;
            client.delete = None;
            client.find = None;
            client.must_find = client.is_caching;
        }
    }

    /// Takes in every answer that has come.
    fn hear(&mut self) {
        let replies = std::mem::take(&mut self.node.replies);
        for (key, response) in replies {
            self.hear_one(key, response);
        }
    }

    fn hear_one(&mut self, key: u64, response: Response) {
        match response {
            Response::CreateTopic(result) => {
                let place = self.creates.iter().position(|(other, _)| *other == key).expect("asked");
                let (_, is_caching) = self.creates.remove(place);
                let Ok(topic) = result else { return };
                for partition in topic.partitions {
                    let id = PartitionId { topic: topic.id, index: partition.index };
                    self.clients.insert(id, Client { is_caching, ..Client::default() });
                }
            }
            Response::DeleteTopic(result) => {
                let place = self.deletes.iter().position(|(other, _)| *other == key).expect("asked");
                let (_, topic) = self.deletes.remove(place);
                if result.is_ok() {
                    self.gone.push(topic);
                    self.clients.retain(|id, _| id.topic != topic);
                }
            }
            Response::Produce(result) => self.hear_produced(key, produced(Response::Produce(result))),
            Response::Fetch(result) => self.hear_fetched(key, fetched(Response::Fetch(result))),
            Response::DeleteRecords(result) => {
                let asked = |client: &&mut Client| client.delete.is_some_and(|(other, _)| other == key);
                let Some(client) = self.clients.values_mut().find(asked) else { return };
                let (_, before) = client.delete.take().expect("just looked");
                if let Ok(start) = result {
                    assert!(start.0 >= before, "seed {}", self.seed);
                    client.durable_end = client.durable_end.max(start.0);
                    client.start = client.start.max(start.0);
                    client.read_end = client.read_end.max(client.start);
                }
            }
            Response::FindOffset(result) => {
                let asked = |(_, client): &(&PartitionId, &mut Client)| client.find == Some(key);
                let Some((id, client)) = self.clients.iter_mut().find(asked) else { return };
                client.find = None;
                match result {
                    Ok(found) => self.lost_count += client.on_found(self.seed, *id, found.offset.0),
                    Err(FetchError::UnknownPartition) => {
                        assert!(self.doubtful.contains(&id.topic), "seed {}: {id:?} is there", self.seed);
                    }
                    Err(FetchError::NotLeader | FetchError::ShuttingDown) => {}
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
            }
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn hear_produced(&mut self, key: u64, result: Result<engine_api::Produced, ProduceError>) {
        let seed = self.seed;
        let asked = |client: &Client| client.in_flight.iter().position(|(other, _)| *other == key);
        let found = self.clients.iter_mut().find_map(|(id, client)| Some((*id, asked(client)?, client)));
        let Some((id, place, client)) = found else { return };
        let (_, sequence) = client.in_flight.remove(place);
        match result {
            Ok(produced) => {
                assert_eq!(client.acked, sequence, "seed {seed}: {id:?} answered in order");
                client.acked += 1;
                if produced.durability == Durability::AllDisks {
                    client.durable_end = client.durable_end.max(produced.base_offset.0 + 1);
                } else {
                    assert!(client.is_caching, "seed {seed}: {id:?} answered before it was on disk");
                }
                let value = client.value(sequence, self.node.incarnation);
                let before = client.seen.insert(produced.base_offset.0, value);
                assert!(
                    before.is_none_or(|before| before == value),
                    "seed {seed}: {id:?} stored over another"
                );
            }
            Err(ProduceError::UnknownPartition) => {
                assert!(self.doubtful.contains(&id.topic), "seed {seed}: {id:?} is there");
            }
            Err(
                ProduceError::NotLeader
                | ProduceError::ShuttingDown
                | ProduceError::Overloaded
                | ProduceError::NoSpace,
            ) => client.is_stuck = true,
            Err(ProduceError::OutOfSequence { .. }) => {
                assert!(client.is_stuck, "seed {seed}: {id:?} out of sequence without a cause");
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }

    fn hear_fetched(&mut self, key: u64, result: Result<engine_api::Fetched, FetchError>) {
        let seed = self.seed;
        let asked = |(_, client): &(&PartitionId, &mut Client)| client.fetch == Some(key);
        let Some((id, client)) = self.clients.iter_mut().find(asked) else { return };
        client.fetch = None;
        match result {
            Ok(fetched) => {
                assert!(fetched.log_start.0 >= client.start, "seed {seed}: {id:?} deleted records came back");
                for (offset, value) in records(&fetched.frames) {
                    let value: u32 = value.parse().expect("a number");
                    let before = client.seen.insert(offset.0, value);
                    assert!(
                        before.is_none_or(|before| before == value),
                        "seed {seed}: {id:?} changed at {offset}"
                    );
                    assert!(offset < fetched.high_watermark, "seed {seed}: above the high watermark");
                    if offset.0 >= client.read_end {
                        assert_eq!(offset.0, client.read_end, "seed {seed}: {id:?} has a hole");
                        client.read_end += 1;
                    }
                }
            }
            Err(FetchError::OffsetOutOfRange { log_start, high_watermark, .. }) => {
                assert!(
                    client.read_end < log_start.0,
                    "seed {seed}: {id:?} lost records, end {high_watermark}"
                );
                client.read_end = log_start.0;
            }
            Err(FetchError::UnknownPartition) => {
                assert!(self.doubtful.contains(&id.topic), "seed {seed}: {id:?} is there");
            }
            Err(FetchError::NotLeader | FetchError::ShuttingDown) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }

    /// Faults are over: every client finishes and finds everything as promised.
    fn finish(mut self) -> u32 {
        let seed = self.seed;
        self.crash();
        self.node.disk_waits = false;
        self.node.disk.faults_mut().full = false;
        self.node.pass(Duration::from_secs(3));
        assert!(self.node.is_ready(), "seed {seed}");
        let topics: Vec<TopicId> =
            match self.node.ask(Request::DescribeTopics(engine_api::DescribeTopics { names: Vec::new() })) {
                Response::DescribeTopics(Ok(topics)) => topics.iter().map(|topic| topic.id).collect(),
                other => panic!("{other:?}"),
            };
        for gone in &self.gone {
            assert!(!topics.contains(gone), "seed {seed}: a deleted topic came back");
        }
        for (id, client) in std::mem::take(&mut self.clients) {
            if !topics.contains(&id.topic) {
                assert!(self.doubtful.contains(&id.topic), "seed {seed}: {id:?} is lost");
                continue;
            }
            let mut client = client;
            if client.is_caching {
                let find = FindOffset { partition: id, place: Place::End };
                match self.node.ask(Request::FindOffset(find)) {
                    Response::FindOffset(Ok(found)) => {
                        self.lost_count += client.on_found(seed, id, found.offset.0);
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            for sequence in client.acked..client.sent_end {
                let value = client.value(sequence, self.node.incarnation).to_string();
                self.node
                    .produce_as(id, &[&value], producer(PRODUCER, 0, sequence))
                    .unwrap_or_else(|error| panic!("seed {seed}: {id:?} {sequence}: {error}"));
            }
            let start = match self.node.fetch(id, 0) {
                Ok(fetched) => fetched.log_start.0,
                Err(FetchError::OffsetOutOfRange { log_start, .. }) => log_start.0,
                Err(error) => panic!("seed {seed}: {error}"),
            };
            assert!(start >= client.start, "seed {seed}: deleted records came back");
            let values = self.node.values_from(id, start);
            for (offset, value) in (start..).zip(&values) {
                let sequence = value.parse::<u32>().expect("a number") % LIFE;
                assert_eq!(u64::from(sequence), offset, "seed {seed}: {id:?} each once, in order");
                assert!(
                    client.seen.get(&offset).is_none_or(|seen| seen.to_string() == *value),
                    "seed {seed}"
                );
            }
            assert_eq!(start + values.len() as u64, u64::from(client.sent_end), "seed {seed}: {id:?}");
        }
        self.node.assert_no_errors();
        self.stop();
        self.lost_count
    }
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        cores: 1 + random.below(3) as u8,
        opens_max: 1 + random.below(4),
        memory_bytes_max: [64 << 20, 1 << 20][random.below(2)],
        ..Settings::default()
    }
}

/// `SHARD_SEEDS=100000` makes it a long one.
#[test]
fn random_histories_keep_every_promise() {
    let mut lost_count = 0;
    let told = std::env::var("SHARD_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in 0..told.unwrap_or(SEEDS) {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
        }
        lost_count += history.finish();
    }
    assert!(lost_count > 100, "the histories lose what may be lost: {lost_count}");
}
