//! What a log finds when it is opened after a crash, after damage, after an orderly close, one story each.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::time::Duration;

use bytes::Bytes;
use rig::{Rig, config, fill, segment_count, segment_file, small_segments};
use storage_frame::Offset;
use storage_log::{DiskOp, FileName, LogConfig, LogEvent, LogState, ReadError, SegmentId};
use tests_disk::{Dice, Faults, Operation, Rate, Zone};

/// Writes sectors of the pending write as `lands` says, then loses power.
fn tear(rig: &mut Rig, lands: impl Fn(usize) -> bool) {
    rig.disk.crash_with(lands);
    rig.reopen();
}

#[test]
fn torn_tail_is_cut_at_last_whole_frame() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 960]); // Ends at 4096 + 1024.
    for n in 0..4 {
        rig.append(1, n, vec![9; 960]);
    }
    rig.turn();
    // The first two new frames land, the third one loses its second sector, the fourth is all there.
    tear(&mut rig, |sector| sector != 2 + 2 + 2 + 1);
    let recovered = rig.recovered();
    assert_eq!(*rig.log.state(), LogState::Ready);
    assert_eq!(recovered.headers.len(), 3);
    assert_eq!(recovered.cut_bytes, 2048);
    assert_eq!(rig.log.durable_end(), Offset(3));
    assert!(!recovered.clean);
}

#[test]
fn torn_tail_rewrite_keeps_acked_frames() {
    // Every combination of the 8 sectors of the tail block that holds three acknowledged frames.
    for landed in 0..256u32 {
        let mut rig = Rig::opened(config());
        let acked: Vec<_> = (0..3).map(|n| rig.append_durably(1, n, vec![n as u8; 700])).collect();
        rig.append(1, 9, vec![9; 900]);
        rig.turn();
        tear(&mut rig, |sector| landed & (1 << sector) != 0);
        assert_eq!(*rig.log.state(), LogState::Ready, "{landed:#b}");
        assert_eq!(rig.read_all(1 << 20)[..3], acked[..], "{landed:#b}");
    }
}

#[test]
fn residue_of_a_torn_write_does_not_come_back() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 960]);
    rig.append(1, 1, vec![2; 3 * 1024 - 64]); // Fills the block,
    rig.append(1, 2, vec![3; 960]); // this one begins the next.
    rig.turn();
    tear(&mut rig, |sector| sector != 2); // The first of them loses its head; the second is whole on disk.
    assert_eq!(rig.log.durable_end(), Offset(1));
    // The next life writes a frame of the same size: the residue now stands exactly where the next would.
    let kept = rig.append_durably(1, 5, vec![7; 3 * 1024 - 64]);
    rig.crash_and_reopen();
    assert_eq!(rig.log.durable_end(), Offset(2));
    assert_eq!(rig.read_all(1 << 20)[1], kept);
}

/// The device lost the write of a frame, and what an earlier life had written there and never been answered for was
/// a whole frame of the same offset: a reader got it. All but its epoch was right.
#[test]
fn residue_of_an_earlier_life_is_not_served_for_a_write_that_was_lost() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 960]);
    rig.append(1, 1, vec![2; 3 * 1024 - 64]); // Fills the block,
    rig.append(1, 2, vec![3; 960]); // this one begins the next.
    rig.turn();
    tear(&mut rig, |sector| sector != 2);
    let kept = rig.append_durably(1, 5, vec![7; 3 * 1024 - 64]);
    rig.disk.faults_mut().in_zone_mut(Zone::Written).lost_write = Rate::ALWAYS;
    let lost = rig.append_durably(1, 6, vec![8; 960]);
    assert_eq!(rig.read(Offset(2), Offset(3), 1).unwrap(), [lost], "from memory");
    rig.drop_cache();
    assert_eq!(rig.read(Offset(1), Offset(3), 1 << 20).unwrap(), [kept]);
    let error = rig.read(Offset(2), Offset(3), 1).unwrap_err();
    assert!(matches!(&error, ReadError::Damaged { why } if why.contains("earlier life")), "{error:?}");
    assert!(rig.find(6, Offset(3)).is_err());
}

