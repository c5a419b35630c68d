//! Sending records: the skin over [`state::accumulator`](crate::state).
//!
//! `send` takes one lock, copies the record into its partition's batch and returns. One task per partition that
//! is written to seals, compresses and writes batches and hears the answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_api::{Acks, IN_FLIGHT_BATCHES_MAX, ProduceError, TopicError};
use storage_recordbatch::archived::codec::Compression;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::rpc::RequestError;
use crate::shared::Shared;
use crate::state::accumulator::{Accumulator, AccumulatorSettings, AppendError};
use crate::state::lane::LaneSettings;
use crate::state::outcome::Delivery;
use crate::state::record::Record;

mod drive;

/// How records are batched, acknowledged and retried. Start from [`ProducerConfig::default`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// How safe records are when their deliveries resolve. Default [`Acks::All`].
    pub acks: Acks,
    /// Retries store nothing twice and keep the order: batches carry a producer id and sequence numbers. Default
    /// true; without effect for [`Acks::None`], which is never retried after it was written. When false, a retry
    /// may store a batch twice, and before or behind others that were on the way with it.
    pub idempotent: bool,
    /// Default [`Compression::None`].
    pub compression: Compression,
    /// Bytes of a batch before it is sent without waiting for more, uncompressed. 1 B to 64 MiB, default
    /// 128 KiB; never above the topic's `max.message.bytes`. A larger record goes alone, so 1 sends every record alone.
    pub batch_bytes: usize,
    /// How long a record waits for others to share its batch, to 60 s. Default 0: a batch leaves as soon as its
    /// partition has fewer than two on the way, so batches grow with the load and waiting costs nothing without.
    pub linger: Duration,
    /// Bytes of all records taken and not answered yet; `send` waits when they are used up. Default 32 MiB, at
    /// least `batch_bytes`. Sealing takes about one more batch per partition.
    pub memory_bytes: usize,
    /// Batches of one partition on the way at once, 1 to 64. Default 64; those above five only while all of them
    /// together are below 128 KiB. Order is kept whatever it is with [`idempotent`](Self::idempotent); without, only
    /// when it is 1, and a batch may still be stored twice.
    pub in_flight_per_partition: usize,
    /// From a record's batch being opened to its delivery's resolution, through all retries; also how long `send`
    /// waits for memory. 1 ms to a day, default 120 s.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            batch_bytes: 128 << 10,
            linger: Duration::ZERO,
            memory_bytes: 32 << 20,
            in_flight_per_partition: IN_FLIGHT_BATCHES_MAX,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A setting out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum ProducerConfigError {
    #[error("batch_bytes is {0}, must be from 1 to 67108864")]
    BatchBytes(usize),
    #[error("linger is {0:?}, must be at most 60 s")]
    Linger(Duration),
    #[error("memory_bytes is {memory_bytes}, must be at least batch_bytes, {batch_bytes}")]
    MemoryBytes { memory_bytes: usize, batch_bytes: usize },
    #[error("in_flight_per_partition is {0}, must be from 1 to 64")]
    InFlight(usize),
    #[error("delivery_timeout is {0:?}, must be from 1 ms to a day")]
    DeliveryTimeout(Duration),
    #[error("zstd level is {0}, must be from 0 to 22")]
    ZstdLevel(i32),
}

/// Why `send` did not take a record. In every case nothing of it is sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum SendError {
    /// Create the topic first.
    #[error("topic '{topic}' does not exist")]
    UnknownTopic { topic: String },
    /// The topic's metadata could not be had: retry, or look at the broker.
    #[error("cannot learn about topic '{topic}': {source}")]
    Metadata { topic: String, source: RequestError<TopicError> },
    /// The record names a partition that the topic does not have.
    #[error("topic has partitions 0 to {}, not {partition}", partitions_count.saturating_sub(1))]
    PartitionOutOfRange { partition: u32, partitions_count: u32 },
    /// Framed, the record is above the topic's `max.message.bytes` or the producer's whole memory.
    #[error(
        "record of {record_bytes} bytes with its frame, limit {record_bytes_max} (the topic's max.message.bytes, \
         or the producer's memory)"
    )]
    RecordTooLarge { record_bytes: usize, record_bytes_max: usize },
    /// A header's name is above 65,535 bytes.
    #[error("header name of {bytes} bytes, limit 65535")]
    HeaderName { bytes: usize },
    /// Memory was full all the time: the broker does not keep up or is away. Retry later.
    #[error("producer's memory was full for {after:?}: the broker is away or does not keep up")]
    NoRoom { after: Duration },
    /// The broker knows a newer producer under this one's id. Make a new producer.
    #[error("{0}")]
    Fenced(#[source] ProduceError),
    /// The producer or its client was closed.
    #[error("producer is closed")]
    Closed,
}

