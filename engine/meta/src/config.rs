//! Topic configs: key and value strings by Kafka's names and units, turned into one checked [`TopicConfig`].
//!
//! [`KEYS`] is the whole vocabulary. Values are stored in the canonical spelling that
//! [`TopicConfig::entries`] gives, so `TRUE` and `true` are one value.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::ConfigEntry;
use storage_frame::{FRAME_BYTES_MAX, HEADER_BYTES};

/// Every key, in the order in which they are described.
pub const KEYS: [&str; 11] = [
    CLEANUP_POLICY,
    COMPRESSION_TYPE,
    FLUSH_MS,
    MAX_MESSAGE_BYTES,
    MESSAGE_TIMESTAMP_TYPE,
    MIN_INSYNC_REPLICAS,
    RETENTION_BYTES,
    RETENTION_MS,
    SEGMENT_BYTES,
    SEGMENT_MS,
    WRITE_CACHING,
];

const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPRESSION_TYPE: &str = "compression.type";
const FLUSH_MS: &str = "flush.ms";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_MS: &str = "retention.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const SEGMENT_MS: &str = "segment.ms";
const WRITE_CACHING: &str = "write.caching";

/// Room a segment needs beside its frames: the header block and the padding of the last one.
const SEGMENT_OVERHEAD_BYTES: u64 = 8192;
/// As large as a frame may be.
const BATCH_BYTES_MAX: u64 = (FRAME_BYTES_MAX - HEADER_BYTES) as u64;
/// Kafka's smallest since 4.0; smaller ones only make more files.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// What a crash of the machine may take from a topic with `write.caching`, in time.
const FLUSH_MS_MAX: u64 = 60_000;
const MS_MAX: u64 = i64::MAX as u64;

const _: () = assert!(SEGMENT_BYTES_MIN > SEGMENT_OVERHEAD_BYTES);

/// Whose clock a record's timestamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampKind {
    /// The producer's.
    Create,
    /// The broker's, when it appends.
    LogAppend,
}

/// A topic's settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// `None`: for ever.
    pub retention_age: Option<Duration>,
    /// Per partition. `None`: no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub segment_age_max: Duration,
    pub message_bytes_max: u64,
    pub in_sync_min: u32,
    pub timestamps: TimestampKind,
    pub write_caching: bool,
    /// How long `write_caching` may hold writes back.
    pub flush_delay: Duration,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            retention_age: Some(Duration::from_millis(604_800_000)),
            retention_bytes: None,
            segment_bytes: 134_217_728,
            segment_age_max: Duration::from_millis(604_800_000),
            message_bytes_max: 1_048_576,
            in_sync_min: 1,
            timestamps: TimestampKind::Create,
            write_caching: false,
            flush_delay: Duration::from_millis(100),
        }
    }
}

