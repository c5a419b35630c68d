//! What the owner of a log may set, and the limits that are no settings.

use std::time::Duration;

use storage_frame::FRAME_BYTES_MAX;

use crate::disk_op::BLOCK_BYTES;

/// A log's settings, changeable while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u64,
    /// A segment whose first append is older is rolled at the next append or tick.
    pub segment_age_max: Duration,
    /// `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Compared with the largest timestamp of a sealed segment. `None`: no limit.
    pub retention_age: Option<Duration>,
    /// `write.caching`: `Some(d)` holds writes back to gather more, at most this long; `None`: write at the end
    /// of every turn.
    pub write_back_delay: Option<Duration>,
}

/// A write gathers staged frames up to this, and at least one frame.
pub(crate) const WRITE_BYTES_MAX: usize = 1 << 20;
/// A read of frames asks the disk for no more at once, unless one frame is larger.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// A read that fails is asked so often before its error is believed: a device that lost a command or was being
/// reset answers the next one.
pub(crate) const READ_ATTEMPTS_MAX: u32 = 4;
/// Durable frames kept in memory per log; the owner shrinks it further when memory is short.
pub(crate) const CACHE_BYTES_MAX: usize = 4 << 20;
/// One index entry for this many bytes of frames.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 64 << 10;
/// Room ahead of the writer: twice this at first (so that many logs with little in them cost little), twice as much
/// whenever half of the last step is used up, and at most `ROOM_STEP_MAX_BYTES`.
pub(crate) const ROOM_STEP_BEFORE_BYTES: u64 = 32 << 10;
pub(crate) const ROOM_STEP_MAX_BYTES: u64 = 32 << 20;
/// Room for writes of at least so many bytes, in the mean, is only set aside and not filled with zeros: writing everything
/// twice costs them the bandwidth of the device, what the file system notes for each some of their latency.
pub(crate) const BULK_WRITE_BYTES: u64 = 128 << 10;
/// An owner's state in the checkpoint is no larger.
pub const APP_STATE_BYTES_MAX: usize = 16 << 20;
/// Without an append for this long a log gives back its memory.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(5);
/// Retention, ageing and idleness are looked at this often, however often the log is ticked.
pub(crate) const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);

/// A checkpoint is due after this many bytes (but not more often than `CHECKPOINT_PAUSE`)...
pub(crate) const CHECKPOINT_BYTES: u64 = 16 << 20;
pub(crate) const CHECKPOINT_PAUSE: Duration = Duration::from_millis(100);
/// ...or after this many when the last one is that old.
pub(crate) const CHECKPOINT_BYTES_SOON: u64 = 64 << 10;
pub(crate) const CHECKPOINT_AGE: Duration = Duration::from_secs(2);
/// An owner who does not give its state by then gets a checkpoint with the state it gave before.
pub(crate) const CHECKPOINT_STATE_WAIT: Duration = Duration::from_secs(1);

// A step of room is whole blocks, and the largest frame must be readable in one go.
const _: () = assert!(ROOM_STEP_BEFORE_BYTES.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
