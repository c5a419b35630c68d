//! What happened, as the oracles hear it: what clients did and were told, what the node did to its disk, what was
//! done to the node.
//!
//! Facts come in the order of virtual time. A batch has one `Sent` and at most one of `Acked`, `Refused` and
//! `Doubtful`, however often it was tried.

use std::time::Duration;

use engine_api::{Durability, PartitionId, Place, TopicId};
use engine_shard::Level;
use storage_frame::{LogId, Offset, TimestampMs};
use storage_log::SegmentId;
use tests_disk::{FaultKind, Zone};

use crate::value::Value;

/// Numbers a client of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// Numbers a batch (or a single record of an SDK client) of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Numbers a commit of offsets of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// Records of SDK clients are numbered apart from direct batches.
const SDK_FROM: u64 = 1 << 40;

impl BatchId {
    #[must_use]
    pub fn of_sdk(record: u64) -> Self {
        Self(SDK_FROM + record)
    }

    /// The SDK sends it again by itself, until it is answered or given up.
    #[must_use]
    pub fn is_retried(self) -> bool {
        self.0 >= SDK_FROM
    }
}

/// What of a topic's configs changes what is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPromise {
    pub write_caching: bool,
    pub retention_ms: Option<u64>,
    pub retention_bytes: Option<u64>,
    /// The broker sets the records' timestamps.
    pub append_time: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub id: TopicId,
    pub name: String,
    /// By partition.
    pub logs: Vec<LogId>,
    pub promise: TopicPromise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub offset: Offset,
    /// `None`: the bytes are not those of any value that was sent.
    pub value: Option<Value>,
    pub timestamp: TimestampMs,
}

