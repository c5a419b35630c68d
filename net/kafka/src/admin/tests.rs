//! Administrators' APIs in every version, against an engine that says what the test wants.

use std::collections::BTreeMap;

use engine_api::{
    CheckTopic, CheckedTopic, ClusterDescription, ConfigEntry, CoreId, DescribeTopics, LogSize,
    NodeDescription, PartitionDescription, PartitionId, Request, Response, TOPIC_CONFIGS, TopicDescription,
    TopicError, TopicId,
};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{self, StrBytes};
use storage_frame::{LeaderEpoch, LogId};

use crate::tests::world::{NODE, World, decode};

mod cluster;
mod configs;
mod topics;

fn text(text: &str) -> StrBytes {
    text.to_owned().into()
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn world() -> World {
    let mut world = World::new();
    world.add_topic("orders", 3);
    world.add_topic("users", 2);
    world
}

/// Sends `request`; whatever it asks is answered by `engine`. The answer, and what was asked.
#[track_caller]
fn call<R: protocol::Request>(
    world: &mut World,
    version: i16,
    request: &R,
    mut engine: impl FnMut(&Request) -> Response,
) -> (R::Response, Vec<Request>) {
    world.holds = true;
    let conn = world.connect();
    world.send(conn, version, request);
    let mut asks = Vec::new();
    while let Some((key, request)) = world.open.first().cloned() {
        let answer = engine(&request);
        asks.push(request);
        world.answer(key, answer);
    }
    let mut answers = world.answers(conn);
    assert_eq!(answers.len(), 1, "version {version}; {:?}", world.server.poll_event());
    let (_, response) = decode::<R>(version, answers.remove(0));
    world.server.ended(world.now, conn);
    (response, asks)
}

fn not_asked(request: &Request) -> Response {
    panic!("asks {request:?}")
}

fn configs(set: &[(&str, &str)]) -> Vec<ConfigEntry> {
    let set: BTreeMap<&str, &str> = set.iter().copied().collect();
    let all: &[_] = &TOPIC_CONFIGS;
    let entry = |definition: &engine_api::TopicConfigDefinition| {
        let value = set.get(definition.key);
        ConfigEntry {
            key: definition.key.into(),
            value: (*value.unwrap_or(&definition.default)).into(),
            is_default: value.is_none(),
        }
    };
    all.iter().map(entry).collect()
}

fn topic(name: &str, partitions: u32, set: &[(&str, &str)]) -> TopicDescription {
    let partitions = (0..partitions).map(|index| PartitionDescription {
        index,
        leader: NODE,
        leader_epoch: LeaderEpoch(3),
        core: CoreId(0),
        replicas: vec![NODE],
        in_sync: vec![NODE],
        log: LogId(u64::from(index) + 1),
    });
    TopicDescription {
        name: name.into(),
        id: TopicId(0x1234),
        replicas: 1,
        partitions: partitions.collect(),
        configs: configs(set),
    }
}

fn cluster(cores: u8) -> ClusterDescription {
    let node =
        NodeDescription { id: NODE, address: "elsewhere:1".into(), cores, partitions_led: 5, incarnation: 4 };
    ClusterDescription {
        cluster_id: 0xabc,
        version: "1".into(),
        nodes: vec![node],
        topics_count: 2,
        partitions_count: 5,
        troubled: Vec::new(),
    }
}

/// Says yes to everything.
fn willing(request: &Request) -> Response {
    match request {
        Request::CreateTopic(create) => Response::CreateTopic(Ok(topic(
            &create.name,
            create.partitions.unwrap_or(1).min(10),
            &[("retention.ms", "5")],
        ))),
        Request::AlterTopic(alter) => Response::AlterTopic(Ok(topic(&alter.name, 3, &[]))),
        Request::DeleteTopic(_) => Response::DeleteTopic(Ok(())),
        Request::CheckTopic(check) => {
            let partitions = match check {
                CheckTopic::Create(create) => create.partitions,
                CheckTopic::Alter(alter) => alter.partitions,
            };
            let configs = configs(&[]);
            Response::CheckTopic(Ok(CheckedTopic {
                partitions: partitions.unwrap_or(1),
                replicas: 1,
                configs,
            }))
        }
        Request::DescribeTopics(DescribeTopics { names }) if names.is_empty() => {
            Response::DescribeTopics(Ok(vec![topic("orders", 3, &[]), topic("users", 2, &[])]))
        }
        Request::DescribeTopics(DescribeTopics { names }) => {
            let set = [("retention.ms", "5"), ("follower.replication.throttled.replicas", "0:1,1:1")];
            Response::DescribeTopics(Ok(names.iter().map(|name| topic(name, 3, &set)).collect()))
        }
        Request::DescribeCluster => Response::DescribeCluster(cluster(2)),
        Request::DescribeLogs(describe) => {
            let size = |index: u32| LogSize {
                partition: PartitionId { topic: TopicId(100), index },
                bytes: u64::from(index) * 10 + u64::from(describe.core.0),
            };
            Response::DescribeLogs(Ok(match describe.core {
                CoreId(0) => vec![size(0), size(2)],
                _ => vec![size(1)],
            }))
        }
        other => panic!("asks {other:?}"),
    }
}

/// Says no to everything.
fn unwilling(request: &Request) -> Response {
    let error = || TopicError::NoSpace;
    match request {
        Request::CreateTopic(_) => Response::CreateTopic(Err(error())),
        Request::AlterTopic(_) => Response::AlterTopic(Err(error())),
        Request::DeleteTopic(_) => Response::DeleteTopic(Err(error())),
        Request::CheckTopic(_) => Response::CheckTopic(Err(error())),
        Request::DescribeTopics(_) => Response::DescribeTopics(Err(error())),
        Request::DescribeCluster => Response::DescribeCluster(cluster(1)),
        Request::DescribeLogs(_) => Response::DescribeLogs(Err(TopicError::ShuttingDown)),
        other => panic!("asks {other:?}"),
    }
}
