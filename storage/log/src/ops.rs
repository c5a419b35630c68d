//! Operations asked for and not yet answered, each with what it was for.

use crate::disk_op::{DiskOp, OpId, SegmentId};
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
            | Self::RemoveIndex(segment) => Some(segment),
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
    open: Vec<(OpId, Purpose)>,
}

impl Ops {
    pub(crate) fn ask(&mut self, purpose: Purpose, op: DiskOp) {
        let id = OpId(self.asked_count);
        self.asked_count += 1;
        self.wanted.push((id, op));
        self.open.push((id, purpose));
    }

    pub(crate) fn take(&mut self, out: &mut Vec<(OpId, DiskOp)>) {
        out.append(&mut self.wanted);
    }

    /// # Panics
    /// When `id` was not asked for or has been answered already.
    pub(crate) fn finish(&mut self, id: OpId) -> Purpose {
        let at = self.open.iter().position(|(open, _)| *open == id).expect("an answer to an open operation");
        self.open.swap_remove(at).1
    }

    /// Takes back what nobody has seen yet.
    pub(crate) fn withdraw_wanted(&mut self) {
        for (id, _) in std::mem::take(&mut self.wanted) {
            self.finish(id);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn any(&self, purpose: impl Fn(Purpose) -> bool) -> bool {
        self.open.iter().any(|(_, open)| purpose(*open))
    }

    pub(crate) fn uses(&self, segment: SegmentId) -> bool {
        self.any(|purpose| purpose.segment() == Some(segment))
    }

    pub(crate) fn shrink(&mut self) {
        self.wanted.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}
