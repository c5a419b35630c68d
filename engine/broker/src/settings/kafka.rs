//! What Kafka's clients meet, under Kafka's names and in its units, below `kafka.`.

use std::time::Duration;

/// Keys that [`super::KEYS`] lists begin with it.
pub(super) const PREFIX: &str = "kafka.";

/// Checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    pub auto_create_topics: bool,
    pub partitions_default: u32,
    pub replicas_default: u32,
    pub offsets_partitions: u32,
    pub offsets_retention: Duration,
    pub offset_metadata_bytes_max: usize,
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    pub initial_rebalance_delay: Duration,
    pub group_members_max: usize,
    pub request_bytes_max: usize,
    pub idle_timeout: Duration,
    /// Of the whole node.
    pub connections_max: usize,
    /// Every one of these by Kafka's name, as it is told to administrators.
    pub told: Vec<(String, String)>,
}

const PARTITIONS_MAX: u64 = 10_000;
const OFFSETS_PARTITIONS_MAX: u64 = 1000;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// 20 years.
const RETENTION_MINUTES_MAX: u64 = 20 * 366 * 24 * 60;
const REQUEST_BYTES_MIN: u64 = 64 << 10;
const REQUEST_BYTES_MAX: u64 = 1 << 30;
const CONNECTIONS_MAX: u64 = 10_000_000;
const MEMBERS_MAX: u64 = i32::MAX as u64;
const METADATA_BYTES_MAX: u64 = 1 << 20;

impl KafkaSettings {
    /// `take` gives the value of a key, as a number within bounds or as true or false.
    pub(super) fn resolve<E>(take: Take<'_, E>, told: Vec<(String, String)>) -> Result<Self, E> {
        let Take { number, truth } = take;
        let ms = |key, min| number(key, min, DAY_MS).map(Duration::from_millis);
        Ok(Self {
            auto_create_topics: truth("kafka.auto.create.topics.enable")?,
            partitions_default: number("kafka.num.partitions", 1, PARTITIONS_MAX)? as u32,
            // One node holds one replica.
            replicas_default: number("kafka.default.replication.factor", 1, 1)? as u32,
            offsets_partitions: number("kafka.offsets.topic.num.partitions", 1, OFFSETS_PARTITIONS_MAX)?
                as u32,
            offsets_retention: Duration::from_secs(
                60 * number("kafka.offsets.retention.minutes", 1, RETENTION_MINUTES_MAX)?,
            ),
            offset_metadata_bytes_max: number("kafka.offset.metadata.max.bytes", 0, METADATA_BYTES_MAX)?
                as usize,
            session_timeout_min: ms("kafka.group.min.session.timeout.ms", 1)?,
            session_timeout_max: ms("kafka.group.max.session.timeout.ms", 1)?,
            initial_rebalance_delay: ms("kafka.group.initial.rebalance.delay.ms", 0)?,
            group_members_max: number("kafka.group.max.size", 1, MEMBERS_MAX)? as usize,
            request_bytes_max: number("kafka.socket.request.max.bytes", REQUEST_BYTES_MIN, REQUEST_BYTES_MAX)?
                as usize,
            idle_timeout: ms("kafka.connections.max.idle.ms", 1000)?,
            connections_max: number("kafka.max.connections", 1, CONNECTIONS_MAX)? as usize,
            told,
        })
    }
}

/// How values are had.
pub(super) struct Take<'a, E> {
    pub(super) number: &'a dyn Fn(&str, u64, u64) -> Result<u64, E>,
    pub(super) truth: &'a dyn Fn(&str) -> Result<bool, E>,
}
