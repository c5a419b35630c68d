//! `kafka-configs`: what topics and brokers are set to.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult as Entry;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::cluster::{Cluster, text};
use super::fault::Fault;
use super::properties;

const ALTER_VERSION: i16 = 1;
const DESCRIBE_VERSION: i16 = 4;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Resource types.
pub(super) const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Where a value comes from.
pub(super) const DEFAULT_CONFIG: i8 = 5;
const SOURCES: [&str; 9] = [
    "UNKNOWN",
    "DYNAMIC_TOPIC_CONFIG",
    "DYNAMIC_BROKER_CONFIG",
    "DYNAMIC_DEFAULT_BROKER_CONFIG",
    "STATIC_BROKER_CONFIG",
    "DEFAULT_CONFIG",
    "DYNAMIC_BROKER_LOGGER_CONFIG",
    "DYNAMIC_CLIENT_METRICS_CONFIG",
    "DYNAMIC_GROUP_CONFIG",
];

/// Add, remove or describe configs of topics and brokers.
#[derive(Debug, Parser)]
#[command(name = "kafka-configs", version, infer_long_args = true)]
#[command(group(ArgGroup::new("action").required(true).args(["alter", "describe"])))]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, value_name = "server to connect to")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "command config property file")]
    command_config: Option<PathBuf>,
    /// Alter the entity's configs
    #[arg(long)]
    alter: bool,
    /// List the entity's configs
    #[arg(long)]
    describe: bool,
    /// List all configs, those at their default included
    #[arg(long)]
    all: bool,
    /// What kind of entity
    #[arg(long, value_name = "topics|brokers|groups")]
    entity_type: Option<EntityType>,
    /// Which one: a topic, a broker's id, a group
    #[arg(long)]
    entity_name: Option<String>,
    /// What all brokers have
    #[arg(long)]
    entity_default: bool,
    /// The topic's name
    #[arg(long)]
    topic: Option<String>,
    /// The broker's id
    #[arg(long)]
    broker: Option<String>,
    /// The group's id
    #[arg(long)]
    group: Option<String>,
    /// What all brokers have
    #[arg(long)]
    broker_defaults: bool,
    /// Configs to set: k1=v1,k2=[v1,v2]
    #[arg(long)]
    add_config: Option<String>,
    /// A property file of configs to set
    #[arg(long, conflicts_with = "add_config")]
    add_config_file: Option<PathBuf>,
    /// Configs to set back: k1,k2
    #[arg(long)]
    delete_config: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EntityType {
    Topics,
    Brokers,
    Groups,
    Clients,
    Users,
    Ips,
    ClientMetrics,
    BrokerLoggers,
}

/// What is looked at: of a kind, by name; the empty name is what all brokers have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entity {
    kind: i8,
    name: String,
}

impl Entity {
    fn word(&self) -> &'static str {
        match self.kind {
            TOPIC => "topic",
            BROKER => "broker",
            _ => "group",
        }
    }

    /// The source of what was set for it.
    fn own_source(&self) -> i8 {
        match self.kind {
            TOPIC => 1,
            BROKER if self.name.is_empty() => 3,
            BROKER => 2,
            _ => 8,
        }
    }
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = args[1..].iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| match fault {
        // What the tool itself finds wrong it says and nothing else.
        Fault::Usage(why) => eprintln!("{why}"),
        Fault::Refused { .. } | Fault::Connection(_) | Fault::Other(_) | Fault::ReaderLeft => {
            eprintln!("Error while executing config command with args '{}'", words.join(" "));
            let name = fault.exception();
            eprintln!(
                "java.util.concurrent.ExecutionException: org.apache.kafka.common.errors.{name}: {fault}"
            );
        }
    })
}

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let (kind, name) = entity(args)?;
    let mut cluster = Cluster::connect(&args.bootstrap_server, TIMEOUT)?;
    if args.alter {
        let needs_name = || {
            let of = match kind {
                TOPIC => "topics",
                BROKER => "brokers",
                _ => "groups",
            };
            Fault::Usage(format!("An entity name must be specified with --alter of {of}"))
        };
        return alter(&mut cluster, args, &Entity { kind, name: name.ok_or_else(needs_name)? });
    }
    let names = match (name, kind) {
        (Some(name), _) => vec![name],
        (None, TOPIC) => {
            let topics = cluster.topics()?;
            topics.into_iter().filter_map(|topic| topic.name.map(|name| name.to_string())).collect()
        }
        (None, BROKER) => {
            let ids = cluster.brokers().iter().map(|broker| broker.node_id.0.to_string());
            ids.chain([String::new()]).collect()
        }
        (None, _) => return Err(Fault::Usage("An entity name must be specified for groups".to_owned())),
    };
    for name in names {
        print(&mut cluster, args.all, &Entity { kind, name })?;
    }
    Ok(())
}

fn entity(args: &Args) -> Result<(i8, Option<String>), Fault> {
    let named = |name: &Option<String>, kind| name.clone().map(|name| (kind, Some(name)));
    let short = named(&args.topic, TOPIC).or(named(&args.broker, BROKER)).or(named(&args.group, GROUP));
    if let Some(short) = short {
        return Ok(short);
    }
    if args.broker_defaults {
        return Ok((BROKER, Some(String::new())));
    }
    let kind = match args.entity_type {
        Some(EntityType::Topics) => TOPIC,
        Some(EntityType::Brokers) => BROKER,
        Some(EntityType::Groups) => GROUP,
        Some(
            EntityType::Clients
            | EntityType::Users
            | EntityType::Ips
            | EntityType::ClientMetrics
            | EntityType::BrokerLoggers,
        ) => {
            return Err(Fault::Usage(
                "This broker has configs of topics, brokers and groups only".to_owned(),
            ));
        }
        None => {
            return Err(Fault::Usage(
                "At least one of --entity-type, --topic, --broker is required".to_owned(),
            ));
        }
    };
    let name = if args.entity_default { Some(String::new()) } else { args.entity_name.clone() };
    Ok((kind, name))
}

