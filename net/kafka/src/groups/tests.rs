//! Groups' APIs in every version, against coordinators that say what the test wants.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{
    ClusterDescription, CommittedOffset, CoreId, GroupAnswer, GroupAsk, GroupDescription, GroupError,
    GroupListing, GroupState, Joined, MemberDescription, MemberProtocol, NodeDescription, OFFSETS_TOPIC,
    Request, Response, Synced,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{self, StrBytes};
use storage_frame::{Offset, TimestampMs};

use crate::tests::world::{Chance, NODE, World, decode, encode};

fn text(text: &str) -> StrBytes {
    text.to_owned().into()
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn topic() -> TopicName {
    TopicName(text("orders"))
}

/// A broker with `orders` of 3 partitions, on which groups were used before.
fn world() -> World {
    let mut world = World::new();
    world.add_topic("orders", 3);
    world.add_topic(OFFSETS_TOPIC, 50);
    world
}

/// Sends `request`; the engine answers what it asks as `engine` says. The answer, and what was asked.
#[track_caller]
fn call<R: protocol::Request>(
    world: &mut World,
    version: i16,
    request: &R,
    mut engine: impl FnMut(&GroupAsk) -> Result<GroupAnswer, GroupError>,
) -> (R::Response, Vec<GroupAsk>) {
    let conn = world.connect();
    world.send(conn, version, request);
    let mut asks = Vec::new();
    while let Some((key, request)) = world.open.first().cloned() {
        let Request::Group(asked) = request else { panic!("asks {request:?}") };
        let answer = engine(&asked.ask);
        asks.push(asked.ask);
        world.answer(key, Response::Group(answer));
    }
    let mut answers = world.answers(conn);
    assert_eq!(answers.len(), 1, "version {version}; {:?}", world.server.poll_event());
    let (_, response) = decode::<R>(version, answers.remove(0));
    world.server.ended(world.now, conn);
    (response, asks)
}

/// One answer to one question.
#[track_caller]
fn ask_one<R: protocol::Request>(
    version: i16,
    request: &R,
    answer: Result<GroupAnswer, GroupError>,
) -> (R::Response, GroupAsk) {
    let (response, mut asks) = call(&mut world(), version, request, |_| answer.clone());
    assert_eq!(asks.len(), 1);
    (response, asks.remove(0))
}

/// Everything an answer can hold.
fn rich(ask: &GroupAsk) -> GroupAnswer {
    let per_partition = |topics: &[(String, Vec<u32>)]| {
        let results = |partitions: &[u32]| partitions.iter().map(|index| (*index, Ok(()))).collect();
        topics.iter().map(|(topic, partitions)| (topic.clone(), results(partitions))).collect()
    };
    match ask {
        GroupAsk::Join(_) => GroupAnswer::Joined(Joined {
            generation: 5,
            member: "m-1".into(),
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: "m-1".into(),
            members: vec![("m-1".into(), Some("i".into()), Bytes::from_static(b"meta"))],
            skip_assignment: false,
            assignment: Vec::new(),
        }),
        GroupAsk::Sync(_) => GroupAnswer::Synced(Synced {
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignment: Bytes::from_static(b"mine"),
        }),
        GroupAsk::Heartbeat(_) => GroupAnswer::Alive,
        GroupAsk::Leave(leaving) => GroupAnswer::Left(vec![Ok(()); leaving.len()]),
        GroupAsk::Commit(commit) => {
            let topics = commit.topics.iter().map(|(topic, partitions)| {
                (topic.clone(), partitions.iter().map(|commit| (commit.partition, Ok(()))).collect())
            });
            GroupAnswer::Committed(topics.collect())
        }
        GroupAsk::FetchOffsets(wanted) => {
            let committed = CommittedOffset {
                offset: Offset(42),
                leader_epoch: 3,
                metadata: "note".into(),
                committed_at: TimestampMs(1),
            };
            let topics = wanted.clone().unwrap_or_else(|| vec![("orders".into(), vec![0])]);
            let topics = topics.into_iter().map(|(topic, partitions)| {
                (topic, partitions.into_iter().map(|index| (index, Some(committed.clone()))).collect())
            });
            GroupAnswer::Offsets(topics.collect())
        }
        GroupAsk::Describe => GroupAnswer::Described(GroupDescription {
            group: "g".into(),
            state: GroupState::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            generation: 5,
            members: vec![MemberDescription {
                member: "m-1".into(),
                instance: Some("i".into()),
                client_id: "tester".into(),
                client_host: "/127.0.0.1".into(),
                metadata: Bytes::from_static(b"meta"),
                assignment: Bytes::from_static(b"mine"),
                owned: Vec::new(),
                stuck: Vec::new(),
            }],
            events: Vec::new(),
        }),
        GroupAsk::Delete => GroupAnswer::Deleted,
        GroupAsk::DeleteOffsets(topics) => GroupAnswer::OffsetsDeleted(per_partition(topics)),
    }
}

fn errors() -> Vec<GroupError> {
    vec![
        GroupError::NotReady,
        GroupError::Loading,
        GroupError::InvalidGroup { group: String::new(), why: "empty".into() },
        GroupError::NotFound { group: "g".into() },
        GroupError::NotEmpty { group: "g".into() },
        GroupError::UnknownMember { member: "m".into() },
        GroupError::IllegalGeneration { sent: 1, current: 2 },
        GroupError::MemberIdRequired { member: "m-9".into() },
        GroupError::RebalanceInProgress,
        GroupError::Fenced { instance: "i".into() },
        GroupError::InconsistentProtocol { why: "none".into() },
        GroupError::SessionTimeout {
            asked: Duration::ZERO,
            min: Duration::from_secs(6),
            max: Duration::from_secs(60),
        },
        GroupError::Full { members_max: 1 },
        GroupError::MetadataTooLarge { bytes: 5000, bytes_max: 4096 },
        GroupError::UnknownPartition,
        GroupError::Subscribed { topic: "orders".into() },
        GroupError::StorageFailed { why: "disk".into() },
        GroupError::NoSpace,
        GroupError::Overloaded,
        GroupError::ShuttingDown,
        GroupError::TooLarge { bytes: 9, bytes_max: 8 },
    ]
}

fn join(version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"meta"));
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let request = if version >= 1 { request.with_rebalance_timeout_ms(60_000) } else { request };
    if version >= 5 { request.with_group_instance_id(Some(text("i"))) } else { request }
}

