//! One producer's loop: what is due is filled, ticketed and handed to the driver in chunks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::dice::Dice;
use crate::keys::{KEY_BYTES, Keys};
use crate::outcomes::{Due, Outcomes, Ticket};
use crate::payload::{Filler, Noise, Stamp};
use crate::schedule::Schedule;
use crate::sizes::Sizes;
use crate::system::{Outgoing, Producer, SystemError};

/// What records are like.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    pub(crate) sizes: Sizes,
    pub(crate) keys: Keys,
    pub(crate) noise: Noise,
    pub(crate) compress_ratio: f64,
    /// Partitions to go round, instead of leaving the choice to the client library.
    pub(crate) round: Option<u32>,
    pub(crate) checked: bool,
    pub(crate) seed: u64,
    pub(crate) run: u32,
    /// Bytes handed to the driver at once, at most.
    pub(crate) chunk_bytes: usize,
}

/// A stretch of sending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    /// Zero of the run's clock, which records are stamped by.
    pub(crate) epoch: Instant,
    pub(crate) start: Instant,
    pub(crate) duration: Duration,
    /// How much longer records that were due may be sent.
    pub(crate) drain_max: Duration,
    /// Of this producer.
    pub(crate) records_max: u64,
}

pub(crate) struct Sender {
    producer: Box<dyn Producer>,
    outcomes: Outcomes,
    mix: Mix,
    index: u16,
    sequence: u64,
    /// Where the round of partitions stands.
    partition: u32,
    dice: Dice,
    filler: Filler,
    chunk: Chunk,
}

#[derive(Default)]
struct Chunk {
    dues: Vec<Due>,
    tickets: Vec<Ticket>,
    bytes: Vec<u8>,
    records: Vec<Filled>,
}

struct Filled {
    end: usize,
    key: Option<[u8; KEY_BYTES]>,
    partition: Option<u32>,
}

/// Records of one chunk, however small they are.
const CHUNK_RECORDS: u64 = 4096;
/// For the last answers, above any client library's own patience.
const SETTLE_MAX: Duration = Duration::from_secs(180);

impl Sender {
    pub(crate) fn new(producer: Box<dyn Producer>, outcomes: Outcomes, mix: Mix, index: u16) -> Sender {
        let seed = mix.seed.wrapping_add(u64::from(index) << 20);
        Sender {
            producer,
            outcomes,
            index,
            sequence: 0,
            partition: u32::from(index),
            dice: Dice::new(seed),
            filler: Filler::new(mix.noise.clone(), seed, mix.compress_ratio, mix.checked),
            mix,
            chunk: Chunk::default(),
        }
    }

    /// Sends each record when it is due, or as soon after as the window lets it; waits for every answer. Returns how
    /// many were due and never sent.
    pub(crate) async fn paced(
        &mut self,
        mut schedule: Schedule,
        wake: Arc<Notify>,
        stretch: Stretch,
    ) -> Result<u64, SystemError> {
        let offset = stretch.start.saturating_duration_since(stretch.epoch);
        let (mut sent, mut now) = (0, stretch.start.elapsed());
        let is_left =
            |schedule: &Schedule, sent| schedule.next() < stretch.duration && sent < stretch.records_max;
        while is_left(&schedule, sent) && now < stretch.duration + stretch.drain_max {
            if schedule.next() > now {
                wake.notified().await;
            } else {
                let room = self.outcomes.room().await.min(CHUNK_RECORDS).min(stretch.records_max - sent);
                let mut chunk_bytes = 0;
                while is_left(&schedule, sent) && schedule.next() <= now && self.has_room(room, chunk_bytes) {
                    chunk_bytes += self.fill(offset + schedule.next());
                    schedule.pass();
                    sent += 1;
                }
                self.send().await?;
            }
            now = stretch.start.elapsed();
        }
        let mut unsent = 0;
        while is_left(&schedule, sent + unsent) {
            schedule.pass();
            unsent += 1;
        }
        self.settle().await?;
        Ok(unsent)
    }

    /// Sends whatever the window lets it; waits for every answer.
    pub(crate) async fn unpaced(&mut self, stretch: Stretch) -> Result<(), SystemError> {
        let mut sent = 0;
        while sent < stretch.records_max && stretch.start.elapsed() < stretch.duration {
            let room = self.outcomes.room().await.min(CHUNK_RECORDS).min(stretch.records_max - sent);
            let (now, mut chunk_bytes) = (stretch.epoch.elapsed(), 0);
            while self.has_room(room, chunk_bytes) {
                chunk_bytes += self.fill(now);
                sent += 1;
            }
            self.send().await?;
        }
        self.settle().await
    }

    pub(crate) fn retries_count(&self) -> u64 {
        self.producer.retries_count()
    }

    pub(crate) async fn close(self) {
        self.producer.close().await;
    }

    fn has_room(&self, room: u64, chunk_bytes: usize) -> bool {
        (self.chunk.dues.len() as u64) < room && chunk_bytes < self.mix.chunk_bytes
    }

    /// Makes the next record. Returns its bytes.
    fn fill(&mut self, due: Duration) -> usize {
        let bytes = self.mix.sizes.draw(&mut self.dice);
        let stamp = Stamp { due, run: self.mix.run, producer: self.index, sequence: self.sequence };
        self.filler.append(stamp, bytes, &mut self.chunk.bytes);
        self.chunk.dues.push(Due { at: due, sequence: self.sequence, bytes });
        let partition = self.mix.round.map(|partitions| self.partition % partitions);
        self.partition = self.partition.wrapping_add(1);
        let key = self.mix.keys.draw(&mut self.dice);
        self.chunk.records.push(Filled { end: self.chunk.bytes.len(), key, partition });
        self.sequence += 1;
        bytes
    }

    async fn send(&mut self) -> Result<(), SystemError> {
        let Chunk { dues, tickets, bytes, records } = &mut self.chunk;
        self.outcomes.issue(dues, tickets);
        let mut from = 0;
        let outgoing = records.iter().zip(tickets.iter()).map(|(record, ticket)| {
            let value = &bytes[from..record.end];
            from = record.end;
            let key = record.key.as_ref().map(<[u8; KEY_BYTES]>::as_slice);
            Outgoing { ticket: *ticket, partition: record.partition, key, value }
        });
        let outgoing: Vec<Outgoing<'_>> = outgoing.collect();
        let sent = self.producer.send(&outgoing).await;
        dues.clear();
        bytes.clear();
        records.clear();
        sent
    }

    async fn settle(&mut self) -> Result<(), SystemError> {
        self.producer.flush().await?;
        let settled = tokio::time::timeout(SETTLE_MAX, self.outcomes.settled()).await;
        settled.map_err(|_| {
            let left = self.outcomes.in_flight();
            SystemError::Send(format!("{left} records have had no answer for {SETTLE_MAX:?}"))
        })
    }
}
