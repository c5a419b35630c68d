//! What a log does when the disk refuses or fails it at the worst moment: it says so once, and still ends.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "the simulator takes it over as it is")]
mod model_disk;
#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use rig::{Rig, config};
use storage_frame::Offset;
use storage_log::{DiskOp, LogEvent, LogState};

fn complete_all_but(rig: &mut Rig, kept: impl Fn(&DiskOp) -> bool) {
    loop {
        let other = rig.disk.pending().position(|op| !kept(op));
        let Some(nth) = other else { break };
        rig.complete(nth);
    }
    assert_eq!(rig.disk.pending_count(), 1, "the one that is kept");
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
    complete_all_but(&mut rig, |op| matches!(op, DiskOp::Write { .. }));
    rig.log.close();
    rig.disk.is_broken = true;
    rig.settle();
    assert_failed_then_closed(&rig, "write failed");
    rig.disk.is_broken = false;
    rig.reopen();
    assert_eq!(rig.read_all(1), [kept]);
}

/// The same with the very last operation of all, the clean marker.
#[test]
fn failure_of_the_clean_marker_is_told_with_its_reason_and_costs_a_scan() {
    let mut rig = Rig::opened(config());
    let kept = rig.append_durably(1, 0, vec![1; 100]);
    rig.log.close();
    rig.disk.is_broken = true;
    rig.settle();
    assert_failed_then_closed(&rig, "writing the checkpoint");
    rig.disk.is_broken = false;
    rig.reopen();
    assert!(!rig.recovered().clean);
    assert_eq!(rig.read_all(1), [kept]);
    assert_eq!(rig.log.durable_end(), Offset(1));
}
