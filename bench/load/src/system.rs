//! The seam: everything a system under load is asked to do. One schedule and one measuring path on this side, a driver
//! per system on the other.
//!
//! ```text
//! System::connect (System::kind says which)     one per run
//!   create_topic, describe, delete_topic
//!   producer  one connection each: send(chunk) takes records in order and returns; what became of each is told to
//!             its Outcomes later, by whichever task, callback or thread hears it
//!   consumer  one connection each: next() hands over what came, in order per partition
//! ```
//!
//! A record's completion costs what the client library makes it cost: a [`Ticket`] fits into the pointer that C
//! libraries carry for their callbacks, and a batch that was answered at once is told in one call.
//!
//! A driver is a file in `system/` that implements [`System`], [`Producer`] and [`Consumer`], and a line in
//! [`Driver`] and [`connect`]. It may spawn tasks on the tokio runtime it is called on (of several threads) and
//! threads of its own. It never answers a record twice, and never forgets one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use clap::ValueEnum;
use millstream_client::Config;
use serde::{Deserialize, Serialize};

use crate::outcomes::{Outcomes, Ticket};

#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "redis"))]
mod feed;
mod kafka;
mod native;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

/// Boxed, since drivers are chosen at run time; one for a chunk of records, never for a record.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which system, through which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// Millstream's own protocol over QUIC
    Native,
    /// Kafka's protocol, any broker that speaks it, through librdkafka
    Kafka,
    /// NATS JetStream
    #[cfg(feature = "nats")]
    Nats,
    /// RabbitMQ streams
    #[cfg(feature = "rabbitmq")]
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// Redis Streams
    #[cfg(feature = "redis")]
    Redis,
}

/// Why a system did not do what was asked. The run ends with it: what can happen to single records is told to
/// [`Outcomes`] instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemError {
    #[error("{0}")]
    Connect(String),
    #[error("topic of the run: {0}")]
    Topic(String),
    #[error("sending: {0}")]
    Send(String),
    #[error("reading: {0}")]
    Read(String),
    /// Say so at once, before anything was made: half of a scenario is no figure.
    #[error("{system} cannot do that: {what}")]
    Unsupported { system: &'static str, what: String },
}

/// What a client library said, where there is nothing to add to it.
impl SystemError {
    fn connect(error: impl fmt::Display) -> SystemError {
        SystemError::Connect(error.to_string())
    }

    fn topic(error: impl fmt::Display) -> SystemError {
        SystemError::Topic(error.to_string())
    }

    fn send(error: impl fmt::Display) -> SystemError {
        SystemError::Send(error.to_string())
    }

    fn read(error: impl fmt::Display) -> SystemError {
        SystemError::Read(error.to_string())
    }
}

/// Clones of one system share nothing but its address: every producer and consumer is a client of its own.
pub trait System: Send + Sync {
    /// Makes a topic, stream, subject or whatever holds records in order, durable unless the spec says otherwise.
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>>;
    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>>;
    /// Asked at the end of a run, so that it can say what the answers said.
    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>>;
    /// Connects. `outcomes` is told what becomes of each record.
    fn producer<'a>(
        &'a self,
        spec: &'a ProducerSpec,
        outcomes: Outcomes,
    ) -> Pending<'a, Result<Box<dyn Producer>, SystemError>>;
    /// Connects and stands where it is to begin: with [`ReadFrom::Tail`], records sent after this has returned are read.
    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>>;
}

/// One client that sends.
pub trait Producer: Send + 'static {
    /// Takes all of `records`, in this order. May batch them with earlier and later ones as its spec says; returns
    /// without waiting for answers. Waits for room of its own only where the library forces it to: the generator
    /// keeps within the spec's window by itself.
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>>;
    /// What is held back for company goes out now. Need not wait for answers.
    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>>;
    /// Batches sent again so far, where the library counts them.
    fn retries_count(&self) -> u64 {
        0
    }
    /// Says goodbye, where dropping it does not.
    fn close(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}

/// One client that reads.
pub trait Consumer: Send + 'static {
    /// Waits for records, at least one, and hands each to `take` at once, in the order of its partition. Returns how
    /// many.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing that was not handed over.
    fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>>;
    /// Says goodbye, where dropping it does not: a group need not wait for the session to end.
    fn close(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}

pub type Take<'a> = &'a mut (dyn FnMut(Incoming<'_>) + Send);

#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// To be given back to [`Outcomes`], once.
    pub ticket: Ticket,
    /// Absent: as the client library chooses, by the key where there is one.
    pub partition: Option<u32>,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub partition: u32,
    pub value: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    /// Absent: the system's default.
    pub replicas: Option<u32>,
    pub durability: Durability,
    /// In the system's own words.
    pub configs: Vec<(String, String)>,
}

/// What an acknowledgement is to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// On stable storage, or as near as the system comes to it
    Disk,
    /// In memory: written out later (write.caching)
    Memory,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSpec {
    pub topic: String,
    pub partitions: u32,
    pub acks: Acks,
    pub compression: Compression,
    pub batch_bytes: usize,
    pub linger_us: u64,
    /// Names and values of the library's own settings.
    pub client_configs: Vec<(String, String)>,
    /// Bytes and records that the generator leaves unanswered at most; a library's own limits must be above.
    pub memory_bytes: usize,
    pub window: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    All,
    Leader,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    pub topic: String,
    /// Those this consumer reads. In a group: those of the topic, shared among the group's consumers.
    pub partitions: Vec<u32>,
    pub from: ReadFrom,
    /// Name of the group that this consumer joins.
    pub group: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    Start,
    Tail,
}

/// What the figures were measured against. Free text: every system has words of its own, and they are printed as they
/// are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// With its version.
    pub system: String,
    /// Library and version, and the protocol it speaks.
    pub client: String,
    /// What an acknowledgement meant in this run, as far as it can be known: not what was asked for.
    pub durability: String,
    pub replication: String,
    /// How records share requests.
    pub batching: String,
    /// Whatever else a reader must know: cores, topic configs that are not defaults.
    pub notes: Vec<String>,
}

/// Reaches the system. `config` holds its addresses, and for Millstream whom to trust.
pub async fn connect(driver: Driver, config: &Config) -> Result<Box<dyn System>, SystemError> {
    match driver {
        Driver::Native => Ok(Box::new(native::Native::connect(config).await?)),
        Driver::Kafka => Ok(Box::new(kafka::Kafka::connect(config)?)),
        #[cfg(feature = "nats")]
        Driver::Nats => Ok(Box::new(nats::Nats::connect(config).await?)),
        #[cfg(feature = "rabbitmq")]
        Driver::RabbitMq => Ok(Box::new(rabbitmq::RabbitMq::connect(config).await?)),
        #[cfg(feature = "redis")]
        Driver::Redis => Ok(Box::new(redis::Redis::connect(config).await?)),
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

/// As it is written on the command line.
fn name(value: &impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = value.to_possible_value().expect("no value is hidden");
    f.write_str(value.get_name())
}
