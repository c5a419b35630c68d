//! The narrow waist: what can be asked of a broker and what it answers, as plain values.
//!
//! Protocol rooms (`net`) turn bytes into [`Request`]s and [`Response`]s into bytes; the shard answers them.
//! Neither sees the other.
//!
//! - [`ids`]: who and where: topics, partitions, nodes, cores, reply slots.
//! - [`record`]: producing and fetching.
//! - [`reader`]: who fetches.
//! - [`admin`]: topics, producers' ids, the cluster's picture.
//! - [`group`]: consumer groups.
//! - [`topic_config`]: which configs a topic has.
//! - [`catalog`]: which topics there are, for looking up without asking.
//!
//! Does not know: encodings, sockets, files, cores' channels. No logic but constructors.
#![forbid(unsafe_code)]

pub mod admin;
pub mod catalog;
pub mod group;
pub mod ids;
pub mod reader;
pub mod record;
pub mod topic_config;

pub use admin::*;
pub use catalog::*;
pub use group::*;
pub use ids::*;
pub use reader::*;
pub use record::*;
pub use topic_config::*;

/// Everything a client can ask. Every request is answered once, unless its slot is cancelled first.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Produce(Produce),
    Fetch(Fetch),
    FindOffset(FindOffset),
    DeleteRecords(DeleteRecords),
    CreateTopic(CreateTopic),
    AlterTopic(AlterTopic),
    DeleteTopic(DeleteTopic),
    DescribeTopics(DescribeTopics),
    DescribeCluster,
    InitProducer,
    Group(GroupRequest),
    ListGroups(ListGroups),
    MeasureLag(MeasureLag),
    CheckTopic(CheckTopic),
    DescribeLogs(DescribeLogs),
}

/// The answer to the [`Request`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    Produce(Result<Produced, ProduceError>),
    Fetch(Result<Fetched, FetchError>),
    FindOffset(Result<FoundOffset, FetchError>),
    /// The new start of the log.
    DeleteRecords(Result<storage_frame::Offset, DeleteRecordsError>),
    CreateTopic(Result<TopicDescription, TopicError>),
    AlterTopic(Result<TopicDescription, TopicError>),
    DeleteTopic(Result<(), TopicError>),
    DescribeTopics(Result<Vec<TopicDescription>, TopicError>),
    DescribeCluster(ClusterDescription),
    /// A producer id never given before, with epoch 0.
    InitProducer(Result<u64, InitProducerError>),
    Group(Result<GroupAnswer, GroupError>),
    ListGroups(Result<Vec<GroupListing>, GroupError>),
    MeasureLag(Result<Lag, FetchError>),
    CheckTopic(Result<CheckedTopic, TopicError>),
    /// By topic id and index.
    DescribeLogs(Result<Vec<LogSize>, TopicError>),
}

/// What a protocol's machine wants from the broker for its clients.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are requests")]
pub enum Ask {
    /// To be answered once, with `key`.
    Request { key: u64, request: Request },
    /// The answer to `key` is no longer wanted.
    Cancel { key: u64 },
}
