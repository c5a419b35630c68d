//! Producers and readers on the SDK that write the [`History`] while a test does its worst to the broker.
//!
//! They ride through whatever happens: what a client reports is written down as the outcome it names, and they go
//! on. An outcome that none of this may have fails the test, at the latest when a producer or reader is ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use millstream_client::{
    Client, Config, Delivery, DeliveryError, Offset, Producer, ProducerConfig, ReadError, Reader,
    ReaderConfig, Record, SendError, Start, TopicDescription, TopicId, Trust,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Options;
use crate::chance::Chance;
use crate::history::{History, Place, Told};

/// Records of one producer on the way at once.
const UNANSWERED_MAX: usize = 200;
const PACE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(5);
/// For what a healthy broker does at once; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Everyone who talks to one broker, and what they know together.
#[derive(Debug)]
pub struct Clients {
    runtime: Runtime,
    config: Config,
    history: Arc<Mutex<History>>,
    producers: AtomicU32,
}

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct Load {
    pub producer: ProducerConfig,
    pub records_per_second: u64,
    /// It ends by itself after so many.
    pub records_max: u64,
    /// Values are from a few bytes to this.
    pub value_bytes_max: usize,
    pub seed: u64,
}

impl Load {
    pub fn new(seed: u64) -> Load {
        Load {
            producer: ProducerConfig::default(),
            records_per_second: 4_000,
            records_max: u64::MAX,
            value_bytes_max: 600,
            seed,
        }
    }
}

impl Clients {
    pub fn new(options: &Options) -> Clients {
        Clients::of(options.listen, options.data.clone())
    }

    pub fn of(listen: SocketAddr, data: PathBuf) -> Clients {
        let config = Config::new([listen.to_string()]).with_trust(Trust::DataDir(data));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let history = Arc::default();
        Clients { runtime: runtime.expect("a runtime"), config, history, producers: AtomicU32::new(0) }
    }

    /// The same knowledge, to be held against another broker.
    pub fn elsewhere(&self, options: &Options) -> Clients {
        Clients { history: Arc::clone(&self.history), ..Clients::new(options) }
    }

    /// With what others knew.
    pub fn knowing(options: &Options, history: History) -> Clients {
        let producers = AtomicU32::new(history.producer_count());
        Clients { history: Arc::new(Mutex::new(history)), producers, ..Clients::new(options) }
    }

    /// A silent connection is given up after this.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Clients {
        self.config.idle_timeout = timeout;
        self
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// A connection of its own: one that lived through the last fault may not have noticed yet.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.block_on(self.connect())
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.config.clone()).await.expect("the broker is there")
    }

    #[track_caller]
    pub fn topic(&self, name: &str) -> TopicDescription {
        let client = self.client();
        self.block_on(client.admin().describe_topic(name)).expect("the topic is there")
    }

    /// Sends to all partitions in turn until it is ended.
    #[track_caller]
    pub fn produce(&self, topic: &str, load: Load) -> Producing {
        let client = self.client();
        let described = self.block_on(client.admin().describe_topic(topic)).expect("the topic is there");
        let number = self.producers.fetch_add(1, Ordering::Relaxed);
        let producer = client.producer(load.producer.clone()).expect("settings in their bounds");
        let lane = Lane {
            producer,
            number,
            topic: topic.to_string(),
            id: described.id,
            partitions: described.partitions.len() as u32,
            history: Arc::clone(&self.history),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (to_hear, heard) = mpsc::channel(UNANSWERED_MAX);
        let hearing = self.runtime.spawn(hear(heard, described.id, Arc::clone(&self.history)));
        let sending = self.runtime.spawn(lane.send_until(Arc::clone(&stop), load, to_hear));
        Producing { stop, sending, hearing, _client: client }
    }

    /// Reads every partition from its start on until it is ended.
    #[track_caller]
    pub fn follow(&self, topic: &str) -> Following {
        let client = self.client();
        let described = self.block_on(client.admin().describe_topic(topic)).expect("the topic is there");
        let follow_one = |partition| {
            let place = Place { topic: described.id, partition };
            let follower = Follower {
                topic: topic.to_string(),
                place,
                next: Arc::default(),
                history: Arc::clone(&self.history),
            };
            let next = Arc::clone(&follower.next);
            (place, next, self.runtime.spawn(follower.run(client.clone())))
        };
        let followed = (0..described.partitions.len() as u32).map(follow_one).collect();
        Following { followed, client }
    }

    /// Reads all of a topic and lets the history judge it. Returns the number of records.
    #[track_caller]
    pub fn check(&self, topic: &str) -> usize {
        let described = self.topic(topic);
        let mut count = 0;
        for partition in 0..described.partitions.len() as u32 {
            let place = Place { topic: described.id, partition };
            let known_end = self.history().known_end(place);
            let read = self.read(topic, partition, Start::Beginning);
            if let Some(error) = read.error {
                panic!("{topic} {partition}, after {} records: {error}", read.values.len());
            }
            self.history().check_whole(place, known_end, read.start, &read.values);
            count += read.values.len();
        }
        count
    }

    /// One partition to its end, or to the first error.
    #[track_caller]
    pub fn read(&self, topic: &str, partition: u32, start: Start) -> Read {
        let client = self.client();
        self.block_on(read(&client, topic, partition, start))
    }

    /// Until so many more records were acknowledged.
    ///
    /// # Panics
    /// When they were not in time: then the clients did not go on by themselves.
    #[track_caller]
    pub fn wait_for_acks(&self, more: usize) {
        let wanted = self.history().acked_count() + more;
        self.wait_until("acknowledgements", || self.history().acked_count() >= wanted);
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
            thread::park_timeout(LOOK);
        }
    }
}

