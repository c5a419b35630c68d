//! Consumer groups as their coordinators describe them.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Decodable, Message};

use super::cluster::{Cluster, text, topic_name};
use super::fault::Fault;
use super::offsets::{self, LATEST, Place};

const DELETE_GROUPS_VERSION: i16 = 2;
const DESCRIBE_GROUPS_VERSION: i16 = 5;
const LIST_GROUPS_VERSION: i16 = 4;
const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_DELETE_VERSION: i16 = 0;
/// The last one that asks for one group.
const OFFSET_FETCH_VERSION: i16 = 7;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) group: String,
    pub(crate) protocol_type: String,
    pub(crate) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) group: String,
    /// Kafka's name: `Stable`, `Empty`, `Dead`...
    pub(crate) state: String,
    pub(crate) protocol_type: String,
    /// The assignor.
    pub(crate) protocol: String,
    /// host:port, id.
    pub(crate) coordinator: (String, i32),
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    /// Empty where the assignment is none of a consumer's.
    pub(crate) assigned: BTreeMap<String, Vec<i32>>,
}

impl Member {
    pub(crate) fn partitions_count(&self) -> usize {
        self.assigned.values().map(Vec::len).sum()
    }
}

/// Every group of every broker, in `states` where some are named.
pub(crate) fn list(cluster: &mut Cluster, states: &[String]) -> Result<Vec<Listed>, Fault> {
    let nodes: Vec<i32> = cluster.brokers().iter().map(|broker| broker.node_id.0).collect();
    let request =
        ListGroupsRequest::default().with_states_filter(states.iter().map(|state| text(state)).collect());
    let mut groups = Vec::new();
    for node in nodes {
        let answer = cluster.patiently(|cluster| {
            let answer = cluster.ask_node(node, LIST_GROUPS_VERSION, &request)?;
            Fault::check(answer.error_code, None).map(|()| answer)
        })?;
        groups.extend(answer.groups.into_iter().map(|listed| Listed {
            group: listed.group_id.to_string(),
            protocol_type: listed.protocol_type.to_string(),
            state: listed.group_state.to_string(),
        }));
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// A group that nobody knows is described as `Dead`.
pub(crate) fn describe(cluster: &mut Cluster, group: &str) -> Result<Described, Fault> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    cluster.patiently(|cluster| {
        let node = cluster.coordinator(group)?;
        let mut answer = cluster.ask_node(node, DESCRIBE_GROUPS_VERSION, &request)?;
        let described = answer.groups.pop().ok_or_else(|| Fault::refused(69, None))?;
        Fault::check(described.error_code, described.error_message.as_deref())?;
        let coordinator = cluster
            .broker(node)
            .map_or_else(String::new, |broker| format!("{}:{}", broker.host.as_str(), broker.port));
        let member =
            |member: kafka_protocol::messages::describe_groups_response::DescribedGroupMember| Member {
                member: member.member_id.to_string(),
                instance: member.group_instance_id.map(|instance| instance.to_string()),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                assigned: assigned(member.member_assignment),
            };
        Ok(Described {
            group: group.to_owned(),
            state: described.group_state.to_string(),
            protocol_type: described.protocol_type.to_string(),
            protocol: described.protocol_data.to_string(),
            coordinator: (coordinator, node),
            members: described.members.into_iter().map(member).collect(),
        })
    })
}

/// A version, then topics and partitions, as consumers of all libraries write it.
fn assigned(mut bytes: Bytes) -> BTreeMap<String, Vec<i32>> {
    if bytes.len() < 2 {
        return BTreeMap::new();
    }
    let version = bytes.get_i16().clamp(0, ConsumerProtocolAssignment::VERSIONS.max);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut bytes, version) else {
        return BTreeMap::new();
    };
    let topics = assignment.assigned_partitions.into_iter();
    topics.map(|topic| (topic.topic.to_string(), topic.partitions)).collect()
}

/// What the group has committed.
pub(crate) fn committed(cluster: &mut Cluster, group: &str) -> Result<BTreeMap<Place, i64>, Fault> {
    let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(None);
    cluster.patiently(|cluster| {
        let node = cluster.coordinator(group)?;
        let answer = cluster.ask_node(node, OFFSET_FETCH_VERSION, &request)?;
        Fault::check(answer.error_code, None)?;
        let mut committed = BTreeMap::new();
        for topic in answer.topics {
            for at in topic.partitions {
                Fault::check(at.error_code, None)?;
                if at.committed_offset >= 0 {
                    committed.insert((topic.name.to_string(), at.partition_index), at.committed_offset);
                }
            }
        }
        Ok(committed)
    })
}

/// One partition of a group: committed for, owned, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) place: Place,
    pub(crate) committed: Option<i64>,
    pub(crate) end: Option<i64>,
    /// Index of its owner in `members`.
    pub(crate) owner: Option<usize>,
}

impl Row {
    pub(crate) fn lag(&self) -> Option<i64> {
        Some(self.end? - self.committed?)
    }
}

/// Every partition that the group has committed for or that a member owns; owned ones first, as Kafka prints them.
pub(crate) fn rows(cluster: &mut Cluster, described: &Described) -> Result<Vec<Row>, Fault> {
    let mut committed = committed(cluster, &described.group)?;
    let mut rows = Vec::new();
    for (index, member) in described.members.iter().enumerate() {
        for (topic, partitions) in &member.assigned {
            for partition in partitions {
                let place = (topic.clone(), *partition);
                let committed = committed.remove(&place);
                rows.push(Row { place, committed, end: None, owner: Some(index) });
            }
        }
    }
    let rest = committed.into_iter();
    rows.extend(rest.map(|(place, offset)| Row { place, committed: Some(offset), end: None, owner: None }));
    let places: Vec<Place> = rows.iter().map(|row| row.place.clone()).collect();
    let ends = offsets::list(cluster, &places, LATEST)?;
    for row in &mut rows {
        row.end = ends.get(&row.place).and_then(|end| end.as_ref().ok().copied());
    }
    Ok(rows)
}

/// Commits for a group without members.
pub(crate) fn commit(
    cluster: &mut Cluster,
    group: &str,
    offsets: &BTreeMap<Place, i64>,
) -> Result<(), Fault> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("")));
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    cluster.patiently(|cluster| {
        let node = cluster.coordinator(group)?;
        let answer = cluster.ask_node(node, OFFSET_COMMIT_VERSION, &request)?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|at| Fault::check(at.error_code, None))
    })
}

pub(crate) fn delete(cluster: &mut Cluster, group: &str) -> Result<(), Fault> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    cluster.patiently(|cluster| {
        let node = cluster.coordinator(group)?;
        let answer = cluster.ask_node(node, DELETE_GROUPS_VERSION, &request)?;
        answer.results.iter().try_for_each(|result| Fault::check(result.error_code, None))
    })
}

/// How it went with each.
pub(crate) type Each = Vec<(Place, Result<(), Fault>)>;

/// Forgets what the group has committed for `places`; each with how that went.
pub(crate) fn delete_offsets(cluster: &mut Cluster, group: &str, places: &[Place]) -> Result<Each, Fault> {
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition) in places {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    let request =
        OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(topics.collect());
    cluster.patiently(|cluster| {
        let node = cluster.coordinator(group)?;
        let answer = cluster.ask_node(node, OFFSET_DELETE_VERSION, &request)?;
        Fault::check(answer.error_code, None)?;
        let each = answer.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic
                .partitions
                .iter()
                .map(move |at| ((name.clone(), at.partition_index), Fault::check(at.error_code, None)))
        });
        Ok(each.collect())
    })
}
