//! What went wrong, in Kafka's words.
//!
//! Kafka's codes say whether a client tries again; what nobody can tell is retriable.

use engine_api::{InitProducerError, Response, TopicError};
use kafka_protocol::ResponseError;

use crate::api::Outcome;

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
        TopicError::NotReady | TopicError::ShuttingDown => ResponseError::LeaderNotAvailable,
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

impl Outcome {
    /// The broker answered with the answer to something else.
    pub(crate) fn unexpected(response: &Response) -> Self {
        debug_assert!(false, "not an answer to what was asked: {response:?}");
        Self::Close("answer_of_another_kind", String::new())
    }
}
