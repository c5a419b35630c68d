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
