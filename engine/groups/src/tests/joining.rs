//! Joining, syncing, heartbeats: the way of a classic group.

use std::time::Duration;

use engine_api::*;

use super::harness::*;

#[test]
fn one_member_joins_syncs_and_lives() {
    let mut h = Harness::new();
    let joined = h.stable_one("g");
    assert_eq!((joined.generation, joined.protocol.as_deref()), (1, Some("range")));
    assert_eq!(joined.leader, joined.member);
    assert_eq!(joined.members, [(joined.member.clone(), None, subscription("t"))]);
    assert_eq!(h.heartbeat("g", &joined), Ok(()));
    assert_eq!(h.describe("g").state, GroupState::Stable);
}

#[test]
fn a_second_member_waits_for_the_first() {
    let mut h = Harness::new();
    let first = h.stable_one("g");
    let second = h.join("g", classic(""));
    assert_eq!(h.answer(second), None);
    assert_eq!(h.heartbeat("g", &first), Err(GroupError::RebalanceInProgress));
    let again = h.join("g", classic(&first.member));
    let (again, second) = (h.joined(again), h.joined(second));
    assert_eq!((again.generation, second.generation), (2, 2));
    assert_eq!(again.leader, first.member);
    assert_eq!((again.members.len(), second.members.len()), (2, 0));
    // Followers wait for the leader's word.
    let waits = h.sync("g", &second, &[]);
    assert_eq!(h.answer(waits), None);
    let speaks = h.sync("g", &again, &[(&second.member, b"yours")]);
    assert_eq!(&h.synced(waits)[..], b"yours");
    assert_eq!(&h.synced(speaks)[..], b"");
}

#[test]
fn first_members_wait_for_others_up_to_the_rebalance_timeout() {
    let delay = Duration::from_secs(3);
    let mut h = Harness::with(crate::GroupsConfig { initial_rebalance_delay: delay, ..config() });
    let short = |_| JoinGroup { rebalance_timeout: Duration::from_secs(8), ..classic("") };
    let mut keys = vec![h.join("g", short(0))];
    // Somebody new each two seconds: 3 s, and 3 s more, and the 2 s that are left.
    for _ in 0..3 {
        h.pass(Duration::from_secs(2));
        keys.push(h.join("g", short(0)));
    }
    assert!(keys.iter().all(|key| h.answer(*key).is_none()));
    h.pass(Duration::from_millis(2100));
    for key in keys {
        assert_eq!(h.joined(key).generation, 1);
    }
}

#[test]
fn kip_394_a_new_member_is_handed_its_id_first_and_is_not_waited_for_long() {
    let mut h = Harness::new();
    let key = h.join("g", JoinGroup { member_id_required: true, ..classic("") });
    let GroupError::MemberIdRequired { member } = h.error(key) else { panic!("an id") };
    assert!(member.starts_with("c-"), "{member}");
    assert_eq!(h.describe("g").members, []);
    // Before it has come back it is no member.
    let beat = h.answered("g", GroupAsk::Heartbeat(id(&member, 0)));
    assert_eq!(beat, Err(GroupError::UnknownMember { member: member.clone() }));
    let key = h.join("g", JoinGroup { member_id_required: true, ..classic(&member) });
    assert_eq!(h.joined(key).member, member);
    // Ids that nobody comes back with are forgotten.
    let key = h.join("h", JoinGroup { member_id_required: true, ..classic("") });
    let GroupError::MemberIdRequired { member } = h.error(key) else { panic!("an id") };
    h.pass(SESSION + Duration::from_millis(200));
    let key = h.join("h", classic(&member));
    assert_eq!(h.error(key), GroupError::UnknownMember { member });
}

