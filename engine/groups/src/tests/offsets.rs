//! Commits, and how long they are kept.

use std::time::Duration;

use engine_api::*;
use storage_frame::Offset;

use super::harness::*;
use crate::{Measured, Place};

fn of(h: &mut Harness, partition: u32) -> Option<u64> {
    h.committed("g", "t", partition).map(|committed| committed.offset.0)
}

#[test]
fn a_commit_is_visible_and_answered_when_it_is_durable() {
    let mut h = Harness::new();
    h.is_fast = false;
    let key = h.ask("g", commit(id("", -1), &[("t", 1, 7)]));
    assert_eq!(h.answer(key), None);
    assert_eq!(of(&mut h, 1), None);
    h.store_all();
    let answer = Ok(GroupAnswer::Committed(vec![("t".into(), vec![(1, Ok(()))])]));
    assert_eq!(h.answer(key), Some(&answer));
    let committed = h.committed("g", "t", 1).unwrap();
    assert_eq!((committed.offset, committed.metadata.as_str()), (Offset(7), "at 7"));
    assert_eq!((committed.leader_epoch, committed.committed_at), (5, h.now.wall));
    let all = h.answered("g", GroupAsk::FetchOffsets(None));
    assert_eq!(all, Ok(GroupAnswer::Offsets(vec![("t".into(), vec![(1, Some(committed))])])));
    // What was never durable never was.
    let lost = h.ask("g", commit(id("", -1), &[("t", 1, 9)]));
    h.fail_store();
    assert!(matches!(h.error(lost), GroupError::StorageFailed { .. }));
    assert_eq!(of(&mut h, 1), Some(7));
    h.restart();
    assert_eq!(of(&mut h, 1), Some(7));
}

/// kafkajs resets a group's offsets by committing -1 or -2.
#[test]
fn committing_an_offset_that_no_log_has_forgets_what_was_committed() {
    let mut h = Harness::new();
    h.answered("g", commit(id("", -1), &[("t", 0, 7), ("t", 1, 8)])).unwrap();
    h.answered("g", commit(id("", -1), &[("t", 0, u64::MAX - 1), ("t", 2, u64::MAX)])).unwrap();
    assert_eq!((of(&mut h, 0), of(&mut h, 1), of(&mut h, 2)), (None, Some(8), None));
    h.restart();
    assert_eq!((of(&mut h, 0), of(&mut h, 1), of(&mut h, 2)), (None, Some(8), None));
}

#[test]
fn an_unknown_group_has_committed_nothing() {
    let mut h = Harness::new();
    let ask = GroupAsk::FetchOffsets(Some(vec![("t".into(), vec![0, 9])]));
    let none = Ok(GroupAnswer::Offsets(vec![("t".into(), vec![(0, None), (9, None)])]));
    assert_eq!(h.answered("g", ask), none);
    assert_eq!(h.groups.list(), []);
}

#[test]
fn only_members_commit_where_there_are_members() {
    let mut h = Harness::new();
    let joined = h.stable_one("g");
    let me = id(&joined.member, joined.generation);
    let nobody = h.answered("g", commit(id("", -1), &[("t", 0, 1)]));
    assert_eq!(nobody, Err(GroupError::UnknownMember { member: String::new() }));
    let old = h.answered("g", commit(id(&joined.member, 0), &[("t", 0, 1)]));
    assert_eq!(old, Err(GroupError::IllegalGeneration { sent: 0, current: 1 }));
    assert!(h.answered("g", commit(me.clone(), &[("t", 0, 1)])).is_ok());
    // While a rebalance is being prepared the generation is still theirs.
    let second = h.join("g", classic(""));
    assert!(h.answered("g", commit(me.clone(), &[("t", 0, 2)])).is_ok());
    let again = h.join("g", classic(&joined.member));
    h.joined(second);
    let again = h.joined(again);
    // And while it is being completed the new one is nobody's yet.
    let fresh = id(&joined.member, again.generation);
    assert_eq!(h.answered("g", commit(fresh, &[("t", 0, 3)])), Err(GroupError::RebalanceInProgress));
    assert!(matches!(h.answered("g", commit(me, &[("t", 0, 3)])), Err(GroupError::IllegalGeneration { .. })));
    assert_eq!(of(&mut h, 0), Some(2));
    // Some name themselves without joining.
    assert!(h.answered("simple", commit(id("x", -1), &[("t", 0, 1)])).is_ok());
    let unknown = h.answered("none", commit(id("x", 3), &[("t", 0, 1)]));
    assert!(matches!(unknown, Err(GroupError::IllegalGeneration { .. })));
}

