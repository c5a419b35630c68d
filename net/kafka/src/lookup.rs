//! From a client's words to a partition that is led here.

use engine_api::PartitionId;
use kafka_protocol::ResponseError;
use storage_frame::LeaderEpoch;

use crate::context::Context;

/// An epoch that a client does not know.
pub(crate) const NO_EPOCH: i32 = -1;
/// An offset or a time that there is not.
pub(crate) const NONE: i64 = -1;

/// The partition and its leader's epoch. `epoch` is what the client believes it to be (KIP-320).
pub(crate) fn find_partition(
    context: &Context<'_>,
    topic: &str,
    index: i32,
    epoch: i32,
) -> Result<(PartitionId, LeaderEpoch), ResponseError> {
    let unknown = ResponseError::UnknownTopicOrPartition;
    let brief = context.catalog.find_topic(topic).ok_or(unknown)?;
    let index = u32::try_from(index).ok().filter(|index| *index < brief.partitions).ok_or(unknown)?;
    let partition = PartitionId { topic: brief.id, index };
    let (leader, current) = context.catalog.leader(partition).ok_or(ResponseError::NotLeaderOrFollower)?;
    if leader != context.config.node {
        return Err(ResponseError::NotLeaderOrFollower);
    }
    match epoch {
        NO_EPOCH => Ok((partition, current)),
        _ if epoch < epoch_number(current) => Err(ResponseError::FencedLeaderEpoch),
        _ if epoch > epoch_number(current) => Err(ResponseError::UnknownLeaderEpoch),
        _ => Ok((partition, current)),
    }
}

/// Epochs rise by one with each leadership: none gets to the end.
pub(crate) fn epoch_number(epoch: LeaderEpoch) -> i32 {
    i32::try_from(epoch.0).unwrap_or(i32::MAX)
}

/// Offsets are below 2^63: frames are checked.
pub(crate) fn offset_number(offset: storage_frame::Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
