//! Topic configs: key and value strings by Kafka's names and units, turned into one checked [`TopicConfig`].
//!
//! [`TOPIC_CONFIGS`] is the whole vocabulary; most of it is checked, kept and told, and [`TopicConfig`] has what
//! takes effect. Values are stored in canonical spelling, so `TRUE` and `true` are one value.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{ConfigEntry, ConfigKind, TOPIC_CONFIGS, TopicConfigDefinition, topic_config};

/// Every key, in the order in which they are described.
pub const KEYS: [&str; TOPIC_CONFIGS.len()] = {
    let mut keys = [""; TOPIC_CONFIGS.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = TOPIC_CONFIGS[at].key;
        at += 1;
    }
    keys
};

const CLEANUP_POLICY: &str = "cleanup.policy";
const DELETE_RETENTION_MS: &str = "delete.retention.ms";
const FLUSH_MS: &str = "flush.ms";
const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_MS: &str = "retention.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const SEGMENT_MS: &str = "segment.ms";
const WRITE_CACHING: &str = "write.caching";

/// Room a segment needs beside its frames: the header block and the padding of the last one.
const SEGMENT_OVERHEAD_BYTES: u64 = 8192;
/// What a crash of the machine may take from a topic with `write.caching`, in time.
const FLUSH_DELAY: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

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
    /// Whole segments go by age and size.
    pub deletes: bool,
    /// Of the records of one key the last one stays.
    pub compacts: bool,
    pub compaction_lag_min: Duration,
    pub compaction_lag_max: Duration,
    /// Tombstones, after they were first compacted.
    pub tombstones_kept: Duration,
    /// Of the log, so much must be new: millionths.
    pub dirty_millionths: u32,
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
            deletes: true,
            compacts: false,
            compaction_lag_min: Duration::ZERO,
            compaction_lag_max: Duration::from_millis(i64::MAX as u64),
            tombstones_kept: Duration::from_millis(86_400_000),
            dirty_millionths: 500_000,
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
            let key = known_key(key)?;
            config.set(key, &canonical_value(key, value)?);
        }
        Ok(config)
    }

    /// The largest batch a partition takes: one must fit a segment, however small these are.
    #[must_use]
    pub fn batch_bytes_max(&self) -> u64 {
        // Segments are a mebibyte at least.
        self.message_bytes_max.min(self.segment_bytes - SEGMENT_OVERHEAD_BYTES)
    }

    /// `value`: canonical.
    fn set(&mut self, key: &str, value: &str) {
        let number = || value.parse::<u64>().ok();
        let duration = || number().map(Duration::from_millis);
        match key {
            CLEANUP_POLICY => {
                let has = |policy| value.split(',').any(|item| item == policy);
                (self.deletes, self.compacts) = (has("delete"), has("compact"));
            }
            DELETE_RETENTION_MS => self.tombstones_kept = duration().expect(CANONICAL),
            MAX_COMPACTION_LAG_MS => self.compaction_lag_max = duration().expect(CANONICAL),
            MIN_COMPACTION_LAG_MS => self.compaction_lag_min = duration().expect(CANONICAL),
            MIN_CLEANABLE_DIRTY_RATIO => {
                let ratio: f64 = value.parse().expect(CANONICAL);
                self.dirty_millionths = (ratio * 1e6) as u32;
            }
            FLUSH_MS => {
                let delay = duration().expect(CANONICAL);
                self.flush_delay = delay.clamp(*FLUSH_DELAY.start(), *FLUSH_DELAY.end());
            }
            MAX_MESSAGE_BYTES => self.message_bytes_max = number().expect(CANONICAL),
            MESSAGE_TIMESTAMP_TYPE => {
                self.timestamps = match value {
                    "LogAppendTime" => TimestampKind::LogAppend,
                    _ => TimestampKind::Create,
                }
            }
            MIN_INSYNC_REPLICAS => self.in_sync_min = value.parse().expect(CANONICAL),
            // -1: no limit.
            RETENTION_BYTES => self.retention_bytes = number(),
            RETENTION_MS => self.retention_age = duration(),
            SEGMENT_BYTES => self.segment_bytes = number().expect(CANONICAL),
            SEGMENT_MS => self.segment_age_max = duration().expect(CANONICAL),
            WRITE_CACHING => self.write_caching = value == "true",
            // The others have no effect.
            _ => {}
        }
    }
}