#[test]
fn each_partition_has_its_own_answer() {
    let mut h = Harness::new();
    let mut ask = commit(id("", -1), &[("t", 0, 1), ("t", 3, 1), ("t", 1, 1), ("nowhere", 0, 1)]);
    if let GroupAsk::Commit(commit) = &mut ask {
        commit.topics[2].1[0].metadata = "x".repeat(5000);
    }
    let large = GroupError::MetadataTooLarge { bytes: 5000, bytes_max: 4096 };
    let answer = vec![
        ("t".into(), vec![(0, Ok(()))]),
        ("t".into(), vec![(3, Err(GroupError::UnknownPartition))]),
        ("t".into(), vec![(1, Err(large))]),
        ("nowhere".into(), vec![(0, Err(GroupError::UnknownPartition))]),
    ];
    assert_eq!(h.answered("g", ask), Ok(GroupAnswer::Committed(answer)));
    assert_eq!((of(&mut h, 0), of(&mut h, 1)), (Some(1), None));
}

fn days(h: &mut Harness, days: u64) {
    h.now.wall.0 += (days * 24 * 3600 * 1000) as i64;
    h.pass(Duration::from_secs(601));
}

#[test]
fn kip_211_offsets_of_an_empty_group_expire_and_with_them_the_group() {
    let mut h = Harness::new();
    let joined = h.stable_one("g");
    let me = id(&joined.member, joined.generation);
    h.answered("g", commit(me, &[("t", 0, 1)])).unwrap();
    h.now.wall.0 += 8 * 24 * 3600 * 1000;
    let leave = Leaving { member: joined.member, instance: None, reason: None };
    h.answered("g", GroupAsk::Leave(vec![leave])).unwrap();
    // Committed long ago, empty since now.
    h.pass(Duration::from_secs(601));
    assert_eq!(of(&mut h, 0), Some(1));
    days(&mut h, 6);
    assert_eq!(of(&mut h, 0), Some(1));
    days(&mut h, 1);
    assert_eq!(of(&mut h, 0), None);
    h.pass(Duration::from_secs(601));
    assert_eq!(h.groups.list(), []);
    h.restart();
    assert_eq!((h.groups.list(), h.groups.stats().records_skipped), (vec![], 0));
}

#[test]
fn of_a_living_group_only_topics_without_subscribers_expire() {
    let mut h = Harness::new();
    h.world.topics.insert("u".into(), 1);
    let joined = h.stable_one("g");
    let me = id(&joined.member, joined.generation);
    h.answered("g", commit(me, &[("t", 0, 1), ("u", 0, 1)])).unwrap();
    h.now.wall.0 += 8 * 24 * 3600 * 1000;
    for _ in 0..70 {
        h.pass(SESSION - Duration::from_secs(1));
        h.heartbeat("g", &joined).unwrap();
    }
    assert_eq!(of(&mut h, 0), Some(1));
    assert_eq!(h.committed("g", "u", 0), None);
}

#[test]
fn a_commit_may_say_how_long_it_is_kept() {
    let mut h = Harness::new();
    let mut ask = commit(id("", -1), &[("t", 0, 1)]);
    if let GroupAsk::Commit(commit) = &mut ask {
        commit.retention = Some(Duration::from_secs(3600));
    }
    h.answered("g", ask).unwrap();
    h.answered("g", commit(id("", -1), &[("t", 1, 1)])).unwrap();
    days(&mut h, 1);
    assert_eq!((of(&mut h, 0), of(&mut h, 1)), (None, Some(1)));
    days(&mut h, 7);
    assert_eq!(of(&mut h, 1), None);
}

