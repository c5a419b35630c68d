//! What a figure was measured on, and how busy that was with others.

use std::fmt;
use std::fs;
use std::process::Command;

use bench_disk::Disk;
use bench_disk::device::UNSEEN;
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
            disks: Disk::all(),
        }
    }
}

/// What a broker of ours says of its version, asked by its process: nothing of another program, which may do anything
/// when it is asked.
pub fn broker_version(pid: u32) -> Option<String> {
    const OURS: &str = "millstream";
    let program = format!("/proc/{pid}/exe");
    // The kernel adds a word where the file was replaced since.
    let name = fs::read_link(&program).ok()?.file_name()?.to_str()?.trim_end_matches(" (deleted)").to_owned();
    if name != OURS {
        return None;
    }
    let said = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).lines().next()?.trim().to_owned())
}

/// Cores that a process may run on, as `0-1,4`.
pub fn cores_allowed(pid: u32) -> String {
    field(&read(&format!("/proc/{pid}/status")), "Cpus_allowed_list")
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
        self.disks.iter().try_for_each(|disk| write!(f, "; {disk}"))?;
        if self.disks.is_empty() { Ok(()) } else { write!(f, "; {UNSEEN}") }
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
    use super::{CpuTime, Machine, broker_version, field};

    #[test]
    fn fields_of_proc_are_found_or_unknown() {
        assert_eq!(field("a : b\nmodel name\t: X 1\n", "model name"), "X 1");
        assert_eq!(field("", "model name"), "unknown");
        assert!(Machine::here().cores > 0);
    }

    #[test]
    fn only_a_broker_of_ours_is_asked_for_its_version() {
        assert_eq!(broker_version(std::process::id()), None);
        assert_eq!(broker_version(u32::MAX), None);
    }

    #[test]
    fn time_taken_by_the_host_is_not_time_of_ours() {
        let stat = "cpu  100 20 30 5000 70 1 2 400 50 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(CpuTime::read(stat), Some(CpuTime { busy_seconds: 1.53, steal_seconds: 4.0 }));
        assert_eq!(CpuTime::read("cpu 1 2"), None);
    }
}