const CANONICAL: &str = "a checked value";

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
        let value = canonical_value(key, value)?;
        if checked.insert(key.to_owned(), value).is_some() {
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
    if let Some(known) = topic_config(key) {
        return Ok(known.key);
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
    let stored = |key: &str, value: &String| canonical_value(known_key(key).ok()?, value).ok();
    let entry = |definition: &TopicConfigDefinition| {
        let key = definition.key;
        let of_topic = overrides.get(key).and_then(|value| stored(key, value));
        let of_node =
            || defaults.iter().rfind(|(known, _)| known == key).and_then(|(_, value)| stored(key, value));
        let is_default = of_topic.is_none();
        let value = of_topic.or_else(of_node).unwrap_or_else(|| definition.default.to_owned());
        ConfigEntry { key: key.to_owned(), value, is_default }
    };
    TOPIC_CONFIGS.iter().map(entry).collect()
}

/// The settings in force: ours, overlaid by the node's `defaults`, overlaid by the topic's `overrides`.
#[must_use]
pub fn effective(defaults: &[(String, String)], overrides: &BTreeMap<String, String>) -> TopicConfig {
    let mut config = TopicConfig::default();
    let pairs = defaults.iter().map(|(key, value)| (key, value)).chain(overrides);
    for (key, value) in pairs {
        let Ok(key) = known_key(key) else { continue };
        if let Ok(value) = canonical_value(key, value) {
            config.set(key, &value);
        }
    }
    config
}

/// `value` as all write it, when it is one that `key` takes.
fn canonical_value(key: &'static str, value: &str) -> Result<String, ConfigError> {
    let definition = topic_config(key).expect("a known key");
    let value = value.trim();
    let checked = match definition.kind {
        ConfigKind::Boolean => boolean(value),
        ConfigKind::Int { min, max } => number(value, min.into(), max.into()),
        ConfigKind::Long { min, max } => number(value, min, max),
        ConfigKind::Fraction => fraction(value),
        ConfigKind::Choice(choices) => choice(value, choices),
        ConfigKind::List(items) => list(value, items),
        ConfigKind::Replicas => replicas(value),
    };
    match definition.only_default {
        Some(why) if checked.as_deref() != Ok(definition.default) => {
            let why = format!("only '{}' is supported: {why}", definition.default);
            Err(refused(key, value, why))
        }
        _ => checked.map_err(|why| refused(key, value, why)),
    }
}

fn refused(key: &'static str, value: &str, why: String) -> ConfigError {
    ConfigError::Value { key, value: value.chars().take(100).collect(), why }
}

fn boolean(value: &str) -> Result<String, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok("true".into()),
        "false" => Ok("false".into()),
        _ => Err("true or false is expected".into()),
    }
}

fn number(value: &str, min: i64, max: i64) -> Result<String, String> {
    let number = value.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
    number.map(|number| number.to_string()).ok_or_else(|| match min {
        -1 => format!("-1 (no limit) or a number up to {max} is expected"),
        _ => format!("a number from {min} to {max} is expected"),
    })
}

fn fraction(value: &str) -> Result<String, String> {
    let number = value.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    // Not the sign of nothing.
    number.map(|number| number.abs().to_string()).ok_or_else(|| "a number from 0 to 1 is expected".into())
}

fn choice(value: &str, choices: &[&str]) -> Result<String, String> {
    match choices.contains(&value) {
        true => Ok(value.to_owned()),
        false => Err(format!("one of {} is expected", choices.join(", "))),
    }
}

