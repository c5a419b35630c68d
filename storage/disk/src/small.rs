//! Small files and directories: system calls that block, for the runtime's blocking threads.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use storage_log::{DiskError, DiskErrorKind, FileName};

use crate::error::disk_error;
use crate::paths::parse_file_name;

type Result<T> = std::result::Result<T, DiskError>;

trait At<T> {
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| disk_error(what, path, &error))
    }
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).at("sync directory", path)
}

/// Makes `path` and what is missing above it, durably. One that is there may have been made by an attempt that
/// ended before its sync.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    match made {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if parent != path => {
                make_directory(parent)?;
                make_directory(path)
            }
            _ => Err(disk_error("make directory", path, &error)),
        },
        Err(error) => Err(disk_error("make directory", path, &error)),
    }
}

/// Names and sizes in `path`; none where it is absent.
pub(crate) fn list_files(path: &Path) -> Result<Vec<(String, u64)>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", path)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.at("list", path)?;
        let metadata = still_there(entry.metadata()).at("list", path)?.filter(Metadata::is_file);
        if let (Some(metadata), Ok(name)) = (metadata, entry.file_name().into_string()) {
            files.push((name, metadata.len()));
        }
    }
    Ok(files)
}

/// `None`: it was removed since its name was read. Another core may do that, to a spare.
fn still_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A log's own files.
pub(crate) fn list_log(path: &Path) -> Result<Vec<(FileName, u64)>> {
    let files = list_files(path)?;
    Ok(files.into_iter().filter_map(|(name, bytes)| Some((parse_file_name(&name)?, bytes))).collect())
}

/// Names of the directories in `path`.
pub(crate) fn list_directories(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).at("list", path)? {
        let entry = entry.at("list", path)?;
        let is_directory = still_there(entry.file_type()).at("list", path)?.is_some_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_directory, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    Ok(names)
}

pub(crate) fn read_file(path: &Path, bytes_max: usize) -> Result<Bytes> {
    let file = File::open(path).at("open", path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that fits.
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() > bytes_max {
        let what = format!("read {}: more than {bytes_max} bytes", path.display());
        return Err(DiskError { kind: DiskErrorKind::Io, what });
    }
    Ok(Bytes::from(bytes))
}

/// After a crash at any point `path` is what it was or all of `bytes`.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().expect("a file of a log has a directory");
    let temporary = temporary_path(path);
    let written = write_new(&temporary, bytes);
    let mut file = match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(directory)?;
            write_new(&temporary, bytes).at("write", &temporary)?
        }
        other => other.at("write", &temporary)?,
    };
    file.flush().and_then(|()| file.sync_data()).at("sync", &temporary)?;
    fs::rename(&temporary, path).at("rename", &temporary)?;
    sync_directory(directory)
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// An empty file, durably there. It is an error if there is one that is not empty: an empty one may be what an
/// attempt left that ended before its sync, for want of space.
pub(crate) fn make_file(path: &Path) -> Result<()> {
    make_file_with(path, sync_directory)
}

fn make_file_with(path: &Path, sync: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let directory = path.parent().expect("a file of a log has a directory");
    make_directory(directory)?;
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_empty_file(path) => {}
        other => drop(other.at("make", path)?),
    }
    sync(directory)
}

fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// Moves a file durably; at `to` may be nothing but an empty file that a refused attempt left. Returns its size.
/// After an error it is at `from` again, if the disk lets it: what is asked next is not refused for what is at `to`.
pub(crate) fn move_file(from: &Path, to: &Path) -> Result<u64> {
    move_file_with(from, to, sync_directory)
}

fn move_file_with(from: &Path, to: &Path, sync: impl Fn(&Path) -> Result<()>) -> Result<u64> {
    let (left, entered) = (from.parent().expect("has a directory"), to.parent().expect("has a directory"));
    make_directory(entered)?;
    let bytes = fs::metadata(from).at("look at", from)?.len();
    if fs::symlink_metadata(to).is_ok() && !is_empty_file(to) {
        return Err(disk_error("move to", to, &io::Error::from_raw_os_error(libc::EEXIST)));
    }
    fs::rename(from, to).at("rename", from)?;
    // The new place first: a crash in between may leave the file in either, never in neither.
    if let Err(error) = sync(entered).and_then(|()| sync(left)) {
        // The first error is told; where this one fails too the file stays at `to`.
        let _ = fs::rename(to, from);
        return Err(error);
    }
    Ok(bytes)
}

/// Removes a file durably. An absent one is no error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().expect("a file of a log has a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk_error("remove", path, &error)),
    }
}

/// Removes a directory with everything in it, durably. An absent one is no error.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_directory(path.parent().expect("a log has a parent directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk_error("remove", path, &error)),
    }
}

