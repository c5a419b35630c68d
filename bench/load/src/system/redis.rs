//! Redis Streams through its Rust client: a stream key per partition.
//!
//! Redis has no batches: a chunk is a pipeline of `XADD`s, written at once, many pipelines on the way. Answers of a
//! connection come in order. With `appendfsync always` Redis syncs once for all the commands of one turn of its loop
//! and answers them afterwards.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use millstream_client::Config;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Value};
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use crate::outcomes::{Outcomes, Ticket};
use crate::system::feed::{
    Chooser, Feed, FeedSender, Portion, place, refuse_configs, refuse_consumer, refuse_producer,
};
use crate::system::{
    Consumer, ConsumerSpec, Description, Durability, Outgoing, Pending, Producer, ProducerSpec, ReadFrom,
    System, SystemError, TopicSpec,
};

const SYSTEM: &str = "Redis Streams";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Entries per partition that one reading command brings.
const READ_COUNT: usize = 4096;
const READ_BLOCK_MS: usize = 1000;
/// The one field of an entry that holds a record's value; its key is in the other.
const VALUE_FIELD: &str = "v";
const KEY_FIELD: &str = "k";

pub(super) struct Redis {
    client: Client,
    connection: MultiplexedConnection,
    /// Partitions of the topic that was made, for the end.
    made: AtomicU32,
}

impl Redis {
    pub(super) async fn connect(config: &Config) -> Result<Redis, SystemError> {
        let Some(server) = config.servers.first() else {
            return Err(SystemError::Connect("no server is named".to_owned()));
        };
        let client = Client::open(format!("redis://{server}")).map_err(SystemError::connect)?;
        let connection = connection(&client, 1).await?;
        Ok(Redis { client, connection, made: AtomicU32::new(0) })
    }

    async fn setting(&self, name: &str) -> Result<String, SystemError> {
        let mut connection = self.connection.clone();
        let answer: Vec<String> = redis::cmd("CONFIG")
            .arg("GET")
            .arg(name)
            .query_async(&mut connection)
            .await
            .map_err(SystemError::topic)?;
        Ok(answer.into_iter().nth(1).unwrap_or_default())
    }
}

/// The library holds up to `pipelines` that were not written yet.
async fn connection(client: &Client, pipelines: usize) -> Result<MultiplexedConnection, SystemError> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(REQUEST_TIMEOUT))
        .set_pipeline_buffer_size(pipelines);
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(SystemError::connect)
}

