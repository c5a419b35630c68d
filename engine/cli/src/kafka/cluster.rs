//! The brokers behind a bootstrap address, and which of them to ask.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;
use super::fault::Fault;

/// From here on FindCoordinator asks for several keys at once.
const FIND_COORDINATOR_VERSION: i16 = 3;
const METADATA_VERSION: i16 = 12;
/// Between two tries of what may pass.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Text for a message.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

#[derive(Debug)]
pub(crate) struct Cluster {
    timeout: Duration,
    first: Connection,
    nodes: BTreeMap<i32, Connection>,
    brokers: Vec<MetadataResponseBroker>,
    controller: i32,
}

impl Cluster {
    /// The first of `servers` (host:port, separated by commas) that answers.
    pub(crate) fn connect(servers: &str, timeout: Duration) -> Result<Self, Fault> {
        let mut last = Fault::Usage("No bootstrap server was given".to_owned());
        for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
            match Connection::open(&with_port(server), timeout) {
                Ok(first) => {
                    let nodes = BTreeMap::new();
                    let mut cluster = Self { timeout, first, nodes, brokers: Vec::new(), controller: -1 };
                    cluster.metadata(Some(&[]))?;
                    return Ok(cluster);
                }
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    pub(crate) fn first(&mut self) -> &mut Connection {
        &mut self.first
    }

    pub(crate) fn brokers(&self) -> &[MetadataResponseBroker] {
        &self.brokers
    }

    pub(crate) fn broker(&self, node: i32) -> Option<&MetadataResponseBroker> {
        self.brokers.iter().find(|broker| broker.node_id.0 == node)
    }

    /// Topics by name, or all there are. None is created by asking.
    pub(crate) fn metadata(&mut self, topics: Option<&[String]>) -> Result<MetadataResponse, Fault> {
        let named = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(topics.map(|topics| topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false);
        let answer = self.first.ask(METADATA_VERSION, &request)?;
        self.brokers.clone_from(&answer.brokers);
        self.controller = answer.controller_id.0;
        Ok(answer)
    }

    /// Every topic of that is there, by name.
    pub(crate) fn topics(&mut self) -> Result<Vec<MetadataResponseTopic>, Fault> {
        let mut topics = self.metadata(None)?.topics;
        topics.retain(|topic| topic.name.is_some());
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Asks one node.
    pub(crate) fn ask_node<R: Request>(
        &mut self,
        node: i32,
        version: i16,
        ask: &R,
    ) -> Result<R::Response, Fault> {
        if !self.nodes.contains_key(&node) {
            let broker = self.broker(node).ok_or_else(|| Fault::refused(5, None))?;
            let address = format!("{}:{}", broker.host.as_str(), broker.port);
            self.nodes.insert(node, Connection::open(&address, self.timeout)?);
        }
        self.nodes.get_mut(&node).expect("opened above").ask(version, ask)
    }

    /// Asks the node that changes topics.
    pub(crate) fn ask_controller<R: Request>(&mut self, version: i16, ask: &R) -> Result<R::Response, Fault> {
        if self.controller < 0 {
            return self.first.ask(version, ask);
        }
        self.ask_node(self.controller, version, ask)
    }

    /// The node that a group's state lives on.
    pub(crate) fn coordinator(&mut self, group: &str) -> Result<i32, Fault> {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        self.patiently(|cluster| {
            let answer = cluster.first.ask(FIND_COORDINATOR_VERSION, &request)?;
            Fault::check(answer.error_code, answer.error_message.as_deref())?;
            if cluster.broker(answer.node_id.0).is_none() {
                cluster.metadata(Some(&[]))?;
            }
            Ok(answer.node_id.0)
        })
    }

    /// Again and again until it is answered, while what is in the way may pass.
    pub(crate) fn patiently<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let begun = Instant::now();
        loop {
            match ask(self) {
                Err(fault) if fault.is_passing() && begun.elapsed() < self.timeout => sleep(RETRY_WAIT),
                outcome => return outcome,
            }
        }
    }
}

/// Kafka's default port where none is said.
fn with_port(server: &str) -> String {
    let server = server.strip_prefix("kafka://").unwrap_or(server);
    let is_bare = !server.contains(':') || server.ends_with(']');
    if is_bare { format!("{server}:9092") } else { server.to_owned() }
}
