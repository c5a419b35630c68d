//! Every fault can be injected and is what it says.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

use bytes::Bytes;
use storage_log::{DiskErrorKind, DiskReply, SegmentId};

use super::*;
use crate::faults::{Rate, ZoneFaults};
use crate::injected::{FaultKind, Place, Promise, Zone};

const LOG: LogId = LogId(7);
const SEGMENT: SegmentId = SegmentId(1);
const FILE: FileName = FileName::Segment(SEGMENT);

/// Asks one operation after the other.
struct Asked {
    disk: ModelDisk,
    op_count: u64,
}

impl Asked {
    /// A log with a segment of 16 blocks of zeros.
    fn with_room(seed: u64, faults: Faults) -> Self {
        let mut asked = Self { disk: ModelDisk::new(seed, Faults::default()), op_count: 0 };
        asked.run(DiskOp::MakeSegment { segment: SEGMENT }).unwrap();
        asked.run(DiskOp::Zero { segment: SEGMENT, from: 0, to: 16 * 4096, bulk: false }).unwrap();
        asked.disk.set_faults(faults);
        asked
    }

    fn begin(&mut self, what: DiskOp) -> (OpId, Duration) {
        self.op_count += 1;
        let op = OpId(self.op_count);
        (op, self.disk.submit(0, LOG, op, what))
    }

    fn run(&mut self, what: DiskOp) -> DiskResult {
        let (op, _) = self.begin(what);
        self.disk.complete(LOG, op)
    }

    fn read(&mut self, position: u64, bytes: usize) -> Result<Bytes, DiskErrorKind> {
        match self.run(DiskOp::Read { segment: SEGMENT, position, bytes }) {
            Ok(DiskReply::Bytes(bytes)) => Ok(bytes),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.kind),
        }
    }

    fn file(&self) -> &[u8] {
        self.disk.file(LOG, FILE).expect("the segment's file")
    }

    fn kinds(&self) -> Vec<FaultKind> {
        self.disk.injected().iter().map(|fault| fault.kind).collect()
    }
}

/// Two blocks of `fill` at the third block.
fn write(fill: u8) -> DiskOp {
    DiskOp::Write { segment: SEGMENT, position: 8192, parts: vec![Bytes::from(vec![fill; 8000])] }
}

fn replace(name: FileName, text: &'static str) -> DiskOp {
    DiskOp::ReplaceFile { name, bytes: Bytes::from_static(text.as_bytes()) }
}

fn in_zone(zone: Zone, set: impl FnOnce(&mut ZoneFaults)) -> Faults {
    let mut faults = Faults::default();
    set(faults.in_zone_mut(zone));
    faults
}

#[test]
fn what_is_answered_survives_a_crash() {
    let mut asked = Asked::with_room(1, Faults::of_crashes());
    let parts = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    asked.run(DiskOp::Write { segment: SEGMENT, position: 4096, parts }).unwrap();
    asked.disk.crash();
    assert_eq!(asked.read(4096, 8).unwrap(), "onetwo\0\0");
    assert_eq!(asked.file().len(), 16 * 4096);
    assert_eq!(asked.kinds(), []);
}

