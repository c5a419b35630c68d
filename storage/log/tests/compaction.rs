//! Compaction against a model: at every operation of a pass the power goes, and random lives.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod compacting;
#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::time::Duration;

use bytes::Bytes;
use compacting::{TOMBSTONES_KEPT, World, small};
use rig::segment_count;
use storage_frame::Offset;
use storage_log::inspect;
use storage_log::{DiskOp, FileName, LogState, SegmentId};
use tests_disk::{Dice, Faults, ModelDisk, Operation};

fn disk(seed: u64) -> ModelDisk {
    ModelDisk::new(seed, Faults::of_crashes())
}

/// Appends until `segments` are there, each write by itself.
fn filled(seed: u64, segments: usize) -> World {
    let mut world = World::on(disk(seed), small(16 << 10), seed);
    fill(&mut world, segments);
    world
}

fn fill(world: &mut World, segments: usize) {
    while segment_count(&world.rig) < segments {
        world.append();
        world.rig.settle();
        world.give_state();
        world.rig.settle();
        world.listen();
    }
    // The state that a checkpoint has describes all that may be compacted.
    world.rig.tick(Duration::from_secs(3));
    world.give_state();
    world.rig.settle();
    world.listen();
}

fn record_count(world: &mut World) -> usize {
    world.read_all().len()
}

#[test]
fn what_was_overtaken_goes_and_the_rest_stays_where_it_was() {
    let mut world = filled(1, 6);
    let before = (record_count(&mut world), world.rig.log.disk_bytes());
    world.compact_all();
    let told = world.passes[0].clone().unwrap();
    assert!(told.records_removed > 50 && told.bytes_out * 2 < told.bytes_in, "{told:?}");
    world.check();
    let after = (record_count(&mut world), world.rig.log.disk_bytes());
    assert_eq!(before.0 - after.0, told.records_removed as usize);
    assert_eq!(before.1 - after.1, told.bytes_in - told.bytes_out);
    // One segment stands for all of them; the others' files are gone.
    world.rig.settle();
    assert!(segment_count(&world.rig) <= 3, "{:?}", world.rig.files().keys());
    world.rig.close_and_reopen();
    assert!(world.is_ready());
    world.check();
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let mut world = filled(2, 5);
    world.compact_all();
    let tombstones = |world: &mut World| {
        let end = world.rig.log.durable_end().0;
        world.read_all().range(..end).filter(|(_, record)| record.value.is_none()).count()
    };
    let some = tombstones(&mut world);
    assert!(some > 0);
    world.rig.tick_and_settle(TOMBSTONES_KEPT - Duration::from_secs(50));
    world.compact_all();
    world.check();
    assert_eq!(tombstones(&mut world), some);
    world.crash();
    world.rig.tick_and_settle(Duration::from_secs(60));
    world.compact_all();
    world.check();
    let in_active = world.rig.log.durable_end().0;
    assert!(tombstones(&mut world) < some, "of {some} up to {in_active}");
    // With a newer segment the rest are compacted, and then go too.
    world.rig.tick_and_settle(Duration::from_secs(8 * 24 * 3600));
    fill(&mut world, 1);
    world.compact_all();
    world.rig.tick_and_settle(TOMBSTONES_KEPT + Duration::from_secs(1));
    world.compact_all();
    world.check();
    assert_eq!(tombstones(&mut world), 0);
}

/// Of a pass over `of`, the power goes when so many operations are done: the log is as it was, or as it is to be.
fn cut_at_every_operation(seed: u64, keys_max: usize, after: impl Fn(&mut World)) -> u64 {
    cut_at_every_operation_on(&filled(seed, 6), seed, keys_max, |_| {}, after)
}

