//! Faults that happened: where, what, and what the house promises in spite of them.

use std::ops::Range;

use storage_frame::LogId;
use storage_log::FileName;

/// Parts of the disk that fail with different consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    Identity,
    /// The segment of a log that takes its writes, and files made ahead of it.
    Written,
    /// Segments with a written one behind them.
    Sealed,
    Index,
    Checkpoint,
    Spares,
}

impl Zone {
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Written, Self::Sealed, Self::Index, Self::Checkpoint, Self::Spares];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A crash met it: it happened in part.
    Torn,
    /// A crash met it: it happened, unanswered.
    Unanswered,
    /// A crash met it: nothing of it happened.
    Undone,
    /// EIO once.
    ReadError,
    /// Unreadable until rewritten.
    LatentError,
    BitFlip,
    /// The file is gone.
    LostFile,
    /// EIO to a change, which may have happened wholly or in part.
    WriteError,
    /// A change answered `Ok` that did not happen.
    LostWrite,
    /// A write answered `Ok` whose bytes went elsewhere: this is where they are missing.
    Misdirected,
    /// This is where a misdirected write's bytes went.
    Overwritten,
    /// A write of an earlier life of the process landed in this one.
    LateWrite,
    NoSpace,
    Slow,
    Stall,
}

/// What one node promises when a fault has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Everything: nobody loses anything by it, though a log may refuse writes until it is opened again.
    Kept,
    /// To notice and refuse, never to serve or to build on wrong bytes; but for what `storage/FORMAT.md` names as not
    /// told from a torn tail, and a write that outlives its process.
    Noticed,
}

impl FaultKind {
    #[must_use]
    pub fn promise(self, zone: Zone) -> Promise {
        match self {
            Self::Torn
            | Self::Unanswered
            | Self::Undone
            | Self::ReadError
            | Self::WriteError
            | Self::NoSpace
            | Self::Slow
            | Self::Stall => Promise::Kept,
            Self::LatentError | Self::BitFlip => match zone {
                Zone::Identity | Zone::Written | Zone::Sealed => Promise::Noticed,
                // Put together again from the frames; a spare that does not verify is not recycled.
                Zone::Index | Zone::Checkpoint | Zone::Spares => Promise::Kept,
            },
            Self::LostFile => match zone {
                // A log without a checkpoint may be one that never was.
                Zone::Identity | Zone::Written | Zone::Sealed | Zone::Checkpoint => Promise::Noticed,
                Zone::Index | Zone::Spares => Promise::Kept,
            },
            Self::LostWrite => match zone {
                // An older checkpoint may name segments that are gone, an older identity gives an epoch twice.
                Zone::Identity | Zone::Written | Zone::Sealed | Zone::Checkpoint => Promise::Noticed,
                Zone::Index | Zone::Spares => Promise::Kept,
            },
            Self::Misdirected | Self::Overwritten | Self::LateWrite => match zone {
                Zone::Identity | Zone::Written | Zone::Sealed | Zone::Checkpoint => Promise::Noticed,
                Zone::Index | Zone::Spares => Promise::Kept,
            },
        }
    }
}

/// Where a fault struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Identity,
    File {
        log: LogId,
        name: FileName,
    },
    /// A log's directory as a whole.
    Directory {
        log: LogId,
    },
    Spare {
        core: u8,
    },
    /// All of it.
    Disk,
}

/// A fault that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    pub kind: FaultKind,
    pub zone: Zone,
    pub place: Place,
    /// In the file; empty where no bytes are meant.
    pub bytes: Range<u64>,
    /// Some of these bytes had been answered `Ok` for, in this life or an earlier one, or a crash had left them for
    /// the next opening to find.
    pub hits_acknowledged: bool,
    /// Operations completed before it.
    pub at_operation: u64,
}

impl Injected {
    #[must_use]
    pub fn promise(&self) -> Promise {
        self.kind.promise(self.zone)
    }

    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        match self.place {
            Place::File { log, .. } | Place::Directory { log } => Some(log),
            Place::Identity | Place::Spare { .. } | Place::Disk => None,
        }
    }
}
