//! A client that produces: idempotent lanes whose batches go several to a request and several requests at once, and
//! plain batches that are sent once, with every `acks`.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{Durability, PartitionId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage_frame::{Offset, TimestampMs};
use storage_recordbatch::Compression;
use tests_disk::Dice;

use super::asked::{Asked, Sent, What};
use super::lane::{Identity, Lane, LaneId, seal};
use super::line::{Line, News, decode};
use super::versions::Versions;
use super::{Scene, name_of};
use crate::fact::{BatchId, Fact};
use crate::net::PipeId;
use crate::value::{VALUE_BYTES_MIN, Value};

const IN_FLIGHT_MAX: u64 = 5;
const LANES_MAX: usize = 4;
/// Batches of a lane that wait.
const WAITING_MAX: usize = 8;
const RETRY_MS: u64 = 400;
const TIMEOUT_MS: i32 = 30_000;
/// Those that every reader can open: zstd is for newer ones.
const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];

#[derive(Debug)]
pub(super) struct Writer {
    client: u32,
    dice: Dice,
    line: Line,
    versions: Versions,
    lanes: Vec<Lane>,
    /// It sends one batch more, once faults are off.
    has_proven: bool,
}

impl Writer {
    pub(super) fn new(client: u32, mut dice: Dice) -> Self {
        let versions = Versions::draw(&mut dice);
        Self { client, dice, line: Line::new(client, None), versions, lanes: Vec::new(), has_proven: false }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.has_proven && self.lanes.iter().all(Lane::is_drained)
    }

    pub(super) fn calm_down(&mut self) {
        self.line.calm_down();
    }

    /// What memory had promised went with the node, perhaps.
    pub(super) fn on_node_lost(&mut self, scene: &mut Scene<'_>) {
        self.lanes.iter_mut().for_each(Lane::prove_again);
        for lane in self.lanes.iter_mut().filter(|lane| lane.may_cache && !lane.is_dead) {
            for batch in lane.kill() {
                scene.tell(Fact::Doubtful { batch });
            }
        }
    }

    pub(super) fn on_pipe(&mut self, scene: &mut Scene<'_>, pipe: PipeId) -> bool {
        let is_mine = self.line.is_on(pipe);
        if is_mine {
            self.hear(scene);
        }
        is_mine
    }

    pub(super) fn hang_up(&mut self, scene: &mut Scene<'_>) {
        let news = self.line.drop_it(scene, &mut self.dice);
        self.on_news(scene, news);
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        while let Some(news) = self.line.hear(scene, &mut self.dice) {
            self.on_news(scene, news);
        }
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>) {
        self.hear(scene);
        if !scene.is_calm {
            self.produce(scene);
        } else if !self.has_proven && !scene.topics.is_empty() {
            self.has_proven = true;
            for _ in 0..=LANES_MAX {
                self.open_lane(scene);
            }
            for nth in 0..self.lanes.len() {
                self.new_batch(scene, nth);
            }
        }
        if self.line.is_open() {
            self.identify(scene);
            while self.send(scene) {}
            if !scene.is_calm && self.dice.one_in(15) {
                self.send_plain(scene);
            }
            if !scene.is_calm && self.dice.one_in(200) {
                self.line.be_deaf(scene.now + Duration::from_millis(self.dice.below(2000)));
            }
        }
        if let Some(news) = self.line.step(scene, &mut self.dice) {
            self.on_news(scene, news);
        }
        // Dies with what it has asked under way, and is another process at once.
        if !scene.is_calm && self.line.is_open() && self.dice.one_in(300) {
            self.hang_up(scene);
        }
    }

    fn produce(&mut self, scene: &mut Scene<'_>) {
        if !self.dice.one_in(3) {
            return;
        }
        let alive: Vec<usize> = (0..self.lanes.len()).filter(|nth| !self.lanes[*nth].is_dead).collect();
        let is_new = alive.is_empty() || alive.len() < LANES_MAX && self.dice.one_in(10);
        if is_new {
            return self.open_lane(scene);
        }
        let nth = *self.dice.pick(&alive);
        if self.lanes[nth].waiting_count() < WAITING_MAX {
            self.new_batch(scene, nth);
        }
    }

    fn open_lane(&mut self, scene: &mut Scene<'_>) {
        let Some((topic, to, may_cache)) = scene.any_partition(&mut self.dice) else { return };
        let id = LaneId(scene.next_lane());
        self.lanes.push(Lane::new(id, topic, to, may_cache));
    }

