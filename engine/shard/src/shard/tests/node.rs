//! A node: its shards, the messages between them, its disk, its clock, and what its clients were told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use engine_api::{
    Acks, CoreId, CreateTopic, DeleteTopic, DescribeTopics, Fetch, FetchError, Fetched, NodeId, PartitionId,
    Produce, ProduceError, Produced, ReplySlot, Request, Response, TopicDescription, TopicError,
};
use storage_frame::{BatchBuilder, BatchView, Frame, LogId, Now, Offset, Producer, TimestampMs};
use storage_log::{DiskOp, OpId};
use tests_disk::ModelDisk;

use super::disk;
use crate::{Effect, Event, GroupsConfig, Input, Level, Shard, ShardConfig};

pub(super) const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) cores: u8,
    pub(super) memory_bytes_max: usize,
    pub(super) free_bytes_min: u64,
    pub(super) opens_max: usize,
    pub(super) metadata_snapshot_bytes: usize,
    pub(super) cluster_id: u128,
    pub(super) offsets_partitions: u32,
    pub(super) groups: GroupsConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cores: 2,
            memory_bytes_max: 64 << 20,
            free_bytes_min: 1000,
            opens_max: 4,
            metadata_snapshot_bytes: crate::METADATA_SNAPSHOT_BYTES,
            cluster_id: 77,
            offsets_partitions: 4,
            groups: GroupsConfig::default(),
        }
    }
}

pub(super) struct Node {
    pub(super) disk: ModelDisk,
    pub(super) incarnation: u32,
    pub(super) shards: Vec<Shard>,
    pub(super) now: Now,
    inbox: VecDeque<(usize, Input)>,
    /// Asked of the disk and not done.
    pub(super) disk_queue: VecDeque<(usize, LogId, OpId, DiskOp)>,
    /// The disk does nothing until this is false.
    pub(super) disk_waits: bool,
    /// A core that gets no turn.
    pub(super) asleep: Option<usize>,
    /// Operations the disk still does before the power goes.
    pub(super) disk_ops_left: Option<usize>,
    /// When the power goes, the operation that did not count any more is done all the same, untold.
    pub(super) last_op_is_done: bool,
    pub(super) disk_ops_count: usize,
    pub(super) replies: BTreeMap<u64, Response>,
    next_key: u64,
    pub(super) events: Vec<Event>,
    pub(super) ready: Vec<bool>,
    pub(super) stopped: Vec<bool>,
    /// Everything the shards wanted, for comparing runs.
    pub(super) trace: Vec<String>,
    pub(super) keeps_trace: bool,
}

impl Node {
    /// Started, and pumped until nothing is left to do.
    pub(super) fn start(disk: ModelDisk, settings: &Settings) -> Self {
        let mut node = Self::new(disk, settings);
        node.pump();
        node
    }