impl System for Redis {
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            refuse_configs(SYSTEM, &topic.configs)?;
            let unsupported = |what: &str| SystemError::Unsupported { system: SYSTEM, what: what.to_owned() };
            if topic.replicas.is_some_and(|replicas| replicas > 1) {
                return Err(unsupported("replicas per topic: they are the server's"));
            }
            if topic.durability == Durability::Memory {
                return Err(unsupported("durability per topic: appendonly and appendfsync are the server's"));
            }
            // The first XADD makes the key.
            self.made.store(topic.partitions, Ordering::Relaxed);
            Ok(())
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            for partition in 0..self.made.load(Ordering::Relaxed) {
                let mut unlink = redis::cmd("UNLINK");
                unlink
                    .arg(place(name, partition))
                    .exec_async(&mut connection)
                    .await
                    .map_err(SystemError::topic)?;
            }
            Ok(())
        })
    }

    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            let info: String = redis::cmd("INFO")
                .arg("server")
                .query_async(&mut connection)
                .await
                .map_err(SystemError::topic)?;
            let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
            let append_only = self.setting("appendonly").await?;
            let append_sync = self.setting("appendfsync").await?;
            let save = self.setting("save").await?;
            let rewrite = self.setting("auto-aof-rewrite-percentage").await?;
            Ok(Description {
                system: format!("redis-server {}", version.unwrap_or("of unknown version")),
                client: "redis-rs 1, TCP".to_owned(),
                durability: durability(&append_only, &append_sync),
                replication: "none".to_owned(),
                batching:
                    "a pipeline of XADDs per chunk, many on the way; one sync per turn of the server's loop"
                        .to_owned(),
                notes: vec![
                    format!("{} keys", topic.partitions),
                    format!("save='{save}'"),
                    format!("auto-aof-rewrite-percentage={rewrite}"),
                ],
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
            // Room for a pipeline per record, so that none ever waits for it.
            let connection = connection(&self.client, spec.window + 1).await?;
            let keys = (0..spec.partitions).map(|partition| place(&spec.topic, partition)).collect();
            let (chunks, receiver) = mpsc::unbounded_channel();
            tokio::spawn(run_pipelines(connection, receiver, outcomes));
            let chooser = Chooser::new(spec.partitions);
            Ok(Box::new(Sender { keys, chooser, chunks }) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>> {
        Box::pin(async move {
            refuse_consumer(SYSTEM, spec)?;
            // Its own, since a blocking command holds up all behind it.
            let mut connection = connection(&self.client, 1).await?;
            let mut places = Vec::new();
            for partition in &spec.partitions {
                let key = place(&spec.topic, *partition);
                let last_id = match spec.from {
                    ReadFrom::Start => b"0".to_vec(),
                    ReadFrom::Tail => last_id(&mut connection, &key).await?,
                };
                places.push(Place { partition: *partition, key, last_id });
            }
            let feed = Feed::new(|sender, tasks| {
                tasks.spawn(read(connection, places, sender));
            });
            Ok(Box::new(feed) as Box<dyn Consumer>)
        })
    }
}

/// What an answer means under these settings.
fn durability(append_only: &str, append_sync: &str) -> String {
    let meaning = match (append_only, append_sync) {
        ("yes", "always") => "on the disk: synced before the answer",
        ("yes", "everysec") => "in the operating system's page cache, synced every second",
        ("yes", _) => "in the operating system's page cache",
        _ => "in memory",
    };
    format!("{meaning}: appendonly {append_only}, appendfsync {append_sync}")
}

/// A chunk and the tickets of its commands, in order.
struct Chunk {
    pipeline: Pipeline,
    tickets: Vec<Ticket>,
}

struct Sender {
    keys: Vec<String>,
    chooser: Chooser,
    /// Bounded by the generator's window.
    chunks: mpsc::UnboundedSender<Chunk>,
}

impl Producer for Sender {
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(records.len());
            for record in records {
                let key = &self.keys[self.chooser.partition(record) as usize];
                pipeline.cmd("XADD").arg(key).arg("*").arg(VALUE_FIELD).arg(record.value);
                if let Some(key) = record.key {
                    pipeline.arg(KEY_FIELD).arg(key);
                }
            }
            self.chooser.next_chunk();
            let tickets = records.iter().map(|record| record.ticket).collect();
            let sent = self.chunks.send(Chunk { pipeline, tickets });
            sent.map_err(|_| SystemError::Send("the connection ended".to_owned()))
        })
    }

    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Answers to a pipeline, and whom they are for.
type Answers = (Vec<Ticket>, RedisResult<Vec<Value>>);

/// Sends pipelines in the order of their chunks: the first poll of each puts it into the library's queue, which has room.
/// Without tokio's budget, that is: a future that has used it up would come behind later ones.
async fn run_pipelines(
    connection: MultiplexedConnection,
    mut chunks: mpsc::UnboundedReceiver<Chunk>,
    outcomes: Outcomes,
) {
    let mut on_the_way: FuturesOrdered<BoxFuture<'static, Answers>> = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !on_the_way.is_empty() {
        tokio::select! {
            chunk = chunks.recv(), if !ended => match chunk {
                Some(Chunk { pipeline, tickets }) => {
                    let mut connection = connection.clone();
                    let count = tickets.len();
                    let mut answers: BoxFuture<'static, Answers> = Box::pin(unconstrained(async move {
                        (tickets, connection.send_packed_commands(&pipeline, 0, count).await)
                    }));
                    match (&mut answers).now_or_never() {
                        Some((tickets, answers)) => tell(tickets, answers, &outcomes),
                        None => on_the_way.push_back(answers),
                    }
                }
                None => ended = true,
            },
            Some((tickets, answers)) = on_the_way.next(), if !on_the_way.is_empty() => {
                tell(tickets, answers, &outcomes);
            }
        }
    }
}

fn tell(tickets: Vec<Ticket>, answers: RedisResult<Vec<Value>>, outcomes: &Outcomes) {
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => return outcomes.failed(tickets, &format!("{:?}: unknown", error.kind())),
    };
    let mut stored = Vec::with_capacity(tickets.len());
    let mut answers = answers.into_iter();
    for ticket in tickets {
        match answers.next() {
            Some(Value::BulkString(_)) => stored.push(ticket),
            Some(Value::ServerError(error)) => outcomes.failed([ticket], error.code()),
            _ => outcomes.failed([ticket], "an answer that is no entry's id"),
        }
    }
    outcomes.acknowledged(stored);
}

struct Place {
    partition: u32,
    key: String,
    /// Of the entry that was read last.
    last_id: Vec<u8>,
}

async fn last_id(connection: &mut MultiplexedConnection, key: &str) -> Result<Vec<u8>, SystemError> {
    let mut last = redis::cmd("XREVRANGE");
    last.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    let answer: Value = last.query_async(connection).await.map_err(SystemError::read)?;
    let Value::Array(entries) = answer else { return Err(strange()) };
    match entries.into_iter().next() {
        Some(entry) => Ok(entry_parts(entry)?.0),
        None => Ok(b"0".to_vec()),
    }
}

