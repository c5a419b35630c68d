//! System errors in the log's words.

use std::io;
use std::path::Path;

use storage_log::{DiskError, DiskErrorKind};

/// `what` names the operation ("write", "make"), `path` the file.
pub(crate) fn disk_error(what: &str, path: &Path, error: &io::Error) -> DiskError {
    let kind = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskErrorKind::NoSpace,
        Some(libc::ENOENT) => DiskErrorKind::NotFound,
        _ => DiskErrorKind::Io,
    };
    DiskError { kind, what: format!("{what} {}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_is_told_from_damage() {
        let kind = |errno| disk_error("write", Path::new("f"), &io::Error::from_raw_os_error(errno)).kind;
        assert_eq!(kind(libc::ENOSPC), DiskErrorKind::NoSpace);
        assert_eq!(kind(libc::EDQUOT), DiskErrorKind::NoSpace);
        assert_eq!(kind(libc::ENOENT), DiskErrorKind::NotFound);
        assert_eq!(kind(libc::EIO), DiskErrorKind::Io);
        assert_eq!(kind(libc::EROFS), DiskErrorKind::Io);
        let error = disk_error("write", Path::new("/d/f"), &io::Error::from_raw_os_error(libc::EROFS));
        assert!(error.what.starts_with("write /d/f: Read-only file system"), "{}", error.what);
    }
}
