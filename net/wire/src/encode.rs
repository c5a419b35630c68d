//! Values to bytes.
//!
//! Messages without bulk are one `Bytes`. Messages with frames are a list of chunks for vectored writing:
//! what is made here (message header, meta, frame headers, padding, small payloads) lies in one allocation cut
//! into chunks around the larger payloads, which are the frames' own `Bytes`.

use bytes::Bytes;
use engine_api::{Acks, FetchError, Fetched, PartitionId, ProduceError, Produced, Request, Response};
use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::rancor::Panic;
use rkyv::ser::allocator::ArenaHandle;
use storage_frame::{Frame, HEADER_BYTES, Salt};

use crate::code::Refusal;
use crate::header::{Kind, MESSAGE_HEADER_BYTES, MessageHeader};
use crate::message::{OpenRead, ReadOpened};
use crate::mirror::{FramesRaw, RefusedRaw, Wire};

/// Payloads up to this size are copied beside their header. QUIC's send buffer looks for each packet's bytes
/// chunk by chunk from its oldest unacknowledged one, so thousands of small chunks in flight cost far more
/// than copying them into a large one (0.1 CPU seconds a GB).
const COPY_BYTES_MAX: usize = 16 << 10;
/// Room for most messages without bulk.
const SMALL_BYTES: usize = 128;
/// Of a message with bulk: header and meta.
const FRONT_BYTES: usize = 64;

/// First on a produce stream.
#[must_use]
pub fn open_produce(partition: &PartitionId) -> Bytes {
    whole(Kind::OpenProduce, 0, partition)
}

/// Appends one `Produce` message to `out`; a payload that is not small is shared.
pub fn produce(correlation: u64, acks: Acks, frame: &Frame, out: &mut Vec<Bytes>) {
    with_frames(Kind::Produce, correlation, &acks.to_raw(), std::slice::from_ref(frame), out);
}

/// First and only on a read stream.
#[must_use]
pub fn open_read(correlation: u64, open: &OpenRead) -> Bytes {
    whole(Kind::OpenRead, correlation, open)
}

/// First and only on its stream.
///
/// # Panics
/// For `Produce` and `Fetch`, which have streams of their own: [`produce`], [`open_read`].
#[must_use]
pub fn request(correlation: u64, request: &Request) -> Bytes {
    match request {
        Request::Produce(_) | Request::Fetch(_) => panic!("produce and fetch have streams of their own"),
        Request::FindOffset(find) => whole(Kind::FindOffset, correlation, find),
        Request::DeleteRecords(delete) => whole(Kind::DeleteRecords, correlation, delete),
        Request::CreateTopic(topic) => whole(Kind::CreateTopic, correlation, topic),
        Request::AlterTopic(topic) => whole(Kind::AlterTopic, correlation, topic),
        Request::DeleteTopic(topic) => whole(Kind::DeleteTopic, correlation, topic),
        Request::DescribeTopics(topics) => whole(Kind::DescribeTopics, correlation, topics),
        Request::DescribeCluster => empty(Kind::DescribeCluster, correlation),
        Request::InitProducer => empty(Kind::InitProducer, correlation),
        Request::CheckTopic(_) | Request::DescribeLogs(_) => panic!("asked through Kafka's protocol alone"),
        Request::Group(group) => whole(Kind::Group, correlation, group),
        Request::ListGroups(list) => whole(Kind::ListGroups, correlation, list),
        Request::MeasureLag(measure) => whole(Kind::MeasureLag, correlation, measure),
    }
}

/// The answer to a `Produce`.
#[must_use]
pub fn produced(correlation: u64, result: &Result<Produced, ProduceError>) -> Bytes {
    produced_onto(Vec::with_capacity(SMALL_BYTES), correlation, result).into()
}

