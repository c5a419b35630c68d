//! What a log does when things go well and when they do not, one story each.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::time::Duration;

use bytes::Bytes;
use rig::{Rig, config, fill, frame, segment_count, segment_file, small_segments};
use storage_frame::{LeaderEpoch, LogId, Offset};
use storage_log::{DiskOp, FileName, LogConfig, LogEvent, LogState, Read, ReadError, SegmentId};
use tests_disk::{Faults, ModelDisk, Operation};

#[test]
fn appended_frames_come_back_from_memory_and_from_disk() {
    let mut rig = Rig::opened(config());
    let frames: Vec<_> = (0..50).map(|n| rig.append_durably(3, n, vec![n as u8; 700])).collect();
    assert_eq!(rig.log.durable_end(), Offset(150));
    assert_eq!(rig.read_all(4096), frames);
    rig.drop_cache();
    assert!(matches!(rig.log.read(Offset(0), Offset(150), 1), Read::Pending(_)));
    rig.settle();
    assert_eq!(rig.read_all(4096), frames);
    rig.crash_and_reopen();
    assert_eq!(rig.recovered().headers.len(), 50);
    assert_eq!(rig.read_all(1 << 20), frames);
}

#[test]
fn appends_of_one_turn_are_one_write() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 100]);
    let before = rig.disk.done(Operation::Write);
    for n in 0..20 {
        rig.append(1, n, vec![2; 100]);
    }
    rig.settle();
    assert_eq!(rig.disk.done(Operation::Write), before + 1);
}

#[test]
fn empty_log_touches_no_disk() {
    let mut rig = Rig::opened(config());
    assert!(rig.recovered.is_none());
    rig.close();
    assert!(rig.files().is_empty());
}

#[test]
fn reads_go_over_segment_boundaries() {
    let mut rig = Rig::opened(small_segments());
    let frames = fill(&mut rig);
    assert!(segment_count(&rig) > 15);
    rig.drop_cache();
    assert_eq!(rig.read_all(10_000), frames);
    rig.close_and_reopen();
    assert!(rig.recovered().headers.len() == 200, "no app state was given: all headers are told");
    assert_eq!(rig.read_all(1 << 20), frames);
}

#[test]
fn retention_by_bytes_takes_whole_sealed_segments() {
    let mut rig = Rig::opened(LogConfig { retention_bytes: Some(200 << 10), ..small_segments() });
    let frames = fill(&mut rig);
    rig.tick_and_settle(Duration::from_secs(1));
    assert!(rig.has(|event| *event == LogEvent::Trimmed));
    assert!(
        rig.log.disk_bytes() < 300 << 10 && rig.log.disk_bytes() >= 200 << 10,
        "{}",
        rig.log.disk_bytes()
    );
    let start = rig.log.start();
    assert!(start > Offset(0));
    rig.drop_cache();
    assert_eq!(rig.read_all(1 << 20), frames[(start.0 / 2) as usize..]);
    rig.crash_and_reopen();
    assert_eq!(rig.log.start(), start);
    assert!(segment_count(&rig) <= 6);
}

#[test]
fn active_segment_is_never_retired() {
    let mut rig = Rig::opened(LogConfig {
        retention_bytes: Some(0),
        retention_age: Some(Duration::ZERO),
        ..small_segments()
    });
    let last = fill(&mut rig).pop().unwrap();
    for _ in 0..5 {
        rig.tick_and_settle(Duration::from_secs(3600));
    }
    rig.drop_cache();
    assert!(rig.log.start() < rig.log.durable_end(), "the active segment stays");
    let frames = rig.read_all(1 << 20);
    assert_eq!(*frames.last().unwrap(), last);
    rig.append_durably(1, 0, vec![1; 10]);
}

