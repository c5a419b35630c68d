//! Replacing a small file so that a crash leaves the old one or the new one, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Writes `bytes` beside `path`, makes them durable, renames them over `path`, makes the directory durable.
///
/// # Errors
/// The system's; `path` is then what it was.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(path);
    // A leftover of an interrupted replacement may have another mode.
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_directory(path.parent().expect("a file has a directory"))
}

/// As [`replace`], and the next time needs no space: what was there before is kept beside it as `.new`, whose
/// block takes the next contents, and the two change names.
///
/// # Errors
/// The system's; `path` is then what it was.
pub(crate) fn replace_in_turn(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    if exchange(&fresh, path).is_err() {
        // The first time, or a file system that cannot.
        fs::rename(&fresh, path)?;
        let room = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh);
        // Only the next time is poorer without it.
        let _ = room.and_then(|mut room| room.write_all(bytes));
    }
    sync_directory(path.parent().expect("a file has a directory"))
}

fn exchange(a: &Path, b: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("a file, not a directory").to_owned();
    name.push(".new");
    path.with_file_name(name)
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// A start on a disk without a free block was refused: the identity's replacement wanted one. Now it takes the
    /// block of the replacement before.
    #[test]
    fn two_files_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turns");
        replace_in_turn(&path, b"first and long", 0o600).unwrap();
        let nodes =
            |path: &Path| (fs::metadata(path).unwrap().ino(), fs::metadata(beside(path)).unwrap().ino());
        let first = nodes(&path);
        for (round, text) in ["second", "third, longer than the first", ""].into_iter().enumerate() {
            replace_in_turn(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let turned = if round % 2 == 0 { (first.1, first.0) } else { first };
            assert_eq!(nodes(&path), turned, "no file was made");
        }
    }
}