#[test]
fn ids_handed_out_are_short_and_counted_until_they_are_gone() {
    let mut h = Harness::new();
    // Cut at a whole character: 255 bytes of 3 each.
    let name = "\u{20ac}".repeat(10_000);
    let join =
        |member: &str| JoinGroup { client_id: name.clone(), member_id_required: true, ..classic(member) };
    let hand_out = |h: &mut Harness| {
        let key = h.join("g", join(""));
        let GroupError::MemberIdRequired { member } = h.error(key) else { panic!("an id") };
        member
    };
    let one = hand_out(&mut h);
    assert_eq!(one.len(), 255 + "-01234567-0123-0123-0123-0123456789ab".len());
    let (alone, found) = h.groups.bytes_counted_and_found();
    assert!(alone > "g".len() + one.len() && alone == found);
    // One comes back and leaves, one leaves, one is never seen again.
    let two = hand_out(&mut h);
    hand_out(&mut h);
    assert_eq!(h.groups.bytes_counted_and_found().0, found + 2 * (crate::limits::ENTRY_BYTES + one.len()));
    let key = h.join("g", join(&one));
    for member in [&two, &one] {
        let leaving = Leaving { member: member.clone(), instance: None, reason: None };
        h.answered("g", GroupAsk::Leave(vec![leaving])).unwrap();
        let (counted, found) = h.groups.bytes_counted_and_found();
        assert_eq!(counted, found);
    }
    assert_eq!(h.joined(key).member, one);
    h.pass(SESSION + Duration::from_millis(200));
    let (counted, found) = h.groups.bytes_counted_and_found();
    assert_eq!(counted, found);
    // Not even the group's name is left where nothing came of it.
    let mut h = Harness::new();
    hand_out(&mut h);
    h.pass(SESSION + Duration::from_millis(200));
    assert_eq!((h.groups.list(), h.groups.bytes_counted_and_found()), (vec![], (0, 0)));
}

