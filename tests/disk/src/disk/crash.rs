//! The process dies, and the power may go: what is under way happens in part.

use std::collections::BTreeMap;

use storage_frame::LogId;
use storage_log::{BLOCK_BYTES, DiskOp, FileName, OpId, SegmentId};

use super::{LateWrite, ModelDisk, Operation, UnderWay};
use crate::SECTOR_BYTES;
use crate::dice::Dice;
use crate::injected::FaultKind;

impl ModelDisk {
    /// Everything under way happens wholly, in part or not at all, as the faults say; nothing is under way after it.
    pub fn crash(&mut self) {
        for ((log, _), under_way) in self.begin_crash() {
            self.crash_one(log, under_way);
        }
        self.end_crash();
    }

    /// A crash of which a test says what is left: the sectors of the write under way for which `lands` says so, and
    /// nothing of anything else.
    ///
    /// # Panics
    /// When no write is under way.
    pub fn crash_with(&mut self, mut lands: impl FnMut(usize) -> bool) {
        let mut write_count = 0;
        for ((log, _), under_way) in self.begin_crash() {
            if let DiskOp::Write { segment, position, parts } = &under_way.what {
                self.take_back(log, *segment, *position, under_way.before.as_deref());
                let bytes = parts.concat();
                self.land_sectors(log, *segment, *position, &bytes, &mut lands);
                write_count += 1;
            }
        }
        assert!(write_count > 0, "no write is under way");
        self.end_crash();
    }

    fn begin_crash(&mut self) -> BTreeMap<(LogId, OpId), UnderWay> {
        self.crash_identity();
        std::mem::take(&mut self.under_way)
    }

    fn end_crash(&mut self) {
        self.crash_count += 1;
        self.uncertain.clear();
        self.stall_until = 0;
    }

    fn crash_one(&mut self, log: LogId, under_way: UnderWay) {
        let (zone, place) = self.target(log, &under_way.what);
        let mut dice = self.dice("crash", under_way.number);
        if Operation::of(&under_way.what).only_reads() {
            return;
        }
        if let DiskOp::Write { segment, position, parts } = &under_way.what {
            let (position, bytes) = (*position, parts.concat());
            let range = position..position + bytes.len() as u64;
            self.take_back(log, *segment, position, under_way.before.as_deref());
            if self.faults.late_writes.hits(|| self.dice("late write", under_way.number)) {
                self.put_off(log, *segment, position, bytes);
                return self.record(FaultKind::Undone, zone, place, range);
            }
            let lands =
                if self.faults.torn { Lands::draw(&mut dice) } else { Lands::whole_or_not(&mut dice) };
            self.record(lands.kind(), zone, place, range);
            self.land_sectors(log, *segment, position, &bytes, &mut |sector| lands.lands(sector, &mut dice));
            return;
        }
        if let (DiskOp::Zero { segment, from, to, .. }, true) = (&under_way.what, self.faults.torn) {
            // The file may have grown by any part of it; what was not written reads as zeros.
            let grown = from + dice.below(to - from + 1);
            self.record(FaultKind::Torn, zone, place, *from..grown);
            let file = self.segment_mut(log, *segment);
            let bytes = file.len().max(grown);
            return file.bytes.resize(bytes as usize, 0);
        }
        if let (DiskOp::RemoveLog, true) = (&under_way.what, self.faults.torn && dice.one_in(2)) {
            self.record(FaultKind::Torn, zone, place, 0..0);
            if let Some(files) = self.logs.get_mut(&log) {
                files.retain(|_, _| dice.one_in(2));
            }
            return;
        }
        let is_done = dice.one_in(2);
        self.record(if is_done { FaultKind::Unanswered } else { FaultKind::Undone }, zone, place, 0..0);
        if is_done {
            let _lost_with_the_process = self.apply(log, &under_way);
        }
    }

    /// Sectors that were seen may have been in a cache only.
    fn take_back(&mut self, log: LogId, segment: SegmentId, position: u64, before: Option<&[u8]>) {
        if let Some(before) = before {
            self.segment_mut(log, segment).write_sectors(position, before, |_| true);
        }
    }

    fn land_sectors(
        &mut self,
        log: LogId,
        segment: SegmentId,
        position: u64,
        bytes: &[u8],
        lands: &mut impl FnMut(usize) -> bool,
    ) {
        let mut bytes = bytes.to_vec();
        let end = position + bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let file = self.segment_mut(log, segment);
        let mut is_any = false;
        file.write_sectors(position, &bytes, |sector| {
            let landed = lands(sector);
            is_any |= landed;
            landed
        });
        if is_any {
            file.acknowledged_end = file.acknowledged_end.max(end);
        }
    }

    fn put_off(&mut self, log: LogId, segment: SegmentId, position: u64, mut bytes: Vec<u8>) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let inode = self.segment_mut(log, segment).inode;
        self.late.push(LateWrite { inode, position, bytes });
    }

    pub(super) fn segment_mut(&mut self, log: LogId, segment: SegmentId) -> &mut crate::stored::Stored {
        let file = self.logs.get_mut(&log).and_then(|files| files.get_mut(&FileName::Segment(segment)));
        file.unwrap_or_else(|| panic!("log {log}: segment {} is there", segment.0))
    }
}

/// Which sectors of a write a crash leaves.
enum Lands {
    None,
    All,
    /// Devices like to keep blocks together: those whose bit is set.
    Blocks(u64),
    /// All before this sector, or all from it on.
    Until(usize),
    From(usize),
    Any,
}

impl Lands {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 => Self::None,
            1 => Self::All,
            2 | 3 => Self::Blocks(dice.roll()),
            4 => Self::Until(dice.below(64) as usize),
            5 => Self::From(dice.below(64) as usize),
            _ => Self::Any,
        }
    }

    fn whole_or_not(dice: &mut Dice) -> Self {
        if dice.one_in(2) { Self::All } else { Self::None }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Self::None => FaultKind::Undone,
            Self::All => FaultKind::Unanswered,
            Self::Blocks(_) | Self::Until(_) | Self::From(_) | Self::Any => FaultKind::Torn,
        }
    }

    fn lands(&self, sector: usize, dice: &mut Dice) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Blocks(which) => which >> (sector * SECTOR_BYTES / BLOCK_BYTES % 64) & 1 == 1,
            Self::Until(end) => sector < *end,
            Self::From(start) => sector >= *start,
            Self::Any => dice.one_in(2),
        }
    }
}
