//! Consumer groups: members, generations, committed offsets.
//!
//! Two kinds of members meet the same coordinator. *Classic* members (Kafka's protocol) bring opaque metadata and
//! one of them assigns for all; *native* members bring topic names and the coordinator assigns. A group is of one
//! kind at a time.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Offset, TimestampMs};

use crate::ids::{CoreId, PartitionId};
use crate::reader::{LastRead, ReaderId};

/// The topic that holds what groups must not forget. Made at the first use of a group.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Goes to the coordinator of `group`: the owner of the partition of [`OFFSETS_TOPIC`] that
/// [`offsets_partition`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRequest {
    /// 1 to 249 bytes for native groups; Kafka's may be empty for offsets alone.
    pub group: String,
    pub ask: GroupAsk,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAsk {
    Join(JoinGroup),
    Sync(SyncGroup),
    /// Both kinds. A native member whose partitions are to change is answered `RebalanceInProgress` and joins again.
    Heartbeat(MemberId),
    Leave(Vec<Leaving>),
    Commit(CommitOffsets),
    /// `None`: every partition the group has committed for.
    FetchOffsets(Option<Vec<(String, Vec<u32>)>>),
    Describe,
    Delete,
    /// Forgets what was committed for these, unless members subscribe to the topic.
    DeleteOffsets(Vec<(String, Vec<u32>)>),
}

/// A member in a generation. Generation -1 and an empty member: a consumer that is in no group and only commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberId {
    pub member: String,
    pub generation: i32,
    /// Static membership (KIP-345).
    pub instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// Empty: new here.
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    /// `/127.0.0.1`, as Kafka prints it.
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// New members without an instance are handed an id first and must come back with it (KIP-394).
    pub member_id_required: bool,
    /// A static leader that comes back may be told that the assignment stands (KIP-814, v9 of Kafka's message).
    pub supports_skip_assignment: bool,
    pub protocol: MemberProtocol,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberProtocol {
    /// `protocols` in the member's order of preference: name, opaque metadata.
    Classic { protocol_type: String, protocols: Vec<(String, Bytes)> },
    /// Served by the coordinator itself; no Sync follows.
    Native { topics: Vec<String>, assignor: Assignor },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Contiguous runs of each topic's partitions, in the order of member ids.
    Range,
    /// Balanced, and as few partitions move as can be.
    Sticky,
}