async fn read(mut connection: MultiplexedConnection, mut places: Vec<Place>, sender: FeedSender<Vec<u8>>) {
    loop {
        let answer = next(&mut connection, &places).await;
        let portions = match answer.and_then(|answer| portions(answer, &mut places)) {
            Ok(portions) => portions,
            Err(error) => {
                // Nobody listens any more when this fails.
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        for portion in portions {
            if sender.send(Ok(portion)).await.is_err() {
                return;
            }
        }
    }
}

async fn next(connection: &mut MultiplexedConnection, places: &[Place]) -> Result<Value, SystemError> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(READ_COUNT).arg("BLOCK").arg(READ_BLOCK_MS).arg("STREAMS");
    places.iter().for_each(|place| _ = command.arg(&place.key));
    places.iter().for_each(|place| _ = command.arg(&place.last_id));
    command.query_async(connection).await.map_err(SystemError::read)
}

/// Takes `XREAD`'s answer apart, `[[key, [[id, [field, value, ...]], ...]], ...]`, and moves the places on.
fn portions(answer: Value, places: &mut [Place]) -> Result<Vec<Portion<Vec<u8>>>, SystemError> {
    if answer == Value::Nil {
        return Ok(Vec::new());
    }
    let Value::Array(streams) = answer else { return Err(strange()) };
    let mut portions = Vec::with_capacity(streams.len());
    for stream in streams {
        let (key, entries) = pair(stream)?;
        let (Value::BulkString(key), Value::Array(entries)) = (key, entries) else { return Err(strange()) };
        let place = places.iter_mut().find(|place| place.key.as_bytes() == key).ok_or_else(strange)?;
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let (id, value) = entry_parts(entry)?;
            place.last_id = id;
            values.push(value);
        }
        portions.push(Portion { partition: place.partition, values });
    }
    Ok(portions)
}

/// An entry's id and its record's value, which is the first field's.
fn entry_parts(entry: Value) -> Result<(Vec<u8>, Vec<u8>), SystemError> {
    let (id, fields) = pair(entry)?;
    let (Value::BulkString(id), Value::Array(fields)) = (id, fields) else { return Err(strange()) };
    match fields.into_iter().nth(1) {
        Some(Value::BulkString(value)) => Ok((id, value)),
        _ => Err(strange()),
    }
}

fn pair(value: Value) -> Result<(Value, Value), SystemError> {
    let Value::Array(parts) = value else { return Err(strange()) };
    let [first, second] = <[Value; 2]>::try_from(parts).map_err(|_| strange())?;
    Ok((first, second))
}

fn strange() -> SystemError {
    SystemError::Read("an answer that is not XREAD's".to_owned())
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::{Place, durability, portions};

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, value: &str) -> Value {
        Value::Array(vec![bulk(id), Value::Array(vec![bulk("v"), bulk(value)])])
    }

    fn places() -> Vec<Place> {
        let place =
            |partition| Place { partition, key: format!("bench-{partition}"), last_id: b"0".to_vec() };
        vec![place(0), place(1)]
    }

    #[test]
    fn what_xread_answers_becomes_portions_and_the_places_move_on() {
        let answer = Value::Array(vec![Value::Array(vec![
            bulk("bench-1"),
            Value::Array(vec![entry("1-0", "one"), entry("1-1", "two")]),
        ])]);
        let mut places = places();
        let portions = portions(answer, &mut places).unwrap();
        assert_eq!(portions.len(), 1);
        assert_eq!(
            (portions[0].partition, &portions[0].values),
            (1, &vec![b"one".to_vec(), b"two".to_vec()])
        );
        assert_eq!((places[0].last_id.as_slice(), places[1].last_id.as_slice()), (&b"0"[..], &b"1-1"[..]));
    }

    #[test]
    fn nothing_came_is_no_portion_and_nonsense_an_error() {
        assert!(portions(Value::Nil, &mut places()).unwrap().is_empty());
        assert!(portions(Value::Okay, &mut places()).is_err());
        let of_another = Value::Array(vec![Value::Array(vec![bulk("other"), Value::Array(Vec::new())])]);
        assert!(portions(of_another, &mut places()).is_err());
    }

    #[test]
    fn only_a_sync_before_the_answer_is_called_on_the_disk() {
        assert!(durability("yes", "always").starts_with("on the disk"));
        assert!(durability("yes", "everysec").contains("page cache"));
        assert!(durability("no", "always").starts_with("in memory"));
    }
}
