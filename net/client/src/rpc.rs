//! One request and one reply on a stream of their own, and messages off a stream in general.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::{Request, Response};
use net_wire::{MESSAGE_BYTES_MAX, MessageReader, Refusal, ServerMessage, WireError};
use quinn::{ReadError, VarInt};

use crate::dial::ConnectError;

/// Why a request has no answer of its kind. `E` is what the broker may refuse it for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum RequestError<E: std::error::Error + 'static> {
    /// The broker's answer: nothing was done, unless the answer itself says otherwise.
    #[error("{0}")]
    Refused(#[source] E),
    /// The request never left.
    #[error("{0}")]
    Connect(#[source] ConnectError),
    /// The connection ended before the answer: outcome unknown.
    #[error("connection lost before the answer, outcome unknown: {why}")]
    Disconnected { why: Arc<str> },
    /// No answer in time: outcome unknown.
    #[error("no answer within {after:?}: outcome unknown")]
    TimedOut { after: Duration },
    /// The broker could not make sense of the request: nothing was done.
    #[error("{0}")]
    Rejected(#[source] Refusal),
    /// The broker's answer makes no sense: outcome unknown.
    #[error("answer not understood, outcome unknown: {0}")]
    Protocol(#[source] WireError),
}

/// Why a stream gives no more messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("{0}")]
    Lost(Arc<str>),
    #[error("{0}")]
    Rejected(Refusal),
    #[error("{0}")]
    Protocol(WireError),
}

impl StreamError {
    pub(crate) fn lost(why: impl std::fmt::Display) -> Self {
        Self::Lost(why.to_string().into())
    }
}

/// The receiving half of a stream, message by message.
#[derive(Debug)]
pub(crate) struct Messages {
    recv: quinn::RecvStream,
    reader: MessageReader,
    chunk: Bytes,
}

const CHUNK_BYTES_MAX: usize = 256 << 10;

impl Messages {
    pub(crate) fn new(recv: quinn::RecvStream) -> Self {
        Self { recv, reader: MessageReader::new(MESSAGE_BYTES_MAX), chunk: Bytes::new() }
    }

    /// The next message; `None` at the stream's end.
    ///
    /// # Cancel safety
    /// What was read stays in `self`.
    pub(crate) async fn next(&mut self) -> Result<Option<ServerMessage>, StreamError> {
        loop {
            if !self.chunk.is_empty()
                && let Some(message) = self.reader.read(&mut self.chunk).map_err(StreamError::Protocol)?
            {
                let message = message.into_server().map_err(StreamError::Protocol)?;
                return match message {
                    ServerMessage::Refused(refusal) => Err(StreamError::Rejected(refusal)),
                    message @ (ServerMessage::Produced(_)
                    | ServerMessage::ReadOpened(_)
                    | ServerMessage::Frames(_)
                    | ServerMessage::ReadFailed(_)
                    | ServerMessage::Response(_)) => Ok(Some(message)),
                };
            }
            if !self.chunk.is_empty() {
                continue;
            }
            match self.recv.read_chunk(CHUNK_BYTES_MAX, true).await {
                Ok(Some(chunk)) => self.chunk = chunk.bytes,
                Ok(None) => {
                    self.reader.end().map_err(StreamError::Protocol)?;
                    return Ok(None);
                }
                Err(error) => return Err(lost(error)),
            }
        }
    }

    /// Tells the broker that nothing more is wanted.
    pub(crate) fn stop(&mut self) {
        // It may be over already, which is as good.
        let _ = self.recv.stop(VarInt::from_u32(u32::from(net_wire::Code::Done.number())));
    }
}

fn lost(error: ReadError) -> StreamError {
    match error {
        ReadError::Reset(code) => {
            let code = net_wire::Code::from_number(code.into_inner());
            StreamError::lost(format!("stream reset by the broker: {code}"))
        }
        error @ (ReadError::ConnectionLost(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected) => StreamError::lost(error),
    }
}

/// Changes nothing that anybody sees, so that it may be sent again when its outcome is unknown.
pub(crate) fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::DescribeTopics(_)
        | Request::DescribeCluster
        | Request::FindOffset(_)
        | Request::Fetch(_)
        // An id that nobody uses costs nothing.
        | Request::InitProducer
        | Request::ListGroups(_)
        | Request::MeasureLag(_)
        | Request::CheckTopic(_)
        | Request::DescribeLogs(_) => true,
        Request::Produce(_)
        | Request::CreateTopic(_)
        | Request::AlterTopic(_)
        | Request::DeleteTopic(_)
        | Request::DeleteRecords(_)
        | Request::Group(_) => false,
    }
}

/// Asks and waits for the answer.
pub(crate) async fn ask(connection: &quinn::Connection, request: &Request) -> Result<Response, StreamError> {
    let (mut send, recv) = connection.open_bi().await.map_err(StreamError::lost)?;
    let sent = send.write_chunk(net_wire::encode::request(0, request)).await;
    if sent.is_ok() {
        // Fails only for a stream that was reset, which reading will say better.
        let _ = send.finish();
    }
    let answer = Messages::new(recv).next().await;
    match answer {
        Ok(Some(ServerMessage::Response(response))) => Ok(response),
        Ok(Some(_)) => Err(unexpected("not the answer to a request")),
        Ok(None) => Err(StreamError::lost("stream ended without an answer")),
        // A write that failed says only that; the broker's reason, if it came, is better.
        Err(error) => Err(error),
    }
}

pub(crate) fn unexpected(why: &'static str) -> StreamError {
    StreamError::Protocol(WireError::Unexpected { kind: net_wire::Kind::Refused, why })
}

impl<E: std::error::Error> From<StreamError> for RequestError<E> {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Lost(why) => Self::Disconnected { why },
            StreamError::Rejected(refusal) => Self::Rejected(refusal),
            StreamError::Protocol(error) => Self::Protocol(error),
        }
    }
}
