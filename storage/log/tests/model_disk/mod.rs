//! One log's directory and the spares beside it, in memory, with the faults a real one has.
//!
//! What must hold of it:
//! - an operation answered `Ok` survives every crash, whole;
//! - a `Write` or `Zero` that a crash meets may have happened in any of its 512-byte sectors and not in others;
//! - every other operation that a crash meets has happened or has not;
//! - while a write is under way, reads may see any of its sectors already.
//!
//! It refuses (panics) what the log has promised never to ask: two writes at once, a write without room, a
//! write over a `Zero` under way, a file taken away under an operation.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage_log::{
    BLOCK_BYTES, DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, OpId, SegmentId,
};

pub const SECTOR_BYTES: usize = 512;

/// A small generator: the whole run grows from one seed.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Debug, Default)]
pub struct ModelDisk {
    pub files: BTreeMap<FileName, Vec<u8>>,
    /// Segment files of former lives, this log's and others'.
    pub spares: Vec<Vec<u8>>,
    pub spares_max: usize,
    pending: Vec<(OpId, DiskOp)>,
    /// Everything that takes space is refused.
    pub is_full: bool,
    /// Writes and replacements of files fail.
    pub is_broken: bool,
    /// Operations completed, by kind: lists, small reads, replaces, makes, zeros, writes, reads, retires, removes.
    pub done: BTreeMap<&'static str, u64>,
}

impl ModelDisk {
    pub fn with(files: BTreeMap<FileName, Vec<u8>>, spares: Vec<Vec<u8>>) -> Self {
        Self { files, spares, spares_max: 4, ..Self::default() }
    }

    pub fn submit(&mut self, op: OpId, what: DiskOp) {
        self.check(&what);
        self.pending.push((op, what));
    }

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    #[allow(dead_code, reason = "not every test looks")]
    pub fn pending(&self) -> impl Iterator<Item = &DiskOp> {
        self.pending.iter().map(|(_, what)| what)
    }

    /// Completes the `nth` of the pending operations.
    pub fn complete(&mut self, nth: usize, dice: &mut Dice) -> (OpId, DiskResult) {
        let (op, what) = self.pending.remove(nth);
        if let DiskOp::Read { segment, .. } = &what {
            self.leak_sectors(*segment, dice);
        }
        *self.done.entry(kind(&what)).or_default() += 1;
        (op, self.apply(&what, dice))
    }

    /// Power is lost: what is under way happens in part.
    pub fn crash(&mut self, dice: &mut Dice) {
        for (_, what) in std::mem::take(&mut self.pending) {
            match &what {
                DiskOp::Write { segment, position, parts } => {
                    let luck = dice.below(5);
                    let blocks = dice.roll();
                    self.write_sectors(*segment, *position, parts, |sector| match luck {
                        0 => false,
                        1 => true,
                        // Devices like to keep blocks together.
                        2 | 3 => blocks >> (sector * SECTOR_BYTES / BLOCK_BYTES % 64) & 1 == 1,
                        _ => dice.one_in(2),
                    });
                }
                DiskOp::Zero { segment, from, to } => {
                    // The file may have grown by any part of it; what was not written reads as zeros.
                    let grown = from + dice.below(to - from + 1);
                    let file = self.segment(*segment);
                    file.resize(file.len().max(grown as usize), 0);
                }
                _ if dice.one_in(2) => {
                    let _lost_with_the_process = self.apply(&what, dice);
                }
                _ => {}
            }
        }
    }

    fn check(&self, what: &DiskOp) {
        for (_, other) in &self.pending {
            let (Some(new), Some(old)) = (segment_of(what), segment_of(other)) else {
                let is_alone = !matches!(what, DiskOp::RemoveLog) && !matches!(other, DiskOp::RemoveLog);
                assert!(is_alone, "{what:?} beside {other:?}");
                continue;
            };
            assert!(
                !matches!((what, other), (DiskOp::Write { .. }, DiskOp::Write { .. })),
                "two writes at once"
            );
            if new != old {
                continue;
            }
            let takes_away = |op: &DiskOp| {
                matches!(op, DiskOp::RetireSegment { .. } | DiskOp::MakeSegment { .. })
                    || matches!(op, DiskOp::RemoveFile { name: FileName::Segment(_) })
            };
            let is_index = |op: &DiskOp| matches!(op, DiskOp::RemoveFile { name: FileName::Index(_) });
            let is_clash = takes_away(what) && !is_index(other) || takes_away(other) && !is_index(what);
            assert!(!is_clash, "{what:?} beside {other:?}");
            if let (DiskOp::Write { position, parts, .. }, DiskOp::Zero { from, .. })
            | (DiskOp::Zero { from, .. }, DiskOp::Write { position, parts, .. }) = (what, other)
            {
                assert!(position + padded(parts) as u64 <= *from, "write and zero overlap");
            }
            assert!(
                !matches!((what, other), (DiskOp::Zero { .. }, DiskOp::Zero { .. })),
                "two zeros at once"
            );
        }
        match what {
            DiskOp::Write { segment, position, parts } => {
                assert!(position.is_multiple_of(BLOCK_BYTES as u64));
                let bytes = self.files[&FileName::Segment(*segment)].len() as u64;
                assert!(position + padded(parts) as u64 <= bytes, "write to {position} without room");
            }
            DiskOp::Zero { segment, from, to } => {
                assert!(from.is_multiple_of(BLOCK_BYTES as u64) && to.is_multiple_of(BLOCK_BYTES as u64));
                let bytes = self.files[&FileName::Segment(*segment)].len() as u64;
                // A zero that was refused or torn may have grown the file already, by zeros.
                assert!(from < to && *from <= bytes.next_multiple_of(BLOCK_BYTES as u64));
            }
            DiskOp::MakeSegment { segment } => {
                assert!(!self.files.contains_key(&FileName::Segment(*segment)), "made twice");
            }
            _ => {}
        }
    }