#[test]
fn write_that_a_crash_meets_lands_in_any_of_its_sectors() {
    let mut outcomes = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for seed in 0..300 {
        let mut asked = Asked::with_room(seed, Faults::of_crashes());
        asked.run(write(1)).unwrap();
        asked.begin(write(2));
        asked.disk.crash();
        let sectors: Vec<u8> = asked.file()[8192..8192 + 7680].chunks(512).map(|sector| sector[0]).collect();
        for (nth, sector) in asked.file()[8192..8192 + 7680].chunks(512).enumerate() {
            assert!(sector.iter().all(|byte| *byte == sectors[nth]), "a sector is whole");
        }
        assert!(asked.file()[16384..].iter().all(|byte| *byte == 0), "nothing lands beside it");
        let fault = asked.disk.injected()[0].clone();
        assert_eq!((fault.place, fault.zone), (Place::File { log: LOG, name: FILE }, Zone::Written));
        assert_eq!(fault.bytes, 8192..16192);
        assert!(fault.hits_acknowledged && fault.promise() == Promise::Kept);
        outcomes.insert(sectors);
        kinds.insert(fault.kind);
    }
    assert!(outcomes.len() > 50, "{}", outcomes.len());
    assert!(outcomes.contains(&vec![1; 15]) && outcomes.contains(&vec![2; 15]));
    let by_blocks = [vec![1; 8], vec![2; 7]].concat();
    assert!(outcomes.contains(&by_blocks), "blocks are kept together sometimes");
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn without_tearing_an_operation_under_way_has_happened_or_has_not() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let mut asked = Asked::with_room(seed, Faults::default());
        asked.run(write(1)).unwrap();
        asked.begin(write(2));
        asked.begin(DiskOp::Zero { segment: SEGMENT, from: 16 * 4096, to: 32 * 4096, bulk: false });
        asked.begin(replace(FileName::Checkpoint, "new"));
        asked.begin(DiskOp::MakeSegment { segment: SegmentId(2) });
        asked.disk.begin_identity(Bytes::from_static(b"me"));
        asked.disk.crash();
        let written: BTreeSet<u8> = asked.file()[8192..8192 + 8000].iter().copied().collect();
        assert_eq!(written.len(), 1);
        assert!([16 * 4096, 32 * 4096].contains(&asked.file().len()));
        outcomes.insert((
            written.contains(&2),
            asked.file().len() > 16 * 4096,
            asked.disk.file(LOG, FileName::Checkpoint).is_some(),
            asked.disk.file(LOG, FileName::Segment(SegmentId(2))).is_some(),
            asked.disk.identity().unwrap().is_some(),
        ));
        assert_eq!(asked.disk.under_way_count(), 0);
    }
    assert!(outcomes.len() > 20, "each by itself: {}", outcomes.len());
}

#[test]
fn zero_that_a_crash_meets_may_have_grown_the_file() {
    let grown = |seed| {
        let mut asked = Asked::with_room(seed, Faults::of_crashes());
        asked.begin(DiskOp::Zero { segment: SEGMENT, from: 16 * 4096, to: 32 * 4096, bulk: false });
        asked.disk.crash();
        assert!(asked.file().iter().all(|byte| *byte == 0));
        asked.file().len()
    };
    let grown: BTreeSet<usize> = (0..50).map(grown).collect();
    assert!(grown.len() > 30 && grown.iter().all(|bytes| (16 * 4096..=32 * 4096).contains(bytes)));
}

#[test]
fn files_are_retired_and_removed_whole_or_not_at_all() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let mut asked = Asked::with_room(seed, Faults::of_crashes());
        asked.run(replace(FileName::Index(SEGMENT), "index")).unwrap();
        asked.begin(DiskOp::RetireSegment { segment: SEGMENT });
        asked.begin(DiskOp::RemoveFile { name: FileName::Index(SEGMENT) });
        asked.disk.crash();
        let is_there = asked.disk.file(LOG, FILE).is_some();
        assert_eq!(asked.disk.spares(0).count(), usize::from(!is_there), "in one place or the other");
        outcomes.insert((is_there, asked.disk.file(LOG, FileName::Index(SEGMENT)).is_some()));
    }
    assert_eq!(outcomes.len(), 4);
}

#[test]
fn read_beside_a_write_sees_any_of_its_sectors_and_a_crash_may_take_them_back() {
    let (mut seen_count, mut taken_back) = (0, 0);
    for seed in 0..50 {
        let mut asked = Asked::with_room(seed, Faults::of_crashes());
        asked.begin(write(2));
        let seen = asked.read(8192, 8000).unwrap();
        let sees = |bytes: &[u8]| bytes.chunks(512).map(|sector| sector[0] == 2).collect::<Vec<_>>();
        let seen = sees(&seen);
        seen_count += usize::from(seen.contains(&true) && seen.contains(&false));
        asked.disk.crash();
        let left = sees(&asked.file()[8192..8192 + 8000]);
        taken_back += usize::from(seen.iter().zip(&left).any(|(seen, left)| *seen && !left));
    }
    assert!(seen_count > 40 && taken_back > 10, "{seen_count} {taken_back}");
}

