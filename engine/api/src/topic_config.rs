//! The topic configs: Kafka's of version 4 by its names and units, and ours. What each does here, not only what it
//! means elsewhere.
//!
//! A config that would promise what this broker does not do has one value, its default, and says why. One that
//! only tunes how Kafka's own storage goes about its work is taken, kept and told, and has no effect.

use storage_frame::{FRAME_BYTES_MAX, HEADER_BYTES};

/// One topic config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicConfigDefinition {
    pub key: &'static str,
    pub kind: ConfigKind,
    /// In canonical spelling.
    pub default: &'static str,
    /// No other value than the default is taken, because of this.
    pub only_default: Option<&'static str>,
    /// What Kafka calls the node's own setting of this, in the same unit.
    pub synonym: &'static str,
    /// Units, special values, and where it has no effect that.
    pub documentation: &'static str,
}

/// What values there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConfigKind {
    Boolean,
    /// 32 bits in Kafka's eyes.
    Int {
        min: i32,
        max: i32,
    },
    Long {
        min: i64,
        max: i64,
    },
    /// From 0 to 1.
    Fraction,
    /// One of these.
    Choice(&'static [&'static str]),
    /// One or more of these, with commas between them.
    List(&'static [&'static str]),
    /// `partition:node` pairs with commas between them, or `*`, or nothing.
    Replicas,
}

/// By key.
pub const TOPIC_CONFIGS: [TopicConfigDefinition; 34] = [
    of(
        "cleanup.policy",
        ConfigKind::List(&["delete", "compact"]),
        "delete",
        "log.cleanup.policy",
        "delete: whole segments go by age and size. compact: of the records of one key the last is kept.",
    ),
    of(
        "compression.gzip.level",
        ConfigKind::Int { min: -1, max: 9 },
        "-1",
        "compression.gzip.level",
        "No effect: batches are stored as their producers compressed them.",
    ),
    of(
        "compression.lz4.level",
        ConfigKind::Int { min: 1, max: 17 },
        "9",
        "compression.lz4.level",
        "No effect: batches are stored as their producers compressed them.",
    ),
    of(
        "compression.type",
        ConfigKind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "compression.type",
        "No effect: batches are stored as their producers compressed them, whatever is said here; set the producers' compression.",
    ),
    of(
        "compression.zstd.level",
        ConfigKind::Int { min: -131_072, max: 22 },
        "3",
        "compression.zstd.level",
        "No effect: batches are stored as their producers compressed them.",
    ),
    of(
        "delete.retention.ms",
        LONG_FROM_0,
        "86400000",
        "log.cleaner.delete.retention.ms",
        "Milliseconds that a compacted topic keeps the marks of deleted keys.",
    ),
    of(
        "file.delete.delay.ms",
        LONG_FROM_0,
        "60000",
        "log.segment.delete.delay.ms",
        "No effect: files leave the disk as soon as nothing needs them.",
    ),
    of(
        "flush.messages",
        LONG_FROM_1,
        LONG_MAX_TEXT,
        "log.flush.interval.messages",
        "No effect: a record is on stable storage before it is acknowledged, and with write.caching flush.ms alone says how long it may take.",
    ),
    of(
        "flush.ms",
        LONG_FROM_0,
        "100",
        "log.flush.interval.ms",
        "With write.caching: milliseconds that records may wait in memory before they are written; never more than a minute, whatever is said here. Without it a record is on stable storage before it is acknowledged.",
    ),
    of(
        "follower.replication.throttled.replicas",
        ConfigKind::Replicas,
        "",
        "",
        "No effect: replication is not throttled.",
    ),
    of(
        "index.interval.bytes",
        INT_FROM_0,
        "4096",
        "log.index.interval.bytes",
        "No effect: the index is as dense as the broker finds right.",
    ),
    of(
        "leader.replication.throttled.replicas",
        ConfigKind::Replicas,
        "",
        "",
        "No effect: replication is not throttled.",
    ),
    of(
        "local.retention.bytes",
        ConfigKind::Long { min: -2, max: i64::MAX },
        "-2",
        "log.local.retention.bytes",
        "No effect: there is no remote storage, everything is local.",
    ),
    of(
        "local.retention.ms",
        ConfigKind::Long { min: -2, max: i64::MAX },
        "-2",
        "log.local.retention.ms",
        "No effect: there is no remote storage, everything is local.",
    ),
    of(
        "max.compaction.lag.ms",
        LONG_FROM_1,
        LONG_MAX_TEXT,
        "log.cleaner.max.compaction.lag.ms",
        "Milliseconds after which a record of a compacted topic is due for compaction, however little there is to gain.",
    ),
    of(
        "max.message.bytes",
        ConfigKind::Int { min: 1, max: BATCH_BYTES_MAX },
        "1048576",
        "message.max.bytes",
        "Largest batch of records, bytes, compressed as its producer sent it.",
    ),
    TopicConfigDefinition {
        only_default: Some("producers' timestamps are not bounded"),
        ..of(
            "message.timestamp.after.max.ms",
            LONG_FROM_0,
            LONG_MAX_TEXT,
            "log.message.timestamp.after.max.ms",
            "How far ahead of the broker's clock a record's timestamp may be: not bounded.",
        )
    },
    TopicConfigDefinition {
        only_default: Some("producers' timestamps are not bounded"),
        ..of(
            "message.timestamp.before.max.ms",
            LONG_FROM_0,
            LONG_MAX_TEXT,
            "log.message.timestamp.before.max.ms",
            "How far behind the broker's clock a record's timestamp may be: not bounded.",
        )
    },
    of(
        "message.timestamp.type",
        ConfigKind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
        "Whose clock a record's timestamp is: the producer's (CreateTime) or the broker's (LogAppendTime).",
    ),
    of(
        "min.cleanable.dirty.ratio",
        ConfigKind::Fraction,
        "0.5",
        "log.cleaner.min.cleanable.ratio",
        "Share of a compacted topic's log that must be new before it is compacted again.",
    ),
    of(
        "min.compaction.lag.ms",
        LONG_FROM_0,
        "0",
        "log.cleaner.min.compaction.lag.ms",
        "Milliseconds that a compacted topic keeps every record.",
    ),
    of(
        "min.insync.replicas",
        ConfigKind::Int { min: 1, max: i32::MAX },
        "1",
        "min.insync.replicas",
        "Replicas that must have a record before it is acknowledged to a producer with acks=all.",
    ),
    of(
        "preallocate",
        ConfigKind::Boolean,
        "false",
        "log.preallocate",
        "No effect: the broker sets aside room on disk as it finds right.",
    ),
    TopicConfigDefinition {
        only_default: Some("there is no remote storage"),
        ..of(
            "remote.log.copy.disable",
            ConfigKind::Boolean,
            "false",
            "",
            "Whether copying to remote storage stops: there is none.",
        )
    },
    TopicConfigDefinition {
        only_default: Some("there is no remote storage"),
        ..of(
            "remote.log.delete.on.disable",
            ConfigKind::Boolean,
            "false",
            "",
            "Whether what remote storage holds goes with it: there is none.",
        )
    },
    TopicConfigDefinition {
        only_default: Some("there is no remote storage"),
        ..of(
            "remote.storage.enable",
            ConfigKind::Boolean,
            "false",
            "",
            "Whether old segments move to remote storage: there is none.",
        )
    },
    of(
        "retention.bytes",
        ConfigKind::Long { min: -1, max: i64::MAX },
        "-1",
        "log.retention.bytes",
        "Bytes kept per partition, -1: no limit.",
    ),
    of(
        "retention.ms",
        ConfigKind::Long { min: -1, max: i64::MAX },
        "604800000",
        "log.retention.ms",
        "Milliseconds kept, -1: no limit.",
    ),
    of(
        "segment.bytes",
        ConfigKind::Int { min: SEGMENT_BYTES_MIN, max: i32::MAX },
        "134217728",
        "log.segment.bytes",
        "Bytes of one segment file; retention and compaction work on whole ones.",
    ),
    of(
        "segment.index.bytes",
        ConfigKind::Int { min: 4, max: i32::MAX },
        "10485760",
        "log.index.size.max.bytes",
        "No effect: the index is as large as its segment needs.",
    ),
    of(
        "segment.jitter.ms",
        LONG_FROM_0,
        "0",
        "log.roll.jitter.ms",
        "No effect: beginning a segment costs too little to be spread.",
    ),
    of(
        "segment.ms",
        LONG_FROM_1,
        "604800000",
        "log.roll.ms",
        "Milliseconds after which a new segment is begun.",
    ),
    of(
        "unclean.leader.election.enable",
        ConfigKind::Boolean,
        "false",
        "unclean.leader.election.enable",
        "No effect: a replica that lacks acknowledged records never leads.",
    ),
    of(
        "write.caching",
        ConfigKind::Boolean,
        "false",
        "",
        "true: acknowledge from memory and write within flush.ms. Faster, and a crash may take what was acknowledged.",
    ),
];

