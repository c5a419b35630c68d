//! Heads of requests, and answers as bytes.
//!
//! ```text
//! request: size i32 | key i16, version i16, correlation i32, client id | tagged fields when flexible | body
//! answer:  size i32 | correlation i32 | tagged fields when flexible, but never ApiVersions' | body
//! ```
//! The size counts what follows it.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Encodable, StrBytes};

use crate::config::ANSWER_BYTES_MAX;
use crate::walk::skip_tags;

/// Bytes that say how long a message is.
pub(crate) const SIZE_BYTES: usize = 4;

/// What stands before every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) key: i16,
    pub(crate) version: i16,
    /// Comes back in the answer.
    pub(crate) correlation: i32,
    /// Empty: not said.
    pub(crate) client_id: StrBytes,
}

/// The bytes are not what their API and version say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Malformed {
    pub(crate) why: String,
}

impl Malformed {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// There is no such answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("a field is set that the version does not have")]
    Field,
    #[error("{0} bytes")]
    TooLarge(usize),
}

/// An answer, size and all, in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) chunks: Vec<Bytes>,
}

impl Reply {
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

/// Takes the head off `frame`, but for its tagged fields: whether there are any depends on what is known of the API.
pub(crate) fn take_head(frame: &mut Bytes) -> Result<RequestHead, Malformed> {
    let short = || Malformed::new("shorter than a request's head");
    let (fixed, rest) = frame.split_first_chunk::<10>().ok_or_else(short)?;
    let [k0, k1, v0, v1, c0, c1, c2, c3, n0, n1] = *fixed;
    let id_bytes = i16::from_be_bytes([n0, n1]);
    let id_bytes = match id_bytes {
        -1 => 0,
        0.. => usize::try_from(id_bytes).expect("not below zero"),
        _ => return Err(Malformed::new("client id of a length below zero")),
    };
    if rest.len() < id_bytes {
        return Err(short());
    }
    let client_id = frame.slice(10..10 + id_bytes);
    let head = RequestHead {
        key: i16::from_be_bytes([k0, k1]),
        version: i16::from_be_bytes([v0, v1]),
        correlation: i32::from_be_bytes([c0, c1, c2, c3]),
        client_id: StrBytes::from_utf8(client_id).map_err(|_| Malformed::new("client id is not UTF-8"))?,
    };
    let _ = frame.split_to(10 + id_bytes);
    Ok(head)
}

/// Takes the head's tagged fields, which nothing uses.
pub(crate) fn take_head_tags(frame: &mut Bytes) -> Result<(), Malformed> {
    let mut rest = &frame[..];
    skip_tags(&mut rest).map_err(|error| Malformed::new(format!("head: {error}")))?;
    let taken = frame.len() - rest.len();
    let _ = frame.split_to(taken);
    Ok(())
}

/// Begins an answer: room for its size, and its head. `bytes` is how much is to follow, roughly.
pub(crate) fn begin_reply(key: ApiKey, head: &RequestHead, bytes: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(SIZE_BYTES + 5 + bytes);
    out.put_i32(0);
    out.put_i32(head.correlation);
    if key.response_header_version(head.version) == 1 {
        out.put_u8(0);
    }
    out
}

/// Writes the size of an answer whose first piece is `first`, with `more_bytes` in others.
pub(crate) fn seal_size(first: &mut BytesMut, more_bytes: usize) -> Result<(), ReplyError> {
    let bytes = first.len() - SIZE_BYTES + more_bytes;
    let size = i32::try_from(bytes).map_err(|_| ReplyError::TooLarge(bytes))?;
    first[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// The answer in one piece. Its size is looked at before there is room made for it.
pub(crate) fn encode_reply<R: Encodable>(
    key: ApiKey,
    head: &RequestHead,
    version: i16,
    response: &R,
) -> Result<Reply, ReplyError> {
    let bytes = response.compute_size(version).map_err(|_| ReplyError::Field)?;
    if bytes > ANSWER_BYTES_MAX {
        return Err(ReplyError::TooLarge(bytes));
    }
    let mut out = begin_reply(key, head, bytes);
    response.encode(&mut out, version).map_err(|_| ReplyError::Field)?;
    seal_size(&mut out, 0)?;
    Ok(Reply { chunks: vec![out.freeze()] })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_groups_response::ListedGroup;
    use kafka_protocol::messages::{GroupId, ListGroupsResponse};

    use super::*;

    #[test]
    fn an_answer_that_is_too_large_is_not_made() {
        let head = RequestHead { key: 16, version: 4, correlation: 1, client_id: StrBytes::new() };
        let group = ListedGroup::default().with_group_id(GroupId("g".repeat(30_000).into()));
        let answer = |count| ListGroupsResponse::default().with_groups(vec![group.clone(); count]);
        assert!(encode_reply(ApiKey::ListGroups, &head, 4, &answer(10)).is_ok());
        let count = ANSWER_BYTES_MAX / 30_000 + 1;
        let error = encode_reply(ApiKey::ListGroups, &head, 4, &answer(count)).unwrap_err();
        assert!(matches!(error, ReplyError::TooLarge(bytes) if bytes > ANSWER_BYTES_MAX));
        let crate::api::Outcome::Close(reason, _) = crate::api::Outcome::from(Err(error)) else {
            panic!("is answered")
        };
        assert_eq!(reason, "answer_too_large");
    }
}
