//! The same loads over Kafka's protocol, through rdkafka (librdkafka), from plain threads as its users do.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_client::Durability;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::args::{AcksArg, CompressionArg, ProduceArgs};
use crate::load::{Filler, Load, Outcome};
use crate::run::BenchError;
use crate::schedule::Schedule;

/// Until the last answers are in.
const FLUSH_MAX: Duration = Duration::from_secs(120);
/// How long to wait for room in the client's own queue, and between two looks at the clock.
const QUEUE_FULL_WAIT: Duration = Duration::from_micros(200);
const TICK_MIN: Duration = Duration::from_micros(50);
const READ_STALL: Duration = Duration::from_secs(30);

/// Hears what became of each record, on librdkafka's thread.
struct Answers {
    epoch: Instant,
    acks: AcksArg,
    outcome: Mutex<Outcome>,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    /// When the record was due, nanoseconds of the run's clock.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                outcome.acknowledged += 1;
                let due = Duration::from_nanos(due as u64);
                outcome.latencies.record(self.epoch.elapsed().saturating_sub(due));
                // The protocol does not say which level was reached; this is what the broker promises for these.
                outcome.durability = match self.acks {
                    AcksArg::All => Some(Durability::AllDisks),
                    AcksArg::Leader => Some(Durability::LeaderDisk),
                    AcksArg::None => None,
                };
            }
            Err((error, _)) => {
                outcome.failed += 1;
                outcome.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// What one client sends, and what became of it. Blocks.
pub(crate) fn send(
    server: &str,
    args: &ProduceArgs,
    load: &Load,
    epoch: Instant,
) -> Result<Outcome, BenchError> {
    let answers = Answers { epoch, acks: args.acks, outcome: Mutex::default() };
    let producer: ThreadedProducer<Answers> =
        producer_config(server, args).create_with_context(answers).map_err(sending)?;
    let sent = send_all(&producer, load, epoch)?;
    producer.flush(FLUSH_MAX).map_err(sending)?;
    let mut outcome = producer.context().outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    outcome.sent = sent;
    Ok(outcome)
}

fn producer_config(server: &str, args: &ProduceArgs) -> ClientConfig {
    let acks = match args.acks {
        AcksArg::All => "all",
        AcksArg::Leader => "1",
        AcksArg::None => "0",
    };
    let compression = match args.compression {
        CompressionArg::None => "none",
        CompressionArg::Lz4 => "lz4",
        CompressionArg::Zstd => "zstd",
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", server)
        .set("acks", acks)
        .set("compression.type", compression)
        .set("enable.idempotence", (acks == "all").to_string())
        .set("batch.size", args.batch_bytes.to_string())
        .set("batch.num.messages", "1000000")
        .set("linger.ms", format!("{}", args.linger_us as f64 / 1000.0))
        .set("queue.buffering.max.kbytes", (args.memory_mib << 10).to_string())
        .set("queue.buffering.max.messages", "10000000");
    config
}

fn send_all(producer: &ThreadedProducer<Answers>, load: &Load, epoch: Instant) -> Result<u64, BenchError> {
    let start = Instant::now();
    let schedule = load.rate.map(Schedule::new);
    let records_max = load.records_max.unwrap_or(u64::MAX);
    let mut filler = Filler::new(load.record_bytes);
    let mut sent = 0;
    while sent < records_max && start.elapsed() < load.duration {
        let due = match schedule {
            Some(schedule) => {
                let due = schedule.due(sent);
                if due >= load.duration {
                    break;
                }
                while start.elapsed() < due {
                    std::thread::sleep((due - start.elapsed().min(due)).max(TICK_MIN));
                }
                start + due
            }
            None => Instant::now(),
        };
        send_one(producer, &load.topic, filler.value(due.saturating_duration_since(epoch)), due, epoch)?;
        sent += 1;
    }
    Ok(sent)
}

fn send_one(
    producer: &ThreadedProducer<Answers>,
    topic: &str,
    value: &[u8],
    due: Instant,
    epoch: Instant,
) -> Result<(), BenchError> {
    let due_ns = due.saturating_duration_since(epoch).as_nanos() as usize;
    let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, due_ns).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(QUEUE_FULL_WAIT);
            }
            Err((error, _)) => return Err(sending(error)),
        }
    }
}

/// Reads every partition of the topic from its start until there were `wanted` records. Blocks.
pub(crate) fn read(server: &str, topic: &str, partitions: u32, wanted: u64) -> Result<u64, BenchError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server)
        .set("group.id", format!("{topic}-bench"))
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", (4 << 20).to_string())
        .set("queued.min.messages", "1000000")
        .create()
        .map_err(reading)?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition.cast_signed(), Offset::Beginning).map_err(reading)?;
    }
    consumer.assign(&all).map_err(reading)?;
    let (mut read, mut last) = (0, Instant::now());
    while read < wanted {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                // Looked at, as whoever reads would.
                read += u64::from(message.payload().is_some());
                last = Instant::now();
            }
            Some(Err(error)) => return Err(reading(error)),
            None if last.elapsed() > READ_STALL => {
                return Err(BenchError::Read(format!("{read} of {wanted} records came, then none")));
            }
            None => {}
        }
    }
    Ok(read)
}

fn sending(error: KafkaError) -> BenchError {
    BenchError::Send(error.to_string())
}

fn reading(error: KafkaError) -> BenchError {
    BenchError::Read(error.to_string())
}
