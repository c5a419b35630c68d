//! The page of `/metrics/kafka`: what is known here under the names of `kafka_exporter`, so that dashboards and alerts
//! made for it go on working.
//!
//! A line for each partition, and for each offset that is committed: as long as the node is large, and gathered only
//! for who asks.
//!
//! Does not know: where the numbers come from, HTTP.

use std::collections::BTreeMap;

use engine_shard::{GroupOffsets, PartitionEnds};
use storage_frame::Offset;

use crate::exposition::Page;

/// One node leads every partition and is its only replica.
pub(crate) fn render(
    node: u32,
    address: &str,
    partitions: &[PartitionEnds],
    groups: &[GroupOffsets],
) -> String {
    let mut page = Page::default();
    page.gauge("kafka_brokers", "Brokers of the cluster.").sample(&[], 1);
    page.gauge("kafka_broker_info", "1, with the address of a broker.")
        .sample(&[("id", &node.to_string()), ("address", address)], 1);
    topics(&mut page, node, partitions);
    consumer_groups(&mut page, partitions, groups);
    page.into_text()
}

/// A group in a topic's partitions that it has committed for.
struct InTopic<'a> {
    group: &'a str,
    topic: &'a str,
    /// Partition, offset, lag.
    partitions: Vec<(u32, u64, u64)>,
}

fn consumer_groups(page: &mut Page, partitions: &[PartitionEnds], groups: &[GroupOffsets]) {
    let ends: BTreeMap<(&str, u32), Offset> =
        partitions.iter().map(|at| ((at.topic.as_str(), at.index), at.end)).collect();
    let mut all: Vec<InTopic<'_>> = Vec::new();
    for group in groups {
        let mut of_group: BTreeMap<&str, Vec<(u32, u64, u64)>> = BTreeMap::new();
        for (topic, index, offset) in &group.committed {
            let Some(end) = ends.get(&(topic.as_str(), *index)) else { continue };
            let lag = end.0.saturating_sub(offset.0);
            of_group.entry(topic).or_default().push((*index, offset.0, lag));
        }
        let in_topic = |(topic, partitions)| InTopic { group: &group.group, topic, partitions };
        all.extend(of_group.into_iter().map(in_topic));
    }
    let mut family = |name, sum_name, help: &str, of: fn(&(u32, u64, u64)) -> u64| {
        page.gauge(name, help);
        for at in &all {
            for partition in &at.partitions {
                let index = partition.0.to_string();
                let labels = [("consumergroup", at.group), ("topic", at.topic), ("partition", &index)];
                page.sample(&labels, of(partition));
            }
        }
        page.gauge(sum_name, help);
        for at in &all {
            let sum = at.partitions.iter().map(of).fold(0, u64::saturating_add);
            page.sample(&[("consumergroup", at.group), ("topic", at.topic)], sum);
        }
    };
    family(
        "kafka_consumergroup_current_offset",
        "kafka_consumergroup_current_offset_sum",
        "What a group has committed.",
        |at| at.1,
    );
    family(
        "kafka_consumergroup_lag",
        "kafka_consumergroup_lag_sum",
        "Records behind what a group has committed.",
        |at| at.2,
    );
    page.gauge("kafka_consumergroup_members", "Members of a group.");
    for group in groups {
        page.sample(&[("consumergroup", &group.group)], group.members);
    }
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
    use super::*;

    #[test]
    fn partitions_have_the_exporter_s_names_and_labels() {
        let ends =
            |index, end| PartitionEnds { topic: "t".to_owned(), index, start: Offset(3), end: Offset(end) };
        let text = render(7, "a:9092", &[ends(0, 10), ends(1, 20)], &[]);
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

    #[test]
    fn groups_have_their_offsets_lags_and_members_by_partition_and_topic() {
        let ends =
            |index, end| PartitionEnds { topic: "t".to_owned(), index, start: Offset(0), end: Offset(end) };
        let at = |topic: &str, partition, offset| (topic.to_owned(), partition, Offset(offset));
        let groups = [
            GroupOffsets {
                group: "g".to_owned(),
                members: 2,
                // Committed between the two looks, and a topic that is gone.
                committed: vec![at("gone", 0, 5), at("t", 0, 7), at("t", 1, 21)],
            },
            GroupOffsets { group: "h".to_owned(), members: 0, committed: Vec::new() },
        ];
        let text = render(7, "a:9092", &[ends(0, 10), ends(1, 20)], &groups);
        let of_groups: Vec<&str> =
            text.lines().filter(|line| line.starts_with("kafka_consumergroup")).collect();
        let expected = [
            "kafka_consumergroup_current_offset{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 7",
            "kafka_consumergroup_current_offset{consumergroup=\"g\",topic=\"t\",partition=\"1\"} 21",
            "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"} 28",
            "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 3",
            "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"1\"} 0",
            "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 3",
            "kafka_consumergroup_members{consumergroup=\"g\"} 2",
            "kafka_consumergroup_members{consumergroup=\"h\"} 0",
        ];
        assert_eq!(of_groups, expected);
    }
}
