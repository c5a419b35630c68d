//! Millstream over QUIC, through its SDK.
//!
//! Answers of one partition come in order, so one task per partition and producer waits for each delivery in turn and
//! finds those of the same batch answered already: they are told in one call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_client::{
    Client, Config, CreateTopic, Delivery, DeliveryError, Durability as Reached, GroupConsumer, GroupOptions,
    GroupStart, Producer as SdkProducer, ProducerConfig, ReadBatch, Reader, ReaderConfig, Record,
    RecordMetadata, SendError, StageTimings, Start,
};
use tokio::sync::mpsc;

use crate::outcomes::{Outcomes, Ticket};
use crate::system::{
    Acks, Compression, Consumer, ConsumerSpec, Description, Durability, Incoming, Outgoing, Pending,
    Producer, ProducerSpec, ReadFrom, System, SystemError, Take, TopicSpec,
};

pub(super) struct Native {
    config: Config,
    client: Client,
    reached: Arc<Least>,
}

/// The least level that any record reached.
#[derive(Debug, Default)]
struct Least(Mutex<Option<Reached>>);

impl Least {
    fn lower_to(&self, level: Reached) {
        let mut least = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *least = Some(least.map_or(level, |least| least.min(level)));
    }

    fn level(&self) -> Option<Reached> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Native {
    pub(super) async fn connect(config: &Config) -> Result<Native, SystemError> {
        Ok(Native { config: config.clone(), client: client(config).await?, reached: Arc::default() })
    }
}

async fn client(config: &Config) -> Result<Client, SystemError> {
    Client::connect(config.clone()).await.map_err(SystemError::connect)
}

impl System for Native {
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>> {
        let mut configs = topic.configs.clone();
        if topic.durability == Durability::Memory {
            configs.push(("write.caching".to_owned(), "true".to_owned()));
        }
        let create = CreateTopic {
            name: topic.name.clone(),
            partitions: Some(topic.partitions),
            replicas: topic.replicas,
            configs,
        };
        Box::pin(async move {
            let created = self.client.admin().create_topic(create).await;
            created.map(drop).map_err(SystemError::topic)
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let deleted = self.client.admin().delete_topic(name).await;
            deleted.map_err(SystemError::topic)
        })
    }

    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>> {
        Box::pin(async move {
            let admin = self.client.admin();
            let topic = admin.describe_topic(&topic.name).await.map_err(SystemError::topic)?;
            let cluster = admin.describe_cluster().await.map_err(SystemError::topic)?;
            let cores: Vec<u8> = cluster.nodes.iter().map(|node| node.cores).collect();
            let mut notes = vec![format!("broker cores {cores:?}")];
            let set = topic.configs.iter().filter(|config| !config.is_default);
            notes.extend(set.map(|config| format!("{}={}", config.key, config.value)));
            Ok(Description {
                system: format!("Millstream {}", cluster.version),
                client: format!("millstream-client {}, QUIC", env!("CARGO_PKG_VERSION")),
                durability: match self.reached.level() {
                    Some(level) => format!("every acknowledgement said {level:?} or more"),
                    None => "none was asked for or nothing was acknowledged".to_owned(),
                },
                replication: format!("{} replicas", topic.replicas),
                batching:
                    "the SDK's: a batch leaves when it is full, or when fewer than two of its partition \
                           are on the way"
                        .to_owned(),
                notes,
            })
        })
    }

