//! A node of one core on the model disk: its shard, and what a door would carry for it.

use std::time::Duration;

use engine_api::{
    Acks, CoreId, CreateTopic, NodeId, PartitionId, Produce, ReplySlot, Request, Response, TopicId,
};
use engine_shard::{Effect, Input, SHARD_KEY_BIT, Shard, ShardConfig};
use storage_frame::{Frame, FrameHeader, Now, Producer, TimestampMs};
use tests_disk::{Faults, ModelDisk};

use crate::meter::Meter;

pub(crate) const CORE: CoreId = CoreId(0);
pub(crate) const TOPIC: &str = "orders";
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) disk: ModelDisk,
    pub(crate) now: Now,
    pub(crate) replies: Vec<Response>,
    effects: Vec<Effect>,
    keys: u64,
}

impl Node {
    /// With one topic.
    pub(crate) fn with_partitions(count: u32) -> (Self, TopicId) {
        let now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
        let mut node = Self {
            shard: Shard::new(config(), now),
            disk: ModelDisk::new(1, Faults::default()),
            now,
            replies: Vec::new(),
            effects: Vec::new(),
            keys: 0,
        };
        let mut nobody = Meter::default();
        node.settle(&mut nobody);
        node.ask(&mut nobody, create_topic(count));
        let response = node.replies.pop();
        let Some(Response::CreateTopic(Ok(topic))) = response else { panic!("{response:?}") };
        // Its logs are opened a few at a time.
        for _ in 0..4 {
            node.tick(&mut nobody);
        }
        (node, topic.id)
    }

    /// To the end of what follows from it; the answer is in [`replies`](Self::replies), unless it waits.
    pub(crate) fn ask(&mut self, meter: &mut Meter, request: Request) {
        self.keys += 1;
        let slot = ReplySlot { core: CORE, key: self.keys };
        meter.count(|| self.shard.handle(self.now, Input::Request { slot, request }));
        self.settle(meter);
    }

    pub(crate) fn tick(&mut self, meter: &mut Meter) {
        self.now.mono += TICK;
        self.now.wall.0 += 10;
        meter.count(|| self.shard.handle(self.now, Input::Tick));
        self.settle(meter);
    }

    /// Turns and what the disk answers to them, until there is nothing left to do.
    pub(crate) fn settle(&mut self, meter: &mut Meter) {
        loop {
            meter.count(|| self.shard.end_turn(self.now, &mut self.effects));
            if self.effects.is_empty() {
                return;
            }
            let mut inputs = Vec::new();
            for effect in std::mem::take(&mut self.effects) {
                inputs.extend(self.perform(effect));
            }
            self.now.mono += Duration::from_micros(100);
            for input in inputs {
                meter.count(|| self.shard.handle(self.now, input));
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Reply(slot, response) if slot.key & SHARD_KEY_BIT != 0 => {
                Some(Input::Answer { key: slot.key, response })
            }
            Effect::Reply(_, response) => {
                self.replies.push(response);
                None
            }
            Effect::Disk { log, op, what } => {
                self.disk.submit(CORE.0, log, op, what);
                Some(Input::Disk { log, op, result: self.disk.complete(log, op) })
            }
            Effect::Ask { key, request } => {
                Some(Input::Request { slot: ReplySlot { core: CORE, key }, request })
            }
            Effect::MetaApplied { version } => Some(Input::MetaApplied { core: CORE, version }),
            Effect::Publish(_) | Effect::Ready | Effect::Stopped | Effect::Event(_) => None,
        }
    }
}

pub(crate) fn config() -> ShardConfig {
    ShardConfig {
        node: NodeId(1),
        core: CORE,
        cores: 1,
        cluster_id: 42,
        incarnation: 1,
        address: "127.0.0.1:9092".to_owned(),
        version: "0".to_owned(),
        seed: 1,
        memory_bytes_max: 1 << 30,
        free_bytes_min: 0,
        opens_max: 64,
        metadata_snapshot_bytes: engine_shard::METADATA_SNAPSHOT_BYTES,
        topic_defaults: Vec::new(),
        offsets_partitions: 2,
        groups: engine_shard::GroupsConfig::default(),
    }
}

pub(crate) fn create_topic(partitions: u32) -> Request {
    let name = TOPIC.to_owned();
    let configs = vec![("segment.bytes".to_owned(), (1 << 30).to_string())];
    Request::CreateTopic(CreateTopic { name, partitions: Some(partitions), replicas: None, configs })
}

/// The same batch again and again, as an idempotent producer sends one after the other.
pub(crate) struct Source {
    frame: Frame,
    partition: PartitionId,
    next_sequence: u32,
}

impl Source {
    pub(crate) fn new(frame: Frame, partition: PartitionId) -> Self {
        Self { frame, partition, next_sequence: 0 }
    }

    pub(crate) fn next(&mut self) -> Request {
        let producer = Some(Producer { id: 7, epoch: 0, base_sequence: self.next_sequence });
        self.next_sequence += self.frame.header().record_count;
        let header = FrameHeader { producer, ..*self.frame.header() };
        let frame = Frame::seal(header, self.frame.payload().clone());
        Request::Produce(Produce { partition: self.partition, acks: Acks::All, frame })
    }
}