fn list(value: &str, items: &[&str]) -> Result<String, String> {
    let given: Vec<&str> = value.split(',').map(str::trim).collect();
    let taken: Vec<&str> = items.iter().copied().filter(|item| given.contains(item)).collect();
    match taken.is_empty() || given.iter().any(|item| !items.contains(item)) {
        true => Err(format!("one or more of {} are expected, with commas between them", items.join(", "))),
        false => Ok(taken.join(",")),
    }
}

fn replicas(value: &str) -> Result<String, String> {
    let is_pair = |pair: &str| {
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        pair.split_once(':').is_some_and(|(partition, node)| is_number(partition) && is_number(node))
    };
    let pairs: Vec<&str> = value.split(',').map(str::trim).collect();
    match value.is_empty() || value == "*" || pairs.iter().all(|pair| is_pair(pair)) {
        true => Ok(pairs.join(",")),
        false => Err("partition:node pairs with commas between them or * is expected".into()),
    }
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
            "flush.message",
            "1",
            "unknown topic config 'flush.message': did you mean 'flush.messages'?",
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
            "compress",
            "topic config cleanup.policy=compress is refused: one or more of delete, compact are expected, with commas between them",
        );
        check_refused(
            "min.cleanable.dirty.ratio",
            "1.5",
            "topic config min.cleanable.dirty.ratio=1.5 is refused: a number from 0 to 1 is expected",
        );
        check_refused(
            "leader.replication.throttled.replicas",
            "1:2,x",
            "topic config leader.replication.throttled.replicas=1:2,x is refused: partition:node pairs with commas between them or * is expected",
        );
        check_refused(
            "message.timestamp.type",
            "createtime",
            "topic config message.timestamp.type=createtime is refused: one of CreateTime, LogAppendTime is expected",
        );
        check_refused(
            "remote.storage.enable",
            "true",
            "topic config remote.storage.enable=true is refused: only 'false' is supported: there is no remote storage",
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
        for definition in &TOPIC_CONFIGS {
            let (key, value) = (definition.key, definition.default);
            let checked = canonical([(key, value)]).expect("a default within its bounds");
            assert_eq!(checked[key], value);
        }
        let defaults = TOPIC_CONFIGS.iter().map(|definition| (definition.key, definition.default));
        assert_eq!(TopicConfig::parse(defaults), Ok(TopicConfig::default()));
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
    fn values_have_one_spelling() {
        let spelt = |key, value| canonical([(key, value)]).expect("good")[key].clone();
        assert_eq!(spelt("preallocate", " TRUE "), "true");
        assert_eq!(spelt("min.cleanable.dirty.ratio", "0.50"), "0.5");
        assert_eq!(spelt("min.cleanable.dirty.ratio", "-0"), "0");
        assert_eq!(spelt("flush.messages", "+007"), "7");
        assert_eq!(spelt("follower.replication.throttled.replicas", "0:1, 1:2"), "0:1,1:2");
        assert_eq!(spelt("follower.replication.throttled.replicas", "*"), "*");
    }

    #[test]
    fn policies_are_one_or_both() {
        for (value, deletes, compacts) in
            [("delete", true, false), ("compact", false, true), ("compact, delete", true, true)]
        {
            let config = TopicConfig::parse([(CLEANUP_POLICY, value)]).expect("good");
            assert_eq!((config.deletes, config.compacts), (deletes, compacts), "{value}");
        }
    }

    #[test]
    fn write_caching_never_holds_back_for_more_than_a_minute() {
        let config = TopicConfig::parse([("flush.ms", "9223372036854775807")]).expect("good");
        assert_eq!(config.flush_delay, Duration::from_secs(60));
        assert_eq!(
            TopicConfig::parse([("flush.ms", "0")]).expect("good").flush_delay,
            Duration::from_millis(1)
        );
    }

    #[test]
    fn batch_must_fit_a_segment() {
        let config = TopicConfig::parse([("segment.bytes", "1048576")]).expect("good");
        assert_eq!(config.batch_bytes_max(), 1_048_576 - SEGMENT_OVERHEAD_BYTES);
    }
}
