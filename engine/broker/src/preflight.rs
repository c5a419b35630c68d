//! What this machine must offer, each thing checked on its own and told with its remedy.
//!
//! `serve` warns of what is not right and leaves refusing to those who need it; `doctor` prints every line.
//! A check measures and never changes anything, but for [`raise_open_files`].

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;

/// io_uring operations the runtime cannot do without, with their names.
const RING_OPS: [(u8, &str); 8] = [
    (io_uring::opcode::Readv::CODE, "readv"),
    (io_uring::opcode::Writev::CODE, "writev"),
    (io_uring::opcode::Fsync::CODE, "fsync"),
    (io_uring::opcode::ReadFixed::CODE, "read_fixed"),
    (io_uring::opcode::WriteFixed::CODE, "write_fixed"),
    (io_uring::opcode::PollAdd::CODE, "poll_add"),
    (io_uring::opcode::Timeout::CODE, "timeout"),
    (io_uring::opcode::OpenAt::CODE, "openat"),
];
/// The check that a broker starts without.
pub const FREE_SPACE: &str = "free_space";

const KERNEL_MIN: (u32, u32) = (5, 11);
/// One ring's registered memory and its queues.
const MEMLOCK_CORE_BYTES: u64 = 2 << 20;
/// Below it no ring can be built at all.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
const OPEN_FILES_MIN: u64 = 4096;
const UDP_BUFFER_BYTES: u64 = 7_500_000;
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// The broker runs, slower or with less room.
    Warn,
    /// The broker does not run.
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What to do about it; empty when all is well.
    pub fix: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = if verdict == Verdict::Ok { String::new() } else { fix.into() };
        Self { name, verdict, found: found.into(), fix }
    }
}

/// Every check, for a node with its data in `data` on `cores` cores. `data` need not exist.
#[must_use]
pub fn run(data: &Path, cores: usize, free_bytes_min: u64) -> Vec<Check> {
    vec![
        kernel(),
        ring(),
        memlock(cores),
        open_files(),
        direct_io(data),
        free_space(data, free_bytes_min),
        udp_buffers(),
        clock_source(),
    ]
}

/// Raises the soft limit of open files to the hard one, as far as the system lets us; returns the limit now.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Free bytes for this user on the disk that holds `path`.
///
/// # Errors
/// The system's.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.blocks_available() as u64 * found.fragment_size() as u64)
}

/// Bytes of memory this process may use: the machine's, or its control group's where that is less.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_total(&text));
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    match (total, group) {
        (Some(total), Some(group)) => Some(u64::min(total, group)),
        (total, group) => total.or(group),
    }
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    let verdict = match kernel_version(&release) {
        Some(version) if version >= KERNEL_MIN => Verdict::Ok,
        Some(_) => Verdict::Fail,
        None => Verdict::Warn,
    };
    Check::new("kernel", verdict, release, "run Linux 5.11 or later; 6.1 or later is recommended")
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn ring() -> Check {
    const FIX: &str = "set `sysctl kernel.io_uring_disabled=0`; in a container allow io_uring_setup, \
                       io_uring_enter and io_uring_register in its seccomp profile";
    let ring = match io_uring::IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) => return Check::new("io_uring", Verdict::Fail, error.to_string(), FIX),
    };
    let mut probe = io_uring::Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Check::new("io_uring", Verdict::Fail, format!("probe: {error}"), FIX);
    }
    let missing: Vec<&str> =
        RING_OPS.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Check::new("io_uring", Verdict::Ok, "available", "")
    } else {
        let found = format!("operations missing: {}", missing.join(", "));
        Check::new("io_uring", Verdict::Fail, found, "run a newer kernel, 6.1 or later is recommended")
    }
}

fn memlock(cores: usize) -> Check {
    const FIX: &str = "LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited`";
    let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) => soft,
        Err(error) => return Check::new("memlock", Verdict::Warn, error.to_string(), FIX),
    };
    // Root is not held to it, so what is small for others is only worth a word.
    let (root, wanted) = (nix::unistd::geteuid().is_root(), MEMLOCK_CORE_BYTES * cores as u64);
    let verdict = if limit == RLIM_INFINITY || limit >= wanted {
        Verdict::Ok
    } else if limit < MEMLOCK_BYTES_MIN && !root {
        Verdict::Fail
    } else {
        Verdict::Warn
    };
    let limit = if limit == RLIM_INFINITY { "unlimited".to_owned() } else { format!("{} KiB", limit >> 10) };
    Check::new("memlock", verdict, format!("{limit}, {cores} cores want {} KiB", wanted >> 10), FIX)
}

