//! A life of a reader, or of a few in a row.

use std::time::Duration;

use engine_api::Place;
use millstream_client::{Client, ReadBatch, Reader, ReaderConfig, Start};
use storage_frame::{Offset, TimestampMs};
use tokio::time::{sleep, timeout};

use super::note::{Named, ReadRecord, SdkNote};
use super::producing::end;
use super::{Cast, Life};

const READERS_MAX: u64 = 4;
const BATCHES_MAX: u64 = 200;
/// A reader at the end of its partitions is given up after so much silence.
const SILENCE_MAX: Duration = Duration::from_secs(5);

impl Cast<'_> {
    pub(super) async fn read(&mut self, life: Life) {
        let Some(name) = self.topic() else { return self.pause(Duration::from_secs(1)).await };
        let Ok(described) = life.client.admin().describe_topic(&name).await else {
            return self.pause(Duration::from_secs(1)).await;
        };
        let topic = Named { name, id: Some(described.id) };
        let partitions_count = described.partitions.len() as u32;
        for _ in 0..self.dice.within(1..=READERS_MAX) {
            if self.is_late() {
                break;
            }
            let config = self.reader_config(&life.client, &topic, partitions_count).await;
            let reader = self.journal.number() as u32;
            self.note(SdkNote::ReaderOpened {
                reader,
                topic: topic.clone(),
                start: config.start,
                until_end: config.stop_at_end,
            });
            match life.client.reader(config).await {
                Ok(opened) => self.follow(&life, &topic, reader, opened).await,
                Err(error) => self.note(SdkNote::ReaderEnded { reader, result: Err(error) }),
            }
        }
        if self.plan.dies && self.dice.chance(200_000) {
            life.machine.unplug();
            return self.note(SdkNote::Died);
        }
        end(life.client, &mut self.dice).await;
    }

    async fn reader_config(&mut self, client: &Client, topic: &Named, partitions_count: u32) -> ReaderConfig {
        let dice = &mut self.dice;
        let mut config = ReaderConfig::new(&topic.name);
        if dice.chance(500_000) && partitions_count > 0 {
            config = config.partitions([dice.below(u64::from(partitions_count)) as u32]);
        }
        config.stop_at_end = dice.chance(500_000);
        config.buffer_bytes_per_partition = 1 << dice.within(16..=22);
        config.unavailable_timeout = Duration::from_millis(dice.within(1000..=15_000));
        let from = dice.below(8);
        config.start = match from {
            0..=3 => Start::Beginning,
            4 => Start::End,
            5 => Start::Timestamp(TimestampMs(self.net.true_ms() - self.dice.below(20_000) as i64)),
            _ => {
                let partition = config.partitions.as_ref().map_or(0, |partitions| partitions[0]);
                let found = client.admin().find_offset(&topic.name, partition, Place::End).await;
                let Ok(found) = found else { return config };
                let span = found.high_watermark.0.saturating_sub(found.log_start.0);
                // Sometimes past the end, which is refused.
                Start::Offset(Offset(found.log_start.0 + self.dice.below(span + 2)))
            }
        };
        config
    }

    async fn follow(&mut self, life: &Life, topic: &Named, number: u32, mut reader: Reader) {
        let pace = *self.dice.pick(&[Duration::ZERO, Duration::from_millis(2), Duration::from_millis(200)]);
        for _ in 0..self.dice.within(1..=BATCHES_MAX) {
            if self.is_late() {
                break;
            }
            self.move_sometimes(life);
            // Waiting may be given up at any time: no batch is lost by it.
            let is_impatient = self.dice.chance(100_000);
            let patience =
                if is_impatient { Duration::from_millis(self.dice.below(20)) } else { SILENCE_MAX };
            match timeout(patience, reader.next()).await {
                Ok(Ok(Some(batch))) => self.on_batch(topic, number, &batch),
                Ok(Ok(None)) => return self.note(SdkNote::ReaderEnded { reader: number, result: Ok(()) }),
                Ok(Err(error)) => {
                    return self.note(SdkNote::ReaderEnded { reader: number, result: Err(error) });
                }
                Err(_) if is_impatient => {}
                Err(_) => break,
            }
            if !pace.is_zero() {
                sleep(pace).await;
            }
        }
        self.note(SdkNote::ReaderDropped { reader: number });
    }

    fn on_batch(&mut self, topic: &Named, reader: u32, batch: &ReadBatch) {
        let mut records = Vec::new();
        for record in batch.records() {
            match record {
                Ok(record) => records.push(ReadRecord {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                }),
                Err(error) => {
                    self.note(SdkNote::Wrong { what: format!("batch with a bad record: {error}") });
                    break;
                }
            }
        }
        self.note(SdkNote::ReadBatch {
            reader,
            topic: topic.clone(),
            partition: batch.partition(),
            log_start: batch.log_start(),
            high_watermark: batch.high_watermark(),
            next_offset: batch.next_offset(),
            records,
        });
    }
}
