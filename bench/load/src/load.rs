//! Sending records by a schedule or as fast as they go, and hearing what became of each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_client::{Delivery, Durability, Producer, Record};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::latency::Latencies;
use crate::pace::Pace;
use crate::run::BenchError;
use crate::schedule::Schedule;

/// What one client is to send.
#[derive(Debug, Clone)]
pub struct Load {
    pub topic: String,
    /// At least [`STAMP_BYTES`].
    pub record_bytes: usize,
    /// Records per second; absent: as fast as they go.
    pub rate: Option<f64>,
    pub duration: Duration,
    /// Ends the run before its duration.
    pub records_max: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub sent: u64,
    pub acknowledged: u64,
    pub latencies: Latencies,
    /// On the broker, per record: waiting for the write, and the write itself.
    pub queue: Latencies,
    pub disk: Latencies,
    /// The least level that any record reached.
    pub durability: Option<Durability>,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// When a record was due, on the run's own clock, at the head of its value.
pub const STAMP_BYTES: usize = 8;
const FILL_BYTES: usize = 1 << 20;

impl Load {
    /// Sends, then waits for every answer. `epoch` is the zero of the run's clock.
    pub async fn run(&self, producer: &Producer, epoch: Instant) -> Result<Outcome, BenchError> {
        let mut collectors = Collectors::default();
        let sent = match self.rate {
            Some(rate) => self.send_paced(producer, Schedule::new(rate), epoch, &mut collectors).await,
            None => self.send_unpaced(producer, epoch, &mut collectors).await,
        };
        let flushed = producer.flush().await;
        let mut outcome = collectors.join().await;
        outcome.sent = sent?;
        flushed.map_err(|error| BenchError::Send(error.to_string()))?;
        Ok(outcome)
    }

    async fn send_paced(
        &self,
        producer: &Producer,
        schedule: Schedule,
        epoch: Instant,
        collectors: &mut Collectors,
    ) -> Result<u64, BenchError> {
        let start = Instant::now();
        let pace = Pace::start(schedule, start);
        let mut filler = Filler::new(self.record_bytes);
        let records_max = self.records_max.unwrap_or(u64::MAX).min(schedule.due_count(self.duration) - 1);
        let mut sent = 0;
        while sent < records_max {
            pace.due().await;
            let due_count = schedule.due_count(start.elapsed()).min(records_max);
            while sent < due_count {
                let due = start + schedule.due(sent);
                self.send(producer, &mut filler, due, epoch, collectors).await?;
                sent += 1;
            }
        }
        Ok(sent)
    }

    async fn send_unpaced(
        &self,
        producer: &Producer,
        epoch: Instant,
        collectors: &mut Collectors,
    ) -> Result<u64, BenchError> {
        let start = Instant::now();
        let mut filler = Filler::new(self.record_bytes);
        let records_max = self.records_max.unwrap_or(u64::MAX);
        let mut sent = 0;
        while sent < records_max {
            let now = Instant::now();
            if now - start >= self.duration {
                break;
            }
            self.send(producer, &mut filler, now, epoch, collectors).await?;
            sent += 1;
        }
        Ok(sent)
    }

    async fn send(
        &self,
        producer: &Producer,
        filler: &mut Filler,
        due: Instant,
        epoch: Instant,
        collectors: &mut Collectors,
    ) -> Result<(), BenchError> {
        let value = filler.value(due.saturating_duration_since(epoch));
        let sent = producer.send(Record::new(&self.topic, value)).await;
        let delivery = sent.map_err(|error| BenchError::Send(error.to_string()))?;
        collectors.watch(due, delivery);
        Ok(())
    }
}

/// Values that compression cannot make smaller and no two alike.
#[derive(Debug)]
pub struct Filler {
    noise: Vec<u8>,
    record_bytes: usize,
    at: usize,
    value: Vec<u8>,
}

impl Filler {
    pub(crate) fn new(record_bytes: usize) -> Filler {
        assert!(record_bytes >= STAMP_BYTES, "a record holds its stamp");
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let noise = (0..FILL_BYTES + record_bytes).map(|_| byte()).collect();
        Filler { noise, record_bytes, at: 0, value: vec![0; record_bytes] }
    }

    pub(crate) fn value(&mut self, due: Duration) -> &[u8] {
        self.at = (self.at + 61) % FILL_BYTES;
        self.value.copy_from_slice(&self.noise[self.at..self.at + self.record_bytes]);
        let due_ns = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.value[..STAMP_BYTES].copy_from_slice(&due_ns.to_le_bytes());
        &self.value
    }
}

/// The due time at the head of a value; nothing for a value of somebody else's.
pub fn stamp(value: &[u8]) -> Option<Duration> {
    let bytes = value.get(..STAMP_BYTES)?.try_into().ok()?;
    Some(Duration::from_nanos(u64::from_le_bytes(bytes)))
}

/// A task per partition: answers of one partition come in order, so waiting for each in turn sees each when it comes.
#[derive(Debug, Default)]
struct Collectors {
    senders: BTreeMap<u32, mpsc::UnboundedSender<(Instant, Delivery)>>,
    tasks: JoinSet<Outcome>,
}

impl Collectors {
    /// What is watched is bounded by the producer's memory.
    fn watch(&mut self, due: Instant, delivery: Delivery) {
        let tasks = &mut self.tasks;
        let sender = self.senders.entry(delivery.partition()).or_insert_with(|| {
            let (send, receive) = mpsc::unbounded_channel();
            tasks.spawn(collect(receive));
            send
        });
        sender.send((due, delivery)).expect("a collector ends after its sender");
    }

    async fn join(mut self) -> Outcome {
        self.senders.clear();
        let mut all = Outcome::default();
        while let Some(one) = self.tasks.join_next().await {
            all.add(&one.expect("a collector does not panic"));
        }
        all
    }
}

async fn collect(mut watched: mpsc::UnboundedReceiver<(Instant, Delivery)>) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some((due, delivery)) = watched.recv().await {
        match delivery.await {
            Ok(stored) => {
                outcome.acknowledged += 1;
                outcome.latencies.record(due.elapsed());
                outcome.queue.record(stored.timings.queue);
                outcome.disk.record(stored.timings.disk);
                outcome.durability = least(outcome.durability, stored.durability);
            }
            Err(error) => {
                outcome.failed += 1;
                outcome.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
    outcome
}

impl Outcome {
    pub fn add(&mut self, other: &Outcome) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.latencies.add(&other.latencies);
        self.queue.add(&other.queue);
        self.disk.add(&other.disk);
        self.durability = least(self.durability, other.durability);
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }
}

fn least(a: Option<Durability>, b: Option<Durability>) -> Option<Durability> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Filler, stamp};

    #[test]
    fn values_carry_their_due_time_and_differ() {
        let mut filler = Filler::new(100);
        let first = filler.value(Duration::from_micros(7)).to_vec();
        let second = filler.value(Duration::from_micros(8)).to_vec();
        assert_eq!(first.len(), 100);
        assert_eq!(stamp(&first), Some(Duration::from_micros(7)));
        assert_ne!(first[8..], second[8..]);
        assert_eq!(stamp(b"short"), None);
    }
}