fn sync(version: i16) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(text("m-1"))
        .with_assignment(Bytes::from_static(b"mine"));
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(5)
        .with_member_id(text("m-1"))
        .with_assignments(vec![assignment]);
    if version >= 5 {
        return request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
    }
    request
}

fn heartbeat() -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group()).with_generation_id(5).with_member_id(text("m-1"))
}

fn leave(version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group());
    if version < 3 {
        return request.with_member_id(text("m-1"));
    }
    let member = |id: &str, instance: Option<&str>| {
        MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text))
    };
    request.with_members(vec![member("m-1", None), member("", Some("i"))])
}

fn commit(topics: &[(&str, &[i32])]) -> OffsetCommitRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(42)
                .with_committed_metadata(Some(text("note")))
        });
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.collect())
    });
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(5)
        .with_member_id(text("m-1"))
        .with_topics(topics.collect())
}

/// Two partitions of `orders`, by one group before version 8 and by two since.
fn fetch(version: i16) -> OffsetFetchRequest {
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![1, 0]);
        return OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    }
    let of_group = |id: &str| {
        let topic = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![1, 0]);
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text(id))).with_topics(Some(vec![topic]))
    };
    OffsetFetchRequest::default().with_groups(vec![of_group("g"), of_group("h")])
}

fn delete_offsets() -> OffsetDeleteRequest {
    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let topic = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![
        partition(2),
        partition(3),
        partition(0),
    ]);
    OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic])
}

fn find(version: i16, kind: i8) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default();
    let request = if version >= 1 { request.with_key_type(kind) } else { request };
    if version >= 4 {
        return request.with_coordinator_keys(vec![text("g"), text("h")]);
    }
    request.with_key(text("g"))
}

