//! Native members: the coordinator assigns.

use std::time::Duration;

use engine_api::*;

use super::harness::*;

fn owned(joined: &Joined) -> Vec<u32> {
    joined.assignment.iter().flat_map(|(_, partitions)| partitions.clone()).collect()
}

#[test]
fn a_member_is_told_its_partitions_when_they_are_durable() {
    let mut h = Harness::new();
    h.is_fast = false;
    let key = h.join("g", native("", &["t"], Assignor::Range));
    assert_eq!(h.answer(key), None);
    assert_eq!(h.describe("g").state, GroupState::CompletingRebalance);
    h.store_all();
    let joined = h.joined(key);
    assert_eq!(joined.assignment, [("t".to_owned(), vec![0, 1, 2])]);
    assert_eq!(joined.protocol_type.as_deref(), Some(NATIVE_PROTOCOL_TYPE));
    h.restart();
    let again = h.join("g", native(&joined.member, &["t"], Assignor::Range));
    assert_eq!(h.joined(again), joined);
    let sync = h.sync("g", &joined, &[]);
    assert!(matches!(h.error(sync), GroupError::InconsistentProtocol { .. }));
}

#[test]
fn nobody_has_a_partition_before_its_last_owner_has_joined_again() {
    let mut h = Harness::new();
    let key = h.join("g", native("", &["t"], Assignor::Sticky));
    let first = h.joined(key);
    let second = h.join("g", native("", &["t"], Assignor::Sticky));
    assert_eq!(h.answer(second), None);
    assert_eq!(h.heartbeat("g", &first), Err(GroupError::RebalanceInProgress));
    // What it has done is committed before it gives up.
    h.answered("g", commit(id(&first.member, first.generation), &[("t", 2, 9)])).unwrap();
    let again = h.join("g", native(&first.member, &["t"], Assignor::Sticky));
    let (again, second) = (h.joined(again), h.joined(second));
    assert_eq!((owned(&again), owned(&second)), (vec![0, 1], vec![2]));
    assert_eq!(again.generation, second.generation);
    // The other one dies: all of it is the first one's after the session.
    h.pass(Duration::from_secs(5));
    h.heartbeat("g", &again).unwrap();
    h.pass(SESSION - Duration::from_secs(4));
    assert_eq!(h.heartbeat("g", &again), Err(GroupError::RebalanceInProgress));
    let alone = h.join("g", native(&first.member, &["t"], Assignor::Sticky));
    assert_eq!(owned(&h.joined(alone)), [0, 1, 2]);
    let zombie = h.answered("g", commit(id(&second.member, second.generation), &[("t", 2, 11)]));
    assert!(matches!(zombie, Err(GroupError::UnknownMember { .. })));
}

#[test]
fn changes_of_topics_are_found_out() {
    let mut h = Harness::new();
    let join = |member: &str| native(member, &["t", "later"], Assignor::Range);
    let key = h.join("g", join(""));
    let mut joined = h.joined(key);
    for (topic, count, all) in [("t", Some(5), 5), ("later", Some(2), 7), ("t", None, 2)] {
        match count {
            Some(count) => h.world.topics.insert(topic.to_owned(), count),
            None => h.world.topics.remove(topic),
        };
        h.pass(Duration::from_millis(1200));
        assert_eq!(h.heartbeat("g", &joined), Err(GroupError::RebalanceInProgress));
        let key = h.join("g", join(&joined.member));
        joined = h.joined(key);
        assert_eq!(owned(&joined).len(), all);
        assert_eq!(h.describe("g").events.pop().unwrap().cause, RebalanceCause::TopicChanged);
    }
    h.pass(Duration::from_secs(3));
    assert_eq!(h.heartbeat("g", &joined), Ok(()));
    // Nor does a restart look like a change.
    h.restart();
    h.pass(Duration::from_secs(3));
    assert_eq!(h.heartbeat("g", &joined), Ok(()));
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    let mut h = Harness::new();
    let join = || JoinGroup { instance: Some("i".into()), ..native("", &["t"], Assignor::Range) };
    let key = h.join("g", join());
    let before = h.joined(key);
    let key = h.join("g", join());
    let after = h.joined(key);
    assert_eq!((after.generation, &after.assignment), (before.generation, &before.assignment));
    assert_ne!(after.member, before.member);
}

#[test]
fn a_generation_that_cannot_be_stored_is_nobodys() {
    let mut h = Harness::new();
    let key = h.join("g", native("", &["t"], Assignor::Range));
    let first = h.joined(key);
    h.is_fast = false;
    let second = h.join("g", native("", &["t"], Assignor::Range));
    let again = h.join("g", native(&first.member, &["t"], Assignor::Range));
    h.fail_store();
    assert!(matches!(h.error(second), GroupError::StorageFailed { .. }));
    assert!(matches!(h.error(again), GroupError::StorageFailed { .. }));
    h.is_fast = true;
    let again = h.join("g", native(&first.member, &["t"], Assignor::Range));
    let joined = h.joined(again);
    assert_eq!((owned(&joined).len(), joined.generation > first.generation), (3, true));
}

#[test]
fn a_lost_connection_while_the_generation_is_stored_leaves_the_member_to_its_session() {
    let mut h = Harness::new();
    let key = h.join("g", native("", &["t"], Assignor::Range));
    let first = h.joined(key);
    h.is_fast = false;
    let second = h.join("g", native("", &["t"], Assignor::Range));
    let again = h.join("g", native(&first.member, &["t"], Assignor::Range));
    h.cancel(again);
    h.store_all();
    assert_eq!(h.joined(second).assignment.len(), 1);
    let again = h.join("g", native(&first.member, &["t"], Assignor::Range));
    assert_eq!(owned(&h.joined(again)).len(), 2);
}
