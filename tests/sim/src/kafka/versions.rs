//! What clients find out before they begin: which versions are served, and where the broker says it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine_api::TopicId;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::Request;
use tests_disk::Dice;

use super::Topic;
use super::line::decode;
use crate::world::node_address;

/// What clients of the run speak, from the oldest to the newest.
const SPOKEN: [(i16, [i16; 2]); 13] = [
    (ProduceRequest::KEY, [3, 11]),
    // The first that says where a log starts.
    (FetchRequest::KEY, [5, 12]),
    (ListOffsetsRequest::KEY, [1, 7]),
    (MetadataRequest::KEY, [4, 12]),
    (ApiVersionsRequest::KEY, [0, 4]),
    (InitProducerIdRequest::KEY, [0, 4]),
    // The first with two timeouts.
    (JoinGroupRequest::KEY, [1, 9]),
    (SyncGroupRequest::KEY, [0, 5]),
    (HeartbeatRequest::KEY, [0, 4]),
    (LeaveGroupRequest::KEY, [0, 5]),
    (OffsetCommitRequest::KEY, [2, 8]),
    // The first that can ask for everything.
    (OffsetFetchRequest::KEY, [2, 8]),
    (FindCoordinatorRequest::KEY, [0, 4]),
];

/// The versions one client speaks, drawn once for its life.
#[derive(Debug, Clone)]
pub(super) struct Versions(BTreeMap<i16, i16>);

impl Versions {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        // Mostly the newest, as clients are.
        let is_new = dice.one_in(2);
        let draw = |(key, [least, most]): (i16, [i16; 2])| {
            let drawn = dice.between(least as u64, most as u64 + 1) as i16;
            (key, if is_new { most } else { drawn })
        };
        Self(SPOKEN.into_iter().map(draw).collect())
    }

    pub(super) fn of<R: Request>(&self) -> i16 {
        self.0[&R::KEY]
    }
}

pub(super) fn check(version: i16, frame: Bytes) -> Result<(), String> {
    let response = decode::<ApiVersionsRequest>(version, frame)?;
    let served: BTreeMap<i16, (i16, i16)> =
        response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
    if response.error_code != 0 {
        return Err(format!("versions were answered by error {}", response.error_code));
    }
    for (key, [least, most]) in SPOKEN {
        if served.get(&key).is_none_or(|(from, to)| least < *from || most > *to) {
            return Err(format!(
                "API {key} is served as {:?}, {least} to {most} is spoken",
                served.get(&key)
            ));
        }
    }
    match served.get(&(ApiKey::AddPartitionsToTxn as i16)) {
        Some(_) => Err("transactions are said to be served".to_owned()),
        None => Ok(()),
    }
}

pub(super) fn check_metadata(
    version: i16,
    frame: Bytes,
    topics: &BTreeMap<String, Topic>,
) -> Result<(), String> {
    let response = decode::<MetadataRequest>(version, frame)?;
    let node = node_address();
    let brokers: Vec<(String, i32)> =
        response.brokers.iter().map(|broker| (broker.host.to_string(), broker.port)).collect();
    // One that is still loading knows of nobody yet.
    let is_right =
        |(host, port): &(String, i32)| *host == node.ip().to_string() && *port == i32::from(node.port());
    if !brokers.iter().all(is_right) {
        return Err(format!("the broker at {node} says that it is at {brokers:?}"));
    }
    for topic in response.topics.iter().filter(|topic| topic.error_code == 0) {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        let Some(known) = topics.get(&name) else { continue };
        if version >= 10 && TopicId(topic.topic_id.as_u128()) != known.id {
            return Err(format!("topic {name} is {} and not {}", topic.topic_id, known.id));
        }
        if topic.partitions.len() < known.partitions as usize {
            let count = topic.partitions.len();
            return Err(format!("topic {name} has {count} partitions and not {}", known.partitions));
        }
    }
    Ok(())
}

/// Whether there is a coordinator.
pub(super) fn check_coordinator(version: i16, frame: Bytes) -> Result<bool, String> {
    let response = decode::<FindCoordinatorRequest>(version, frame)?;
    let (code, host, port) = match response.coordinators.first() {
        Some(found) if version >= 4 => (found.error_code, &found.host, found.port),
        _ => (response.error_code, &response.host, response.port),
    };
    let node = node_address();
    if code == 0 && (**host != *node.ip().to_string() || port != i32::from(node.port())) {
        return Err(format!("the coordinator is said to be at {host}:{port}"));
    }
    Ok(code == 0)
}