#[test]
fn whatever_the_coordinator_says_can_be_said_in_every_version() {
    let answers = std::iter::once(None).chain(errors().into_iter().map(Some));
    for error in answers {
        let engine = |ask: &GroupAsk| error.clone().map_or_else(|| Ok(rich(ask)), Err);
        let world = &mut world();
        for version in 0..=9 {
            call(world, version, &join(version), engine);
        }
        for version in 0..=5 {
            call(world, version, &sync(version), engine);
            call(world, version, &leave(version), engine);
            call(world, version, &DescribeGroupsRequest::default().with_groups(vec![group()]), engine);
        }
        for version in 0..=4 {
            call(world, version, &heartbeat(), engine);
            call(world, version, &find(version, 0), engine);
        }
        for version in 2..=8 {
            call(world, version, &commit(&[("orders", &[0, 9]), ("gone", &[0])]), engine);
        }
        for version in 1..=8 {
            call(world, version, &fetch(version), engine);
        }
        for version in 0..=2 {
            call(world, version, &DeleteGroupsRequest::default().with_groups_names(vec![group()]), engine);
        }
        call(world, 0, &delete_offsets(), engine);
    }
}

#[test]
fn joining_before_version_1_has_one_timeout_and_ids_are_handed_out_first_since_version_4() {
    for version in 0..=9 {
        let (response, ask) = ask_one(version, &join(version), Ok(rich(&join_ask(version))));
        let GroupAsk::Join(asked) = ask else { panic!("asks {ask:?}") };
        let rebalance = if version == 0 { 10 } else { 60 };
        assert_eq!(asked.session_timeout, Duration::from_secs(10));
        assert_eq!(asked.rebalance_timeout, Duration::from_secs(rebalance));
        assert_eq!(asked.member_id_required, version >= 4);
        assert_eq!(asked.instance.is_some(), version >= 5);
        assert_eq!((asked.client_id.as_str(), asked.client_host.as_str()), ("tester", "/127.0.0.1"));
        let MemberProtocol::Classic { protocol_type, protocols } = asked.protocol else { panic!("native") };
        assert_eq!(protocol_type, "consumer");
        assert_eq!(protocols, [("range".to_owned(), Bytes::from_static(b"meta"))]);
        assert_eq!((response.error_code, response.generation_id), (0, 5));
        assert_eq!(response.protocol_name, Some(text("range")));
        assert_eq!(&response.members[0].metadata[..], b"meta");
    }
}

fn join_ask(version: i16) -> GroupAsk {
    let (_, mut asks) = call(&mut world(), version, &join(version), |_| Err(GroupError::RebalanceInProgress));
    asks.remove(0)
}

#[test]
fn who_must_come_back_with_an_id_gets_it_and_who_is_refused_keeps_the_own() {
    let required = Err(GroupError::MemberIdRequired { member: "m-9".into() });
    let (response, _) = ask_one(4, &join(4), required);
    assert_eq!(response.error_code, ResponseError::MemberIdRequired.code());
    assert_eq!((&*response.member_id, response.generation_id), ("m-9", -1));
    let request = join(6).with_member_id(text("m-3"));
    let (response, _) = ask_one(6, &request, Err(GroupError::UnknownMember { member: "m-3".into() }));
    assert_eq!(response.error_code, ResponseError::UnknownMemberId.code());
    assert_eq!(&*response.member_id, "m-3");
    // Null only where the version has it.
    assert_eq!(response.protocol_name, Some(StrBytes::new()));
    let (response, _) = ask_one(7, &join(7), Err(GroupError::Loading));
    assert_eq!(response.protocol_name, None);
}

#[test]
fn a_group_that_is_being_read_does_not_disturb_its_members() {
    for version in 0..=4 {
        assert_eq!(ask_one(version, &heartbeat(), Err(GroupError::Loading)).0.error_code, 0);
        let code = ask_one(version, &heartbeat(), Err(GroupError::RebalanceInProgress)).0.error_code;
        assert_eq!(code, ResponseError::RebalanceInProgress.code());
    }
}

#[test]
fn members_leave_one_by_one_before_version_3_and_together_since() {
    let unknown = || Err(GroupError::UnknownMember { member: "m-1".into() });
    let (response, _) = ask_one(2, &leave(2), Ok(GroupAnswer::Left(vec![unknown()])));
    assert_eq!(response.error_code, ResponseError::UnknownMemberId.code());
    let (response, ask) = ask_one(3, &leave(3), Ok(GroupAnswer::Left(vec![unknown(), Ok(())])));
    let GroupAsk::Leave(leaving) = ask else { panic!("asks {ask:?}") };
    assert_eq!((leaving[1].member.as_str(), leaving[1].instance.as_deref()), ("", Some("i")));
    assert_eq!(response.error_code, 0);
    let codes: Vec<i16> = response.members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [ResponseError::UnknownMemberId.code(), 0]);
    assert_eq!(response.members[1].group_instance_id, Some(text("i")));
}

