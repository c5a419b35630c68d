//! Groups: see the parent.

use bytes::Bytes;

use super::*;

impl Wire for i32 {
    type Raw = Self;
    fn to_raw(&self) -> Self {
        *self
    }
    fn from_raw(raw: Self) -> Result<Self, &'static str> {
        Ok(raw)
    }
}

/// Only shown.
impl Wire for usize {
    type Raw = u64;
    fn to_raw(&self) -> u64 {
        *self as u64
    }
    fn from_raw(raw: u64) -> Result<Self, &'static str> {
        Ok(Self::try_from(raw).unwrap_or(Self::MAX))
    }
}

impl Wire for Bytes {
    type Raw = Vec<u8>;
    fn to_raw(&self) -> Vec<u8> {
        self.to_vec()
    }
    fn from_raw(raw: Vec<u8>) -> Result<Self, &'static str> {
        if raw.len() > COUNT_MAX { Err("too many opaque bytes") } else { Ok(raw.into()) }
    }
}

/// What went wrong, if anything did.
impl<E: Wire> Wire for Result<(), E> {
    type Raw = Option<E::Raw>;
    fn to_raw(&self) -> Self::Raw {
        self.as_ref().err().map(E::to_raw)
    }
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
        Ok(match raw {
            Some(error) => Err(E::from_raw(error)?),
            None => Ok(()),
        })
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    type Raw = (A::Raw, B::Raw, C::Raw);
    fn to_raw(&self) -> Self::Raw {
        (self.0.to_raw(), self.1.to_raw(), self.2.to_raw())
    }
    fn from_raw(raw: Self::Raw) -> Result<Self, &'static str> {
        Ok((A::from_raw(raw.0)?, B::from_raw(raw.1)?, C::from_raw(raw.2)?))
    }
}

/// An enum whose cases hold one unnamed value or none.
macro_rules! mirror_cases {
    ($($api:ident => $raw:ident { $($case:ident $(($type:ty))? ,)* })*) => {$(
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug)]
        #[repr(u8)]
        pub(crate) enum $raw {
            $($case $((Raw<$type>))?,)*
        }

        impl Wire for $api {
            type Raw = $raw;
            fn to_raw(&self) -> $raw {
                match self {
                    $(mirror_cases!(@own $case, value $($type)?) => mirror_cases!(@to $raw $case, value $($type)?),)*
                }
            }
            fn from_raw(raw: $raw) -> Result<Self, &'static str> {
                Ok(match raw {
                    $(mirror_cases!(@raw $raw $case, value $($type)?)
                        => mirror_cases!(@from $case, value $($type)?),)*
                })
            }
        }
    )*};
    (@own $case:ident, $value:ident $type:ty) => { Self::$case($value) };
    (@own $case:ident, $value:ident) => { Self::$case };
    (@to $raw:ident $case:ident, $value:ident $type:ty) => { $raw::$case($value.to_raw()) };
    (@to $raw:ident $case:ident, $value:ident) => { $raw::$case };
    (@raw $raw:ident $case:ident, $value:ident $type:ty) => { $raw::$case($value) };
    (@raw $raw:ident $case:ident, $value:ident) => { $raw::$case };
    (@from $case:ident, $value:ident $type:ty) => { Self::$case(<$type as Wire>::from_raw($value)?) };
    (@from $case:ident, $value:ident) => { Self::$case };
}

/// Something for each of some topics' partitions.
type ByPartition<T> = Vec<(String, Vec<(u32, T)>)>;
type Partitions = Vec<(String, Vec<u32>)>;

