//! `millstream topic`.

use engine_api::{AlterTopic, CreateTopic, Place, TopicDescription};
use millstream_client::Admin;
use serde_json::{Value, json};
use storage_frame::Offset;

use crate::args::{Format, TopicAlterArgs, TopicCommand, TopicCreateArgs};
use crate::failure::Failure;
use crate::output::{print, table};

/// Partitions of one topic whose ends are asked for; a page with more is not for reading.
const ENDS_MAX: usize = 1000;

/// Where a partition's records begin and end.
type Ends = Vec<(Offset, Offset)>;

pub(crate) async fn run(admin: &Admin, command: TopicCommand, format: Format) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(args) => create(admin, args, format).await,
        TopicCommand::List => list(admin, format).await,
        TopicCommand::Describe(args) => describe(admin, &args.name, format).await,
        TopicCommand::Alter(args) => alter(admin, args, format).await,
        TopicCommand::Delete(args) => {
            admin.delete_topic(&args.name).await?;
            let name = &args.name;
            print(format, || format!("deleted {name}\n"), || json!({"name": name, "deleted": true}))
        }
    }
}

async fn create(admin: &Admin, args: TopicCreateArgs, format: Format) -> Result<(), Failure> {
    let TopicCreateArgs { name, partitions, replicas, configs } = args;
    let topic = admin.create_topic(CreateTopic { name, partitions, replicas, configs }).await?;
    print(format, || changed("created", &topic), || topic_json(&topic, &[]))
}

async fn alter(admin: &Admin, args: TopicAlterArgs, format: Format) -> Result<(), Failure> {
    let set = args.configs.into_iter().map(|(key, value)| (key, Some(value)));
    let configs = set.chain(args.delete_configs.into_iter().map(|key| (key, None))).collect();
    let asked = AlterTopic { name: args.name, partitions: args.partitions, configs, based_on: None };
    let topic = admin.alter_topic(asked).await?;
    print(format, || changed("altered", &topic), || topic_json(&topic, &[]))
}

async fn list(admin: &Admin, format: Format) -> Result<(), Failure> {
    let mut topics = admin.list_topics().await?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let text = || {
        let row = |topic: &TopicDescription| {
            vec![topic.name.clone(), topic.partitions.len().to_string(), topic.replicas.to_string()]
        };
        table(&["NAME", "PARTITIONS", "REPLICAS"], &topics.iter().map(row).collect::<Vec<_>>())
    };
    print(format, text, || topics.iter().map(|topic| topic_json(topic, &[])).collect())
}

async fn describe(admin: &Admin, name: &str, format: Format) -> Result<(), Failure> {
    let topic = admin.describe_topic(name).await?;
    let ends = ends(admin, &topic).await?;
    print(format, || topic_text(&topic, &ends), || topic_json(&topic, &ends))
}

async fn ends(admin: &Admin, topic: &TopicDescription) -> Result<Ends, Failure> {
    let mut ends = Ends::new();
    for partition in topic.partitions.iter().take(ENDS_MAX) {
        let found = admin.find_offset(&topic.name, partition.index, Place::End).await?;
        ends.push((found.log_start, found.high_watermark));
    }
    Ok(ends)
}

fn changed(what: &str, topic: &TopicDescription) -> String {
    format!("{what} {}: {} partitions, id {}\n", topic.name, topic.partitions.len(), topic.id)
}

fn topic_text(topic: &TopicDescription, ends: &[(Offset, Offset)]) -> String {
    let mut text = format!("{}  id {}  replicas {}\n\n", topic.name, topic.id, topic.replicas);
    let nodes = |nodes: &[engine_api::NodeId]| {
        nodes.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(",")
    };
    let row = |(index, partition): (usize, &engine_api::PartitionDescription)| {
        let (start, end) =
            ends.get(index).map_or(("-".into(), "-".into()), |(a, b)| (a.to_string(), b.to_string()));
        vec![
            partition.index.to_string(),
            partition.leader.0.to_string(),
            partition.leader_epoch.to_string(),
            partition.core.0.to_string(),
            nodes(&partition.replicas),
            nodes(&partition.in_sync),
            start,
            end,
            partition.log.to_string(),
        ]
    };
    let head = ["PARTITION", "LEADER", "EPOCH", "CORE", "REPLICAS", "IN-SYNC", "START", "END", "LOG"];
    let rows: Vec<_> = topic.partitions.iter().enumerate().map(row).collect();
    text.push_str(&table(&head, &rows));
    text.push('\n');
    let row = |config: &engine_api::ConfigEntry| {
        let origin = if config.is_default { "default" } else { "topic" };
        vec![config.key.clone(), config.value.clone(), origin.to_owned()]
    };
    text.push_str(&table(&["CONFIG", "VALUE", "FROM"], &topic.configs.iter().map(row).collect::<Vec<_>>()));
    text
}

/// Without `ends` the partitions' offsets are left out.
fn topic_json(topic: &TopicDescription, ends: &[(Offset, Offset)]) -> Value {
    let nodes = |nodes: &[engine_api::NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let partition = |(index, partition): (usize, &engine_api::PartitionDescription)| {
        let mut value = json!({
            "partition": partition.index,
            "leader": partition.leader.0,
            "leader_epoch": partition.leader_epoch.0,
            "core": partition.core.0,
            "replicas": nodes(&partition.replicas),
            "in_sync": nodes(&partition.in_sync),
            "log": partition.log.to_string(),
        });
        if let Some((start, end)) = ends.get(index) {
            value["start"] = json!(start.0);
            value["end"] = json!(end.0);
        }
        value
    };
    let config = |config: &engine_api::ConfigEntry| json!({"key": config.key, "value": config.value, "default": config.is_default});
    json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "replicas": topic.replicas,
        "partitions": topic.partitions.iter().enumerate().map(partition).collect::<Vec<_>>(),
        "configs": topic.configs.iter().map(config).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use engine_api::{ConfigEntry, CoreId, NodeId, PartitionDescription, TopicId};
    use storage_frame::{LeaderEpoch, LogId};

    use super::*;

    fn topic() -> TopicDescription {
        TopicDescription {
            name: "orders".to_owned(),
            id: TopicId(0xab),
            replicas: 1,
            partitions: vec![PartitionDescription {
                index: 0,
                leader: NodeId(1),
                leader_epoch: LeaderEpoch(3),
                core: CoreId(1),
                replicas: vec![NodeId(1)],
                in_sync: vec![NodeId(1)],
                log: LogId(7),
            }],
            configs: vec![ConfigEntry {
                key: "flush.ms".to_owned(),
                value: "100".to_owned(),
                is_default: true,
            }],
        }
    }

    #[test]
    fn a_topic_is_described_in_two_tables() {
        let expected = "orders  id 000000000000000000000000000000ab  replicas 1\n\n\
            PARTITION  LEADER  EPOCH  CORE  REPLICAS  IN-SYNC  START  END  LOG\n\
            0          1       3      1     1         1        2      9    0000000000000007\n\n\
            CONFIG    VALUE  FROM\nflush.ms  100    default\n";
        assert_eq!(topic_text(&topic(), &[(Offset(2), Offset(9))]), expected);
    }

    #[test]
    fn as_json_it_has_its_id_and_where_known_its_ends() {
        let value = topic_json(&topic(), &[(Offset(2), Offset(9))]);
        assert_eq!(value["id"], "000000000000000000000000000000ab");
        assert_eq!(value["partitions"][0]["end"], 9);
        assert!(topic_json(&topic(), &[])["partitions"][0].get("end").is_none());
    }
}