#[test]
fn offsets_of_partitions_that_are_not_there_are_refused_and_the_others_committed() {
    let request = commit(&[("orders", &[2, 3, -1, 0]), ("gone", &[0])]);
    for version in 2..=8 {
        let too_large = GroupError::MetadataTooLarge { bytes: 5000, bytes_max: 4096 };
        let answer = vec![("orders".to_owned(), vec![(2, Ok(())), (0, Err(too_large))])];
        let (response, ask) = ask_one(version, &request, Ok(GroupAnswer::Committed(answer)));
        let GroupAsk::Commit(asked) = ask else { panic!("asks {ask:?}") };
        assert_eq!(asked.topics.len(), 1);
        let asked: Vec<u32> = asked.topics[0].1.iter().map(|commit| commit.partition).collect();
        assert_eq!(asked, [2, 0]);
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        let told = |index: usize| -> Vec<(i32, i16)> {
            let partitions = response.topics[index].partitions.iter();
            partitions.map(|partition| (partition.partition_index, partition.error_code)).collect()
        };
        let too_large = ResponseError::OffsetMetadataTooLarge.code();
        assert_eq!(told(0), [(2, 0), (3, unknown), (-1, unknown), (0, too_large)]);
        assert_eq!(told(1), [(0, unknown)]);
    }
    // Nothing is left to ask about.
    let (response, asks) = call(&mut world(), 8, &commit(&[("gone", &[0])]), |_| panic!("nothing is asked"));
    assert!(asks.is_empty() && response.topics.len() == 1);
}

#[test]
fn a_refused_commit_is_told_of_every_partition() {
    let (response, _) = ask_one(7, &commit(&[("orders", &[0, 1, 7])]), Err(GroupError::RebalanceInProgress));
    let codes: Vec<i16> =
        response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    let (again, unknown) = (ResponseError::RebalanceInProgress, ResponseError::UnknownTopicOrPartition);
    assert_eq!(codes, [again.code(), again.code(), unknown.code()]);
}

#[test]
fn commits_carry_what_their_version_has() {
    let request = commit(&[("orders", &[0])]).with_retention_time_ms(60_000);
    let (_, ask) = ask_one(4, &request, Err(GroupError::Loading));
    let GroupAsk::Commit(asked) = ask else { panic!("asks {ask:?}") };
    assert_eq!(asked.retention, Some(Duration::from_secs(60)));
    assert_eq!((asked.member.generation, asked.topics[0].1[0].leader_epoch), (5, -1));
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_leader_epoch(4)
        .with_committed_metadata(None);
    let of_topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_group_instance_id(Some(text("i")))
        .with_topics(vec![of_topic]);
    let (_, ask) = ask_one(7, &request, Err(GroupError::Loading));
    let GroupAsk::Commit(asked) = ask else { panic!("asks {ask:?}") };
    assert_eq!((asked.retention, asked.member.instance.as_deref()), (None, Some("i")));
    let commit = &asked.topics[0].1[0];
    assert_eq!((commit.leader_epoch, commit.metadata.as_str()), (4, ""));
}

/// kafkajs resets a group's offsets so.
#[test]
fn the_logs_start_is_committed_for_minus_two_and_nothing_for_minus_one() {
    let at = |index, offset| {
        OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(offset)
    };
    let partitions = vec![at(0, -1), at(1, -2), at(2, 5), at(9, -2)];
    let of_topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions);
    let request = OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![of_topic]);
    let mut world = world();
    world.log("orders", 1).start = Offset(3);
    let (response, asks) = call(&mut world, 5, &request, |ask| Ok(rich(ask)));
    let [GroupAsk::Commit(asked)] = &asks[..] else { panic!("asks {asks:?}") };
    let offsets: Vec<Offset> = asked.topics[0].1.iter().map(|commit| commit.offset).collect();
    assert_eq!(offsets, [Offset(u64::MAX), Offset(3), Offset(5)]);
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [0, 0, 0, ResponseError::UnknownTopicOrPartition.code()]);
}

