//! Any request of a group and any answer.

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn span() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()))
}

fn partitions() -> impl Strategy<Value = Vec<(String, Vec<u32>)>> {
    list((text(), list(any::<u32>())))
}

fn member() -> impl Strategy<Value = MemberId> {
    (text(), any::<i32>(), some(text())).prop_map(|(member, generation, instance)| MemberId {
        member,
        generation,
        instance,
    })
}

fn protocol() -> impl Strategy<Value = MemberProtocol> {
    prop_oneof![
        (text(), list((text(), bytes())))
            .prop_map(|(protocol_type, protocols)| MemberProtocol::Classic { protocol_type, protocols }),
        (list(text()), any::<bool>()).prop_map(|(topics, sticky)| MemberProtocol::Native {
            topics,
            assignor: if sticky { Assignor::Sticky } else { Assignor::Range },
        }),
    ]
}

fn join() -> impl Strategy<Value = JoinGroup> {
    (text(), some(text()), text(), text(), span(), span(), any::<[bool; 2]>(), protocol()).prop_map(
        |(member, instance, client_id, client_host, session_timeout, rebalance_timeout, flags, protocol)| {
            JoinGroup {
                member,
                instance,
                client_id,
                client_host,
                session_timeout,
                rebalance_timeout,
                member_id_required: flags[0],
                supports_skip_assignment: flags[1],
                protocol,
            }
        },
    )
}

fn commit() -> impl Strategy<Value = CommitOffsets> {
    let one = (any::<u32>(), offset(), any::<i32>(), text()).prop_map(
        |(partition, offset, leader_epoch, metadata)| CommitOffset {
            partition,
            offset,
            leader_epoch,
            metadata,
        },
    );
    (member(), some(span()), list((text(), list(one))))
        .prop_map(|(member, retention, topics)| CommitOffsets { member, retention, topics })
}

pub(super) fn group_request() -> impl Strategy<Value = GroupRequest> {
    let sync = (member(), some(text()), some(text()), list((text(), bytes()))).prop_map(
        |(member, protocol_type, protocol, assignments)| SyncGroup {
            member,
            protocol_type,
            protocol,
            assignments,
        },
    );
    let leaving = (text(), some(text()), some(text())).prop_map(|(member, instance, reason)| Leaving {
        member,
        instance,
        reason,
    });
    let ask = prop_oneof![
        join().prop_map(GroupAsk::Join),
        sync.prop_map(GroupAsk::Sync),
        member().prop_map(GroupAsk::Heartbeat),
        list(leaving).prop_map(GroupAsk::Leave),
        commit().prop_map(GroupAsk::Commit),
        some(partitions()).prop_map(GroupAsk::FetchOffsets),
        Just(GroupAsk::Describe),
        Just(GroupAsk::Delete),
        partitions().prop_map(GroupAsk::DeleteOffsets),
    ];
    (text(), ask).prop_map(|(group, ask)| GroupRequest { group, ask })
}

pub(super) fn group_error() -> impl Strategy<Value = GroupError> {
    prop_oneof![
        Just(GroupError::NotReady),
        Just(GroupError::Loading),
        (text(), text()).prop_map(|(group, why)| GroupError::InvalidGroup { group, why }),
        text().prop_map(|group| GroupError::NotFound { group }),
        text().prop_map(|group| GroupError::NotEmpty { group }),
        text().prop_map(|member| GroupError::UnknownMember { member }),
        any::<[i32; 2]>().prop_map(|[sent, current]| GroupError::IllegalGeneration { sent, current }),
        text().prop_map(|member| GroupError::MemberIdRequired { member }),
        Just(GroupError::RebalanceInProgress),
        text().prop_map(|instance| GroupError::Fenced { instance }),
        text().prop_map(|why| GroupError::InconsistentProtocol { why }),
        [span(), span(), span()].prop_map(|[asked, min, max]| GroupError::SessionTimeout { asked, min, max }),
        any::<u16>().prop_map(|members| GroupError::Full { members_max: members.into() }),
        any::<[u16; 2]>().prop_map(|[bytes, max]| GroupError::MetadataTooLarge {
            bytes: bytes.into(),
            bytes_max: max.into()
        }),
        Just(GroupError::UnknownPartition),
        text().prop_map(|topic| GroupError::Subscribed { topic }),
        text().prop_map(|why| GroupError::StorageFailed { why }),
        Just(GroupError::NoSpace),
        Just(GroupError::Overloaded),
        Just(GroupError::ShuttingDown),
        any::<[u64; 2]>().prop_map(|[bytes, bytes_max]| GroupError::TooLarge { bytes, bytes_max }),
    ]
}

