//! What operations do to the files, as `storage/disk` does it, and what strikes them on the way.

use bytes::Bytes;
use storage_frame::LogId;
use storage_log::{
    BLOCK_BYTES, DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, OpId, SegmentId,
};

use super::checks::padded;
use super::{ModelDisk, Operation, UnderWay};
use crate::dice::Dice;
use crate::injected::{FaultKind, Place, Zone};
use crate::stored::Stored;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl ModelDisk {
    /// The operation with whatever befalls it.
    pub(super) fn perform(&mut self, log: LogId, under_way: &UnderWay) -> DiskResult {
        let UnderWay { number, what, .. } = under_way;
        let (zone, place) = self.target(log, what);
        self.harm_at_rest(zone, place);
        self.may_run_full(*number);
        let operation = Operation::of(what);
        if operation.only_reads() {
            return self.perform_read(log, under_way, zone, place);
        }
        if let Some(refused) = self.refuse_space(log, under_way) {
            self.record(FaultKind::NoSpace, zone, place, 0..0);
            return Err(refused);
        }
        let rates = *self.faults.in_zone(zone);
        let range = written_range(what);
        if self.failing.contains(&(log, operation)) {
            self.record(FaultKind::WriteError, zone, place, range);
            return Err(io_error(what));
        }
        if rates.write_error.hits(|| self.dice("write error", *number)) {
            self.record(FaultKind::WriteError, zone, place, range);
            self.half_apply(log, under_way);
            return Err(io_error(what));
        }
        let may_be_lost =
            matches!(operation, Operation::Write | Operation::ReplaceCheckpoint | Operation::ReplaceIndex);
        if may_be_lost && rates.lost_write.hits(|| self.dice("lost write", *number)) {
            self.record(FaultKind::LostWrite, zone, place, range);
            self.acknowledge(log, what);
            return Ok(DiskReply::Done);
        }
        if let DiskOp::Write { segment, position, parts } = what
            && rates.misdirected_write.hits(|| self.dice("misdirected write", *number))
        {
            let mut dice = self.dice("where it went", *number);
            let mut bytes = parts.concat();
            bytes.resize(padded(parts) as usize, 0);
            self.misdirect(log, FileName::Segment(*segment), *position, &bytes, &mut dice);
            self.acknowledge(log, what);
            return Ok(DiskReply::Done);
        }
        let result = self.apply(log, under_way);
        if result.is_ok() {
            self.acknowledge(log, what);
            if let Place::File { log, name } = place {
                self.uncertain.remove(&(log, name));
            }
        }
        result
    }

    fn perform_read(&mut self, log: LogId, under_way: &UnderWay, zone: Zone, place: Place) -> DiskResult {
        let what = &under_way.what;
        if let DiskOp::Read { segment, .. } = what
            && self.faults.early_sectors
        {
            self.show_early_sectors(log, *segment, under_way.number);
        }
        let is_failing = self.failing.contains(&(log, Operation::of(what)));
        let rate = self.faults.in_zone(zone).read_error;
        if is_failing || rate.hits(|| self.dice("read error", under_way.number)) {
            self.record(FaultKind::ReadError, zone, place, 0..0);
            return Err(io_error(what));
        }
        self.apply(log, under_way)
    }

    /// What the operation does when nothing befalls it.
    pub(super) fn apply(&mut self, log: LogId, under_way: &UnderWay) -> DiskResult {
        match &under_way.what {
            DiskOp::List => Ok(DiskReply::Listed(
                self.files(log).map(|(name, bytes)| (name, bytes.len() as u64)).collect(),
            )),
            DiskOp::ReadFile { name, bytes_max } => {
                let file = self.stored(log, *name)?;
                assert!(file.bytes.len() <= *bytes_max, "log {log}: {name} of {} bytes", file.len());
                if !file.is_readable(&(0..file.len())) {
                    return Err(io_error(&under_way.what));
                }
                Ok(DiskReply::Bytes(Bytes::copy_from_slice(&file.bytes)))
            }
            DiskOp::Read { segment, position, bytes } => {
                let file = self.stored(log, FileName::Segment(*segment))?;
                let from = (*position).min(file.len());
                let to = from.saturating_add(*bytes as u64).min(file.len());
                // Direct reads are of whole blocks.
                if from < to && !file.is_readable(&(from - from % BLOCK..to.next_multiple_of(BLOCK))) {
                    return Err(io_error(&under_way.what));
                }
                Ok(DiskReply::Bytes(Bytes::copy_from_slice(&file.bytes[from as usize..to as usize])))
            }
            DiskOp::ReplaceFile { name, bytes } => {
                let file = Stored::whole(self.next_inode(), bytes.to_vec());
                self.logs.entry(log).or_default().insert(*name, file);
                Ok(DiskReply::Done)
            }
            DiskOp::MakeSegment { segment } => self.make_segment(log, *segment, under_way),
            DiskOp::Zero { segment, from, to, .. } => {
                let file = self.segment_mut(log, *segment);
                file.bytes.truncate(*from as usize);
                file.bytes.resize(*to as usize, 0);
                Ok(DiskReply::Done)
            }
            DiskOp::Write { segment, position, parts } => {
                let mut bytes = parts.concat();
                bytes.resize(padded(parts) as usize, 0);
                self.segment_mut(log, *segment).write_sectors(*position, &bytes, |_| true);
                Ok(DiskReply::Done)
            }
            DiskOp::RetireSegment { segment } => {
                let name = FileName::Segment(*segment);
                let file = self.logs.get_mut(&log).and_then(|files| files.remove(&name));
                self.keep_as_spare(under_way.core, file);
                Ok(DiskReply::Done)
            }
            DiskOp::RemoveFile { name } => {
                self.logs.get_mut(&log).and_then(|files| files.remove(name));
                Ok(DiskReply::Done)
            }
            DiskOp::RemoveLog => {
                self.logs.remove(&log);
                Ok(DiskReply::Done)
            }
        }
    }

    fn stored(&self, log: LogId, name: FileName) -> Result<&Stored, DiskError> {
        let found = self.logs.get(&log).and_then(|files| files.get(&name));
        found
            .ok_or_else(|| DiskError { kind: DiskErrorKind::NotFound, what: format!("{name}: no such file") })
    }

    fn make_segment(&mut self, log: LogId, segment: SegmentId, under_way: &UnderWay) -> DiskResult {
        let name = FileName::Segment(segment);
        // An empty file is what an attempt left that was refused.
        let left = self.logs.get(&log).and_then(|files| files.get(&name));
        if left.is_some_and(|left| left.len() > 0) {
            return Err(io_error(&under_way.what));
        }
        let spares = self.spares.entry(under_way.core).or_default();
        if spares.is_empty() {
            let file = Stored::whole(self.next_inode(), Vec::new());
            self.logs.entry(log).or_default().insert(name, file);
            return Ok(DiskReply::Made { file_bytes: 0, first_block: Bytes::new() });
        }
        let nth = Dice::nth(self.seed, "which spare", under_way.number).below(spares.len() as u64);
        let mut file = spares.swap_remove(nth as usize);
        file.acknowledged_end = 0;
        let first = 0..file.len().min(BLOCK);
        let is_readable = file.is_readable(&first);
        let reply = DiskReply::Made {
            file_bytes: file.len(),
            first_block: Bytes::copy_from_slice(&file.bytes[..first.end as usize]),
        };
        self.logs.entry(log).or_default().insert(name, file);
        let rate = self.faults.in_zone(Zone::Spares).read_error;
        if rate.hits(|| self.dice("spare read error", under_way.number)) {
            self.record(FaultKind::ReadError, Zone::Spares, Place::Spare { core: under_way.core }, first);
        } else if is_readable {
            return Ok(reply);
        }
        self.uncertain.insert((log, name));
        Err(io_error(&under_way.what))
    }

    fn keep_as_spare(&mut self, core: u8, file: Option<Stored>) {
        let Some(file) = file else { return };
        if self.free_bytes() < self.settings.spares_free_bytes_min
            || file.len() < self.settings.spare_bytes_min
        {
            return;
        }
        let spares = self.spares.entry(core).or_default();
        if spares.len() < self.settings.spares_max {
            spares.push(file);
        }
    }

    /// ENOSPC; the operation may have begun.
    fn refuse_space(&mut self, log: LogId, under_way: &UnderWay) -> Option<DiskError> {
        let what = &under_way.what;
        let wanted = match what {
            DiskOp::Zero { segment, to, .. } => {
                to.saturating_sub(self.file(log, FileName::Segment(*segment)).map_or(0, <[u8]>::len) as u64)
            }
            DiskOp::ReplaceFile { bytes, .. } => bytes.len() as u64,
            DiskOp::MakeSegment { .. } => 1,
            DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. }
            | DiskOp::RemoveLog => return None,
        };
        if !self.is_full() && wanted <= self.free_bytes() {
            return None;
        }
        let mut dice = self.dice("refused in part", under_way.number);
        match what {
            DiskOp::Zero { segment, from, to, .. } if dice.one_in(2) => {
                let blocks = dice.below((to - from) / BLOCK);
                let file = self.segment_mut(log, *segment);
                let bytes = file.len().max(from + blocks * BLOCK);
                file.bytes.resize(bytes as usize, 0);
            }
            DiskOp::MakeSegment { segment } if dice.one_in(4) => {
                let name = FileName::Segment(*segment);
                let file = Stored::whole(self.next_inode(), Vec::new());
                self.logs.entry(log).or_default().entry(name).or_insert(file);
                self.uncertain.insert((log, name));
            }
            DiskOp::Zero { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. }
            | DiskOp::RemoveLog => {}
        }
        Some(DiskError {
            kind: DiskErrorKind::NoSpace,
            what: format!("{:?}: no space left", Operation::of(what)),
        })
    }

    /// An operation that failed has happened in any part.
    fn half_apply(&mut self, log: LogId, under_way: &UnderWay) {
        let mut dice = self.dice("half done", under_way.number);
        if let Place::File { log, name } = self.target(log, &under_way.what).1 {
            self.uncertain.insert((log, name));
        }
        match &under_way.what {
            DiskOp::Write { segment, position, parts } => {
                let mut bytes = parts.concat();
                bytes.resize(padded(parts) as usize, 0);
                let some = dice.below(4);
                let lands = |_| match some {
                    0 => false,
                    1 => true,
                    _ => dice.one_in(2),
                };
                self.segment_mut(log, *segment).write_sectors(*position, &bytes, lands);
            }
            DiskOp::Zero { segment, from, to, .. } => {
                let grown = from + dice.below(to - from + 1);
                let file = self.segment_mut(log, *segment);
                let bytes = file.len().max(grown);
                file.bytes.resize(bytes as usize, 0);
            }
            DiskOp::RemoveLog => {
                if let Some(files) = self.logs.get_mut(&log) {
                    files.retain(|_, _| dice.one_in(2));
                }
            }
            DiskOp::ReplaceFile { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. } => {
                if dice.one_in(2) {
                    let _told_otherwise = self.apply(log, under_way);
                }
            }
            DiskOp::List | DiskOp::ReadFile { .. } | DiskOp::Read { .. } => {}
        }
    }

    /// The answer is `Ok`: what stands behind it is promised from now on.
    fn acknowledge(&mut self, log: LogId, what: &DiskOp) {
        if let DiskOp::Write { segment, position, parts } = what {
            let end = position + parts.iter().map(|part| part.len() as u64).sum::<u64>();
            let file = self.segment_mut(log, *segment);
            file.acknowledged_end = file.acknowledged_end.max(end);
        }
    }

    /// Some sectors of a write under way are there already.
    fn show_early_sectors(&mut self, log: LogId, segment: SegmentId, number: u64) {
        let mut dice = self.dice("early sectors", number);
        let of_log = (log, OpId(0))..=(log, OpId(u64::MAX));
        let found = self.under_way.range_mut(of_log).find_map(|(_, under_way)| {
            let DiskOp::Write { segment: written, position, parts } = &under_way.what else { return None };
            (*written == segment).then(|| (*position, parts.clone(), &mut under_way.before))
        });
        let Some((position, parts, before)) = found else { return };
        let mut bytes = parts.concat();
        bytes.resize(padded(&parts) as usize, 0);
        let files = self.logs.get_mut(&log);
        let Some(file) = files.and_then(|files| files.get_mut(&FileName::Segment(segment))) else { return };
        let range = position as usize..position as usize + bytes.len();
        before.get_or_insert_with(|| file.bytes[range].to_vec());
        file.write_sectors(position, &bytes, |_| dice.one_in(3));
    }
}

/// In the file, of what changes bytes in place.
fn written_range(what: &DiskOp) -> std::ops::Range<u64> {
    match what {
        DiskOp::Write { position, parts, .. } => *position..position + padded(parts),
        DiskOp::Zero { from, to, .. } => *from..*to,
        DiskOp::ReplaceFile { bytes, .. } => 0..bytes.len() as u64,
        DiskOp::List
        | DiskOp::ReadFile { .. }
        | DiskOp::MakeSegment { .. }
        | DiskOp::Read { .. }
        | DiskOp::RetireSegment { .. }
        | DiskOp::RemoveFile { .. }
        | DiskOp::RemoveLog => 0..0,
    }
}

fn io_error(what: &DiskOp) -> DiskError {
    DiskError { kind: DiskErrorKind::Io, what: format!("{:?}: input/output error", Operation::of(what)) }
}