#[test]
fn damage_before_the_end_is_reported_not_truncated() {
    let mut rig = Rig::opened(config());
    let frames: Vec<_> = (0..10).map(|n| rig.append_durably(1, n, vec![n as u8; 2000])).collect();
    rig.drop_cache();
    let at = 4096 + 5 * 2064 + 300;
    segment_file(&mut rig, 1)[at] ^= 1;
    rig.crash_and_reopen();
    assert!(
        matches!(rig.log.state(), LogState::Damaged { good_end: Offset(5), why } if why.contains("a later write begins")),
        "{:?}",
        rig.log.state()
    );
    assert_eq!(rig.read_all(1 << 20), frames[..5]);
    rig.close();
    segment_file(&mut rig, 1)[at] ^= 1;
    rig.reopen();
    assert_eq!(rig.read_all(1 << 20), frames, "nothing was touched");
}

/// The search for a later write stopped after 256 KiB of zeros, also where they were the payload of the very
/// frame that had rotted: it and all acknowledged frames behind it were cut off as a torn tail.
#[test]
fn zeros_in_a_payload_do_not_end_the_search_for_later_writes() {
    // In the payload, in its frame's header, and in a small frame before it in the same write.
    for (rotten, rots_before) in
        [(4096 + 176 + 5000, false), (4096 + 176 + 40, false), (4096 + 176 + 70, true)]
    {
        let mut rig = Rig::opened(config());
        let first = rig.append_durably(1, 0, vec![1; 100]);
        assert_eq!(first.header().frame_bytes(), 176);
        if rots_before {
            rig.append(1, 0, vec![2; 100]);
        }
        rig.append_durably(1, 0, vec![0; 400_000]);
        rig.append_durably(1, 0, vec![3; 100]);
        segment_file(&mut rig, 1)[rotten] ^= 1;
        let before = rig.files();
        rig.crash_and_reopen();
        let LogState::Damaged { good_end, .. } = rig.log.state() else { panic!("{:?}", rig.log.state()) };
        assert_eq!(*good_end, Offset(1), "rot at {rotten}");
        assert_eq!(rig.files(), before);
    }
}

#[test]
fn damage_is_found_with_a_head_that_is_gone() {
    let mut rig = Rig::opened(config());
    (0..10).for_each(|n| drop(rig.append_durably(1, n, vec![n as u8; 2000])));
    let at = 4096 + 5 * 2064;
    segment_file(&mut rig, 1)[at..at + 2064].fill(0);
    rig.crash_and_reopen();
    assert!(
        matches!(rig.log.state(), LogState::Damaged { good_end: Offset(5), .. }),
        "{:?}",
        rig.log.state()
    );
}

