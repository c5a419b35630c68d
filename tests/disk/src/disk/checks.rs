//! What a log has promised never to ask.

use bytes::Bytes;
use storage_frame::LogId;
use storage_log::{BLOCK_BYTES, DiskOp, FileName, OpId, SegmentId};

use super::ModelDisk;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl ModelDisk {
    pub(super) fn check(&self, log: LogId, what: &DiskOp) {
        let of_log = (log, OpId(0))..=(log, OpId(u64::MAX));
        for under_way in self.under_way.range(of_log).map(|(_, under_way)| &under_way.what) {
            check_beside(what, under_way);
        }
        let segment_bytes = |segment: SegmentId| {
            let file = self.file(log, FileName::Segment(segment));
            file.unwrap_or_else(|| panic!("log {log}: {what:?} without a file")).len() as u64
        };
        match what {
            DiskOp::Write { segment, position, parts } => {
                assert!(position.is_multiple_of(BLOCK));
                let end = position + padded(parts);
                assert!(end <= segment_bytes(*segment), "log {log}: write to {position}..{end} without room");
            }
            DiskOp::Zero { segment, from, to, .. } => {
                assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK));
                // A zero that was refused or torn may have grown the file already, by zeros.
                assert!(from < to && *from <= segment_bytes(*segment).next_multiple_of(BLOCK));
            }
            DiskOp::MakeSegment { segment } => {
                let name = FileName::Segment(*segment);
                let is_there = self.file(log, name).is_some();
                assert!(!is_there || self.uncertain.contains(&(log, name)), "log {log}: {name} made twice");
            }
            DiskOp::RetireSegment { segment } => {
                let name = FileName::Segment(*segment);
                let is_there = self.file(log, name).is_some();
                assert!(is_there || self.uncertain.contains(&(log, name)), "log {log}: no {name} to retire");
            }
            DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::Read { .. }
            | DiskOp::RemoveFile { .. }
            | DiskOp::RemoveLog => {}
        }
    }
}

/// Bytes of a write, filled up to a whole block.
pub(super) fn padded(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum::<u64>().next_multiple_of(BLOCK)
}

fn check_beside(new: &DiskOp, old: &DiskOp) {
    let (Some(new_segment), Some(old_segment)) = (segment_of(new), segment_of(old)) else {
        let is_alone = !matches!(new, DiskOp::RemoveLog) && !matches!(old, DiskOp::RemoveLog);
        assert!(is_alone, "{new:?} beside {old:?}");
        return;
    };
    // Compaction writes beside appends, to files that nothing refers to yet.
    let are_writes = matches!((new, old), (DiskOp::Write { .. }, DiskOp::Write { .. }));
    let are_of_a_kind = new_segment.is_rewritten() == old_segment.is_rewritten();
    assert!(!are_writes || !are_of_a_kind, "two writes at once");
    if new_segment != old_segment {
        return;
    }
    let is_clash = takes_away(new) && !is_index_removal(old) || takes_away(old) && !is_index_removal(new);
    assert!(!is_clash, "{new:?} beside {old:?}");
    if let (DiskOp::Write { position, parts, .. }, DiskOp::Zero { from, .. })
    | (DiskOp::Zero { from, .. }, DiskOp::Write { position, parts, .. }) = (new, old)
    {
        assert!(position + padded(parts) <= *from, "write and zero overlap");
    }
    let are_zeros = matches!((new, old), (DiskOp::Zero { .. }, DiskOp::Zero { .. }));
    assert!(!are_zeros, "two zeros at once");
}

fn takes_away(what: &DiskOp) -> bool {
    matches!(
        what,
        DiskOp::RetireSegment { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::RemoveFile { name: FileName::Segment(_) }
    )
}

fn is_index_removal(what: &DiskOp) -> bool {
    matches!(what, DiskOp::RemoveFile { name: FileName::Index(_) })
}

fn segment_of(what: &DiskOp) -> Option<SegmentId> {
    match what {
        DiskOp::MakeSegment { segment }
        | DiskOp::Zero { segment, .. }
        | DiskOp::Write { segment, .. }
        | DiskOp::Read { segment, .. }
        | DiskOp::RetireSegment { segment } => Some(*segment),
        DiskOp::ReadFile { name, .. } | DiskOp::ReplaceFile { name, .. } | DiskOp::RemoveFile { name } => {
            match name {
                FileName::Segment(segment) | FileName::Index(segment) => Some(*segment),
                FileName::Checkpoint => None,
            }
        }
        DiskOp::List | DiskOp::RemoveLog => None,
    }
}
