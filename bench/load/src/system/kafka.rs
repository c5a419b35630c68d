//! Any broker that speaks Kafka's protocol, through librdkafka, which has threads of its own.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream_client::Config;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::outcomes::{Outcomes, Ticket};
use crate::system::{
    Acks, Compression, Consumer, ConsumerSpec, Description, Durability, Incoming, Outgoing, Pending,
    Producer, ProducerSpec, ReadFrom, System, SystemError, Take, TopicSpec,
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Until the last answers are in.
const FLUSH_MAX: Duration = Duration::from_secs(120);
/// How long to wait for room in the client's own queue, which is larger than the window.
const QUEUE_FULL_WAIT: Duration = Duration::from_micros(200);
/// Records handed over by one call.
const TAKEN_MAX: usize = 4096;

pub(super) struct Kafka {
    servers: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    pub(super) fn connect(config: &Config) -> Result<Kafka, SystemError> {
        let servers = config.servers.join(",");
        let admin = client_config(&servers).create().map_err(SystemError::connect)?;
        Ok(Kafka { servers, admin })
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT))
    }
}

fn client_config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("client.id", "millstream-bench");
    config
}

impl System for Kafka {
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let replicas = topic.replicas.map_or(BROKERS_DEFAULT, u32::cast_signed);
            let mut new =
                NewTopic::new(&topic.name, topic.partitions.cast_signed(), TopicReplication::Fixed(replicas));
            if topic.durability == Durability::Memory {
                new = new.set("write.caching", "true");
            }
            for (key, value) in &topic.configs {
                new = new.set(key, value);
            }
            let created =
                self.admin.create_topics([&new], &self.options()).await.map_err(SystemError::topic)?;
            created.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| refused(code)))
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let deleted =
                self.admin.delete_topics(&[name], &self.options()).await.map_err(SystemError::topic)?;
            deleted.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| refused(code)))
        })
    }

    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>> {
        Box::pin(async move {
            let resource = ResourceSpecifier::Topic(&topic.name);
            let described = self
                .admin
                .describe_configs([&resource], &self.options())
                .await
                .map_err(SystemError::topic)?;
            let described = described.into_iter().next().and_then(Result::ok);
            let entries = described.map(|resource| resource.entries).unwrap_or_default();
            let metadata = tokio::task::block_in_place(|| {
                self.admin.inner().fetch_metadata(Some(&topic.name), REQUEST_TIMEOUT)
            });
            let metadata = metadata.map_err(SystemError::topic)?;
            let of_topic = metadata.topics().first().and_then(|topic| topic.partitions().first());
            let replicas = of_topic.map_or(0, |partition| partition.replicas().len());
            let (_, version) = rdkafka::util::get_rdkafka_version();
            let set = entries.iter().filter(|entry| !entry.is_default);
            let notes = set.map(|entry| format!("{}={}", entry.name, entry.value.as_deref().unwrap_or("")));
            Ok(Description {
                system: format!(
                    "a broker of Kafka's protocol (which does not tell its version), {} nodes",
                    metadata.brokers().len()
                ),
                client: format!("librdkafka {version}, TCP"),
                durability: durability_of(&entries),
                replication: format!("{replicas} replicas"),
                batching: "librdkafka's: a batch leaves when it is full or its linger has passed".to_owned(),
                notes: notes.collect(),
            })
        })
    }

    fn producer<'a>(
        &'a self,
        spec: &'a ProducerSpec,
        outcomes: Outcomes,
    ) -> Pending<'a, Result<Box<dyn Producer>, SystemError>> {
        Box::pin(async move {
            let producer = producer_config(&self.servers, spec).create_with_context(Answers { outcomes });
            let producer: ThreadedProducer<Answers> = producer.map_err(SystemError::connect)?;
            Ok(Box::new(Sender { topic: spec.topic.clone(), producer }) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>> {
        Box::pin(async move {
            let consumer = consumer_config(&self.servers, spec)
                .create::<StreamConsumer>()
                .map_err(SystemError::connect)?;
            if spec.group.is_some() {
                consumer.subscribe(&[&spec.topic]).map_err(SystemError::read)?;
            } else {
                let places = tokio::task::block_in_place(|| places(&self.servers, spec))?;
                consumer.assign(&places).map_err(SystemError::read)?;
            }
            Ok(Box::new(Receiver { consumer }) as Box<dyn Consumer>)
        })
    }
}

/// As many replicas as the broker's default says (KIP-464).
const BROKERS_DEFAULT: i32 = -1;

/// Kafka itself answers once records are in the page cache, unless `flush.messages` says otherwise; Millstream and
/// Redpanda write to disk first, unless `write.caching` says otherwise.
fn durability_of(entries: &[ConfigEntry]) -> String {
    let value =
        |name: &str| entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.as_deref());
    match (value("write.caching"), value("flush.messages")) {
        (Some("true"), _) => "in memory of the replicas: write.caching=true".to_owned(),
        (Some(caching), _) => format!("on the replicas' disks: write.caching={caching}"),
        (None, Some("1")) => "on the leader's disk: flush.messages=1".to_owned(),
        (None, flush) => {
            format!("in the operating system's page cache: flush.messages={}", flush.unwrap_or("not told"))
        }
    }
}

fn producer_config(servers: &str, spec: &ProducerSpec) -> ClientConfig {
    let acks = match spec.acks {
        Acks::All => "all",
        Acks::Leader => "1",
        Acks::None => "0",
    };
    let compression = match spec.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    let mut config = client_config(servers);
    config
        .set("acks", acks)
        .set("compression.type", compression)
        .set("batch.size", spec.batch_bytes.to_string())
        .set("batch.num.messages", "1000000")
        .set("linger.ms", format!("{}", spec.linger_us as f64 / 1000.0))
        // As every other client of Kafka's, and Millstream's.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", (64 << 20).max(2 * spec.batch_bytes).to_string())
        .set("queue.buffering.max.kbytes", (QUEUE_SHARE * spec.memory_bytes / 1024 + (64 << 10)).to_string())
        .set("queue.buffering.max.messages", (QUEUE_SHARE * spec.window).to_string());
    for (key, value) in &spec.client_configs {
        config.set(key, value);
    }
    config
}

/// The library's queue is never what limits: the generator's window is.
const QUEUE_SHARE: usize = 2;

fn consumer_config(servers: &str, spec: &ConsumerSpec) -> ClientConfig {
    let mut config = client_config(servers);
    let reset = match spec.from {
        ReadFrom::Start => "earliest",
        ReadFrom::Tail => "latest",
    };
    config
        // librdkafka wants a name even where there is no group.
        .set("group.id", spec.group.clone().unwrap_or_else(|| format!("{}-alone", spec.topic)))
        .set("enable.auto.commit", spec.group.is_some().to_string())
        .set("auto.offset.reset", reset)
        .set("fetch.message.max.bytes", (4 << 20).to_string())
        .set("queued.min.messages", "1000000");
    config
}

/// Where each partition is to be read from: the tail as it is now, not as it will be at the first fetch.
fn places(servers: &str, spec: &ConsumerSpec) -> Result<TopicPartitionList, SystemError> {
    let list = |offset: Offset| -> Result<TopicPartitionList, SystemError> {
        let mut list = TopicPartitionList::with_capacity(spec.partitions.len());
        for partition in &spec.partitions {
            list.add_partition_offset(&spec.topic, partition.cast_signed(), offset)
                .map_err(SystemError::read)?;
        }
        Ok(list)
    };
    match spec.from {
        ReadFrom::Start => list(Offset::Beginning),
        ReadFrom::Tail => {
            // The time -1 means the end (ListOffsets), which is how this constant is written.
            let asker: BaseConsumer =
                consumer_config(servers, spec).create().map_err(SystemError::connect)?;
            asker.offsets_for_times(list(Offset::End)?, REQUEST_TIMEOUT).map_err(SystemError::read)
        }
    }
}

/// Hears what became of each record, on a thread of the producer's.
struct Answers {
    outcomes: Outcomes,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(_) => self.outcomes.acknowledged([Ticket(ticket)]),
            Err((KafkaError::MessageProduction(code), _)) => {
                self.outcomes.failed([Ticket(ticket)], &format!("{code:?}"));
            }
            Err((error, _)) => self.outcomes.failed([Ticket(ticket)], &error.to_string()),
        }
    }
}

