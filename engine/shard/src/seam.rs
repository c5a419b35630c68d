//! Everything that can wake a core, and everything a core can want.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{CoreId, GroupState, NodeId, ReplySlot, Request, Response};
use engine_groups::GroupsConfig;
use storage_frame::{LogId, Offset};
use storage_log::{DiskOp, DiskResult, LatencyHistogram, OpId};

use crate::compaction::CompactionStats;

/// What a shard must know before its first input. Plain numbers: a simulator draws them at random.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    pub node: NodeId,
    pub core: CoreId,
    /// Cores of this node; core 0 runs the controller.
    pub cores: u8,
    pub cluster_id: u128,
    /// Starts of this data directory so far, this one included; the epoch of what this life writes.
    pub incarnation: u32,
    /// `host:port` told to clients.
    pub address: String,
    pub version: String,
    /// All randomness of the shard (topic ids) grows from it.
    pub seed: u64,
    /// Frames held in memory (staged, cached, on their way out), bytes.
    pub memory_bytes_max: usize,
    /// Below this much free space on the data disk producers are refused.
    pub free_bytes_min: u64,
    /// Logs opened (recovered) at the same time when starting.
    pub opens_max: usize,
    /// The metadata log is compacted when it has grown by this, or by twice the last snapshot if that is more.
    pub metadata_snapshot_bytes: usize,
    /// Default topic configs, validated before.
    pub topic_defaults: Vec<(String, String)>,
    /// `offsets.topic.num.partitions`, when the topic of groups' state is made.
    pub offsets_partitions: u32,
    /// Its seed is made here, from `seed`.
    pub groups: GroupsConfig,
}

/// Set in the key of every request that a shard asks for itself, never in a client's.
pub const SHARD_KEY_BIT: u64 = 1 << 30;

#[derive(Debug, Clone)]
pub enum Input {
    /// From a client of this core, or of another through the mesh.
    Request {
        slot: ReplySlot,
        request: Request,
    },
    /// The asker is gone. A request that waits is forgotten; a write already accepted is finished, and its answer
    /// may still come.
    Cancel(ReplySlot),
    Disk {
        log: LogId,
        op: OpId,
        result: DiskResult,
    },
    /// Published by another core: metadata from the controller's, news of its troubles from any.
    Meta(MetaUpdate),
    /// To the controller's core.
    MetaApplied {
        core: CoreId,
        version: u64,
    },
    /// To what the shard asked for itself.
    Answer {
        key: u64,
        response: Response,
    },
    /// Measured by the door every second or so.
    FreeSpace {
        free_bytes: u64,
    },
    /// Requests of this core's clients are not read for now, or are again.
    Paused(bool),
    /// Every 10 ms.
    Tick,
    /// Refuse new work, finish and sync what was accepted, close the logs, then `Effect::Stopped`.
    Stop,
}

#[derive(Debug, Clone)]
pub enum Effect {
    Reply(ReplySlot, Response),
    Disk {
        log: LogId,
        op: OpId,
        what: DiskOp,
    },
    /// A request of the shard itself, to its owner as a client's would go; [`Input::Answer`] follows, unless the
    /// node ends first. `key` has [`SHARD_KEY_BIT`].
    Ask {
        key: u64,
        request: Request,
    },
    /// To every other core, from whichever core says it; in order.
    Publish(MetaUpdate),
    /// To core 0.
    MetaApplied {
        version: u64,
    },
    /// Every log this core owns has been opened. Once.
    Ready,
    /// All logs are closed. Once.
    Stopped,
    Event(Event),
}

/// A change of metadata, in the order of `version`, or another core's news. Opaque to all but `engine/shard`.
#[derive(Debug, Clone)]
pub struct MetaUpdate {
    pub version: u64,
    /// `true`: the whole state, to begin with; `false`: one command.
    pub snapshot: bool,
    pub bytes: Bytes,
}

/// Something to log, once, where it stopped travelling.
#[derive(Debug, Clone)]
pub struct Event {
    pub level: Level,
    /// Short and fixed, for grepping: `log_opened`, `topic_created`, `log_failed`.
    pub name: &'static str,
    /// `topic=... partition=...` and so on.
    pub fields: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    /// Something is broken that an operator must see.
    Error,
}

/// Counted up since the start unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct ShardStats {
    pub produce_batches: u64,
    pub produce_records: u64,
    pub produce_bytes: u64,
    pub fetch_records: u64,
    pub fetch_bytes: u64,
    /// Of `fetch_bytes`, those that had to be read from disk.
    pub fetch_disk_bytes: u64,
    pub duplicates: u64,
    /// Requests refused, by request name and error name.
    pub refused: Vec<(&'static str, &'static str, u64)>,
    /// Requests by name.
    pub requests: Vec<(&'static str, u64)>,
    /// Acks by durability reached: accepted, memory, leader disk, all disks.
    pub acks: [u64; 4],
    /// From a produce request's arrival at its owning core to the durability it is acknowledged with.
    pub append: LatencyHistogram,
    /// Now: partitions owned, open, damaged or failed.
    pub partitions: u64,
    pub partitions_open: u64,
    pub partitions_troubled: u64,
    /// Now: bytes of frames in memory, bytes of logs on disk by topic name.
    pub memory_bytes: u64,
    pub log_bytes: Vec<(String, u64)>,
    /// Of the coordinators here; a thousand groups at most are told by name.
    pub groups: GroupFigures,
    /// Now: fetches waiting for data, produces waiting for the disk.
    pub waiting_fetches: u64,
    pub waiting_produces: u64,
    pub compaction: CompactionStats,
}

/// Which offsets of a partition can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionEnds {
    pub topic: String,
    pub index: u32,
    pub start: Offset,
    pub end: Offset,
}

/// What a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsets {
    pub group: String,
    pub members: u64,
    /// Topic, partition, offset; in order.
    pub committed: Vec<(String, u32, Offset)>,
}

/// Consumer groups, as their coordinators know them.
#[derive(Debug, Clone, Default)]
pub struct GroupFigures {
    /// Now: how many there are, told or not.
    pub groups_count: u64,
    pub states: Vec<(String, GroupState)>,
    /// Now, of all groups.
    pub members: u64,
    /// Now: owned partitions that have records to read while their member does not move on, by group.
    pub stuck: Vec<(String, u64)>,
    /// By group and cause.
    pub rebalances: Vec<(String, String, u64)>,
    /// As last measured, by group and topic.
    pub lags: Vec<GroupLag>,
    /// Offsets committed.
    pub commits: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLag {
    pub group: String,
    pub topic: String,
    /// Of all partitions.
    pub records: u64,
    /// The age of the oldest record that is left to read, where it is known.
    pub age_max: Duration,
}