#[test]
fn old_active_segment_is_rolled_and_ages_out() {
    let mut rig = Rig::opened(LogConfig {
        segment_age_max: Duration::from_secs(60),
        retention_age: Some(Duration::from_secs(600)),
        ..config()
    });
    let wall = rig.now.wall.0;
    rig.append_durably(1, wall, vec![1; 100]);
    rig.tick_and_settle(Duration::from_secs(61));
    assert_eq!(rig.log.start(), Offset(0));
    rig.tick_and_settle(Duration::from_secs(600));
    rig.settle();
    assert_eq!(rig.log.start(), Offset(1), "rolled after a minute, gone after ten more");
    assert_eq!(segment_count(&rig), 0, "and the new active one has no file yet");
    rig.crash_and_reopen();
    assert_eq!((rig.log.start(), rig.log.durable_end()), (Offset(1), Offset(1)));
    rig.append_durably(1, wall, vec![1; 100]);
    rig.crash_and_reopen();
    assert_eq!((rig.log.start(), rig.log.durable_end()), (Offset(1), Offset(2)));
}

#[test]
fn deleted_records_stay_deleted() {
    let mut rig = Rig::opened(small_segments());
    let frames = fill(&mut rig);
    rig.log.delete_before(Offset(123));
    assert_eq!(rig.log.start(), Offset(123));
    rig.settle();
    assert!(rig.has(|event| *event == LogEvent::Trimmed));
    rig.crash_and_reopen();
    assert_eq!(rig.log.start(), Offset(123));
    assert_eq!(rig.read_all(1 << 20), frames[61..]);
    rig.log.delete_before(Offset(400));
    rig.settle();
    rig.crash_and_reopen();
    assert_eq!((rig.log.start(), rig.log.durable_end()), (Offset(400), Offset(400)));
}

#[test]
fn pending_read_of_what_is_deleted_ends_trimmed() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig);
    rig.drop_cache();
    let Read::Pending(id) = rig.log.read(Offset(0), Offset(400), 1000) else { panic!("from memory?") };
    rig.turn();
    rig.log.delete_before(Offset(300));
    // The read's file must not go away under it: the model disk would panic.
    rig.settle();
    let is_answer = |event: &LogEvent| matches!(event, LogEvent::Read(of, _) if *of == id);
    assert!(rig.has(is_answer));
    assert_eq!(rig.log.start(), Offset(300));
}

fn disk_with_spares(spares: Vec<Vec<u8>>) -> ModelDisk {
    let mut disk = ModelDisk::new(1, Faults::of_crashes());
    spares.into_iter().for_each(|spare| disk.add_spare(0, spare));
    disk
}

#[test]
fn recycled_segment_never_yields_a_former_frame() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig);
    rig.log.delete_before(Offset(400));
    rig.settle();
    assert_eq!(rig.disk.spares(0).count(), 4);
    rig.close();
    let spares: Vec<Vec<u8>> = rig.disk.spares(0).map(<[u8]>::to_vec).collect();
    // Another log gets the files. Its frames have the same sizes, offsets and epochs as the former ones had.
    let disk = disk_with_spares(spares);
    let mut other = Rig::on(disk, LogId(8), small_segments(), 1);
    other.settle();
    let mut written = Vec::new();
    for n in 0..25 {
        written.push(other.append_durably(2, n, vec![0xee; 6000]));
        other.crash_and_reopen();
        assert_eq!(*other.log.state(), LogState::Ready);
        assert_eq!(other.log.durable_end(), written.last().unwrap().header().end_offset());
        assert_eq!(other.read_all(1 << 20), written);
    }
    assert!(other.disk.spares(0).count() < 4, "spares were used");
}

#[test]
fn spare_with_an_unreadable_header_is_not_recycled() {
    let spares = vec![vec![0xaa; 64 << 10], vec![0; 64 << 10], vec![1; 100]];
    let disk = disk_with_spares(spares);
    let mut rig = Rig::on(disk, LogId(8), small_segments(), 1);
    rig.settle();
    rig.append_durably(1, 0, vec![1; 100]);
    assert_eq!(rig.disk.spares(0).count(), 0);
    assert!(rig.has(|event| matches!(event, LogEvent::Note(what) if what.contains("not recycled"))));
    rig.crash_and_reopen();
    assert_eq!(rig.log.durable_end(), Offset(1));
}

