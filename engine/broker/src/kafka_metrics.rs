//! The page of `/metrics/kafka`: what is known here under the names of `kafka_exporter`, so that dashboards and alerts
//! made for it go on working.
//!
//! A line for each partition: as long as the node is large, and gathered only for who asks. Left out is what nobody
//! here knows without asking: a group's offsets and members by partition.
//!
//! Does not know: where the numbers come from, HTTP.

use std::collections::BTreeMap;

use engine_core::NodeStats;
use engine_shard::PartitionEnds;

use crate::exposition::Page;

/// One node leads every partition and is its only replica.
pub(crate) fn render(node: u32, address: &str, stats: &NodeStats, partitions: &[PartitionEnds]) -> String {
    let mut page = Page::default();
    page.gauge("kafka_brokers", "Brokers of the cluster.").sample(&[], 1);
    page.gauge("kafka_broker_info", "1, with the address of a broker.")
        .sample(&[("id", &node.to_string()), ("address", address)], 1);
    topics(&mut page, node, partitions);
    page.gauge("kafka_consumergroup_lag_sum", "Records behind what a group has committed, as last measured.");
    for lag in stats.cores.iter().flat_map(|core| &core.shard.groups.lags) {
        page.sample(&[("consumergroup", &lag.group), ("topic", &lag.topic)], lag.records);
    }
    page.into_text()
}

fn topics(page: &mut Page, node: u32, partitions: &[PartitionEnds]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in partitions {
        *counts.entry(&partition.topic).or_default() += 1;
    }
    page.gauge("kafka_topic_partitions", "Partitions of a topic.");
    for (topic, count) in counts {
        page.sample(&[("topic", topic)], count);
    }
    let mut family = |name, help: &str, of: &dyn Fn(&PartitionEnds) -> u64| {
        page.gauge(name, help);
        for partition in partitions {
            let labels = [("topic", partition.topic.as_str()), ("partition", &partition.index.to_string())];
            page.sample(&labels, of(partition));
        }
    };
    family("kafka_topic_partition_current_offset", "One past the last record.", &|p| p.end.0);
    family("kafka_topic_partition_oldest_offset", "The first record.", &|p| p.start.0);
    family("kafka_topic_partition_leader", "The broker that leads.", &|_| u64::from(node));
    family("kafka_topic_partition_leader_is_preferred", "1: it is the first replica.", &|_| 1);
    family("kafka_topic_partition_replicas", "Replicas.", &|_| 1);
    family("kafka_topic_partition_in_sync_replica", "Replicas in sync.", &|_| 1);
    family("kafka_topic_partition_under_replicated_partition", "1: replicas are missing.", &|_| 0);
}

#[cfg(test)]
mod tests {
    use storage_frame::Offset;

    use super::*;

    #[test]
    fn partitions_have_the_exporter_s_names_and_labels() {
        let ends =
            |index, end| PartitionEnds { topic: "t".to_owned(), index, start: Offset(3), end: Offset(end) };
        let text = render(7, "a:9092", &NodeStats::default(), &[ends(0, 10), ends(1, 20)]);
        for line in [
            "kafka_brokers 1",
            "kafka_broker_info{id=\"7\",address=\"a:9092\"} 1",
            "kafka_topic_partitions{topic=\"t\"} 2",
            "kafka_topic_partition_current_offset{topic=\"t\",partition=\"1\"} 20",
            "kafka_topic_partition_oldest_offset{topic=\"t\",partition=\"0\"} 3",
            "kafka_topic_partition_leader{topic=\"t\",partition=\"0\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
