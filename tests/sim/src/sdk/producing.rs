//! A life of a producer.
//!
//! Records for a partition that is named go by lanes, one for each partition, whose numbers count up in the order
//! of sending. A record whose partition the SDK chooses is alone in a lane of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_api::Acks;
use millstream_client::{
    Client, Compression, Delivery, DeliveryError, Producer, ProducerConfig, Record, partition_of_key,
};
use storage_frame::TimestampMs;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::note::{Journal, Named, SdkNote, Stored};
use super::{Cast, Life};
use crate::dice::Dice;
use crate::fact::ClientId;
use crate::value::{VALUE_BYTES_MIN, Value};

/// Records of one life that are on their way.
#[derive(Clone)]
struct Watch {
    journal: Journal,
    id: ClientId,
    open: Arc<Mutex<BTreeSet<u64>>>,
}

impl Watch {
    fn change<T>(&self, act: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn follow(self, record: u64, partition: u32, delivery: Delivery) {
        let result = delivery.await;
        self.change(|open| open.remove(&record));
        let note = match result {
            Ok(told) if told.partition != partition => {
                SdkNote::Wrong { what: format!("record {record} of partition {partition}: {told:?}") }
            }
            Ok(told) => SdkNote::Delivered {
                record,
                partition,
                offset: told.offset,
                timestamp: told.timestamp,
                durability: told.durability,
                duplicate: told.duplicate,
            },
            Err(error) => SdkNote::DeliveryFailed { record, stored: stored(&error), why: error.to_string() },
        };
        self.journal.note(self.id, note);
    }
}

fn stored(error: &DeliveryError) -> Stored {
    match error {
        DeliveryError::Refused(_) | DeliveryError::NotSent { .. } | DeliveryError::Closed { sent: false } => {
            Stored::No
        }
        DeliveryError::RefusedOnRetry(_)
        | DeliveryError::TimedOut { .. }
        | DeliveryError::OffsetUnknown
        | DeliveryError::Closed { sent: true } => Stored::Unknown,
    }
}

/// What one producer is about.
struct Work {
    topic: Named,
    partitions_count: u32,
    producer: Producer,
    acks: Acks,
    idempotent: bool,
    /// By partition: number of the lane and of its next record.
    lanes: BTreeMap<u32, (u32, u64)>,
    watch: Watch,
    /// One for each record on its way.
    following: JoinSet<()>,
}

/// Deliveries that are waited for at once; more are waited for one by one.
const OPEN_MAX: usize = 500;
/// Above any delivery timeout that is drawn.
const SETTLING_MAX: Duration = Duration::from_secs(60);

fn config(dice: &mut Dice) -> ProducerConfig {
    let compressions =
        [Compression::None, Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }];
    let lingers = [0, 0, 3, 40].map(Duration::from_millis);
    let mut config = ProducerConfig::default();
    config.acks = *dice.pick(&[Acks::All, Acks::All, Acks::All, Acks::Leader, Acks::None]);
    config.idempotent = !dice.chance(200_000);
    config.compression = *dice.pick(&compressions);
    config.batch_bytes = 1 << dice.within(10..=17);
    config.linger = *dice.pick(&lingers);
    config.memory_bytes = config.batch_bytes << dice.within(0..=6);
    config.in_flight_per_partition = if dice.chance(500_000) { 64 } else { dice.within(1..=5) as usize };
    config.delivery_timeout = Duration::from_millis(dice.within(300..=20_000));
    config
}

