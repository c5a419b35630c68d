//! Static membership: KIP-345 and KIP-814.

use std::time::Duration;

use engine_api::*;

use super::harness::*;

fn stable_static(h: &mut Harness) -> Joined {
    let key = h.join("g", classic_static("", "i"));
    let joined = h.joined(key);
    let key = h.sync("g", &joined, &[(&joined.member, b"mine")]);
    assert_eq!(&h.synced(key)[..], b"mine");
    joined
}

fn beat(joined: &Joined, instance: &str) -> GroupAsk {
    let member = MemberId { instance: Some(instance.into()), ..id(&joined.member, joined.generation) };
    GroupAsk::Heartbeat(member)
}

#[test]
fn a_static_member_that_comes_back_has_its_assignment_without_a_rebalance() {
    let mut h = Harness::new();
    let before = stable_static(&mut h);
    let key = h.join("g", classic_static("", "i"));
    let after = h.joined(key);
    assert_ne!(after.member, before.member);
    assert_eq!(after.generation, before.generation);
    // It leads, and is told that the assignment stands (KIP-814).
    assert!(after.skip_assignment && after.leader == after.member && after.members.len() == 1);
    let key = h.sync("g", &after, &[]);
    assert_eq!(&h.synced(key)[..], b"mine");
    // Its old self is fenced, in words that tell it so.
    let fenced = Err(GroupError::Fenced { instance: "i".into() });
    assert_eq!(h.answered("g", beat(&before, "i")), fenced);
    let zombie = MemberId { instance: Some("i".into()), ..id(&before.member, before.generation) };
    assert_eq!(h.answered("g", commit(zombie, &[("t", 0, 5)])), fenced);
    let key = h.join("g", classic_static(&before.member, "i"));
    assert_eq!(h.error(key), GroupError::Fenced { instance: "i".into() });
    assert_eq!(h.answered("g", beat(&after, "i")), Ok(GroupAnswer::Alive));
}

#[test]
fn an_older_client_is_not_told_that_it_leads() {
    let mut h = Harness::new();
    let before = stable_static(&mut h);
    let key = h.join("g", JoinGroup { supports_skip_assignment: false, ..classic_static("", "i") });
    let after = h.joined(key);
    assert_eq!((after.leader, after.skip_assignment), (before.member, false));
    assert_eq!(after.members, []);
}

#[test]
fn the_new_id_is_durable_before_it_is_told() {
    let mut h = Harness::new();
    stable_static(&mut h);
    h.is_fast = false;
    let key = h.join("g", classic_static("", "i"));
    assert_eq!(h.answer(key), None);
    h.store_all();
    let after = h.joined(key);
    h.restart();
    assert_eq!(h.answered("g", beat(&after, "i")), Ok(GroupAnswer::Alive));
}

#[test]
fn other_protocols_make_a_rebalance() {
    let mut h = Harness::new();
    let before = stable_static(&mut h);
    let join = JoinGroup { instance: Some("i".into()), ..with_protocols("", &["other"]) };
    let key = h.join("g", join);
    let after = h.joined(key);
    assert_eq!((after.generation, after.protocol.as_deref()), (before.generation + 1, Some("other")));
}

/// A service that is alone in its group moves from one protocol to the other, and back.
#[test]
fn whoever_is_alone_may_come_back_as_another_kind_of_client() {
    let mut h = Harness::new();
    // The assignor's name is that of the classic protocol: the old assignment must not stand all the same.
    let native =
        |member: &str| JoinGroup { instance: Some("i".into()), ..native(member, &["t"], Assignor::Range) };
    let key = h.join("g", native(""));
    let mut known = h.joined(key).member;
    // First under new ids, as after a restart; then under the id that is known.
    for is_known in [false, true] {
        let member = |known: &str| if is_known { known.to_owned() } else { String::new() };
        let key = h.join("g", classic_static(&member(&known), "i"));
        let classic = h.joined(key);
        assert_eq!(classic.protocol_type.as_deref(), Some("consumer"));
        assert_eq!((&classic.leader, classic.members.len()), (&classic.member, 1));
        let key = h.sync("g", &classic, &[(&classic.member, b"all")]);
        assert_eq!(&h.synced(key)[..], b"all");
        h.restart();
        assert_eq!(h.answered("g", beat(&classic, "i")), Ok(GroupAnswer::Alive));
        let key = h.join("g", native(&member(&classic.member)));
        let joined = h.joined(key);
        assert_eq!(joined.protocol_type.as_deref(), Some(NATIVE_PROTOCOL_TYPE));
        assert_eq!(joined.assignment, [("t".to_owned(), vec![0, 1, 2])]);
        assert!(joined.generation > classic.generation);
        known = joined.member;
    }
    // Beside others it may not.
    let other = h.join("g", JoinGroup { instance: Some("j".into()), ..native("") });
    let again = h.join("g", native(&known));
    h.joined(other);
    h.joined(again);
    let key = h.join("g", classic_static("", "i"));
    assert!(matches!(h.error(key), GroupError::InconsistentProtocol { .. }));
}

/// Protocols of the same name are not the same for members of another type.
#[test]
fn an_assignment_does_not_stand_for_another_protocol_type() {
    let mut h = Harness::new();
    let connect = JoinGroup {
        protocol: MemberProtocol::Classic {
            protocol_type: "connect".into(),
            protocols: vec![("range".into(), subscription("t"))],
        },
        ..classic_static("", "i")
    };
    let key = h.join("g", connect);
    let before = h.joined(key);
    let key = h.sync("g", &before, &[(&before.member, b"theirs")]);
    assert_eq!(&h.synced(key)[..], b"theirs");
    let after = stable_static(&mut h);
    assert_eq!((after.generation, after.skip_assignment), (before.generation + 1, false));
}

#[test]
fn a_static_member_is_away_until_its_session_ends() {
    let mut h = Harness::new();
    let away = stable_static(&mut h);
    let short = JoinGroup { rebalance_timeout: Duration::from_secs(7), ..classic("") };
    let key = h.join("g", short);
    h.pass(Duration::from_secs(5));
    h.answered("g", beat(&away, "i")).expect_err("a rebalance");
    // Its session goes on, and so does the rebalance timeout of 60 s that it asked for.
    h.pass(Duration::from_secs(9));
    assert_eq!(h.answer(key), None);
    h.pass(Duration::from_secs(2));
    let joined = h.joined(key);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn an_administrator_removes_by_instance() {
    let mut h = Harness::new();
    stable_static(&mut h);
    let leave = |instance: &str| {
        let leaving = Leaving { member: String::new(), instance: Some(instance.into()), reason: None };
        GroupAsk::Leave(vec![leaving])
    };
    let unknown = GroupError::UnknownMember { member: "j".into() };
    assert_eq!(h.answered("g", leave("j")), Ok(GroupAnswer::Left(vec![Err(unknown)])));
    assert_eq!(h.answered("g", leave("i")), Ok(GroupAnswer::Left(vec![Ok(())])));
    assert_eq!(h.describe("g").state, GroupState::Empty);
}
