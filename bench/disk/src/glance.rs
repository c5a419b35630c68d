//! The probe in about a second: enough to say what to expect of a disk, not to compare two.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::aligned::BLOCK_BYTES;
use crate::busy::Busy;
use crate::device::Device;
use crate::file::ProbeFile;
use crate::latency::Latency;
use crate::probe::measure;
use crate::ring::Kind;

const FILE_BYTES: u64 = 16 << 20;
const MAKING_MAX: Duration = Duration::from_millis(250);
const SMALL_FOR: Duration = Duration::from_millis(400);
const LARGE_FOR: Duration = Duration::from_millis(250);
/// A busy log's write.
const LARGE_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    pub device: Device,
    pub busy: Busy,
    /// Of one durable write of 4 KiB at a time.
    pub sync: Latency,
    /// Durable writes of 256 KiB, one at a time.
    pub mb_per_second: f64,
}

/// Blocks the calling thread for about a second, longer where a single write takes that. Makes a file of 16 MiB in
/// `directory` and removes it.
///
/// # Errors
/// The system's.
pub fn glance(directory: &Path) -> io::Result<Glance> {
    let busy = Busy::now();
    let path = directory.join(format!(".millstream-doctor-{}.zero", std::process::id()));
    let file = ProbeFile::make(&path, FILE_BYTES, MAKING_MAX)?;
    let small = measure(&file, Kind::Write, BLOCK_BYTES, 1, SMALL_FOR)?;
    let large = measure(&file, Kind::Write, LARGE_BYTES, 1, LARGE_FOR)?;
    let bytes = large.latencies.len() * LARGE_BYTES;
    Ok(Glance {
        device: Device::below(directory),
        busy,
        sync: Latency::of(small.latencies).ok_or_else(|| io::Error::other("no write came to an end"))?,
        mb_per_second: bytes as f64 / large.elapsed.as_secs_f64() / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_finds_figures_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let seen = glance(dir.path()).unwrap();
        assert!(seen.sync.count > 0 && seen.mb_per_second > 0.0, "{seen:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
