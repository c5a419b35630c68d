//! One core's shard: the partitions it owns, and on core 0 the controller, as one value.
//!
//! [`Shard::handle`] changes memory and never waits; [`Shard::end_turn`] says what the shard wants done.
//!
//! - [`seam`]: everything that can wake a core, and everything a core can want.
//! - [`shard`]: takes inputs apart and hands them on.
//! - `roster`: the partitions, found by id, log or key; opening, ticking, asking for operations.
//! - `partition`, `writes`, `reads`: one partition on its leader.
//! - `producers`: idempotence.
//! - `waiting`: requests that wait, by slot and deadline.
//! - `controller`, `meta_log`, `sweep`: core 0: changes of metadata, their log, files of deleted topics.
//! - `compaction`: which log is compacted next, and the keys in its records.
//! - `coordinator`, `offsets`, `lags`: consumer groups: a partition's coordinator, its topic, how far groups are behind.
//! - `news`: what cores tell each other.
//! - `budget`, `limits`, `tally`, `context`: memory and space, bounds, counters, what partitions share.
//!
//! Does not know: sockets, files, clocks, threads, encodings of requests, Kafka.
#![forbid(unsafe_code)]

mod budget;
mod compaction;
mod context;
mod controller;
mod coordinator;
mod hearing;
mod lags;
mod limits;
mod meta_log;
mod news;
mod offsets;
mod partition;
mod producers;
mod readers;
mod reads;
mod roster;
pub mod seam;
pub mod shard;
mod sweep;
mod tally;
mod waiting;
mod writes;

pub use compaction::CompactionStats;
pub use engine_groups::GroupsConfig;
pub use limits::METADATA_SNAPSHOT_BYTES;
pub use seam::{
    Effect, Event, GroupFigures, GroupLag, GroupOffsets, Input, Level, MetaUpdate, PartitionEnds,
    SHARD_KEY_BIT, ShardConfig, ShardStats,
};
pub use shard::Shard;