/// The definition of `key`.
#[must_use]
pub fn topic_config(key: &str) -> Option<&'static TopicConfigDefinition> {
    let found = TOPIC_CONFIGS.binary_search_by(|definition| definition.key.cmp(key)).ok()?;
    Some(&TOPIC_CONFIGS[found])
}

const fn of(
    key: &'static str,
    kind: ConfigKind,
    default: &'static str,
    synonym: &'static str,
    documentation: &'static str,
) -> TopicConfigDefinition {
    TopicConfigDefinition { key, kind, default, only_default: None, synonym, documentation }
}

/// Kafka's smallest since 4.0; smaller ones only make more files.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;
/// As large as a frame may be.
const BATCH_BYTES_MAX: i32 = (FRAME_BYTES_MAX - HEADER_BYTES) as i32;

const INT_FROM_0: ConfigKind = ConfigKind::Int { min: 0, max: i32::MAX };
const LONG_FROM_0: ConfigKind = ConfigKind::Long { min: 0, max: i64::MAX };
const LONG_FROM_1: ConfigKind = ConfigKind::Long { min: 1, max: i64::MAX };
/// Without a limit.
const LONG_MAX_TEXT: &str = "9223372036854775807";

#[cfg(test)]
mod tests {
    use super::*;

    static ALL: &[TopicConfigDefinition] = &TOPIC_CONFIGS;

    #[test]
    fn definitions_are_in_order_so_that_they_are_found() {
        assert!(ALL.is_sorted_by(|a, b| a.key < b.key));
        assert!(ALL.iter().all(|definition| topic_config(definition.key) == Some(definition)));
        assert_eq!(topic_config("retention"), None);
    }

    #[test]
    fn every_definition_says_what_it_does() {
        assert!(ALL.iter().all(|definition| !definition.documentation.is_empty()));
    }
}
