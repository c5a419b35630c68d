//! DescribeConfigs and ListConfigResources: what is set, where it was said, and what it means here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use engine_api::{
    ConfigEntry, ConfigKind, DescribeTopics, Request, Response, TOPIC_CONFIGS, TopicConfigDefinition,
    topic_config,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::topic_error;

use super::broker_configs::{self, NodeConfig};
use super::{Fault, own_id};

/// Kinds of resources.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Of one request.
const RESOURCES_MAX: usize = 10_000;

/// Where a value was said.
pub(super) const OF_TOPIC: i8 = 1;
pub(super) const OF_NODE: i8 = 4;
pub(super) const BY_DEFAULT: i8 = 5;

pub(super) fn describe(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let mut asked: DescribeConfigsRequest = context.decode(body)?;
    asked.resources = once_each(asked.resources);
    if asked.resources.len() > RESOURCES_MAX {
        let why = format!("{} resources, limit {RESOURCES_MAX}", asked.resources.len());
        return Ok(Outcome::Close("request_too_wide", why));
    }
    let topics = asked.resources.iter().filter(|resource| resource.resource_type == TOPIC);
    let asks = topics.map(|resource| {
        Request::DescribeTopics(DescribeTopics { names: vec![resource.resource_name.to_string()] })
    });
    let asks = asks.collect();
    Ok(context.gather(asks, move |context, answers| {
        let mut answers = answers.into_iter();
        let mut results = Vec::with_capacity(asked.resources.len());
        let detail = Detail { synonyms: asked.include_synonyms, documentation: asked.include_documentation };
        for resource in asked.resources {
            let configs = match resource.resource_type {
                TOPIC => match answers.next().expect("one for each topic") {
                    Response::DescribeTopics(Ok(topics)) => {
                        let entries =
                            topics.into_iter().next().map(|topic| topic.configs).unwrap_or_default();
                        Ok(of_topic(context, &resource, detail, entries))
                    }
                    Response::DescribeTopics(Err(error)) => Err(error.into()),
                    other => return Outcome::unexpected(&other),
                },
                BROKER => of_broker(context, &resource, detail),
                other => Err(Fault::invalid(format!("resources of type {other} have no configs here"))),
            };
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name);
            results.push(match configs {
                Ok(configs) => result.with_configs(configs).with_error_message(None),
                Err(fault) => result.with_error_code(fault.code()).with_error_message(fault.text()),
            });
        }
        context.reply(&DescribeConfigsResponse::default().with_results(results))
    }))
}

/// A resource that is named again is told of once, with all that was wanted of it.
fn once_each(resources: Vec<DescribeConfigsResource>) -> Vec<DescribeConfigsResource> {
    let mut places = BTreeMap::new();
    let mut once: Vec<DescribeConfigsResource> = Vec::new();
    for resource in resources {
        match places.entry((resource.resource_type, resource.resource_name.clone())) {
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push(resource);
            }
            Entry::Occupied(place) => {
                let before = &mut once[*place.get()].configuration_keys;
                match (before.as_mut(), resource.configuration_keys) {
                    (Some(keys), Some(more)) if !keys.is_empty() && !more.is_empty() => keys.extend(more),
                    _ => *before = None,
                }
            }
        }
    }
    once
}

/// What is told of each config.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// None or an empty list: all of them, as Kafka has it.
fn is_wanted(resource: &DescribeConfigsResource, key: &str) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|wanted| **wanted == *key),
        Some(_) | None => true,
    }
}

fn of_topic(
    context: &Context<'_>,
    resource: &DescribeConfigsResource,
    detail: Detail,
    entries: Vec<ConfigEntry>,
) -> Vec<DescribeConfigsResourceResult> {
    let wanted = entries.into_iter().filter(|entry| is_wanted(resource, &entry.key));
    let told = wanted.filter_map(|entry| {
        let definition = topic_config(&entry.key)?;
        let result = DescribeConfigsResourceResult::default()
            .with_config_source(source(context, &entry))
            .with_synonyms(if detail.synonyms { synonyms(context, definition, &entry) } else { Vec::new() })
            .with_config_type(kind_number(definition.kind))
            .with_documentation(documentation(detail, definition.documentation));
        Some(result.with_name(entry.key.into()).with_value(Some(entry.value.into())))
    });
    told.collect()
}

/// Null is "not asked for".
fn documentation(detail: Detail, text: &'static str) -> Option<StrBytes> {
    detail.documentation.then(|| StrBytes::from_static_str(text))
}

/// Where the value of a topic's config was said.
pub(super) fn source(context: &Context<'_>, entry: &ConfigEntry) -> i8 {
    if !entry.is_default {
        OF_TOPIC
    } else if node_default(context, &entry.key).is_some() {
        OF_NODE
    } else {
        BY_DEFAULT
    }
}