#[test]
fn read_error_passes() {
    let mut asked = Asked::with_room(1, in_zone(Zone::Written, |rates| rates.read_error = Rate::ALWAYS));
    assert_eq!(asked.read(0, 100), Err(DiskErrorKind::Io));
    asked.disk.set_faults(Faults::default());
    assert_eq!(asked.read(0, 100).unwrap().len(), 100);
    assert_eq!(asked.kinds(), [FaultKind::ReadError]);
    assert_eq!(asked.disk.injected()[0].promise(), Promise::Kept);
}

#[test]
fn latent_error_stays_until_the_range_is_written_again() {
    for seed in 0..20 {
        let mut asked = Asked::with_room(seed, Faults::default());
        asked.run(write(1)).unwrap();
        let mut dice = Dice::new(seed, "test");
        let fault = asked.disk.damage(FaultKind::LatentError, Zone::Written, &mut dice).unwrap();
        let bytes = (fault.bytes.end - fault.bytes.start) as usize;
        for _ in 0..3 {
            assert_eq!(asked.read(fault.bytes.start, bytes), Err(DiskErrorKind::Io));
        }
        let whole = vec![Bytes::from(vec![3; 16 * 4096])];
        asked.run(DiskOp::Write { segment: SEGMENT, position: 0, parts: whole }).unwrap();
        assert_eq!(asked.read(fault.bytes.start, bytes).unwrap(), vec![3; bytes]);
        assert_eq!(fault.promise(), Promise::Noticed);
        assert_eq!(fault.hits_acknowledged, fault.bytes.start < 8192 + 8000);
    }
}

#[test]
fn damage_changes_a_bit_of_a_file_of_its_zone() {
    let mut asked = Asked::with_room(1, Faults::default());
    asked.run(write(1)).unwrap();
    asked.run(DiskOp::MakeSegment { segment: SegmentId(2) }).unwrap();
    asked.run(DiskOp::Zero { segment: SegmentId(2), from: 0, to: 4096, bulk: false }).unwrap();
    let parts = vec![Bytes::from_static(b"x")];
    asked.run(DiskOp::Write { segment: SegmentId(2), position: 0, parts }).unwrap();
    asked.run(replace(FileName::Checkpoint, "checkpoint")).unwrap();
    asked.run(replace(FileName::Index(SEGMENT), "index")).unwrap();
    asked.disk.replace_identity(Bytes::from_static(b"identity")).unwrap();
    asked.disk.add_spare(0, vec![0; 4096]);
    let expected = [
        (Zone::Identity, Place::Identity),
        (Zone::Written, Place::File { log: LOG, name: FileName::Segment(SegmentId(2)) }),
        (Zone::Sealed, Place::File { log: LOG, name: FILE }),
        (Zone::Index, Place::File { log: LOG, name: FileName::Index(SEGMENT) }),
        (Zone::Checkpoint, Place::File { log: LOG, name: FileName::Checkpoint }),
        (Zone::Spares, Place::Spare { core: 0 }),
    ];
    for (zone, place) in expected {
        let before = (
            asked.disk.copy_of(LOG),
            asked.disk.identity().unwrap(),
            asked.disk.spares(0).map(<[u8]>::to_vec).collect::<Vec<_>>(),
        );
        let fault = asked.disk.damage(FaultKind::BitFlip, zone, &mut Dice::new(3, "test")).unwrap();
        assert_eq!((fault.zone, fault.place, fault.kind), (zone, place, FaultKind::BitFlip));
        let after = (
            asked.disk.copy_of(LOG),
            asked.disk.identity().unwrap(),
            asked.disk.spares(0).map(<[u8]>::to_vec).collect::<Vec<_>>(),
        );
        assert_ne!(before, after, "{zone:?}");
        let is_promised = matches!(zone, Zone::Index | Zone::Checkpoint | Zone::Spares);
        assert_eq!(fault.promise() == Promise::Kept, is_promised);
    }
    asked.disk.damage(FaultKind::LostFile, Zone::Checkpoint, &mut Dice::new(3, "test")).unwrap();
    assert!(asked.disk.file(LOG, FileName::Checkpoint).is_none());
    let mut empty = ModelDisk::new(1, Faults::default());
    let nothing = Zone::ALL.map(|zone| empty.damage(FaultKind::BitFlip, zone, &mut Dice::new(1, "test")));
    assert_eq!(nothing, [const { None }; 6]);
}