    fn new_batch(&mut self, scene: &mut Scene<'_>, nth: usize) {
        let (lane, first, to) = (self.lanes[nth].id, self.lanes[nth].next_number(), self.lanes[nth].to);
        if self.lanes[nth].is_dead {
            return;
        }
        let records = self.draw_records(scene, lane, first);
        let batch = scene.next_batch();
        scene.tell(Fact::Sent { batch, to, records: records.clone(), idempotent: true });
        let compression = *self.dice.pick(&COMPRESSIONS);
        self.lanes[nth].push(batch, records, compression);
    }

    fn draw_records(&mut self, scene: &Scene<'_>, lane: LaneId, first: u64) -> Vec<(Value, TimestampMs)> {
        let count = self.dice.between(1, u64::from(scene.manners.batch_records_max) + 1);
        let least = u64::from(VALUE_BYTES_MIN);
        let most = *self.dice.pick(&[200, 200, u64::from(scene.manners.value_bytes_max)]);
        let draw = |number| {
            let bytes = self.dice.between(least, most.max(least) + 1) as u32;
            let value = Value { client: self.client, lane: lane.0, number, bytes };
            (value, TimestampMs(scene.wall.0 - self.dice.below(2000) as i64))
        };
        (first..first + count).map(draw).collect()
    }