#[test]
fn a_logs_start_that_cannot_be_found_now_is_told_and_nothing_is_forgotten() {
    let at = |index, offset| {
        OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(offset)
    };
    let commit = |partitions: Vec<OffsetCommitRequestPartition>| {
        let topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions);
        OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic])
    };
    let failed = || Response::FindOffset(Err(engine_api::FetchError::Overloaded));
    let code = ResponseError::KafkaStorageError.code();
    let codes = |response: &kafka_protocol::messages::OffsetCommitResponse| -> Vec<i16> {
        response.topics[0].partitions.iter().map(|p| p.error_code).collect()
    };
    let mut world = world();
    world.scripted.extend([failed(), failed()]);
    world.log("orders", 2).start = Offset(3);
    let request = commit(vec![at(0, -2), at(1, -2), at(2, -2), at(1, 5)]);
    let (response, asks) = call(&mut world, 5, &request, |ask| Ok(rich(ask)));
    let [GroupAsk::Commit(asked)] = &asks[..] else { panic!("asks {asks:?}") };
    let kept: Vec<_> = asked.topics[0].1.iter().map(|commit| (commit.partition, commit.offset)).collect();
    assert_eq!(kept, [(2, Offset(3)), (1, Offset(5))]);
    assert_eq!(codes(&response), [code, code, 0, 0]);
    world.scripted.push_back(failed());
    let (response, asks) = call(&mut world, 5, &commit(vec![at(0, -2)]), |ask| Ok(rich(ask)));
    assert_eq!((asks.len(), codes(&response)), (0, vec![code]));
}

#[test]
fn a_group_nobody_knows_has_committed_nothing_and_that_is_no_error() {
    for version in 1..=8 {
        let unknown = |_: &GroupAsk| Err(GroupError::NotFound { group: "g".into() });
        let (response, _) = call(&mut world(), version, &fetch(version), unknown);
        assert_eq!(response.error_code, 0);
        if version < 8 {
            let partitions = &response.topics[0].partitions;
            assert_eq!(partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [1, 0]);
            for partition in partitions {
                assert_eq!((partition.committed_offset, partition.error_code), (-1, 0));
                assert_eq!(partition.metadata, Some(StrBytes::new()));
            }
        } else {
            assert_eq!(response.groups.len(), 2);
            for partition in response.groups.iter().flat_map(|group| &group.topics[0].partitions) {
                assert_eq!((partition.committed_offset, partition.committed_leader_epoch), (-1, -1));
                assert_eq!(partition.metadata, Some(StrBytes::new()));
            }
        }
    }
}

#[test]
fn errors_of_fetching_offsets_stand_where_the_version_has_a_place_for_them() {
    let loading = ResponseError::CoordinatorLoadInProgress.code();
    let engine = |_: &GroupAsk| Err(GroupError::Loading);
    let (response, _) = call(&mut world(), 1, &fetch(1), engine);
    assert!(
        response.topics[0].partitions.iter().all(|p| p.error_code == loading && p.committed_offset == -1)
    );
    let (response, _) = call(&mut world(), 2, &fetch(2), engine);
    assert_eq!(response.error_code, loading);
    let mut first = true;
    let (response, _) = call(&mut world(), 8, &fetch(8), |ask| {
        if std::mem::take(&mut first) { Err(GroupError::Loading) } else { Ok(rich(ask)) }
    });
    assert_eq!(response.groups[0].error_code, loading);
    let partition = &response.groups[1].topics[0].partitions[0];
    assert_eq!((partition.committed_offset, &partition.metadata), (42, &Some(text("note"))));
}

#[test]
fn everything_a_group_has_committed_is_asked_for_by_null() {
    let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(None);
    let (response, ask) = ask_one(5, &request, Ok(rich(&GroupAsk::FetchOffsets(None))));
    assert_eq!(ask, GroupAsk::FetchOffsets(None));
    assert_eq!(response.topics[0].partitions[0].committed_leader_epoch, 3);
}

#[test]
fn offsets_are_deleted_of_partitions_that_are_there() {
    let answer = vec![(
        "orders".to_owned(),
        vec![(2, Ok(())), (0, Err(GroupError::Subscribed { topic: "orders".into() }))],
    )];
    let (response, ask) = ask_one(0, &delete_offsets(), Ok(GroupAnswer::OffsetsDeleted(answer)));
    assert_eq!(ask, GroupAsk::DeleteOffsets(vec![("orders".into(), vec![2, 0])]));
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(codes, [0, unknown, ResponseError::GroupSubscribedToTopic.code()]);
    let (response, _) = ask_one(0, &delete_offsets(), Err(GroupError::NotFound { group: "g".into() }));
    assert_eq!(response.error_code, ResponseError::GroupIdNotFound.code());
}