#[test]
fn bits_flip_and_sectors_go_bad_by_rate() {
    let faults = in_zone(Zone::Written, |rates| {
        rates.bit_flip = Rate::one_in(4);
        rates.latent_error = Rate::one_in(8);
    });
    let mut asked = Asked::with_room(1, faults);
    asked.run(write(1)).unwrap();
    for _ in 0..100 {
        let _good_or_bad = asked.read(0, 4096);
    }
    let count = |kind| asked.kinds().iter().filter(|found| **found == kind).count();
    assert!(
        (10..40).contains(&count(FaultKind::BitFlip)) && (4..25).contains(&count(FaultKind::LatentError))
    );
}

#[test]
fn failed_write_is_there_in_any_part() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let mut asked =
            Asked::with_room(seed, in_zone(Zone::Written, |rates| rates.write_error = Rate::ALWAYS));
        assert_eq!(asked.run(write(2)).unwrap_err().kind, DiskErrorKind::Io);
        assert_eq!(asked.kinds(), [FaultKind::WriteError]);
        assert!(!asked.disk.injected()[0].hits_acknowledged);
        outcomes
            .insert(asked.file()[8192..8192 + 7680].chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
    }
    assert!(outcomes.len() > 15 && outcomes.contains(&vec![0; 15]) && outcomes.contains(&vec![2; 15]));
}