#[test]
fn app_state_and_the_headers_behind_it_come_back() {
    let mut rig = Rig::opened(small_segments());
    for n in 0..30 {
        rig.append_durably(2, n, vec![1; 6000]);
        rig.tick_and_settle(Duration::from_millis(500));
        if rig.log.wants_app_state() {
            let end = rig.log.staged_end();
            rig.log.set_app_state(end, Bytes::from(end.0.to_string()));
            rig.settle();
            assert!(!rig.log.wants_app_state());
        }
    }
    rig.crash_and_reopen();
    let recovered = rig.recovered();
    let end = recovered.app_state_end;
    assert!(end > Offset(0));
    assert_eq!(recovered.app_state.unwrap(), end.0.to_string());
    let ends: Vec<_> = recovered.headers.iter().map(|header| header.base_offset.0).collect();
    assert_eq!(ends, (end.0..60).step_by(2).collect::<Vec<_>>());
}

/// The checkpoint of a trim does not wait for the owner's state and took the place of one that was due: what
/// stood between the old state and the new first segment was in neither state nor headers after a crash, and a
/// producer who had written there was told it was out of sequence.
#[test]
fn checkpoint_of_a_trim_leaves_the_one_due_due() {
    let (mut rig, _) = stated_and_rolled();
    assert!(rig.log.wants_app_state());
    rig.log.delete_before(Offset(200));
    rig.settle();
    assert_eq!(rig.trimmed, Offset(200));
    assert!(rig.log.wants_app_state(), "what was written carries the old state");
    let end = rig.log.staged_end();
    rig.log.set_app_state(end, Bytes::from_static(b"new"));
    rig.settle();
    rig.crash_and_reopen();
    let recovered = rig.recovered();
    assert_eq!(recovered.app_state.as_deref(), Some(&b"new"[..]));
    assert_eq!(recovered.app_state_end, end);
}

/// The same when the new state is there and waits for its frames to be durable.
#[test]
fn checkpoint_of_a_trim_does_not_replace_the_one_whose_state_is_on_its_way() {
    let (mut rig, _) = stated_and_rolled();
    rig.append(1, 0, vec![1; 100]);
    let end = rig.log.staged_end();
    rig.log.set_app_state(end, Bytes::from_static(b"new"));
    rig.log.delete_before(Offset(200));
    rig.settle();
    rig.crash_and_reopen();
    let recovered = rig.recovered();
    assert_eq!(recovered.app_state.as_deref(), Some(&b"new"[..]));
    assert_eq!(recovered.app_state_end, end);
}

#[test]
fn state_of_before_the_first_segment_is_not_handed_out() {
    let (mut rig, frames) = stated_and_rolled();
    rig.log.delete_before(Offset(200));
    rig.settle();
    rig.crash_and_reopen();
    let recovered = rig.recovered();
    assert_eq!(recovered.app_state, None);
    let first = recovered.headers[0].base_offset;
    assert!(first > Offset(10) && first <= Offset(200));
    assert_eq!(recovered.app_state_end, first);
    let told: Vec<_> = frames.iter().map(|f| *f.header()).filter(|h| h.base_offset >= first).collect();
    assert_eq!(recovered.headers, told);
}

/// Its state is of offset 10, and many segments have followed.
fn stated_and_rolled() -> (Rig, Vec<storage_frame::Frame>) {
    let mut rig = Rig::opened(small_segments());
    let mut frames: Vec<_> = (0..10).map(|n| rig.append_durably(1, n, vec![1; 100])).collect();
    rig.log.set_app_state(Offset(10), Bytes::from_static(b"old"));
    rig.close_and_reopen();
    assert_eq!(rig.recovered().app_state_end, Offset(10));
    frames.extend(fill(&mut rig));
    assert!(segment_count(&rig) > 3);
    (rig, frames)
}