#[test]
fn the_coordinator_is_this_node_as_the_client_reaches_it() {
    for version in 0..=4 {
        let (response, asks) = call(&mut world(), version, &find(version, 0), |_| panic!("it is known"));
        assert!(asks.is_empty());
        if version < 4 {
            assert_eq!((&*response.host, response.port, response.error_code), ("127.0.0.1", 9092, 0));
            assert!(version < 1 || response.error_message.is_none());
            assert_eq!(response.node_id, BrokerId(NODE.0 as i32));
        } else {
            let keys: Vec<&str> = response.coordinators.iter().map(|found| &*found.key).collect();
            assert_eq!(keys, ["g", "h"]);
            let is_good = |code: i16, message: &Option<StrBytes>| code == 0 && message.is_none();
            assert!(
                response
                    .coordinators
                    .iter()
                    .all(|c| c.port == 9092 && is_good(c.error_code, &c.error_message))
            );
        }
    }
}

#[test]
fn looking_for_the_first_group_makes_the_topic_that_groups_are_kept_in() {
    for version in 0..=4 {
        let mut world = World::new();
        let (response, asks) = call(&mut world, version, &find(version, 0), |_| Err(GroupError::NotReady));
        assert_eq!(asks, [GroupAsk::Describe]);
        let again = ResponseError::CoordinatorNotAvailable.code();
        let code = response.coordinators.first().map_or(response.error_code, |found| found.error_code);
        assert_eq!(code, again);
    }
}

#[test]
fn transactions_coordinators_are_refused_for_good() {
    for version in 1..=4 {
        let (response, asks) = call(&mut World::new(), version, &find(version, 1), |_| panic!("not asked"));
        assert!(asks.is_empty());
        let fatal = ResponseError::TransactionalIdAuthorizationFailed.code();
        let code = response.coordinators.first().map_or(response.error_code, |found| found.error_code);
        assert_eq!(code, fatal);
        let message =
            response.coordinators.first().map_or(&response.error_message, |found| &found.error_message);
        assert!(message.as_ref().unwrap().contains("transactions"));
    }
}

#[test]
fn groups_that_do_not_exist_are_described_as_dead() {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("h"))]);
    for version in 0..=5 {
        let mut first = true;
        let (response, _) = call(&mut world(), version, &request, |ask| match std::mem::take(&mut first) {
            true => Err(GroupError::NotFound { group: "g".into() }),
            false => Ok(rich(ask)),
        });
        let [dead, stable] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!((&*dead.group_state, dead.error_code, &*dead.group_id.0), ("Dead", 0, "g"));
        assert_eq!((&*stable.group_state, &*stable.protocol_data), ("Stable", "range"));
        assert_eq!(stable.members[0].group_instance_id.is_some(), version >= 4);
        assert_eq!(stable.authorized_operations, i32::MIN);
    }
    let request = request.with_include_authorized_operations(true);
    let (response, _) = call(&mut world(), 3, &request, |ask| Ok(rich(ask)));
    assert_eq!(response.groups[0].authorized_operations, crate::operations::OF_GROUP);
}

#[test]
fn groups_that_are_named_again_are_asked_about_once() {
    let groups = || vec![group(), GroupId(text("h")), group()];
    let names = |groups: Vec<GroupId>| groups.iter().map(|group| group.0.to_string()).collect::<Vec<_>>();
    let request = DescribeGroupsRequest::default().with_groups(groups());
    let (response, asks) = call(&mut world(), 5, &request, |ask| Ok(rich(ask)));
    assert_eq!(asks.len(), 2);
    assert_eq!(names(response.groups.into_iter().map(|group| group.group_id).collect()), ["g", "h"]);
    let of_group = |topics: Option<&[(&str, &[i32])]>| {
        let topic = |(name, partitions): &(&str, &[i32])| {
            OffsetFetchRequestTopics::default()
                .with_name(TopicName(text(name)))
                .with_partition_indexes(partitions.to_vec())
        };
        let topics = topics.map(|topics| topics.iter().map(topic).collect());
        OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(topics)
    };
    let some = of_group(Some(&[("orders", &[1, 1, 0]), ("b", &[]), ("orders", &[2, 0])]));
    let more = of_group(Some(&[("orders", &[3, 1])]));
    let request = OffsetFetchRequest::default().with_groups(vec![some.clone(), more]);
    let (_, asks) = call(&mut world(), 8, &request, |ask| Ok(rich(ask)));
    let expect = vec![("orders".to_owned(), vec![1, 0, 2, 3]), ("b".to_owned(), vec![])];
    assert_eq!(asks, [GroupAsk::FetchOffsets(Some(expect))]);
    let request = OffsetFetchRequest::default().with_groups(vec![some, of_group(None)]);
    let (_, asks) = call(&mut world(), 8, &request, |ask| Ok(rich(ask)));
    assert_eq!(asks, [GroupAsk::FetchOffsets(None)]);
}

