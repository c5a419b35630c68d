//! Produce: a batch for each partition, stored as it was sent.
//!
//! Every partition has an answer of its own: one that is refused does not hold up the others. With acks=0 nothing is
//! answered; an error then ends the connection, which makes the client look for the leader anew, as with Kafka.
//!
//! Not told: the log's start, and of a duplicate the time of appending. Both are -1, which clients take for "not known"
//! and "as I sent it"; readers get the time of appending with the records.

use bytes::Bytes;
use engine_api::{Acks, OFFSETS_TOPIC, Produce, ProduceError, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage_frame::{FRAME_BYTES_MAX, Frame};
use storage_recordbatch::{BatchHeader, Compression, Records, to_frame};

use crate::api::{ASKS_MAX, Outcome};
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::{batch_error, produce_error};
use crate::lookup::{NO_EPOCH, NONE, find_partition, offset_number};

/// The first version whose clients can read zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// The first version with words for errors (KIP-467).
const MESSAGES_SINCE: i16 = 8;

/// Of a batch, told one by one.
const RECORDS_MAX: usize = 10_000;
const KEYLESS: &str = "has no key, which every record of a compacted topic must have";

/// A topic and its partitions' answers, in the order of the request.
type Topics = Vec<(TopicName, Vec<(i32, Part)>)>;

enum Part {
    /// The next answer is for it.
    Asked(Frame),
    Refused(Refusal),
}

#[derive(Clone)]
struct Refusal {
    code: i16,
    why: String,
    /// The records that are the reason, where it is not the whole batch.
    records: Vec<i32>,
}

impl Refusal {
    fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Self { code: error.code(), why: why.into(), records: Vec::new() }
    }
}

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: ProduceRequest = context.decode(body)?;
    let acks = acks(&request);
    let mut asks = Vec::new();
    let mut topics = Topics::new();
    for topic in request.topic_data {
        let mut parts = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let frame = acks.as_ref().map_err(Refusal::clone);
            let produce = frame.and_then(|acks| produce(context, &topic.name, data, *acks));
            parts.push((
                index,
                match produce {
                    Ok(produce) => {
                        let frame = produce.frame.clone();
                        asks.push(Request::Produce(produce));
                        Part::Asked(frame)
                    }
                    Err(refusal) => Part::Refused(refusal),
                },
            ));
        }
        topics.push((topic.name, parts));
    }
    if asks.len() > ASKS_MAX {
        return Err(Malformed::new(format!("{} partitions", asks.len())));
    }
    let is_silent = matches!(acks, Ok(Acks::None));
    Ok(context.gather(asks, move |context, answers| answer(context, topics, answers, is_silent)))
}

fn acks(request: &ProduceRequest) -> Result<Acks, Refusal> {
    if request.transactional_id.is_some() {
        // As InitProducerId says it.
        let error = ResponseError::TransactionalIdAuthorizationFailed;
        return Err(Refusal::new(error, "transactions are not served"));
    }
    match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        other => Err(Refusal::new(ResponseError::InvalidRequiredAcks, format!("acks={other}: -1, 0 or 1"))),
    }
}

fn produce(
    context: &Context<'_>,
    topic: &str,
    data: PartitionProduceData,
    acks: Acks,
) -> Result<Produce, Refusal> {
    if topic == OFFSETS_TOPIC {
        return Err(Refusal::new(ResponseError::InvalidTopicException, "the topic is the broker's own"));
    }
    let (partition, _) =
        find_partition(context, topic, data.index, NO_EPOCH).map_err(|error| Refusal::new(error, ""))?;
    let frame = frame(context.head.version, data.records.unwrap_or_default())?;
    Ok(Produce { partition, acks, frame })
}

fn frame(version: i16, records: Bytes) -> Result<Frame, Refusal> {
    if records.is_empty() {
        return Err(Refusal::new(ResponseError::InvalidRecord, "no record batch"));
    }
    let frame = to_frame(records).map_err(|error| Refusal::new(batch_error(&error), error.to_string()))?;
    let is_zstd =
        BatchHeader::parse(frame.payload()).is_ok_and(|header| header.compression == Compression::Zstd);
    if is_zstd && version < ZSTD_SINCE {
        let why = "zstd needs version 7 of produce requests: use a newer client";
        return Err(Refusal::new(ResponseError::UnsupportedCompressionType, why));
    }
    Ok(frame)
}

fn answer(context: &Context<'_>, topics: Topics, answers: Vec<Response>, is_silent: bool) -> Outcome {
    let mut answers = answers.into_iter();
    let mut refused = None;
    let mut responses = Vec::with_capacity(topics.len());
    for (name, parts) in topics {
        let mut partitions = Vec::with_capacity(parts.len());
        for (index, part) in parts {
            let result = match part {
                Part::Refused(refusal) => Err(refusal),
                Part::Asked(frame) => match answers.next().expect("one for each that was asked") {
                    Response::Produce(Ok(produced)) => Ok(produced),
                    Response::Produce(Err(error)) => Err(owner_refuses(&frame, &error)),
                    other => return Outcome::unexpected(&other),
                },
            };
            let response = PartitionProduceResponse::default().with_index(index);
            partitions.push(match result {
                // A duplicate is told where it is stored: to its sender that is success.
                Ok(produced) => response
                    .with_base_offset(offset_number(produced.base_offset))
                    .with_log_append_time_ms(produced.append_time.map_or(NONE, |at| at.0)),
                Err(refusal) => {
                    refused.get_or_insert_with(|| format!("{}-{index}: {}", *name, refusal.why));
                    refuse(context.head.version, response, refusal)
                }
            });
        }
        responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(partitions));
    }
    match refused {
        Some(why) if is_silent => Outcome::Close("produce_without_acks_failed", why),
        None if is_silent => Outcome::Silence,
        Some(_) | None => context.reply(&ProduceResponse::default().with_responses(responses)),
    }
}

/// Of what a client sends and the edge lets through, the owner finds fault with records that have no key where the
/// topic is compacted: clients are told which (KIP-467), and may send the others again.
fn owner_refuses(frame: &Frame, error: &ProduceError) -> Refusal {
    let mut refusal = Refusal::new(produce_error(error), error.to_string());
    if matches!(error, ProduceError::Invalid { .. })
        && let Ok(records) = Records::open(frame, FRAME_BYTES_MAX)
    {
        let keyless = (0..)
            .zip(records.iter())
            .filter(|(_, record)| record.as_ref().is_ok_and(|record| record.key.is_none()))
            .map(|(index, _)| index);
        refusal.records = keyless.take(RECORDS_MAX).collect();
    }
    refusal
}

fn refuse(version: i16, response: PartitionProduceResponse, refusal: Refusal) -> PartitionProduceResponse {
    let response = response.with_error_code(refusal.code).with_base_offset(NONE);
    if version < MESSAGES_SINCE || refusal.why.is_empty() {
        return response;
    }
    let errors = refusal.records.iter().map(|index| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(*index)
            .with_batch_index_error_message(Some(StrBytes::from_static_str(KEYLESS)))
    });
    response.with_record_errors(errors.collect()).with_error_message(Some(refusal.why.into()))
}