    fn identify(&mut self, scene: &mut Scene<'_>) {
        let version = self.versions.of::<InitProducerIdRequest>();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_dead && lane.identity == Identity::Wanted) {
            lane.identity = Identity::Asked;
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(TIMEOUT_MS);
            self.line.ask(scene, version, &request, Some(What::Identify { lane: lane.id }));
        }
    }

    /// One request with a batch of each lane that has one to send, at most one of a partition.
    fn send(&mut self, scene: &mut Scene<'_>) -> bool {
        let mut sent: Vec<(PartitionId, Sent)> = Vec::new();
        let mut topics: Vec<(String, i32, Bytes)> = Vec::new();
        for lane in &mut self.lanes {
            if sent.iter().any(|(to, _)| *to == lane.to) {
                continue;
            }
            if let Some((batch, bytes)) = lane.send_next(scene.now, IN_FLIGHT_MAX) {
                sent.push((lane.to, Sent::OfLane(lane.id, batch)));
                topics.push((lane.topic.clone(), lane.to.index as i32, bytes));
            }
        }
        if sent.is_empty() {
            return false;
        }
        let acks = if self.dice.one_in(6) { 1 } else { -1 };
        self.ask_to_store(scene, acks, topics, sent);
        true
    }

    fn send_plain(&mut self, scene: &mut Scene<'_>) {
        let Some((topic, to, _)) = scene.any_partition(&mut self.dice) else { return };
        let lane = LaneId(scene.next_lane());
        let records = self.draw_records(scene, lane, 0);
        let batch = scene.next_batch();
        let bytes = seal(&records, *self.dice.pick(&COMPRESSIONS), None);
        scene.tell(Fact::Sent { batch, to, records, idempotent: false });
        let acks = *self.dice.pick(&[0, 1, -1]);
        self.ask_to_store(scene, acks, vec![(topic, to.index as i32, bytes)], vec![(to, Sent::Plain(batch))]);
        if acks == 0 {
            scene.tell(Fact::Doubtful { batch });
        }
    }

    fn ask_to_store(
        &mut self,
        scene: &mut Scene<'_>,
        acks: i16,
        batches: Vec<(String, i32, Bytes)>,
        sent: Vec<(PartitionId, Sent)>,
    ) {
        let data = batches.into_iter().map(|(topic, index, bytes)| {
            let data = PartitionProduceData::default().with_index(index).with_records(Some(bytes));
            let name = TopicName(StrBytes::from_string(topic));
            TopicProduceData::default().with_name(name).with_partition_data(vec![data])
        });
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(data.collect());
        let version = self.versions.of::<ProduceRequest>();
        let what = (acks != 0).then_some(What::Produce { sent });
        self.line.ask(scene, version, &request, what);
    }

    fn on_news(&mut self, scene: &mut Scene<'_>, news: News) {
        match news {
            News::Answer(Asked { version, what, .. }, frame) => match what {
                What::Identify { lane } => self.on_identity(scene, version, lane, frame),
                What::Produce { sent } => self.on_produced(scene, version, sent, frame),
                other => scene.check(Err(format!("a writer asked {other:?}"))),
            },
            News::Lost(asked) => {
                for asked in asked {
                    self.on_lost(scene, asked.what);
                }
            }
        }
    }

    fn on_lost(&mut self, scene: &mut Scene<'_>, what: What) {
        match what {
            What::Identify { lane } => {
                if let Some(lane) = self.lane(lane)
                    && lane.identity == Identity::Asked
                {
                    lane.identity = Identity::Wanted;
                }
            }
            What::Produce { sent } => {
                for (_, sent) in sent {
                    match sent {
                        Sent::Plain(batch) => scene.tell(Fact::Doubtful { batch }),
                        Sent::OfLane(lane, batch) => {
                            if let Some(lane) = self.lane(lane) {
                                lane.on_refused(batch, Duration::ZERO);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn lane(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    fn on_identity(&mut self, scene: &mut Scene<'_>, version: i16, lane: LaneId, frame: Bytes) {
        let Some(response) = scene.take(decode::<InitProducerIdRequest>(version, frame)) else { return };
        let code = response.error_code;
        if !ResponseError::try_from_code(code).is_none_or(|error| error.is_retriable()) {
            scene.check(Err(format!("lane {} is given no id: error {code}", lane.0)));
        }
        let Some(lane) = self.lane(lane) else { return };
        lane.identity = match response.error_code {
            0 => Identity::Given {
                id: response.producer_id.0.cast_unsigned(),
                epoch: response.producer_epoch.cast_unsigned(),
            },
            _ => Identity::Wanted,
        };
    }

    fn on_produced(
        &mut self,
        scene: &mut Scene<'_>,
        version: i16,
        sent: Vec<(PartitionId, Sent)>,
        frame: Bytes,
    ) {
        let Some(response) = scene.take(decode::<ProduceRequest>(version, frame)) else { return };
        let answers: Vec<(String, i32, i16, i64, String)> = response
            .responses
            .iter()
            .flat_map(|topic| {
                let of = |of: &kafka_protocol::messages::produce_response::PartitionProduceResponse| {
                    let why = of.error_message.as_deref().unwrap_or_default().to_owned();
                    (name_of(&topic.name), of.index, of.error_code, of.base_offset, why)
                };
                topic.partition_responses.iter().map(of)
            })
            .collect();
        for (to, sent) in sent {
            let topic = scene.name(to);
            let answer = answers
                .iter()
                .find(|(name, index, ..)| Some(name.as_str()) == topic && *index == to.index as i32);
            let Some((_, _, code, base, why)) = answer else {
                scene.check(Err(format!("{to:?} is missing in {answers:?}")));
                continue;
            };
            let base = Offset(base.cast_unsigned());
            match sent {
                Sent::Plain(batch) => scene.tell(match code {
                    0 => acked(batch, base, scene.may_cache(to)),
                    // Some codes say that nobody knows; which ones depends on what the broker means by them.
                    _ => Fact::Doubtful { batch },
                }),
                Sent::OfLane(lane, batch) => self.on_stored(scene, (lane, batch), to, (*code, why), base),
            }
        }
    }

    fn on_stored(
        &mut self,
        scene: &mut Scene<'_>,
        (id, batch): (LaneId, BatchId),
        to: PartitionId,
        (code, why): (i16, &str),
        base: Offset,
    ) {
        let retry_at = scene.now + Duration::from_millis(self.dice.below(RETRY_MS));
        let may_cache = scene.may_cache(to);
        let Some(lane) = self.lane(id) else { return };
        if code == 0 {
            if lane.on_acked(batch) {
                scene.tell(acked(batch, base, may_cache));
            }
            return;
        }
        let is_oldest = lane.on_refused(batch, retry_at);
        let is_gap = code == ResponseError::OutOfOrderSequenceNumber.code();
        let is_passing = ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable());
        if is_gap && is_oldest {
            scene.tell(Fact::Gap { batch });
            lane.kill().into_iter().for_each(|batch| scene.tell(Fact::Doubtful { batch }));
        } else if !is_gap && !is_passing {
            scene.check(Err(format!("lane {} is refused batch {}: {code}, {why}", id.0, batch.0)));
        }
    }
}

/// Kafka does not say how safe it is: as safe as the topic's configs promise.
fn acked(batch: BatchId, base_offset: Offset, may_cache: bool) -> Fact {
    let durability = if may_cache { Durability::Memory } else { Durability::LeaderDisk };
    Fact::Acked { batch, base_offset, durability, duplicate: false }
}
