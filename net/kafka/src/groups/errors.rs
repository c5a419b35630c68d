//! What went wrong with a group, in Kafka's words.
//!
//! Clients look for the coordinator anew after `CoordinatorNotAvailable` and `NotCoordinator`, ask the same one again
//! after `CoordinatorLoadInProgress`, and give up, or start from nothing, after most others.

use engine_api::{GroupAnswer, GroupAsk, GroupError, GroupRequest, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId;

pub(super) fn group_error(error: &GroupError) -> ResponseError {
    match error {
        GroupError::NotReady | GroupError::NoSpace | GroupError::Overloaded | GroupError::ShuttingDown => {
            ResponseError::CoordinatorNotAvailable
        }
        GroupError::Loading => ResponseError::CoordinatorLoadInProgress,
        GroupError::InvalidGroup { .. } => ResponseError::InvalidGroupId,
        GroupError::NotFound { .. } => ResponseError::GroupIdNotFound,
        GroupError::NotEmpty { .. } => ResponseError::NonEmptyGroup,
        GroupError::UnknownMember { .. } => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration { .. } => ResponseError::IllegalGeneration,
        GroupError::MemberIdRequired { .. } => ResponseError::MemberIdRequired,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::Fenced { .. } => ResponseError::FencedInstanceId,
        GroupError::InconsistentProtocol { .. } => ResponseError::InconsistentGroupProtocol,
        GroupError::SessionTimeout { .. } => ResponseError::InvalidSessionTimeout,
        GroupError::Full { .. } | GroupError::TooLarge { .. } => ResponseError::GroupMaxSizeReached,
        GroupError::MetadataTooLarge { .. } => ResponseError::OffsetMetadataTooLarge,
        GroupError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        GroupError::Subscribed { .. } => ResponseError::GroupSubscribedToTopic,
        // As Kafka's coordinator says when its log fails it.
        GroupError::StorageFailed { .. } => ResponseError::NotCoordinator,
    }
}

/// As [`group_error`], of offsets that were to be committed.
pub(super) fn commit_error(error: &GroupError) -> ResponseError {
    if let GroupError::TooLarge { .. } = error {
        return ResponseError::InvalidCommitOffsetSize;
    }
    group_error(error)
}

/// The code of a result, 0 for a good one.
pub(super) fn code<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(0, |error| group_error(error).code())
}

pub(super) fn request(group: &GroupId, ask: GroupAsk) -> Request {
    Request::Group(GroupRequest { group: group.to_string(), ask })
}

/// The one answer of a request that asks one thing of a group. `None`: it is the answer to something else.
pub(super) fn the_answer(answers: Vec<Response>) -> Option<Result<GroupAnswer, GroupError>> {
    match answers.into_iter().next() {
        Some(Response::Group(answer)) => Some(answer),
        _ => None,
    }
}