fn cut_at_every_operation_on(
    left: &World,
    seed: u64,
    keys_max: usize,
    before: impl Fn(&mut World),
    after: impl Fn(&mut World),
) -> u64 {
    for op_count in 0u64.. {
        let mut world = World::on(left.rig.disk.clone(), small(16 << 10), seed);
        world.keys_max = keys_max;
        world.ever.clone_from(&left.ever);
        world.records.clone_from(&left.records);
        world.rig.settle();
        world.listen();
        before(&mut world);
        let submitted = |world: &World| {
            let kinds = [
                Operation::ReplaceCheckpoint,
                Operation::ReplaceIndex,
                Operation::MakeSegment,
                Operation::Zero,
                Operation::Write,
                Operation::Read,
                Operation::RetireSegment,
                Operation::RemoveFile,
            ];
            kinds.iter().map(|kind| world.rig.disk.done(*kind)).sum::<u64>()
        };
        let begun = submitted(&world);
        world.begin_pass();
        let mut is_over = false;
        while submitted(&world) - begun < op_count {
            world.rig.turn();
            if world.rig.disk.under_way_count() == 0 {
                is_over = true;
                break;
            }
            world.rig.complete(0);
        }
        world.rig.turn();
        world.listen();
        world.rig.disk.crash();
        after(&mut world);
        world.reopen();
        // Nothing is left of what came to nothing.
        world.compact_all();
        world.check();
        world.rig.settle();
        assert!(segment_count(&world.rig) <= 4, "{:?}", world.rig.files().keys());
        if is_over {
            return op_count;
        }
    }
    unreachable!("a pass ends")
}

#[test]
fn power_may_go_at_every_operation_of_a_pass() {
    for (seed, keys_max) in [(3, 1000), (4, 14), (5, 20)] {
        let count = cut_at_every_operation(seed, keys_max, |_| {});
        assert!(count > 10, "{count}");
    }
}

#[test]
fn power_may_go_at_every_operation_and_take_the_checkpoint() {
    for seed in 6..9 {
        let count = cut_at_every_operation(seed, 1000, |world| {
            world.rig.remove_file(FileName::Checkpoint);
        });
        assert!(count > 10, "{count}");
    }
}

/// Tombstones go from a segment that compaction has written before: the new one stands for the same segments.
#[test]
fn power_may_go_while_one_rewritten_segment_replaces_another_and_take_the_checkpoint() {
    let mut left = filled(2, 5);
    left.compact_all();
    left.rig.settle();
    let late = |world: &mut World| world.rig.tick_and_settle(2 * TOMBSTONES_KEPT);
    let count = cut_at_every_operation_on(&left, 2, 1000, late, |world| {
        world.rig.remove_file(FileName::Checkpoint);
    });
    assert!(count > 5, "{count}");
}

#[test]
fn readers_go_on_while_segments_are_replaced_under_them() {
    let mut world = filled(10, 6);
    world.rig.drop_cache();
    let (start, end) = (world.rig.log.start(), world.rig.log.durable_end());
    // One that reads frame by frame, begun before; one read that is under way all the time.
    let mut next = start;
    for _ in 0..3 {
        next = world.rig.read(next, end, 1).unwrap().last().unwrap().header().end_offset();
    }
    assert!(matches!(world.rig.log.read(start, end, 1 << 20), storage_log::Read::Pending(_)));
    world.rig.turn();
    let held = world.rig.disk.under_way().map(|(_, op, _)| op).next().unwrap();
    world.begin_pass();
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        world.rig.turn();
        let other = world.rig.disk.under_way().position(|(_, op, _)| op != held);
        match other {
            Some(nth) => world.rig.complete(nth),
            None => break,
        }
    }
    assert_eq!(world.rig.disk.under_way_count(), 1, "the read that holds on");
    assert!(segment_count(&world.rig) > 5, "a file that is read stays");
    world.rig.complete(0);
    world.rig.settle();
    world.listen();
    while next < end {
        for frame in world.rig.read(next, end, 1).unwrap() {
            assert_eq!(frame.header().base_offset, next);
            next = frame.header().end_offset();
            for (offset, record) in compacting::records_of(&frame) {
                last.insert(record.key.clone(), (offset, record));
            }
        }
    }
    world.check();
    assert!(segment_count(&world.rig) <= 3);
    assert!(!last.is_empty());
}

#[test]
fn no_space_ends_the_pass_and_leaves_the_log_alone() {
    let mut world = filled(11, 6);
    world.rig.set_full(true);
    world.begin_pass();
    world.rig.settle();
    world.listen();
    assert!(world.passes[0].is_err(), "{:?}", world.passes);
    assert!(world.is_ready() && !world.wants(), "not again at once");
    world.check();
    world.rig.set_full(false);
    world.rig.tick_and_settle(Duration::from_secs(11));
    world.compact_all();
    assert!(world.passes[1].is_ok());
    world.check();
}

