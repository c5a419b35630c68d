//! What a figure was measured on.

use std::fmt;
use std::fs;

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub disk: &'static str,
}

/// A write cache below a virtual disk cannot be seen from inside; a durable write is then as durable as the host is.
const DISK_NOTE: &str = "caches below the block device (host, controller) are not visible from here";

impl Machine {
    pub fn here() -> Machine {
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_string();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_kib / 1024,
            kernel,
            disk: DISK_NOTE,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {} MiB, Linux {}; {}",
            self.cpu, self.cores, self.memory_mib, self.kernel, self.disk
        )
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
    use super::{Machine, field};

    #[test]
    fn fields_of_proc_are_found_or_unknown() {
        assert_eq!(field("a : b\nmodel name\t: X 1\n", "model name"), "X 1");
        assert_eq!(field("", "model name"), "unknown");
        assert!(Machine::here().cores > 0);
    }
}