    pub(super) fn new(mut disk: ModelDisk, settings: &Settings) -> Self {
        let incarnation = disk::begin_life(&mut disk, settings.cores);
        let now = Now {
            mono: Duration::from_secs(1),
            wall: TimestampMs(1_700_000_000_000 + i64::from(incarnation)),
        };
        let config = |core| ShardConfig {
            node: NodeId(0),
            core: CoreId(core),
            cores: settings.cores,
            cluster_id: settings.cluster_id,
            incarnation,
            address: "127.0.0.1:9092".into(),
            version: "0.1.0".into(),
            seed: u64::from(incarnation),
            memory_bytes_max: settings.memory_bytes_max,
            free_bytes_min: settings.free_bytes_min,
            opens_max: settings.opens_max,
            metadata_snapshot_bytes: settings.metadata_snapshot_bytes,
            topic_defaults: Vec::new(),
            offsets_partitions: settings.offsets_partitions,
            groups: settings.groups.clone(),
        };
        let shards: Vec<Shard> = (0..settings.cores).map(|core| Shard::new(config(core), now)).collect();
        Self {
            disk,
            incarnation,
            ready: vec![false; shards.len()],
            stopped: vec![false; shards.len()],
            shards,
            now,
            inbox: VecDeque::new(),
            disk_queue: VecDeque::new(),
            disk_waits: false,
            asleep: None,
            disk_ops_left: None,
            last_op_is_done: false,
            disk_ops_count: 0,
            replies: BTreeMap::new(),
            next_key: 0,
            events: Vec::new(),
            trace: Vec::new(),
            keeps_trace: false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.iter().all(|ready| *ready)
    }

    /// Delivers everything until nobody has anything left to say.
    pub(super) fn pump(&mut self) {
        loop {
            for core in (0..self.shards.len()).filter(|core| self.asleep != Some(*core)).collect::<Vec<_>>() {
                self.turn(core);
            }
            let disk_can = !self.disk_waits && self.run_disk();
            let is_heard = |(to, _): &(usize, Input)| self.asleep != Some(*to);
            if !self.inbox.iter().any(is_heard) && !disk_can {
                return;
            }
        }
    }

    fn turn(&mut self, core: usize) {
        let (mine, others) = std::mem::take(&mut self.inbox).into_iter().partition(|(to, _)| *to == core);
        self.inbox = others;
        let mine: VecDeque<(usize, Input)> = mine;
        for (_, input) in mine {
            self.shards[core].handle(self.now, input);
        }
        let mut effects = Vec::new();
        self.shards[core].end_turn(self.now, &mut effects);
        for effect in effects {
            self.perform(core, effect);
        }
    }

    fn perform(&mut self, core: usize, effect: Effect) {
        if self.keeps_trace {
            self.trace.push(format!("{core} {effect:?}"));
        }
        match effect {
            Effect::Reply(slot, response) if slot.key & crate::SHARD_KEY_BIT != 0 => {
                self.inbox.push_back((usize::from(slot.core.0), Input::Answer { key: slot.key, response }));
            }
            Effect::Reply(slot, response) => {
                let before = self.replies.insert(slot.key, response);
                assert!(before.is_none(), "answered twice");
            }
            Effect::Disk { log, op, what } => {
                self.disk.submit(core as u8, log, op, what.clone());
                self.disk_queue.push_back((core, log, op, what));
            }
            Effect::Ask { key, request } => {
                let to = self.shards[core].route(&request);
                let slot = ReplySlot { core: CoreId(core as u8), key };
                self.inbox.push_back((usize::from(to.0), Input::Request { slot, request }));
            }
            Effect::Publish(update) => {
                for other in (0..self.shards.len()).filter(|other| *other != core) {
                    self.inbox.push_back((other, Input::Meta(update.clone())));
                }
            }
            Effect::MetaApplied { version } => {
                self.inbox.push_back((0, Input::MetaApplied { core: CoreId(core as u8), version }));
            }
            Effect::Ready => assert!(!std::mem::replace(&mut self.ready[core], true), "ready twice"),
            Effect::Stopped => assert!(!std::mem::replace(&mut self.stopped[core], true), "stopped twice"),
            Effect::Event(event) => self.events.push(event),
        }
    }

    /// Does what the disk has been asked so far. `false`: nothing was.
    pub(super) fn run_disk(&mut self) -> bool {
        let asked = std::mem::take(&mut self.disk_queue);
        let mut done = false;
        for (core, log, op, _) in asked {
            done |= self.run_disk_op(core, log, op);
        }
        done
    }

    fn run_disk_op(&mut self, core: usize, log: LogId, op: OpId) -> bool {
        match &mut self.disk_ops_left {
            Some(0) => {
                if std::mem::take(&mut self.last_op_is_done) {
                    let _nobody_is_told = self.disk.complete(log, op);
                }
                return false;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.disk_ops_count += 1;
        let result = self.disk.complete(log, op);
        self.inbox.push_back((core, Input::Disk { log, op, result }));
        true
    }

    pub(super) fn input(&mut self, input: Input) {
        for core in 0..self.shards.len() {
            self.inbox.push_back((core, input.clone()));
        }
        self.pump();
    }

    pub(super) fn input_of(&mut self, core: usize, input: Input) {
        self.inbox.push_back((core, input));
        self.pump();
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            self.now.mono += TICK;
            self.now.wall.0 += TICK.as_millis() as i64;
            self.input(Input::Tick);
        }
    }

    /// Sends a request to the core it belongs to; the key of its answer.
    pub(super) fn send(&mut self, request: Request) -> u64 {
        self.next_key += 1;
        let core = self.shards[0].route(&request);
        let slot = ReplySlot { core: CoreId(0), key: self.next_key };
        self.inbox.push_back((usize::from(core.0), Input::Request { slot, request }));
        self.next_key
    }

    pub(super) fn cancel(&mut self, key: u64, core: CoreId) {
        self.inbox.push_back((usize::from(core.0), Input::Cancel(ReplySlot { core: CoreId(0), key })));
        self.pump();
    }

    pub(super) fn reply(&mut self, key: u64) -> Option<Response> {
        self.pump();
        self.replies.remove(&key)
    }

    #[track_caller]
    pub(super) fn ask(&mut self, request: Request) -> Response {
        let key = self.send(request);
        self.reply(key).expect("an answer")
    }

    #[track_caller]
    pub(super) fn create(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> TopicDescription {
        self.try_create(name, partitions, configs).expect("a topic")
    }

    #[track_caller]
    pub(super) fn try_create(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<TopicDescription, TopicError> {
        match self.ask(create(name, partitions, configs)) {
            Response::CreateTopic(result) => result,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn delete(&mut self, name: &str) {
        let response = self.ask(Request::DeleteTopic(DeleteTopic { name: name.into(), id: None }));
        assert_eq!(response, Response::DeleteTopic(Ok(())));
    }

    #[track_caller]
    pub(super) fn describe(&mut self, name: &str) -> TopicDescription {
        match self.ask(Request::DescribeTopics(DescribeTopics { names: vec![name.into()] })) {
            Response::DescribeTopics(Ok(topics)) => topics[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn names(&mut self) -> Vec<String> {
        match self.ask(Request::DescribeTopics(DescribeTopics { names: Vec::new() })) {
            Response::DescribeTopics(Ok(topics)) => topics.into_iter().map(|topic| topic.name).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn partition(&mut self, name: &str, index: u32) -> PartitionId {
        PartitionId { topic: self.describe(name).id, index }
    }

    #[track_caller]
    pub(super) fn produce(
        &mut self,
        partition: PartitionId,
        values: &[&str],
    ) -> Result<Produced, ProduceError> {
        self.produce_as(partition, values, None)
    }

    #[track_caller]
    pub(super) fn produce_as(
        &mut self,
        partition: PartitionId,
        values: &[&str],
        producer: Option<Producer>,
    ) -> Result<Produced, ProduceError> {
        produced(self.ask(produce(partition, Acks::All, values, producer)))
    }

    #[track_caller]
    pub(super) fn fetch(&mut self, partition: PartitionId, offset: u64) -> Result<Fetched, FetchError> {
        fetched(self.ask(fetch(partition, offset, 0, Some(Duration::ZERO))))
    }

    /// Every readable value from `offset` on, offsets checked to be dense.
    #[track_caller]
    pub(super) fn values_from(&mut self, partition: PartitionId, offset: u64) -> Vec<String> {
        let mut next = offset;
        let mut values = Vec::new();
        loop {
            let fetched = self.fetch(partition, next).expect("readable");
            if fetched.frames.is_empty() {
                assert_eq!(fetched.high_watermark, Offset(next));
                return values;
            }
            for (at, value) in records(&fetched.frames) {
                if at.0 >= next {
                    assert_eq!(at.0, next, "offsets without holes");
                    values.push(value);
                    next += 1;
                }
            }
        }
    }

    #[track_caller]
    pub(super) fn values(&mut self, partition: PartitionId) -> Vec<String> {
        self.values_from(partition, 0)
    }

    pub(super) fn events_named(&self, name: &str) -> usize {
        self.events.iter().filter(|event| event.name == name).count()
    }

    /// Stops in order and starts again on the same disk.
    pub(super) fn restart(mut self, settings: &Settings) -> Self {
        self.input(Input::Stop);
        self.pass(Duration::from_millis(50));
        assert!(self.stopped.iter().all(|stopped| *stopped), "not stopped: {:?}", self.stopped);
        assert_eq!(self.disk.under_way_count(), 0, "a node that stopped waits for nothing");
        Self::start(self.disk, settings)
    }

    /// The power goes and comes back.
    pub(super) fn crash(self, settings: &Settings) -> Self {
        Self::start(self.disk, settings)
    }

    #[track_caller]
    pub(super) fn assert_no_errors(&self) {
        let errors: Vec<_> = self.events.iter().filter(|event| event.level == Level::Error).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

pub(super) fn create(name: &str, partitions: u32, configs: &[(&str, &str)]) -> Request {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Request::CreateTopic(CreateTopic {
        name: name.into(),
        partitions: Some(partitions),
        replicas: None,
        configs,
    })
}

pub(super) fn batch(values: &[&str], producer: Option<Producer>) -> Frame {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(TimestampMs(1000), None, Some(value.as_bytes()), []).expect("a small record");
    }
    builder.seal(producer)
}

pub(super) fn produce(
    partition: PartitionId,
    acks: Acks,
    values: &[&str],
    producer: Option<Producer>,
) -> Request {
    Request::Produce(Produce { partition, acks, frame: batch(values, producer) })
}

pub(super) fn fetch(
    partition: PartitionId,
    offset: u64,
    bytes_min: u32,
    wait_max: Option<Duration>,
) -> Request {
    Request::Fetch(Fetch {
        partition,
        offset: Offset(offset),
        bytes_max: 1 << 20,
        bytes_min,
        wait_max,
        reader: None,
    })
}

#[track_caller]
pub(super) fn produced(response: Response) -> Result<Produced, ProduceError> {
    match response {
        Response::Produce(result) => result,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn fetched(response: Response) -> Result<Fetched, FetchError> {
    match response {
        Response::Fetch(result) => result,
        other => panic!("{other:?}"),
    }
}

pub(super) fn records(frames: &[Frame]) -> Vec<(Offset, String)> {
    let mut records = Vec::new();
    for frame in frames {
        let view = BatchView::open(frame).expect("what was produced");
        for record in view.records() {
            let record = record.expect("what was produced");
            let value = record.value.expect("a value");
            records.push((record.offset, String::from_utf8(value.to_vec()).expect("text")));
        }
    }
    records
}

/// The first `base_sequence` of a producer's batch.
pub(super) fn producer(id: u64, epoch: u16, base_sequence: u32) -> Option<Producer> {
    Some(Producer { id, epoch, base_sequence })
}

pub(super) fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// A frame of another encoding, which the shard does not look into.
pub(super) fn opaque(payload: &'static [u8], record_count: u32) -> Frame {
    let mut header = *batch(&["x"], None).header();
    header.encoding = storage_frame::Encoding::KafkaV2;
    header.record_count = record_count;
    Frame::seal(header, Bytes::from_static(payload))
}
