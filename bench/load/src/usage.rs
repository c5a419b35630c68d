//! What a process and its children have used, from `/proc`: the figures that a noisy machine spares.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bench_disk::device::disk_directory;
use serde::{Deserialize, Serialize};

/// Kernel clock ticks per second as `/proc` counts them: a constant of Linux's user interface.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// To the block layer; absent where `/proc/<pid>/io` may not be read.
    pub written_bytes: Option<u64>,
    pub read_bytes: Option<u64>,
    pub resident_bytes: u64,
}

impl Usage {
    /// All threads, living and gone, of these processes and of their descendants. Children that have ended count by
    /// what their parents waited for.
    pub fn of_trees(roots: &[u32]) -> io::Result<Usage> {
        let mut all = Usage { written_bytes: Some(0), read_bytes: Some(0), ..Usage::default() };
        for pid in tree(roots) {
            match Usage::of_one(pid) {
                Ok(one) => all.add(&one),
                // A child may end while it is looked at; a root must not.
                Err(error) if roots.contains(&pid) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(all)
    }

    pub fn of_self() -> io::Result<Usage> {
        Usage::of_one(std::process::id())
    }

    fn of_one(pid: u32) -> io::Result<Usage> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let stat = Stat::read(&text).ok_or_else(|| io::Error::other("unreadable /proc/<pid>/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Ok(Usage {
            user_seconds: stat.user_ticks as f64 / TICKS_PER_SECOND,
            system_seconds: stat.system_ticks as f64 / TICKS_PER_SECOND,
            written_bytes: number(&io, "\nwrite_bytes:"),
            read_bytes: number(&io, "\nread_bytes:"),
            resident_bytes: number(&status, "VmRSS:").unwrap_or(0) * 1024,
        })
    }

    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// What was used from `earlier` to `self`; the resident size is that of `self`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        let diff = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Usage {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
            written_bytes: diff(self.written_bytes, earlier.written_bytes),
            read_bytes: diff(self.read_bytes, earlier.read_bytes),
            resident_bytes: self.resident_bytes,
        }
    }

    fn add(&mut self, other: &Usage) {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        self.user_seconds += other.user_seconds;
        self.system_seconds += other.system_seconds;
        self.written_bytes = sum(self.written_bytes, other.written_bytes);
        self.read_bytes = sum(self.read_bytes, other.read_bytes);
        self.resident_bytes += other.resident_bytes;
    }
}

/// CPU seconds of the calling thread alone.
pub fn thread_cpu_seconds() -> io::Result<f64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let on_cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    on_cpu_ns.map(|ns| ns / 1e9).ok_or_else(|| io::Error::other("unreadable /proc/thread-self/schedstat"))
}

/// The block device that most of the processes' open files are on, as a directory of `/sys`. Nothing where files are
/// on no block device that can be seen.
pub fn device_of(roots: &[u32]) -> Option<PathBuf> {
    let mut files = BTreeMap::<u64, u64>::new();
    for pid in tree(roots) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(file) = fs::metadata(descriptor.path()) else { continue };
            if file.is_file() && file.len() > 0 {
                *files.entry(file.dev()).or_default() += 1;
            }
        }
    }
    let (device, _) = files.into_iter().max_by_key(|(_, count)| *count)?;
    disk_directory(device)
}

/// Requests of a whole device, whoever made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
}

impl Requests {
    /// Fields 1, 5 and 16 of Documentation/block/stat.rst; flushes are counted from Linux 5.5 on.
    pub fn of(device: &std::path::Path) -> Option<Requests> {
        let stat = fs::read_to_string(device.join("stat")).ok()?;
        let fields: Vec<u64> = stat.split_ascii_whitespace().flat_map(str::parse).collect();
        let flushes = fields.get(15).copied().unwrap_or(0);
        Some(Requests { reads: *fields.first()?, writes: *fields.get(4)?, flushes })
    }

    pub fn since(&self, earlier: &Requests) -> Requests {
        Requests {
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// These processes and all below them.
fn tree(roots: &[u32]) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        if let Some(stat) = stat.as_deref().and_then(Stat::read) {
            parents.insert(pid, stat.parent);
        }
    }
    descendants(roots, &parents)
}

fn descendants(roots: &[u32], parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut all = roots.to_vec();
    all.sort_unstable();
    all.dedup();
    let mut at = 0;
    while at < all.len() {
        let parent = all[at];
        let children = parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !all.contains(pid)).collect();
        all.extend(new);
        at += 1;
    }
    all
}

/// Of `/proc/<pid>/stat`: its own ticks and those of children it has waited for.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    /// Fields 4 and 14 to 17, counted after the command's closing parenthesis, which may hold anything.
    fn read(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(1)?).ok()?,
            user_ticks: number(11)? + number(13)?,
            system_ticks: number(12)? + number(14)?,
        })
    }
}

fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Stat, Usage, descendants, number};

    #[test]
    fn the_command_may_hold_spaces_and_parentheses() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 3 20 0 1 0 100";
        assert_eq!(Stat::read(text), Some(Stat { parent: 1, user_ticks: 257, system_ticks: 53 }));
        assert_eq!(Stat::read("42 (a"), None);
    }

    #[test]
    fn cancelled_writes_are_not_taken_for_writes() {
        let io = "syscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        assert_eq!((number(io, "\nread_bytes:"), number(io, "\nwrite_bytes:")), (Some(5), Some(6)));
    }

    #[test]
    fn a_tree_holds_everything_below_its_roots_once() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 5)]);
        assert_eq!(descendants(&[2], &parents), [2, 3, 4]);
        assert_eq!(descendants(&[3, 2, 2], &parents), [2, 3, 4]);
    }

    #[test]
    fn this_process_can_be_read() {
        let usage = Usage::of_trees(&[std::process::id()]).unwrap();
        assert!(usage.resident_bytes > 0);
        assert_eq!(usage.since(&usage).cpu_seconds(), 0.0);
        assert!(Usage::of_trees(&[u32::MAX]).is_err());
    }
}
