//! What the system says of the disk below a directory.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};
use serde::Serialize;

/// A write cache below a virtual disk cannot be seen from inside; a durable write is then as durable as the host is.
const UNSEEN: &str = "caches of a host or controller below it are not visible from here";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    pub file_system: String,
    /// As it is mounted.
    pub source: String,
    /// `write back`: it may hold what it was sent in memory until it is told to flush, which every durable write does.
    /// `write through`: it says it has none. Absent: the system does not say.
    pub write_cache: Option<String>,
    /// As the system says, which virtual disks often let it believe.
    pub rotational: Option<bool>,
    pub note: &'static str,
}

impl Device {
    pub fn below(directory: &Path) -> Self {
        let device = fs::metadata(directory).map_or(0, |found| found.dev());
        let number = format!("{}:{}", major(device), minor(device));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (file_system, source) = mounted(&mounts, &number).unwrap_or(("unknown", "unknown"));
        Self {
            file_system: file_system.to_owned(),
            source: source.to_owned(),
            write_cache: queue(&number, "write_cache"),
            rotational: queue(&number, "rotational").map(|text| text == "1"),
            note: UNSEEN,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}, ", self.file_system, self.source)?;
        match &self.write_cache {
            Some(cache) if cache == "write back" => f.write_str("write cache that durable writes flush")?,
            Some(cache) if cache == "write through" => f.write_str("no write cache of its own")?,
            Some(other) => write!(f, "write cache: {other}")?,
            None => f.write_str("write cache unknown")?,
        }
        write!(f, "; {}", self.note)
    }
}

/// File system and source of the last mount of device `number`, which lies over those before.
fn mounted<'a>(mounts: &'a str, number: &str) -> Option<(&'a str, &'a str)> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(2) == Some(number))?;
    let mut behind = line.split_once(" - ")?.1.split(' ');
    Some((behind.next()?, behind.next()?))
}

/// Of the whole disk, which a partition is part of.
fn queue(number: &str, name: &str) -> Option<String> {
    let of = |above: &str| fs::read_to_string(format!("/sys/dev/block/{number}{above}/queue/{name}")).ok();
    of("").or_else(|| of("/..")).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_and_source_stand_behind_the_dash() {
        let mounts = "22 27 0:21 / /proc rw - proc proc rw\n\
                      27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n";
        assert_eq!(mounted(mounts, "254:0"), Some(("ext4", "/dev/vda")));
        assert_eq!(mounted(mounts, "1:1"), None);
    }

    #[test]
    fn the_note_is_always_there() {
        let here = Device::below(Path::new("."));
        assert_ne!(here.file_system, "");
        assert!(here.to_string().ends_with(UNSEEN));
    }
}