#[test]
fn close_asks_for_the_state_and_writes_it() {
    let mut rig = Rig::opened(config());
    rig.append(1, 0, vec![1; 100]);
    rig.log.close();
    assert!(rig.log.wants_app_state());
    rig.log.set_app_state(Offset(1), Bytes::from_static(b"x"));
    assert!(!rig.log.wants_app_state());
    rig.settle();
    rig.tick(Duration::ZERO);
    assert_eq!(*rig.log.state(), LogState::Closed);
    rig.reopen();
    assert!(rig.recovered().clean);
}

#[test]
fn first_frame_at_or_after_a_timestamp_is_found() {
    for segment_bytes in [64 << 10, 4 << 20] {
        let mut rig = Rig::opened(LogConfig { segment_bytes, ..config() });
        let frames = fill(&mut rig);
        for is_cached in [true, false] {
            if !is_cached {
                rig.drop_cache();
            }
            for at in [-5, 0, 1, 10, 995, 1000, 1989, 1990] {
                let expected = frames.iter().find(|frame| frame.header().max_timestamp.0 >= at);
                let found = rig.find(at, Offset(400)).unwrap();
                assert_eq!(found, expected.map(|frame| *frame.header()), "at {at}");
            }
            assert_eq!(rig.find(1991, Offset(400)).unwrap(), None);
            assert_eq!(rig.find(1000, Offset(100)).unwrap(), None, "above the limit");
        }
    }
}

/// A find with a limit well before the log's end began at the index entry of its timestamp, behind the limit.
/// The first frame there was at or behind the limit, nothing had been passed, and that was taken for damage.
#[test]
fn find_whose_timestamp_lies_behind_its_limit_finds_nothing() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 64 << 20, ..config() });
    (0..20).for_each(|n| drop(rig.append_durably(1, n, vec![n as u8; 100_000])));
    rig.log.delete_before(Offset(2));
    rig.settle();
    rig.drop_cache();
    for limit in 3..=15 {
        assert_eq!(rig.find(15, Offset(limit)), Ok(None), "limit {limit}");
        rig.drop_cache();
    }
    let found = rig.find(15, Offset(16)).unwrap().expect("inside the limit");
    assert_eq!(found.base_offset, Offset(15));
}

#[test]
fn index_is_rebuilt_when_lost_or_wrong() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 512 << 10, ..config() });
    let frames = fill(&mut rig);
    rig.close();
    let index = FileName::Index(SegmentId(1));
    assert!(rig.has_file(index));
    for harm in 0..3 {
        match harm {
            0 => rig.remove_file(index),
            1 => rig.file_mut(index)[70] ^= 1,
            // Another segment's, with a good checksum.
            _ => *rig.file_mut(index) = rig.files()[&FileName::Index(SegmentId(2))].clone(),
        }
        rig.reopen();
        for nth in [0, 40, 63, 10, 120, 199] {
            let from = frames[nth].header().base_offset.plus(1);
            assert_eq!(rig.read(from, Offset(400), 1).unwrap(), frames[nth..=nth]);
        }
        assert_eq!(rig.find(300, Offset(400)).unwrap(), Some(*frames[30].header()));
        rig.read_all(100_000);
        rig.close();
    }
}

#[test]
fn full_disk_keeps_frames_staged_and_recovers_by_itself() {
    let mut rig = Rig::opened(small_segments());
    rig.set_full(true);
    let frame = rig.append(1, 0, vec![1; 5000]);
    rig.settle();
    assert!(rig.log.out_of_space());
    assert_eq!(*rig.log.state(), LogState::Ready);
    for _ in 0..5 {
        rig.tick_and_settle(Duration::from_secs(1));
        assert!(rig.log.out_of_space());
    }
    assert_eq!(rig.read(Offset(0), Offset(1), 1).unwrap(), [frame], "staged frames are readable");
    rig.set_full(false);
    rig.tick_and_settle(Duration::from_secs(1));
    assert!(!rig.log.out_of_space());
    assert_eq!(rig.log.durable_end(), Offset(1));
}

