//! OffsetForLeaderEpoch: where the records of a leader's epoch end, by which clients notice that records they have
//! read are gone (KIP-320).
//!
//! Of the current epoch that is the high watermark. Epochs never fall along a log, so where an older one ends is
//! found by halving: a frame in the middle of what is left is fetched, again and again.

use bytes::Bytes;
use engine_api::{Fetch, FetchError, FindOffset, PartitionId, Place, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use storage_frame::Offset;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::fetch_error;
use crate::lookup::{NO_EPOCH, NONE, epoch_number, find_partition, offset_number};
use crate::pursuit::{Begun, Next, Pursuit, pursue};

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: OffsetForLeaderEpochRequest = context.decode(body)?;
    let mut searches = Vec::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        searches.extend(topic.partitions.iter().map(|asked| begin(context, &topic.topic, asked)));
        let partitions: Vec<i32> = topic.partitions.iter().map(|asked| asked.partition).collect();
        topics.push((topic.topic, partitions));
    }
    Ok(pursue(context, searches, move |context, found| {
        let mut found = found.into_iter();
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let ends = partitions
                .into_iter()
                .zip(&mut found)
                .map(|(partition, end)| end_offset(partition, end))
                .collect();
            OffsetForLeaderTopicResult::default().with_topic(topic).with_partitions(ends)
        });
        context.reply(&OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
    }))
}

/// The largest epoch up to the one asked for, and where it ends; `None`: nobody has heard of it.
type End = Result<Option<(i32, Offset)>, ResponseError>;

fn end_offset(partition: i32, end: End) -> EpochEndOffset {
    let (code, epoch, offset) = match end {
        Ok(Some((epoch, end))) => (0, epoch, offset_number(end)),
        Ok(None) => (0, NO_EPOCH, NONE),
        Err(error) => (error.code(), NO_EPOCH, NONE),
    };
    EpochEndOffset::default()
        .with_error_code(code)
        .with_partition(partition)
        .with_leader_epoch(epoch)
        .with_end_offset(offset)
}

fn begin(context: &Context<'_>, topic: &str, asked: &OffsetForLeaderPartition) -> Begun<Search> {
    let found = find_partition(context, topic, asked.partition, asked.current_leader_epoch);
    let (partition, current) = match found {
        Ok((partition, current)) => (partition, epoch_number(current)),
        Err(error) => return Begun::Found(Err(error)),
    };
    if !(0..=current).contains(&asked.leader_epoch) {
        return Begun::Found(Ok(None));
    }
    let search = Search {
        partition,
        epoch: asked.leader_epoch,
        is_current: asked.leader_epoch == current,
        below: asked.leader_epoch,
        low: Offset::ZERO,
        high: Offset::ZERO,
    };
    Begun::Ask(search, Request::FindOffset(FindOffset { partition, place: Place::End }))
}

/// The first frame of an epoch above `epoch` begins in `low..=high`.
struct Search {
    partition: PartitionId,
    epoch: i32,
    is_current: bool,
    /// The epoch of the frame that ends at `low`; before one has been seen, the epoch asked for.
    below: i32,
    low: Offset,
    high: Offset,
}

impl Pursuit for Search {
    type Found = End;

    fn answered(&mut self, response: Response) -> Next<End> {
        match response {
            Response::FindOffset(Ok(found)) => {
                self.low = if self.is_current { found.high_watermark } else { found.log_start };
                self.high = found.high_watermark;
            }
            Response::Fetch(Ok(fetched)) => {
                let Some(frame) = fetched.frames.first() else {
                    return Next::Found(Err(ResponseError::KafkaStorageError));
                };
                let header = frame.header();
                if epoch_number(header.leader_epoch) <= self.epoch {
                    self.low = header.end_offset().min(self.high);
                    self.below = epoch_number(header.leader_epoch);
                } else {
                    self.high = header.base_offset.max(self.low);
                }
            }
            // Retention has been at work.
            Response::Fetch(Err(FetchError::OffsetOutOfRange { log_start, .. })) if log_start > self.low => {
                self.low = log_start.min(self.high);
            }
            Response::FindOffset(Err(error)) | Response::Fetch(Err(error)) => {
                return Next::Found(Err(fetch_error(&error)));
            }
            _ => return Next::Found(Err(ResponseError::UnknownServerError)),
        }
        if self.low == self.high {
            return Next::Found(Ok(Some((self.below, self.high))));
        }
        Next::Ask(fetch_one(self.partition, Offset(self.low.0 + (self.high.0 - self.low.0) / 2)))
    }
}

/// The frame that holds `offset`, and nothing else.
pub(crate) fn fetch_one(partition: PartitionId, offset: Offset) -> Request {
    Request::Fetch(Fetch { partition, offset, bytes_max: 1, bytes_min: 0, wait_max: None, reader: None })
}
