//! What a process has used, from `/proc`: the figures that a noisy machine spares.

use std::fs;
use std::io;

use serde::Serialize;

/// Kernel clock ticks per second as `/proc` counts them: a constant of Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// To the block layer; absent where `/proc/<pid>/io` may not be read.
    pub written_bytes: Option<u64>,
    pub read_bytes: Option<u64>,
    pub resident_bytes: u64,
}

impl Usage {
    /// All threads, living and gone, user and kernel.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let cpu_seconds =
            cpu_seconds(&stat).ok_or_else(|| io::Error::other("unreadable /proc/<pid>/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Ok(Usage {
            cpu_seconds,
            written_bytes: number(&io, "write_bytes:"),
            read_bytes: number(&io, "\nread_bytes:"),
            resident_bytes: number(&status, "VmRSS:").unwrap_or(0) * 1024,
        })
    }

    /// What was used from `earlier` to `self`; the resident size is that of `self`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        let diff = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Usage {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            written_bytes: diff(self.written_bytes, earlier.written_bytes),
            read_bytes: diff(self.read_bytes, earlier.read_bytes),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// CPU seconds of the calling thread alone.
pub fn thread_cpu_seconds() -> io::Result<f64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let on_cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    on_cpu_ns.map(|ns| ns / 1e9).ok_or_else(|| io::Error::other("unreadable /proc/thread-self/schedstat"))
}

/// Fields 14 and 15 (`utime`, `stime`), counted after the command's closing parenthesis, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Usage, cpu_seconds};

    #[test]
    fn the_command_may_hold_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (a"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 0);
        assert_eq!(usage.since(&usage).cpu_seconds, 0.0);
    }
}
