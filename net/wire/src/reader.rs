//! Whole messages out of a stream's bytes, however they are cut up.
//!
//! ```text
//! buffered_bytes() <= GROWTH * bytes arrived of the current message + GRAIN
//! ```
//!
//! so a header that claims 64 MiB costs nothing until they come. A body with bulk is gathered in one
//! allocation of its own, which frames then share; it never pins the datagrams it came in.

use bytes::{Bytes, BytesMut};

use crate::error::WireError;
use crate::header::{Kind, MESSAGE_HEADER_BYTES, MessageHeader};

/// Allocated for a body's first bytes, unless it is smaller.
const GRAIN: usize = 4 << 10;
/// Next allocation over what is there. Each step copies what is there: with 32 a batch of the SDK's default
/// 128 KiB is whole in the second allocation, after one datagram's worth was copied. With 16 it took a third, of
/// 96 KiB, and moving those was 5 % of the broker's time.
const GROWTH: usize = 32;

/// One whole message; its meta and bulk have not been looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub correlation: u64,
    /// The archive.
    pub meta: Bytes,
    /// Frames, one after another; empty in kinds without bulk.
    pub bulk: Bytes,
}

/// See the module.
#[derive(Debug)]
pub struct MessageReader {
    bytes_max: usize,
    head: [u8; MESSAGE_HEADER_BYTES],
    head_have: usize,
    header: Option<MessageHeader>,
    body: BytesMut,
    failed: Option<WireError>,
}

impl MessageReader {
    /// Messages of more than `bytes_max` bytes, header included, are refused.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            head: [0; MESSAGE_HEADER_BYTES],
            head_have: 0,
            header: None,
            body: BytesMut::new(),
            failed: None,
        }
    }

    /// Takes bytes off the front of `chunk` until a message is whole or `chunk` is empty.
    ///
    /// Call it again with the same `chunk` after each message.
    ///
    /// # Errors
    /// [`WireError`], then and ever after: where the next message begins is not known any more.
    pub fn read(&mut self, chunk: &mut Bytes) -> Result<Option<Message>, WireError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.read_unless_failed(chunk).inspect_err(|error| {
            self.failed = Some(error.clone());
            self.body = BytesMut::new();
        })
    }

    fn read_unless_failed(&mut self, chunk: &mut Bytes) -> Result<Option<Message>, WireError> {
        let header = match self.header {
            Some(header) => header,
            None => match self.read_header(chunk)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let body_bytes = header.bytes as usize;
        if self.body.is_empty() && chunk.len() >= body_bytes && !header.kind.has_bulk() {
            // Read and dropped at once by whoever decodes it, so it may share the chunk.
            return Ok(Some(self.finish(header, chunk.split_to(body_bytes))));
        }
        let take = chunk.len().min(body_bytes - self.body.len());
        self.make_room(take, body_bytes);
        self.body.extend_from_slice(&chunk.split_to(take));
        if self.body.len() < body_bytes {
            return Ok(None);
        }
        let body = std::mem::take(&mut self.body).freeze();
        Ok(Some(self.finish(header, body)))
    }

    fn read_header(&mut self, chunk: &mut Bytes) -> Result<Option<MessageHeader>, WireError> {
        let take = chunk.len().min(MESSAGE_HEADER_BYTES - self.head_have);
        self.head[self.head_have..self.head_have + take].copy_from_slice(&chunk.split_to(take));
        self.head_have += take;
        if self.head_have < MESSAGE_HEADER_BYTES {
            return Ok(None);
        }
        let header = MessageHeader::decode(&self.head)?;
        let bytes = MESSAGE_HEADER_BYTES + header.bytes as usize;
        if bytes > self.bytes_max {
            return Err(WireError::TooLarge { bytes, bytes_max: self.bytes_max });
        }
        self.header = Some(header);
        Ok(Some(header))
    }

    fn make_room(&mut self, take: usize, body_bytes: usize) {
        let need = self.body.len() + take;
        if need > self.body.capacity() {
            let capacity = need.max(self.body.len() * GROWTH).max(GRAIN).min(body_bytes);
            self.body.reserve(capacity - self.body.len());
        }
    }

    fn finish(&mut self, header: MessageHeader, mut body: Bytes) -> Message {
        self.header = None;
        self.head_have = 0;
        let (meta, bulk) = if header.kind.has_bulk() {
            let meta = body.split_to(usize::from(header.meta_bytes));
            (meta, body)
        } else {
            (body, Bytes::new())
        };
        Message { kind: header.kind, correlation: header.correlation, meta, bulk }
    }

    /// Nothing of a message has arrived yet: the stream may end here.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.head_have == 0
    }

    /// Memory held for the message under way.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.body.capacity()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// `Truncated` inside a message.
    pub fn end(&self) -> Result<(), WireError> {
        if self.is_between_messages() {
            Ok(())
        } else {
            Err(WireError::Truncated { have: self.head_have + self.body.len() })
        }
    }
}
