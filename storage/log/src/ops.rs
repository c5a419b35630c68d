//! Operations asked for and not yet answered, each with what it was for.

use crate::config::READ_ATTEMPTS_MAX;
use crate::disk_op::{DiskErrorKind, DiskOp, DiskResult, OpId, SegmentId};
use crate::event::ReadId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Open,
    Write(SegmentId),
    Zero {
        segment: SegmentId,
        to: u64,
    },
    Make(SegmentId),
    /// Of a spare whose header cannot be read.
    Discard(SegmentId),
    LoadTail(SegmentId),
    Checkpoint,
    LoadIndex(SegmentId),
    /// The stored beginning of an index whose end is in memory.
    MergeIndex(SegmentId),
    SaveIndex(SegmentId),
    Read {
        job: ReadId,
        segment: SegmentId,
    },
    Retire(SegmentId),
    RemoveIndex(SegmentId),
    RemoveLog,
    /// Of one that is compacted.
    CompactRead(SegmentId),
    /// These four of the file that compaction writes.
    CompactMake(SegmentId),
    CompactZero {
        segment: SegmentId,
        to: u64,
    },
    CompactWrite(SegmentId),
    CompactDiscard(SegmentId),
}

impl Purpose {
    /// The segment whose files it uses: they must not go away meanwhile.
    fn segment(self) -> Option<SegmentId> {
        match self {
            Self::Write(segment)
            | Self::Zero { segment, .. }
            | Self::Make(segment)
            | Self::Discard(segment)
            | Self::LoadTail(segment)
            | Self::LoadIndex(segment)
            | Self::MergeIndex(segment)
            | Self::SaveIndex(segment)
            | Self::Read { segment, .. }
            | Self::Retire(segment)
            | Self::RemoveIndex(segment)
            | Self::CompactRead(segment)
            | Self::CompactMake(segment)
            | Self::CompactZero { segment, .. }
            | Self::CompactWrite(segment)
            | Self::CompactDiscard(segment) => Some(segment),
            Self::Open | Self::Checkpoint | Self::RemoveLog => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ops {
    asked_count: u64,
    /// Not yet taken by the owner.
    wanted: Vec<(OpId, DiskOp)>,
    /// Taken or wanted. Few: one write, one zero, a checkpoint, the reads of the moment.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    id: OpId,
    purpose: Purpose,
    /// Of what only reads: to ask it again.
    read: Option<Box<Again>>,
}

#[derive(Debug)]
struct Again {
    op: DiskOp,
    attempt_count: u32,
}

impl Ops {
    pub(crate) fn ask(&mut self, purpose: Purpose, op: DiskOp) {
        let only_reads = matches!(op, DiskOp::List | DiskOp::ReadFile { .. } | DiskOp::Read { .. });
        let read = only_reads.then(|| Box::new(Again { op: op.clone(), attempt_count: 1 }));
        self.push(purpose, op, read);
    }

    fn push(&mut self, purpose: Purpose, op: DiskOp, read: Option<Box<Again>>) {
        let id = OpId(self.asked_count);
        self.asked_count += 1;
        self.wanted.push((id, op));
        self.open.push(Open { id, purpose, read });
    }

    pub(crate) fn take(&mut self, out: &mut Vec<(OpId, DiskOp)>) {
        out.append(&mut self.wanted);
    }

    /// What `id` was for; `None`: it was a read that failed in a way that may pass, and it is asked again.
    ///
    /// # Panics
    /// When `id` was not asked for or has been answered already.
    pub(crate) fn on_answer(&mut self, id: OpId, result: &DiskResult) -> Option<Purpose> {
        let Open { purpose, read, .. } = self.close(id);
        let has_failed = result.as_ref().is_err_and(|error| error.kind == DiskErrorKind::Io);
        match read {
            Some(mut again) if has_failed && again.attempt_count < READ_ATTEMPTS_MAX => {
                reach::mark!("log.read_asked_again");
                again.attempt_count += 1;
                self.push(purpose, again.op.clone(), Some(again));
                None
            }
            _ => Some(purpose),
        }
    }

    fn close(&mut self, id: OpId) -> Open {
        let at = self.open.iter().position(|open| open.id == id).expect("an answer to an open operation");
        self.open.swap_remove(at)
    }

    /// Takes back what nobody has seen yet.
    pub(crate) fn withdraw_wanted(&mut self) {
        for (id, _) in std::mem::take(&mut self.wanted) {
            self.close(id);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn any(&self, purpose: impl Fn(Purpose) -> bool) -> bool {
        self.open.iter().any(|open| purpose(open.purpose))
    }

    pub(crate) fn uses(&self, segment: SegmentId) -> bool {
        self.any(|purpose| purpose.segment() == Some(segment))
    }

    pub(crate) fn shrink(&mut self) {
        self.wanted.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}
