//! The bounds of one core's disk.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// Descriptors kept open between operations; above it, any that is not used just now goes.
    pub open_files_max: usize,
    /// A file unused for this long is closed, so that an idle partition holds no descriptor.
    pub open_files_idle: Duration,
    /// Retired segments kept to be recycled.
    pub spares_max: usize,
    /// Spares are deleted instead of kept while less than this is free.
    pub spares_free_bytes_min: u64,
    /// Bytes written at a time when a segment is filled with zeros.
    pub zero_bytes_max: usize,
    /// Writes under way at the same time, and as many of all other operations; more wait in order of arrival.
    pub operations_max: usize,
    /// Memory kept in write buffers between writes.
    pub write_buffer_bytes_max: usize,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            open_files_max: 256,
            open_files_idle: Duration::from_secs(10),
            spares_max: 4,
            spares_free_bytes_min: 2 << 30,
            zero_bytes_max: 1 << 20,
            operations_max: 128,
            write_buffer_bytes_max: 8 << 20,
        }
    }
}
