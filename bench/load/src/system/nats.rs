//! NATS JetStream through its own client: a stream per partition.
//!
//! JetStream takes one message per request and has no batches (before 2.12): many in flight is its fastest way. Answers
//! of one stream come in order, so a task per partition waits for each in turn and tells those that are there together.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::stream::{self, StorageType};
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{ConnectOptions, ServerAddr, Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use millstream_client::Config;
use tokio::sync::mpsc;

use crate::outcomes::{Outcomes, Ticket};
use crate::system::feed::{
    Chooser, Feed, FeedSender, Portion, place, refuse_configs, refuse_consumer, refuse_producer,
};
use crate::system::{
    Consumer, ConsumerSpec, Description, Durability, Outgoing, Pending, Producer, ProducerSpec, ReadFrom,
    System, SystemError, TopicSpec,
};

const SYSTEM: &str = "NATS JetStream";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Commands between its handle and its connection, and messages between its connection and a subscription: enough that
/// neither is what limits.
const CLIENT_QUEUE: usize = 1 << 16;
/// Messages asked for at once by a reader.
const PULLED_MAX: usize = 8192;
/// Handed over together.
const PORTION_MAX: usize = 1024;

pub(super) struct Nats {
    servers: Vec<ServerAddr>,
    context: Context,
    /// Partitions of the topic that was made, for the end.
    made: AtomicU32,
}

impl Nats {
    pub(super) async fn connect(config: &Config) -> Result<Nats, SystemError> {
        let parsed = config.servers.iter().map(|server| server.parse::<ServerAddr>());
        let servers: Vec<ServerAddr> = parsed.collect::<Result<_, _>>().map_err(SystemError::connect)?;
        let context = context(&servers, 0).await?;
        Ok(Nats { servers, context, made: AtomicU32::new(0) })
    }
}

/// A connection of its own. `window` records may be unanswered.
async fn context(servers: &[ServerAddr], window: usize) -> Result<Context, SystemError> {
    let options = ConnectOptions::new()
        .name("millstream-bench")
        .request_timeout(Some(REQUEST_TIMEOUT))
        .client_capacity(CLIENT_QUEUE)
        .subscription_capacity(CLIENT_QUEUE)
        .read_buffer_capacity(u16::MAX);
    let client = options.connect(servers.to_vec()).await.map_err(SystemError::connect)?;
    let context = ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT)
        .ack_timeout(REQUEST_TIMEOUT)
        // Above the generator's own window, so that it never waits here.
        .max_ack_inflight(2 * window.max(1))
        .build(client);
    Ok(context)
}

fn stream_config(topic: &TopicSpec, partition: u32) -> stream::Config {
    let name = place(&topic.name, partition);
    stream::Config {
        subjects: vec![name.clone()],
        name,
        storage: match topic.durability {
            Durability::Disk => StorageType::File,
            Durability::Memory => StorageType::Memory,
        },
        num_replicas: topic.replicas.unwrap_or(1) as usize,
        ..stream::Config::default()
    }
}

