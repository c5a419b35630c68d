//! What a disk has done, counted up since it was made.

use storage_log::LatencyHistogram;

/// One disk's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Appends: durable when counted.
    pub write: LatencyHistogram,
    pub write_bytes: u64,
    pub read: LatencyHistogram,
    pub read_bytes: u64,
    /// Making room in segments, per operation.
    pub zero: LatencyHistogram,
    /// Zeros written; room that was only set aside has none.
    pub zero_bytes: u64,
    /// Everything else: small files, directories, removals.
    pub other: LatencyHistogram,
    pub failed: u64,
    pub segments_recycled: u64,
    pub segments_created: u64,
    /// Now: descriptors kept open.
    pub open_files: u64,
    /// Now: retired segments waiting to be recycled.
    pub spares: u64,
}
