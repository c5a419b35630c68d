//! Which files and directories belong to logs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine_broker::data_dir::lock_holder;
use storage_frame::LogId;
use storage_log::{FileName, SegmentId};

use crate::failure::{Exit, Failure};

/// Segments are smaller; a larger file is not one of ours.
const FILE_BYTES_MAX: u64 = 4 << 30;
const LOG_NAME_DIGITS: usize = 16;
const FILE_NAME_DIGITS: usize = 10;

/// A log and its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDirectory {
    pub(crate) log: LogId,
    pub(crate) path: PathBuf,
}

/// The logs in `directory`, which is a data directory, its `logs/`, or the directory of one log; by rising id.
///
/// # Errors
/// It is none of these, or a broker is using it.
pub(crate) fn find_logs(directory: &Path) -> Result<Vec<LogDirectory>, Failure> {
    let directory = &directory.canonicalize().map_err(|e| unreadable(directory, &e))?;
    let inside = directory.join("logs");
    let (data, logs) = if inside.is_dir() {
        (Some(directory.as_path()), list_logs(&inside)?)
    } else if let Some(log) = log_of(directory) {
        (directory.parent().and_then(Path::parent), vec![LogDirectory { log, path: directory.clone() }])
    } else {
        (directory.parent(), list_logs(directory)?)
    };
    if logs.is_empty() && !inside.is_dir() {
        let message = format_args!("{} holds no logs", directory.display());
        return Err(Failure::new(Exit::NotFound, message)
            .with_hint("name a data directory, its logs/, or the directory of one log"));
    }
    match data.and_then(lock_holder) {
        None => Ok(logs),
        Some(pid) => {
            let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            let message = format_args!("a broker is running on {}{pid}", directory.display());
            Err(Failure::failed(message)
                .with_hint("its files change under the eyes of a check: stop it first"))
        }
    }
}

/// The segment and index files of a log, segments by rising number, each with its index behind it if there.
pub(crate) fn list_files(directory: &Path) -> Result<Vec<FileName>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| unreadable(directory, &e))? {
        let entry = entry.map_err(|e| unreadable(directory, &e))?;
        files.extend(entry.file_name().to_str().and_then(parse_name));
    }
    files.sort_by_key(|file| match file {
        FileName::Checkpoint => (0, 0),
        FileName::Segment(SegmentId(number)) => (*number, 1),
        FileName::Index(SegmentId(number)) => (*number, 2),
    });
    Ok(files)
}

pub(crate) fn parse_name(name: &str) -> Option<FileName> {
    if name == "checkpoint" {
        return Some(FileName::Checkpoint);
    }
    let (digits, kind) = name.split_once('.')?;
    if digits.len() != FILE_NAME_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let segment = SegmentId(digits.parse().ok()?);
    match kind {
        "seg" => Some(FileName::Segment(segment)),
        "idx" => Some(FileName::Index(segment)),
        _ => None,
    }
}

pub(crate) fn name(file: FileName) -> String {
    match file {
        FileName::Checkpoint => "checkpoint".to_owned(),
        FileName::Segment(SegmentId(number)) => format!("{number:010}.seg"),
        FileName::Index(SegmentId(number)) => format!("{number:010}.idx"),
    }
}

/// All bytes of a file.
pub(crate) fn read(path: &Path) -> io::Result<Bytes> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{bytes} bytes, limit {FILE_BYTES_MAX}")));
    }
    fs::read(path).map(Bytes::from)
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
    Failure::new(exit, format_args!("{}: {error}", path.display()))
}

fn list_logs(directory: &Path) -> Result<Vec<LogDirectory>, Failure> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| unreadable(directory, &e))? {
        let path = entry.map_err(|e| unreadable(directory, &e))?.path();
        logs.extend(
            log_of(&path).filter(|_| path.is_dir()).map(|log| LogDirectory { log, path: path.clone() }),
        );
    }
    logs.sort_by_key(|found| found.log);
    Ok(logs)
}

fn log_of(path: &Path) -> Option<LogId> {
    let name = path.file_name()?.to_str()?;
    let hex = name.len() == LOG_NAME_DIGITS
        && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex { u64::from_str_radix(name, 16).ok().map(LogId) } else { None }
}

#[cfg(test)]
mod tests {
    use engine_broker::data_dir::DataDir;

    use super::*;

    fn data() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for log in ["0000000000000010", "0000000000000002", "not-a-log"] {
            fs::create_dir_all(dir.path().join("logs").join(log)).unwrap();
        }
        dir
    }

    #[test]
    fn logs_are_found_from_above_from_beside_and_from_within() {
        let dir = data();
        let ids =
            |path: &Path| find_logs(path).unwrap().into_iter().map(|found| found.log.0).collect::<Vec<_>>();
        assert_eq!(ids(dir.path()), [2, 16]);
        assert_eq!(ids(&dir.path().join("logs")), [2, 16]);
        assert_eq!(ids(&dir.path().join("logs/0000000000000010")), [16]);
    }

    #[test]
    fn what_is_no_log_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_logs(dir.path()).unwrap_err().exit, Exit::NotFound);
        assert_eq!(find_logs(&dir.path().join("gone")).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn a_running_brokers_logs_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DataDir::open(dir.path(), 1, None).unwrap();
        let log = dir.path().join("logs/0000000000000001");
        fs::create_dir_all(&log).unwrap();
        for path in [dir.path(), &dir.path().join("logs"), &log] {
            let failure = find_logs(path).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(
                failure.message.contains(&format!("process {}", std::process::id())),
                "{}",
                failure.message
            );
        }
        drop(lock);
        assert_eq!(find_logs(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn files_are_told_in_the_order_they_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "0000000002.seg",
            "0000000001.idx",
            "checkpoint",
            "0000000001.seg",
            "1.seg",
            "x",
            "00000000ff.seg",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = list_files(dir.path()).unwrap().into_iter().map(name).collect();
        assert_eq!(names, ["checkpoint", "0000000001.seg", "0000000001.idx", "0000000002.seg"]);
    }
}