#[test]
fn damaged_segment_is_left_and_so_is_what_follows() {
    let mut world = filled(12, 6);
    let name = FileName::Segment(SegmentId(3));
    world.rig.file_mut(name)[9000] ^= 1;
    let before = world.rig.file_mut(name).clone();
    world.begin_pass();
    world.rig.settle();
    world.listen();
    assert!(world.passes[0].as_ref().unwrap_err().contains("damaged"), "{:?}", world.passes);
    world.compact_all();
    assert!(world.passes[1].is_ok(), "what stands before it is compacted");
    world.rig.settle();
    for id in 3..=5 {
        assert!(world.rig.has_file(FileName::Segment(SegmentId(id))), "segment {id}");
    }
    assert_eq!(*world.rig.file_mut(name), before);
    assert!(!world.rig.has_file(FileName::Segment(SegmentId(1))));
    // Repaired, all of it is.
    world.rig.file_mut(name)[9000] ^= 1;
    world.rig.close_and_reopen();
    world.compact_all();
    world.check();
    assert!(!world.rig.has_file(name));
}

#[test]
fn young_records_stay_until_their_time_has_come() {
    let mut world = filled(13, 5);
    world.rules.lag_min = Duration::from_secs(60);
    assert!(!world.wants());
    world.rig.tick_and_settle(Duration::from_secs(61));
    assert!(world.wants());
    world.compact_all();
    world.check();
    world.rules.lag_min = Duration::ZERO;
    // Too clean to pay; but what is older than the longest lag is due.
    world.rules.dirty_ratio = 1.1;
    let segments = segment_count(&world.rig) + 1;
    fill(&mut world, segments);
    assert!(!world.wants());
    world.rules.lag_max = Some(Duration::from_secs(30));
    world.rig.tick_and_settle(Duration::from_secs(31));
    assert!(world.wants());
}

#[test]
fn deletes_and_removal_end_a_pass_that_they_overtake() {
    for op_count in 0..30 {
        let mut world = filled(14, 6);
        world.begin_pass();
        for _ in 0..op_count {
            world.rig.turn();
            if world.rig.disk.under_way_count() > 0 {
                world.rig.complete(0);
            }
        }
        let before = Offset(world.rig.log.durable_end().0 * 2 / 3);
        world.rig.log.delete_before(before);
        world.rig.settle();
        world.listen();
        assert_eq!(world.rig.log.start(), before);
        world.check();
        world.compact_all();
        world.check();
        world.crash();
        assert_eq!(world.rig.log.start(), before);
        world.begin_pass();
        for _ in 0..op_count {
            world.rig.turn();
            if world.rig.disk.under_way_count() > 0 {
                world.rig.complete(0);
            }
        }
        world.rig.log.remove();
        world.rig.settle();
        assert_eq!(*world.rig.log.state(), LogState::Closed);
        assert!(world.rig.files().is_empty());
    }
}

/// What `log verify` finds in the files.
fn findings(world: &World) -> (inspect::Summary, Vec<inspect::Finding>) {
    let mut check = inspect::LogCheck::new(world.rig.id);
    let files = world.rig.files();
    if let Some(file) = files.get(&FileName::Checkpoint) {
        check.checkpoint(&Bytes::from(file.clone()));
    }
    for (name, file) in &files {
        if let FileName::Segment(segment) = name {
            check.segment(*segment, Bytes::from(file.clone()));
            if let Some(index) = files.get(&FileName::Index(*segment)) {
                check.index(*segment, index);
            }
        }
    }
    check.finish()
}

#[test]
fn compacted_log_is_verified_without_findings() {
    let mut world = filled(16, 6);
    let end = world.rig.log.durable_end();
    world.compact_all();
    fill(&mut world, 5);
    world.compact_all();
    world.rig.close();
    let (summary, found) = findings(&world);
    assert_eq!(found, []);
    assert_eq!((summary.start, summary.closed_in_order), (Offset(0), true));
    assert!(summary.end > end);
    world.rig.remove_file(FileName::Checkpoint);
    assert_eq!(findings(&world), (inspect::Summary { closed_in_order: false, ..summary }, Vec::new()));
    let rewritten = FileName::Segment(SegmentId::REWRITTEN_FIRST);
    let names: Vec<_> = world.rig.files().into_keys().collect();
    assert!(names.iter().any(|name| *name >= rewritten), "{names:?}");
}