impl System for Nats {
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            refuse_configs(SYSTEM, &topic.configs)?;
            for partition in 0..topic.partitions {
                self.context
                    .create_stream(stream_config(topic, partition))
                    .await
                    .map_err(SystemError::topic)?;
                self.made.store(partition + 1, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            for partition in 0..self.made.load(Ordering::Relaxed) {
                self.context.delete_stream(place(name, partition)).await.map_err(SystemError::topic)?;
            }
            Ok(())
        })
    }

    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>> {
        Box::pin(async move {
            let version = self.context.client().server_info().version;
            let stream = self.context.get_stream(place(&topic.name, 0)).await.map_err(SystemError::topic)?;
            let config = &stream.cached_info().config;
            Ok(Description {
                durability: durability(config.storage, &version),
                system: format!("nats-server {version}"),
                client: "async-nats 0.51, TCP".to_owned(),
                replication: format!("{} replicas", config.num_replicas),
                batching: "none: a message per request, many on the way".to_owned(),
                notes: vec![format!("{} streams", topic.partitions)],
            })
        })
    }

    fn producer<'a>(
        &'a self,
        spec: &'a ProducerSpec,
        outcomes: Outcomes,
    ) -> Pending<'a, Result<Box<dyn Producer>, SystemError>> {
        Box::pin(async move {
            refuse_producer(SYSTEM, spec)?;
            let context = context(&self.servers, spec.window).await?;
            let lanes = (0..spec.partitions).map(|partition| {
                let (answers, receiver) = mpsc::unbounded_channel();
                tokio::spawn(hear(receiver, outcomes.clone()));
                Lane { subject: Subject::from(place(&spec.topic, partition)), chunk: Vec::new(), answers }
            });
            let (lanes, chooser) = (lanes.collect(), Chooser::new(spec.partitions));
            Ok(Box::new(Sender { context, lanes, chooser, touched: Vec::new(), outcomes })
                as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>> {
        Box::pin(async move {
            refuse_consumer(SYSTEM, spec)?;
            let context = context(&self.servers, 0).await?;
            let mut readers = Vec::new();
            for partition in &spec.partitions {
                let name = place(&spec.topic, *partition);
                readers.push((*partition, reader(&context, name, spec.from).await?));
            }
            let feed = Feed::new(|sender, tasks| {
                for (partition, messages) in readers {
                    tasks.spawn(read(partition, messages, sender.clone()));
                }
            });
            Ok(Box::new(feed) as Box<dyn Consumer>)
        })
    }
}

/// What an answer means. Servers do not tell their clients how often they sync.
fn durability(storage: StorageType, version: &str) -> String {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let knows_sync_interval = (parts.next(), parts.next()) >= (Some(2), Some(10));
    match storage {
        StorageType::Memory => "in memory: storage memory".to_owned(),
        StorageType::File if knows_sync_interval => {
            "written to the operating system's page cache: storage file; synced as often as the server's \
             sync_interval says, after the answer unless it is always"
                .to_owned()
        }
        StorageType::File => {
            "written to the operating system's page cache: storage file; synced minutes later, which this version \
             has no setting for"
                .to_owned()
        }
    }
}

struct Sender {
    context: Context,
    lanes: Vec<Lane>,
    chooser: Chooser,
    /// Lanes that the chunk under way has put something into.
    touched: Vec<u32>,
    outcomes: Outcomes,
}

struct Lane {
    subject: Subject,
    chunk: Vec<(Ticket, PublishAckFuture)>,
    answers: mpsc::UnboundedSender<Vec<(Ticket, PublishAckFuture)>>,
}

impl Producer for Sender {
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            for record in records {
                let partition = self.chooser.partition(record);
                let lane = &mut self.lanes[partition as usize];
                let value = Bytes::copy_from_slice(record.value);
                match self.context.publish(lane.subject.clone(), value).await {
                    Ok(answer) => {
                        if lane.chunk.is_empty() {
                            self.touched.push(partition);
                        }
                        lane.chunk.push((record.ticket, answer));
                    }
                    Err(error) => {
                        self.outcomes.failed([record.ticket], &format!("not taken: {}", kind(&error)))
                    }
                }
            }
            self.chooser.next_chunk();
            for partition in self.touched.drain(..) {
                let lane = &mut self.lanes[partition as usize];
                let chunk = std::mem::take(&mut lane.chunk);
                lane.answers.send(chunk).expect("who hears answers ends after who sends");
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async move {
            let flushed = self.context.client().flush().await;
            flushed.map_err(SystemError::send)
        })
    }
}

/// Tells what became of a partition's records, those that were answered by now in one call.
async fn hear(mut chunks: mpsc::UnboundedReceiver<Vec<(Ticket, PublishAckFuture)>>, outcomes: Outcomes) {
    let mut answered = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        for (ticket, answer) in chunk {
            let mut answer = answer.into_future();
            let result = match (&mut answer).now_or_never() {
                Some(result) => result,
                None => {
                    outcomes.acknowledged(answered.drain(..));
                    answer.await
                }
            };
            match result {
                Ok(_) => answered.push(ticket),
                Err(error) => outcomes.failed([ticket], &kind(&error)),
            }
        }
        outcomes.acknowledged(answered.drain(..));
    }
}

async fn reader(context: &Context, stream: String, from: ReadFrom) -> Result<pull::Stream, SystemError> {
    let config = pull::Config {
        deliver_policy: match from {
            ReadFrom::Start => DeliverPolicy::All,
            ReadFrom::Tail => DeliverPolicy::New,
        },
        // Nothing to be acknowledged, as a reader without a group has it elsewhere.
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer: PullConsumer =
        context.create_consumer_on_stream(config, stream).await.map_err(SystemError::read)?;
    consumer.stream().max_messages_per_batch(PULLED_MAX).messages().await.map_err(SystemError::read)
}

async fn read(partition: u32, messages: pull::Stream, sender: FeedSender<Bytes>) {
    let mut chunks = messages.ready_chunks(PORTION_MAX);
    while let Some(chunk) = chunks.next().await {
        let values: Result<Vec<Bytes>, _> =
            chunk.into_iter().map(|message| message.map(|message| message.message.payload)).collect();
        let portion = values.map(|values| Portion { partition, values }).map_err(SystemError::read);
        let is_over = portion.is_err();
        if sender.send(portion).await.is_err() || is_over {
            return;
        }
    }
}

/// Without the details of a single record.
fn kind(error: &PublishError) -> String {
    error.kind().to_string()
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::StorageType;

    use super::{durability, stream_config};
    use crate::system::{Durability, TopicSpec};

    #[test]
    fn a_durable_topic_is_a_stream_in_files_per_partition() {
        let mut topic = TopicSpec {
            name: "bench".to_owned(),
            partitions: 2,
            replicas: None,
            durability: Durability::Disk,
            configs: Vec::new(),
        };
        let config = stream_config(&topic, 1);
        assert_eq!(
            (config.name.as_str(), config.subjects.as_slice()),
            ("bench-1", &["bench-1".to_owned()][..])
        );
        assert_eq!((config.storage, config.num_replicas), (StorageType::File, 1));
        topic.durability = Durability::Memory;
        topic.replicas = Some(3);
        let config = stream_config(&topic, 0);
        assert_eq!((config.storage, config.num_replicas), (StorageType::Memory, 3));
    }

    #[test]
    fn no_version_is_said_to_sync_before_it_answers() {
        assert!(durability(StorageType::File, "2.9.10").contains("no setting"));
        assert!(durability(StorageType::File, "2.10.0").contains("unless it is always"));
        assert!(durability(StorageType::File, "2.12.1").contains("unless it is always"));
        assert!(durability(StorageType::Memory, "2.12.1").starts_with("in memory"));
    }
}
