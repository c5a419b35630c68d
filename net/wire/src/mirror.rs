//! What travels in a message's meta: for each type of `engine-api` a struct that rkyv can archive, with the
//! way there and back. Field order is the format.
//!
//! The way back checks what the archive's own check cannot: counts, lengths of text, ranges of numbers.

use std::time::Duration;

use engine_api::*;
use storage_frame::{LeaderEpoch, LogId, Offset, TimestampMs};

use crate::{COUNT_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};

/// A type with a shape on the wire.
pub(crate) trait Wire: Sized {
    type Raw;
    fn to_raw(&self) -> Self::Raw;
    /// The error says what is wrong.
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str>;
}

pub(crate) type Raw<T> = <T as Wire>::Raw;

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            type Raw = $type;
            fn to_raw(&self) -> Self::Raw {
                *self
            }
            fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
                Ok(raw)
            }
        }
    )*};
}

macro_rules! newtype {
    ($($type:ident = $raw:ty),*) => {$(
        impl Wire for $type {
            type Raw = $raw;
            fn to_raw(&self) -> Self::Raw {
                self.0
            }
            fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
                Ok(Self(raw))
            }
        }
    )*};
}

plain!(bool, u8, u16, u32, u64, u128, i64);
newtype!(
    TopicId = u128,
    NodeId = u32,
    CoreId = u8,
    LeaderEpoch = u32,
    LogId = u64,
    TimestampMs = i64,
    ReaderId = u64
);

impl Wire for Offset {
    type Raw = u64;
    fn to_raw(&self) -> u64 {
        self.0
    }
    fn from_raw(raw: u64) -> Result<Self, &'static str> {
        // As in frame headers: no log reaches it, and additions stay in range.
        if raw > i64::MAX as u64 { Err("an offset is above 2^63 - 1") } else { Ok(Self(raw)) }
    }
}

impl Wire for Duration {
    /// Nanoseconds.
    type Raw = u64;
    fn to_raw(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }
    fn from_raw(raw: u64) -> Result<Self, &'static str> {
        Ok(Self::from_nanos(raw))
    }
}

impl Wire for String {
    type Raw = Self;
    fn to_raw(&self) -> Self {
        if self.len() <= TEXT_BYTES_MAX {
            return self.clone();
        }
        // Our own reasons quote foreign text at times; the other side would refuse a text above the limit.
        self[..self.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
    }
    fn from_raw(raw: Self) -> Result<Self, &'static str> {
        if raw.len() > TEXT_BYTES_MAX { Err("a text is too long") } else { Ok(raw) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    type Raw = Vec<T::Raw>;
    fn to_raw(&self) -> Self::Raw {
        self.iter().map(T::to_raw).collect()
    }
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
        if raw.len() > COUNT_MAX {
            return Err("a list has too many elements");
        }
        raw.into_iter().map(T::from_raw).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    type Raw = Option<T::Raw>;
    fn to_raw(&self) -> Self::Raw {
        self.as_ref().map(T::to_raw)
    }
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
        raw.map(T::from_raw).transpose()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    type Raw = (A::Raw, B::Raw);
    fn to_raw(&self) -> Self::Raw {
        (self.0.to_raw(), self.1.to_raw())
    }
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
        Ok((A::from_raw(raw.0)?, B::from_raw(raw.1)?))
    }
}

/// A struct of the same fields in the given order.
macro_rules! mirror_struct {
    ($($api:ty => $raw:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
        pub(crate) struct $raw {
            $($field: Raw<$type>,)*
        }

        impl Wire for $api {
            type Raw = $raw;
            fn to_raw(&self) -> $raw {
                let Self { $($field,)* } = self;
                $raw { $($field: $field.to_raw(),)* }
            }
            fn from_raw(raw: $raw) -> Result<Self, &'static str> {
                Ok(Self { $($field: <$type as Wire>::from_raw(raw.$field)?,)* })
            }
        }
    )*};
}

/// An enum of the same cases; the number of a case is its place, from 0.
macro_rules! mirror_enum {
    ($($api:ident => $raw:ident { $($case:ident $({ $($field:ident: $type:ty),* })? ,)* })*) => {$(
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
        #[repr(u8)]
        pub(crate) enum $raw {
            $($case $({ $($field: Raw<$type>),* })?,)*
        }

        impl Wire for $api {
            type Raw = $raw;
            fn to_raw(&self) -> $raw {
                match self {
                    $(Self::$case $({ $($field),* })? => $raw::$case $({ $($field: $field.to_raw()),* })?,)*
                }
            }
            fn from_raw(raw: $raw) -> Result<Self, &'static str> {
                Ok(match raw {
                    $($raw::$case $({ $($field),* })? => Self::$case $({
                        $($field: <$type as Wire>::from_raw($field)?),*
                    })?,)*
                })
            }
        }
    )*};
}

mod group;

