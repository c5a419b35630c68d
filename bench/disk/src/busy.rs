//! How busy the machine was with others: on one that has no core to spare, what is measured is the wait for a core.

use std::fmt;
use std::fs;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Busy {
    /// Threads that ran or wanted to, over the last minute. Absent: the system does not say.
    pub load_average: Option<f64>,
    /// Of the machine, which the load average is of, whichever of them this process may run on.
    pub cores: usize,
}

/// Cores of this machine that are online.
#[must_use]
pub fn cores_online() -> usize {
    let listed = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let count = listed.as_deref().and_then(count_of_list);
    count.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
}

/// Of `0-1,4`, as the kernel lists cores.
fn count_of_list(list: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        (last + 1).checked_sub(first)
    };
    list.trim().split(',').map(count).sum()
}

impl Busy {
    #[must_use]
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load_average = text.split(' ').next().and_then(|first| first.parse().ok());
        Self { load_average, cores: cores_online() }
    }

    /// Not every thread has a core when it wants one.
    #[must_use]
    pub fn is_short_of_cores(&self) -> bool {
        self.load_average.is_some_and(|load| load >= self.cores as f64)
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(load) = self.load_average else { return f.write_str("load average unknown") };
        write!(f, "load average {load:.1} on {} cores", self.cores)?;
        if self.is_short_of_cores() {
            f.write_str(": times hold the wait for a core")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_those_of_the_machine_as_the_kernel_lists_them() {
        assert_eq!([count_of_list("0\n"), count_of_list("0-1,4,8-11\n")], [Some(1), Some(7)]);
        assert_eq!([count_of_list(""), count_of_list("1-0")], [None, Some(0)]);
        assert!(cores_online() >= std::thread::available_parallelism().unwrap().get());
    }

    #[test]
    fn a_machine_short_of_cores_says_so() {
        let busy = |load| Busy { load_average: Some(load), cores: 2 };
        assert_eq!(busy(0.25).to_string(), "load average 0.2 on 2 cores");
        assert!(busy(2.0).to_string().ends_with("the wait for a core"));
        assert!(Busy::now().load_average.is_some());
    }
}
