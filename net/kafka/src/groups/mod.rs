//! Consumer groups' APIs: each request becomes questions to the group's coordinator, its answers a response.
//!
//! What members tell each other (protocols' metadata, assignments) is passed on as the bytes it is. Whether a group
//! exists, who is in it and what it may do is the coordinator's to say; here it is only put into Kafka's words, of
//! the version that the client speaks.

use kafka_protocol::messages::ApiKey;

use crate::api::Api;
use crate::shapes;

mod coordinator;
mod errors;
mod listing;
mod membership;
mod offsets;
#[cfg(test)]
mod tests;

pub(crate) const APIS: &[Api] = &[
    Api::new(ApiKey::OffsetCommit, "OffsetCommit", 2, 8, shapes::OFFSET_COMMIT, offsets::commit),
    Api::new(ApiKey::OffsetFetch, "OffsetFetch", 1, 8, shapes::OFFSET_FETCH, offsets::fetch),
    Api::new(ApiKey::FindCoordinator, "FindCoordinator", 0, 4, shapes::FIND_COORDINATOR, coordinator::find),
    Api::new(ApiKey::JoinGroup, "JoinGroup", 0, 9, shapes::JOIN_GROUP, membership::join),
    Api::new(ApiKey::Heartbeat, "Heartbeat", 0, 4, shapes::HEARTBEAT, membership::heartbeat),
    Api::new(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, shapes::LEAVE_GROUP, membership::leave),
    Api::new(ApiKey::SyncGroup, "SyncGroup", 0, 5, shapes::SYNC_GROUP, membership::sync),
    Api::new(ApiKey::DescribeGroups, "DescribeGroups", 0, 5, shapes::DESCRIBE_GROUPS, listing::describe),
    Api::new(ApiKey::ListGroups, "ListGroups", 0, 4, shapes::LIST_GROUPS, listing::list),
    Api::new(ApiKey::DeleteGroups, "DeleteGroups", 0, 2, shapes::DELETE_GROUPS, listing::delete),
    Api::new(ApiKey::OffsetDelete, "OffsetDelete", 0, 0, shapes::OFFSET_DELETE, offsets::delete),
];