/// Why `flush` or `close` ended before everything was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum FlushError {
    /// The client was closed: deliveries that were waiting say so.
    #[error("producer is closed")]
    Closed,
}

/// Sends records to any number of topics. Clones share everything; dropping the last one drops what is not
/// acknowledged yet ([`DeliveryError::Closed`](crate::DeliveryError::Closed)): [`close`](Self::close) first.
///
/// Records of one partition keep the order in which [`send`](Self::send) took them, through every retry, and none
/// is stored twice. Both need [`ProducerConfig::idempotent`], the default: without it a retry may store a batch
/// twice, and order needs [`ProducerConfig::in_flight_per_partition`] of 1.
#[derive(Debug, Clone)]
pub struct Producer {
    core: Arc<Core>,
    _guard: Arc<Guard>,
}

/// Lane tasks hold the core, so the last producer has to tell them.
#[derive(Debug)]
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a producer has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProducerStats {
    /// Records taken.
    pub records_count: u64,
    /// Bytes of records taken and not answered yet.
    pub memory_bytes: usize,
    /// Batches sent again.
    pub retries_count: u64,
    /// Producer ids given up because the broker refused a batch or lost track.
    pub identities_count: u64,
}

#[derive(Debug)]
pub(crate) struct Core {
    shared: Arc<Shared>,
    acks: Acks,
    compression: Compression,
    delivery_timeout: Duration,
    started: Instant,
    state: Mutex<State>,
    /// Memory was released, or a batch has its verdict.
    changed: Notify,
    /// Lanes were woken, and have much to do or have waited: the sender gives them a turn before the next record.
    yield_next: AtomicBool,
}

#[derive(Debug)]
struct State {
    accumulator: Accumulator,
    /// By lane.
    wakes: Vec<Arc<Notify>>,
    /// Lane tasks that have not ended.
    running_count: usize,
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a broken invariant of ours; going on could reorder records.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs `act` on the state and wakes who waits for what it released.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (result, changed) = {
            let mut state = self.lock();
            let result = act(&mut state);
            (result, state.accumulator.take_changed())
        };
        if changed {
            self.changed.notify_waiters();
        }
        result
    }

    async fn load_topic(
        &self,
        topic: &str,
        newer_than: Option<Instant>,
    ) -> Result<(), RequestError<TopicError>> {
        let info = self.shared.topic(topic, newer_than).await?;
        let (count, bytes_max) = (info.partitions_count(), info.message_bytes_max);
        let now = self.now();
        let asked_at = info.asked_at.saturating_duration_since(self.started);
        self.with(|state| state.accumulator.set_topic(now, asked_at, topic, count, bytes_max));
        Ok(())
    }

    fn wake_all(&self) {
        let wakes = self.lock().wakes.clone();
        wakes.iter().for_each(|wake| wake.notify_one());
    }

    fn close(&self) {
        self.with(|state| state.accumulator.close());
        self.wake_all();
        self.changed.notify_waiters();
    }
}

impl Producer {
    pub(crate) fn new(shared: Arc<Shared>, config: ProducerConfig) -> Result<Self, ProducerConfigError> {
        let idempotent = config.idempotent && config.acks != Acks::None;
        let settings = settings(&config, idempotent, shared.config.metadata_age_max, shared.seed())?;
        let core = Arc::new(Core {
            shared,
            acks: config.acks,
            compression: config.compression,
            delivery_timeout: config.delivery_timeout,
            started: Instant::now(),
            state: Mutex::new(State {
                accumulator: Accumulator::new(settings),
                wakes: Vec::new(),
                running_count: 0,
            }),
            changed: Notify::new(),
            yield_next: AtomicBool::new(false),
        });
        Ok(Self { _guard: Arc::new(Guard(Arc::clone(&core))), core })
    }

