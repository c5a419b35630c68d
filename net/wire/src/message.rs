//! Messages as values.

use bytes::Bytes;
use engine_api::{
    Acks, AlterTopic, ClusterDescription, CreateTopic, DeleteRecords, DeleteTopic, DescribeTopics,
    FetchError, FindOffset, FoundOffset, GroupAnswer, GroupListing, GroupRequest, Lag, ListGroups,
    MeasureLag, PartitionId, ProduceError, Produced, Request, Response, TopicDescription,
};
use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize};
use storage_frame::{Frame, Offset, Salt, peek_frame_bytes};

use crate::code::{Code, Refusal};
use crate::error::WireError;
use crate::header::Kind;
use crate::mirror::{FramesRaw, RefusedRaw, Wire, check_names};
use crate::reader::Message;

/// Starts a read stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRead {
    pub partition: PartitionId,
    /// The first push begins with the frame that contains it.
    pub offset: Offset,
    /// Frames of one push; at least one frame comes however large it is. 0: the broker's choice.
    pub bytes_max: u32,
    /// That of the reader, if it is a member of one: its coordinator can tell that the member reads.
    pub group: Option<String>,
}

/// The read stream exists; [`Frames`] follow as there are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOpened {
    pub log_start: Offset,
    pub high_watermark: Offset,
}

/// One push on a read stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub frame_count: u32,
    /// Frames without salt, each padded to 16 bytes.
    pub bulk: Bytes,
}

impl Frames {
    /// Checks every frame's two checksums. Payloads share [`bulk`](Self::bulk).
    ///
    /// # Errors
    /// `Frame`, or `Malformed` when there are not exactly `frame_count`.
    pub fn frames(mut self) -> Result<Vec<Frame>, WireError> {
        let malformed = |why| WireError::Malformed { kind: Kind::Frames, why };
        let mut frames = Vec::new();
        while !self.bulk.is_empty() {
            let frame = Frame::split_from(&mut self.bulk, Salt::NONE)
                .map_err(|source| WireError::Frame { kind: Kind::Frames, source })?;
            frames.push(frame);
        }
        if frames.len() != self.frame_count as usize {
            return Err(malformed("its frames are not as many as it says"));
        }
        Ok(frames)
    }
}

/// The one frame of a `Produce` message, its checksums verified, sharing `bulk`.
///
/// # Errors
/// `Frame`, or `Malformed` when something follows the frame.
pub fn take_produced_frame(mut bulk: Bytes) -> Result<Frame, WireError> {
    let kind = Kind::Produce;
    // Before the checksums, which cost more: a claim that does not match the message is wrong anyway.
    if peek_frame_bytes(&bulk).is_some_and(|bytes| bytes < bulk.len()) {
        return Err(WireError::Malformed { kind, why: "more than one frame" });
    }
    let frame =
        Frame::split_from(&mut bulk, Salt::NONE).map_err(|source| WireError::Frame { kind, source })?;
    if bulk.is_empty() { Ok(frame) } else { Err(WireError::Malformed { kind, why: "bytes after the frame" }) }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// First on a produce stream. Not answered.
    OpenProduce(PartitionId),
    /// `bulk` is for [`take_produced_frame`].
    Produce { acks: Acks, bulk: Bytes },
    /// First and only on a read stream.
    OpenRead(OpenRead),
    /// First and only on its stream; never `Request::Produce` or `Request::Fetch`.
    Request(Request),
}

/// What a broker sends.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    Produced(Result<Produced, ProduceError>),
    ReadOpened(ReadOpened),
    Frames(Frames),
    /// Last on its stream.
    ReadFailed(FetchError),
    /// The answer to a [`ClientMessage::Request`]; never `Response::Produce` or `Response::Fetch`.
    Response(Response),
    /// Last on its stream; the client's side is stopped with the same code.
    Refused(Refusal),
}

