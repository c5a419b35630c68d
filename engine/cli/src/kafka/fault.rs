//! Why a tool did not do what it was asked, with the names Kafka's tools give to it.

use std::fmt;
use std::io;

use crate::failure::{Exit, Failure};

/// Why a tool failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What was asked makes no sense.
    Usage(String),
    /// The broker says no: its code, and its words or Kafka's for the code.
    Refused {
        code: i16,
        message: String,
    },
    /// No broker could be asked, or not understood.
    Connection(String),
    Other(String),
    /// Nobody reads our output any more: an end like any other.
    ReaderLeft,
}

impl Fault {
    /// `Ok` of code 0.
    pub(crate) fn check(code: i16, message: Option<&str>) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self::refused(code, message)) }
    }

    pub(crate) fn refused(code: i16, message: Option<&str>) -> Self {
        let message = message.filter(|message| !message.is_empty()).unwrap_or_else(|| words(code).1);
        Self::Refused { code, message: message.to_owned() }
    }

    /// `org.apache.kafka.common.errors.` and this is what Kafka's tools log.
    pub(crate) fn exception(&self) -> &'static str {
        match self {
            Self::Usage(_) | Self::Other(_) | Self::ReaderLeft => "KafkaException",
            Self::Refused { code, .. } => words(*code).0,
            Self::Connection(_) => "TimeoutException",
        }
    }

    /// Trying again soon may help: a coordinator or leader that is not there yet.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { code: 3 | 5 | 6 | 14 | 15 | 16, .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Connection(message) | Self::Other(message) => f.write_str(message),
            Self::Refused { message, .. } => f.write_str(message),
            Self::ReaderLeft => Ok(()),
        }
    }
}

impl From<io::Error> for Fault {
    /// Of writing to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderLeft
        } else {
            Self::Other(format!("stdout: {error}"))
        }
    }
}

impl From<rdkafka::error::KafkaError> for Fault {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match &fault {
            Fault::ReaderLeft => Self::reader_left(),
            Fault::Usage(_) => Self::new(Exit::Usage, &fault),
            Fault::Refused { .. } | Fault::Connection(_) | Fault::Other(_) => Self::failed(&fault),
        }
    }
}

/// The exception's name and its usual words.
fn words(code: i16) -> (&'static str, &'static str) {
    match code {
        1 => (
            "OffsetOutOfRangeException",
            "The requested offset is not within the range of offsets maintained by the server.",
        ),
        2 => (
            "CorruptRecordException",
            "This message has failed its CRC checksum, exceeds the valid size, has a null key for a compacted topic, or is otherwise corrupt.",
        ),
        3 => ("UnknownTopicOrPartitionException", "This server does not host this topic-partition."),
        5 => (
            "LeaderNotAvailableException",
            "There is no leader for this topic-partition as we are in the middle of a leadership election.",
        ),
        6 => (
            "NotLeaderOrFollowerException",
            "For requests intended only for the leader, this error indicates that the broker is not the current leader.",
        ),
        7 => ("TimeoutException", "The request timed out."),
        10 => (
            "RecordTooLargeException",
            "The request included a message larger than the max message size the server will accept.",
        ),
        14 => (
            "CoordinatorLoadInProgressException",
            "The coordinator is loading and hence can't process requests.",
        ),
        15 => ("CoordinatorNotAvailableException", "The coordinator is not available."),
        16 => ("NotCoordinatorException", "This is not the correct coordinator."),
        17 => ("InvalidTopicException", "The request attempted to perform an operation on an invalid topic."),
        24 => ("InvalidGroupIdException", "The group id is invalid."),
        25 => ("UnknownMemberIdException", "The coordinator is not aware of this member."),
        35 => ("UnsupportedVersionException", "The version of API is not supported."),
        36 => ("TopicExistsException", "Topic with this name already exists."),
        37 => ("InvalidPartitionsException", "Number of partitions is below 1."),
        38 => (
            "InvalidReplicationFactorException",
            "Replication factor is below 1 or larger than the number of available brokers.",
        ),
        39 => ("InvalidReplicaAssignmentException", "Replica assignment is invalid."),
        40 => ("InvalidConfigurationException", "Configuration is invalid."),
        41 => ("NotControllerException", "This is not the correct controller for this cluster."),
        42 => (
            "InvalidRequestException",
            "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker.",
        ),
        44 => ("PolicyViolationException", "Request parameters do not satisfy the configured policy."),
        56 => ("KafkaStorageException", "Disk error when trying to access log file on the disk."),
        68 => ("GroupNotEmptyException", "The group is not empty."),
        69 => ("GroupIdNotFoundException", "The group id does not exist."),
        73 => ("TopicDeletionDisabledException", "Topic deletion is disabled."),
        86 => (
            "GroupSubscribedToTopicException",
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
        ),
        _ => (
            "UnknownServerException",
            "The server experienced an unexpected error when processing the request.",
        ),
    }
}