/// What one reader got of one partition.
#[derive(Debug)]
pub struct Read {
    pub start: u64,
    pub values: Vec<Vec<u8>>,
    /// Why it ended before the end.
    pub error: Option<ReadError>,
}

/// One partition to its end, or to the first error.
pub async fn read(client: &Client, topic: &str, partition: u32, start: Start) -> Read {
    let mut read = Read { start: 0, values: Vec::new(), error: None };
    let config = ReaderConfig::new(topic).partitions([partition]).from(start).until_end();
    let mut reader = match client.reader(config).await {
        Ok(reader) => reader,
        Err(error) => return Read { error: Some(error), ..read },
    };
    loop {
        match reader.next().await {
            Ok(Some(batch)) => {
                if read.values.is_empty() {
                    read.start = batch.first_offset().0;
                }
                assert_eq!(
                    batch.first_offset().0,
                    read.start + read.values.len() as u64,
                    "offsets are dense"
                );
                read.values.extend(batch.records().map(|r| r.expect("sound").value.expect("one").to_vec()));
                assert_eq!(batch.next_offset().0, read.start + read.values.len() as u64, "offsets are dense");
            }
            Ok(None) => return read,
            Err(error) => return Read { error: Some(error), ..read },
        }
    }
}

/// A producer at work.
#[derive(Debug)]
pub struct Producing {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<()>,
    hearing: JoinHandle<Vec<DeliveryError>>,
    /// Its end would end the producer.
    _client: Client,
}

impl Producing {
    /// Waits until every record was answered. Returns what was answered with an error.
    ///
    /// # Panics
    /// When its task did.
    #[track_caller]
    pub fn end(self, clients: &Clients) -> Vec<DeliveryError> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish(clients)
    }

    /// As [`end`](Self::end), once it has ended by itself.
    #[track_caller]
    pub fn finish(self, clients: &Clients) -> Vec<DeliveryError> {
        clients.block_on(async {
            self.sending.await.expect("the producer rides through");
            self.hearing.await.expect("every answer is a possible one")
        })
    }
}

struct Lane {
    producer: Producer,
    number: u32,
    topic: String,
    id: TopicId,
    partitions: u32,
    history: Arc<Mutex<History>>,
}

type Sent = (u32, Vec<u8>, Delivery);

