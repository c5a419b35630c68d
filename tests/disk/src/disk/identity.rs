//! The identity: a small file, replaced in two durable steps. It is no log's, and is asked for by the node itself.

use bytes::Bytes;
use storage_log::{DiskError, DiskErrorKind};

use super::ModelDisk;
use crate::injected::{FaultKind, Place, Zone};
use crate::stored::Stored;

#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    pub(super) file: Option<Stored>,
    /// Written aside and synced, not renamed.
    pub(super) next: Option<Bytes>,
    asked_count: u64,
}

impl ModelDisk {
    /// Reads it; `None`: there is none.
    ///
    /// # Errors
    /// A read error.
    pub fn identity(&mut self) -> Result<Option<Bytes>, DiskError> {
        self.harm_at_rest(Zone::Identity, Place::Identity);
        let number = self.next_asked();
        let Some(file) = &self.identity.file else { return Ok(None) };
        let range = 0..file.len();
        let is_readable = file.is_readable(&range);
        let rate = self.faults.in_zone(Zone::Identity).read_error;
        if rate.hits(|| self.dice("identity read", number)) {
            self.record(FaultKind::ReadError, Zone::Identity, Place::Identity, range);
        } else if is_readable {
            return Ok(self.identity.file.as_ref().map(|file| Bytes::copy_from_slice(&file.bytes)));
        }
        Err(error("identity: read error"))
    }

    /// First step: the new bytes stand aside. A crash from here to the end of the second step leaves either.
    pub fn begin_identity(&mut self, bytes: Bytes) {
        self.identity.next = Some(bytes);
    }

    /// Second step: it is replaced, durably.
    ///
    /// # Errors
    /// A write or sync error: it is what it was or what it was to be.
    ///
    /// # Panics
    /// Without a first step.
    pub fn end_identity(&mut self) -> Result<(), DiskError> {
        let next = self.identity.next.take().expect("the first step was taken");
        let number = self.next_asked();
        let rates = *self.faults.in_zone(Zone::Identity);
        let range = 0..next.len() as u64;
        if rates.write_error.hits(|| self.dice("identity write error", number)) {
            self.record(FaultKind::WriteError, Zone::Identity, Place::Identity, range);
            if self.dice("identity replaced in spite of it", number).one_in(2) {
                self.set_identity(next);
            }
            return Err(error("identity: sync error"));
        }
        if rates.lost_write.hits(|| self.dice("identity lost", number)) {
            self.record(FaultKind::LostWrite, Zone::Identity, Place::Identity, range);
            return Ok(());
        }
        self.set_identity(next);
        Ok(())
    }

    /// Both steps at once.
    ///
    /// # Errors
    /// As [`end_identity`](Self::end_identity).
    pub fn replace_identity(&mut self, bytes: Bytes) -> Result<(), DiskError> {
        self.begin_identity(bytes);
        self.end_identity()
    }

    pub(super) fn crash_identity(&mut self) {
        if let Some(next) = self.identity.next.take() {
            let is_done = self.dice("crash identity", self.crash_count).one_in(2);
            let kind = if is_done { FaultKind::Unanswered } else { FaultKind::Undone };
            self.record(kind, Zone::Identity, Place::Identity, 0..next.len() as u64);
            if is_done {
                self.set_identity(next);
            }
        }
    }

    fn set_identity(&mut self, bytes: Bytes) {
        let inode = self.next_inode();
        self.identity.file = Some(Stored::whole(inode, bytes.to_vec()));
    }

    fn next_asked(&mut self) -> u64 {
        self.identity.asked_count += 1;
        self.identity.asked_count
    }
}

fn error(what: &str) -> DiskError {
    DiskError { kind: DiskErrorKind::Io, what: what.to_owned() }
}
