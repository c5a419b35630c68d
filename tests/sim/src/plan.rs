//! One run: what a seed makes of a scenario. Every number is drawn from dice of its own, so that what is switched
//! off moves nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use tests_disk::{Dice, FaultKind, Faults, Rate, Zone};

use crate::direct::{Manners, SHARED, TopicDraw};
use crate::kafka::KafkaManners;
use crate::members::GroupManners;
use crate::net::tcp::Roads;
use crate::scenario::{Chaos, DiskTrouble, Scenario, Span, Work};
use crate::sdk::SdkPlan;

/// What a run is told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub scenario: String,
    pub seed: u64,
    /// Switched off by hand, by name.
    pub off: BTreeSet<String>,
    /// At most so many actions of clients.
    pub actions_max: Option<u64>,
}

impl Run {
    /// The command that does it again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("make sim-replay SCENARIO={} SEED={}", self.scenario, self.seed);
        if !self.off.is_empty() {
            let off: Vec<&str> = self.off.iter().map(String::as_str).collect();
            command += &format!(" OFF={}", off.join(","));
        }
        if let Some(actions_max) = self.actions_max {
            command += &format!(" ACTIONS={actions_max}");
        }
        command
    }
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub beyond_promise: bool,
    pub actions: u64,
    pub gap: [Duration; 2],
    pub rest_percent: u64,
    pub rest: [Duration; 2],
    pub cores: Span,
    pub memory_bytes: usize,
    pub opens: usize,
    pub metadata_snapshot_bytes: usize,
    /// Of each core.
    pub connections_max: usize,
    pub send_buffer_bytes: usize,
    pub link_messages: usize,
    pub mesh_delay: [Duration; 2],
    pub turn_delay: [Duration; 2],
    pub spares: usize,
    pub topics: u64,
    pub manners: Manners,
    pub work: Vec<(Work, u64)>,
    pub chaos: Vec<(Chaos, u64)>,
    pub chaos_gap: [Duration; 2],
    pub faults: Faults,
    /// Clients on the SDK, and the network's weather.
    pub sdk: Option<SdkPlan>,
    /// Members of consumer groups.
    pub groups: Option<GroupManners>,
    /// Clients that speak Kafka's protocol.
    pub kafka: Option<KafkaManners>,
    pub offsets_partitions: u32,
    /// Everything that could be switched off and is on.
    pub on: BTreeSet<&'static str>,
}

/// Behind the direct clients' numbers.
const SDK_CLIENTS_FROM: u32 = 1000;
/// Features that a seed switches off, one in so many.
const SWARM_OFF: u64 = 4;