struct Sender {
    topic: String,
    producer: ThreadedProducer<Answers>,
}

impl Producer for Sender {
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            for outgoing in records {
                self.send_one(outgoing).await?;
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async move {
            tokio::task::block_in_place(|| self.producer.flush(FLUSH_MAX)).map_err(SystemError::send)
        })
    }
}

impl Sender {
    async fn send_one(&self, outgoing: &Outgoing<'_>) -> Result<(), SystemError> {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, outgoing.ticket.0);
        record.payload = Some(outgoing.value);
        record.key = outgoing.key;
        record.partition = outgoing.partition.map(u32::cast_signed);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => back,
                Err((KafkaError::MessageProduction(code), _)) => {
                    self.producer
                        .context()
                        .outcomes
                        .failed([outgoing.ticket], &format!("not taken: {code:?}"));
                    return Ok(());
                }
                Err((error, _)) => return Err(SystemError::send(error)),
            };
            tokio::time::sleep(QUEUE_FULL_WAIT).await;
        }
    }
}

struct Receiver {
    consumer: StreamConsumer,
}

impl Consumer for Receiver {
    fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>> {
        Box::pin(async move {
            let first = self.consumer.recv().await.map_err(SystemError::read)?;
            hand_over(&first, take);
            let mut count = 1;
            while count < TAKEN_MAX {
                let Some(next) = now_or_never(self.consumer.recv()) else { break };
                hand_over(&next.map_err(SystemError::read)?, take);
                count += 1;
            }
            Ok(count)
        })
    }
}

fn hand_over(message: &BorrowedMessage<'_>, take: Take<'_>) {
    let partition = message.partition().cast_unsigned();
    take(Incoming { partition, value: message.payload().unwrap_or_default() });
}

/// What is there already. The future is dropped otherwise, which costs nothing that is received.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn refused(code: RDKafkaErrorCode) -> SystemError {
    SystemError::Topic(code.to_string())
}
