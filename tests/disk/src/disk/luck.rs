//! Faults that happen by rate: what strikes an operation, and how long it takes.

use std::ops::Range;
use std::time::Duration;

use storage_frame::LogId;
use storage_log::{DiskOp, FileName, SegmentId};

use super::checks::padded;
use super::{ModelDisk, Operation};
use crate::injected::{FaultKind, Injected, Place, Zone};

const SLOW_TIMES: u32 = 100;
const STALL_SECONDS_MAX: u64 = 5;

impl ModelDisk {
    pub(super) fn time_of(&mut self, log: LogId, number: u64, what: &DiskOp) -> Duration {
        let mut dice = self.dice("latency", number);
        let operation = Operation::of(what);
        let us = match what {
            DiskOp::Write { parts, .. } => dice.between(20, 200) + padded(parts) / 1000,
            DiskOp::Read { bytes, .. } => dice.between(50, 200) + *bytes as u64 / 1000,
            DiskOp::Zero { from, to, .. } => dice.between(50, 500) + (to - from) / 1000,
            DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. }
            | DiskOp::RemoveLog => dice.between(50, 2_000),
        };
        // Devices have bad moments without being ill.
        let mut takes = Duration::from_micros(if dice.one_in(50) { us * 20 } else { us });
        let (zone, place) = self.target(log, what);
        if self.faults.in_zone(zone).slow.hits(|| self.dice("slow", number)) {
            self.record(FaultKind::Slow, zone, place, 0..0);
            takes *= SLOW_TIMES;
        }
        if self.faults.stall.hits(|| self.dice("stall", number)) {
            self.stall_until = number + self.faults.stall_operations;
            self.record(FaultKind::Stall, zone, Place::Disk, 0..0);
        }
        if number < self.stall_until && operation != Operation::List {
            takes += Duration::from_micros(dice.between(100_000, STALL_SECONDS_MAX * 1_000_000));
        }
        takes
    }

    /// What an operation is about. One that is about no file counts as the checkpoint's, the directory's own.
    pub(super) fn target(&self, log: LogId, what: &DiskOp) -> (Zone, Place) {
        let name = match what {
            DiskOp::List | DiskOp::RemoveLog => return (Zone::Checkpoint, Place::Directory { log }),
            DiskOp::ReadFile { name, .. }
            | DiskOp::ReplaceFile { name, .. }
            | DiskOp::RemoveFile { name } => *name,
            DiskOp::MakeSegment { segment }
            | DiskOp::Zero { segment, .. }
            | DiskOp::Write { segment, .. }
            | DiskOp::Read { segment, .. }
            | DiskOp::RetireSegment { segment } => FileName::Segment(*segment),
        };
        (self.zone_of(log, name), Place::File { log, name })
    }

    #[must_use]
    pub fn zone_of(&self, log: LogId, name: FileName) -> Zone {
        match name {
            FileName::Checkpoint => Zone::Checkpoint,
            FileName::Index(_) => Zone::Index,
            FileName::Segment(segment) if self.is_sealed(log, segment) => Zone::Sealed,
            FileName::Segment(_) => Zone::Written,
        }
    }

    /// A later segment has been written, or compaction wrote it.
    fn is_sealed(&self, log: LogId, segment: SegmentId) -> bool {
        let Some(files) = self.logs.get(&log) else { return false };
        if segment.is_rewritten() {
            return true;
        }
        let later =
            FileName::Segment(SegmentId(segment.0 + 1))..FileName::Segment(SegmentId::REWRITTEN_FIRST);
        files.range(later).any(|(_, file)| file.acknowledged_end > 0)
    }

    pub(super) fn record(&mut self, kind: FaultKind, zone: Zone, place: Place, bytes: Range<u64>) {
        let file = match place {
            Place::Identity => self.identity.file.as_ref(),
            Place::File { log, name } => self.logs.get(&log).and_then(|files| files.get(&name)),
            Place::Directory { .. } | Place::Spare { .. } | Place::Disk => None,
        };
        let hits_acknowledged = match kind {
            // An answer was given, or is about to be.
            FaultKind::LostWrite | FaultKind::Misdirected => true,
            FaultKind::Torn
            | FaultKind::Unanswered
            | FaultKind::Undone
            | FaultKind::ReadError
            | FaultKind::LatentError
            | FaultKind::BitFlip
            | FaultKind::LostFile
            | FaultKind::WriteError
            | FaultKind::Overwritten
            | FaultKind::LateWrite
            | FaultKind::NoSpace
            | FaultKind::Slow
            | FaultKind::Stall => file.is_some_and(|file| file.is_acknowledged(&bytes)),
        };
        let at_operation = self.completed_count;
        self.injected.push(Injected { kind, zone, place, bytes, hits_acknowledged, at_operation });
    }

    /// Bits that flip and sectors that go bad under an operation on their file.
    pub(super) fn harm_at_rest(&mut self, zone: Zone, place: Place) {
        let rates = *self.faults.in_zone(zone);
        let number = self.completed_count + self.submitted_count;
        for (kind, rate, salt) in [
            (FaultKind::BitFlip, rates.bit_flip, "bit flip"),
            (FaultKind::LatentError, rates.latent_error, "latent error"),
        ] {
            if rate.hits(|| self.dice(salt, number)) {
                self.damage_at(kind, zone, place, &mut self.dice("where it is harmed", number));
            }
        }
    }

    /// A period without space may begin here.
    pub(super) fn may_run_full(&mut self, number: u64) {
        if self.faults.no_space.hits(|| self.dice("no space", number)) {
            self.no_space_until = self.completed_count + self.faults.no_space_operations;
        }
    }
}