impl Plan {
    #[must_use]
    pub fn draw(run: &Run, scenario: &Scenario) -> Self {
        let seed = run.seed;
        let draw = |name: &str, span: Span| Dice::new(seed, name).between(span[0], span[1].saturating_add(1));
        let us = |span: Span| span.map(Duration::from_micros);
        let ms = |span: Span| span.map(Duration::from_millis);
        let mut on = BTreeSet::new();
        let mut is_on = |name: &'static str, may_swarm: bool| {
            let is_on = !(run.off.contains(name) || may_swarm && Dice::new(seed, name).one_in(SWARM_OFF));
            if is_on {
                on.insert(name);
            }
            is_on
        };
        let mut work: Vec<(Work, u64)> =
            scenario.work.iter().map(|(work, weight)| (*work, *weight)).collect();
        work.retain(|(work, weight)| {
            *weight > 0 && is_on(work.name(), !matches!(work, Work::Produce | Work::CreateTopic))
        });
        let mut chaos: Vec<(Chaos, u64)> =
            scenario.chaos.iter().map(|(chaos, weight)| (*chaos, *weight)).collect();
        chaos.retain(|(chaos, weight)| *weight > 0 && is_on(chaos.name(), true));
        let mut faults = Faults::default();
        for (trouble, one_in) in &scenario.disk {
            if *one_in > 0 && is_on(trouble.name(), true) {
                add_trouble(&mut faults, *trouble, *one_in as u32);
            }
        }
        let has_sdk = is_on("sdk", false);
        let has_groups = is_on("groups", false);
        let has_kafka = is_on("kafka", false);
        let has_kafka_members = has_groups && is_on("kafka_members", true);
        let actions = draw("actions", scenario.actions);
        Self {
            seed,
            beyond_promise: scenario.beyond_promise,
            actions: run.actions_max.map_or(actions, |max| actions.min(max)),
            gap: us(scenario.gap_us),
            rest_percent: if is_on("rest", true) { scenario.rest_percent } else { 0 },
            rest: ms(scenario.rest_ms),
            cores: scenario.node.cores,
            memory_bytes: draw("memory", scenario.node.memory_kib) as usize * 1024,
            opens: draw("opens", scenario.node.opens) as usize,
            // Compacted all the time, at times, never in so short a run.
            metadata_snapshot_bytes: *Dice::new(seed, "metadata snapshot").pick(&[
                4 << 10,
                32 << 10,
                4 << 20,
            ]),
            connections_max: *Dice::new(seed, "connections").pick(&[3, 1000, 1000, 1000]),
            send_buffer_bytes: *Dice::new(seed, "send buffer").pick(&[4 << 10, 32 << 10, 256 << 10]),
            link_messages: draw("link", scenario.node.link_messages) as usize,
            mesh_delay: us(scenario.node.mesh_delay_us),
            turn_delay: us(scenario.node.turn_delay_us),
            spares: draw("spares", scenario.node.spares) as usize,
            topics: draw("topics", scenario.topics.count),
            manners: manners(scenario, draw),
            work,
            chaos,
            chaos_gap: ms(scenario.chaos_gap_ms),
            faults,
            sdk: scenario.sdk.as_ref().filter(|_| has_sdk).map(|sdk| SdkPlan {
                servers: vec![crate::world::node_address().to_string()],
                topics: (0..draw("sdk topics", sdk.topics)).map(|nth| format!("{SHARED}{nth}")).collect(),
                producers: draw("sdk producers", sdk.producers) as u32,
                readers: draw("sdk readers", sdk.readers) as u32,
                admins: draw("sdk admins", sdk.admins) as u32,
                hostiles: u32::from(is_on("sdk_hostile", true)),
                first_client: SDK_CLIENTS_FROM,
                until: Duration::from_millis(draw("sdk until", sdk.until_ms)),
                records_max: draw("sdk records", sdk.records) as u32,
                value_bytes_max: draw("sdk value bytes", sdk.value_bytes) as u32,
                lives_max: draw("sdk lives", sdk.lives) as u32,
                deletes_records: is_on("sdk_deletes", true),
                changes_topics: is_on("sdk_topics", true),
                dies: is_on("sdk_dies", true),
                moves_until: if is_on("sdk_moves", true) { Duration::MAX } else { Duration::ZERO },
            }),
            groups: scenario.groups.as_ref().filter(|_| has_groups).map(|groups| GroupManners {
                groups: draw("groups", groups.count) as usize,
                consumers: draw("consumers", groups.consumers) as usize,
                topics: draw("group topics", groups.topics) as usize,
                partitions: draw("group partitions", groups.partitions) as u32,
                native_percent: groups.native_percent,
                static_percent: groups.static_percent,
                session: Duration::from_millis(draw("session", groups.session_ms)),
                rebalance: Duration::from_millis(draw("rebalance", groups.rebalance_ms)),
                initial_delay: Duration::from_millis(draw("initial delay", groups.initial_delay_ms)),
                leaves: is_on("members_leave", true),
                dies: is_on("members_die", true),
                sleeps: is_on("members_sleep", true),
            }),
            kafka: scenario.kafka.as_ref().filter(|_| has_kafka).map(|kafka| KafkaManners {
                writers: draw("kafka writers", kafka.writers) as u32,
                readers: draw("kafka readers", kafka.readers) as u32,
                groups: draw("kafka groups", kafka.groups) as usize,
                members: if has_kafka_members { draw("kafka members", kafka.members) as u32 } else { 0 },
                batch_records_max: draw("kafka batch records", kafka.batch_records) as u32,
                value_bytes_max: draw("kafka value bytes", kafka.value_bytes) as u32,
                session: scenario.groups.as_ref().map_or(Duration::ZERO, |groups| {
                    Duration::from_millis(draw("session", groups.session_ms))
                }),
                rebalance: scenario.groups.as_ref().map_or(Duration::ZERO, |groups| {
                    Duration::from_millis(draw("rebalance", groups.rebalance_ms))
                }),
                topics: (0..draw("kafka topics", kafka.topics))
                    .map(|nth| format!("{SHARED}-kafka-{nth}"))
                    .collect(),
                roads: Roads {
                    delay_max: Duration::from_micros(draw("kafka delay", kafka.delay_us)),
                    room_bytes: draw("kafka room", kafka.room_bytes) as usize,
                    piece_bytes_max: draw("kafka pieces", kafka.piece_bytes) as usize,
                },
            }),
            offsets_partitions: scenario
                .groups
                .as_ref()
                .map_or(2, |groups| draw("offsets partitions", groups.offsets_partitions) as u32),
            on,
        }
    }
}