fn listing(group: &str, state: GroupState) -> GroupListing {
    GroupListing { group: group.into(), protocol_type: "consumer".into(), state }
}

#[test]
fn groups_of_all_cores_are_listed_by_name_and_filtered_by_state() {
    for (version, states, expect) in
        [(2, &[][..], &["a", "b", "c"][..]), (4, &["stable"][..], &["a"][..]), (4, &["Nothing"][..], &[][..])]
    {
        let mut world = world();
        let node =
            NodeDescription { id: NODE, address: "x:1".into(), cores: 2, partitions_led: 0, incarnation: 1 };
        world.scripted.push_back(Response::DescribeCluster(ClusterDescription {
            cluster_id: 1,
            version: String::new(),
            nodes: vec![node],
            topics_count: 0,
            partitions_count: 0,
            troubled: Vec::new(),
        }));
        let core_0 = vec![listing("c", GroupState::Empty), listing("a", GroupState::Stable)];
        world.scripted.push_back(Response::ListGroups(Ok(core_0)));
        world
            .scripted
            .push_back(Response::ListGroups(Ok(vec![listing("b", GroupState::PreparingRebalance)])));
        let conn = world.connect();
        let request =
            ListGroupsRequest::default().with_states_filter(states.iter().map(|state| text(state)).collect());
        let response = world.call(conn, version, &request);
        let names: Vec<&str> = response.groups.iter().map(|group| &*group.group_id.0).collect();
        assert_eq!(names, expect);
        let asked = world.asked.iter().filter_map(|request| match request {
            Request::ListGroups(list) => Some(list.core),
            _ => None,
        });
        assert_eq!(asked.collect::<Vec<_>>(), [CoreId(0), CoreId(1)]);
    }
}

#[test]
fn without_the_topic_of_groups_there_are_none_to_list() {
    let mut world = World::new();
    let conn = world.connect();
    for version in 0..=4 {
        assert!(world.call(conn, version, &ListGroupsRequest::default()).groups.is_empty());
    }
    assert!(world.asked.is_empty());
}

#[test]
fn mutated_requests_are_answered_or_end_their_connection_alone() {
    let mut chance = Chance(11);
    let mut world = world();
    for round in 0..3000 {
        let version = chance.below(10) as i16;
        let mut bytes = match round % 7 {
            0 => encode(version, 1, &join(version)),
            1 => encode(version.min(5), 1, &sync(version.min(5))),
            2 => encode(version.min(5), 1, &leave(version.min(5))),
            3 => encode(version.clamp(2, 8), 1, &commit(&[("orders", &[0, 1]), ("gone", &[2])])),
            4 => encode(version.clamp(1, 8), 1, &fetch(version.clamp(1, 8))),
            5 => encode(version.min(4), 1, &find(version.min(4), 0)),
            _ => encode(0, 1, &delete_offsets()),
        };
        // Not the size and not the key.
        for _ in 0..=chance.below(3) {
            let place = 8 + chance.below(bytes.len() - 8);
            bytes[place] = chance.next() as u8;
        }
        let conn = world.connect();
        world.feed(conn, &bytes);
        while let Some((key, request)) = world.open.first().cloned() {
            let Request::Group(asked) = request else { panic!("asks {request:?}") };
            world.answer(key, Response::Group(Ok(rich(&asked.ask))));
        }
        assert!(world.server.is_closing(conn) || !world.sent(conn).is_empty(), "round {round}");
        world.server.ended(world.now, conn);
        while world.server.poll_event().is_some() {}
    }
}