/// A resource's configs by name, all of them, with their synonyms where asked.
pub(super) fn describe(
    cluster: &mut Cluster,
    kind: i8,
    name: &str,
    synonyms: bool,
) -> Result<Vec<Entry>, Fault> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request =
        DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(synonyms);
    let mut answer = match (kind, name.parse()) {
        (BROKER, Ok(node)) => cluster.ask_node(node, DESCRIBE_VERSION, &request)?,
        _ => cluster.first().ask(DESCRIBE_VERSION, &request)?,
    };
    let result = answer.results.pop().ok_or_else(|| Fault::refused(-1, None))?;
    Fault::check(result.error_code, result.error_message.as_deref())?;
    let mut entries = result.configs;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn print(cluster: &mut Cluster, all: bool, entity: &Entity) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    let word = entity.word();
    match (all, entity.name.as_str()) {
        (_, "") => writeln!(out, "Default configs for {word}s in the cluster are:")?,
        (true, name) => writeln!(out, "All configs for {word} {name} are:")?,
        (false, name) => writeln!(out, "Dynamic configs for {word} {name} are:")?,
    }
    for entry in describe(cluster, entity.kind, &entity.name, true)? {
        if all || entry.config_source == entity.own_source() {
            writeln!(out, "  {}", line(&entry))?;
        }
    }
    Ok(())
}

fn line(entry: &Entry) -> String {
    let value = |value: Option<&str>| value.unwrap_or("null").to_owned();
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|synonym| {
            let source = SOURCES.get(usize::try_from(synonym.source).unwrap_or(0)).unwrap_or(&"UNKNOWN");
            format!("{source}:{}={}", synonym.name.as_str(), value(synonym.value.as_deref()))
        })
        .collect();
    let (name, value) = (entry.name.as_str(), value(entry.value.as_deref()));
    format!("{name}={value} sensitive={} synonyms={{{}}}", entry.is_sensitive, synonyms.join(", "))
}

fn alter(cluster: &mut Cluster, args: &Args, entity: &Entity) -> Result<(), Fault> {
    let set = match (&args.add_config, &args.add_config_file) {
        (Some(text), _) => pairs(text)?,
        (None, Some(path)) => properties::read(path)?,
        (None, None) => Vec::new(),
    };
    let delete: Vec<&str> = args
        .delete_config
        .as_deref()
        .map_or_else(Vec::new, |keys| keys.split(',').map(str::trim).filter(|key| !key.is_empty()).collect());
    if set.is_empty() && delete.is_empty() {
        return Err(Fault::Usage(
            "At least one of --add-config, --add-config-file, --delete-config is required".to_owned(),
        ));
    }
    if !delete.is_empty() {
        let now = describe(cluster, entity.kind, &entity.name, false)?;
        let is_set = |key: &&str| {
            now.iter().any(|entry| entry.name.as_str() == *key && entry.config_source == entity.own_source())
        };
        let unknown: Vec<&str> = delete.iter().copied().filter(|key| !is_set(key)).collect();
        if !unknown.is_empty() {
            return Err(Fault::Usage(format!("Invalid config(s): {}", unknown.join(","))));
        }
    }
    let set = set.iter().map(|(key, value)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(0).with_value(Some(text(value)))
    });
    let delete = delete
        .iter()
        .map(|key| AlterableConfig::default().with_name(text(key)).with_config_operation(1).with_value(None));
    let resource = AlterConfigsResource::default()
        .with_resource_type(entity.kind)
        .with_resource_name(text(&entity.name))
        .with_configs(set.chain(delete).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = match (entity.kind, entity.name.parse()) {
        (BROKER, Ok(node)) => cluster.ask_node(node, ALTER_VERSION, &request)?,
        _ => cluster.ask_controller(ALTER_VERSION, &request)?,
    };
    for result in &answer.responses {
        Fault::check(result.error_code, result.error_message.as_deref())?;
    }
    let word = entity.word();
    let said = if entity.name.is_empty() {
        format!("Completed updating default config for {word}s in the cluster.")
    } else {
        format!("Completed updating config for {word} {}.", entity.name)
    };
    Ok(writeln!(std::io::stdout(), "{said}")?)
}

/// `k1=v1,k2=[v1,v2]`: commas within brackets belong to a value.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut parts = vec![String::new()];
    let mut depth = 0i32;
    for c in text.chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        if c == ',' && depth <= 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let pair = |part: &String| {
        let (key, value) = properties::pair(part)?;
        let inner = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
        Ok((key, inner.unwrap_or(&value).to_owned()))
    };
    parts.iter().filter(|part| !part.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_configs_response::DescribeConfigsSynonym;

    use super::*;

    #[test]
    fn configs_are_printed_with_their_synonyms() {
        let synonym = |source, name: &str| {
            DescribeConfigsSynonym::default()
                .with_source(source)
                .with_name(text(name))
                .with_value(Some(text("7")))
        };
        let entry = Entry::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("7")))
            .with_synonyms(vec![synonym(1, "retention.ms"), synonym(5, "log.retention.ms")]);
        assert_eq!(
            line(&entry),
            "retention.ms=7 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=7, \
             DEFAULT_CONFIG:log.retention.ms=7}"
        );
    }

    #[test]
    fn commas_in_brackets_are_the_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            pairs("cleanup.policy=[compact,delete],retention.ms=5").unwrap(),
            [pair("cleanup.policy", "compact,delete"), pair("retention.ms", "5")]
        );
        assert!(pairs("novalue").is_err());
    }
}
