//! Millstream's own client, over QUIC: producing, reading, administration.
//!
//! ```no_run
//! use millstream_client::{Client, Config, ProducerConfig, ReaderConfig, Record, Start};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Config::new(["127.0.0.1:9092"])).await?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(Record::new("orders", b"two of the blue ones").key(b"customer-7")).await?;
//! println!("stored at {:?}", delivery.await?.offset);
//!
//! let mut reader = client.reader(ReaderConfig::new("orders").from(Start::Beginning).until_end()).await?;
//! while let Some(batch) = reader.next().await? {
//!     for record in batch.records() {
//!         println!("{:?}", record?.value);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! - [`Client`]: connections; a broker's certificate is always checked ([`Trust`]).
//! - [`Producer`]: batches, retries without duplicates, order kept per partition.
//! - [`Reader`]: pushed batches with flow control, read in place, no gaps.
//! - [`GroupConsumer`]: a topic's partitions shared among consumers, progress committed.
//! - [`Admin`]: topics, offsets, the cluster's picture.
//!
//! Logic lives in `state`, free of runtime and clock; the rest is quinn and tokio around it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod client;
mod config;
mod dial;
mod group;
#[doc(hidden)]
pub mod outside;
mod producer;
mod reader;
mod rpc;
mod shared;
mod state;
mod trust;

pub use admin::{Admin, PartitionError};
pub use client::Client;
pub use config::{Config, DEFAULT_SERVER, Trust};
pub use dial::ConnectError;
pub use engine_api::{
    Acks, AlterTopic, Assignor, ByPartition, ClusterDescription, CommittedOffset, ConfigEntry, CreateTopic,
    DeleteRecordsError, Durability, FetchError, FoundOffset, GroupDescription, GroupError, GroupListing,
    GroupState, Lag, MemberDescription, NodeDescription, PartitionDescription, Place, ProduceError,
    RebalanceCause, RebalanceEvent, StageTimings, TopicDescription, TopicError, TopicId, TroubledPartition,
};
pub use group::{GroupConsumer, GroupConsumerError, GroupOptions, GroupStart, RebalanceListener};
pub use net_wire::{Refusal, WireError};
pub use producer::{FlushError, Producer, ProducerConfig, ProducerConfigError, ProducerStats, SendError};
pub use reader::{ReadBatch, ReadError, Reader, ReaderConfig, Start};
pub use rpc::RequestError;
pub use state::outcome::{Delivery, DeliveryError, RecordMetadata, Trouble};
pub use state::partitioner::{murmur2, partition_of_key};
pub use state::position::NotContiguous;
pub use state::record::Record;
pub use storage_frame::{BatchError, Encoding, Offset, TimestampMs};
pub use storage_recordbatch::archived::codec::{Compression, DecompressError, decompress};
pub use storage_recordbatch::{BatchError as KafkaBatchError, Record as ReadRecord, RecordsError};
pub use trust::TrustError;