impl Cast<'_> {
    pub(super) async fn produce(&mut self, life: Life) {
        let Some(name) = self.topic() else { return self.pause(Duration::from_secs(1)).await };
        let Ok(described) = life.client.admin().describe_topic(&name).await else {
            return self.pause(Duration::from_secs(1)).await;
        };
        let config = config(&mut self.dice);
        let (acks, idempotent) = (config.acks, config.idempotent && config.acks != Acks::None);
        let producer = match life.client.producer(config) {
            Ok(producer) => producer,
            Err(error) => return self.note(SdkNote::Wrong { what: error.to_string() }),
        };
        let watch = Watch { journal: self.journal.clone(), id: self.id, open: Arc::default() };
        let mut work = Work {
            topic: Named { name, id: Some(described.id) },
            partitions_count: described.partitions.len() as u32,
            producer,
            acks,
            idempotent,
            lanes: BTreeMap::new(),
            watch,
            following: JoinSet::new(),
        };
        let count = self.dice.within(1..=u64::from(self.plan.records_max.max(1)));
        for _ in 0..count {
            if self.is_late() {
                break;
            }
            self.move_sometimes(&life);
            if !self.send(&mut work).await {
                break;
            }
            self.between(&mut work).await;
        }
        self.end_producing(life, work).await;
    }

    /// Now and then something other than sending.
    async fn between(&mut self, work: &mut Work) {
        match self.dice.below(1000) {
            0..=9 => {
                // Also a flush that nobody waits for to its end.
                let _ =
                    timeout(self.dice.duration(Duration::ZERO..=SETTLING_MAX), work.producer.flush()).await;
            }
            10..=39 => self.pause(Duration::from_millis(300)).await,
            40..=299 => self.pause(Duration::from_millis(5)).await,
            _ => {}
        }
        while work.following.try_join_next().is_some() {}
        if work.following.len() >= OPEN_MAX {
            work.following.join_next().await;
        }
    }

    /// False: there is no more to send here.
    async fn send(&mut self, work: &mut Work) -> bool {
        let dice = &mut self.dice;
        let named = dice.chance(700_000).then(|| dice.below(u64::from(work.partitions_count)) as u32);
        let key = dice.chance(400_000).then(|| format!("key-{}", dice.below(20)).into_bytes());
        let largest = u64::from(self.plan.value_bytes_max.max(VALUE_BYTES_MIN + 1));
        let bytes = if dice.chance(50_000) { largest } else { largest.min(200) };
        let bytes = dice.within(u64::from(VALUE_BYTES_MIN)..=bytes) as u32;
        let (lane, number) = match named.and_then(|partition| work.lanes.get(&partition)) {
            Some(lane) => *lane,
            None => (self.new_lane(), 0),
        };
        let value = Value { client: self.id.0, lane, number, bytes };
        // Around now, so that looking up by time has something to find.
        let timestamp = TimestampMs(self.net.true_ms() + self.dice.below(2000) as i64 - 1500);
        let encoded = value.encode();
        let mut record = Record::new(&work.topic.name, &encoded).timestamp(timestamp);
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(partition) = named {
            record = record.partition(partition);
        }
        if self.dice.chance(100_000) {
            record = record.header("from", b"the simulator").null_header("nothing");
        }
        let sent = if self.dice.chance(20_000) {
            // Sending may be given up: then the record was not taken.
            let patience = self.dice.duration(Duration::ZERO..=Duration::from_millis(50));
            timeout(patience, work.producer.send(record)).await.ok()
        } else {
            Some(work.producer.send(record).await)
        };
        match sent {
            None => true,
            Some(Err(error)) => {
                self.note(SdkNote::NotTaken { topic: work.topic.clone(), why: error.to_string() });
                // What is too large for the topic is, and the next may not be; anything else does not pass soon.
                self.pause(Duration::from_millis(500)).await;
                matches!(error, millstream_client::SendError::RecordTooLarge { .. })
            }
            Some(Ok(delivery)) => {
                self.on_taken(work, delivery, named, key, value, timestamp);
                true
            }
        }
    }

    fn new_lane(&mut self) -> u32 {
        self.next_lane += 1;
        self.next_lane
    }

    fn on_taken(
        &mut self,
        work: &mut Work,
        delivery: Delivery,
        named: Option<u32>,
        key: Option<Vec<u8>>,
        value: Value,
        timestamp: TimestampMs,
    ) {
        let partition = delivery.partition();
        if let Some(named) = named {
            work.lanes.insert(named, (value.lane, value.number + 1));
            if named != partition {
                let what = format!("record for partition {named} went to {partition}");
                self.note(SdkNote::Wrong { what });
            }
        } else if let Some(key) = &key
            && partition_of_key(key, work.partitions_count) != partition
        {
            // Right, if the topic has more partitions by now.
            work.partitions_count = work.partitions_count.max(partition + 1);
        }
        let record = self.journal.number();
        self.note(SdkNote::Sent {
            record,
            topic: work.topic.clone(),
            partition,
            key,
            value,
            timestamp,
            acks: work.acks,
            idempotent: work.idempotent,
        });
        work.watch.change(|open| open.insert(record));
        work.following.spawn(work.watch.clone().follow(record, partition, delivery));
    }

    async fn end_producing(&mut self, life: Life, work: Work) {
        let Work { producer, watch, mut following, .. } = work;
        match self.dice.below(8) {
            // The machine dies with whatever is in flight.
            0 | 1 if self.plan.dies => {
                life.machine.unplug();
                following.abort_all();
                while following.join_next().await.is_some() {}
                for record in watch.change(std::mem::take) {
                    let why = "its machine died".to_owned();
                    self.note(SdkNote::DeliveryFailed { record, stored: Stored::Unknown, why });
                }
                self.note(SdkNote::Died);
                return;
            }
            // Dropped with whatever is in flight.
            0..=2 => drop(producer),
            3 => life.client.close().await,
            4 => {
                let _ = producer.flush().await;
            }
            _ => {
                if producer.close().await.is_err() {
                    self.note(SdkNote::Wrong { what: "close of a producer of an open client failed".into() });
                }
            }
        }
        self.settle(following).await;
        end(life.client, &mut self.dice).await;
    }

    /// Every delivery says something within its timeout, or the SDK has forgotten it.
    async fn settle(&mut self, mut following: JoinSet<()>) {
        let settled = async { while following.join_next().await.is_some() {} };
        if timeout(SETTLING_MAX, settled).await.is_err() {
            self.note(SdkNote::Wrong { what: "a delivery was not resolved".into() });
        }
    }
}

/// A client is closed, or just dropped.
pub(super) async fn end(client: Client, dice: &mut Dice) {
    if dice.chance(700_000) {
        client.close().await;
    }
    drop(client);
    sleep(Duration::from_millis(1)).await;
}
