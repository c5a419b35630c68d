//! ListOffsets: the first and the last offset, and the first record at or after a time.
//!
//! A time is looked up to the frame by the owner of the partition; which record of the frame it is, is found here by
//! reading it. The record of the largest time (KIP-734) is found by halving the times above the largest seen.

use bytes::Bytes;
use engine_api::{FindOffset, FoundOffset, PartitionId, Place, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use storage_frame::{FRAME_BYTES_MAX, Frame, Offset, TimestampMs};
use storage_recordbatch::Records;

use crate::api::Outcome;
use crate::apis::leader_epoch::fetch_one;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::fetch_error;
use crate::lookup::{NO_EPOCH, NONE, epoch_number, find_partition, offset_number};
use crate::pursuit::{Begun, Next, Pursuit, pursue};

/// What stands for a time in a request.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const MAX_TIMESTAMP_SINCE: i16 = 7;
const EPOCH_SINCE: i16 = 4;

/// Frames looked into for one time. The one that the index names has the record, but for batches whose header claims
/// a larger time than their records have, and those that compaction took it out of.
const FRAMES_MAX: u32 = 64;

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: ListOffsetsRequest = context.decode(body)?;
    let mut searches = Vec::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        searches.extend(topic.partitions.iter().map(|asked| begin(context, &topic.name, asked)));
        let partitions: Vec<i32> = topic.partitions.iter().map(|asked| asked.partition_index).collect();
        topics.push((topic.name, partitions));
    }
    Ok(pursue(context, searches, move |context, found| {
        let version = context.head.version;
        let mut found = found.into_iter();
        let topics = topics.into_iter().map(|(name, partitions)| {
            let places = partitions
                .into_iter()
                .zip(&mut found)
                .map(|(index, place)| answer(version, index, place))
                .collect();
            ListOffsetsTopicResponse::default().with_name(name).with_partitions(places)
        });
        context.reply(&ListOffsetsResponse::default().with_topics(topics.collect()))
    }))
}

/// Where it is; `None`: there is no such record.
type Found = Result<Option<Spot>, ResponseError>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    offset: Offset,
    timestamp: i64,
    epoch: i32,
}

fn answer(version: i16, index: i32, found: Found) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok(Some(spot)) => {
            let response = response.with_offset(offset_number(spot.offset)).with_timestamp(spot.timestamp);
            if version >= EPOCH_SINCE { response.with_leader_epoch(spot.epoch) } else { response }
        }
        Ok(None) => response.with_offset(NONE).with_timestamp(NONE),
        Err(error) => response.with_error_code(error.code()).with_offset(NONE).with_timestamp(NONE),
    }
}

fn begin(context: &Context<'_>, topic: &str, asked: &ListOffsetsPartition) -> Begun<Search> {
    let epoch = if context.head.version >= EPOCH_SINCE { asked.current_leader_epoch } else { NO_EPOCH };
    let (partition, current) = match find_partition(context, topic, asked.partition_index, epoch) {
        Ok(found) => found,
        Err(error) => return Begun::Found(Err(error)),
    };
    let (place, aim) = match asked.timestamp {
        LATEST => (Place::End, Aim::Place),
        EARLIEST => (Place::Start, Aim::Place),
        MAX_TIMESTAMP if context.head.version >= MAX_TIMESTAMP_SINCE => {
            (Place::Timestamp(TimestampMs(i64::MIN)), Aim::Largest { high: i64::MAX, best: None })
        }
        at if at >= 0 => (Place::Timestamp(TimestampMs(at)), Aim::At(TimestampMs(at))),
        _ => return Begun::Found(Err(ResponseError::InvalidRequest)),
    };
    let search = Search { partition, current: epoch_number(current), aim, frames: 0 };
    Begun::Ask(search, Request::FindOffset(FindOffset { partition, place }))
}

