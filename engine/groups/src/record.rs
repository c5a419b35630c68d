//! What a coordinator stores: keys and values of the offsets topic's records, little endian.
//!
//! ```text
//! key    = version u8 | kind u8 | group text | kind 1: topic text, partition u32
//! kind 1, offset       value = version u8 | offset u64 | leader epoch i32 | committed at i64 | expires at: flag u8, i64
//!                              | metadata text
//! kind 2, group        value = version u8 | generation i32 | reserved i32 | changed at i64 | protocol type, protocol,
//!                              leader: optional texts | members u32, each:
//!                                id text | instance optional text | client id text | client host text
//!                                | session ms u64 | rebalance ms u64
//!                                | kind u8: 0 protocols u32, each name text, metadata bytes
//!                                           1 assignor u8, topics u32, each text
//!                                | assignment bytes | owned u32, each topic text, partitions u32, each u32
//! kind 3, reservation  value = version u8 | reserved i32
//! text   = bytes, UTF-8      bytes = count u32 | that many      optional text = flag u8 | text if 1
//! ```
//! The newest record of a key counts; an absent value is a tombstone. A key or value of another version, with
//! something left over or something missing is not believed in any part.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use engine_api::{Assignor, CommittedOffset, MemberProtocol};
use storage_frame::{Offset, TimestampMs};

use crate::group::Group;
use crate::member::{Member, Owned};
use crate::offsets::Committed;
use crate::seam::StoredRecord;

const VERSION: u8 = 1;
const OFFSET: u8 = 1;
const GROUP: u8 = 2;
const RESERVATION: u8 = 3;

/// Why a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a record of a group: {0}")]
pub struct RecordError(&'static str);

type Parsed<T> = Result<T, RecordError>;

pub(crate) enum Change {
    Offset { group: String, topic: String, partition: u32, to: Option<Committed> },
    Group { group: String, to: Option<Box<StoredGroup>> },
    Reservation { group: String, upto: Option<i32> },
}

/// A complete generation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredGroup {
    pub(crate) generation: i32,
    pub(crate) reserved: i32,
    pub(crate) changed_at: TimestampMs,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: Vec<StoredMember>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol: MemberProtocol,
    pub(crate) assignment: Bytes,
    pub(crate) owned: Owned,
}

pub(crate) fn offset(group: &str, topic: &str, partition: u32, to: Option<&Committed>) -> StoredRecord {
    let mut key = key(OFFSET, group);
    put_text(&mut key, topic);
    key.put_u32_le(partition);
    let value = to.map(|Committed { committed, expires_at }| {
        let mut value = value();
        value.put_u64_le(committed.offset.0);
        value.put_i32_le(committed.leader_epoch);
        value.put_i64_le(committed.committed_at.0);
        value.put_u8(u8::from(expires_at.is_some()));
        value.put_i64_le(expires_at.map_or(0, |at| at.0));
        put_text(&mut value, &committed.metadata);
        value.freeze()
    });
    StoredRecord { key: key.freeze(), value }
}

pub(crate) fn group(group: &Group, reserved: i32) -> StoredRecord {
    let mut value = value();
    value.put_i32_le(group.generation);
    value.put_i32_le(reserved);
    value.put_i64_le(group.changed_at.0);
    put_option(&mut value, group.protocol_type.as_deref());
    put_option(&mut value, group.protocol.as_deref());
    put_option(&mut value, group.leader.as_deref());
    put_count(&mut value, group.members.len());
    for (id, member) in &group.members {
        put_member(&mut value, id, member);
    }
    StoredRecord { key: key(GROUP, &group.id).freeze(), value: Some(value.freeze()) }
}

pub(crate) fn reservation(group: &str, upto: i32) -> StoredRecord {
    let mut value = value();
    value.put_i32_le(upto);
    StoredRecord { key: key(RESERVATION, group).freeze(), value: Some(value.freeze()) }
}

/// Tombstones of everything but offsets.
pub(crate) fn forget(group: &str) -> Vec<StoredRecord> {
    [GROUP, RESERVATION]
        .into_iter()
        .map(|kind| StoredRecord { key: key(kind, group).freeze(), value: None })
        .collect()
}

