//! `kafka-topics`: create, list, describe, alter, delete.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use regex::Regex;

use super::cluster::{Cluster, text, topic_name};
use super::configs::{self, DEFAULT_CONFIG, TOPIC};
use super::fault::Fault;
use super::properties;

const CREATE_PARTITIONS_VERSION: i16 = 3;
const CREATE_TOPICS_VERSION: i16 = 7;
/// The last one that takes names alone.
const DELETE_TOPICS_VERSION: i16 = 5;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Create, delete, describe, or change a topic.
#[derive(Debug, Parser)]
#[command(name = "kafka-topics", version, infer_long_args = true)]
#[command(group(ArgGroup::new("action").required(true).args(["create", "list", "describe", "alter", "delete"])))]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, value_name = "server to connect to")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "command config property file")]
    command_config: Option<PathBuf>,
    /// Create a new topic
    #[arg(long)]
    create: bool,
    /// List all available topics
    #[arg(long)]
    list: bool,
    /// List details for the given topics
    #[arg(long)]
    describe: bool,
    /// Alter the number of partitions
    #[arg(long)]
    alter: bool,
    /// Delete a topic
    #[arg(long)]
    delete: bool,
    /// The topic; a regular expression but for --create
    #[arg(long)]
    topic: Option<String>,
    /// The topic's id, for --describe
    #[arg(long, value_name = "topic-id")]
    topic_id: Option<String>,
    /// Partitions of the topic being created or altered
    #[arg(long, value_name = "# of partitions")]
    partitions: Option<i32>,
    /// Replicas of each partition of the topic being created
    #[arg(long, value_name = "replication factor")]
    replication_factor: Option<i16>,
    /// Which brokers each partition's replicas are on: id:id,id:id
    #[arg(long, value_name = "broker_id_for_part1_replica1:...", conflicts_with = "replication_factor")]
    replica_assignment: Option<String>,
    /// A topic config of the topic being created: name=value
    #[arg(long, value_name = "name=value")]
    config: Vec<String>,
    /// Only what exists is described, altered or deleted, and nothing is said of the rest
    #[arg(long)]
    if_exists: bool,
    /// A topic that exists already is not an error
    #[arg(long)]
    if_not_exists: bool,
    /// Leave internal topics out
    #[arg(long)]
    exclude_internal: bool,
    /// Only partitions with replicas out of sync
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only partitions without a leader
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than there must be
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only partitions with as many replicas in sync as there must be
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Only topics with configs of their own
    #[arg(long)]
    topics_with_overrides: bool,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| {
        println!("Error while executing topic command : {fault}");
        eprintln!(
            "ERROR org.apache.kafka.common.errors.{}: {fault}\n (org.apache.kafka.tools.TopicCommand)",
            fault.exception()
        );
    })
}

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let mut cluster = Cluster::connect(&args.bootstrap_server, TIMEOUT)?;
    if args.create {
        create(&mut cluster, args)
    } else if args.list {
        list(&mut cluster, args)
    } else if args.describe {
        describe(&mut cluster, args)
    } else if args.alter {
        alter(&mut cluster, args)
    } else {
        delete(&mut cluster, args)
    }
}

fn required(args: &Args) -> Result<&str, Fault> {
    let missing = || Fault::Usage("Missing required argument \"[topic]\"".to_owned());
    args.topic.as_deref().ok_or_else(missing)
}

fn create(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    let name = required(args)?;
    if name.contains(['.', '_']) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both."
        );
    }
    check_counts(args)?;
    let configs = args.config.iter().map(|config| {
        let (key, value) = properties::pair(config)?;
        Ok(CreatableTopicConfig::default().with_name(text(&key)).with_value(Some(text(&value))))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_configs(configs.collect::<Result<Vec<_>, Fault>>()?);
    let topic = match &args.replica_assignment {
        Some(assignment) => topic
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(replica_assignment(assignment)?),
        None => topic
            .with_num_partitions(args.partitions.unwrap_or(-1))
            .with_replication_factor(args.replication_factor.unwrap_or(-1)),
    };
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT.as_millis() as i32);
    let answer = cluster.ask_controller(CREATE_TOPICS_VERSION, &request)?;
    let created = answer.topics.first().ok_or_else(|| Fault::refused(-1, None))?;
    match Fault::check(created.error_code, created.error_message.as_deref()) {
        Err(Fault::Refused { code: 36, .. }) if args.if_not_exists => Ok(()),
        // As Kafka words it: scripts look for it.
        Err(Fault::Refused { code: 36, .. }) => {
            Err(Fault::refused(36, Some(&format!("Topic '{name}' already exists."))))
        }
        Err(fault) => Err(fault),
        Ok(()) => Ok(writeln!(std::io::stdout(), "Created topic {name}.")?),
    }
}

