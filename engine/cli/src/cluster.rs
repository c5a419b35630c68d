//! `millstream cluster`.

use std::collections::BTreeMap;

use engine_api::{
    ClusterDescription, NodeDescription, PartitionDescription, TopicDescription, TroubledPartition,
};
use millstream_client::Admin;
use serde_json::{Value, json};

use crate::args::{ClusterCommand, Format};
use crate::failure::Failure;
use crate::output::{print, table};

pub(crate) async fn run(admin: &Admin, command: ClusterCommand, format: Format) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => {
            let cluster = admin.describe_cluster().await?;
            let mut topics = admin.list_topics().await?;
            topics.sort_by(|a, b| a.name.cmp(&b.name));
            print(format, || text(&cluster, &topics), || to_json(&cluster, &topics))
        }
    }
}

/// Some replica of it has not all of its records.
fn is_under_replicated(partition: &PartitionDescription) -> bool {
    partition.in_sync.len() < partition.replicas.len()
}

fn under_replicated(topic: &TopicDescription) -> usize {
    topic.partitions.iter().filter(|partition| is_under_replicated(partition)).count()
}

/// `node:partitions` for each node that leads some of the topic.
fn leaders(topic: &TopicDescription) -> String {
    let mut led = BTreeMap::new();
    for partition in &topic.partitions {
        *led.entry(partition.leader.0).or_insert(0) += 1;
    }
    led.iter().map(|(node, count)| format!("{node}:{count}")).collect::<Vec<_>>().join(" ")
}

fn text(cluster: &ClusterDescription, topics: &[TopicDescription]) -> String {
    let mut text = format!(
        "cluster {:032x}  version {}  topics {}  partitions {}  under-replicated {}  in trouble {}\n\n",
        cluster.cluster_id,
        cluster.version,
        cluster.topics_count,
        cluster.partitions_count,
        topics.iter().map(under_replicated).sum::<usize>(),
        cluster.troubled.len()
    );
    let row = |node: &NodeDescription| {
        vec![
            node.id.0.to_string(),
            node.address.clone(),
            node.cores.to_string(),
            node.partitions_led.to_string(),
            node.incarnation.to_string(),
        ]
    };
    let rows: Vec<_> = cluster.nodes.iter().map(row).collect();
    text.push_str(&table(&["NODE", "ADDRESS", "CORES", "LEADS", "STARTS"], &rows));
    if !topics.is_empty() {
        let row = |topic: &TopicDescription| {
            let (all, under) = (topic.partitions.len(), under_replicated(topic));
            vec![topic.name.clone(), all.to_string(), leaders(topic), format!("{}/{all}", all - under)]
        };
        let rows: Vec<_> = topics.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["TOPIC", "PARTITIONS", "LEADERS", "IN-SYNC"], &rows));
    }
    if !cluster.troubled.is_empty() {
        let row = |one: &TroubledPartition| {
            vec![one.topic.clone(), one.index.to_string(), one.end.to_string(), one.why.clone()]
        };
        let rows: Vec<_> = cluster.troubled.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["TOPIC", "PARTITION", "END", "TROUBLE"], &rows));
    }
    text
}

fn to_json(cluster: &ClusterDescription, topics: &[TopicDescription]) -> Value {
    let node = |node: &NodeDescription| {
        json!({
            "id": node.id.0,
            "address": node.address,
            "cores": node.cores,
            "partitions_led": node.partitions_led,
            "incarnation": node.incarnation,
        })
    };
    let troubled = |one: &TroubledPartition| json!({"topic": one.topic, "partition": one.index, "end": one.end.0, "why": one.why});
    json!({
        "cluster_id": format!("{:032x}", cluster.cluster_id),
        "version": cluster.version,
        "topics": cluster.topics_count,
        "partitions": cluster.partitions_count,
        "under_replicated": topics.iter().map(under_replicated).sum::<usize>(),
        "leadership": topics.iter().flat_map(|topic| topic.partitions.iter().map(|one| led(topic, one))).collect::<Vec<_>>(),
        "nodes": cluster.nodes.iter().map(node).collect::<Vec<_>>(),
        "troubled": cluster.troubled.iter().map(troubled).collect::<Vec<_>>(),
    })
}

fn led(topic: &TopicDescription, partition: &PartitionDescription) -> Value {
    json!({
        "topic": topic.name,
        "partition": partition.index,
        "leader": partition.leader.0,
        "in_sync": partition.in_sync.iter().map(|node| node.0).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use engine_api::{CoreId, NodeId, TopicId};
    use storage_frame::{LeaderEpoch, LogId, Offset};

    use super::*;

    #[test]
    fn trouble_is_shown_when_there_is_some() {
        let mut cluster = ClusterDescription {
            cluster_id: 1,
            version: "0.1.0".to_owned(),
            nodes: vec![NodeDescription {
                id: NodeId(1),
                address: "a:9092".to_owned(),
                cores: 2,
                partitions_led: 4,
                incarnation: 3,
            }],
            topics_count: 1,
            partitions_count: 4,
            troubled: Vec::new(),
        };
        assert!(
            text(&cluster, &[])
                .ends_with("NODE  ADDRESS  CORES  LEADS  STARTS\n1     a:9092   2      4      3\n")
        );
        let why = "disk failed".to_owned();
        cluster.troubled.push(TroubledPartition { topic: "t".to_owned(), index: 2, end: Offset(7), why });
        assert!(
            text(&cluster, &[])
                .ends_with("TOPIC  PARTITION  END  TROUBLE\nt      2          7    disk failed\n")
        );
        assert_eq!(to_json(&cluster, &[])["troubled"][0]["partition"], 2);
    }

    #[test]
    fn a_replica_that_is_not_in_sync_is_counted() {
        let partition = |index, in_sync: Vec<NodeId>| PartitionDescription {
            index,
            leader: NodeId(1 + index % 2),
            leader_epoch: LeaderEpoch(1),
            core: CoreId(0),
            replicas: vec![NodeId(1), NodeId(2)],
            in_sync,
            log: LogId(7),
        };
        let both = vec![NodeId(1), NodeId(2)];
        let topic = TopicDescription {
            name: "t".to_owned(),
            id: TopicId(1),
            replicas: 2,
            partitions: vec![partition(0, both.clone()), partition(1, vec![NodeId(2)]), partition(2, both)],
            configs: Vec::new(),
        };
        assert_eq!((under_replicated(&topic), leaders(&topic)), (1, "1:2 2:1".to_owned()));
        assert_eq!(led(&topic, &topic.partitions[1])["in_sync"], json!([2]));
    }
}
