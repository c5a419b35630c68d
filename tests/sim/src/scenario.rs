//! Workload files: what clients do and what is done to the node, as sums of weighted actions, and the bounds that
//! each run draws its numbers from.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[least, most]`, both included.
pub type Span = [u64; 2];

/// One file of `scenarios/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, for people.
    pub about: String,
    /// Of what clients do, before faults end and the node must heal.
    pub actions: Span,
    /// Between two of them.
    pub gap_us: Span,
    /// Now and then nothing happens for so long; 0 in a hundred: never.
    #[serde(default)]
    pub rest_percent: u64,
    #[serde(default)]
    pub rest_ms: Span,
    /// Faults go beyond what one node can promise to survive: it must notice and refuse.
    #[serde(default)]
    pub beyond_promise: bool,
    pub node: NodeSpans,
    pub topics: TopicSpans,
    pub clients: ClientSpans,
    /// What the direct clients do, by weight.
    pub work: BTreeMap<Work, u64>,
    /// What is done to the node, by weight.
    #[serde(default)]
    pub chaos: BTreeMap<Chaos, u64>,
    /// Between two of them.
    #[serde(default)]
    pub chaos_gap_ms: Span,
    /// What is wrong with the disk all the time, as one in so many operations; 0: never.
    #[serde(default)]
    pub disk: BTreeMap<DiskTrouble, u64>,
    /// Clients on the real SDK, over the simulated network.
    #[serde(default)]
    pub sdk: Option<SdkSpans>,
    /// Consumer groups, of clients beside the direct ones.
    #[serde(default)]
    pub groups: Option<GroupSpans>,
    /// Clients that speak Kafka's protocol, over simulated connections.
    #[serde(default)]
    pub kafka: Option<KafkaSpans>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpans {
    pub count: Span,
    pub consumers: Span,
    pub topics: Span,
    pub partitions: Span,
    pub native_percent: u64,
    pub static_percent: u64,
    pub session_ms: Span,
    pub rebalance_ms: Span,
    pub initial_delay_ms: Span,
    /// `offsets.topic.num.partitions`
    pub offsets_partitions: Span,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSpans {
    pub topics: Span,
    pub writers: Span,
    pub readers: Span,
    /// With the timeouts of the other groups; none where those are switched off.
    pub groups: Span,
    pub members: Span,
    pub value_bytes: Span,
    pub batch_records: Span,
    /// One way, at most.
    pub delay_us: Span,
    /// What a direction of a connection holds.
    pub room_bytes: Span,
    /// Bytes that arrive together, at most.
    pub piece_bytes: Span,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpans {
    pub cores: Span,
    pub memory_kib: Span,
    pub opens: Span,
    pub link_messages: Span,
    #[serde(default)]
    pub mesh_delay_us: Span,
    /// Between being woken and taking a turn.
    #[serde(default)]
    pub turn_delay_us: Span,
    pub spares: Span,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpans {
    pub count: Span,
    pub partitions: Span,
    pub write_caching_percent: u64,
    pub append_time_percent: u64,
    pub retention_percent: u64,
    #[serde(default)]
    pub compact_percent: u64,
    pub segment_bytes: Vec<u64>,
    #[serde(default)]
    pub segment_ms: Vec<u64>,
    /// `max.message.bytes`; none: its default.
    #[serde(default)]
    pub message_bytes: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSpans {
    pub lanes: Span,
    pub readers: Span,
    pub value_bytes: Span,
    pub batch_records: Span,
    pub in_flight: Span,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SdkSpans {
    pub topics: Span,
    pub producers: Span,
    pub readers: Span,
    pub admins: Span,
    /// They begin nothing after this.
    pub until_ms: Span,
    /// Of one life of a producer.
    pub records: Span,
    pub value_bytes: Span,
    pub lives: Span,
}

macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$what])* $variant,)* }

        impl $name {
            /// As in scenario files and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// What a direct client does.
    Work {
        Produce = "produce",
        ProducePlain = "produce_plain",
        Fetch = "fetch",
        Jump = "jump",
        Cancel = "cancel",
        Find = "find",
        DeleteRecords = "delete_records",
        CreateTopic = "create_topic",
        AlterTopic = "alter_topic",
        DeleteTopic = "delete_topic",
        Describe = "describe",
        BeRude = "be_rude",
    }
}

named! {
    /// What is done to the node, its disk, its network.
    Chaos {
        /// The process is killed, the power goes.
        Crash = "crash",
        /// The same, between two effects of one turn.
        CrashInTurn = "crash_in_turn",
        /// A clean stop and a start.
        Restart = "restart",
        /// A core takes no turns for a while.
        StallCore = "stall_core",
        /// The node's wall clock is set.
        JumpClock = "jump_clock",
        /// Nothing completes for a while.
        StallDisk = "stall_disk",
        /// Everything that takes space is refused for a while.
        FillDisk = "fill_disk",
        /// An index is damaged or lost.
        HarmIndex = "harm_index",
        /// A checkpoint is damaged or lost.
        HarmCheckpoint = "harm_checkpoint",
        HarmSpare = "harm_spare",
        /// Beyond the promise: frames are damaged.
        HarmFrames = "harm_frames",
        /// Beyond the promise.
        HarmIdentity = "harm_identity",
        /// The network: a client's packets are cut off for a while.
        Cut = "cut",
        /// A connection of Kafka's clients breaks.
        Reset = "reset",
        /// The network: loss, delay and reordering change.
        Weather = "weather",
    }
}

named! {
    /// What is wrong with the disk by rate.
    DiskTrouble {
        /// Writes under way at a crash land in part, reads beside a write see any of it. One in 1.
        Torn = "torn",
        ReadError = "read_error",
        WriteError = "write_error",
        Slow = "slow",
        /// Beyond the promise.
        LostWrite = "lost_write",
        /// Beyond the promise.
        MisdirectedWrite = "misdirected_write",
        /// Beyond the promise.
        LateWrite = "late_write",
        /// Beyond the promise.
        BitFlip = "bit_flip",
        /// Beyond the promise.
        LatentError = "latent_error",
    }
}

/// Every scenario there is, by name.
pub const ALL: &[(&str, &str)] = &[
    ("mixed", include_str!("../scenarios/mixed.toml")),
    ("crashes", include_str!("../scenarios/crashes.toml")),
    ("retention", include_str!("../scenarios/retention.toml")),
    ("compaction", include_str!("../scenarios/compaction.toml")),
    ("caching", include_str!("../scenarios/caching.toml")),
    ("pressure", include_str!("../scenarios/pressure.toml")),
    ("crowd", include_str!("../scenarios/crowd.toml")),
    ("bulk", include_str!("../scenarios/bulk.toml")),
    ("errors", include_str!("../scenarios/errors.toml")),
    ("clients", include_str!("../scenarios/clients.toml")),
    ("groups", include_str!("../scenarios/groups.toml")),
    ("kafka", include_str!("../scenarios/kafka.toml")),
    ("beyond", include_str!("../scenarios/beyond.toml")),
];

/// Why there is no such scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    #[error("no scenario '{name}': there are {}", names())]
    Unknown { name: String },
    #[error("scenario '{name}': {why}")]
    Malformed { name: String, why: String },
}