fn check_counts(args: &Args) -> Result<(), Fault> {
    if args.replication_factor.is_some_and(|count| count < 1) {
        let why = format!("The replication factor must be between 1 and {} inclusive", i16::MAX);
        return Err(Fault::Usage(why));
    }
    if args.partitions.is_some_and(|count| count < 1) {
        return Err(Fault::Usage("The partitions must be greater than 0".to_owned()));
    }
    Ok(())
}

fn replica_assignment(text: &str) -> Result<Vec<CreatableReplicaAssignment>, Fault> {
    let wrong = || Fault::Usage(format!("Invalid replica assignment '{text}'"));
    let partition = |(index, ids): (usize, &str)| {
        let ids = ids.split(':').map(|id| id.trim().parse().map(BrokerId).map_err(|_| wrong()));
        Ok(CreatableReplicaAssignment::default()
            .with_partition_index(index as i32)
            .with_broker_ids(ids.collect::<Result<_, Fault>>()?))
    };
    text.split(',').enumerate().map(partition).collect()
}

/// Whether a topic is meant by `--topic`: a list of regular expressions, as Kafka has it.
pub(super) fn pattern(topic: &str) -> Result<Regex, Fault> {
    let pattern = topic.trim().replace(',', "|").replace(' ', "");
    Regex::new(&format!("^(?:{pattern})$")).map_err(|_| Fault::Usage(format!("{topic} is an invalid regex.")))
}

/// The topics that are meant; none is an error unless `--if-exists` says otherwise.
fn meant(cluster: &mut Cluster, args: &Args) -> Result<Vec<MetadataResponseTopic>, Fault> {
    let mut topics = cluster.topics()?;
    if let Some(id) = &args.topic_id {
        topics.retain(|topic| id_text(topic.topic_id.into_bytes()) == *id);
        if topics.is_empty() && !args.if_exists {
            return Err(Fault::Usage(format!("TopicId '{id}' does not exist as expected")));
        }
        return Ok(topics);
    }
    if let Some(topic) = &args.topic {
        let pattern = pattern(topic)?;
        topics.retain(|found| pattern.is_match(&name(found)));
        if topics.is_empty() && !args.if_exists && !args.list {
            return Err(Fault::Usage(format!("Topic '{topic}' does not exist as expected")));
        }
    }
    topics.retain(|topic| !(args.exclude_internal && topic.is_internal));
    Ok(topics)
}

fn name(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map_or_else(String::new, |name| name.to_string())
}

fn list(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    let mut names: Vec<String> = meant(cluster, args)?.iter().map(name).collect();
    names.sort();
    // An empty line where there are none, as Kafka prints it.
    Ok(writeln!(std::io::stdout(), "{}", names.join("\n"))?)
}

fn describe(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    let topics = meant(cluster, args)?;
    let is_narrowed = args.under_replicated_partitions
        || args.unavailable_partitions
        || args.under_min_isr_partitions
        || args.at_min_isr_partitions;
    let mut out = std::io::stdout().lock();
    for topic in topics {
        let name = name(&topic);
        let entries = configs::describe(cluster, TOPIC, &name, false)?;
        let own: Vec<String> = entries
            .iter()
            .filter(|entry| entry.config_source != DEFAULT_CONFIG)
            .map(|entry| format!("{}={}", entry.name.as_str(), entry.value.as_deref().unwrap_or("null")))
            .collect();
        let in_sync_min = entries
            .iter()
            .find(|entry| entry.name.as_str() == "min.insync.replicas")
            .and_then(|entry| entry.value.as_deref()?.parse().ok())
            .unwrap_or(1);
        let is_plain = args.topics_with_overrides && own.is_empty();
        if !(is_narrowed || is_plain) {
            writeln!(out, "{}", topic_line(&topic, &own))?;
        }
        if args.topics_with_overrides {
            continue;
        }
        let mut partitions = topic.partitions.clone();
        partitions.sort_by_key(|partition| partition.partition_index);
        for partition in &partitions {
            if !is_narrowed || is_in_trouble(args, partition, in_sync_min) {
                writeln!(out, "{}", partition_line(&name, partition))?;
            }
        }
    }
    Ok(())
}