mirror_struct! {
    GroupRequest => GroupRequestRaw { group: String, ask: GroupAsk }
    MemberId => MemberIdRaw { member: String, generation: i32, instance: Option<String> }
    JoinGroup => JoinGroupRaw {
        member: String, instance: Option<String>, client_id: String, client_host: String, session_timeout: Duration,
        rebalance_timeout: Duration, member_id_required: bool, supports_skip_assignment: bool, protocol: MemberProtocol,
    }
    Joined => JoinedRaw {
        generation: i32, member: String, protocol_type: Option<String>, protocol: Option<String>, leader: String,
        members: Vec<(String, Option<String>, Bytes)>, skip_assignment: bool, assignment: Partitions,
    }
    SyncGroup => SyncGroupRaw {
        member: MemberId, protocol_type: Option<String>, protocol: Option<String>, assignments: Vec<(String, Bytes)>,
    }
    Synced => SyncedRaw { protocol_type: Option<String>, protocol: Option<String>, assignment: Bytes }
    Leaving => LeavingRaw { member: String, instance: Option<String>, reason: Option<String> }
    CommitOffsets => CommitOffsetsRaw {
        member: MemberId, retention: Option<Duration>, topics: Vec<(String, Vec<CommitOffset>)>,
    }
    CommitOffset => CommitOffsetRaw { partition: u32, offset: Offset, leader_epoch: i32, metadata: String }
    CommittedOffset => CommittedOffsetRaw {
        offset: Offset, leader_epoch: i32, metadata: String, committed_at: TimestampMs,
    }
    GroupDescription => GroupDescriptionRaw {
        group: String, state: GroupState, protocol_type: String, protocol: String, generation: i32,
        members: Vec<MemberDescription>, events: Vec<RebalanceEvent>,
    }
    MemberDescription => MemberDescriptionRaw {
        member: String, instance: Option<String>, client_id: String, client_host: String, metadata: Bytes,
        assignment: Bytes, owned: Partitions, stuck: Vec<(String, u32)>,
    }
    RebalanceEvent => RebalanceEventRaw {
        at: TimestampMs, generation: i32, cause: RebalanceCause, member: String, duration: Option<Duration>,
    }
    GroupListing => GroupListingRaw { group: String, protocol_type: String, state: GroupState }
    ListGroups => ListGroupsRaw { core: CoreId }
    MeasureLag => MeasureLagRaw { partition: PartitionId, offset: Offset, reader: Option<ReaderId> }
    LastRead => LastReadRaw { ago: Duration, next: Offset }
    Lag => LagRaw {
        log_start: Offset, high_watermark: Offset, timestamp: Option<TimestampMs>, read: Option<LastRead>,
    }
}

mirror_cases! {
    GroupAsk => GroupAskRaw {
        Join(JoinGroup),
        Sync(SyncGroup),
        Heartbeat(MemberId),
        Leave(Vec<Leaving>),
        Commit(CommitOffsets),
        FetchOffsets(Option<Partitions>),
        Describe,
        Delete,
        DeleteOffsets(Partitions),
    }
    GroupAnswer => GroupAnswerRaw {
        Joined(Joined),
        Synced(Synced),
        Alive,
        Left(Vec<Result<(), GroupError>>),
        Committed(ByPartition<Result<(), GroupError>>),
        Offsets(ByPartition<Option<CommittedOffset>>),
        Described(GroupDescription),
        Deleted,
        OffsetsDeleted(ByPartition<Result<(), GroupError>>),
    }
}

mirror_enum! {
    Assignor => AssignorRaw { Range, Sticky, }
    MemberProtocol => MemberProtocolRaw {
        Classic { protocol_type: String, protocols: Vec<(String, Bytes)> },
        Native { topics: Vec<String>, assignor: Assignor },
    }
    GroupState => GroupStateRaw { Empty, PreparingRebalance, CompletingRebalance, Stable, Dead, }
    RebalanceCause => RebalanceCauseRaw {
        MemberJoined,
        MemberRejoined,
        MemberLeft,
        SessionExpired,
        RebalanceTimedOut,
        TopicChanged,
    }
    GroupError => GroupErrorRaw {
        NotReady,
        Loading,
        InvalidGroup { group: String, why: String },
        NotFound { group: String },
        NotEmpty { group: String },
        UnknownMember { member: String },
        IllegalGeneration { sent: i32, current: i32 },
        MemberIdRequired { member: String },
        RebalanceInProgress,
        Fenced { instance: String },
        InconsistentProtocol { why: String },
        SessionTimeout { asked: Duration, min: Duration, max: Duration },
        Full { members_max: usize },
        MetadataTooLarge { bytes: usize, bytes_max: usize },
        UnknownPartition,
        Subscribed { topic: String },
        StorageFailed { why: String },
        NoSpace,
        Overloaded,
        ShuttingDown,
        TooLarge { bytes: u64, bytes_max: u64 },
    }
}