/// Why a config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown topic config '{key}'{}", nearest.map(|n| format!(": did you mean '{n}'?")).unwrap_or_default())]
    UnknownKey { key: String, nearest: Option<&'static str> },
    #[error("topic config {key}={value} is refused: {why}")]
    Value { key: &'static str, value: String, why: String },
    #[error("topic config '{key}' is given twice")]
    Twice { key: &'static str },
}

impl TopicConfig {
    /// The defaults of all, overlaid by `pairs` in order.
    ///
    /// # Errors
    /// [`ConfigError`] for the first pair that is refused.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(known_key(key)?, value)?;
        }
        Ok(config)
    }

    /// The largest batch a partition takes: one must fit a segment, however small these are.
    #[must_use]
    pub fn batch_bytes_max(&self) -> u64 {
        self.message_bytes_max.min(self.segment_bytes - SEGMENT_OVERHEAD_BYTES)
    }

    /// Every key with its value in canonical spelling, in the order of [`KEYS`].
    #[must_use]
    pub fn entries(&self) -> [(&'static str, String); KEYS.len()] {
        KEYS.map(|key| (key, self.value(key)))
    }

    fn value(&self, key: &str) -> String {
        match key {
            CLEANUP_POLICY => "delete".into(),
            COMPRESSION_TYPE => "producer".into(),
            FLUSH_MS => self.flush_delay.as_millis().to_string(),
            MAX_MESSAGE_BYTES => self.message_bytes_max.to_string(),
            MESSAGE_TIMESTAMP_TYPE => match self.timestamps {
                TimestampKind::Create => "CreateTime".into(),
                TimestampKind::LogAppend => "LogAppendTime".into(),
            },
            MIN_INSYNC_REPLICAS => self.in_sync_min.to_string(),
            RETENTION_BYTES => or_minus_one(self.retention_bytes.map(u128::from)),
            RETENTION_MS => or_minus_one(self.retention_age.map(|age| age.as_millis())),
            SEGMENT_BYTES => self.segment_bytes.to_string(),
            SEGMENT_MS => self.segment_age_max.as_millis().to_string(),
            WRITE_CACHING => self.write_caching.to_string(),
            other => unreachable!("{other} is not in KEYS"),
        }
    }

    fn set(&mut self, key: &'static str, value: &str) -> Result<(), ConfigError> {
        match key {
            CLEANUP_POLICY => only(key, value, "delete", "compaction is not supported yet")?,
            COMPRESSION_TYPE => {
                only(key, value, "producer", "batches are kept as their producers sent them")?
            }
            FLUSH_MS => self.flush_delay = Duration::from_millis(number(key, value, 1, FLUSH_MS_MAX)?),
            MAX_MESSAGE_BYTES => self.message_bytes_max = number(key, value, 1, BATCH_BYTES_MAX)?,
            MESSAGE_TIMESTAMP_TYPE => {
                self.timestamps = match value {
                    "CreateTime" => TimestampKind::Create,
                    "LogAppendTime" => TimestampKind::LogAppend,
                    _ => return Err(refused(key, value, "CreateTime or LogAppendTime is expected")),
                }
            }
            MIN_INSYNC_REPLICAS => self.in_sync_min = number(key, value, 1, i32::MAX as u64)? as u32,
            RETENTION_BYTES => self.retention_bytes = number_or_none(key, value, MS_MAX)?,
            RETENTION_MS => {
                self.retention_age = number_or_none(key, value, MS_MAX)?.map(Duration::from_millis);
            }
            SEGMENT_BYTES => self.segment_bytes = number(key, value, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?,
            SEGMENT_MS => self.segment_age_max = Duration::from_millis(number(key, value, 1, MS_MAX)?),
            WRITE_CACHING => {
                self.write_caching = match value.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(refused(key, value, "true or false is expected")),
                }
            }
            other => unreachable!("{other} is not in KEYS"),
        }
        Ok(())
    }
}

/// `pairs` with known keys and canonical values.
///
/// # Errors
/// [`ConfigError`], also for a key given twice.
pub fn canonical<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (key, value) in pairs {
        let key = known_key(key)?;
        let mut config = TopicConfig::default();
        config.set(key, value.trim())?;
        if checked.insert(key.to_owned(), config.value(key)).is_some() {
            return Err(ConfigError::Twice { key });
        }
    }
    Ok(checked)
}

/// `key` if it is one of [`KEYS`].
///
/// # Errors
/// [`ConfigError::UnknownKey`] with the nearest one.
pub fn known_key(key: &str) -> Result<&'static str, ConfigError> {
    if let Some(known) = KEYS.iter().find(|known| **known == key) {
        return Ok(known);
    }
    // Jaro-Winkler: 0.8 still catches a dropped word or two swapped letters and leaves unrelated words alone.
    let nearest = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(known, &key.to_ascii_lowercase()), *known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known);
    Err(ConfigError::UnknownKey { key: key.chars().take(100).collect(), nearest })
}

/// Every key with its value in force and whether it was set for the topic.
///
/// `defaults` and `overrides` were checked before; what an older build stored and this one refuses counts as
/// not set.
#[must_use]
pub fn describe(defaults: &[(String, String)], overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    effective(defaults, overrides)
        .entries()
        .into_iter()
        .map(|(key, value)| ConfigEntry { key: key.into(), value, is_default: !overrides.contains_key(key) })
        .collect()
}

/// The settings in force: ours, overlaid by the node's `defaults`, overlaid by the topic's `overrides`.
#[must_use]
pub fn effective(defaults: &[(String, String)], overrides: &BTreeMap<String, String>) -> TopicConfig {
    let mut config = TopicConfig::default();
    let pairs = defaults.iter().map(|(key, value)| (key, value)).chain(overrides);
    for (key, value) in pairs {
        if let Ok(key) = known_key(key) {
            let mut changed = config.clone();
            if changed.set(key, value).is_ok() {
                config = changed;
            }
        }
    }
    config
}