/// As [`produced`], behind the messages that `out` holds already.
#[must_use]
pub fn produced_onto(out: Vec<u8>, correlation: u64, result: &Result<Produced, ProduceError>) -> Vec<u8> {
    match result {
        Ok(produced) => whole_onto(out, Kind::Produced, correlation, produced),
        Err(error) => whole_onto(out, Kind::ProduceFailed, correlation, error),
    }
}

#[must_use]
pub fn read_opened(correlation: u64, opened: &ReadOpened) -> Bytes {
    whole(Kind::ReadOpened, correlation, opened)
}

/// Last on a read stream.
#[must_use]
pub fn read_failed(correlation: u64, error: &FetchError) -> Bytes {
    whole(Kind::ReadFailed, correlation, error)
}

/// Appends one push to `out`; payloads that are not small are shared. Returns its bytes.
///
/// # Panics
/// When the frames are 4 GiB or more together.
pub fn frames(correlation: u64, fetched: &Fetched, out: &mut Vec<Bytes>) -> usize {
    let meta = FramesRaw {
        log_start: fetched.log_start.0,
        high_watermark: fetched.high_watermark.0,
        frame_count: fetched.frames.len() as u32,
    };
    with_frames(Kind::Frames, correlation, &meta, &fetched.frames, out)
}

/// The answer to a [`request`].
///
/// # Panics
/// For `Produce` and `Fetch`, which have messages of their own: [`produced`], [`frames`].
#[must_use]
pub fn response(correlation: u64, response: &Response) -> Bytes {
    match response {
        Response::Produce(_) | Response::Fetch(_) => panic!("produce and fetch have streams of their own"),
        Response::FindOffset(Ok(found)) => whole(Kind::OffsetFound, correlation, found),
        Response::FindOffset(Err(error)) => whole(Kind::FindOffsetFailed, correlation, error),
        Response::DeleteRecords(Ok(start)) => whole(Kind::RecordsDeleted, correlation, start),
        Response::DeleteRecords(Err(error)) => whole(Kind::DeleteRecordsFailed, correlation, error),
        Response::CreateTopic(Ok(topic)) => whole(Kind::TopicCreated, correlation, topic),
        Response::CreateTopic(Err(error)) => whole(Kind::CreateTopicFailed, correlation, error),
        Response::AlterTopic(Ok(topic)) => whole(Kind::TopicAltered, correlation, topic),
        Response::AlterTopic(Err(error)) => whole(Kind::AlterTopicFailed, correlation, error),
        Response::DeleteTopic(Ok(())) => empty(Kind::TopicDeleted, correlation),
        Response::DeleteTopic(Err(error)) => whole(Kind::DeleteTopicFailed, correlation, error),
        Response::DescribeTopics(Ok(topics)) => whole(Kind::TopicsDescribed, correlation, topics),
        Response::DescribeTopics(Err(error)) => whole(Kind::DescribeTopicsFailed, correlation, error),
        Response::DescribeCluster(cluster) => whole(Kind::ClusterDescribed, correlation, cluster),
        Response::InitProducer(Ok(id)) => whole(Kind::ProducerInited, correlation, id),
        Response::InitProducer(Err(error)) => whole(Kind::InitProducerFailed, correlation, error),
        Response::CheckTopic(_) | Response::DescribeLogs(_) => panic!("asked through Kafka's protocol alone"),
        Response::Group(Ok(answer)) => whole(Kind::GroupAnswered, correlation, answer),
        Response::Group(Err(error)) => whole(Kind::GroupFailed, correlation, error),
        Response::ListGroups(Ok(groups)) => whole(Kind::GroupsListed, correlation, groups),
        Response::ListGroups(Err(error)) => whole(Kind::ListGroupsFailed, correlation, error),
        Response::MeasureLag(Ok(lag)) => whole(Kind::LagMeasured, correlation, lag),
        Response::MeasureLag(Err(error)) => whole(Kind::MeasureLagFailed, correlation, error),
    }
}