/// One byte of one file changes; what is read afterwards is right or refused, and no acknowledged frame vanishes
/// without `Damaged`. Only where the checkpoint is the file that was hit may the last write look torn.
#[test]
fn one_changed_byte_is_never_believed() {
    let mut seen = [0; 3];
    for seed in 0..400 {
        let mut dice = Dice::new(seed, "recovery");
        let mut rig = Rig::opened(LogConfig { segment_bytes: 40 << 10, ..config() });
        let mut frames = Vec::new();
        for n in 0..40 {
            let bytes = dice.below(5000) as usize;
            frames.push(rig.append_durably(1, n, vec![n as u8; bytes]));
        }
        let end = rig.log.durable_end();
        if dice.one_in(2) {
            rig.log.set_app_state(end, Bytes::new()); // Else all is scanned when opening.
        }
        rig.close();
        let names: Vec<_> = rig.files().keys().copied().collect();
        let name = names[dice.below(names.len() as u64) as usize];
        let file = rig.file_mut(name);
        if file.is_empty() {
            continue;
        }
        let at = dice.below(file.len() as u64) as usize;
        file[at] ^= 1 << dice.below(8);
        rig.reopen();
        let is_damaged = match rig.log.state() {
            LogState::Ready => false,
            LogState::Damaged { .. } => true,
            other => panic!("seed {seed}: {other:?}"),
        };
        seen[usize::from(is_damaged)] += 1;
        let found_end = rig.log.durable_end();
        assert!(
            found_end == end || is_damaged || name == FileName::Checkpoint,
            "seed {seed}: {name:?} at {at}"
        );
        for frame in frames.iter().take(found_end.0 as usize) {
            match rig.read(frame.header().base_offset, found_end, 1) {
                Ok(found) => assert_eq!(found[0], *frame, "seed {seed}: {name:?} at {at}"),
                Err(ReadError::Damaged { .. }) => seen[2] += 1,
                Err(other) => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn damage_on_read_is_told_and_reading_goes_on() {
    let mut rig = Rig::opened(config());
    let frames: Vec<_> = (0..10).map(|n| rig.append_durably(1, n, vec![n as u8; 2000])).collect();
    rig.drop_cache();
    segment_file(&mut rig, 1)[4096 + 5 * 2064 + 300] ^= 1;
    assert_eq!(rig.read(Offset(3), Offset(10), 1 << 20).unwrap(), frames[3..5]);
    assert!(matches!(rig.read(Offset(5), Offset(10), 1 << 20), Err(ReadError::Damaged { .. })));
    assert_eq!(rig.read(Offset(6), Offset(10), 1 << 20).unwrap(), frames[6..]);
    rig.append_durably(1, 0, vec![1; 10]);
}

#[test]
fn clean_close_needs_no_scan() {
    let mut rig = Rig::opened(small_segments());
    let frames = fill(&mut rig);
    rig.log.set_app_state(Offset(400), Bytes::from_static(b"state"));
    rig.close_and_reopen();
    let recovered = rig.recovered();
    assert!(recovered.clean);
    assert_eq!(recovered.app_state.as_deref(), Some(b"state".as_slice()));
    assert_eq!((recovered.app_state_end, recovered.headers.len()), (Offset(400), 0));
    assert_eq!(rig.read_all(1 << 20), frames);
    let reads = rig.disk.done(Operation::Read);
    let checkpoints = rig.disk.done(Operation::ReplaceCheckpoint);
    rig.close_and_reopen();
    assert!(rig.recovered().clean);
    assert_eq!(rig.disk.done(Operation::Read), reads + 1, "one block");
    assert_eq!(rig.disk.done(Operation::ReplaceCheckpoint), checkpoints, "the marker still holds");
}

#[test]
fn clean_marker_of_an_earlier_life_is_not_believed() {
    for payload_bytes in [10, 960, 4032, 9000] {
        let mut rig = Rig::opened(config());
        rig.append_durably(1, 0, vec![1; payload_bytes]);
        rig.log.set_app_state(Offset(1), Bytes::new());
        rig.close_and_reopen();
        assert!(rig.recovered().clean);
        let acked = rig.append_durably(1, 0, vec![2; 100]);
        rig.crash_and_reopen();
        let recovered = rig.recovered();
        assert!(!recovered.clean);
        assert_eq!(recovered.headers.len(), 1);
        assert_eq!(rig.read_all(1 << 20)[1], acked);
    }
}

#[test]
fn damage_behind_an_old_clean_marker_is_reported() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 100]);
    rig.log.set_app_state(Offset(1), Bytes::new());
    rig.close_and_reopen();
    rig.append_durably(1, 0, vec![2; 100]);
    rig.append_durably(1, 0, vec![3; 100]);
    segment_file(&mut rig, 1)[4096 + 176 + 80] ^= 4;
    rig.crash_and_reopen();
    assert!(
        matches!(rig.log.state(), LogState::Damaged { good_end: Offset(1), .. }),
        "{:?}",
        rig.log.state()
    );
}

#[test]
fn log_that_lost_its_end_is_damaged() {
    let mut rig = Rig::opened(config());
    (0..10).for_each(|n| drop(rig.append_durably(1, n, vec![n as u8; 2000])));
    rig.log.set_app_state(Offset(10), Bytes::new());
    rig.close();
    segment_file(&mut rig, 1).truncate(8192);
    rig.reopen();
    assert!(matches!(rig.log.state(), LogState::Damaged { .. }), "{:?}", rig.log.state());
    rig.close();
    rig.remove_file(FileName::Segment(SegmentId(1)));
    rig.reopen();
    assert!(matches!(rig.log.state(), LogState::Damaged { .. }), "{:?}", rig.log.state());
}

#[test]
fn missing_segment_in_the_middle_is_damage() {
    let mut rig = Rig::opened(small_segments());
    let frames = fill(&mut rig);
    rig.close();
    rig.remove_file(FileName::Segment(SegmentId(3)));
    rig.reopen();
    let LogState::Damaged { good_end, .. } = *rig.log.state() else { panic!("{:?}", rig.log.state()) };
    let readable = rig.read_all(1 << 20);
    assert!(!readable.is_empty());
    assert_eq!(readable[..], frames[..readable.len()]);
    assert_eq!(good_end, readable.last().unwrap().header().end_offset());
    // The same without the checkpoint to tell.
    rig.close();
    rig.remove_file(FileName::Checkpoint);
    rig.reopen();
    assert!(matches!(rig.log.state(), LogState::Damaged { good_end: found, .. } if *found == good_end));
}

#[test]
fn lost_or_damaged_checkpoint_costs_a_scan_and_nothing_else() {
    for is_lost in [true, false] {
        let mut rig = Rig::opened(small_segments());
        let frames = fill(&mut rig);
        rig.close();
        if is_lost {
            rig.remove_file(FileName::Checkpoint);
        } else {
            rig.file_mut(FileName::Checkpoint)[50] ^= 1;
        }
        rig.reopen();
        assert_eq!(*rig.log.state(), LogState::Ready);
        assert_eq!(rig.read_all(1 << 20), frames);
    }
}

/// The device lost a segment's first write, header and all, after it had answered for it. What was written behind
/// it stood in a file without a header: the next opening took that for one made ahead and removed it.
#[test]
fn segment_whose_first_write_was_lost_is_damage_when_another_one_follows() {
    for first_bytes in [100, 9000] {
        let mut rig = Rig::opened(config());
        rig.append(1, 0, vec![1; first_bytes]);
        rig.turn();
        while !rig.pending().any(|op| matches!(op, DiskOp::Write { .. })) {
            rig.complete(0);
            rig.turn();
        }
        rig.disk.faults_mut().in_zone_mut(Zone::Written).lost_write = Rate::ALWAYS;
        let nth = rig.pending().position(|op| matches!(op, DiskOp::Write { .. })).unwrap();
        rig.complete(nth);
        rig.disk.set_faults(Faults::of_crashes());
        assert_eq!(rig.log.durable_end(), Offset(1));
        rig.append_durably(1, 0, vec![2; 100]);
        rig.append_durably(1, 0, vec![3; 100]);
        let before = rig.files();
        rig.crash_and_reopen();
        assert!(
            matches!(rig.log.state(), LogState::Damaged { why, .. } if why.contains("a later write begins")),
            "{:?}",
            rig.log.state()
        );
        assert_eq!(rig.files(), before);
    }
}

/// The same of a write that was never answered is a torn one: the file goes.
#[test]
fn segment_whose_first_write_lost_its_header_in_a_crash_is_a_left_over() {
    let mut rig = Rig::opened(config());
    for n in 0..5 {
        rig.append(1, n, vec![n as u8; 3000]);
    }
    rig.turn();
    while !rig.pending().any(|op| matches!(op, DiskOp::Write { .. })) {
        rig.complete(0);
        rig.turn();
    }
    tear(&mut rig, |sector| sector != 0);
    assert_eq!(*rig.log.state(), LogState::Ready);
    assert_eq!((rig.log.durable_end(), segment_count(&rig)), (Offset(0), 0));
}

/// Retention had taken every segment of an idle log and left the checkpoint, which alone knew where the log ended.
/// It rotted; the log opened as if it had never been, and gave its first offsets a second time.
#[test]
fn damaged_checkpoint_of_a_log_whose_segments_are_all_retired_is_damage() {
    let age = Duration::from_secs(60);
    let mut rig = Rig::opened(LogConfig { segment_age_max: age, retention_age: Some(age), ..config() });
    rig.append_durably(1, rig.now.wall.0, vec![1; 100]);
    rig.tick_and_settle(age);
    rig.tick_and_settle(age);
    assert_eq!((rig.log.start(), segment_count(&rig)), (Offset(1), 0));
    rig.close();
    let good = rig.files();
    rig.file_mut(FileName::Checkpoint)[50] ^= 1;
    let before = rig.files();
    rig.reopen();
    assert!(
        matches!(rig.log.state(), LogState::Damaged { why, .. } if why.contains("where the log ends")),
        "{:?}",
        rig.log.state()
    );
    rig.close();
    assert_eq!(rig.files(), before);
    *rig.file_mut(FileName::Checkpoint) = good[&FileName::Checkpoint].clone();
    rig.reopen();
    assert_eq!((rig.log.start(), rig.log.durable_end()), (Offset(1), Offset(1)));
    assert_eq!(rig.append_durably(1, 0, vec![2; 100]).header().base_offset, Offset(1));
}

#[test]
fn newer_format_is_refused_and_untouched() {
    let mut rig = Rig::opened(config());
    rig.append_durably(1, 0, vec![1; 100]);
    rig.close();
    let checkpoint = rig.file_mut(FileName::Checkpoint);
    checkpoint[8] = 9;
    let covered = [&checkpoint[8..12], &checkpoint[16..]].concat();
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &covered) as u32;
    checkpoint[12..16].copy_from_slice(&sum.to_le_bytes());
    let before = rig.files();
    rig.reopen();
    assert!(matches!(rig.log.state(), LogState::Failed { why } if why.contains("format version 9")));
    assert!(rig.has(|event| matches!(event, LogEvent::Failed { .. })));
    rig.close();
    assert_eq!(rig.files(), before);
}
