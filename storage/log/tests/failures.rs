//! What a log does when the disk refuses or fails it at the worst moment: it says so once, and still ends.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use rig::{Rig, config};
use storage_frame::Offset;
use storage_log::{DiskOp, FileName, LogConfig, LogEvent, LogState, Read, SegmentId};

fn complete_all_but(rig: &mut Rig, kept: impl Fn(&DiskOp) -> bool) {
    loop {
        let other = rig.pending().position(|op| !kept(op));
        let Some(nth) = other else { break };
        rig.complete(nth);
    }
    assert_eq!(rig.disk.under_way_count(), 1, "the one that is kept");
}

fn complete_one(rig: &mut Rig, what: impl Fn(&DiskOp) -> bool) {
    let nth = rig.pending().position(what).expect("it is under way");
    rig.complete(nth);
}

fn is_write(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Write { .. })
}

fn is_checkpoint(op: &DiskOp) -> bool {
    matches!(op, DiskOp::ReplaceFile { name: FileName::Checkpoint, .. })
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..config() }
}

/// One frame to a segment.
fn fill(rig: &mut Rig, segment_count: usize) {
    for n in 0..segment_count {
        rig.append_durably(1, n as i64, vec![n as u8; 40_000]);
    }
}

/// The failure is told with its reason, and the end after it, in the same breath.
#[track_caller]
fn assert_failed_then_closed(rig: &Rig, reason: &str) {
    let failed = rig.events.iter().position(|event| matches!(event, LogEvent::Failed { .. }));
    let failed = failed.expect("the failure is told");
    let LogEvent::Failed { why } = &rig.events[failed] else { unreachable!("just found") };
    assert!(why.contains(reason), "{why}");
    assert_eq!(rig.events[failed + 1..], [LogEvent::Closed]);
    assert_eq!(*rig.log.state(), LogState::Closed);
}

/// A stop came while the last write was with the device, which answered with an I/O error. That one answer took
/// the log through `Failed` to `Closed`, and the owner, told of the failure, asked the state for the reason and
/// found none: the core died in its orderly stop.
#[test]
fn failure_of_the_last_write_after_a_stop_is_told_with_its_reason() {
    let mut rig = Rig::opened(config());
    let kept = rig.append_durably(1, 0, vec![1; 100]);
    rig.append(1, 0, vec![2; 100]);
    rig.turn();
    complete_all_but(&mut rig, is_write);
    rig.log.close();
    rig.set_broken(true);
    rig.settle();
    assert_failed_then_closed(&rig, "write failed");
    rig.set_broken(false);
    rig.reopen();
    assert_eq!(rig.read_all(1), [kept]);
}

/// The same with the very last operation of all, the clean marker.
#[test]
fn failure_of_the_clean_marker_is_told_with_its_reason_and_costs_a_scan() {
    let mut rig = Rig::opened(config());
    let kept = rig.append_durably(1, 0, vec![1; 100]);
    rig.log.close();
    rig.set_broken(true);
    rig.settle();
    assert_failed_then_closed(&rig, "writing the checkpoint");
    rig.set_broken(false);
    rig.reopen();
    assert!(!rig.recovered().clean);
    assert_eq!(rig.read_all(1), [kept]);
    assert_eq!(rig.log.durable_end(), Offset(1));
}

// A failed log was closed only when nothing waited to be retired or saved, and such things are done by logs that
// serve or close: a stop after a failure at a bad moment waited for its timeout. Three moments that did it.

#[test]
fn failed_log_closes_though_its_checkpoint_was_to_retire_a_segment() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig, 4);
    rig.log.delete_before(Offset(2));
    rig.append(1, 9, vec![9; 100]);
    rig.turn();
    assert!(rig.pending().any(is_checkpoint));
    rig.set_broken(true);
    complete_one(&mut rig, is_write);
    assert!(matches!(rig.log.state(), LogState::Failed { .. }));
    rig.set_broken(false);
    complete_one(&mut rig, is_checkpoint);
    rig.close();
    rig.reopen();
    assert_eq!(rig.log.start(), Offset(2));
    assert!(!rig.has_file(FileName::Segment(SegmentId(1))), "the next opening removes it");
}

#[test]
fn failed_log_closes_though_a_read_held_a_segment_that_was_to_be_retired() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig, 4);
    rig.drop_cache();
    let Read::Pending(id) = rig.log.read(Offset(0), Offset(1), 1) else { panic!("from memory?") };
    rig.log.delete_before(Offset(2));
    rig.append(1, 9, vec![9; 100]);
    rig.turn();
    complete_one(&mut rig, is_checkpoint);
    rig.turn();
    let retires = |op: &DiskOp| matches!(op, DiskOp::RetireSegment { segment: SegmentId(1) });
    assert!(!rig.pending().any(retires), "it is being read");
    rig.set_broken(true);
    complete_one(&mut rig, is_write);
    rig.close();
    assert!(rig.has(|event| matches!(event, LogEvent::Read(of, _) if *of == id)));
}

#[test]
fn failed_log_closes_though_indexes_were_to_be_saved() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 200_000, ..config() });
    for n in 0..12 {
        rig.append(1, n, vec![n as u8; 40_000]);
    }
    let is_index = |op: &DiskOp| matches!(op, DiskOp::ReplaceFile { name: FileName::Index(_), .. });
    // Two segments are sealed while the first one's index is still being written.
    rig.turn();
    while rig.log.durable_end() < Offset(8) || !rig.pending().any(is_write) {
        complete_one(&mut rig, |op| !is_index(op));
        rig.turn();
    }
    assert!(rig.pending().any(is_index));
    rig.set_broken(true);
    complete_one(&mut rig, is_write);
    assert!(matches!(rig.log.state(), LogState::Failed { .. }));
    rig.close();
}
