//! What the system says of the disk below a directory.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

/// A write cache below a virtual disk cannot be seen from inside; a durable write is then as durable as the host is.
pub const UNSEEN: &str = "caches of a host or controller below it are not visible from here";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    pub file_system: String,
    /// As it is mounted.
    pub source: String,
    #[serde(flatten)]
    pub disk: Disk,
    pub note: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub model: String,
    /// `write back`: it may hold what it was sent in memory until it is told to flush, which every durable write does.
    /// `write through`: it says it has none. Absent: the system does not say.
    pub write_cache: Option<String>,
    /// As the system says, which virtual disks often let it believe.
    pub rotational: Option<bool>,
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
            disk: disk_directory(device).map_or_else(Disk::unknown, |directory| Disk::at(&directory)),
            note: UNSEEN,
        }
    }
}

impl Disk {
    /// By its directory in `/sys`.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        let text =
            |name: &str| fs::read_to_string(directory.join(name)).ok().map(|text| text.trim().to_owned());
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
        Self {
            name: name.unwrap_or_else(unknown),
            model: text("device/model").filter(|model| !model.is_empty()).unwrap_or_else(unknown),
            write_cache: text("queue/write_cache"),
            rotational: text("queue/rotational").map(|text| text == "1"),
        }
    }

    /// Those of this machine with something in them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let directories =
            fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.path());
        let is_real = |directory: &PathBuf| {
            let size = fs::read_to_string(directory.join("size")).unwrap_or_default();
            let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            size.trim() != "0" && !name.starts_with("loop") && !name.starts_with("ram")
        };
        let mut disks: Vec<Self> =
            directories.filter(is_real).map(|directory| Self::at(&directory)).collect();
        disks.sort_by(|a, b| a.name.cmp(&b.name));
        disks
    }

    fn unknown() -> Self {
        Self { name: unknown(), model: unknown(), write_cache: None, rotational: None }
    }

    fn cache(&self) -> String {
        match self.write_cache.as_deref() {
            Some("write back") => "write cache that durable writes flush".to_owned(),
            Some("write through") => "no write cache of its own".to_owned(),
            Some(other) => format!("write cache: {other}"),
            None => "write cache unknown".to_owned(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// In `/sys`, of the disk that a device number names, or a partition of which it does. Nothing where it names none that
/// can be seen.
#[must_use]
pub fn disk_directory(device: u64) -> Option<PathBuf> {
    let directory = fs::canonicalize(format!("/sys/dev/block/{}:{}", major(device), minor(device))).ok()?;
    let is_partition = directory.join("partition").exists();
    if is_partition { directory.parent().map(PathBuf::from) } else { Some(directory) }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}, {}; {}", self.file_system, self.source, self.disk.cache(), self.note)
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.rotational == Some(true) { ", rotational" } else { "" };
        write!(f, "disk {} ({}{kind}), {}", self.name, self.model, self.cache())
    }
}

/// File system and source of the last mount of device `number`, which lies over those before.
fn mounted<'a>(mounts: &'a str, number: &str) -> Option<(&'a str, &'a str)> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(2) == Some(number))?;
    let mut behind = line.split_once(" - ")?.1.split(' ');
    Some((behind.next()?, behind.next()?))
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
    fn a_disk_is_what_its_directory_says() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().join("vdx");
        let unlike = |cache: Option<&str>| Disk {
            name: "vdx".to_owned(),
            model: "unknown".to_owned(),
            write_cache: cache.map(str::to_owned),
            rotational: cache.map(|_| true),
        };
        assert_eq!(Disk::at(&sys), unlike(None));
        fs::create_dir_all(sys.join("queue")).unwrap();
        fs::write(sys.join("queue/write_cache"), "write back\n").unwrap();
        fs::write(sys.join("queue/rotational"), "1\n").unwrap();
        assert_eq!(Disk::at(&sys), unlike(Some("write back")));
        assert_eq!(
            Disk::at(&sys).to_string(),
            "disk vdx (unknown, rotational), write cache that durable writes flush"
        );
        assert_eq!(unlike(None).to_string(), "disk vdx (unknown), write cache unknown");
    }

    #[test]
    fn the_note_is_always_there() {
        let here = Device::below(Path::new("."));
        assert_ne!(here.file_system, "");
        assert!(here.to_string().ends_with(UNSEEN));
    }
}