fn names() -> String {
    ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// # Errors
/// [`ScenarioError`].
pub fn load(name: &str) -> Result<Scenario, ScenarioError> {
    let found = ALL.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| ScenarioError::Unknown { name: name.to_owned() })?;
    parse(name, text)
}

fn parse(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let malformed = |why: String| ScenarioError::Malformed { name: name.to_owned(), why };
    let scenario: Scenario = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if scenario.work.values().all(|weight| *weight == 0) {
        return Err(malformed("nobody does anything: [work] has no weight".to_owned()));
    }
    if !scenario.chaos.is_empty() && scenario.chaos_gap_ms[1] == 0 {
        return Err(malformed("[chaos] needs chaos_gap_ms".to_owned()));
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_well_formed() {
        for (name, text) in ALL {
            if let Err(error) = parse(name, text) {
                panic!("{error}");
            }
        }
        assert!(matches!(load("nonesuch"), Err(ScenarioError::Unknown { .. })));
    }

    #[test]
    fn names_are_those_of_the_files() {
        let text = "produce = 1\nfetch = 2\n";
        let work: BTreeMap<Work, u64> = toml::from_str(text).expect("names");
        let names: Vec<&str> = work.keys().map(|work| work.name()).collect();
        assert_eq!(names, ["produce", "fetch"]);
        assert!(toml::from_str::<BTreeMap<Work, u64>>("prodace = 1").is_err());
    }
}