fn open_files() -> Check {
    const FIX: &str = "LimitNOFILE=1048576 in the systemd unit, or `ulimit -n 1048576`";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            let verdict = if hard >= OPEN_FILES_MIN { Verdict::Ok } else { Verdict::Warn };
            Check::new("open_files", verdict, format!("{soft}, raised to {hard} at start"), FIX)
        }
        Err(error) => Check::new("open_files", Verdict::Warn, error.to_string(), FIX),
    }
}

/// Writes one block with `O_DIRECT | O_DSYNC` in `data`, or in the nearest directory above it that exists.
fn direct_io(data: &Path) -> Check {
    const FIX: &str = "put the data directory on ext4 or xfs on a local disk, writable by this user";
    let directory = existing_directory(data);
    let path = directory.join(format!(".millstream-doctor-{}", std::process::id()));
    let verdict = write_direct(&path);
    let _ = fs::remove_file(&path);
    match verdict {
        Ok(()) => {
            Check::new("direct_io", Verdict::Ok, format!("{} takes direct writes", directory.display()), "")
        }
        // It was opened for them, which file systems that do not take them refuse. A full disk must not refuse a
        // start: who is to delete what fills it?
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Check::new(
            "direct_io",
            Verdict::Warn,
            format!("{}: not tried: {error}", directory.display()),
            FIX,
        ),
        Err(error) => {
            Check::new("direct_io", Verdict::Fail, format!("{}: {error}", directory.display()), FIX)
        }
    }
}

fn write_direct(path: &Path) -> io::Result<()> {
    let flags = nix::libc::O_DIRECT | nix::libc::O_DSYNC;
    let mut file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
    let buffer = vec![0u8; 2 * BLOCK_BYTES];
    let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
    file.write_all(&buffer[start..start + BLOCK_BYTES])
}

fn free_space(data: &Path, free_bytes_min: u64) -> Check {
    let fix = format!(
        "delete data or add space: below {} MiB producers are refused (setting free_space_min)",
        free_bytes_min >> 20
    );
    match free_bytes(existing_directory(data)) {
        Ok(free) => {
            let verdict = if free < free_bytes_min { Verdict::Fail } else { Verdict::Ok };
            Check::new(FREE_SPACE, verdict, format!("{} MiB", free >> 20), fix)
        }
        Err(error) => Check::new(FREE_SPACE, Verdict::Warn, error.to_string(), fix),
    }
}

fn udp_buffers() -> Check {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let (Some(receive), Some(send)) = (read("rmem_max"), read("wmem_max")) else {
        return Check::new(
            "udp_buffers",
            Verdict::Warn,
            "limits cannot be read",
            "check net.core.rmem_max by hand",
        );
    };
    let verdict = if receive.min(send) >= UDP_BUFFER_BYTES { Verdict::Ok } else { Verdict::Warn };
    let fix = format!("sysctl -w net.core.rmem_max={UDP_BUFFER_BYTES} net.core.wmem_max={UDP_BUFFER_BYTES}");
    Check::new("udp_buffers", verdict, format!("receive {} KiB, send {} KiB", receive >> 10, send >> 10), fix)
}

fn clock_source() -> Check {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let found = fs::read_to_string(PATH).unwrap_or_default();
    let found = found.trim();
    let fast = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    match found {
        "" => Check::new("clock_source", Verdict::Ok, "not told by this system", ""),
        found if fast.contains(&found) => Check::new("clock_source", Verdict::Ok, found, ""),
        found => Check::new(
            "clock_source",
            Verdict::Warn,
            found,
            "boot with clocksource=tsc: this one is slow to read",
        ),
    }
}

/// `path`, or the nearest directory above it that exists.
#[must_use]
pub fn existing_directory(path: &Path) -> &Path {
    let not_empty = path.ancestors().filter(|above| !above.as_os_str().is_empty());
    not_empty.into_iter().find(|above| above.is_dir()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_runs_and_those_that_are_not_well_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let checks = run(&dir.path().join("not/yet"), 1, 0);
        assert_eq!(checks.len(), 8);
        for check in &checks {
            assert_eq!(check.fix.is_empty(), check.verdict == Verdict::Ok, "{check:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn kernel_versions_are_read_from_any_suffix() {
        assert_eq!(kernel_version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(kernel_version("5.4"), Some((5, 4)));
        assert_eq!(kernel_version("x"), None);
    }

    #[test]
    fn too_little_space_fails_with_the_watermark() {
        let check = free_space(Path::new("/"), u64::MAX);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.fix.contains("free_space_min"));
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(meminfo_total("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert!(memory_bytes().is_some());
    }
}
