//! AlterConfigs and IncrementalAlterConfigs: of topics. A node's own configs are read-only.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine_api::{
    AlterTopic, CheckTopic, ConfigEntry, ConfigKind, DescribeTopics, Request, Response, TopicError,
    topic_config,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

use super::describe_configs::{BROKER, TOPIC};
use super::{Fault, refuse_internal};

/// One resource of a request.
struct Resource {
    kind: i8,
    name: StrBytes,
    change: Change,
}

/// What is to become of a topic's configs.
enum Change {
    /// These and no others are set.
    Replace(Vec<(StrBytes, Option<StrBytes>)>),
    /// Key, operation, value.
    Steps(Vec<(StrBytes, i8, Option<StrBytes>)>),
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What is not named goes back to its default.
pub(super) fn replace(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: AlterConfigsRequest = context.decode(body)?;
    let resources = asked.resources.into_iter().map(|resource| {
        let configs = resource.configs.into_iter().map(|config| (config.name, config.value)).collect();
        Resource {
            kind: resource.resource_type,
            name: resource.resource_name,
            change: Change::Replace(configs),
        }
    });
    Ok(alter(context, resources.collect(), asked.validate_only, |context, results| {
        let responses = results.into_iter().map(|(kind, name, fault)| {
            let response =
                AlterConfigsResourceResponse::default().with_resource_type(kind).with_resource_name(name);
            match fault {
                Some(fault) => response.with_error_code(fault.code()).with_error_message(fault.text()),
                None => response.with_error_message(None),
            }
        });
        context.reply(&AlterConfigsResponse::default().with_responses(responses.collect()))
    }))
}

pub(super) fn change(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: IncrementalAlterConfigsRequest = context.decode(body)?;
    let resources = asked.resources.into_iter().map(|resource| {
        let steps = resource.configs.into_iter();
        let steps = steps.map(|config| (config.name, config.config_operation, config.value)).collect();
        Resource { kind: resource.resource_type, name: resource.resource_name, change: Change::Steps(steps) }
    });
    Ok(alter(context, resources.collect(), asked.validate_only, |context, results| {
        let responses = results.into_iter().map(|(kind, name, fault)| {
            let response = IncrementalResponse::default().with_resource_type(kind).with_resource_name(name);
            match fault {
                Some(fault) => response.with_error_code(fault.code()).with_error_message(fault.text()),
                None => response.with_error_message(None),
            }
        });
        context.reply(&IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
    }))
}

/// Kind, name, and why not.
type Altered = (i8, StrBytes, Option<Fault>);

/// What is left to do of a request.
struct Work {
    validate_only: bool,
    /// Resources and their places among `altered`.
    left: Vec<(usize, Resource)>,
    altered: Vec<Altered>,
    then: fn(&mut Context<'_>, Vec<Altered>) -> Outcome,
    tries_left: u32,
}

/// Of changes that meet another client's; who loses against so many is told.
const TRIES: u32 = 10;

/// Each resource is changed whole or not at all, whatever becomes of the others.
fn alter(
    context: &mut Context<'_>,
    resources: Vec<Resource>,
    validate_only: bool,
    then: fn(&mut Context<'_>, Vec<Altered>) -> Outcome,
) -> Outcome {
    let mut named: BTreeMap<(i8, String), usize> = BTreeMap::new();
    for resource in &resources {
        *named.entry((resource.kind, resource.name.to_string())).or_insert(0) += 1;
    }
    let (mut altered, mut left) = (Vec::with_capacity(resources.len()), Vec::new());
    for resource in resources {
        let fault = match named[&(resource.kind, resource.name.to_string())] {
            1 => check_resource(&resource).err(),
            _ => Some(Fault::invalid("the resource is in the request more than once")),
        };
        let is_good = fault.is_none();
        altered.push((resource.kind, resource.name.clone(), fault));
        if is_good {
            left.push((altered.len() - 1, resource));
        }
    }
    work_on(context, Work { validate_only, left, altered, then, tries_left: TRIES })
}

/// Describes the topics, derives what changes, and has it done or checked; again for those that another client has
/// changed in between.
fn work_on(context: &mut Context<'_>, mut work: Work) -> Outcome {
    let describe =
        |name: &StrBytes| Request::DescribeTopics(DescribeTopics { names: vec![name.to_string()] });
    let describes = work.left.iter().map(|(_, resource)| describe(&resource.name)).collect();
    context.gather(describes, move |context, answers| {
        let (mut tried, mut asks) = (Vec::new(), Vec::new());
        for ((place, resource), answer) in std::mem::take(&mut work.left).into_iter().zip(answers) {
            let alter = match answer {
                Response::DescribeTopics(Ok(topics)) => {
                    let have = topics.into_iter().next().map(|topic| topic.configs).unwrap_or_default();
                    configs_of(&resource.change, &have).map(|configs| AlterTopic {
                        name: resource.name.to_string(),
                        partitions: None,
                        configs,
                        based_on: Some(set_of(have)),
                    })
                }
                Response::DescribeTopics(Err(error)) => Err(error.into()),
                other => return Outcome::unexpected(&other),
            };
            match alter {
                Ok(alter) if alter.configs.is_empty() => {}
                Ok(alter) => {
                    tried.push((place, resource));
                    asks.push(match work.validate_only {
                        true => Request::CheckTopic(CheckTopic::Alter(alter)),
                        false => Request::AlterTopic(alter),
                    });
                }
                Err(fault) => work.altered[place].2 = Some(fault),
            }
        }
        context.gather(asks, move |context, answers| {
            for ((place, resource), answer) in tried.into_iter().zip(answers) {
                match answer {
                    Response::AlterTopic(Ok(_)) | Response::CheckTopic(Ok(_)) => {}
                    Response::AlterTopic(Err(TopicError::Changed { .. }))
                    | Response::CheckTopic(Err(TopicError::Changed { .. }))
                        if work.tries_left > 0 =>
                    {
                        work.left.push((place, resource));
                    }
                    Response::AlterTopic(Err(error)) | Response::CheckTopic(Err(error)) => {
                        work.altered[place].2 = Some(error.into());
                    }
                    other => return Outcome::unexpected(&other),
                }
            }
            if work.left.is_empty() {
                return (work.then)(context, work.altered);
            }
            work.tries_left -= 1;
            work_on(context, work)
        })
    })
}

fn set_of(have: Vec<ConfigEntry>) -> Vec<(String, String)> {
    have.into_iter().filter(|entry| !entry.is_default).map(|entry| (entry.key, entry.value)).collect()
}

fn check_resource(resource: &Resource) -> Result<(), Fault> {
    match resource.kind {
        TOPIC => refuse_internal(&resource.name),
        BROKER => Err(Fault::invalid(
            "configs of brokers are read-only here: set them in the node's configuration file and restart it",
        )),
        other => Err(Fault::invalid(format!("resources of type {other} have no configs here"))),
    }
}

/// Key and new value, or none for the default.
type Configs = Vec<(String, Option<String>)>;

fn configs_of(change: &Change, have: &[ConfigEntry]) -> Result<Configs, Fault> {
    match change {
        Change::Replace(configs) => replaced(configs, have),
        Change::Steps(steps) => stepped(steps, have),
    }
}

fn replaced(configs: &[(StrBytes, Option<StrBytes>)], have: &[ConfigEntry]) -> Result<Configs, Fault> {
    let mut changes = Vec::with_capacity(configs.len());
    for (key, value) in configs {
        changes.push((key.to_string(), Some(given(key, value)?.to_string())));
    }
    let unnamed = have.iter().filter(|entry| !entry.is_default);
    let unnamed = unnamed.filter(|entry| !changes.iter().any(|(key, _)| *key == entry.key));
    let unnamed: Configs = unnamed.map(|entry| (entry.key.clone(), None)).collect();
    changes.extend(unnamed);
    Ok(changes)
}

fn stepped(steps: &[(StrBytes, i8, Option<StrBytes>)], have: &[ConfigEntry]) -> Result<Configs, Fault> {
    let mut changes: Configs = Vec::with_capacity(steps.len());
    for (key, operation, value) in steps {
        if changes.iter().any(|(known, _)| **known == **key) {
            return Err(Fault::invalid(format!("config {} is in the request more than once", &**key)));
        }
        let value = match *operation {
            DELETE => None,
            SET => Some(given(key, value)?.to_string()),
            APPEND | SUBTRACT => Some(list_step(key, *operation == APPEND, given(key, value)?, have)?),
            other => return Err(Fault::invalid(format!("config operation {other} is not known"))),
        };
        changes.push((key.to_string(), value));
    }
    Ok(changes)
}

/// The list that `key` has in force with the items of `value` added or taken away.
fn list_step(key: &str, adds: bool, value: &str, have: &[ConfigEntry]) -> Result<String, Fault> {
    let is_list = topic_config(key)
        .is_some_and(|definition| matches!(definition.kind, ConfigKind::List(_) | ConfigKind::Replicas));
    let entry = have.iter().find(|entry| entry.key == key).filter(|_| is_list).ok_or_else(|| {
        let why = format!("config {key} is not a list: nothing can be appended to it or subtracted from it");
        Fault::new(ResponseError::InvalidConfig, why)
    })?;
    let items = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let given = items(value);
    let mut list = items(&entry.value);
    list.retain(|item| !given.contains(item));
    if adds {
        list.extend(given);
    }
    Ok(list.join(","))
}

fn given<'a>(key: &str, value: &'a Option<StrBytes>) -> Result<&'a str, Fault> {
    value.as_deref().ok_or_else(|| Fault::invalid(format!("config {key} has no value")))
}
