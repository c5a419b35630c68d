//! Reads that the disk answers with an I/O error: once, as a device does that lost a command or was being reset, or
//! every time.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::time::Duration;

use rig::{Rig, config, fill, small_segments};
use storage_frame::{Frame, Offset};
use storage_log::{DiskOp, FileName, LogConfig, LogEvent, LogState, Read, ReadError, SegmentId};
use tests_disk::{ModelDisk, Operation, Rate, Zone};

fn set_read_errors(disk: &mut ModelDisk, rate: Rate) {
    for zone in Zone::ALL {
        disk.faults_mut().in_zone_mut(zone).read_error = rate;
    }
}

/// As [`Rig::settle`], but for the `nth` read, which fails. `false`: there are not so many.
fn settle_with_failing_read(rig: &mut Rig, nth: usize) -> bool {
    let mut reads_count = 0;
    rig.turn();
    while rig.disk.under_way_count() > 0 {
        let is_read = rig.pending().next().is_some_and(|op| Operation::of(op).only_reads());
        if is_read && reads_count == nth {
            set_read_errors(&mut rig.disk, Rate::ALWAYS);
        }
        rig.complete(0);
        set_read_errors(&mut rig.disk, Rate::NEVER);
        reads_count += usize::from(is_read);
        rig.turn();
    }
    reads_count > nth
}

/// A log of some segments whose start is inside of one, after a crash; with and without its checkpoint.
fn after_a_crash(has_checkpoint: bool) -> (ModelDisk, LogConfig, Vec<Frame>) {
    let config = small_segments();
    let mut rig = Rig::opened(config.clone());
    let mut frames = fill(&mut rig);
    rig.log.delete_before(Offset(42));
    rig.settle();
    frames.push(rig.append(1, 5000, vec![5; 3000]));
    rig.turn();
    rig.disk.crash_with(|sector| sector != 1);
    if !has_checkpoint {
        rig.remove_file(FileName::Checkpoint);
    }
    (rig.disk, config, frames)
}

/// Everything acknowledged that was not deleted, and of the write that was torn what is there.
#[track_caller]
fn assert_reads_all(rig: &mut Rig, frames: &[Frame]) {
    assert!(rig.log.start() <= Offset(42) && rig.log.durable_end() >= Offset(400));
    let read = rig.read_all(1 << 20);
    let first = frames.iter().position(|frame| *frame == read[0]).expect("one of them");
    assert!(read == frames[first..first + read.len()]);
}

/// One transient error while a log was being opened decided for the whole life of the process: the checkpoint's made
/// the log fail, a segment header's or a scan's was called damage, and a retry of the very same read would have told.
#[test]
fn read_that_fails_once_while_opening_changes_nothing() {
    for has_checkpoint in [true, false] {
        let (disk, config, frames) = after_a_crash(has_checkpoint);
        let begin = |disk: ModelDisk| {
            let mut rig = Rig::on(disk, storage_frame::LogId(7), config.clone(), 9);
            rig.epoch.0 = 2;
            rig
        };
        let mut whole = begin(disk.clone());
        whole.settle();
        let mut nth = 0;
        loop {
            let mut rig = begin(disk.clone());
            if !settle_with_failing_read(&mut rig, nth) {
                break;
            }
            let told = (rig.log.state(), rig.log.start(), rig.log.durable_end(), rig.files(), &rig.events);
            let expected =
                (whole.log.state(), whole.log.start(), whole.log.durable_end(), whole.files(), &whole.events);
            assert_eq!(told, expected, "read {nth}");
            assert_eq!(*rig.log.state(), LogState::Ready);
            assert_reads_all(&mut rig, &frames);
            nth += 1;
        }
        assert!(nth >= 3, "{nth} reads");
    }
}

/// A checkpoint in a sector that had rotted made its log fail at every start, though one that verifies no more was
/// always survived: everything but the start inside a segment stands in the segments.
#[test]
fn checkpoint_that_cannot_be_read_is_taken_for_a_damaged_one() {
    let (disk, config, frames) = after_a_crash(true);
    let mut rig = Rig::on(disk, storage_frame::LogId(7), config, 9);
    rig.epoch.0 = 2;
    rig.disk.fail(rig.id, Operation::ReadFile);
    rig.settle();
    let is_told = |event: &LogEvent| matches!(event, LogEvent::Note(note) if note.contains("unreadable"));
    assert!(rig.has(is_told), "{:?}", rig.events);
    assert_eq!(*rig.log.state(), LogState::Ready);
    assert_reads_all(&mut rig, &frames);
    // The next one is readable again.
    let last = rig.append_durably(1, 9000, vec![9; 100]);
    rig.close();
    rig.disk.mend();
    rig.reopen();
    assert!(!rig.has(is_told));
    assert_eq!(rig.read_all(1 << 20).last(), Some(&last));
}

/// Neither for ever nor only once.
#[test]
fn read_that_goes_on_failing_is_believed_after_four_times() {
    let mut rig = Rig::opened(config());
    let kept = rig.append_durably(1, 0, vec![1; 100]);
    rig.drop_cache();
    rig.disk.fail(rig.id, Operation::Read);
    let reads = rig.disk.done(Operation::Read);
    let answer = rig.read(Offset(0), Offset(1), 1);
    assert!(matches!(answer, Err(ReadError::Io { .. })), "{answer:?}");
    assert_eq!(rig.disk.done(Operation::Read), reads + 4);
    rig.disk.mend();
    assert_eq!(rig.read(Offset(0), Offset(1), 1), Ok(vec![kept]));
}

/// The last block of an idle log is read back before it is written again. One error of that read, and the log took
/// no more appends until the next start.
#[test]
fn tail_that_fails_to_be_read_back_once_does_not_end_the_writing() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 100]);
    rig.tick_and_settle(Duration::from_secs(60));
    rig.append(1, 1, vec![2; 100]);
    rig.turn();
    let is_read = |op: &DiskOp| matches!(op, DiskOp::Read { segment: SegmentId(1), .. });
    assert!(rig.pending().any(is_read));
    assert!(settle_with_failing_read(&mut rig, 0));
    assert_eq!(*rig.log.state(), LogState::Ready);
    assert_eq!(rig.log.durable_end(), Offset(2));
}

/// Asked again, a read is one that uses its file, and one that a removal takes back.
#[test]
fn log_is_removed_and_closed_while_a_read_is_asked_again() {
    for is_removed in [true, false] {
        let mut rig = Rig::opened(config());
        rig.append_durably(1, 0, vec![1; 100]);
        rig.drop_cache();
        let Read::Pending(_) = rig.log.read(Offset(0), Offset(1), 1) else { panic!("from memory?") };
        rig.turn();
        rig.disk.fail(rig.id, Operation::Read);
        rig.complete(0);
        assert_eq!(rig.disk.under_way_count(), 0, "wanted, and not yet asked for");
        if is_removed {
            rig.log.remove();
        } else {
            rig.log.close();
        }
        rig.settle();
        rig.tick_and_settle(Duration::from_millis(10));
        assert_eq!(*rig.log.state(), LogState::Closed);
        assert_eq!(rig.disk.has(rig.id), !is_removed);
    }
}