#[test]
fn groups_and_offsets_are_deleted_when_nobody_needs_them() {
    let mut h = Harness::new();
    let joined = h.stable_one("g");
    let me = id(&joined.member, joined.generation);
    h.answered("g", commit(me, &[("t", 0, 1)])).unwrap();
    let not_empty = Err(GroupError::NotEmpty { group: "g".into() });
    assert_eq!(h.answered("g", GroupAsk::Delete), not_empty);
    // KIP-496.
    let subscribed = Err(GroupError::Subscribed { topic: "t".into() });
    let wanted = vec![("t".to_owned(), vec![0]), ("u".to_owned(), vec![0])];
    let answer = vec![("t".to_owned(), vec![(0, subscribed)]), ("u".to_owned(), vec![(0, Ok(()))])];
    let deleted = h.answered("g", GroupAsk::DeleteOffsets(wanted.clone()));
    assert_eq!(deleted, Ok(GroupAnswer::OffsetsDeleted(answer)));
    assert_eq!(of(&mut h, 0), Some(1));
    let leave = Leaving { member: joined.member, instance: None, reason: None };
    h.answered("g", GroupAsk::Leave(vec![leave])).unwrap();
    h.answered("g", GroupAsk::DeleteOffsets(wanted)).unwrap();
    assert_eq!(of(&mut h, 0), None);
    assert_eq!(h.answered("g", GroupAsk::Delete), Ok(GroupAnswer::Deleted));
    assert_eq!(h.groups.list(), []);
    assert_eq!(h.answered("g", GroupAsk::Delete), Err(GroupError::NotFound { group: "g".into() }));
    assert_eq!(h.describe("g").state, GroupState::Dead);
    h.restart();
    assert_eq!(h.groups.list(), []);
}

#[test]
fn what_was_committed_for_a_deleted_topic_is_gone() {
    let mut h = Harness::new();
    h.answered("g", commit(id("", -1), &[("t", 0, 1), ("t", 1, 1)])).unwrap();
    h.world.topics.remove("t");
    h.groups.topic_deleted(h.now, "t");
    h.settle();
    assert_eq!((of(&mut h, 0), h.groups.list()), (None, vec![]));
}

#[test]
fn a_commit_on_its_way_does_not_outlive_its_topic() {
    let mut h = Harness::new();
    h.answered("g", commit(id("", -1), &[("t", 0, 1)])).unwrap();
    h.is_fast = false;
    let keys = [
        h.ask("g", commit(id("", -1), &[("t", 0, 2), ("u", 0, 2)])),
        h.ask("g", commit(id("", -1), &[("t", 1, 2)])),
        h.ask("new", commit(id("", -1), &[("t", 2, 2)])),
    ];
    h.world.topics.remove("t");
    h.groups.topic_deleted(h.now, "t");
    h.settle();
    h.store_all();
    // They were taken while there was a topic.
    for key in keys {
        assert!(matches!(h.answer(key), Some(Ok(GroupAnswer::Committed(_)))));
    }
    h.world.topics.insert("t".to_owned(), 3);
    let left = |h: &Harness| h.groups.committed().count();
    assert_eq!((left(&h), h.groups.list()), (0, vec![]));
    h.restart();
    assert_eq!((left(&h), h.groups.list()), (0, vec![]));
}

#[test]
fn a_commit_on_its_way_outlives_another_topic() {
    let mut h = Harness::new();
    h.world.topics.insert("u".to_owned(), 1);
    h.is_fast = false;
    h.ask("g", commit(id("", -1), &[("t", 0, 2), ("u", 0, 2)]));
    h.groups.topic_deleted(h.now, "u");
    h.settle();
    h.store_all();
    assert_eq!(of(&mut h, 0), Some(2));
    assert_eq!(h.committed("g", "u", 0), None);
}

