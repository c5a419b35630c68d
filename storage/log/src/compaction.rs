//! Compaction: of the records of one key the last one stays.
//!
//! A pass reads the frames it has not compacted yet and remembers where each key was last ([`KeyMap`]), then writes
//! the sealed segments anew without what has been overtaken ([`sift`], [`Output`]). Each new segment takes the place of
//! those it was written from in one step: the checkpoint that names it. Why a crash cannot hurt: `storage/FORMAT.md`,
//! "Compaction". When it happens and what it asks of the disk: `log/compacting`.
//!
//! Knows frame headers only: which keys a frame holds comes from outside ([`RecordAccess`]).

pub(crate) mod cursor;
pub(crate) mod key_map;
pub(crate) mod output;
pub(crate) mod sift;

use std::fmt::Debug;
use std::time::Duration;

use storage_frame::Frame;

pub(crate) use cursor::Cursor;
pub(crate) use key_map::KeyMap;
pub(crate) use output::Output;

/// What the payload of a frame holds.
pub trait RecordAccess: Debug + Sync {
    /// Tells of each record in turn.
    ///
    /// # Errors
    /// Why the payload cannot be read: the frame then stays as it is.
    fn visit(&self, frame: &Frame, told: &mut dyn FnMut(KeyAt<'_>)) -> Result<(), String>;

    /// The frame with the records at `kept` (offsets after its base, rising, at least one and not all), standing for
    /// the same offsets.
    ///
    /// # Errors
    /// As for `visit`.
    fn retain(&self, frame: &Frame, kept: &[u32]) -> Result<Frame, String>;
}

/// The records of a frame, when all of it can be read and offsets rise inside of it: a client may have sent anything.
pub(crate) fn visit_whole(
    records: &dyn RecordAccess,
    frame: &Frame,
    told: &mut dyn FnMut(KeyAt<'_>),
) -> Result<(), String> {
    let mut next = 0;
    let mut is_rising = true;
    records.visit(frame, &mut |record| {
        is_rising &= record.offset_delta >= next && record.offset_delta < frame.header().record_count;
        if is_rising {
            next = record.offset_delta + 1;
            told(record);
        }
    })?;
    if is_rising { Ok(()) } else { Err("offsets do not rise inside of the batch".to_owned()) }
}

/// A record as far as compaction looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAt<'a> {
    /// After the frame's base.
    pub offset_delta: u32,
    pub key: Option<&'a [u8]>,
    /// It has no value: its key is to be forgotten.
    pub is_tombstone: bool,
}

/// When a log is compacted, and what stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionRules {
    /// Records younger than this stay as they are.
    pub lag_min: Duration,
    /// What was appended longer ago is compacted whether it pays or not.
    pub lag_max: Option<Duration>,
    /// It pays when this part of what may be compacted has not been.
    pub dirty_ratio: f64,
    /// So long after they were first compacted tombstones stay, for readers to see them.
    pub tombstones_kept: Duration,
}

/// What a pass is given.
#[derive(Debug, Clone, Copy)]
pub struct CompactionTask {
    pub rules: CompactionRules,
    pub records: &'static dyn RecordAccess,
    /// Keys remembered at a time, 28 to 56 bytes each: what does not fit is left to the next pass.
    pub keys_max: usize,
    /// So that nobody can choose keys that meet in memory.
    pub seed: u64,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Of segments that were written anew, and what they became.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub records_removed: u64,
    /// Of them, records without a key: in a compacted log nobody can say which the last one is.
    pub records_without_key: u64,
    /// Left as they are.
    pub frames_unreadable: u64,
    pub took: Duration,
}

/// A read asks for no more, unless one frame is larger: what is done in one turn, which is a millisecond's work where
/// nothing is compressed, and ten where everything is.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// A write carries no more than that and what one read gave.
pub(crate) const WRITE_BYTES: usize = 256 << 10;
/// After the disk had no room, or failed.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);