/// Bytes that this process may still write to the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| disk_error("look at", path, &io::Error::from_raw_os_error(libc::EINVAL)))?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a C string and `answer` has room for the structure, both alive during the call.
    let status = unsafe { libc::statvfs(name.as_ptr(), answer.as_mut_ptr()) };
    if status != 0 {
        return Err(disk_error("look at", path, &io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let answer = unsafe { answer.assume_init() };
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_a_left_over_temporary_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/01/checkpoint");
        replace_file(&path, b"one").unwrap();
        fs::write(temporary_path(&path), vec![1; 10_000]).unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(read_file(&path, 3).unwrap(), "two");
        assert_eq!(list_log(path.parent().unwrap()).unwrap(), [(FileName::Checkpoint, 3)]);
    }

    #[test]
    fn a_file_longer_than_agreed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        replace_file(&path, b"four").unwrap();
        let error = read_file(&path, 3).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Io);
        assert!(error.what.contains("more than 3 bytes"), "{}", error.what);
        assert_eq!(read_file(&directory.path().join("absent"), 3).unwrap_err().kind, DiskErrorKind::NotFound);
    }

    #[test]
    fn nothing_is_moved_over_an_existing_file() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("deep/er/to"));
        fs::write(&from, b"x").unwrap();
        assert_eq!(move_file(&from, &to).unwrap(), 1);
        fs::write(&from, b"yy").unwrap();
        assert_eq!(move_file(&from, &to).unwrap_err().kind, DiskErrorKind::Io);
        assert_eq!(fs::read(&to).unwrap(), b"x");
    }

    /// An attempt to make a segment that ended for want of space left its file, empty. By the next attempt a spare
    /// had come, was refused for what stood in its place, and the log took that for a disk that fails: it ended
    /// its writing for good when there was room again.
    #[test]
    fn a_file_is_moved_over_the_empty_one_that_a_refused_attempt_left() {
        let directory = tempfile::tempdir().unwrap();
        let (spare, segment) =
            (directory.path().join("0-1.seg"), directory.path().join("logs/0000000001.seg"));
        fs::write(&spare, b"former life").unwrap();
        let no_space = |path: &Path| {
            Err(disk_error("sync directory", path, &io::Error::from_raw_os_error(libc::ENOSPC)))
        };
        assert_eq!(make_file_with(&segment, no_space).unwrap_err().kind, DiskErrorKind::NoSpace);
        assert!(is_empty_file(&segment));
        assert_eq!(move_file(&spare, &segment).unwrap(), 11);
        assert_eq!(fs::read(&segment).unwrap(), b"former life");
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        remove_file(&directory.path().join("absent")).unwrap();
        remove_directory(&directory.path().join("absent")).unwrap();
        assert_eq!(list_files(&directory.path().join("absent")).unwrap(), []);
    }

    fn full(path: &Path) -> Result<()> {
        Err(disk_error("sync directory", path, &io::Error::from_raw_os_error(libc::ENOSPC)))
    }

    /// The file was made and the sync of its directory found no space: the log asked again when there was some,
    /// was told that the file exists, and failed for good.
    #[test]
    fn file_whose_making_ran_out_of_space_is_made_by_the_next_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("01/0000000001.seg");
        assert_eq!(make_file_with(&path, full).unwrap_err().kind, DiskErrorKind::NoSpace);
        make_file(&path).unwrap();
        make_file(&path).unwrap();
        fs::write(&path, b"x").unwrap();
        assert_eq!(make_file(&path).unwrap_err().kind, DiskErrorKind::Io, "what holds something is kept");
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    /// The same with a spare that was moved.
    #[test]
    fn file_whose_move_ran_out_of_space_is_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("01/to"));
        fs::write(&from, b"x").unwrap();
        assert_eq!(move_file_with(&from, &to, full).unwrap_err().kind, DiskErrorKind::NoSpace);
        assert!(!to.exists());
        make_file(&to).unwrap();
        remove_file(&to).unwrap();
        assert_eq!(move_file(&from, &to).unwrap(), 1);
    }

    /// Core 0 removes spares of cores there are no more while the others list theirs in the same directory: a
    /// name that was read and whose file was gone failed the start.
    #[test]
    fn file_that_goes_while_a_directory_is_listed_is_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("2-0.seg");
        fs::write(&path, b"x").unwrap();
        let entry = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
        assert!(still_there(entry.metadata()).unwrap().is_some());
        fs::remove_file(&path).unwrap();
        assert!(still_there(entry.metadata()).unwrap().is_none());

        let (place, stop) = (path, std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::write(&place, b"x").unwrap();
                    fs::remove_file(&place).unwrap();
                }
            });
            let listed: Vec<_> = (0..2000).map(|_| list_files(directory.path())).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            remover.join().unwrap();
            assert!(listed.iter().all(Result::is_ok));
        });
    }

    #[test]
    fn free_space_is_told() {
        assert!(free_bytes(Path::new("/tmp")).unwrap() > 0);
        assert_eq!(free_bytes(Path::new("/no/such/place")).unwrap_err().kind, DiskErrorKind::NotFound);
    }
}