fn manners(scenario: &Scenario, draw: impl Fn(&str, Span) -> u64) -> Manners {
    let (topics, clients) = (&scenario.topics, &scenario.clients);
    Manners {
        topics: TopicDraw {
            partitions_max: draw("partitions", topics.partitions) as u32,
            write_caching_percent: topics.write_caching_percent,
            append_time_percent: topics.append_time_percent,
            retention_percent: topics.retention_percent,
            compact_percent: topics.compact_percent,
            segment_bytes: topics.segment_bytes.clone(),
            segment_ms: topics.segment_ms.clone(),
            message_bytes: topics.message_bytes,
        },
        topics_max: topics.count[1] as usize + 2,
        lanes_max: draw("lanes", clients.lanes) as usize,
        readers: draw("readers", clients.readers) as usize,
        value_bytes_max: draw("value bytes", clients.value_bytes) as u32,
        batch_records_max: draw("batch records", clients.batch_records) as u32,
        in_flight_max: draw("in flight", clients.in_flight) as usize,
    }
}

fn add_trouble(faults: &mut Faults, trouble: DiskTrouble, one_in: u32) {
    let rate = Rate::one_in(one_in);
    let files = [Zone::Written, Zone::Sealed, Zone::Index, Zone::Checkpoint];
    match trouble {
        DiskTrouble::Torn => {
            faults.torn = true;
            faults.early_sectors = true;
        }
        DiskTrouble::LateWrite => faults.late_writes = rate,
        DiskTrouble::ReadError => files.iter().for_each(|zone| faults.in_zone_mut(*zone).read_error = rate),
        DiskTrouble::WriteError => files.iter().for_each(|zone| faults.in_zone_mut(*zone).write_error = rate),
        DiskTrouble::Slow => files.iter().for_each(|zone| faults.in_zone_mut(*zone).slow = rate),
        DiskTrouble::LostWrite => faults.in_zone_mut(Zone::Written).lost_write = rate,
        DiskTrouble::MisdirectedWrite => faults.in_zone_mut(Zone::Written).misdirected_write = rate,
        DiskTrouble::BitFlip => {
            [Zone::Written, Zone::Sealed].iter().for_each(|zone| faults.in_zone_mut(*zone).bit_flip = rate);
        }
        DiskTrouble::LatentError => {
            [Zone::Written, Zone::Sealed]
                .iter()
                .for_each(|zone| faults.in_zone_mut(*zone).latent_error = rate);
        }
    }
}

/// Kinds of damage at rest.
pub const HARM: [FaultKind; 3] = [FaultKind::BitFlip, FaultKind::LatentError, FaultKind::LostFile];
