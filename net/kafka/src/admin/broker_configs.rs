//! The node's own settings under Kafka's names, with the values in force. Read-only: they are changed in the node's
//! configuration file, with a restart.

use crate::context::Context;

use super::describe_configs::{kind_number, node_synonyms};
use super::own_id;

pub(super) struct NodeConfig {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) is_default: bool,
    /// As Kafka numbers the types of values.
    pub(super) kind: i8,
    pub(super) documentation: &'static str,
}

/// Every one, by name.
pub(super) fn all(context: &Context<'_>) -> Vec<NodeConfig> {
    let own = OWN.iter().map(|(key, kind, default, documentation)| NodeConfig {
        key,
        value: (*default).to_owned(),
        is_default: true,
        kind: *kind,
        documentation,
    });
    let of_topics = node_synonyms().map(|definition| NodeConfig {
        key: definition.synonym,
        value: definition.default.to_owned(),
        is_default: true,
        kind: kind_number(definition.kind),
        documentation: definition.documentation,
    });
    let mut configs: Vec<NodeConfig> = own.chain(of_topics).collect();
    for (key, value) in in_force(context) {
        if let Some(config) = configs.iter_mut().find(|config| config.key == key) {
            config.is_default = config.value == value;
            config.value = value;
        }
    }
    configs.sort_by_key(|config| config.key);
    configs
}

/// What is known to be in force; later ones win.
fn in_force(context: &Context<'_>) -> Vec<(String, String)> {
    let config = context.config;
    let (host, port) = context.own_address();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let own = own_id(context).to_string();
    let known = [
        ("advertised.listeners", format!("PLAINTEXT://{host}:{port}")),
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("broker.id", own.clone()),
        ("connections.max.idle.ms", config.idle_timeout.as_millis().to_string()),
        ("default.replication.factor", config.replicas_default.to_string()),
        ("node.id", own),
        ("num.partitions", config.partitions_default.to_string()),
        ("socket.request.max.bytes", config.request_bytes_max.to_string()),
    ];
    let known = known.map(|(key, value)| (key.to_owned(), value));
    let of_topics = node_synonyms().filter_map(|definition| {
        let (_, value) = config.topic_defaults.iter().rfind(|(key, _)| key == definition.key)?;
        Some((definition.synonym.to_owned(), value.clone()))
    });
    known.into_iter().chain(of_topics).chain(config.node_configs.iter().cloned()).collect()
}

const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const SHORT: i8 = 4;
const LONG: i8 = 5;
const LIST: i8 = 7;

/// Name, type, default, meaning. Those that topics share stand with the topic configs.
#[rustfmt::skip]
const OWN: &[(&str, i8, &str, &str)] = &[
    ("advertised.listeners", STRING, "", "What clients are told to connect to; unless it is set, the address they have reached."),
    ("auto.create.topics.enable", BOOLEAN, "true", "A topic that a client asks about is made."),
    ("broker.id", INT, "1", "This node."),
    ("connections.max.idle.ms", LONG, "600000", "Milliseconds after which a connection that nothing is asked on is closed."),
    ("default.replication.factor", INT, "1", "Replicas of a topic that does not say how many."),
    ("delete.topic.enable", BOOLEAN, "true", "Topics can be deleted."),
    ("group.initial.rebalance.delay.ms", INT, "3000", "Milliseconds that the first members of a group wait for others."),
    ("group.max.session.timeout.ms", INT, "1800000", "Longest session timeout a member may have, milliseconds."),
    ("group.max.size", INT, "2147483647", "Members a group may have."),
    ("group.min.session.timeout.ms", INT, "6000", "Shortest session timeout a member may have, milliseconds."),
    ("listeners", STRING, "PLAINTEXT://127.0.0.1:9092", "Where Kafka's clients are served."),
    ("log.cleaner.enable", BOOLEAN, "true", "Compacted topics are compacted."),
    ("log.dirs", STRING, "", "Where the node's data is."),
    ("max.connections", INT, "2147483647", "Connections of the node at a time; each core takes its share of them."),
    ("node.id", INT, "1", "This node."),
    ("num.partitions", INT, "1", "Partitions of a topic that does not say how many."),
    ("offset.metadata.max.bytes", INT, "4096", "Bytes of text a committed offset may carry."),
    ("offsets.retention.minutes", INT, "10080", "Minutes that the offsets of a group without members are kept."),
    ("offsets.topic.num.partitions", INT, "50", "Partitions of the topic that groups are kept in."),
    ("offsets.topic.replication.factor", SHORT, "1", "Replicas of the topic that groups are kept in."),
    ("process.roles", LIST, "broker,controller", "One process is both."),
    ("sasl.enabled.mechanisms", LIST, "", "None."),
    ("socket.request.max.bytes", INT, "104857600", "Largest request, bytes."),
];
