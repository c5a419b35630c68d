//! A group's life: what it stores, and the messages that bring it about.

use std::time::Duration;

use bytes::Bytes;
use engine_api::*;
use engine_groups::{Effect, Groups, GroupsConfig, StoredRecord, Topics};
use net_wire::encode;
use storage_frame::{Now, Offset, TimestampMs};

struct Orders;

impl Topics for Orders {
    fn partitions(&self, _: &str) -> Option<u32> {
        Some(3)
    }
}

fn join(protocol: MemberProtocol) -> GroupAsk {
    GroupAsk::Join(JoinGroup {
        member: String::new(),
        instance: Some("i".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        member_id_required: true,
        supports_skip_assignment: true,
        protocol,
    })
}

fn native() -> MemberProtocol {
    MemberProtocol::Native { topics: vec!["orders".into()], assignor: Assignor::Sticky }
}

fn classic() -> MemberProtocol {
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff");
    MemberProtocol::Classic { protocol_type: "consumer".into(), protocols: vec![("range".into(), metadata)] }
}

fn commit() -> GroupAsk {
    let offset = CommitOffset {
        partition: 1,
        offset: Offset(7),
        leader_epoch: 2,
        metadata: "said by the client".into(),
    };
    GroupAsk::Commit(CommitOffsets {
        member: MemberId { member: String::new(), generation: -1, instance: None },
        retention: Some(Duration::from_secs(60)),
        topics: vec![("orders".into(), vec![offset])],
    })
}

fn asks() -> Vec<(&'static str, GroupAsk)> {
    vec![("f", join(native())), ("g", join(classic())), ("h", commit())]
}

/// Input of `group_record`: everything, and each record alone.
pub(super) fn records() -> Vec<Vec<u8>> {
    let mut now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
    let mut groups = Groups::new(GroupsConfig::default(), now);
    groups.loaded(now);
    let mut stored = Vec::new();
    for (key, (group, ask)) in asks().into_iter().enumerate() {
        let slot = ReplySlot { core: CoreId(0), key: key as u64 };
        groups.handle(now, slot, GroupRequest { group: group.into(), ask }, &Orders);
    }
    for _ in 0..20 {
        now.mono += Duration::from_secs(1);
        groups.tick(now, &Orders);
        while let Some(effect) = groups.poll() {
            match effect {
                Effect::Store { ticket, records } => {
                    stored.extend(records);
                    groups.stored(now, ticket);
                }
                Effect::Reply(slot, Ok(GroupAnswer::Joined(joined))) if slot.key == 1 => {
                    let member = MemberId {
                        member: joined.member.clone(),
                        generation: joined.generation,
                        instance: None,
                    };
                    let assignments = vec![(joined.member, Bytes::from_static(b"all of it"))];
                    let sync = SyncGroup { member, protocol_type: None, protocol: None, assignments };
                    let request = GroupRequest { group: "g".into(), ask: GroupAsk::Sync(sync) };
                    groups.handle(now, ReplySlot { core: CoreId(0), key: 9 }, request, &Orders);
                }
                Effect::Reply(..) | Effect::Event(..) => {}
            }
        }
    }
    let input = |record: &StoredRecord| {
        let piece = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes(), bytes].concat();
        [piece(&record.key), piece(record.value.as_deref().unwrap_or_default())].concat()
    };
    let each: Vec<Vec<u8>> = stored.iter().map(input).collect();
    let all = each.concat();
    each.into_iter().chain([all]).collect()
}

pub(super) fn messages() -> Vec<Bytes> {
    let requests =
        asks().into_iter().map(|(group, ask)| Request::Group(GroupRequest { group: group.into(), ask }));
    let requests = requests.chain([Request::ListGroups(ListGroups { core: CoreId(1) })]);
    let listing =
        GroupListing { group: "g".into(), protocol_type: "consumer".into(), state: GroupState::Stable };
    let answers = [
        Response::Group(Ok(GroupAnswer::Committed(vec![("orders".into(), vec![(1, Ok(()))])]))),
        Response::Group(Err(GroupError::RebalanceInProgress)),
        Response::ListGroups(Ok(vec![listing])),
    ];
    let requests = requests.map(|request| encode::request(3, &request));
    requests.chain(answers.iter().map(|answer| encode::response(3, answer))).collect()
}