#[test]
fn the_protocol_most_members_prefer_among_those_all_support_is_chosen() {
    let delay = Duration::from_secs(1);
    let mut h = Harness::with(crate::GroupsConfig { initial_rebalance_delay: delay, ..config() });
    let keys = [
        h.join("g", with_protocols("", &["a", "b", "c"])),
        h.join("g", with_protocols("", &["c", "b"])),
        h.join("g", with_protocols("", &["x", "c", "b"])),
    ];
    // Only b and c are everybody's; b has one vote, c two.
    h.pass(Duration::from_secs(3));
    for key in keys {
        assert_eq!(h.joined(key).protocol.as_deref(), Some("c"));
    }
    let none_in_common = h.join("g", with_protocols("", &["a", "x"]));
    assert!(matches!(h.error(none_in_common), GroupError::InconsistentProtocol { .. }));
    let other_type = JoinGroup {
        protocol: MemberProtocol::Classic {
            protocol_type: "connect".into(),
            protocols: vec![("c".into(), bytes::Bytes::new())],
        },
        ..classic("")
    };
    let other_type = h.join("g", other_type);
    assert!(matches!(h.error(other_type), GroupError::InconsistentProtocol { .. }));
    let other_kind = h.join("g", native("", &["t"], Assignor::Range));
    assert!(matches!(h.error(other_kind), GroupError::InconsistentProtocol { .. }));
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut h = Harness::new();
    let (first, second) = h.stable_two("g");
    for _ in 0..3 {
        h.pass(SESSION / 2);
        let _ = h.heartbeat("g", &first);
    }
    assert_eq!(h.heartbeat("g", &first), Err(GroupError::RebalanceInProgress));
    let gone = GroupError::UnknownMember { member: second.member.clone() };
    assert_eq!(h.heartbeat("g", &second), Err(gone));
    let again = h.join("g", classic(&first.member));
    assert_eq!(h.joined(again).generation, first.generation + 1);
    let event = h.describe("g").events.pop().unwrap();
    assert_eq!((event.cause, event.member), (RebalanceCause::SessionExpired, second.member));
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_out() {
    let mut h = Harness::new();
    let first = h.stable_one("g");
    let second = h.join("g", classic(""));
    // The first one lives, and does not care.
    for _ in 0..11 {
        h.pass(REBALANCE / 10);
        let _ = h.heartbeat("g", &first);
    }
    let second = h.joined(second);
    assert_eq!((second.generation, second.leader == second.member), (2, true));
    let unknown = GroupError::UnknownMember { member: first.member.clone() };
    assert_eq!(h.heartbeat("g", &first), Err(unknown));
    assert_eq!(h.describe("g").events.pop().unwrap().cause, RebalanceCause::RebalanceTimedOut);
}

#[test]
fn members_that_never_sync_are_out_after_the_rebalance_timeout() {
    let mut h = Harness::new();
    let first = h.join("g", classic(""));
    let first = h.joined(first);
    for _ in 0..11 {
        h.pass(REBALANCE / 10);
        let _ = h.heartbeat("g", &first);
    }
    assert!(h.heartbeat("g", &first).is_err());
    assert_eq!(h.describe("g").state, GroupState::Empty);
}

#[test]
fn a_rebalance_in_between_answers_those_who_wait_for_their_assignment() {
    let mut h = Harness::new();
    let leader = h.stable_one("g");
    let follower = h.join("g", classic(""));
    let leader = h.join("g", classic(&leader.member));
    let (leader, follower) = (h.joined(leader), h.joined(follower));
    let waits = h.sync("g", &follower, &[]);
    let third = h.join("g", classic(""));
    assert_eq!(h.error(waits), GroupError::RebalanceInProgress);
    let late = h.sync("g", &leader, &[]);
    assert_eq!(h.error(late), GroupError::RebalanceInProgress);
    let keys = [h.join("g", classic(&leader.member)), h.join("g", classic(&follower.member)), third];
    for key in keys {
        assert_eq!(h.joined(key).generation, leader.generation + 1);
    }
}

#[test]
fn old_generations_and_strangers_are_refused_everywhere() {
    let mut h = Harness::new();
    let (_, second) = h.stable_two("g");
    let old = Joined { generation: second.generation - 1, ..second.clone() };
    let illegal = GroupError::IllegalGeneration { sent: old.generation, current: second.generation };
    assert_eq!(h.heartbeat("g", &old), Err(illegal.clone()));
    let sync = h.sync("g", &old, &[]);
    assert_eq!(h.error(sync), illegal);
    let stranger = Joined { member: "x".into(), ..second.clone() };
    let unknown = GroupError::UnknownMember { member: "x".into() };
    assert_eq!(h.heartbeat("g", &stranger), Err(unknown.clone()));
    let sync = h.sync("g", &stranger, &[]);
    assert_eq!(h.error(sync), unknown);
    let other = Joined { protocol: Some("other".into()), ..second };
    let sync = h.sync("g", &other, &[]);
    assert!(matches!(h.error(sync), GroupError::InconsistentProtocol { .. }));
    assert_eq!(h.heartbeat("nobody", &stranger), Err(unknown));
}

#[test]
fn lost_answers_are_given_again_without_a_rebalance() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two("g");
    let again = h.join("g", classic(&follower.member));
    assert_eq!(h.joined(again), follower);
    let again = h.sync("g", &follower, &[]);
    assert_eq!(&h.synced(again)[..], b"2");
    assert_eq!(h.heartbeat("g", &leader), Ok(()));
    // The leader that joins again wants to assign anew.
    let again = h.join("g", classic(&leader.member));
    assert_eq!(h.answer(again), None);
    assert_eq!(h.heartbeat("g", &follower), Err(GroupError::RebalanceInProgress));
    // And whoever brings other metadata.
    let follower = h.join("g", with_protocols(&follower.member, &["range", "more"]));
    assert_eq!((h.joined(again).generation, h.joined(follower).generation), (3, 3));
}