    /// Puts `record` into its partition's batch and returns its delivery, which resolves once the batch is as safe
    /// as [`ProducerConfig::acks`] asks.
    ///
    /// Waits only while the producer's memory is used up, or for a topic's metadata the first time; no longer
    /// than [`ProducerConfig::delivery_timeout`]. Records taken for one partition are stored in that order, as
    /// [`Producer`] says.
    ///
    /// # Errors
    /// [`SendError`]: the record was not taken.
    /// # Cancel safety
    /// Dropping the future before it is ready means that the record was not taken.
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        if self.core.yield_next.load(Ordering::Relaxed) {
            self.core.yield_next.store(false, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        match self.append(&record) {
            Ok(delivery) => Ok(delivery),
            Err(error) => Box::pin(self.send_slowly(&record, error)).await,
        }
    }

    async fn send_slowly(&self, record: &Record<'_>, first: AppendError) -> Result<Delivery, SendError> {
        let after = self.core.delivery_timeout;
        let deadline = Instant::now() + after;
        let fresh_since = self.core.now().saturating_sub(REFUSING_AGE);
        let mut error = first;
        loop {
            match &error {
                AppendError::NoRoom => {}
                AppendError::TopicNotLoaded => self.load_topic(record.topic, None, deadline).await?,
                // Before it is refused for what the topic is, that must be what the topic is now.
                AppendError::PartitionOutOfRange { .. } | AppendError::RecordTooLarge { .. }
                    if self.core.lock().accumulator.is_topic_older(record.topic, fresh_since) =>
                {
                    self.load_topic(record.topic, Some(Instant::now()), deadline).await?;
                }
                AppendError::PartitionOutOfRange { .. }
                | AppendError::RecordTooLarge { .. }
                | AppendError::HeaderName { .. }
                | AppendError::Fenced(_)
                | AppendError::Closed => return Err(send_error(record.topic, error, after)),
            }
            // Registered before looking, so that what is released in between is not missed.
            let mut changed = std::pin::pin!(self.core.changed.notified());
            changed.as_mut().enable();
            error = match self.append(record) {
                Ok(delivery) => return Ok(delivery),
                Err(error) => error,
            };
            if error == AppendError::NoRoom {
                tokio::select! {
                    waited = timeout_at(deadline, changed) => waited.map_err(|_| SendError::NoRoom { after })?,
                    () = self.core.shared.until_closed() => return Err(SendError::Closed),
                }
            }
        }
    }

    fn append(&self, record: &Record<'_>) -> Result<Delivery, AppendError> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.core.shared.outside.wall_clock());
        let now = self.core.now();
        let (delivery, wake, start, is_stale) = {
            let mut state = self.core.lock();
            let appended = state.accumulator.append(now, record, timestamp)?;
            if appended.is_new_lane {
                state.wakes.push(Arc::default());
                state.running_count += 1;
                assert_eq!(state.wakes.len(), state.accumulator.lanes_count());
            }
            let wake = appended.wake.then(|| Arc::clone(&state.wakes[appended.lane]));
            let start = appended.is_new_lane.then_some(appended.lane);
            if appended.is_lanes_turn {
                self.core.yield_next.store(true, Ordering::Relaxed);
            }
            (appended.delivery, wake, start, appended.is_stale)
        };
        if is_stale {
            tokio::spawn(refresh(Arc::clone(&self.core), record.topic.to_owned()));
        }
        if let Some(wake) = wake {
            match start {
                Some(lane) => {
                    tokio::spawn(drive::drive(Arc::clone(&self.core), lane, wake));
                }
                None => wake.notify_one(),
            }
        }
        Ok(delivery)
    }

    async fn load_topic(
        &self,
        topic: &str,
        newer_than: Option<Instant>,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let loaded = timeout_at(deadline, self.core.load_topic(topic, newer_than)).await;
        let after = self.core.delivery_timeout;
        match loaded.unwrap_or(Err(RequestError::TimedOut { after })) {
            Ok(()) => Ok(()),
            Err(RequestError::Refused(TopicError::Unknown { .. })) => {
                Err(SendError::UnknownTopic { topic: topic.into() })
            }
            Err(_) if self.core.shared.is_closed() => Err(SendError::Closed),
            Err(source) => Err(SendError::Metadata { topic: topic.into(), source }),
        }
    }

    /// Sends what is there without waiting for more records, and waits until every record taken before has its
    /// answer, good or bad: look at the deliveries for which. At most about
    /// [`ProducerConfig::delivery_timeout`].
    ///
    /// # Errors
    /// [`FlushError`].
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the sending.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let mark = self.core.with(|state| state.accumulator.flush());
        self.core.wake_all();
        self.until_settled(mark).await
    }

    async fn until_settled(&self, mark: u64) -> Result<(), FlushError> {
        loop {
            let mut changed = std::pin::pin!(self.core.changed.notified());
            changed.as_mut().enable();
            if self.core.lock().accumulator.is_settled(mark) {
                return Ok(());
            }
            tokio::select! {
                () = changed => {}
                () = self.core.shared.until_closed() => return Err(FlushError::Closed),
            }
        }
    }

