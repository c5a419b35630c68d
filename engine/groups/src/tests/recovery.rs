//! What is left after a crash.

use std::time::Duration;

use engine_api::*;

use super::harness::*;
use crate::StoredRecord;

#[test]
fn members_go_on_after_a_restart() {
    let mut h = Harness::new();
    let (first, second) = h.stable_two("g");
    h.answered("g", commit(id(&first.member, first.generation), &[("t", 0, 4)])).unwrap();
    h.restart();
    assert_eq!(h.describe("g").state, GroupState::Stable);
    assert_eq!(h.heartbeat("g", &first), Ok(()));
    let again = h.sync("g", &second, &[]);
    assert_eq!(&h.synced(again)[..], b"2");
    assert_eq!(h.committed("g", "t", 0).unwrap().metadata, "at 4");
    // They have a session's time to show up.
    h.pass(SESSION / 2);
    h.heartbeat("g", &first).unwrap();
    h.pass(SESSION / 2 + Duration::from_millis(200));
    assert!(matches!(h.heartbeat("g", &second), Err(GroupError::UnknownMember { .. })));
}

#[test]
fn a_told_generation_is_never_told_to_others() {
    let mut h = Harness::new();
    let one = h.stable_one("g");
    // A generation is told to a second member and lost before it is complete.
    let second = h.join("g", classic(""));
    let again = h.join("g", classic(&one.member));
    let (told, again) = (h.joined(second), h.joined(again));
    h.restart();
    assert_eq!(h.describe("g").generation, one.generation);
    let late = h.sync("g", &again, &[]);
    assert!(matches!(h.error(late), GroupError::IllegalGeneration { .. }));
    let third = h.join("g", classic(""));
    let again = h.join("g", classic(&one.member));
    let third = h.joined(third);
    assert!(third.generation > told.generation);
    h.joined(again);
}

#[test]
fn the_first_generation_waits_for_its_reservation() {
    let mut h = Harness::new();
    h.is_fast = false;
    let key = h.join("g", classic(""));
    assert_eq!(h.answer(key), None);
    h.store_all();
    let told = h.joined(key);
    // Never completed, and still no other first generation comes after the crash.
    h.is_fast = true;
    h.restart();
    let key = h.join("g", classic(""));
    let next = h.joined(key);
    assert!(next.generation > told.generation && next.member != told.member);
}

#[test]
fn a_reservation_that_fails_is_told_and_tried_again() {
    let mut h = Harness::new();
    h.is_fast = false;
    let key = h.join("g", JoinGroup { member_id_required: true, ..classic("") });
    let GroupError::MemberIdRequired { member } = h.error(key) else { panic!("an id") };
    let key = h.join("g", classic(&member));
    h.fail_store();
    assert!(matches!(h.error(key), GroupError::StorageFailed { .. }));
    let key = h.join("g", classic(&member));
    h.store_all();
    assert_eq!(h.joined(key).member, member);
}

#[test]
fn no_assignment_is_told_before_it_is_durable() {
    let mut h = Harness::new();
    let key = h.join("g", classic(""));
    let joined = h.joined(key);
    h.is_fast = false;
    let key = h.sync("g", &joined, &[(&joined.member, b"x")]);
    assert_eq!(h.answer(key), None);
    h.fail_store();
    assert!(matches!(h.error(key), GroupError::StorageFailed { .. }));
    let key = h.sync("g", &joined, &[(&joined.member, b"y")]);
    h.store_all();
    assert_eq!(&h.synced(key)[..], b"y");
}

#[test]
fn a_group_that_comes_to_life_while_it_is_forgotten_leaves_no_ghosts() {
    let leave = |joined: &Joined| {
        GroupAsk::Leave(vec![Leaving { member: joined.member.clone(), instance: None, reason: None }])
    };
    let native = || native("", &["t"], Assignor::Range);
    // Classic members reserve a number first, native ones store their generation at once.
    for join in [|| classic(""), native] {
        let mut h = Harness::new();
        let key = h.join("g", join());
        let before = h.joined(key);
        h.answered("g", leave(&before)).unwrap();
        h.is_fast = false;
        let deleted = h.ask("g", GroupAsk::Delete);
        let key = h.join("g", join());
        h.store_all();
        assert_eq!(h.answer(deleted), Some(&Ok(GroupAnswer::Deleted)));
        let joined = h.joined(key);
        let sync = h.sync("g", &joined, &[(&joined.member, b"all")]);
        h.store_all();
        assert!(h.answer(sync).is_some());
        h.answered("g", leave(&joined)).unwrap();
        h.store_all();
        h.restart();
        assert_eq!(h.describe("g").members, []);
    }
}

#[test]
fn damaged_and_unknown_records_are_skipped() {
    let mut h = Harness::new();
    h.stable_one("g");
    let whole = h.durable.clone();
    for record in &whole {
        for cut in 0..record.key.len() {
            let cut = StoredRecord { key: record.key.slice(..cut), value: record.value.clone() };
            assert!(crate::record::check(&cut).is_err());
        }
        let value = record.value.clone().unwrap();
        for cut in 0..value.len() {
            let cut = StoredRecord { key: record.key.clone(), value: Some(value.slice(..cut)) };
            assert!(crate::record::check(&cut).is_err());
            h.durable.push(cut);
        }
    }
    h.restart();
    assert!(h.groups.stats().records_skipped > 0);
    assert_eq!(h.describe("g").state, GroupState::Stable);
}

#[test]
fn nothing_is_served_while_loading() {
    let mut h = Harness::new();
    h.groups = crate::Groups::new(config(), h.now);
    let ask = h.answered("g", GroupAsk::Describe);
    assert_eq!(ask, Err(GroupError::Loading));
}

/// The format: a change here needs a new version byte.
#[test]
fn bytes_of_records_are_fixed() {
    #[track_caller]
    fn check(bytes: &[u8], hex: &str) {
        let got: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(got.concat(), hex.replace([' ', '\n'], ""));
    }
    let mut h = Harness::new();
    h.now.wall = storage_frame::TimestampMs(3);
    h.answered("g", commit(id("", -1), &[("t", 2, 7)])).unwrap();
    check(&h.durable[0].key, "01 01 01000000 67 01000000 74 02000000");
    check(
        h.durable[0].value.as_ref().unwrap(),
        "01 0700000000000000 05000000 0300000000000000 00 0000000000000000 04000000 61742037",
    );
    h.durable.clear();
    let key = h.join("h", JoinGroup { client_id: "c".into(), ..native("", &["t"], Assignor::Sticky) });
    h.joined(key);
    let id = h.describe("h").members[0].member.clone();
    let id: String =
        format!("{:02x}000000", id.len()) + &id.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    check(&h.durable[0].key, "01 02 01000000 68");
    check(
        h.durable[0].value.as_ref().unwrap(),
        &format!(
            "01 01000000 02000000 0300000000000000 01 0a000000 6d696c6c73747265616d 01 06000000 737469636b79
             01 {id} 01000000 {id} 00 01000000 63 0a000000 2f3132372e302e302e31
             1027000000000000 60ea000000000000 01 01 01000000 01000000 74 00000000
             01000000 01000000 74 03000000 00000000 01000000 02000000"
        ),
    );
}