#[test]
fn leaving_makes_a_rebalance_and_the_last_one_an_empty_group() {
    let mut h = Harness::new();
    let (first, second) = h.stable_two("g");
    let leave =
        |member: &str| GroupAsk::Leave(vec![Leaving { member: member.into(), instance: None, reason: None }]);
    assert_eq!(h.answered("g", leave(&second.member)), Ok(GroupAnswer::Left(vec![Ok(())])));
    assert_eq!(h.heartbeat("g", &first), Err(GroupError::RebalanceInProgress));
    let unknown = GroupError::UnknownMember { member: second.member.clone() };
    assert_eq!(h.answered("g", leave(&second.member)), Ok(GroupAnswer::Left(vec![Err(unknown)])));
    assert_eq!(h.answered("g", leave(&first.member)), Ok(GroupAnswer::Left(vec![Ok(())])));
    let described = h.describe("g");
    assert_eq!((described.state, described.members.len()), (GroupState::Empty, 0));
    assert!(described.generation > first.generation);
}

#[test]
fn timeouts_and_numbers_out_of_bounds_are_refused() {
    let mut h = Harness::new();
    let short = h.join("g", JoinGroup { session_timeout: Duration::from_secs(1), ..classic("") });
    assert!(matches!(h.error(short), GroupError::SessionTimeout { .. }));
    let long = h.join("g", JoinGroup { session_timeout: Duration::from_secs(3600), ..classic("") });
    assert!(matches!(h.error(long), GroupError::SessionTimeout { .. }));
    let nameless = h.join("", classic(""));
    assert!(matches!(h.error(nameless), GroupError::InvalidGroup { .. }));
    let huge = h.join(&"x".repeat(5000), classic(""));
    assert!(matches!(h.error(huge), GroupError::InvalidGroup { .. }));
    let none = h.join("g", with_protocols("", &[]));
    assert!(matches!(h.error(none), GroupError::InconsistentProtocol { .. }));
    for _ in 0..10 {
        h.join("g", classic(""));
    }
    let eleventh = h.join("g", classic(""));
    assert_eq!(h.error(eleventh), GroupError::Full { members_max: 10 });
}

#[test]
fn whoever_hangs_up_while_it_waits_is_not_waited_for() {
    let mut h = Harness::new();
    let first = h.stable_one("g");
    // Nobody knows the id of this one: it is out at once.
    let ghost = h.join("g", classic(""));
    h.cancel(ghost);
    assert_eq!(h.describe("g").members.len(), 1);
    let again = h.join("g", classic(&first.member));
    let joined = h.joined(again);
    let sync = h.sync("g", &joined, &[]);
    h.synced(sync);
    // This one can come back, until its session ends.
    let other = h.join("g", classic(""));
    let waits = h.join("g", classic(&first.member));
    assert_eq!(h.joined(waits).generation, h.joined(other).generation);
    let waits = h.join("g", with_protocols(&first.member, &["range", "b"]));
    h.cancel(waits);
    assert_eq!(h.describe("g").members.len(), 2);
    h.pass(SESSION + Duration::from_millis(200));
    assert_eq!(h.describe("g").state, GroupState::Empty);
}

#[test]
fn members_that_do_not_fit_into_a_record_are_refused_and_the_others_stay() {
    let mut h = Harness::new();
    let large = |member: &str| JoinGroup {
        protocol: MemberProtocol::Classic {
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), vec![0; (1 << 20) - 100].into())],
        },
        ..classic(member)
    };
    let keys: Vec<u64> = (0..9).map(|_| h.join("g", large(""))).collect();
    assert!(matches!(h.error(keys[8]), GroupError::TooLarge { .. }));
    assert_eq!(h.describe("g").members.len(), 8);
    // Who is in it already takes its own place.
    let first = h.joined(keys[0]);
    let again = h.join("g", large(&first.member));
    assert!(!matches!(h.answer(again), Some(Err(_))), "it is in already");
}
