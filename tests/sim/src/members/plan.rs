//! How members behave, drawn once for each run, and what a leader assigns.

use std::time::Duration;

use bytes::Bytes;
use engine_shard::GroupsConfig;

#[derive(Debug, Clone)]
pub struct GroupManners {
    pub groups: usize,
    pub consumers: usize,
    pub topics: usize,
    pub partitions: u32,
    pub native_percent: u64,
    pub static_percent: u64,
    pub session: Duration,
    pub rebalance: Duration,
    pub initial_delay: Duration,
    pub leaves: bool,
    pub dies: bool,
    pub sleeps: bool,
}

impl GroupManners {
    /// Often enough to hear of a rebalance before it ends.
    pub(super) fn heartbeat(&self) -> Duration {
        self.session.min(self.rebalance) / 4
    }
}

/// What the node's coordinators are told.
#[must_use]
pub fn groups_config(manners: Option<&GroupManners>) -> GroupsConfig {
    let Some(manners) = manners else { return GroupsConfig::default() };
    GroupsConfig {
        session_timeout_min: Duration::from_millis(10),
        initial_rebalance_delay: manners.initial_delay,
        // At each measurement of lags, which has an interval of its own.
        stuck_interval: Duration::from_secs(2),
        stuck_intervals: 3,
        ..GroupsConfig::default()
    }
}

/// Of a run without groups.
pub(super) fn nobody() -> GroupManners {
    GroupManners {
        groups: 0,
        consumers: 0,
        topics: 0,
        partitions: 0,
        native_percent: 0,
        static_percent: 0,
        session: Duration::ZERO,
        rebalance: Duration::ZERO,
        initial_delay: Duration::ZERO,
        leaves: false,
        dies: false,
        sleeps: false,
    }
}

pub(super) fn topic_name(nth: usize) -> String {
    format!("grouped-{nth}")
}

/// Who that is: a static member stays itself when it comes back under another id.
pub(super) fn identity(member: &str) -> String {
    const UUID_BYTES: usize = 36;
    let cut = member.len().saturating_sub(UUID_BYTES + 1);
    match member.get(..cut) {
        Some(instance) if instance.starts_with(INSTANCE) => instance.to_owned(),
        _ => member.to_owned(),
    }
}

/// How every instance's name begins, and no client's.
pub(super) const INSTANCE: &str = "instance-";

/// One member's part, as the leader's bytes carry it.
fn encode(owned: &[(String, u32)]) -> Bytes {
    let parts: Vec<String> = owned.iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
    Bytes::from(parts.join(" "))
}

/// # Errors
/// Bytes that no leader of ours wrote.
pub(crate) fn assigned(bytes: &[u8]) -> Result<Vec<(String, u32)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let part = |part: &str| {
        let (topic, partition) = part.split_once('/')?;
        Some((topic.to_owned(), partition.parse().ok()?))
    };
    text.split_whitespace()
        .map(|piece| part(piece).ok_or_else(|| format!("an assignment that no leader wrote: {text}")))
        .collect()
}

/// Round robin over the members in the order the leader was told of them.
pub(crate) fn assign(
    members: &[String],
    partitions: impl IntoIterator<Item = (String, u32)>,
) -> Vec<(String, Bytes)> {
    let mut owned: Vec<Vec<(String, u32)>> = vec![Vec::new(); members.len()];
    for (nth, partition) in partitions.into_iter().enumerate() {
        owned[nth % members.len()].push(partition);
    }
    members.iter().cloned().zip(owned.iter().map(|owned| encode(owned))).collect()
}