fn put_member(value: &mut BytesMut, id: &Arc<str>, member: &Member) {
    put_text(value, id);
    put_option(value, member.instance.as_deref());
    put_text(value, &member.client_id);
    put_text(value, &member.client_host);
    for timeout in [member.session_timeout, member.rebalance_timeout] {
        value.put_u64_le(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    match &member.protocol {
        MemberProtocol::Classic { protocols, .. } => {
            value.put_u8(0);
            put_count(value, protocols.len());
            for (name, metadata) in protocols {
                put_text(value, name);
                put_bytes(value, metadata);
            }
        }
        MemberProtocol::Native { topics, assignor } => {
            value.put_u8(1);
            value.put_u8(match assignor {
                Assignor::Range => 0,
                Assignor::Sticky => 1,
            });
            put_count(value, topics.len());
            for topic in topics {
                put_text(value, topic);
            }
        }
    }
    put_bytes(value, &member.assignment);
    put_count(value, member.owned.len());
    for (topic, partitions) in &member.owned {
        put_text(value, topic);
        put_count(value, partitions.len());
        for partition in partitions {
            value.put_u32_le(*partition);
        }
    }
}

fn key(kind: u8, group: &str) -> BytesMut {
    let mut key = BytesMut::with_capacity(64);
    key.put_u8(VERSION);
    key.put_u8(kind);
    put_text(&mut key, group);
    key
}

fn value() -> BytesMut {
    let mut value = BytesMut::with_capacity(64);
    value.put_u8(VERSION);
    value
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("what a group holds is bounded"));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_option(out: &mut BytesMut, text: Option<&str>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

/// Whether this is a record that a coordinator would take in. For tools and tests of damaged ones.
///
/// # Errors
/// [`RecordError`]: it would skip it.
pub fn check(record: &StoredRecord) -> Result<(), RecordError> {
    parse(record).map(drop)
}

pub(crate) fn parse(record: &StoredRecord) -> Parsed<Change> {
    let mut key = Input { left: record.key.clone() };
    key.version()?;
    let kind = key.u8()?;
    let group = key.text()?;
    let mut value = record.value.clone().map(|left| Input { left });
    if let Some(value) = &mut value {
        value.version()?;
    }
    let change = match kind {
        OFFSET => {
            let (topic, partition) = (key.text()?, key.u32()?);
            let to = value.as_mut().map(take_committed).transpose()?;
            Change::Offset { group, topic, partition, to }
        }
        GROUP => {
            let to = value.as_mut().map(take_group).transpose()?.map(Box::new);
            Change::Group { group, to }
        }
        RESERVATION => {
            let upto = value.as_mut().map(Input::number).transpose()?;
            Change::Reservation { group, upto }
        }
        _ => return Err(RecordError("an unknown kind")),
    };
    key.end()?;
    value.map_or(Ok(()), Input::end)?;
    Ok(change)
}

fn take_committed(value: &mut Input) -> Parsed<Committed> {
    let offset = value.u64()?;
    if offset > i64::MAX as u64 {
        return Err(RecordError("an offset above 2^63 - 1"));
    }
    let leader_epoch = value.i32()?;
    let committed_at = TimestampMs(value.i64()?);
    let (has_expiry, expires_at) = (value.flag()?, TimestampMs(value.i64()?));
    let metadata = value.text()?;
    let committed = CommittedOffset { offset: Offset(offset), leader_epoch, metadata, committed_at };
    Ok(Committed { committed, expires_at: has_expiry.then_some(expires_at) })
}

fn take_group(value: &mut Input) -> Parsed<StoredGroup> {
    let (generation, reserved) = (value.number()?, value.number()?);
    let changed_at = TimestampMs(value.i64()?);
    let (protocol_type, protocol, leader) = (value.option()?, value.option()?, value.option()?);
    let members_count = value.count(32)?;
    let mut members = Vec::new();
    for _ in 0..members_count {
        members.push(take_member(value, protocol_type.as_deref().unwrap_or_default())?);
    }
    Ok(StoredGroup { generation, reserved, changed_at, protocol_type, protocol, leader, members })
}

fn take_member(value: &mut Input, protocol_type: &str) -> Parsed<StoredMember> {
    let (id, instance) = (value.text()?, value.option()?);
    let (client_id, client_host) = (value.text()?, value.text()?);
    let session_timeout = Duration::from_millis(value.u64()?);
    let rebalance_timeout = Duration::from_millis(value.u64()?);
    let protocol = take_protocol(value, protocol_type)?;
    let assignment = value.bytes()?;
    let mut owned = Owned::new();
    for _ in 0..value.count(8)? {
        let topic = value.text()?;
        let partitions_count = value.count(4)?;
        let partitions = (0..partitions_count).map(|_| value.u32()).collect::<Parsed<Vec<u32>>>()?;
        owned.insert(topic, partitions);
    }
    Ok(StoredMember {
        id,
        instance,
        client_id,
        client_host,
        session_timeout,
        rebalance_timeout,
        protocol,
        assignment,
        owned,
    })
}

fn take_protocol(value: &mut Input, protocol_type: &str) -> Parsed<MemberProtocol> {
    match value.u8()? {
        0 => {
            let count = value.count(8)?;
            let protocols =
                (0..count).map(|_| Ok((value.text()?, value.bytes()?))).collect::<Parsed<Vec<_>>>()?;
            Ok(MemberProtocol::Classic { protocol_type: protocol_type.to_owned(), protocols })
        }
        1 => {
            let assignor = match value.u8()? {
                0 => Assignor::Range,
                1 => Assignor::Sticky,
                _ => return Err(RecordError("an unknown assignor")),
            };
            let count = value.count(4)?;
            let topics = (0..count).map(|_| value.text()).collect::<Parsed<Vec<_>>>()?;
            Ok(MemberProtocol::Native { topics, assignor })
        }
        _ => Err(RecordError("an unknown kind of member")),
    }
}

/// Foreign bytes: they come from a disk.
struct Input {
    left: Bytes,
}

impl Input {
    fn take(&mut self, bytes_count: usize) -> Parsed<Bytes> {
        if bytes_count > self.left.len() {
            return Err(RecordError("it is cut off"));
        }
        Ok(self.left.split_to(bytes_count))
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let taken = self.take(N)?;
        Ok(<[u8; N]>::try_from(&taken[..]).expect("as many as were taken"))
    }

    fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i32(&mut self) -> Parsed<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn i64(&mut self) -> Parsed<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A generation, with room to count on.
    fn number(&mut self) -> Parsed<i32> {
        let number = self.i32()?;
        if (0..i32::MAX / 2).contains(&number) { Ok(number) } else { Err(RecordError("no generation")) }
    }

    fn flag(&mut self) -> Parsed<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError("a flag that is neither 0 nor 1")),
        }
    }

    fn version(&mut self) -> Parsed<()> {
        if self.u8()? == VERSION { Ok(()) } else { Err(RecordError("an unknown version")) }
    }

    /// Never more than what is left could hold.
    fn count(&mut self, bytes_each_min: usize) -> Parsed<usize> {
        let count = self.u32()? as usize;
        if count <= self.left.len() / bytes_each_min {
            Ok(count)
        } else {
            Err(RecordError("more elements than bytes"))
        }
    }

    /// Copied: what is kept must not pin the batch it came in.
    fn bytes(&mut self) -> Parsed<Bytes> {
        let bytes_count = self.u32()? as usize;
        self.take(bytes_count).map(|bytes| Bytes::copy_from_slice(&bytes))
    }

    fn text(&mut self) -> Parsed<String> {
        let bytes_count = self.u32()? as usize;
        let taken = self.take(bytes_count)?;
        std::str::from_utf8(&taken).map(str::to_owned).map_err(|_| RecordError("a text that is not UTF-8"))
    }

    fn option(&mut self) -> Parsed<Option<String>> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    fn end(self) -> Parsed<()> {
        if self.left.is_empty() { Ok(()) } else { Err(RecordError("something is left over")) }
    }
}