    fn producer<'a>(
        &'a self,
        spec: &'a ProducerSpec,
        outcomes: Outcomes,
    ) -> Pending<'a, Result<Box<dyn Producer>, SystemError>> {
        Box::pin(async move {
            if let Some((key, _)) = spec.client_configs.first() {
                let what = format!("client config {key}: the SDK's are all flags");
                return Err(SystemError::Unsupported { system: "Millstream", what });
            }
            let client = client(&self.config).await?;
            let producer = client.producer(producer_config(spec));
            let producer = producer.map_err(SystemError::send)?;
            let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
            let (topic, reached) = (spec.topic.clone(), Arc::clone(&self.reached));
            let sender =
                Sender { topic, producer, outcomes, reached, partitions, touched: Vec::new(), client };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>> {
        Box::pin(async move {
            let client = client(&self.config).await?;
            let reading = match &spec.group {
                Some(group) => Reading::Group(Box::new(join(&client, group, spec).await?)),
                None => Reading::Alone(read(&client, spec).await?),
            };
            Ok(Box::new(Receiver { reading, client }) as Box<dyn Consumer>)
        })
    }
}

fn producer_config(spec: &ProducerSpec) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.acks = match spec.acks {
        Acks::All => millstream_client::Acks::All,
        Acks::Leader => millstream_client::Acks::Leader,
        Acks::None => millstream_client::Acks::None,
    };
    config.compression = match spec.compression {
        Compression::None => millstream_client::Compression::None,
        Compression::Lz4 => millstream_client::Compression::Lz4,
        Compression::Zstd => millstream_client::Compression::Zstd { level: 0 },
    };
    config.batch_bytes = spec.batch_bytes;
    config.linger = Duration::from_micros(spec.linger_us);
    // The generator's window counts values; what the SDK adds to each must not fill its memory first.
    config.memory_bytes = (spec.memory_bytes + spec.window * RECORD_OVERHEAD_BYTES).max(4 * spec.batch_bytes);
    config
}

/// Of the SDK's accounting: an index entry and alignment for each record, a batch's own at worst.
const RECORD_OVERHEAD_BYTES: usize = 128;

struct Sender {
    topic: String,
    producer: SdkProducer,
    outcomes: Outcomes,
    reached: Arc<Least>,
    partitions: Vec<Partition>,
    /// Partitions that the chunk under way has put something into.
    touched: Vec<u32>,
    client: Client,
}

#[derive(Default)]
struct Partition {
    chunk: Vec<(Ticket, Delivery)>,
    collector: Option<mpsc::UnboundedSender<Vec<(Ticket, Delivery)>>>,
}

impl Producer for Sender {
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            for outgoing in records {
                let record = Record::new(&self.topic, outgoing.value);
                let record = match outgoing.key {
                    Some(key) => record.key(key),
                    None => record,
                };
                let record = match outgoing.partition {
                    Some(partition) => record.partition(partition),
                    None => record,
                };
                match self.producer.send(record).await {
                    Ok(delivery) => self.watch(outgoing.ticket, delivery),
                    Err(error @ SendError::Closed) => return Err(SystemError::Send(error.to_string())),
                    Err(error) => self.outcomes.failed([outgoing.ticket], send_kind(&error)),
                }
            }
            self.hand_over();
            Ok(())
        })
    }

    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async move { self.producer.flush().await.map_err(SystemError::send) })
    }

    fn retries_count(&self) -> u64 {
        self.producer.stats().retries_count
    }

    fn close(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            // Fails when the client is closed, which is what is wanted.
            let _ = self.producer.close().await;
            self.client.close().await;
        })
    }
}

impl Sender {
    fn watch(&mut self, ticket: Ticket, delivery: Delivery) {
        let partition = delivery.partition();
        let index = partition as usize;
        if index >= self.partitions.len() {
            self.partitions.resize_with(index + 1, Partition::default);
        }
        let chunk = &mut self.partitions[index].chunk;
        if chunk.is_empty() {
            self.touched.push(partition);
        }
        chunk.push((ticket, delivery));
    }

    /// What is handed over is bounded by the generator's window.
    fn hand_over(&mut self) {
        for partition in self.touched.drain(..) {
            let partition = &mut self.partitions[partition as usize];
            let chunk = std::mem::take(&mut partition.chunk);
            let collector = partition.collector.get_or_insert_with(|| {
                let (send, receive) = mpsc::unbounded_channel();
                let collector = Collector {
                    outcomes: self.outcomes.clone(),
                    reached: Arc::clone(&self.reached),
                    level: None,
                };
                tokio::spawn(collector.run(receive));
                send
            });
            collector.send(chunk).expect("a collector ends after its sender");
        }
    }
}

/// Hears the answers of one partition.
struct Collector {
    outcomes: Outcomes,
    reached: Arc<Least>,
    /// What was told of last.
    level: Option<Reached>,
}

impl Collector {
    async fn run(mut self, mut chunks: mpsc::UnboundedReceiver<Vec<(Ticket, Delivery)>>) {
        let mut answered = Answered::default();
        while let Some(chunk) = chunks.recv().await {
            for (ticket, delivery) in chunk {
                let result = match delivery.peek() {
                    Some(result) => result,
                    None => {
                        answered.tell(&self.outcomes);
                        delivery.await
                    }
                };
                match result {
                    Ok(stored) => {
                        self.note(&stored);
                        answered.add(ticket, stored.timings, &self.outcomes);
                    }
                    Err(error) => self.outcomes.failed([ticket], delivery_kind(&error)),
                }
            }
            answered.tell(&self.outcomes);
        }
    }