#[test]
fn full_disk_does_not_keep_a_log_from_closing() {
    let mut rig = Rig::opened(small_segments());
    let kept = rig.append_durably(1, 0, vec![1; 5000]);
    rig.set_full(true);
    rig.append(1, 0, vec![2; 500_000]);
    rig.log.close();
    for _ in 0..3 {
        rig.tick_and_settle(Duration::from_secs(1));
    }
    assert_eq!(*rig.log.state(), LogState::Closed);
    rig.set_full(false);
    rig.reopen();
    assert_eq!(rig.read_all(1), [kept]);
}

/// A log that waited for its next try when room had come again was closed: it gave up what was staged, which with
/// `write.caching` had been acknowledged from memory.
#[test]
fn closing_asks_once_more_for_the_room_that_was_refused() {
    let mut rig = Rig::opened(small_segments());
    rig.set_full(true);
    let frame = rig.append(1, 0, vec![1; 5000]);
    rig.settle();
    assert!(rig.log.out_of_space());
    rig.set_full(false);
    rig.close();
    rig.reopen();
    assert_eq!(rig.read_all(1), [frame]);
}

#[test]
fn failed_write_is_never_tried_again() {
    let mut rig = Rig::opened(config());
    let kept = rig.append_durably(1, 0, vec![1; 100]);
    rig.set_broken(true);
    rig.append(1, 0, vec![2; 100]);
    rig.settle();
    assert!(matches!(rig.log.state(), LogState::Failed { .. }));
    assert!(rig.has(|event| matches!(event, LogEvent::Failed { .. })));
    assert_eq!(rig.log.durable_end(), Offset(1));
    rig.set_broken(false);
    let writes = rig.disk.done(Operation::Write);
    rig.tick_and_settle(Duration::from_secs(60));
    assert_eq!(rig.disk.done(Operation::Write), writes);
    rig.drop_cache();
    assert_eq!(rig.read(Offset(0), Offset(1), 1).unwrap(), [kept], "what was durable stays readable");
    rig.close();
}

#[test]
fn write_back_is_held_until_the_delay_or_the_bound() {
    let delay = Duration::from_millis(100);
    let mut rig = Rig::opened(LogConfig { write_back_delay: Some(delay), ..config() });
    rig.append(1, 0, vec![1; 100]);
    rig.settle();
    rig.tick_and_settle(Duration::from_millis(99));
    assert_eq!(rig.log.durable_end(), Offset(0));
    rig.tick_and_settle(Duration::from_millis(1));
    assert_eq!(rig.log.durable_end(), Offset(1));
    for _ in 0..11 {
        rig.append(1, 0, vec![1; 100_000]);
    }
    rig.settle();
    assert!(rig.log.durable_end() > Offset(1), "more than a write's worth is not held");
    rig.append(1, 0, vec![1; 100]);
    rig.close_and_reopen();
    assert_eq!(rig.log.durable_end(), Offset(13));
}

#[test]
fn frame_larger_than_a_segment_gets_one_of_its_own() {
    let mut rig = Rig::opened(small_segments());
    rig.append_durably(1, 0, vec![1; 100]);
    let large = rig.append_durably(1, 0, vec![2; 3 << 20]);
    let after = rig.append_durably(1, 0, vec![3; 100]);
    rig.drop_cache();
    assert_eq!(rig.read(Offset(1), Offset(3), 1).unwrap(), std::slice::from_ref(&large));
    rig.crash_and_reopen();
    assert_eq!(rig.read_all(1)[1..], [large, after]);
}

