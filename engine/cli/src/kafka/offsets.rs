//! Offsets of partitions by place or time, asked of their leaders.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::cluster::{Cluster, topic_name};
use super::fault::Fault;

/// The first with `MAX_TIMESTAMP`.
const LIST_OFFSETS_VERSION: i16 = 7;

pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
/// Of the record with the largest timestamp.
pub(crate) const MAX_TIMESTAMP: i64 = -3;

/// Topic, partition.
pub(crate) type Place = (String, i32);

/// What was found: -1 where nothing is.
pub(crate) type Found = BTreeMap<Place, Result<i64, Fault>>;

/// The offset at `when` (a constant above, or milliseconds since 1970) of each place.
pub(crate) fn list(cluster: &mut Cluster, places: &[Place], when: i64) -> Result<Found, Fault> {
    let mut found = Found::new();
    for (leader, topics) in by_leader(cluster, places, &mut found)? {
        let partition =
            |index: &i32| ListOffsetsPartition::default().with_partition_index(*index).with_timestamp(when);
        let topics = topics.iter().map(|(topic, indexes)| {
            ListOffsetsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(indexes.iter().map(partition).collect())
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
        let answer = cluster.ask_node(leader, LIST_OFFSETS_VERSION, &request)?;
        for topic in answer.topics {
            for at in topic.partitions {
                let offset = Fault::check(at.error_code, None).map(|()| at.offset);
                found.insert((topic.name.to_string(), at.partition_index), offset);
            }
        }
    }
    Ok(found)
}

/// Partitions by topic, those of each leader together. Places without a leader are said so in `found`.
pub(crate) fn by_leader(
    cluster: &mut Cluster,
    places: &[Place],
    found: &mut Found,
) -> Result<BTreeMap<i32, BTreeMap<String, Vec<i32>>>, Fault> {
    let mut names: Vec<String> = places.iter().map(|(topic, _)| topic.clone()).collect();
    names.sort();
    names.dedup();
    let metadata = cluster.metadata(Some(&names))?;
    let mut leaders = BTreeMap::new();
    for topic in &metadata.topics {
        let Some(name) = &topic.name else { continue };
        for partition in &topic.partitions {
            leaders.insert((name.to_string(), partition.partition_index), partition.leader_id.0);
        }
    }
    let mut wanted: BTreeMap<i32, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
    for place in places {
        match leaders.get(place) {
            None => _ = found.insert(place.clone(), Err(Fault::refused(3, None))),
            Some(leader) if *leader < 0 => _ = found.insert(place.clone(), Err(Fault::refused(5, None))),
            Some(leader) => {
                wanted.entry(*leader).or_default().entry(place.0.clone()).or_default().push(place.1);
            }
        }
    }
    Ok(wanted)
}
