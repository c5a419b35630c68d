//! Names of files and directories below the data directory.

use std::path::{Path, PathBuf};

use storage_frame::LogId;
use storage_log::{FileName, SegmentId};

pub(crate) const CHECKPOINT: &str = "checkpoint";

pub(crate) fn logs_directory(data: &Path) -> PathBuf {
    data.join("logs")
}

pub(crate) fn spare_directory(data: &Path) -> PathBuf {
    data.join("spare")
}

/// Where a log's files are.
#[must_use]
pub fn log_directory(data: &Path, log: LogId) -> PathBuf {
    logs_directory(data).join(log.to_string())
}

pub(crate) fn file_name(name: FileName) -> String {
    match name {
        FileName::Segment(SegmentId(id)) => format!("{id:010}.seg"),
        FileName::Index(SegmentId(id)) => format!("{id:010}.idx"),
        FileName::Checkpoint => CHECKPOINT.to_owned(),
    }
}

/// `None`: not a file of a log.
pub(crate) fn parse_file_name(name: &str) -> Option<FileName> {
    if name == CHECKPOINT {
        return Some(FileName::Checkpoint);
    }
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = SegmentId(digits.parse().ok()?);
    match extension {
        "seg" => Some(FileName::Segment(id)),
        "idx" => Some(FileName::Index(id)),
        _ => None,
    }
}

pub(crate) fn spare_name(core: u8, number: u64) -> String {
    format!("{core}-{number}.seg")
}

/// Core and number of a spare.
pub(crate) fn parse_spare_name(name: &str) -> Option<(u8, u64)> {
    let (core, number) = name.strip_suffix(".seg")?.split_once('-')?;
    Some((core.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in
            [FileName::Segment(SegmentId(1)), FileName::Index(SegmentId(u32::MAX)), FileName::Checkpoint]
        {
            assert_eq!(parse_file_name(&file_name(name)), Some(name));
        }
        assert_eq!(parse_spare_name(&spare_name(7, 12)), Some((7, 12)));
    }

    #[test]
    fn other_names_are_not_of_a_log() {
        for name in [
            "checkpoint.tmp",
            "1.seg",
            "00000000001.seg",
            "000000000x.seg",
            "9999999999.seg",
            "0000000001.bak",
            "",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
        for name in ["1.seg", "a-1.seg", "1-b.seg", "300-1.seg", "1-1.idx"] {
            assert_eq!(parse_spare_name(name), None, "{name}");
        }
    }
}