mirror_struct! {
    PartitionId => PartitionIdRaw { topic: TopicId, index: u32 }
    crate::OpenRead => OpenReadRaw {
        partition: PartitionId, offset: Offset, bytes_max: u32, group: Option<String>,
    }
    crate::ReadOpened => ReadOpenedRaw { log_start: Offset, high_watermark: Offset }
    StageTimings => StageTimingsRaw { queue: Duration, disk: Duration, replicate: Duration }
    Produced => ProducedRaw {
        base_offset: Offset, timings: StageTimings, leader_epoch: LeaderEpoch, durability: Durability, duplicate: bool,
        append_time: Option<TimestampMs>,
    }
    FindOffset => FindOffsetRaw { partition: PartitionId, place: Place }
    FoundOffset => FoundOffsetRaw {
        offset: Offset, log_start: Offset, high_watermark: Offset, timestamp: Option<TimestampMs>,
    }
    DeleteRecords => DeleteRecordsRaw { partition: PartitionId, before: Offset }
    CreateTopic => CreateTopicRaw {
        name: String, partitions: Option<u32>, replicas: Option<u32>, configs: Vec<(String, String)>,
    }
    AlterTopic => AlterTopicRaw {
        name: String, partitions: Option<u32>, configs: Vec<(String, Option<String>)>,
        based_on: Option<Vec<(String, String)>>,
    }
    DeleteTopic => DeleteTopicRaw { name: String, id: Option<TopicId> }
    DescribeTopics => DescribeTopicsRaw { names: Vec<String> }
    TopicDescription => TopicDescriptionRaw {
        name: String, id: TopicId, replicas: u32, partitions: Vec<PartitionDescription>, configs: Vec<ConfigEntry>,
    }
    ConfigEntry => ConfigEntryRaw { key: String, value: String, is_default: bool }
    PartitionDescription => PartitionDescriptionRaw {
        index: u32, leader: NodeId, leader_epoch: LeaderEpoch, core: CoreId, replicas: Vec<NodeId>,
        in_sync: Vec<NodeId>, log: LogId,
    }
    ClusterDescription => ClusterDescriptionRaw {
        cluster_id: u128, version: String, nodes: Vec<NodeDescription>, topics_count: u32, partitions_count: u32,
        troubled: Vec<TroubledPartition>,
    }
    NodeDescription => NodeDescriptionRaw {
        id: NodeId, address: String, cores: u8, partitions_led: u32, incarnation: u32,
    }
    TroubledPartition => TroubledPartitionRaw { topic: String, index: u32, end: Offset, why: String }
}

mirror_enum! {
    Acks => AcksRaw { None, Leader, All, }
    Durability => DurabilityRaw { Accepted, Memory, LeaderDisk, AllDisks, }
    ProduceError => ProduceErrorRaw {
        UnknownPartition,
        NotLeader,
        TooLarge { batch_bytes: u64, batch_bytes_max: u64 },
        Invalid { why: String },
        OutOfSequence { producer_id: u64, sent: u32, expected: u32 },
        ProducerFenced { producer_id: u64, sent: u16, current: u16 },
        NoSpace,
        Overloaded,
        StorageFailed { why: String },
        Damaged { why: String },
        ShuttingDown,
    }
    FetchError => FetchErrorRaw {
        UnknownPartition,
        NotLeader,
        OffsetOutOfRange { asked: Offset, log_start: Offset, high_watermark: Offset },
        Damaged { why: String },
        StorageFailed { why: String },
        Overloaded,
        ShuttingDown,
    }
    DeleteRecordsError => DeleteRecordsErrorRaw {
        UnknownPartition,
        NotLeader,
        OffsetOutOfRange { asked: Offset, log_start: Offset, high_watermark: Offset },
        StorageFailed { why: String },
        ShuttingDown,
    }
    TopicError => TopicErrorRaw {
        Unknown { name: String },
        Exists { name: String },
        Name { name: String, why: String },
        Partitions { why: String },
        Replicas { why: String },
        Config { why: String },
        StorageFailed { why: String },
        NoSpace,
        NotReady,
        ShuttingDown,
        Changed { name: String },
    }
    InitProducerError => InitProducerErrorRaw {
        StorageFailed { why: String },
        NoSpace,
        NotReady,
        ShuttingDown,
    }
}

/// `Place` has a case with an unnamed field, which the macro does not draw.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
#[repr(u8)]
pub(crate) enum PlaceRaw {
    Start,
    End,
    Timestamp { timestamp: i64 },
}

impl Wire for Place {
    type Raw = PlaceRaw;
    fn to_raw(&self) -> PlaceRaw {
        match *self {
            Self::Start => PlaceRaw::Start,
            Self::End => PlaceRaw::End,
            Self::Timestamp(TimestampMs(timestamp)) => PlaceRaw::Timestamp { timestamp },
        }
    }
    fn from_raw(raw: PlaceRaw) -> Result<Self, &'static str> {
        Ok(match raw {
            PlaceRaw::Start => Self::Start,
            PlaceRaw::End => Self::End,
            PlaceRaw::Timestamp { timestamp } => Self::Timestamp(TimestampMs(timestamp)),
        })
    }
}

/// Before the frames of a push.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
pub(crate) struct FramesRaw {
    pub(crate) log_start: u64,
    pub(crate) high_watermark: u64,
    pub(crate) frame_count: u32,
}

/// The same in every version of the protocol.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
pub(crate) struct RefusedRaw {
    pub(crate) code: u16,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// Names are held to a lower limit than other texts, where they come from a client.
pub(crate) fn check_names(request: &Request) -> Result<(), &'static str> {
    let name = |name: &str| if name.len() > NAME_BYTES_MAX { Err("a name is too long") } else { Ok(()) };
    match request {
        Request::CreateTopic(topic) => {
            name(&topic.name)?;
            topic.configs.iter().try_for_each(|(key, _)| name(key))
        }
        Request::AlterTopic(topic) => {
            name(&topic.name)?;
            topic.configs.iter().try_for_each(|(key, _)| name(key))
        }
        Request::DeleteTopic(topic) => name(&topic.name),
        Request::DescribeTopics(topics) => topics.names.iter().try_for_each(|n| name(n)),
        Request::Produce(_)
        | Request::Fetch(_)
        | Request::FindOffset(_)
        | Request::DeleteRecords(_)
        | Request::DescribeCluster
        | Request::InitProducer
        | Request::ListGroups(_)
        | Request::MeasureLag(_)
        | Request::CheckTopic(_)
        | Request::DescribeLogs(_) => Ok(()),
        Request::Group(group) => name(&group.group),
    }
}