impl Message {
    /// # Errors
    /// `Malformed`, or `Unexpected` for what only brokers send.
    pub fn into_client(self) -> Result<ClientMessage, WireError> {
        let meta = Meta { kind: self.kind, bytes: &self.meta };
        let message = match self.kind {
            Kind::OpenProduce => ClientMessage::OpenProduce(meta.open()?),
            Kind::Produce => ClientMessage::Produce { acks: meta.open()?, bulk: self.bulk },
            Kind::OpenRead => ClientMessage::OpenRead(meta.open()?),
            Kind::FindOffset => ClientMessage::Request(Request::FindOffset(meta.open::<FindOffset>()?)),
            Kind::DeleteRecords => {
                ClientMessage::Request(Request::DeleteRecords(meta.open::<DeleteRecords>()?))
            }
            Kind::CreateTopic => ClientMessage::Request(Request::CreateTopic(meta.open::<CreateTopic>()?)),
            Kind::AlterTopic => ClientMessage::Request(Request::AlterTopic(meta.open::<AlterTopic>()?)),
            Kind::DeleteTopic => ClientMessage::Request(Request::DeleteTopic(meta.open::<DeleteTopic>()?)),
            Kind::DescribeTopics => {
                ClientMessage::Request(Request::DescribeTopics(meta.open::<DescribeTopics>()?))
            }
            Kind::DescribeCluster => {
                meta.empty()?;
                ClientMessage::Request(Request::DescribeCluster)
            }
            Kind::InitProducer => {
                meta.empty()?;
                ClientMessage::Request(Request::InitProducer)
            }
            Kind::Group => ClientMessage::Request(Request::Group(meta.open::<GroupRequest>()?)),
            Kind::ListGroups => ClientMessage::Request(Request::ListGroups(meta.open::<ListGroups>()?)),
            Kind::MeasureLag => ClientMessage::Request(Request::MeasureLag(meta.open::<MeasureLag>()?)),
            Kind::Produced
            | Kind::ReadOpened
            | Kind::OffsetFound
            | Kind::RecordsDeleted
            | Kind::TopicCreated
            | Kind::TopicAltered
            | Kind::TopicDeleted
            | Kind::TopicsDescribed
            | Kind::ClusterDescribed
            | Kind::ProducerInited
            | Kind::GroupAnswered
            | Kind::GroupsListed
            | Kind::LagMeasured
            | Kind::Frames
            | Kind::ProduceFailed
            | Kind::ReadFailed
            | Kind::FindOffsetFailed
            | Kind::DeleteRecordsFailed
            | Kind::CreateTopicFailed
            | Kind::AlterTopicFailed
            | Kind::DeleteTopicFailed
            | Kind::DescribeTopicsFailed
            | Kind::InitProducerFailed
            | Kind::GroupFailed
            | Kind::ListGroupsFailed
            | Kind::MeasureLagFailed
            | Kind::Refused => {
                return Err(WireError::Unexpected { kind: self.kind, why: "only brokers send it" });
            }
        };
        if let ClientMessage::Request(request) = &message {
            check_names(request).map_err(|why| WireError::Malformed { kind: self.kind, why })?;
        }
        Ok(message)
    }