    /// Takes no more records, then as [`flush`](Self::flush), then ends the producer and all its clones.
    ///
    /// # Errors
    /// [`FlushError`].
    /// # Cancel safety
    /// Dropping the future leaves the producer closed for new records; what it has is still being sent until the
    /// last clone is dropped.
    pub async fn close(&self) -> Result<(), FlushError> {
        self.core.with(|state| state.accumulator.start_closing());
        let flushed = self.flush().await;
        self.core.close();
        loop {
            let mut changed = std::pin::pin!(self.core.changed.notified());
            changed.as_mut().enable();
            if self.core.lock().running_count == 0 {
                return flushed;
            }
            changed.await;
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        let state = self.core.lock();
        ProducerStats {
            records_count: state.accumulator.records_count(),
            memory_bytes: state.accumulator.charged_bytes(),
            retries_count: state.accumulator.retries_count(),
            identities_count: state.accumulator.identities_count(),
        }
    }
}

/// Metadata younger than this is good enough to refuse a record for.
const REFUSING_AGE: Duration = Duration::from_secs(1);

/// New partitions and limits are learned in the background; if it fails, the next round is soon enough.
async fn refresh(core: Arc<Core>, topic: String) {
    let _ = core.load_topic(&topic, Some(Instant::now())).await;
}

fn send_error(topic: &str, error: AppendError, after: Duration) -> SendError {
    match error {
        AppendError::TopicNotLoaded => SendError::UnknownTopic { topic: topic.into() },
        AppendError::NoRoom => SendError::NoRoom { after },
        AppendError::PartitionOutOfRange { partition, partitions_count } => {
            SendError::PartitionOutOfRange { partition, partitions_count }
        }
        AppendError::RecordTooLarge { record_bytes, record_bytes_max } => {
            SendError::RecordTooLarge { record_bytes, record_bytes_max }
        }
        AppendError::HeaderName { bytes } => SendError::HeaderName { bytes },
        AppendError::Fenced(error) => SendError::Fenced(error),
        AppendError::Closed => SendError::Closed,
    }
}

fn settings(
    config: &ProducerConfig,
    idempotent: bool,
    metadata_age_max: Duration,
    seed: u64,
) -> Result<AccumulatorSettings, ProducerConfigError> {
    let bad = if !(1..=storage_frame::FRAME_BYTES_MAX).contains(&config.batch_bytes) {
        Some(ProducerConfigError::BatchBytes(config.batch_bytes))
    } else if config.linger > Duration::from_secs(60) {
        Some(ProducerConfigError::Linger(config.linger))
    } else if config.memory_bytes < config.batch_bytes {
        let (memory_bytes, batch_bytes) = (config.memory_bytes, config.batch_bytes);
        Some(ProducerConfigError::MemoryBytes { memory_bytes, batch_bytes })
    } else if !(1..=IN_FLIGHT_BATCHES_MAX).contains(&config.in_flight_per_partition) {
        Some(ProducerConfigError::InFlight(config.in_flight_per_partition))
    } else if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&config.delivery_timeout) {
        Some(ProducerConfigError::DeliveryTimeout(config.delivery_timeout))
    } else {
        match config.compression {
            Compression::Zstd { level } if !(0..=22).contains(&level) => {
                Some(ProducerConfigError::ZstdLevel(level))
            }
            Compression::None | Compression::Lz4 | Compression::Zstd { .. } => None,
        }
    };
    match bad {
        Some(error) => Err(error),
        None => Ok(AccumulatorSettings {
            batch_bytes_max: config.batch_bytes,
            memory_bytes_max: config.memory_bytes,
            lane: LaneSettings {
                acks: config.acks,
                idempotent,
                in_flight_max: config.in_flight_per_partition,
                linger: config.linger,
                delivery_timeout: config.delivery_timeout,
            },
            metadata_age_max,
            seed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ProducerConfig, ProducerConfigError, settings};

    #[test]
    fn a_batch_may_be_as_small_as_one_byte_and_no_smaller() {
        let with = |batch_bytes| {
            let config = ProducerConfig { batch_bytes, ..ProducerConfig::default() };
            settings(&config, true, Duration::from_secs(1), 1).map(|settings| settings.batch_bytes_max)
        };
        assert_eq!(with(1).ok(), Some(1));
        assert_eq!(with(0).err(), Some(ProducerConfigError::BatchBytes(0)));
    }
}