struct Search {
    partition: PartitionId,
    /// The leader's epoch.
    current: i32,
    aim: Aim,
    /// Looked into.
    frames: u32,
}

#[derive(Clone, Copy)]
enum Aim {
    /// What the owner answers is it.
    Place,
    /// The first record at or after.
    At(TimestampMs),
    /// The largest time of all is below `high`, and that of `best` (the first frame to have it) or above.
    Largest { high: i64, best: Option<(Offset, i64)> },
}

impl Pursuit for Search {
    type Found = Found;

    fn answered(&mut self, response: Response) -> Next<Found> {
        match response {
            Response::FindOffset(Ok(found)) => self.on_found(found),
            Response::Fetch(Ok(fetched)) => match fetched.frames.first() {
                Some(frame) => self.on_frame(frame, fetched.log_start),
                // The end of the log.
                None => Next::Found(Ok(None)),
            },
            Response::FindOffset(Err(error)) | Response::Fetch(Err(error)) => {
                Next::Found(Err(fetch_error(&error)))
            }
            _ => Next::Found(Err(ResponseError::UnknownServerError)),
        }
    }
}

impl Search {
    fn on_found(&mut self, found: FoundOffset) -> Next<Found> {
        match self.aim {
            Aim::Place => {
                let spot = Spot { offset: found.offset, timestamp: NONE, epoch: self.current };
                Next::Found(Ok(Some(spot)))
            }
            Aim::At(_) if found.timestamp.is_none() => Next::Found(Ok(None)),
            Aim::At(_) => Next::Ask(fetch_one(self.partition, found.offset)),
            Aim::Largest { high, best } => {
                let (high, best) = match (found.timestamp, best) {
                    (Some(at), _) => (high, Some((found.offset, at.0))),
                    // Nothing is as late as that.
                    (None, Some((_, below))) => (middle(below, high), best),
                    (None, None) => return Next::Found(Ok(None)),
                };
                self.halve(high, best.expect("was found now or before"))
            }
        }
    }

    /// Asks for a time between the largest known and those that are too large.
    fn halve(&mut self, high: i64, (offset, at): (Offset, i64)) -> Next<Found> {
        if at.saturating_add(1) >= high {
            self.aim = Aim::At(TimestampMs(at));
            return Next::Ask(fetch_one(self.partition, offset));
        }
        self.aim = Aim::Largest { high, best: Some((offset, at)) };
        let place = Place::Timestamp(TimestampMs(middle(at, high)));
        Next::Ask(Request::FindOffset(FindOffset { partition: self.partition, place }))
    }

    fn on_frame(&mut self, frame: &Frame, log_start: Offset) -> Next<Found> {
        let Aim::At(at) = self.aim else { unreachable!("frames are fetched for a time") };
        let epoch = epoch_number(frame.header().leader_epoch);
        let records = match Records::open(frame, FRAME_BYTES_MAX) {
            Ok(records) => records,
            Err(_) => return Next::Found(Err(ResponseError::CorruptMessage)),
        };
        let first = records
            .iter()
            .map_while(Result::ok)
            .find(|record| record.timestamp >= at && record.offset >= log_start);
        if let Some(record) = first {
            let spot = Spot { offset: record.offset, timestamp: record.timestamp.0, epoch };
            return Next::Found(Ok(Some(spot)));
        }
        self.frames += 1;
        let next = frame.header().end_offset();
        if self.frames >= FRAMES_MAX {
            // Too early rather than too late: readers skip what they do not want.
            let spot = Spot { offset: next, timestamp: at.0, epoch };
            return Next::Found(Ok(Some(spot)));
        }
        Next::Ask(fetch_one(self.partition, next))
    }
}

/// Strictly above `low` and below `high`, which are two apart or more.
fn middle(low: i64, high: i64) -> i64 {
    i64::try_from(i128::midpoint(i128::from(low), i128::from(high)))
        .expect("between two of 64 bits")
        .max(low + 1)
}
