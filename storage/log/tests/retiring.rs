//! Segments that leave, seen from a start that has lost the checkpoint that let them go.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use rig::{Rig, config, fill, small_segments};
use storage_frame::{LogId, Offset};
use storage_log::{FileName, Log, LogState};
use tests_disk::ModelDisk;

/// Several segments had been retired at once. A later one's file was gone when the power went, an earlier one's was
/// not; then the checkpoint was lost. The left-over stood in front of a gap, which was taken for a lost segment: the
/// log was damaged for ever, though nothing that it had promised was missing.
#[test]
fn retired_segments_leave_no_gap_at_any_moment() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig);
    rig.drop_cache();
    // A reader holds one of those that go.
    let held = rig.log.read(Offset(44), Offset(46), 1);
    assert!(matches!(held, storage_log::Read::Pending(_)));
    rig.log.delete_before(Offset(300));
    rig.turn();
    let mut moments = 0;
    while rig.disk.under_way_count() > 0 {
        assert_opens_without_checkpoint(rig.disk.clone(), &mut moments);
        let nth = rig.dice.below(rig.disk.under_way_count() as u64) as usize;
        rig.complete(nth);
        rig.turn();
    }
    assert_eq!(rig.log.durable_start(), Offset(300));
    assert!(moments > 30, "{moments}");
}

/// The same of left-overs that an opening removes.
#[test]
fn left_over_segments_leave_no_gap_at_any_moment() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig);
    rig.log.delete_before(Offset(300));
    rig.turn();
    while rig.log.durable_start() < Offset(300) {
        rig.complete(0);
        // Nothing goes: the power does.
    }
    rig.disk.crash();
    rig.log = Log::open(rig.id, "test/0", rig.config.clone(), rig.now);
    rig.turn();
    let mut moments = 0;
    while rig.disk.under_way_count() > 0 {
        assert_opens_without_checkpoint(rig.disk.clone(), &mut moments);
        rig.complete(0);
        rig.turn();
    }
    assert!(moments > 10, "{moments}");
}

#[track_caller]
fn assert_opens_without_checkpoint(mut disk: ModelDisk, moments: &mut u32) {
    disk.crash();
    disk.take_file(LogId(7), FileName::Checkpoint);
    let mut rig = Rig::on(disk, LogId(7), config(), 9);
    rig.settle();
    assert_eq!(*rig.log.state(), LogState::Ready, "moment {moments}");
    assert!(rig.log.start() <= Offset(300));
    assert_eq!(rig.log.durable_end(), Offset(400));
    *moments += 1;
}
