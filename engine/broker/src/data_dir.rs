//! The data directory: made, locked for this process alone, and known to be this node's.
//!
//! ```text
//! <data>/lock       flock'ed while a broker runs; holds its process id for people
//! <data>/identity   see `identity`
//! <data>/logs/      one directory per log (`storage/log`)
//! <data>/spare/     segment files to be recycled
//! <data>/tls/       certificates
//! ```
//! The lock is taken before anything is read, and held until the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use engine_meta::identity::{Identity, Wanted};

use crate::identity::{self, IdentityError};
use crate::replace::sync_directory;

const LOCK_NAME: &str = "lock";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "data directory {path} is in use by another broker{}: stop it, or choose another with --data",
        holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(), path = path.display()
    )]
    Locked { path: PathBuf, holder: Option<u32> },
    #[error(
        "data directory {path} cannot be written ({why}): give this user write access or choose another with \
         --data", path = path.display()
    )]
    ReadOnly { path: PathBuf, why: String },
    #[error("data directory {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A directory that is locked and whose life has been counted.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where there is none, locks it, and begins a life of it.
    ///
    /// # Errors
    /// [`DataDirError`]. A refused directory keeps its data and its identity as they were.
    pub fn open(path: &Path, node_id: u32, cluster_id: Option<u128>) -> Result<Self, DataDirError> {
        let fail = |e: io::Error| refuse(path, e);
        make_durably(path).map_err(fail)?;
        let path = &path.canonicalize().map_err(fail)?;
        if let (false, Some(parent)) = (path.join(identity::FILE_NAME).exists(), path.parent()) {
            // A start that was killed may have made it and not got to the sync. A parent that cannot be read is
            // somebody else's, who made the directory.
            let _ = sync_directory(parent);
        }
        let lock = take_lock(path)?;
        for name in ["logs", "spare", "tls"] {
            fs::create_dir_all(path.join(name)).map_err(fail)?;
        }
        sync_directory(path).map_err(fail)?;
        let has_logs = fs::read_dir(path.join("logs")).map_err(fail)?.next().is_some();
        let wanted = Wanted { node_id, cluster_id };
        let identity = identity::begin_life(path, wanted, has_logs).map_err(|error| match error {
            IdentityError::Io { error, .. } => refuse(path, error),
            error @ IdentityError::Refused { .. } => DataDirError::Identity(error),
        })?;
        Ok(Self { path: path.clone(), identity, _lock: lock })
    }

    /// Absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.path.join(identity::FILE_NAME)
    }

    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }
}

/// Makes `path` and what is missing above it; a loss of power takes back none of it.
fn make_durably(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let parents = parents_of_missing(&path);
    fs::create_dir_all(&path)?;
    parents.iter().try_for_each(|parent| sync_directory(parent))
}

/// Where names are entered when `path` is made.
fn parents_of_missing(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().take_while(|ancestor| !ancestor.exists());
    missing.filter_map(Path::parent).map(Path::to_owned).collect()
}

/// The broker that holds the lock of `directory` now: `Some(None)` when it does not say who it is.
#[must_use]
pub fn lock_holder(directory: &Path) -> Option<Option<u32>> {
    let mut file = File::open(directory.join(LOCK_NAME)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_pid(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn take_lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK_NAME);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| refuse(directory, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::Locked { path: directory.to_owned(), holder: read_pid(&mut file) });
        }
        Err(TryLockError::Error(e)) => return Err(refuse(directory, e)),
    }
    match write_pid(&mut file) {
        // The number is for people; a full disk must not refuse a start.
        Err(e) if e.kind() != io::ErrorKind::StorageFull => Err(refuse(directory, e)),
        Ok(()) | Err(_) => Ok(file),
    }
}

/// Over the one before, whose block is there.
fn write_pid(file: &mut File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn refuse(path: &Path, error: io::Error) -> DataDirError {
    if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
        DataDirError::ReadOnly { path: path.to_owned(), why: error.to_string() }
    } else {
        DataDirError::Io { path: path.to_owned(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_directory_is_made_with_its_rooms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let data = DataDir::open(&path, 1, None).unwrap();
        assert!(data.path().is_absolute());
        assert_eq!(data.identity().incarnation, 1);
        for name in ["lock", "identity", "logs", "spare", "tls"] {
            assert!(path.join(name).exists(), "{name}");
        }
    }

    /// The directory's own name was durable nowhere: power lost soon after the first start could take it back
    /// with everything acknowledged in it.
    #[test]
    fn every_directory_a_name_is_entered_in_is_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(parents_of_missing(&at("a/b/c")), [at("a/b"), at("a"), dir.path().to_owned()]);
        make_durably(&at("a/b/c")).unwrap();
        assert!(at("a/b/c").is_dir());
        assert_eq!(parents_of_missing(&at("a/b/c")), [] as [PathBuf; 0]);
        assert_eq!(parents_of_missing(&at("a/b/d")), [at("a/b")]);
    }

    #[test]
    fn a_second_broker_is_refused_and_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), 1, None).unwrap();
        let error = DataDir::open(dir.path(), 1, None).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(error, DataDirError::Locked { holder, .. } if holder == Some(pid)));
        assert!(error.to_string().contains(&format!("in use by another broker (process {pid})")), "{error}");
        assert_eq!(lock_holder(dir.path()), Some(Some(pid)));
        drop(first);
        assert_eq!(lock_holder(dir.path()), None);
        assert_eq!(DataDir::open(dir.path(), 1, None).unwrap().identity().incarnation, 2);
    }

    #[test]
    fn a_file_in_the_directorys_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(DataDir::open(&path, 1, None), Err(DataDirError::Io { .. })));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told_as_such() {
        let error = refuse(Path::new("/x"), io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(error.to_string().starts_with("data directory /x cannot be written"), "{error}");
    }
}
