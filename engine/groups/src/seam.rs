//! What a coordinator is told, and what it wants.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{GroupAnswer, GroupError, ReaderId, ReplySlot};
use storage_frame::Offset;

/// Plain numbers: a simulator draws them at random.
#[derive(Debug, Clone)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`, `group.max.session.timeout.ms`.
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: the first members of an empty group wait for others.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offsets.retention.minutes`: of groups without members, and of topics no member subscribes to.
    pub offsets_retention: Duration,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// Between two looks at whether a member moves on; it is stuck after `stuck_intervals` without.
    pub stuck_interval: Duration,
    pub stuck_intervals: u32,
    /// Member ids grow from it.
    pub seed: u64,
}

/// Kafka's defaults; a member is stuck after five minutes.
impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            members_max: 10_000,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            metadata_bytes_max: 4096,
            stuck_interval: Duration::from_secs(30),
            stuck_intervals: 10,
            seed: 0,
        }
    }
}

/// A record of the offsets topic. The value is absent for what is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What the coordinator may know of topics.
pub trait Topics {
    /// How many partitions `topic` has; `None`: there is no such topic.
    fn partitions(&self, topic: &str) -> Option<u32>;
}

/// A partition that a group reads, or has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: u32,
    /// `None`: nothing is committed, but a member has the partition.
    pub committed: Option<Offset>,
    /// What the reads of the member that has the partition are recognised by.
    pub reader: Option<ReaderId>,
}

/// How far behind a [`Place`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Left to read: behind what is committed, or else behind what the member asked for last.
    pub records: u64,
    /// The age of the first of them, where it is known.
    pub age: Option<Duration>,
    /// When the member last fetched; `None`: never, as far as is known.
    pub read_ago: Option<Duration>,
}

/// What the coordinator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Reply(ReplySlot, Result<GroupAnswer, GroupError>),
    /// Append these together, in the order of the tickets; told once per ticket that they are durable, in that
    /// order, or, at any time, that they never will be.
    Store {
        ticket: u64,
        records: Vec<StoredRecord>,
    },
    /// Something to log: name, fields.
    Event(&'static str, Vec<(&'static str, String)>),
}