/// A random life.
fn live(seed: u64) -> usize {
    let mut dice = Dice::new(seed, "life");
    let segment_bytes = *dice.pick(&[8 << 10, 16 << 10, 40 << 10]);
    let mut world = World::on(disk(seed), small(segment_bytes), seed);
    world.keys_max = *dice.pick(&[1, 5, 30, 1000]);
    world.key_count = *dice.pick(&[2, 12, 60]);
    world.rules.dirty_ratio = *dice.pick(&[0.0, 0.3, 0.5]);
    for _ in 0..1500 {
        match dice.below(100) {
            0..40 => world.append(),
            40..55 => world.rig.turn(),
            55..75 => {
                let count = world.rig.disk.under_way_count() as u64;
                if count > 0 {
                    world.rig.complete(dice.below(count) as usize);
                }
            }
            75..80 => world.rig.tick(Duration::from_millis(*dice.pick(&[1, 300, 3_000, 60_000]))),
            80..90 => world.begin_pass(),
            90..93 => world.start_read(),
            93 => world.rig.settle(),
            94 => world.rig.set_full(!world.rig.disk.faults().full),
            95 if dice.one_in(4) => {
                let end = world.rig.log.durable_end().0;
                world.rig.log.delete_before(Offset(dice.below(end / 2 + 1)));
            }
            96 if dice.one_in(3) => world.crash(),
            97 if dice.one_in(3) => {
                world.rig.set_full(false);
                world.rig.settle();
                world.listen();
                world.rig.close();
                world.durable_end = world.rig.log.durable_end();
                world.reopen();
            }
            98 if dice.one_in(3) => {
                // A lost checkpoint takes the log's start with it; nothing else may come back.
                world.rig.set_full(false);
                world.rig.settle();
                world.listen();
                world.rig.disk.crash();
                if world.rig.log.start() == Offset::ZERO {
                    world.rig.remove_file(FileName::Checkpoint);
                }
                world.reopen();
            }
            _ => {}
        }
        world.give_state();
        world.listen();
    }
    world.rig.set_full(false);
    world.rig.tick_and_settle(Duration::from_secs(20));
    world.compact_all();
    world.check();
    world.passes.iter().filter(|how| how.as_ref().is_ok_and(|told| told.records_removed > 0)).count()
}

/// `LOG_SEED=8131` repeats one life, `LOG_SEEDS=10000` makes it many.
#[test]
fn random_lives_keep_the_last_of_every_key() {
    let told = |name: &str| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    let seeds = match told("LOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("LOG_SEEDS").unwrap_or(60),
    };
    let mut passes = 0;
    for seed in seeds.clone() {
        eprintln!("LOG_SEED={seed}");
        passes += live(seed);
    }
    assert!(passes as u64 >= seeds.end - seeds.start, "{passes} passes took something out");
}

/// What an opening would scan, since no state describes it, tells of producers: all of it stays.
#[test]
fn what_no_state_describes_yet_is_not_compacted() {
    let mut world = World::on(disk(17), small(16 << 10), 17);
    fill(&mut world, 3);
    world.rig.log.set_app_state(world.rig.log.staged_end(), Bytes::from_static(b"state"));
    let described = world.rig.log.staged_end().0;
    while segment_count(&world.rig) < 8 {
        world.append();
        world.rig.settle();
        world.rig.tick_and_settle(Duration::from_secs(2));
        world.listen();
    }
    world.compact_all();
    assert!(world.passes.iter().all(Result::is_ok) && !world.passes.is_empty());
    let found = world.read_all();
    assert!(found.range(..described).count() < described as usize);
    let end = world.rig.log.durable_end().0;
    assert_eq!(found.range(described..).count() as u64, end - described);
    world.crash();
}

/// Appends are answered while a pass is under way.
#[test]
fn appends_do_not_wait_for_compaction() {
    let mut world = filled(15, 8);
    world.begin_pass();
    let mut appended = 0;
    while world.rig.log.is_compacting() {
        world.rig.turn();
        let is_write =
            |what: &DiskOp| matches!(what, DiskOp::Write { segment, .. } if !segment.is_rewritten());
        if !world.rig.disk.under_way().any(|(_, _, what)| is_write(what)) {
            world.append();
            world.rig.turn();
            assert!(world.rig.disk.under_way().any(|(_, _, what)| is_write(what)), "{appended}");
            appended += 1;
        }
        world.rig.complete(0);
        world.give_state();
    }
    world.rig.settle();
    world.listen();
    assert!(appended > 5);
    world.check();
}