fn state() -> impl Strategy<Value = GroupState> {
    prop_oneof![
        Just(GroupState::Empty),
        Just(GroupState::PreparingRebalance),
        Just(GroupState::CompletingRebalance),
        Just(GroupState::Stable),
        Just(GroupState::Dead),
    ]
}

pub(super) fn listing() -> impl Strategy<Value = GroupListing> {
    (text(), text(), state()).prop_map(|(group, protocol_type, state)| GroupListing {
        group,
        protocol_type,
        state,
    })
}

pub(super) fn lag() -> impl Strategy<Value = Lag> {
    let read = (any::<u64>(), offset())
        .prop_map(|(nanos, next)| LastRead { ago: Duration::from_nanos(nanos), next });
    (offset(), offset(), some(any::<i64>()), some(read)).prop_map(
        |(log_start, high_watermark, timestamp, read)| Lag {
            log_start,
            high_watermark,
            timestamp: timestamp.map(TimestampMs),
            read,
        },
    )
}

fn described() -> impl Strategy<Value = GroupDescription> {
    let member = (text(), some(text()), [text(), text()], bytes(), bytes(), partitions()).prop_map(
        |(member, instance, [client_id, client_host], metadata, assignment, owned)| MemberDescription {
            member,
            instance,
            client_id,
            client_host,
            metadata,
            assignment,
            stuck: owned.iter().map(|(topic, _)| (topic.clone(), 1)).collect(),
            owned,
        },
    );
    let cause = prop_oneof![
        Just(RebalanceCause::MemberJoined),
        Just(RebalanceCause::MemberRejoined),
        Just(RebalanceCause::MemberLeft),
        Just(RebalanceCause::SessionExpired),
        Just(RebalanceCause::RebalanceTimedOut),
        Just(RebalanceCause::TopicChanged),
    ];
    let event = (any::<i64>(), any::<i32>(), cause, text(), some(span())).prop_map(
        |(at, generation, cause, member, duration)| RebalanceEvent {
            at: TimestampMs(at),
            generation,
            cause,
            member,
            duration,
        },
    );
    (listing(), text(), any::<i32>(), list(member), list(event)).prop_map(
        |(listing, protocol, generation, members, events)| GroupDescription {
            group: listing.group,
            state: listing.state,
            protocol_type: listing.protocol_type,
            protocol,
            generation,
            members,
            events,
        },
    )
}

pub(super) fn group_answer() -> impl Strategy<Value = GroupAnswer> {
    let done = || or_error(Just(()), group_error());
    let by_partition = move || list((text(), list((any::<u32>(), done()))));
    let committed =
        (offset(), any::<i32>(), text(), any::<i64>()).prop_map(|(offset, leader_epoch, metadata, at)| {
            CommittedOffset { offset, leader_epoch, metadata, committed_at: TimestampMs(at) }
        });
    let joined = (member(), [some(text()), some(text())], text(), any::<bool>(), bytes(), partitions())
        .prop_map(|(of, [protocol_type, protocol], leader, skip_assignment, metadata, assignment)| Joined {
            generation: of.generation,
            members: vec![(leader.clone(), of.instance, metadata)],
            member: of.member,
            protocol_type,
            protocol,
            leader,
            skip_assignment,
            assignment,
        });
    let synced = (some(text()), some(text()), bytes()).prop_map(|(protocol_type, protocol, assignment)| {
        GroupAnswer::Synced(Synced { protocol_type, protocol, assignment })
    });
    prop_oneof![
        joined.prop_map(GroupAnswer::Joined),
        synced,
        Just(GroupAnswer::Alive),
        list(done()).prop_map(GroupAnswer::Left),
        by_partition().prop_map(GroupAnswer::Committed),
        list((text(), list((any::<u32>(), some(committed))))).prop_map(GroupAnswer::Offsets),
        described().prop_map(GroupAnswer::Described),
        Just(GroupAnswer::Deleted),
        by_partition().prop_map(GroupAnswer::OffsetsDeleted),
    ]
}