    fn note(&mut self, stored: &RecordMetadata) {
        if stored.durability != self.level {
            self.level = stored.durability;
            stored.durability.into_iter().for_each(|level| self.reached.lower_to(level));
        }
    }
}

/// Records that were answered together.
#[derive(Default)]
struct Answered {
    tickets: Vec<Ticket>,
    timings: StageTimings,
}

impl Answered {
    fn add(&mut self, ticket: Ticket, timings: StageTimings, outcomes: &Outcomes) {
        if timings != self.timings {
            self.tell(outcomes);
            self.timings = timings;
        }
        self.tickets.push(ticket);
    }

    fn tell(&mut self, outcomes: &Outcomes) {
        let count = self.tickets.len() as u64;
        if count == 0 {
            return;
        }
        outcomes.acknowledged(self.tickets.drain(..));
        outcomes.stage("broker queue", self.timings.queue, count);
        outcomes.stage("broker disk", self.timings.disk, count);
    }
}

fn send_kind(error: &SendError) -> &'static str {
    match error {
        SendError::UnknownTopic { .. } => "not taken: unknown topic",
        SendError::Metadata { .. } => "not taken: no metadata",
        SendError::PartitionOutOfRange { .. } => "not taken: no such partition",
        SendError::RecordTooLarge { .. } => "not taken: record too large",
        SendError::HeaderName { .. } => "not taken: header name",
        SendError::NoRoom { .. } => "not taken: no room",
        SendError::Fenced(_) => "not taken: fenced",
        SendError::Closed => "not taken: closed",
    }
}

fn delivery_kind(error: &DeliveryError) -> &'static str {
    match error {
        DeliveryError::Refused(_) => "refused",
        DeliveryError::RefusedOnRetry(_) => "refused on a retry: unknown",
        DeliveryError::NotSent { .. } => "not sent in time",
        DeliveryError::TimedOut { .. } => "no answer in time: unknown",
        DeliveryError::OffsetUnknown => "offset unknown",
        DeliveryError::Closed { .. } => "closed",
    }
}

struct Receiver {
    reading: Reading,
    client: Client,
}

enum Reading {
    Alone(Reader),
    Group(Box<GroupConsumer>),
}

async fn read(client: &Client, spec: &ConsumerSpec) -> Result<Reader, SystemError> {
    let start = match spec.from {
        ReadFrom::Start => Start::Beginning,
        ReadFrom::Tail => Start::End,
    };
    let config =
        ReaderConfig::new(spec.topic.clone()).from(start).partitions(spec.partitions.iter().copied());
    client.reader(config).await.map_err(SystemError::read)
}

async fn join(client: &Client, group: &str, spec: &ConsumerSpec) -> Result<GroupConsumer, SystemError> {
    let mut options = GroupOptions::default();
    options.start = match spec.from {
        ReadFrom::Start => GroupStart::Beginning,
        ReadFrom::Tail => GroupStart::End,
    };
    let joined = client.join_group(group, [spec.topic.clone()], options).await;
    joined.map_err(SystemError::read)
}

impl Consumer for Receiver {
    fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>> {
        Box::pin(async move {
            let batch = match &mut self.reading {
                Reading::Alone(reader) => reader.next().await.map_err(SystemError::read)?,
                Reading::Group(member) => Some(member.next().await.map_err(SystemError::read)?),
            };
            let batch = batch.ok_or_else(|| SystemError::Read("the topic ended".to_owned()))?;
            hand_out(&batch, take)
        })
    }

    fn close(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            if let Reading::Group(member) = self.reading {
                // What was read is of no use to a later run.
                let _ = member.close().await;
            }
            self.client.close().await;
        })
    }
}

fn hand_out(batch: &ReadBatch, take: Take<'_>) -> Result<usize, SystemError> {
    let (partition, mut count) = (batch.partition(), 0);
    for record in batch.records() {
        let record = record.map_err(SystemError::read)?;
        take(Incoming { partition, value: record.value.unwrap_or_default() });
        count += 1;
    }
    Ok(count)
}
