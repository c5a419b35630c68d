//! What a figure was measured on, and how busy that was with others.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::usage::TICKS_PER_SECOND;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    /// Online, whether this process may run on them or not.
    pub cores: usize,
    /// That this process may run on, as the kernel lists them.
    pub cores_allowed: String,
    pub memory_mib: u64,
    pub kernel: String,
    pub disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub model: String,
    /// `write back`: has a cache that must be flushed; `write through`: has none, or none that it tells of. Caches
    /// below a virtual disk cannot be seen from inside.
    pub write_cache: String,
    pub rotational: bool,
}

impl Machine {
    pub fn here() -> Machine {
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_string();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: bench_disk::busy::cores_online(),
            cores_allowed: cores_allowed(std::process::id()),
            memory_mib: memory_kib / 1024,
            kernel,
            disks: disks(),
        }
    }
}

/// Cores that a process may run on, as `0-1,4`.
pub fn cores_allowed(pid: u32) -> String {
    field(&read(&format!("/proc/{pid}/status")), "Cpus_allowed_list")
}

impl Disk {
    /// By its directory in `/sys`.
    pub fn at(directory: &Path) -> Option<Disk> {
        let text = |name: &str| read(directory.join(name).to_str().unwrap_or_default()).trim().to_string();
        let or_unknown = |text: String| if text.is_empty() { "unknown".to_string() } else { text };
        Some(Disk {
            name: directory.file_name()?.to_str()?.to_string(),
            model: or_unknown(text("device/model")),
            write_cache: or_unknown(text("queue/write_cache")),
            rotational: text("queue/rotational") == "1",
        })
    }
}

/// Those with something in them.
fn disks() -> Vec<Disk> {
    let directories = fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_real = |directory: &std::path::PathBuf| {
        let size = fs::read_to_string(directory.join("size")).unwrap_or_default();
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        size.trim() != "0" && !name.starts_with("loop") && !name.starts_with("ram")
    };
    let mut disks: Vec<Disk> =
        directories.filter(is_real).filter_map(|directory| Disk::at(&directory)).collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

/// CPU seconds of all cores since the machine started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    pub busy_seconds: f64,
    /// Taken by the host for other machines.
    pub steal_seconds: f64,
}

impl CpuTime {
    pub fn now() -> CpuTime {
        CpuTime::read(&read("/proc/stat")).unwrap_or(CpuTime { busy_seconds: 0.0, steal_seconds: 0.0 })
    }

    /// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are counted in user and nice.
    fn read(stat: &str) -> Option<CpuTime> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<f64> = line.split_ascii_whitespace().flat_map(str::parse).collect();
        let busy = ticks.get(..7)?;
        let busy = busy[0] + busy[1] + busy[2] + busy[5] + busy[6];
        let steal = ticks.get(7).copied().unwrap_or(0.0);
        Some(CpuTime { busy_seconds: busy / TICKS_PER_SECOND, steal_seconds: steal / TICKS_PER_SECOND })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, cores, allowed) = (&self.cpu, self.cores, &self.cores_allowed);
        write!(
            f,
            "{cpu}, {cores} cores (allowed: {allowed}), {} MiB, Linux {}",
            self.memory_mib, self.kernel
        )?;
        self.disks.iter().try_for_each(|disk| write!(f, "; {disk}"))
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.rotational { ", rotational" } else { "" };
        write!(f, "disk {} ({}{kind}), write cache: {}", self.name, self.model, self.write_cache)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_string()
}

#[cfg(test)]
mod tests {
    use super::{CpuTime, Machine, field};

    #[test]
    fn fields_of_proc_are_found_or_unknown() {
        assert_eq!(field("a : b\nmodel name\t: X 1\n", "model name"), "X 1");
        assert_eq!(field("", "model name"), "unknown");
        assert!(Machine::here().cores > 0);
    }

    #[test]
    fn time_taken_by_the_host_is_not_time_of_ours() {
        let stat = "cpu  100 20 30 5000 70 1 2 400 50 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(CpuTime::read(stat), Some(CpuTime { busy_seconds: 1.53, steal_seconds: 4.0 }));
        assert_eq!(CpuTime::read("cpu 1 2"), None);
    }
}