fn is_in_trouble(args: &Args, partition: &MetadataResponsePartition, in_sync_min: usize) -> bool {
    let in_sync = partition.isr_nodes.len();
    (args.under_replicated_partitions && in_sync < partition.replica_nodes.len())
        || (args.unavailable_partitions && partition.leader_id.0 < 0)
        || (args.under_min_isr_partitions && in_sync < in_sync_min)
        || (args.at_min_isr_partitions && in_sync == in_sync_min)
}

fn topic_line(topic: &MetadataResponseTopic, configs: &[String]) -> String {
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len());
    let id = topic.topic_id;
    let id = if id.is_nil() { String::new() } else { format!("\tTopicId: {}", id_text(id.into_bytes())) };
    format!(
        "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {replicas}\tConfigs: {}",
        name(topic),
        topic.partitions.len(),
        configs.join(",")
    )
}

fn partition_line(topic: &str, partition: &MetadataResponsePartition) -> String {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
    let leader = match partition.leader_id.0 {
        none if none < 0 => "none".to_owned(),
        leader => leader.to_string(),
    };
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: \tLastKnownElr: ",
        partition.partition_index,
        ids(&partition.replica_nodes),
        ids(&partition.isr_nodes)
    )
}

/// As Kafka prints ids: base64 for addresses, without padding.
fn id_text(id: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = u128::from_be_bytes(id);
    // 128 bits are 21 digits of six and one of two, filled up on the right.
    let digit = |place: u32| match 122u32.checked_sub(place * 6) {
        Some(shift) => (id >> shift) & 63,
        None => (id << 4) & 63,
    };
    (0..22).map(|place| DIGITS[digit(place) as usize] as char).collect()
}

fn alter(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    required(args)?;
    let missing = || Fault::Usage("Missing required argument \"[partitions]\"".to_owned());
    let count = args.partitions.ok_or_else(missing)?;
    let topics = meant(cluster, args)?;
    let topic = |topic: &MetadataResponseTopic| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(&name(topic)))
            .with_count(count)
            .with_assignments(None)
    };
    let request = CreatePartitionsRequest::default()
        .with_topics(topics.iter().map(topic).collect())
        .with_timeout_ms(TIMEOUT.as_millis() as i32);
    let answer = cluster.ask_controller(CREATE_PARTITIONS_VERSION, &request)?;
    let mut results = answer.results.iter();
    results.try_for_each(|result| Fault::check(result.error_code, result.error_message.as_deref()))
}

fn delete(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    required(args)?;
    let names = meant(cluster, args)?.iter().map(|topic| topic_name(&name(topic))).collect();
    let request =
        DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(TIMEOUT.as_millis() as i32);
    let answer = cluster.ask_controller(DELETE_TOPICS_VERSION, &request)?;
    let mut results = answer.responses.iter();
    results.try_for_each(|result| Fault::check(result.error_code, result.error_message.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_described_column_by_column() {
        let partition = MetadataResponsePartition::default()
            .with_leader_id(BrokerId(1))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)]);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("chat")))
            .with_partitions(vec![partition.clone()]);
        assert_eq!(
            topic_line(&topic, &["cleanup.policy=compact".to_owned()]),
            "Topic: chat\tPartitionCount: 1\tReplicationFactor: 2\t\
             Configs: cleanup.policy=compact"
        );
        assert_eq!(
            partition_line("chat", &partition),
            "\tTopic: chat\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1\tElr: \tLastKnownElr: "
        );
    }

    #[test]
    fn ids_are_printed_as_kafka_prints_them() {
        assert_eq!(id_text(*b"0123456789abcdef"), "MDEyMzQ1Njc4OWFiY2RlZg");
        assert_eq!(id_text([0xff; 16]), "_____________________w");
    }

    #[test]
    fn topic_patterns_match_whole_names() {
        let matches = |of: &str, name: &str| pattern(of).unwrap().is_match(name);
        assert!(matches("chat", "chat") && !matches("chat", "chats"));
        assert!(matches("chat.*, words", "chats") && matches("chat.*, words", "words"));
        assert!(pattern("(").is_err());
    }
}
