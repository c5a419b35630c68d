//! `millstream cluster`.

use engine_api::{ClusterDescription, NodeDescription, TroubledPartition};
use millstream_client::Admin;
use serde_json::{Value, json};

use crate::args::{ClusterCommand, Format};
use crate::failure::Failure;
use crate::output::{print, table};

pub(crate) async fn run(admin: &Admin, command: ClusterCommand, format: Format) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => {
            let cluster = admin.describe_cluster().await?;
            print(format, || text(&cluster), || to_json(&cluster))
        }
    }
}

fn text(cluster: &ClusterDescription) -> String {
    let mut text = format!(
        "cluster {:032x}  version {}  topics {}  partitions {}  in trouble {}\n\n",
        cluster.cluster_id,
        cluster.version,
        cluster.topics_count,
        cluster.partitions_count,
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

fn to_json(cluster: &ClusterDescription) -> Value {
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
        "nodes": cluster.nodes.iter().map(node).collect::<Vec<_>>(),
        "troubled": cluster.troubled.iter().map(troubled).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use engine_api::NodeId;
    use storage_frame::Offset;

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
            text(&cluster).ends_with("NODE  ADDRESS  CORES  LEADS  STARTS\n1     a:9092   2      4      3\n")
        );
        let why = "disk failed".to_owned();
        cluster.troubled.push(TroubledPartition { topic: "t".to_owned(), index: 2, end: Offset(7), why });
        assert!(
            text(&cluster).ends_with("TOPIC  PARTITION  END  TROUBLE\nt      2          7    disk failed\n")
        );
        assert_eq!(to_json(&cluster)["troubled"][0]["partition"], 2);
    }
}
