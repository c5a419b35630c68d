//! What went wrong, in Kafka's words.
//!
//! Kafka's codes say whether a client tries again; what nobody can tell is retriable.

use engine_api::{FetchError, InitProducerError, ProduceError, Response, TopicError};
use kafka_protocol::ResponseError;
use storage_recordbatch::BatchError;

use crate::api::Outcome;
use crate::codec::{Reply, ReplyError};

pub(crate) fn topic_error(error: &TopicError) -> ResponseError {
    match error {
        TopicError::Unknown { .. } => ResponseError::UnknownTopicOrPartition,
        TopicError::Exists { .. } => ResponseError::TopicAlreadyExists,
        TopicError::Name { .. } => ResponseError::InvalidTopicException,
        TopicError::Partitions { .. } => ResponseError::InvalidPartitions,
        TopicError::Replicas { .. } => ResponseError::InvalidReplicationFactor,
        TopicError::Config { .. } => ResponseError::InvalidConfig,
        TopicError::StorageFailed { .. } | TopicError::NoSpace => ResponseError::KafkaStorageError,
        // Clients try again elsewhere or later.
        TopicError::NotReady | TopicError::ShuttingDown | TopicError::Changed { .. } => {
            ResponseError::LeaderNotAvailable
        }
    }
}

/// What the owner of a partition says. Disk and memory that are short are storage errors: clients try again.
pub(crate) fn produce_error(error: &ProduceError) -> ResponseError {
    match error {
        ProduceError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        ProduceError::NotLeader | ProduceError::ShuttingDown => ResponseError::NotLeaderOrFollower,
        ProduceError::TooLarge { .. } => ResponseError::MessageTooLarge,
        ProduceError::Invalid { .. } => ResponseError::InvalidRecord,
        ProduceError::OutOfSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        ProduceError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        ProduceError::NoSpace
        | ProduceError::Overloaded
        | ProduceError::StorageFailed { .. }
        | ProduceError::Damaged { .. } => ResponseError::KafkaStorageError,
    }
}

/// Why a client's batch is not stored.
pub(crate) fn batch_error(error: &BatchError) -> ResponseError {
    match error {
        // Damaged on its way: worth sending again.
        BatchError::Short { .. } | BatchError::Checksum { .. } => ResponseError::CorruptMessage,
        BatchError::OldMagic { .. } => ResponseError::UnsupportedForMessageFormat,
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::Compression { .. } => ResponseError::UnsupportedCompressionType,
        BatchError::AppendTime => ResponseError::InvalidTimestamp,
        BatchError::Transactional => ResponseError::InvalidTxnState,
        BatchError::Magic { .. }
        | BatchError::Field { .. }
        | BatchError::Trailing
        | BatchError::Control
        | BatchError::Record { .. }
        | BatchError::Decompress { .. } => ResponseError::InvalidRecord,
    }
}

/// Damage is a storage error: clients would skip what they are told is corrupt.
pub(crate) fn fetch_error(error: &FetchError) -> ResponseError {
    match error {
        FetchError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        FetchError::NotLeader | FetchError::ShuttingDown => ResponseError::NotLeaderOrFollower,
        FetchError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        FetchError::Damaged { .. } | FetchError::StorageFailed { .. } | FetchError::Overloaded => {
            ResponseError::KafkaStorageError
        }
    }
}

pub(crate) fn init_producer_error(error: &InitProducerError) -> ResponseError {
    match error {
        InitProducerError::StorageFailed { .. } | InitProducerError::NoSpace => {
            ResponseError::KafkaStorageError
        }
        InitProducerError::NotReady | InitProducerError::ShuttingDown => {
            ResponseError::CoordinatorNotAvailable
        }
    }
}

impl From<Result<Reply, ReplyError>> for Outcome {
    fn from(reply: Result<Reply, ReplyError>) -> Self {
        match reply {
            Ok(reply) => Self::Reply(reply),
            Err(error @ ReplyError::Field) => Self::Close("answer_not_encodable", error.to_string()),
            Err(error @ ReplyError::TooLarge(_)) => Self::Close("answer_too_large", error.to_string()),
        }
    }
}

impl Outcome {
    /// The broker answered with the answer to something else.
    pub(crate) fn unexpected(response: &Response) -> Self {
        debug_assert!(false, "not an answer to what was asked: {response:?}");
        Self::Close("answer_of_another_kind", String::new())
    }
}
