//! Producing, fetching, and finding one's place.

use std::time::Duration;

use storage_frame::{Frame, LeaderEpoch, Offset, TimestampMs};

use crate::ids::PartitionId;
use crate::reader::ReaderId;

/// Batches of one idempotent producer in one partition that may be on the way at once: so many are recognized when
/// they come again (five on a core that knows ten thousand producers; a batch older than that is not stored twice, but
/// answered as out of sequence). Kafka's clients have five (KIP-98).
pub const IN_FLIGHT_BATCHES_MAX: usize = 64;

/// When a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// At once, with nothing promised.
    None,
    /// As safe as the leader alone can make it.
    Leader,
    /// As safe as every in-sync replica can make it.
    All,
}

/// How safe records are when they are acknowledged. Ordered: later is safer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Order is fixed, nothing else is.
    Accepted,
    /// In the memory of every in-sync replica asked for (`write.caching=true`).
    Memory,
    /// On stable storage of the leader.
    LeaderDisk,
    /// On stable storage of every in-sync replica.
    AllDisks,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Produce {
    pub partition: PartitionId,
    pub acks: Acks,
    /// Offset and epoch in it are the broker's to assign.
    pub frame: Frame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The first record's offset; the others follow without holes.
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub durability: Durability,
    /// The batch had been stored before; `base_offset` is where.
    pub duplicate: bool,
    /// Stands for its records' own times (`message.timestamp.type=LogAppendTime`). Not told of a duplicate.
    pub append_time: Option<TimestampMs>,
    pub timings: StageTimings,
}

/// Where a request's time went on the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimings {
    /// From the request's arrival at the owning core to the disk write that carries it.
    pub queue: Duration,
    /// That write.
    pub disk: Duration,
    /// From then until every in-sync follower had it.
    pub replicate: Duration,
}

/// Why nothing was stored, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("no such topic or partition: refresh metadata, or create it")]
    UnknownPartition,
    /// The partition is led elsewhere, or its log is still being opened: retry.
    #[error("partition is not ready here: refresh metadata, then retry")]
    NotLeader,
    #[error(
        "batch of {batch_bytes} bytes is above this topic's max.message.bytes of {batch_bytes_max}: send smaller batches or raise it"
    )]
    TooLarge { batch_bytes: u64, batch_bytes_max: u64 },
    #[error("batch refused: {why}")]
    Invalid { why: String },
    #[error("producer {producer_id} sent sequence {sent}, next is {expected}: an earlier batch is missing")]
    OutOfSequence { producer_id: u64, sent: u32, expected: u32 },
    #[error("producer {producer_id} has been replaced: epoch {sent}, current {current}")]
    ProducerFenced { producer_id: u64, sent: u16, current: u16 },
    /// Retriable: reads, deletes and retention go on, and producing resumes by itself.
    #[error(
        "data disk is below its free-space watermark: delete data or add space, producing resumes by itself"
    )]
    NoSpace,
    /// Retriable: the core's memory budget is used up.
    #[error("broker is over its memory budget: retry later")]
    Overloaded,
    /// Written or not, nobody knows until the log is opened again: unknown outcome.
    #[error("log failed: {why}; restart the broker after mending the disk")]
    StorageFailed { why: String },
    #[error("log is damaged before its end and may not be written: {why}; run `millstream log verify`")]
    Damaged { why: String },
    /// Unknown outcome; retrying is safe for idempotent producers.
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
}

/// Reads whole frames, the first of which contains `offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetch {
    pub partition: PartitionId,
    pub offset: Offset,
    /// At least one whole frame is returned however large, if there is one.
    pub bytes_max: u32,
    /// Waits until this much is there, or `wait_max` is over. 0: answer at once.
    pub bytes_min: u32,
    /// `None`: as long as it takes; for push readers, which cancel the slot when they leave.
    pub wait_max: Option<Duration>,
    /// Who reads, where that is known: the partition remembers it.
    pub reader: Option<ReaderId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    pub log_start: Offset,
    /// Records below it may be read, and nothing else is in `frames`.
    pub high_watermark: Offset,
    /// Contiguous; empty when there was nothing new in time.
    pub frames: Vec<Frame>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("no such topic or partition: refresh metadata, or create it")]
    UnknownPartition,
    #[error("partition is not ready here: refresh metadata, then retry")]
    NotLeader,
    #[error("offset {asked} is out of range: the log holds {log_start} to {high_watermark}")]
    OffsetOutOfRange { asked: Offset, log_start: Offset, high_watermark: Offset },
    #[error("stored data cannot be read: {why}; run `millstream log verify`")]
    Damaged { why: String },
    #[error("reading failed: {why}")]
    StorageFailed { why: String },
    #[error("broker is over its memory budget: retry later")]
    Overloaded,
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first record that is still there.
    Start,
    /// Past the last readable record.
    End,
    /// The first frame with a record at or after this time; the end when there is none.
    Timestamp(TimestampMs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindOffset {
    pub partition: PartitionId,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// For `Place::Timestamp` the base offset of the frame that holds the record: readers skip records of an
    /// earlier time inside it.
    pub offset: Offset,
    /// That frame's largest timestamp; absent at the end of the log.
    pub timestamp: Option<TimestampMs>,
    pub log_start: Offset,
    pub high_watermark: Offset,
}

/// Makes everything below `before` unreadable and lets retention remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteRecords {
    pub partition: PartitionId,
    /// At most the high watermark.
    pub before: Offset,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("no such topic or partition: refresh metadata")]
    UnknownPartition,
    #[error("partition is not ready here: refresh metadata, then retry")]
    NotLeader,
    #[error("offset {asked} is out of range: the log holds {log_start} to {high_watermark}")]
    OffsetOutOfRange { asked: Offset, log_start: Offset, high_watermark: Offset },
    #[error("log failed: {why}")]
    StorageFailed { why: String },
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
}