#[test]
fn removed_log_leaves_nothing_and_its_reads_end() {
    let mut rig = Rig::opened(small_segments());
    fill(&mut rig);
    rig.drop_cache();
    let Read::Pending(id) = rig.log.read(Offset(0), Offset(400), 1000) else { panic!("from memory?") };
    rig.append(1, 0, vec![1; 100]);
    rig.turn();
    rig.log.remove();
    rig.settle();
    rig.tick(Duration::ZERO);
    assert_eq!(*rig.log.state(), LogState::Closed);
    assert!(rig.has(|event| *event == LogEvent::Read(id, Err(ReadError::Trimmed))));
    assert!(rig.files().is_empty());
}

#[test]
fn log_may_be_closed_or_removed_while_it_opens() {
    for is_removed in [true, false] {
        let mut rig = Rig::opened(small_segments());
        fill(&mut rig);
        rig.close();
        rig.log = storage_log::Log::open(rig.id, "test/0", rig.config.clone(), rig.now);
        rig.turn();
        if is_removed {
            rig.log.remove()
        } else {
            rig.log.close()
        }
        rig.settle();
        rig.tick(Duration::ZERO);
        assert_eq!(*rig.log.state(), LogState::Closed);
        assert_eq!(rig.files().is_empty(), is_removed);
    }
}

#[test]
fn idle_log_gives_its_memory_back_and_goes_on() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 64 << 20, ..config() });
    let mut frames = Vec::new();
    for n in 0..60 {
        frames.push(rig.append_durably(1, n, vec![n as u8; 100_000]));
    }
    assert!(rig.log.memory_bytes() > 3 << 20);
    rig.tick_and_settle(Duration::from_secs(6));
    assert_eq!(rig.log.memory_bytes(), 0);
    assert!(rig.has_file(FileName::Index(SegmentId(1))), "the index is on disk meanwhile");
    for n in 0..60 {
        frames.push(rig.append_durably(1, n, vec![n as u8; 100_000]));
    }
    rig.drop_cache();
    for nth in [3, 59, 60, 100] {
        assert_eq!(rig.read(Offset(nth), Offset(120), 1).unwrap(), frames[nth as usize..=nth as usize]);
    }
    rig.tick_and_settle(Duration::from_secs(6));
    rig.close_and_reopen();
    assert_eq!(rig.read_all(1 << 20), frames);
}

/// 10,000 idle partitions must stay under 32 KiB each with everything else of theirs.
#[test]
fn idle_log_is_small() {
    assert!(size_of::<storage_log::Log>() <= 1400, "{}", size_of::<storage_log::Log>());
}

#[test]
fn tail_that_reads_back_wrong_is_not_written_again() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 100]);
    rig.tick_and_settle(Duration::from_secs(6));
    segment_file(&mut rig, 1)[4096 + 100] ^= 1;
    rig.append(1, 0, vec![1; 100]);
    rig.settle();
    assert!(matches!(rig.log.state(), LogState::Failed { .. }));
    assert_eq!(rig.disk.done(Operation::Write), 1);
}

#[test]
fn zeros_run_ahead_so_that_writes_rarely_wait() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 64 << 20, ..config() });
    rig.append_durably(1, 0, vec![1; 100]);
    let mut waited = 0;
    for n in 0..500 {
        rig.append(1, n, vec![1; 16 << 10]);
        rig.turn();
        let is_writing = rig.pending().any(|op| matches!(op, DiskOp::Write { .. }));
        waited += u32::from(!is_writing);
        rig.settle();
    }
    assert_eq!(waited, 0);
    assert!(rig.disk.done(Operation::Zero) < 15);
}

#[test]
#[should_panic(expected = "contiguous")]
fn frame_at_the_wrong_offset_is_refused() {
    let mut rig = Rig::opened(config());
    let wrong = frame(Offset(5), LeaderEpoch(1), 1, 0, vec![]);
    rig.log.append(rig.now, wrong);
}

#[test]
#[should_panic(expected = "epochs never fall")]
fn frame_of_an_older_epoch_is_refused() {
    let mut rig = Rig::opened(config());
    rig.append(1, 0, vec![]);
    let wrong = frame(Offset(1), LeaderEpoch(0), 1, 0, vec![]);
    rig.log.append(rig.now, wrong);
}