    fn apply(&mut self, what: &DiskOp, dice: &mut Dice) -> DiskResult {
        if self.is_full
            && matches!(what, DiskOp::Zero { .. } | DiskOp::MakeSegment { .. } | DiskOp::ReplaceFile { .. })
        {
            return Err(DiskError { kind: DiskErrorKind::NoSpace, what: "full".to_owned() });
        }
        match what {
            DiskOp::List => Ok(DiskReply::Listed(
                self.files.iter().map(|(name, file)| (*name, file.len() as u64)).collect(),
            )),
            DiskOp::ReadFile { name, bytes_max } => {
                let file = self.files.get(name).ok_or_else(|| not_found(*name))?;
                assert!(file.len() <= *bytes_max);
                Ok(DiskReply::Bytes(Bytes::copy_from_slice(file)))
            }
            DiskOp::Write { .. } | DiskOp::ReplaceFile { .. } if self.is_broken => {
                Err(DiskError { kind: DiskErrorKind::Io, what: "broken".to_owned() })
            }
            DiskOp::ReplaceFile { name, bytes } => {
                self.files.insert(*name, bytes.to_vec());
                Ok(DiskReply::Done)
            }
            DiskOp::MakeSegment { segment } => {
                let file = match self.spares.len() {
                    0 => Vec::new(),
                    count => self.spares.swap_remove(dice.below(count as u64) as usize),
                };
                let first_block = Bytes::copy_from_slice(&file[..file.len().min(BLOCK_BYTES)]);
                let file_bytes = file.len() as u64;
                self.files.insert(FileName::Segment(*segment), file);
                Ok(DiskReply::Made { file_bytes, first_block })
            }
            DiskOp::Zero { segment, from, to } => {
                let file = self.segment(*segment);
                file.truncate(*from as usize);
                file.resize(*to as usize, 0);
                Ok(DiskReply::Done)
            }
            DiskOp::Write { segment, position, parts } => {
                self.write_sectors(*segment, *position, parts, |_| true);
                Ok(DiskReply::Done)
            }
            DiskOp::Read { segment, position, bytes } => {
                let name = FileName::Segment(*segment);
                let file = self.files.get(&name).ok_or_else(|| not_found(name))?;
                let from = (*position as usize).min(file.len());
                Ok(DiskReply::Bytes(Bytes::copy_from_slice(&file[from..(from + bytes).min(file.len())])))
            }
            DiskOp::RetireSegment { segment } => {
                let file =
                    self.files.remove(&FileName::Segment(*segment)).expect("a retired segment is there");
                if self.spares.len() < self.spares_max {
                    self.spares.push(file);
                }
                Ok(DiskReply::Done)
            }
            DiskOp::RemoveFile { name } => {
                self.files.remove(name);
                Ok(DiskReply::Done)
            }
            DiskOp::RemoveLog => {
                self.files.clear();
                Ok(DiskReply::Done)
            }
        }
    }

    fn segment(&mut self, segment: SegmentId) -> &mut Vec<u8> {
        self.files.get_mut(&FileName::Segment(segment)).expect("the segment's file is there")
    }

    fn write_sectors(
        &mut self,
        segment: SegmentId,
        position: u64,
        parts: &[Bytes],
        mut lands: impl FnMut(usize) -> bool,
    ) {
        let mut bytes = parts.concat();
        bytes.resize(padded(parts), 0);
        let file = self.segment(segment);
        for (nth, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if lands(nth) {
                let at = position as usize + nth * SECTOR_BYTES;
                file[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }

    /// Some sectors of a write under way are there already.
    fn leak_sectors(&mut self, segment: SegmentId, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        for (_, what) in &pending {
            if let DiskOp::Write { segment: written, position, parts } = what
                && *written == segment
            {
                self.write_sectors(segment, *position, parts, |_| dice.one_in(3));
            }
        }
        self.pending = pending;
    }
}

fn padded(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum::<usize>().next_multiple_of(BLOCK_BYTES)
}

fn not_found(name: FileName) -> DiskError {
    DiskError { kind: DiskErrorKind::NotFound, what: format!("{name:?}") }
}

fn kind(what: &DiskOp) -> &'static str {
    match what {
        DiskOp::List => "list",
        DiskOp::ReadFile { .. } => "read file",
        DiskOp::ReplaceFile { name: FileName::Checkpoint, .. } => "checkpoint",
        DiskOp::ReplaceFile { .. } => "replace",
        DiskOp::MakeSegment { .. } => "make",
        DiskOp::Zero { .. } => "zero",
        DiskOp::Write { .. } => "write",
        DiskOp::Read { .. } => "read",
        DiskOp::RetireSegment { .. } => "retire",
        DiskOp::RemoveFile { .. } => "remove",
        DiskOp::RemoveLog => "remove log",
    }
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