/// See [`Fact::KafkaShown`].
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub by: ClientId,
    pub from: PartitionId,
    pub asked_at: Duration,
    pub asked: Offset,
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// First offset and end of each whole batch.
    pub batches: Vec<(Offset, Offset)>,
    /// Behind the last whole batch.
    pub loose_bytes: usize,
    /// By this answer; else by an earlier one of the fetch session.
    pub is_told: bool,
    /// The answer brought records, of this partition or of another: they may have left no room.
    pub has_records: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A topic was created, or described anew after a change.
    Topic(TopicFacts),
    /// From here on these configs may be in force, too, whatever the answer will be.
    TopicAlterAsked {
        id: TopicId,
        promise: TopicPromise,
    },
    TopicDeleteAsked(TopicId),
    /// From here on nobody may see it.
    TopicDeleted(TopicId),

    Sent {
        batch: BatchId,
        to: PartitionId,
        /// With their timestamps, in order; of one lane.
        records: Vec<(Value, TimestampMs)>,
        /// The broker or the SDK keeps it from being stored twice or out of order.
        idempotent: bool,
    },
    Acked {
        batch: BatchId,
        base_offset: Offset,
        durability: Durability,
        duplicate: bool,
    },
    /// Told that nothing of it is stored.
    Refused {
        batch: BatchId,
        why: String,
    },
    /// Nobody will ever be told whether it is stored.
    Doubtful {
        batch: BatchId,
    },
    /// Told that one before it is missing, though it was its lane's oldest. Nothing more is sent on that lane.
    Gap {
        batch: BatchId,
    },

    Read {
        by: ClientId,
        from: PartitionId,
        /// When it was asked for (a reader that is pushed to: when it began): the answer is of then or later.
        asked_at: Duration,
        asked: Offset,
        log_start: Offset,
        high_watermark: Offset,
        /// Whole frames: may begin below `asked`.
        records: Vec<Seen>,
    },
    ReadRefused {
        by: ClientId,
        from: PartitionId,
        asked_at: Duration,
        asked: Offset,
        /// The error's variant, `OffsetOutOfRange` for example.
        error: &'static str,
        why: String,
    },
    /// Frames were answered whose batches do not open.
    Unreadable {
        by: ClientId,
        from: PartitionId,
        asked: Offset,
        why: String,
    },
    Found {
        partition: PartitionId,
        asked_at: Duration,
        place: Place,
        offset: Offset,
        timestamp: Option<TimestampMs>,
        log_start: Offset,
        high_watermark: Offset,
    },
    /// A request went to a connection of Kafka's protocol.
    KafkaAsked {
        connection: u64,
        correlation: i32,
        /// Not one that says that it wants no answer.
        is_answered: bool,
    },
    /// A whole answer came back on it.
    KafkaAnswered {
        connection: u64,
        correlation: i32,
    },
    /// What a client of Kafka's protocol knows of a partition after an answer to a fetch.
    KafkaShown(Shown),
    /// Where a partition begins or ends, as ListOffsets says.
    KafkaListed {
        partition: PartitionId,
        asked_at: Duration,
        place: Place,
        offset: Offset,
    },
    DeleteAsked {
        partition: PartitionId,
        before: Offset,
    },
    Deleted {
        partition: PartitionId,
        before: Offset,
    },
    /// Told that nothing was deleted.
    DeleteRefused {
        partition: PartitionId,
        before: Offset,
        why: String,
    },

    /// A process of the node began its life.
    Began {
        life: u32,
        cores: u8,
    },
    Ready {
        life: u32,
    },
    Crashed {
        life: u32,
    },
    /// Every log was closed in order.
    Stopped {
        life: u32,
    },
    /// The process refused to start or gave itself up.
    Refusing {
        life: u32,
        why: String,
    },
    Event {
        life: u32,
        core: u8,
        level: Level,
        name: &'static str,
        fields: String,
    },

    /// A write was answered: frames up to `end` (exclusive) of the log are on the disk, as far as the disk says.
    Written {
        log: LogId,
        segment: SegmentId,
        frames: Vec<FrameFact>,
    },
    /// A segment's file is to go.
    Retiring {
        log: LogId,
        segment: SegmentId,
    },
    LogRemoving {
        log: LogId,
    },
    /// What was done to the disk: the model disk's own account, for people.
    Injected {
        log: Option<LogId>,
        /// `None`: nothing of the disk's, a clock set wrong for example.
        kind: Option<(FaultKind, Zone)>,
        beyond_promise: bool,
        what: String,
    },

    /// A member is about to join its group, or has been told to join again.
    GroupJoining {
        group: String,
        client: ClientId,
    },
    /// A member was told of a generation; whoever leads it, of all its members.
    GroupJoined {
        group: String,
        client: ClientId,
        member: String,
        generation: i32,
        leader: String,
        members: Vec<String>,
    },
    /// A member was told what it owns in a generation.
    GroupAssigned {
        group: String,
        client: ClientId,
        member: String,
        generation: i32,
        owned: Vec<(String, u32)>,
    },
    /// A member leaves or dies: it waits for nothing any more.
    GroupLeft {
        group: String,
        client: ClientId,
    },
    /// A member is dead: it says nothing any more.
    MemberSilent {
        group: String,
        member: String,
        session: Duration,
    },
    /// Who is in a group, as its coordinator says.
    GroupDescribed {
        group: String,
        asked_at: Duration,
        members: Vec<String>,
    },
    /// A member stays in its group and stops reading what it owns; with the places it has committed to, to each of
    /// which more records come.
    MemberIdle {
        group: String,
        member: String,
        places: Vec<(String, u32)>,
    },
    /// It goes on.
    MemberBusy {
        group: String,
        member: String,
    },
    /// How many records of a topic the node says a group has before it; nothing has moved for a while.
    LagTold {
        group: String,
        topic: String,
        records: u64,
    },
    CommitSent {
        commit: CommitId,
        group: String,
        /// Empty: of no member, with generation -1.
        member: String,
        generation: i32,
        offsets: Vec<(String, u32, u64)>,
    },
    CommitAcked {
        commit: CommitId,
    },
    /// Told that nothing of it is kept.
    CommitRefused {
        commit: CommitId,
        why: String,
    },
    /// Nobody will ever be told.
    CommitDoubtful {
        commit: CommitId,
    },
    /// All that a group has committed: topic, partition, offset, and the commit it came from.
    OffsetsRead {
        group: String,
        asked_at: Duration,
        offsets: Vec<(String, u32, u64, CommitId)>,
    },

    /// Faults are off from here on; the node must serve again.
    Healing,
    /// The node's wall clock is about to jump: what was seen by it until now stays seen.
    ClockJumping,
    /// A whole partition as it is at the very end.
    Audit {
        partition: PartitionId,
        log_start: Offset,
        high_watermark: Offset,
        records: Vec<Seen>,
    },
    /// It cannot be read at the very end, for this reason.
    AuditRefused {
        partition: PartitionId,
        why: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFact {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub max_timestamp: TimestampMs,
    pub bytes: u32,
}

/// Where in virtual time a fact stands.
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    pub time: Duration,
    pub wall: TimestampMs,
    pub fact: Fact,
}