/// Last on a stream. `correlation`: of the message refused, 0 if it is not known.
#[must_use]
pub fn refused(correlation: u64, refusal: &Refusal) -> Bytes {
    let raw = RefusedRaw {
        code: refusal.code.number(),
        cause: refusal.cause.to_raw(),
        remedy: refusal.remedy.to_raw(),
    };
    let mut out = archived_onto(Vec::with_capacity(SMALL_BYTES), &raw);
    put_header(&mut out, Kind::Refused, correlation, 0, 0);
    out.into()
}

fn whole<T>(kind: Kind, correlation: u64, value: &T) -> Bytes
where
    T: Wire,
    T::Raw: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Panic>>,
{
    whole_onto(Vec::with_capacity(SMALL_BYTES), kind, correlation, value).into()
}

fn whole_onto<T>(out: Vec<u8>, kind: Kind, correlation: u64, value: &T) -> Vec<u8>
where
    T: Wire,
    T::Raw: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Panic>>,
{
    let start = out.len();
    let mut out = archived_onto(out, &value.to_raw());
    put_header(&mut out[start..], kind, correlation, 0, 0);
    out
}

fn empty(kind: Kind, correlation: u64) -> Bytes {
    let mut out = vec![0; MESSAGE_HEADER_BYTES];
    put_header(&mut out, kind, correlation, 0, 0);
    out.into()
}

/// Appends room for the header, then `raw`.
fn archived_onto<R>(mut out: Vec<u8>, raw: &R) -> Vec<u8>
where
    R: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Panic>>,
{
    out.resize(out.len() + MESSAGE_HEADER_BYTES, 0);
    to_bytes_in(raw, out).unwrap_or_else(|never: Panic| match never {})
}

fn put_header(front: &mut [u8], kind: Kind, correlation: u64, meta_bytes: usize, bulk_bytes: usize) {
    let bytes = front.len() - MESSAGE_HEADER_BYTES + bulk_bytes;
    let header = MessageHeader {
        bytes: u32::try_from(bytes).expect("a message below 4 GiB"),
        kind,
        meta_bytes: u16::try_from(meta_bytes).expect("metas before bulk are small"),
        correlation,
    };
    front[..MESSAGE_HEADER_BYTES].copy_from_slice(&header.encode());
}

fn with_frames<R>(kind: Kind, correlation: u64, meta: &R, frames: &[Frame], out: &mut Vec<Bytes>) -> usize
where
    R: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Panic>>,
{
    let is_copied = |frame: &Frame| frame.payload().len() <= COPY_BYTES_MAX;
    let copied_bytes: usize = frames.iter().filter(|f| is_copied(f)).map(|f| f.payload().len()).sum();
    // Per frame its header and at most 15 bytes of padding; one allocation for all of them.
    let capacity = FRONT_BYTES + frames.len() * (HEADER_BYTES + 16) + copied_bytes;
    let mut own = archived_onto(Vec::with_capacity(capacity), meta);
    let meta_bytes = own.len() - MESSAGE_HEADER_BYTES;
    let bulk_bytes: usize = frames.iter().map(|f| f.header().frame_bytes()).sum();
    put_header(&mut own, kind, correlation, meta_bytes, bulk_bytes);

    // Where `own` is cut to let a payload in.
    let mut cuts = Vec::with_capacity(frames.len());
    for frame in frames {
        own.extend_from_slice(&frame.header().encode(Salt::NONE));
        if is_copied(frame) {
            own.extend_from_slice(frame.payload());
        } else {
            cuts.push((own.len(), frame.payload().clone()));
        }
        own.resize(own.len() + frame.header().frame_bytes() - HEADER_BYTES - frame.payload().len(), 0);
    }
    let mut own = Bytes::from(own);
    let mut begin = 0;
    out.reserve(2 * cuts.len() + 1);
    for (cut, payload) in cuts {
        out.push(own.split_to(cut - begin));
        out.push(payload);
        begin = cut;
    }
    if !own.is_empty() {
        out.push(own);
    }
    MESSAGE_HEADER_BYTES + meta_bytes + bulk_bytes
}
