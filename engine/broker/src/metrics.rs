//! The page of `/metrics`: every number a node tells about itself, by its public name.
//!
//! Names are in base units and are part of what operators rely on: a name is added or dropped, never given
//! another meaning. Per-core numbers carry `core`; nothing carries a partition or a client, so the page grows
//! with cores, topics and consumer groups (`group_metrics`) only.
//!
//! Does not know: where the numbers come from, HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_core::{CoreStats, NodeStats};
use storage_log::{LATENCY_BOUNDS, LatencyHistogram};

use crate::exposition::Page;
use crate::group_metrics::groups;
use crate::process::Usage;

/// What is told beside the cores' own numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFacts {
    pub(crate) version: &'static str,
    pub(crate) ready: bool,
    pub(crate) up: Duration,
    pub(crate) free_bytes: Option<u64>,
    pub(crate) free_bytes_min: u64,
    /// Seconds until the certificate's end, negative after it.
    pub(crate) cert_expiry_seconds: Option<i64>,
    /// By core: the busy share of the last sampled interval.
    pub(crate) busy: Vec<(u8, f64)>,
    pub(crate) usage: Usage,
}

pub(crate) fn render(facts: &NodeFacts, stats: &NodeStats) -> String {
    let mut page = Page::default();
    node(&mut page, facts);
    let cores: Vec<Core<'_>> =
        stats.cores.iter().map(|stats| Core { label: stats.core.0.to_string(), stats }).collect();
    records(&mut page, &cores);
    let figures: Vec<_> = cores.iter().map(|core| &core.stats.shard.groups).collect();
    groups(&mut page, &figures);
    compaction(&mut page, &cores);
    requests(&mut page, &cores);
    disk(&mut page, &cores);
    core_loops(&mut page, &cores);
    network(&mut page, &cores);
    kafka(&mut page, &cores);
    page.into_text()
}

struct Core<'a> {
    label: String,
    stats: &'a CoreStats,
}

fn node(page: &mut Page, facts: &NodeFacts) {
    page.gauge("millstream_build_info", "1, with the version that runs.")
        .sample(&[("version", facts.version)], 1);
    page.gauge("millstream_ready", "1 once every log is open.").sample(&[], u64::from(facts.ready));
    page.gauge("millstream_uptime_seconds", "Since the start.").sample_float(&[], facts.up.as_secs_f64());
    if let Some(free) = facts.free_bytes {
        page.gauge("millstream_disk_free_bytes", "Free on the data disk.").sample(&[], free);
    }
    page.gauge("millstream_disk_watermark_bytes", "Below this much free space producers are refused.")
        .sample(&[("level", "refuse_produce")], facts.free_bytes_min);
    if let Some(seconds) = facts.cert_expiry_seconds {
        page.gauge("millstream_tls_cert_expiry_seconds", "Until the server certificate's end.")
            .sample_float(&[], seconds as f64);
    }
    page.gauge("millstream_core_busy_ratio", "Share of the last seconds a core spent working.");
    for (core, ratio) in &facts.busy {
        page.sample_float(&[("core", &core.to_string())], *ratio);
    }
    let usage = &facts.usage;
    page.counter("process_cpu_seconds_total", "User and system time.").sample_float(&[], usage.cpu_seconds);
    page.gauge("process_resident_memory_bytes", "Resident memory.").sample(&[], usage.resident_bytes);
    page.gauge("process_open_fds", "Open file descriptors.").sample(&[], usage.open_files);
    page.counter("millstream_process_written_bytes_total", "Bytes this process wrote to storage.")
        .sample(&[], usage.written_bytes);
}

