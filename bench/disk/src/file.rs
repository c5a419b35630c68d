//! The file that everything is done to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::aligned::Aligned;

const CHUNK_BYTES: usize = 1 << 20;

/// Every block of it has been written once, so that later writes change no extent. Removed when it is dropped.
#[derive(Debug)]
pub struct ProbeFile {
    path: PathBuf,
    bytes: u64,
}

impl ProbeFile {
    /// `bytes` in whole MiB, or as many as get there in `time_max`; one at least.
    ///
    /// # Errors
    /// The system's; nothing is left then.
    pub fn make(path: &Path, bytes: u64, time_max: Duration) -> io::Result<Self> {
        let flags = libc::O_DIRECT;
        let file = OpenOptions::new().create_new(true).write(true).custom_flags(flags).open(path)?;
        let mut made = Self { path: path.to_owned(), bytes: 0 };
        let zeros = Aligned::filled(CHUNK_BYTES, 0);
        let start = Instant::now();
        while made.bytes < bytes && (made.bytes == 0 || start.elapsed() < time_max) {
            file.write_all_at(zeros.bytes(), made.bytes)?;
            made.bytes += CHUNK_BYTES as u64;
        }
        file.sync_all()?;
        Ok(made)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For reading and for writing durably, past the page cache.
    pub(crate) fn open(&self) -> io::Result<File> {
        let flags = libc::O_DIRECT | libc::O_DSYNC;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path)
    }
}

impl Drop for ProbeFile {
    fn drop(&mut self) {
        // Nobody to tell; what is left behind says by its name what it is.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_size_and_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probe");
        let file = ProbeFile::make(&path, 2 << 20, Duration::MAX).unwrap();
        assert_eq!((file.bytes(), fs::metadata(&path).unwrap().len()), (2 << 20, 2 << 20));
        assert!(ProbeFile::make(&path, 1 << 20, Duration::MAX).is_err(), "nothing is overwritten");
        drop(file);
        assert!(!path.exists());
        assert_eq!(ProbeFile::make(&path, 64 << 20, Duration::ZERO).unwrap().bytes(), 1 << 20);
    }
}