impl Lane {
    async fn send_until(self, stop: Arc<AtomicBool>, load: Load, to_hear: mpsc::Sender<Sent>) {
        let mut chance = Chance::from(load.seed);
        let filler = chance.bytes(2 * load.value_bytes_max);
        let per_beat = (load.records_per_second * PACE.as_millis() as u64).div_ceil(1000);
        let mut beats = tokio::time::interval(PACE);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for n in 0..load.records_max {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if n % per_beat == 0 {
                beats.tick().await;
            }
            let bytes = chance.below(load.value_bytes_max as u64) as usize;
            let from = chance.below(load.value_bytes_max as u64) as usize;
            let value = [format!("{} {n} ", self.number).as_bytes(), &filler[from..from + bytes]].concat();
            let partition = (n % u64::from(self.partitions)) as u32;
            let place = Place { topic: self.id, partition };
            lock(&self.history).sent(place, self.number, &value);
            match self.producer.send(Record::new(&self.topic, &value).partition(partition)).await {
                Ok(delivery) => to_hear.send((partition, value, delivery)).await.expect("heard to the end"),
                Err(SendError::NoRoom { .. } | SendError::Metadata { .. }) => {
                    lock(&self.history).told(place, &value, Told::Refused);
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.producer.close().await.expect("its client is there");
    }
}

/// Every answer in turn. The channel ends once all were sent.
async fn hear(
    mut heard: mpsc::Receiver<Sent>,
    topic: TopicId,
    history: Arc<Mutex<History>>,
) -> Vec<DeliveryError> {
    let mut errors = Vec::new();
    while let Some((partition, value, delivery)) = heard.recv().await {
        let told = match delivery.await {
            Ok(stored) => Told::Stored(stored.offset.expect("acks were asked for").0),
            Err(error) => {
                let told = match &error {
                    DeliveryError::Refused(_)
                    | DeliveryError::NotSent { .. }
                    | DeliveryError::Closed { sent: false } => Told::Refused,
                    DeliveryError::RefusedOnRetry(_)
                    | DeliveryError::TimedOut { .. }
                    | DeliveryError::OffsetUnknown
                    | DeliveryError::Closed { sent: true } => Told::Unknown,
                };
                errors.push(error);
                told
            }
        };
        lock(&history).told(Place { topic, partition }, &value, told);
    }
    errors
}

/// Readers at work: one for each partition, with the offset it has come to.
#[derive(Debug)]
pub struct Following {
    followed: Vec<(Place, Arc<AtomicU64>, JoinHandle<()>)>,
    client: Client,
}

impl Following {
    /// Waits until every partition was read as far as anything is known of it.
    ///
    /// # Panics
    /// When a reader saw what it must not see, or does not get there.
    #[track_caller]
    pub fn end(self, clients: &Clients) {
        for (place, next, task) in &self.followed {
            let end = clients.history().known_end(*place);
            let is_there = || next.load(Ordering::Relaxed) >= end;
            clients.wait_until("reader that goes on by itself", || is_there() || task.is_finished());
        }
        clients.block_on(async {
            self.client.close().await;
            for (.., task) in self.followed {
                task.await.expect("readers see the log in order");
            }
        });
    }
}

struct Follower {
    topic: String,
    place: Place,
    next: Arc<AtomicU64>,
    history: Arc<Mutex<History>>,
}

impl Follower {
    async fn run(self, client: Client) {
        loop {
            let next = self.next.load(Ordering::Relaxed);
            let config = ReaderConfig::new(&self.topic).partitions([self.place.partition]);
            let error = match client.reader(config.from(Start::Offset(Offset(next)))).await {
                Ok(reader) => self.take(reader).await,
                Err(error) => error,
            };
            if error == ReadError::Closed {
                return;
            }
            // The broker was away for long; a new reader goes on.
            let goes_on = matches!(
                error,
                ReadError::Unavailable { .. } | ReadError::Metadata(_) | ReadError::FindOffset { .. }
            );
            assert!(goes_on, "{:?}, at offset {next}: {error}", self.place);
        }
    }

    async fn take(&self, mut reader: Reader) -> ReadError {
        loop {
            let batch = match reader.next().await {
                Ok(batch) => batch.expect("it was not asked to end"),
                Err(error) => return error,
            };
            let mut next = self.next.load(Ordering::Relaxed);
            assert_eq!(batch.first_offset().0, next, "{:?}: what follows", self.place);
            for record in batch.records() {
                let value = record.expect("sound").value.expect("one");
                lock(&self.history).seen(self.place, next, value);
                next += 1;
            }
            assert_eq!(batch.next_offset().0, next, "{:?}: what follows", self.place);
            self.next.store(next, Ordering::Relaxed);
        }
    }
}

/// A task that found something panicked while it held the lock: it tells, not the one that comes next.
fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