fn node_default<'a>(context: &'a Context<'_>, key: &str) -> Option<&'a str> {
    let defaults = context.config.topic_defaults.iter();
    defaults.rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Everywhere the value is said, what is in force first.
fn synonyms(
    context: &Context<'_>,
    definition: &TopicConfigDefinition,
    entry: &ConfigEntry,
) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &str, value: &str, source: i8| {
        DescribeConfigsSynonym::default()
            .with_name(name.to_owned().into())
            .with_value(Some(value.to_owned().into()))
            .with_source(source)
    };
    let node_name = if definition.synonym.is_empty() { definition.key } else { definition.synonym };
    let mut synonyms = Vec::new();
    if !entry.is_default {
        synonyms.push(synonym(definition.key, &entry.value, OF_TOPIC));
    }
    if let Some(value) = node_default(context, definition.key) {
        synonyms.push(synonym(node_name, value, OF_NODE));
    }
    synonyms.push(synonym(node_name, definition.default, BY_DEFAULT));
    synonyms
}

/// This node's settings; they are changed in its configuration file alone.
fn of_broker(
    context: &Context<'_>,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Fault> {
    // Without a name: what was set for all brokers together, which nobody can.
    if resource.resource_name.is_empty() {
        return Ok(Vec::new());
    }
    let own = own_id(context);
    // As it is written, so that no request has this answer twice.
    if *resource.resource_name != *own.to_string() {
        let why = format!("this is broker {}, not '{}'", *own, &*resource.resource_name);
        return Err(Fault::invalid(why));
    }
    let configs = broker_configs::all(context);
    let wanted = configs.into_iter().filter(|config| is_wanted(resource, config.key));
    Ok(wanted.map(|config| broker_config(config, detail)).collect())
}

fn broker_config(config: NodeConfig, detail: Detail) -> DescribeConfigsResourceResult {
    let source = if config.is_default { BY_DEFAULT } else { OF_NODE };
    let value: StrBytes = config.value.into();
    let synonyms = detail.synonyms.then(|| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(config.key))
            .with_value(Some(value.clone()))
            .with_source(source)
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.key))
        .with_read_only(true)
        .with_config_source(source)
        .with_synonyms(synonyms.into_iter().collect())
        .with_config_type(config.kind)
        .with_documentation(documentation(detail, config.documentation))
        .with_value(Some(value))
}

/// As Kafka numbers the types of values.
pub(super) fn kind_number(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => 1,
        ConfigKind::Choice(_) => 2,
        ConfigKind::Int { .. } => 3,
        ConfigKind::Long { .. } => 5,
        ConfigKind::Fraction => 6,
        ConfigKind::List(_) | ConfigKind::Replicas => 7,
    }
}

/// Before version 1 it listed what client metrics are subscribed to: nothing is.
pub(super) fn list(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: ListConfigResourcesRequest = context.decode(body)?;
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let response = ListConfigResourcesResponse::default();
    if asked.resource_types.iter().any(|kind| !known.contains(kind)) {
        let code = ResponseError::UnsupportedVersion.code();
        return Ok(context.reply(&response.with_error_code(code)));
    }
    if context.head.version < 1 {
        return Ok(context.reply(&response));
    }
    let wants = move |kind: i8| asked.resource_types.is_empty() || asked.resource_types.contains(&kind);
    let all = Request::DescribeTopics(DescribeTopics { names: Vec::new() });
    let asks = if wants(TOPIC) { vec![all] } else { Vec::new() };
    Ok(context.gather(asks, move |context, answers| {
        let mut response = response;
        let resource = |kind: i8, name: StrBytes| {
            ConfigResource::default().with_resource_type(kind).with_resource_name(name)
        };
        for answer in answers {
            match answer {
                Response::DescribeTopics(Ok(topics)) => response
                    .config_resources
                    .extend(topics.into_iter().map(|topic| resource(TOPIC, topic.name.into()))),
                Response::DescribeTopics(Err(error)) => response.error_code = topic_error(&error).code(),
                other => return Outcome::unexpected(&other),
            }
        }
        if wants(BROKER) {
            response.config_resources.push(resource(BROKER, own_id(context).to_string().into()));
        }
        context.reply(&response)
    }))
}

/// The topic configs under the names of the node's own settings.
pub(super) fn node_synonyms() -> impl Iterator<Item = &'static TopicConfigDefinition> {
    static ALL: &[TopicConfigDefinition] = &TOPIC_CONFIGS;
    ALL.iter().filter(|definition| !definition.synonym.is_empty())
}