fn records(page: &mut Page, cores: &[Core<'_>]) {
    let sum = |of: fn(&CoreStats) -> u64| cores.iter().map(|core| of(core.stats)).sum::<u64>();
    page.counter("millstream_produce_records_total", "Records stored.")
        .sample(&[], sum(|c| c.shard.produce_records));
    page.counter("millstream_produce_batches_total", "Batches stored.")
        .sample(&[], sum(|c| c.shard.produce_batches));
    page.counter("millstream_produce_bytes_total", "Bytes of batches stored.")
        .sample(&[], sum(|c| c.shard.produce_bytes));
    page.counter("millstream_produce_duplicates_total", "Batches that had been stored before.")
        .sample(&[], sum(|c| c.shard.duplicates));
    page.counter("millstream_fetch_records_total", "Records handed to readers.")
        .sample(&[], sum(|c| c.shard.fetch_records));
    let backfill = sum(|c| c.shard.fetch_disk_bytes);
    page.counter("millstream_fetch_bytes_total", "Bytes handed to readers, from memory or from disk.")
        .sample(&[("kind", "tail")], sum(|c| c.shard.fetch_bytes).saturating_sub(backfill))
        .sample(&[("kind", "backfill")], backfill);
    page.counter("millstream_ack_total", "Produce requests acknowledged, by the durability reached.");
    for (index, durability) in ["accepted", "memory", "leader_disk", "all_disks"].into_iter().enumerate() {
        let count = cores.iter().map(|core| core.stats.shard.acks[index]).sum();
        page.sample(&[("durability", durability)], count);
    }
    page.gauge("millstream_partitions", "Partitions of this node by state.")
        .sample(&[("state", "leader")], sum(|c| c.shard.partitions))
        .sample(&[("state", "open")], sum(|c| c.shard.partitions_open))
        .sample(&[("state", "troubled")], sum(|c| c.shard.partitions_troubled));
    page.gauge("millstream_waiting_requests", "Requests that wait for data or for the disk.")
        .sample(&[("api", "fetch")], sum(|c| c.shard.waiting_fetches))
        .sample(&[("api", "produce")], sum(|c| c.shard.waiting_produces));
    let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
    for (topic, bytes) in cores.iter().flat_map(|core| &core.stats.shard.log_bytes) {
        *topics.entry(topic).or_default() += bytes;
    }
    page.gauge("millstream_log_bytes", "Bytes of live segments on disk.");
    for (topic, bytes) in topics {
        page.sample(&[("topic", topic)], bytes);
    }
}

fn compaction(page: &mut Page, cores: &[Core<'_>]) {
    page.counter("millstream_compactions_total", "Passes of compaction over a log, by how they ended.");
    for core in cores {
        let stats = &core.stats.shard.compaction;
        page.sample(&[("core", &core.label), ("end", "done")], stats.passes);
        page.sample(&[("core", &core.label), ("end", "given_up")], stats.failed);
    }
    page.counter(
        "millstream_compaction_bytes_total",
        "Segments that compaction wrote anew: before and after.",
    );
    for core in cores {
        let stats = &core.stats.shard.compaction;
        page.sample(&[("core", &core.label), ("way", "in")], stats.bytes_in);
        page.sample(&[("core", &core.label), ("way", "out")], stats.bytes_out);
    }
    let removed = "millstream_compaction_records_removed_total";
    count_per_core(page, cores, removed, "Records that compaction took out.", |c| {
        c.shard.compaction.records_removed
    });
    page.gauge("millstream_compaction_last_duration_seconds", "Of the last pass that was done.");
    for core in cores {
        let took = core.stats.shard.compaction.last_duration.as_secs_f64();
        page.sample_float(&[("core", &core.label)], took);
    }
}

fn requests(page: &mut Page, cores: &[Core<'_>]) {
    let mut by_api: BTreeMap<&str, u64> = BTreeMap::new();
    let mut refused: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut client_errors: BTreeMap<&str, u64> = BTreeMap::new();
    for core in cores {
        for (api, count) in &core.stats.shard.requests {
            *by_api.entry(api).or_default() += count;
        }
        for (api, code, count) in &core.stats.shard.refused {
            *refused.entry((api, code)).or_default() += count;
        }
        for (reason, count) in &core.stats.quic.client_errors {
            *client_errors.entry(reason).or_default() += count;
        }
    }
    page.counter("millstream_requests_total", "Requests taken, by kind.");
    for (api, count) in by_api {
        page.sample(&[("api", api)], count);
    }
    page.counter("millstream_request_errors_total", "Requests refused, by kind and error.");
    for ((api, code), count) in refused {
        page.sample(&[("api", api), ("code", code)], count);
    }
    page.counter("millstream_client_errors_total", "Streams or connections ended because of what was sent.");
    for (reason, count) in client_errors {
        page.sample(&[("reason", reason)], count);
    }
}

fn disk(page: &mut Page, cores: &[Core<'_>]) {
    type Pick = fn(&CoreStats) -> &LatencyHistogram;
    let append = "From a produce request's arrival at its core to its durability.";
    let families: [(&'static str, &str, Pick); 4] = [
        ("millstream_append_seconds", append, |c| &c.shard.append),
        ("millstream_fsync_seconds", "Durable appends: the write and its sync are one.", |c| &c.disk.write),
        ("millstream_disk_read_seconds", "Reads.", |c| &c.disk.read),
        ("millstream_disk_zero_seconds", "Making room in segments ahead of their writer.", |c| &c.disk.zero),
    ];
    for (name, help, pick) in families {
        page.histogram(name, help);
        for core in cores {
            let of = pick(core.stats);
            page.buckets(&[("core", &core.label)], &LATENCY_BOUNDS, &of.buckets, of.sum);
        }
    }
    let sum = |of: fn(&CoreStats) -> u64| cores.iter().map(|core| of(core.stats)).sum::<u64>();
    page.counter("millstream_disk_bytes_total", "Bytes moved, by kind of operation.")
        .sample(&[("kind", "write")], sum(|c| c.disk.write_bytes))
        .sample(&[("kind", "read")], sum(|c| c.disk.read_bytes))
        .sample(&[("kind", "zero")], sum(|c| c.disk.zero_bytes));
    page.counter("millstream_disk_failures_total", "Operations the disk refused.")
        .sample(&[], sum(|c| c.disk.failed));
    page.counter("millstream_segments_total", "Segment files taken into use.")
        .sample(&[("origin", "created")], sum(|c| c.disk.segments_created))
        .sample(&[("origin", "recycled")], sum(|c| c.disk.segments_recycled));
    per_core(page, cores, "millstream_disk_waiting", "Disk operations under way or waiting.", |c| {
        c.executor.disk_waiting
    });
}

fn core_loops(page: &mut Page, cores: &[Core<'_>]) {
    page.counter("millstream_core_busy_seconds_total", "Time a core spent working.");
    for core in cores {
        page.sample_float(&[("core", &core.label)], core.stats.executor.busy.as_secs_f64());
    }
    page.gauge("millstream_core_stall_seconds", "Longest turn since the last look.");
    for core in cores {
        page.sample_float(&[("core", &core.label)], core.stats.executor.turn_longest.as_secs_f64());
    }
    let owned = "millstream_requests_owned_total";
    count_per_core(page, cores, owned, "Of a core's own clients, for itself.", |c| c.turns.requests_owned);
    let forwarded = "millstream_requests_forwarded_total";
    count_per_core(page, cores, forwarded, "Of a core's own clients, for another.", |c| {
        c.turns.requests_forwarded
    });
    count_per_core(page, cores, "millstream_core_turns_total", "Turns.", |c| c.turns.turns);
    count_per_core(page, cores, "millstream_core_inputs_total", "Inputs handled.", |c| c.turns.inputs);
    count_per_core(page, cores, "millstream_core_pauses_total", "Times sockets were paused.", |c| {
        c.turns.pauses
    });
    per_core(page, cores, "millstream_core_memory_bytes", "Records held in memory.", |c| {
        c.shard.memory_bytes
    });
    per_core(page, cores, "millstream_mesh_depth", "Messages waiting for a core.", |c| c.mesh.inbox);
    per_core(page, cores, "millstream_mesh_backlog", "Messages that found another core full.", |c| {
        c.mesh.backlog
    });
    count_per_core(page, cores, "millstream_mesh_messages_total", "Messages sent to other cores.", |c| {
        c.mesh.sent
    });
    count_per_core(page, cores, "millstream_mesh_batches_total", "Batches they left in.", |c| c.mesh.batches);
}

fn network(page: &mut Page, cores: &[Core<'_>]) {
    per_core(page, cores, "millstream_quic_connections", "Connections now.", |c| c.quic.connections);
    per_core(page, cores, "millstream_quic_streams", "Streams now.", |c| c.quic.streams_open);
    per_core(page, cores, "millstream_quic_requests_open", "Asked and not answered.", |c| {
        c.quic.requests_open
    });
    per_core(page, cores, "millstream_quic_send_buffered_bytes", "Waiting to be sent.", |c| {
        c.quic.send_buffered_bytes
    });
    let opened = "millstream_quic_connections_opened_total";
    count_per_core(page, cores, opened, "Connections opened.", |c| c.quic.connections_opened);
    let refused = "millstream_quic_connections_refused_total";
    count_per_core(page, cores, refused, "Connections refused.", |c| c.quic.connections_refused);
    count_per_core(page, cores, "millstream_quic_lost_packets_total", "Packets lost.", |c| {
        c.quic.lost_packets
    });
    count_per_core(page, cores, "millstream_quic_migrations_total", "Connections that moved.", |c| {
        c.quic.migrations
    });
    page.counter("millstream_quic_messages_total", "Messages of the native protocol.");
    for core in cores {
        page.sample(&[("core", &core.label), ("way", "in")], core.stats.quic.messages_in);
        page.sample(&[("core", &core.label), ("way", "out")], core.stats.quic.messages_out);
    }
    page.counter("millstream_udp_bytes_total", "Bytes of datagrams.");
    for core in cores {
        page.sample(&[("core", &core.label), ("way", "in")], core.stats.udp.bytes_in);
        page.sample(&[("core", &core.label), ("way", "out")], core.stats.udp.bytes_out);
    }
    count_per_core(page, cores, "millstream_udp_send_failures_total", "Datagrams not sent.", |c| {
        c.udp.sends_failed
    });
}

fn kafka(page: &mut Page, cores: &[Core<'_>]) {
    per_core(page, cores, "millstream_kafka_connections", "Connections of Kafka's clients now.", |c| {
        c.kafka.connections
    });
    per_core(page, cores, "millstream_kafka_requests_open", "Read and not answered.", |c| {
        c.kafka.requests_open
    });
    per_core(page, cores, "millstream_kafka_send_buffered_bytes", "Waiting to be sent.", |c| {
        c.kafka.send_buffered_bytes
    });
    let opened = "millstream_kafka_connections_opened_total";
    count_per_core(page, cores, opened, "Connections opened.", |c| c.kafka.connections_opened);
    let refused = "millstream_kafka_connections_refused_total";
    count_per_core(page, cores, refused, "Connections refused: there were too many.", |c| {
        c.kafka.connections_refused
    });
    page.counter("millstream_kafka_bytes_total", "Bytes of Kafka's protocol.");
    for core in cores {
        page.sample(&[("core", &core.label), ("way", "in")], core.stats.kafka.bytes_in);
        page.sample(&[("core", &core.label), ("way", "out")], core.stats.kafka.bytes_out);
    }
    let mut by_api: BTreeMap<&str, u64> = BTreeMap::new();
    let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
    for stats in cores.iter().map(|core| &core.stats.kafka) {
        for (api, count) in &stats.requests {
            *by_api.entry(api).or_default() += count;
        }
        for (reason, count) in &stats.client_errors {
            *errors.entry(reason).or_default() += count;
        }
    }
    page.counter("millstream_kafka_requests_total", "Requests of Kafka's protocol, by API.");
    for (api, count) in by_api.into_iter().filter(|(_, count)| *count > 0) {
        page.sample(&[("api", api)], count);
    }
    page.counter("millstream_kafka_client_errors_total", "Connections ended because of what was sent.");
    for (reason, count) in errors {
        page.sample(&[("reason", reason)], count);
    }
}

fn per_core(page: &mut Page, cores: &[Core<'_>], name: &'static str, help: &str, of: fn(&CoreStats) -> u64) {
    page.gauge(name, help);
    for core in cores {
        page.sample(&[("core", &core.label)], of(core.stats));
    }
}

fn count_per_core(
    page: &mut Page,
    cores: &[Core<'_>],
    name: &'static str,
    help: &str,
    of: fn(&CoreStats) -> u64,
) {
    page.counter(name, help);
    for core in cores {
        page.sample(&[("core", &core.label)], of(core.stats));
    }
}

#[cfg(test)]
mod tests {
    use engine_api::CoreId;
    use engine_core::{ExecutorStats, MeshStats, TurnStats};
    use engine_shard::ShardStats;

    use super::*;

    fn stats() -> NodeStats {
        let core = |index: u8, records: u64| CoreStats {
            core: CoreId(index),
            cpu: usize::from(index),
            shard: ShardStats {
                produce_records: records,
                fetch_bytes: 10,
                fetch_disk_bytes: 4,
                acks: [0, 1, 2, 3],
                requests: vec![("produce", 2)],
                refused: vec![("produce", "too_large", 1)],
                log_bytes: vec![("t".to_owned(), 7)],
                ..ShardStats::default()
            },
            quic: net_quic::ServerStats { connections: 5, ..Default::default() },
            kafka: net_kafka::ServerStats {
                connections: 3,
                requests: vec![("Fetch", 2), ("Produce", 0)],
                client_errors: vec![("tls", 1)],
                ..Default::default()
            },
            accepts: true,
            disk: storage_disk::DiskStats::default(),
            udp: net_sockets::UdpStats::default(),
            mesh: MeshStats { inbox: 9, ..MeshStats::default() },
            turns: TurnStats { requests_forwarded: 8, ..TurnStats::default() },
            executor: ExecutorStats::default(),
        };
        NodeStats { cores: vec![core(0, 100), core(1, 11)] }
    }

    #[test]
    fn cores_are_summed_or_labelled() {
        let facts = NodeFacts { version: "1.2.3", busy: vec![(0, 0.5)], ..NodeFacts::default() };
        let text = render(&facts, &stats());
        for line in [
            "millstream_build_info{version=\"1.2.3\"} 1",
            "millstream_ready 0",
            "millstream_produce_records_total 111",
            "millstream_fetch_bytes_total{kind=\"tail\"} 12",
            "millstream_fetch_bytes_total{kind=\"backfill\"} 8",
            "millstream_ack_total{durability=\"all_disks\"} 6",
            "millstream_requests_total{api=\"produce\"} 4",
            "millstream_request_errors_total{api=\"produce\",code=\"too_large\"} 2",
            "millstream_log_bytes{topic=\"t\"} 14",
            "millstream_core_busy_ratio{core=\"0\"} 0.5",
            "millstream_mesh_depth{core=\"1\"} 9",
            "millstream_quic_connections{core=\"0\"} 5",
            "millstream_kafka_connections{core=\"1\"} 3",
            "millstream_kafka_requests_total{api=\"Fetch\"} 4",
            "millstream_kafka_client_errors_total{reason=\"tls\"} 2",
            "millstream_requests_forwarded_total{core=\"1\"} 8",
            "millstream_fsync_seconds_count{core=\"0\"} 0",
            "millstream_append_seconds_count{core=\"0\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_family_is_declared_once_and_has_a_proper_name() {
        let text = render(&NodeFacts::default(), &stats());
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(seen.insert(name), "{name} is declared twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(name.starts_with("millstream_") || name.starts_with("process_"), "{name}");
        }
    }
}