fn or_minus_one(value: Option<u128>) -> String {
    value.map_or_else(|| "-1".into(), |value| value.to_string())
}

fn refused(key: &'static str, value: &str, why: &str) -> ConfigError {
    ConfigError::Value { key, value: value.chars().take(100).collect(), why: why.into() }
}

fn only(key: &'static str, value: &str, allowed: &str, why: &str) -> Result<(), ConfigError> {
    if value == allowed {
        return Ok(());
    }
    Err(refused(key, value, &format!("only '{allowed}' is supported: {why}")))
}

fn number(key: &'static str, value: &str, min: u64, max: u64) -> Result<u64, ConfigError> {
    value
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| refused(key, value, &format!("a number from {min} to {max} is expected")))
}

fn number_or_none(key: &'static str, value: &str, max: u64) -> Result<Option<u64>, ConfigError> {
    if value == "-1" {
        return Ok(None);
    }
    number(key, value, 0, max)
        .map(Some)
        .map_err(|_| refused(key, value, &format!("-1 (no limit) or a number up to {max} is expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(key: &str, value: &str, expect: &str) {
        let error = canonical([(key, value)]).expect_err("a refusal").to_string();
        assert_eq!(error, expect);
    }

    #[test]
    fn unknown_key_names_the_nearest_one() {
        check_refused("retention.m", "1", "unknown topic config 'retention.m': did you mean 'retention.ms'?");
        check_refused(
            "max.mesage.bytes",
            "1",
            "unknown topic config 'max.mesage.bytes': did you mean 'max.message.bytes'?",
        );
        check_refused(
            "flush.messages",
            "1",
            "unknown topic config 'flush.messages': did you mean 'flush.ms'?",
        );
        check_refused("zzz", "1", "unknown topic config 'zzz'");
    }

    #[test]
    fn values_outside_their_bounds_are_refused_with_the_bounds() {
        check_refused(
            "segment.bytes",
            "14",
            "topic config segment.bytes=14 is refused: a number from 1048576 to 2147483647 is expected",
        );
        check_refused(
            "retention.ms",
            "-2",
            "topic config retention.ms=-2 is refused: -1 (no limit) or a number up to 9223372036854775807 is expected",
        );
        check_refused(
            "cleanup.policy",
            "compact",
            "topic config cleanup.policy=compact is refused: only 'delete' is supported: compaction is not supported yet",
        );
        check_refused(
            "write.caching",
            "maybe",
            "topic config write.caching=maybe is refused: true or false is expected",
        );
    }

    #[test]
    fn key_given_twice_is_refused() {
        let error = canonical([("flush.ms", "1"), ("flush.ms", "2")]).expect_err("a refusal");
        assert_eq!(error, ConfigError::Twice { key: FLUSH_MS });
    }

    #[test]
    fn every_default_is_a_value_its_key_accepts() {
        for (key, value) in TopicConfig::default().entries() {
            let checked = canonical([(key, value.as_str())]).expect("a default within its bounds");
            assert_eq!(checked[key], value);
        }
    }

    #[test]
    fn topic_overrides_node_and_node_overrides_default() {
        let defaults = [("flush.ms".to_owned(), "7".to_owned()), ("retention.ms".to_owned(), "5".to_owned())];
        let overrides = canonical([("retention.ms", "-1")]).expect("good");
        let described = describe(&defaults, &overrides);
        let find = |key: &str| described.iter().find(|e| e.key == key).expect("described").clone();
        assert_eq!(
            find("retention.ms"),
            ConfigEntry { key: "retention.ms".into(), value: "-1".into(), is_default: false }
        );
        assert_eq!(
            find("flush.ms"),
            ConfigEntry { key: "flush.ms".into(), value: "7".into(), is_default: true }
        );
        assert_eq!(described.len(), KEYS.len());
    }

    #[test]
    fn batch_must_fit_a_segment() {
        let config = TopicConfig::parse([("segment.bytes", "1048576")]).expect("good");
        assert_eq!(config.batch_bytes_max(), 1_048_576 - SEGMENT_OVERHEAD_BYTES);
    }
}