    /// # Errors
    /// `Malformed`, or `Unexpected` for what only clients send.
    pub fn into_server(self) -> Result<ServerMessage, WireError> {
        let meta = Meta { kind: self.kind, bytes: &self.meta };
        Ok(match self.kind {
            Kind::Produced => ServerMessage::Produced(Ok(meta.open()?)),
            Kind::ProduceFailed => ServerMessage::Produced(Err(meta.open()?)),
            Kind::ReadOpened => ServerMessage::ReadOpened(meta.open()?),
            Kind::ReadFailed => ServerMessage::ReadFailed(meta.open()?),
            Kind::Frames => ServerMessage::Frames(meta.open_frames(self.bulk)?),
            Kind::Refused => ServerMessage::Refused(meta.open_refused()?),
            Kind::OffsetFound => response(Response::FindOffset(Ok(meta.open::<FoundOffset>()?))),
            Kind::FindOffsetFailed => response(Response::FindOffset(Err(meta.open()?))),
            Kind::RecordsDeleted => response(Response::DeleteRecords(Ok(meta.open::<Offset>()?))),
            Kind::DeleteRecordsFailed => response(Response::DeleteRecords(Err(meta.open()?))),
            Kind::TopicCreated => response(Response::CreateTopic(Ok(meta.open::<TopicDescription>()?))),
            Kind::CreateTopicFailed => response(Response::CreateTopic(Err(meta.open()?))),
            Kind::TopicAltered => response(Response::AlterTopic(Ok(meta.open::<TopicDescription>()?))),
            Kind::AlterTopicFailed => response(Response::AlterTopic(Err(meta.open()?))),
            Kind::TopicDeleted => {
                meta.empty()?;
                response(Response::DeleteTopic(Ok(())))
            }
            Kind::DeleteTopicFailed => response(Response::DeleteTopic(Err(meta.open()?))),
            Kind::TopicsDescribed => {
                response(Response::DescribeTopics(Ok(meta.open::<Vec<TopicDescription>>()?)))
            }
            Kind::DescribeTopicsFailed => response(Response::DescribeTopics(Err(meta.open()?))),
            Kind::ClusterDescribed => response(Response::DescribeCluster(meta.open::<ClusterDescription>()?)),
            Kind::ProducerInited => response(Response::InitProducer(Ok(meta.open::<u64>()?))),
            Kind::InitProducerFailed => response(Response::InitProducer(Err(meta.open()?))),
            Kind::GroupAnswered => response(Response::Group(Ok(meta.open::<GroupAnswer>()?))),
            Kind::GroupFailed => response(Response::Group(Err(meta.open()?))),
            Kind::GroupsListed => response(Response::ListGroups(Ok(meta.open::<Vec<GroupListing>>()?))),
            Kind::ListGroupsFailed => response(Response::ListGroups(Err(meta.open()?))),
            Kind::LagMeasured => response(Response::MeasureLag(Ok(meta.open::<Lag>()?))),
            Kind::MeasureLagFailed => response(Response::MeasureLag(Err(meta.open()?))),
            Kind::OpenProduce
            | Kind::Produce
            | Kind::OpenRead
            | Kind::FindOffset
            | Kind::DeleteRecords
            | Kind::CreateTopic
            | Kind::AlterTopic
            | Kind::DeleteTopic
            | Kind::DescribeTopics
            | Kind::DescribeCluster
            | Kind::InitProducer
            | Kind::Group
            | Kind::ListGroups
            | Kind::MeasureLag => {
                return Err(WireError::Unexpected { kind: self.kind, why: "only clients send it" });
            }
        })
    }
}

fn response(response: Response) -> ServerMessage {
    ServerMessage::Response(response)
}

/// An archive from the other side, not believed.
struct Meta<'a> {
    kind: Kind,
    bytes: &'a [u8],
}

impl Meta<'_> {
    fn malformed(&self, why: &'static str) -> WireError {
        WireError::Malformed { kind: self.kind, why }
    }

    fn raw<R>(&self) -> Result<R, WireError>
    where
        R: Archive,
        R::Archived:
            for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<R, HighDeserializer<Failure>>,
    {
        rkyv::from_bytes::<R, Failure>(self.bytes)
            .map_err(|_| self.malformed("its meta is not a valid archive"))
    }

    fn open<T>(&self) -> Result<T, WireError>
    where
        T: Wire,
        T::Raw: Archive,
        <T::Raw as Archive>::Archived:
            for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<T::Raw, HighDeserializer<Failure>>,
    {
        T::from_raw(self.raw()?).map_err(|why| self.malformed(why))
    }

    fn empty(&self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.malformed("it has no meta")) }
    }

    fn open_frames(&self, bulk: Bytes) -> Result<Frames, WireError> {
        let raw: FramesRaw = self.raw()?;
        let offset = |raw| Offset::from_raw(raw).map_err(|why| self.malformed(why));
        Ok(Frames {
            log_start: offset(raw.log_start)?,
            high_watermark: offset(raw.high_watermark)?,
            frame_count: raw.frame_count,
            bulk,
        })
    }

    fn open_refused(&self) -> Result<Refusal, WireError> {
        let raw: RefusedRaw = self.raw()?;
        let text = |raw| String::from_raw(raw).map_err(|why| self.malformed(why));
        Ok(Refusal {
            code: Code::from_number(u64::from(raw.code)),
            cause: text(raw.cause)?,
            remedy: text(raw.remedy)?,
        })
    }
}