#[test]
fn a_member_that_does_nothing_while_there_is_something_to_do_is_stuck() {
    let mut h = Harness::new();
    let key = h.join("g", native("", &["t"], Assignor::Range));
    let joined = h.joined(key);
    let me = id(&joined.member, joined.generation);
    h.answered("g", commit(me.clone(), &[("t", 0, 1), ("t", 1, 1)])).unwrap();
    for offset in 0..12 {
        h.now.mono += Duration::from_secs(30);
        h.answered("g", commit(me.clone(), &[("t", 1, 2 + offset)])).unwrap();
        for partition in 0..2 {
            h.groups.lag_measured(h.now, "g", "t", partition, behind(100, None));
        }
        h.settle();
    }
    assert_eq!(h.describe("g").members[0].stuck, [("t".to_owned(), 0)]);
    assert_eq!(h.groups.stats().stuck, 1);
    let told = h.events.iter().filter(|(name, _)| *name == "group_member_stuck").count();
    assert_eq!(told, 1);
    h.answered("g", commit(me, &[("t", 0, 2)])).unwrap();
    h.now.mono += Duration::from_secs(30);
    h.groups.lag_measured(h.now, "g", "t", 0, behind(99, None));
    assert_eq!(h.describe("g").members[0].stuck, []);
}

fn behind(records: u64, read_ago: Option<u64>) -> Measured {
    Measured { records, age: Some(Duration::from_secs(5)), read_ago: read_ago.map(Duration::from_secs) }
}

#[test]
fn a_member_that_fetches_or_has_read_everything_is_not_stuck_whatever_it_commits() {
    let mut h = Harness::new();
    let key = h.join("g", native("", &["t"], Assignor::Range));
    h.joined(key);
    for turn in 1..=20 {
        h.now.mono += Duration::from_secs(30);
        h.groups.lag_measured(h.now, "g", "t", 0, behind(100, Some(7)));
        h.groups.lag_measured(h.now, "g", "t", 1, behind(0, None));
        // Long ago, before the member did nothing.
        h.groups.lag_measured(h.now, "g", "t", 2, behind(1, Some(30 * turn)));
        h.settle();
    }
    assert_eq!(h.describe("g").members[0].stuck, [("t".to_owned(), 2)]);
    assert_eq!(h.groups.stuck().collect::<Vec<_>>(), [("g", 1)]);
    h.now.mono += Duration::from_secs(30);
    h.groups.lag_measured(h.now, "g", "t", 2, behind(1, Some(29)));
    assert_eq!(h.describe("g").members[0].stuck, []);
}

#[test]
fn places_are_all_partitions_with_a_commit_or_a_member_each_once() {
    let mut h = Harness::new();
    h.world.topics.insert("u".into(), 1);
    let key = h.join("g", native("", &["t"], Assignor::Range));
    let joined = h.joined(key);
    let me = id(&joined.member, joined.generation);
    h.answered("g", commit(me, &[("t", 1, 4), ("u", 0, 9)])).unwrap();
    let one = h.join("k", classic(""));
    let one = h.joined(one);
    let sync = h.sync("k", &one, &[(&one.member, &assignment("t", &[2]))]);
    h.synced(sync);
    let native = Some(ReaderId::of_group("g"));
    let client = Some(ReaderId::of_client("c", "/127.0.0.1"));
    let place = |group, topic, partition, committed: Option<u64>, reader| Place {
        group,
        topic,
        partition,
        committed: committed.map(Offset),
        reader,
    };
    let expected = [
        place("g", "t", 0, None, native),
        place("g", "t", 1, Some(4), native),
        place("g", "t", 2, None, native),
        place("g", "u", 0, Some(9), None),
        place("k", "t", 2, None, client),
    ];
    for skip in 0..=expected.len() {
        assert_eq!(h.groups.places(skip).collect::<Vec<_>>(), expected[skip..]);
    }
    assert_eq!(h.groups.places_count(), expected.len());
}
