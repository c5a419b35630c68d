//! A disk in memory that does what `DiskOp` says, whole or not at all. Torn writes are the log's own tests.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use storage_frame::LogId;
use storage_log::disk_op::BLOCK_BYTES;
use storage_log::{DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName};

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    logs: BTreeMap<LogId, BTreeMap<FileName, Vec<u8>>>,
    /// Starts of the node on this disk.
    pub(super) incarnation: u32,
    pub(super) writes_count: usize,
    /// Nothing grows any more.
    pub(super) is_full: bool,
    /// Writes to these fail.
    pub(super) broken: BTreeSet<LogId>,
    /// Small files of these cannot be replaced.
    pub(super) unmarked: BTreeSet<LogId>,
    /// Directories of these cannot be removed.
    pub(super) stuck: BTreeSet<LogId>,
}

impl Disk {
    pub(super) fn has(&self, log: LogId) -> bool {
        self.logs.contains_key(&log)
    }

    /// The log as it was in `copy`.
    pub(super) fn restore(&mut self, log: LogId, copy: &Self) {
        self.logs.insert(log, copy.logs[&log].clone());
    }

    pub(super) fn log_bytes(&self, log: LogId) -> usize {
        self.logs.get(&log).map_or(0, |files| files.values().map(Vec::len).sum())
    }

    /// Flips a bit where `what` stands in the log's first segment that holds it.
    pub(super) fn damage(&mut self, log: LogId, what: &[u8]) {
        let files = self.logs.get_mut(&log).expect("a log on disk");
        for file in files.values_mut() {
            if let Some(at) = file.windows(what.len()).position(|window| window == what) {
                file[at] ^= 1;
                return;
            }
        }
        panic!("nothing to damage");
    }

    pub(super) fn run(&mut self, log: LogId, op: &DiskOp) -> DiskResult {
        let grows =
            matches!(op, DiskOp::MakeSegment { .. } | DiskOp::Zero { .. } | DiskOp::ReplaceFile { .. });
        self.writes_count += usize::from(matches!(op, DiskOp::Write { .. }));
        if self.is_full && grows {
            return Err(fault(DiskErrorKind::NoSpace, "no space left"));
        }
        if self.broken.contains(&log) && matches!(op, DiskOp::Write { .. }) {
            return Err(fault(DiskErrorKind::Io, "input/output error"));
        }
        if self.unmarked.contains(&log) && matches!(op, DiskOp::ReplaceFile { .. }) {
            return Err(fault(DiskErrorKind::Io, "input/output error"));
        }
        if self.stuck.contains(&log) && matches!(op, DiskOp::RemoveLog) {
            return Err(fault(DiskErrorKind::Io, "input/output error"));
        }
        match op {
            DiskOp::RemoveLog => {
                self.logs.remove(&log);
                Ok(DiskReply::Done)
            }
            DiskOp::List => {
                let files = self.logs.get(&log).into_iter().flatten();
                Ok(DiskReply::Listed(files.map(|(name, bytes)| (*name, bytes.len() as u64)).collect()))
            }
            DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::Zero { .. }
            | DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. } => run_on_files(self.logs.entry(log).or_default(), op),
        }
    }
}

fn run_on_files(files: &mut BTreeMap<FileName, Vec<u8>>, op: &DiskOp) -> DiskResult {
    let missing = || fault(DiskErrorKind::NotFound, "no such file");
    match op {
        DiskOp::ReadFile { name, bytes_max } => {
            let file = files.get(name).ok_or_else(missing)?;
            assert!(file.len() <= *bytes_max);
            Ok(DiskReply::Bytes(Bytes::copy_from_slice(file)))
        }
        DiskOp::ReplaceFile { name, bytes } => {
            files.insert(*name, bytes.to_vec());
            Ok(DiskReply::Done)
        }
        DiskOp::MakeSegment { segment } => {
            files.insert(FileName::Segment(*segment), Vec::new());
            Ok(DiskReply::Made { file_bytes: 0, first_block: Bytes::new() })
        }
        DiskOp::Zero { segment, from, to } => {
            let file = files.get_mut(&FileName::Segment(*segment)).ok_or_else(missing)?;
            assert_eq!(file.len() as u64, *from);
            file.resize(*to as usize, 0);
            Ok(DiskReply::Done)
        }
        DiskOp::Write { segment, position, parts } => {
            let file = files.get_mut(&FileName::Segment(*segment)).ok_or_else(missing)?;
            let mut bytes = parts.concat();
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
            let start = *position as usize;
            assert!(start.is_multiple_of(BLOCK_BYTES) && start + bytes.len() <= file.len(), "room was made");
            file[start..start + bytes.len()].copy_from_slice(&bytes);
            Ok(DiskReply::Done)
        }
        DiskOp::Read { segment, position, bytes } => {
            let file = files.get(&FileName::Segment(*segment)).ok_or_else(missing)?;
            let start = (*position as usize).min(file.len());
            let end = (start + bytes).min(file.len());
            Ok(DiskReply::Bytes(Bytes::copy_from_slice(&file[start..end])))
        }
        DiskOp::RetireSegment { segment } => {
            files.remove(&FileName::Segment(*segment)).map(|_| DiskReply::Done).ok_or_else(missing)
        }
        DiskOp::RemoveFile { name } => {
            files.remove(name);
            Ok(DiskReply::Done)
        }
        DiskOp::List | DiskOp::RemoveLog => unreachable!("handled for the whole log"),
    }
}

fn fault(kind: DiskErrorKind, what: &str) -> DiskError {
    DiskError { kind, what: what.into() }
}