#[test]
fn failed_replacement_has_happened_or_has_not() {
    let replaced = |seed| {
        let mut asked =
            Asked::with_room(seed, in_zone(Zone::Checkpoint, |rates| rates.write_error = Rate::ALWAYS));
        asked.run(replace(FileName::Checkpoint, "new")).unwrap_err();
        asked.disk.file(LOG, FileName::Checkpoint).is_some()
    };
    assert_eq!((0..20).map(replaced).collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn lost_write_is_answered_and_not_there() {
    let mut asked = Asked::with_room(1, in_zone(Zone::Written, |rates| rates.lost_write = Rate::ALWAYS));
    asked.run(write(2)).unwrap();
    assert!(asked.file().iter().all(|byte| *byte == 0));
    let fault = &asked.disk.injected()[0];
    assert_eq!(
        (fault.kind, fault.promise(), fault.hits_acknowledged),
        (FaultKind::LostWrite, Promise::Noticed, true)
    );
}

#[test]
fn misdirected_write_is_answered_and_elsewhere() {
    for seed in 0..50 {
        let rate = in_zone(Zone::Written, |rates| rates.misdirected_write = Rate::ALWAYS);
        let mut asked = Asked::with_room(seed, Faults::default());
        asked.run(write(1)).unwrap();
        asked.disk.set_faults(rate);
        asked.run(write(2)).unwrap();
        let missing = &asked.disk.injected()[0];
        assert_eq!((missing.kind, missing.bytes.clone()), (FaultKind::Misdirected, 8192..16384));
        let Some(hit) = asked.disk.injected().get(1) else { continue };
        assert_eq!(hit.kind, FaultKind::Overwritten);
        let (from, to) = (hit.bytes.start as usize, hit.bytes.end as usize);
        assert_eq!(asked.file()[from], 2);
        assert_ne!(from, 8192);
        assert_eq!(hit.hits_acknowledged, from < 8192 + 8000, "{from}..{to}");
    }
}

#[test]
fn slow_operations_and_stalls_take_their_time() {
    let times = |faults| {
        let mut asked = Asked::with_room(1, faults);
        let times: Vec<Duration> = (0..20)
            .map(|_| {
                let (op, takes) = asked.begin(DiskOp::Read { segment: SEGMENT, position: 0, bytes: 10 });
                asked.disk.complete(LOG, op).unwrap();
                takes
            })
            .collect();
        (times, asked.kinds())
    };
    let (usual, none) = times(Faults::default());
    assert_eq!(none, []);
    let (slow, kinds) = times(in_zone(Zone::Written, |rates| rates.slow = Rate::ALWAYS));
    assert_eq!(kinds, [FaultKind::Slow; 20]);
    assert!(usual.iter().zip(&slow).all(|(usual, slow)| *slow == *usual * 100));
    let (stalled, kinds) = times(Faults { stall: Rate::ALWAYS, stall_operations: 3, ..Faults::default() });
    assert_eq!(kinds[0], FaultKind::Stall);
    assert!(stalled.iter().all(|takes| *takes >= Duration::from_millis(100)));
}

#[test]
fn full_disk_refuses_what_takes_space_and_nothing_else() {
    let mut asked = Asked::with_room(1, Faults { full: true, ..Faults::default() });
    let refused = |result: DiskResult| assert_eq!(result.unwrap_err().kind, DiskErrorKind::NoSpace);
    assert_eq!(asked.disk.free_bytes(), 0);
    refused(asked.run(DiskOp::Zero { segment: SEGMENT, from: 16 * 4096, to: 32 * 4096, bulk: false }));
    refused(asked.run(replace(FileName::Checkpoint, "new")));
    refused(asked.run(DiskOp::MakeSegment { segment: SegmentId(2) }));
    asked.run(write(2)).unwrap();
    assert_eq!(asked.kinds(), [FaultKind::NoSpace; 3]);
    asked.disk.set_faults(Faults::default());
    assert!(asked.disk.free_bytes() > 0);
    asked.run(DiskOp::MakeSegment { segment: SegmentId(2) }).unwrap();
}

#[test]
fn disk_of_a_size_is_full_when_it_is_used_up_and_has_room_when_files_go() {
    let settings = Settings { capacity_bytes: 100 << 10, spares_max: 0, ..Settings::default() };
    let mut disk = ModelDisk::with_settings(1, Faults::default(), settings);
    disk.run(0, LOG, OpId(1), DiskOp::MakeSegment { segment: SEGMENT }).unwrap();
    let zero = |from, to| DiskOp::Zero { segment: SEGMENT, from, to, bulk: false };
    disk.run(0, LOG, OpId(2), zero(0, 96 << 10)).unwrap();
    assert_eq!(disk.free_bytes(), 4 << 10);
    let error = disk.run(0, LOG, OpId(3), zero(96 << 10, 104 << 10)).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::NoSpace);
    disk.run(0, LOG, OpId(4), DiskOp::RetireSegment { segment: SEGMENT }).unwrap();
    assert_eq!(disk.free_bytes(), 100 << 10);
}

#[test]
fn period_without_space_ends() {
    let faults = Faults { no_space: Rate::one_in(10), no_space_operations: 5, ..Faults::default() };
    let mut asked = Asked::with_room(1, faults);
    let refused: Vec<bool> =
        (0..200).map(|_| asked.run(replace(FileName::Checkpoint, "new")).is_err()).collect();
    assert!(refused.windows(2).any(|pair| pair == [true, false]));
    assert!(refused.windows(4).any(|four| four.iter().all(|refused| *refused)));
}

#[test]
fn late_write_lands_in_the_next_life() {
    let mut asked = Asked::with_room(1, Faults { late_writes: Rate::ALWAYS, ..Faults::of_crashes() });
    asked.begin(write(2));
    asked.disk.crash();
    assert!(asked.file().iter().all(|byte| *byte == 0));
    for _ in 0..200 {
        asked.read(0, 1).unwrap();
    }
    assert_eq!(asked.file()[8192..8192 + 8000], [2; 8000]);
    assert_eq!(asked.kinds(), [FaultKind::Undone, FaultKind::LateWrite]);
    assert_eq!(asked.disk.injected()[1].promise(), Promise::Noticed);
}

#[test]
fn identity_is_replaced_whole_lost_or_damaged() {
    let mut left = BTreeSet::new();
    for seed in 0..20 {
        let mut disk = ModelDisk::new(seed, Faults::of_crashes());
        assert_eq!(disk.identity().unwrap(), None);
        disk.replace_identity(Bytes::from_static(b"old")).unwrap();
        disk.begin_identity(Bytes::from_static(b"new"));
        disk.crash();
        left.insert(disk.identity().unwrap().unwrap());
    }
    assert_eq!(left, BTreeSet::from([Bytes::from_static(b"old"), Bytes::from_static(b"new")]));
    let with = |set: fn(&mut ZoneFaults)| ModelDisk::new(1, in_zone(Zone::Identity, set));
    let mut disk = with(|rates| rates.lost_write = Rate::ALWAYS);
    disk.replace_identity(Bytes::from_static(b"new")).unwrap();
    assert_eq!(disk.identity().unwrap(), None);
    let mut disk = with(|rates| rates.write_error = Rate::ALWAYS);
    disk.replace_identity(Bytes::from_static(b"new")).unwrap_err();
    disk.set_faults(in_zone(Zone::Identity, |rates| rates.read_error = Rate::ALWAYS));
    disk.identity().map(drop).unwrap_or_else(|error| assert_eq!(error.kind, DiskErrorKind::Io));
}

#[test]
fn files_are_recycled_within_their_core_and_down_to_the_bounds() {
    let settings = Settings { spares_max: 1, spare_bytes_min: 8192, ..Settings::default() };
    let mut disk = ModelDisk::with_settings(1, Faults::default(), settings);
    let mut op_count = 0;
    let mut run = |disk: &mut ModelDisk, core, what| {
        op_count += 1;
        disk.run(core, LOG, OpId(op_count), what).unwrap()
    };
    for (id, bytes) in [(1, 4096), (2, 8192), (3, 8192)] {
        let segment = SegmentId(id);
        run(&mut disk, 0, DiskOp::MakeSegment { segment });
        run(&mut disk, 0, DiskOp::Zero { segment, from: 0, to: bytes, bulk: false });
    }
    for id in [1, 2, 3] {
        run(&mut disk, 0, DiskOp::RetireSegment { segment: SegmentId(id) });
    }
    assert_eq!(disk.spares(0).count(), 1, "one was too small, one too many");
    let made = run(&mut disk, 1, DiskOp::MakeSegment { segment: SegmentId(4) });
    assert_eq!(made, DiskReply::Made { file_bytes: 0, first_block: Bytes::new() }, "another core's");
    let DiskReply::Made { file_bytes, .. } = run(&mut disk, 0, DiskOp::MakeSegment { segment: SegmentId(5) })
    else {
        panic!("not made")
    };
    assert_eq!(file_bytes, 8192);
    disk.add_spare(1, vec![0; 8192]);
    disk.begin_life(1);
    assert_eq!(disk.spares(1).count(), 0, "there is no such core any more");
}

#[test]
fn fault_switched_off_moves_no_other_one() {
    let run = |faults: Faults| {
        let mut asked = Asked::with_room(9, faults);
        for _ in 0..200 {
            let _any = asked.run(write(1));
            let _any = asked.read(8192, 100);
        }
        asked.disk.injected().to_vec()
    };
    let both = in_zone(Zone::Written, |rates| {
        rates.read_error = Rate::one_in(10);
        rates.lost_write = Rate::one_in(10);
    });
    let one = in_zone(Zone::Written, |rates| rates.read_error = Rate::one_in(10));
    let of_both: Vec<Injected> =
        run(both.clone()).into_iter().filter(|fault| fault.kind == FaultKind::ReadError).collect();
    assert!(of_both.len() > 5);
    assert_eq!(of_both, run(one));
    assert_eq!(run(both.clone()), run(both), "the same seed is the same run");
}

#[test]
#[should_panic(expected = "two writes at once")]
fn second_write_beside_one_is_refused() {
    let mut asked = Asked::with_room(1, Faults::default());
    asked.begin(write(1));
    asked.begin(write(2));
}

#[test]
#[should_panic(expected = "without room")]
fn write_without_room_is_refused() {
    let mut asked = Asked::with_room(1, Faults::default());
    let parts = vec![Bytes::from(vec![1; 8192])];
    asked.begin(DiskOp::Write { segment: SEGMENT, position: 15 * 4096, parts });
}

#[test]
#[should_panic(expected = "write and zero overlap")]
fn write_over_a_zero_under_way_is_refused() {
    let mut asked = Asked::with_room(1, Faults::default());
    asked.begin(DiskOp::Zero { segment: SEGMENT, from: 8192, to: 32 * 4096, bulk: false });
    asked.begin(write(1));
}

#[test]
#[should_panic(expected = "beside")]
fn file_taken_away_under_a_read_is_refused() {
    let mut asked = Asked::with_room(1, Faults::default());
    asked.begin(DiskOp::Read { segment: SEGMENT, position: 0, bytes: 1 });
    asked.begin(DiskOp::RetireSegment { segment: SEGMENT });
}

#[test]
#[should_panic(expected = "made twice")]
fn segment_made_twice_is_refused() {
    Asked::with_room(1, Faults::default()).begin(DiskOp::MakeSegment { segment: SEGMENT });
}