/// The protocol type under which native members are described.
pub const NATIVE_PROTOCOL_TYPE: &str = "millstream";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub member: String,
    /// Chosen assignor or protocol; absent while the group has none.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    /// Classic, to the leader alone: member, instance, metadata of the chosen protocol.
    pub members: Vec<(String, Option<String>, Bytes)>,
    /// A static leader that came back into a stable generation: the assignment stands (KIP-814).
    pub skip_assignment: bool,
    /// Native: what this member owns in this generation.
    pub assignment: Vec<(String, Vec<u32>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    pub member: MemberId,
    /// Checked where they are said (v5 of Kafka's message).
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader alone: member, assignment.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Empty where `instance` says who (an administrator removes a static member).
    pub member: String,
    pub instance: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    pub member: MemberId,
    /// Kept this long instead of the broker's `offsets.retention.minutes`.
    pub retention: Option<Duration>,
    pub topics: Vec<(String, Vec<CommitOffset>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffset {
    pub partition: u32,
    /// The next record to read. Above 2^63 - 1, where no log goes: what was committed is forgotten.
    pub offset: Offset,
    /// -1: not said.
    pub leader_epoch: i32,
    /// Comes back as it was; empty where none was said.
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_at: TimestampMs,
}

/// One group as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub state: GroupState,
    pub protocol_type: String,
    /// The chosen protocol or assignor; empty while there is none.
    pub protocol: String,
    pub generation: i32,
    pub members: Vec<MemberDescription>,
    /// Newest last; a few.
    pub events: Vec<RebalanceEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; offsets may be there.
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// No such group.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Classic: the metadata and assignment bytes.
    pub metadata: Bytes,
    pub assignment: Bytes,
    /// Native members' partitions, and those of classic members whose assignment could be read.
    pub owned: Vec<(String, Vec<u32>)>,
    /// Owned partitions that have records to read while the member neither commits nor moves on.
    pub stuck: Vec<(String, u32)>,
}

/// Why a group changed, and how long that took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceEvent {
    pub at: TimestampMs,
    pub generation: i32,
    pub cause: RebalanceCause,
    /// Who set it off; empty where nobody did.
    pub member: String,
    /// Until every member had its part; `None`: still under way.
    pub duration: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceCause {
    MemberJoined,
    /// A member joined again with other metadata, or as leader.
    MemberRejoined,
    MemberLeft,
    SessionExpired,
    /// A member did not join again in time.
    RebalanceTimedOut,
    TopicChanged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    pub protocol_type: String,
    pub state: GroupState,
}

/// By topic, then by partition, in the order asked.
pub type ByPartition<T> = Vec<(String, Vec<(u32, T)>)>;

/// The answer to the [`GroupAsk`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAnswer {
    Joined(Joined),
    Synced(Synced),
    Alive,
    /// One for each that was to leave, in order.
    Left(Vec<Result<(), GroupError>>),
    /// By topic and partition, in the order asked.
    Committed(ByPartition<Result<(), GroupError>>),
    /// `None`: nothing committed.
    Offsets(ByPartition<Option<CommittedOffset>>),
    Described(GroupDescription),
    Deleted,
    OffsetsDeleted(ByPartition<Result<(), GroupError>>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The offsets topic is being made, or its partition is not open yet: retry.
    #[error("group coordinator is not ready: retry")]
    NotReady,
    /// The group's state is being read: retry.
    #[error("group coordinator is loading: retry")]
    Loading,
    #[error("group id '{group}' is not allowed: {why}")]
    InvalidGroup { group: String, why: String },
    #[error("group '{group}' does not exist")]
    NotFound { group: String },
    #[error("group '{group}' has members: stop its consumers first")]
    NotEmpty { group: String },
    #[error("member '{member}' is not in the group: join again")]
    UnknownMember { member: String },
    #[error("generation {sent} has passed, current {current}: join again")]
    IllegalGeneration { sent: i32, current: i32 },
    #[error("join again with member id '{member}'")]
    MemberIdRequired { member: String },
    #[error("the group is rebalancing: join again")]
    RebalanceInProgress,
    #[error("another member has taken instance '{instance}'")]
    Fenced { instance: String },
    #[error("the group's members have no protocol in common with this one: {why}")]
    InconsistentProtocol { why: String },
    #[error("session timeout of {asked:?} is outside of {min:?} to {max:?}")]
    SessionTimeout { asked: Duration, min: Duration, max: Duration },
    #[error("the group is full: {members_max} members")]
    Full { members_max: usize },
    #[error("offset metadata of {bytes} bytes, limit {bytes_max}")]
    MetadataTooLarge { bytes: usize, bytes_max: usize },
    #[error("no such topic or partition")]
    UnknownPartition,
    #[error("members of the group subscribe to '{topic}'")]
    Subscribed { topic: String },
    #[error("group state could not be stored: {why}")]
    StorageFailed { why: String },
    #[error("data disk is below its free-space watermark: delete data or add space, then retry")]
    NoSpace,
    #[error("broker is over its memory budget: retry later")]
    Overloaded,
    #[error("broker is shutting down: retry elsewhere or later")]
    ShuttingDown,
    /// The group as it would be, or what is to be committed at once. Nothing has changed.
    #[error("{bytes} bytes of group state in one piece, limit {bytes_max}: fewer members, or less at a time")]
    TooLarge { bytes: u64, bytes_max: u64 },
}

/// Every group whose coordinator runs on one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListGroups {
    pub core: CoreId,
}

/// How far behind a place in a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureLag {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Asked about as well: when it has last read.
    pub reader: Option<ReaderId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Of the first frame at or after the offset; absent at the end, and where finding out would take a read.
    pub timestamp: Option<TimestampMs>,
    /// Of the reader asked about; absent where it has not been seen since the partition was opened.
    pub read: Option<LastRead>,
}

/// The partition of [`OFFSETS_TOPIC`] that `group` belongs to: Kafka's own rule, so that tools agree.
///
/// # Panics
/// When `partitions` is 0.
#[must_use]
pub fn offsets_partition(group: &str, partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has partitions");
    // Java's String.hashCode over UTF-16, its sign bit cleared.
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash.cast_unsigned() & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_as_kafka_places_them() {
        // Java's "".hashCode() is 0, "a" 97, "ab" 97 * 31 + 98.
        assert_eq!(offsets_partition("", 50), 0);
        assert_eq!(offsets_partition("a", 50), 97 % 50);
        assert_eq!(offsets_partition("ab", 50), (97 * 31 + 98) % 50);
    }
}
