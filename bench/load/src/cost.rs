//! What a phase cost the broker and the machine: two snapshots and what lies between.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::machine::CpuTime;
use crate::usage::{Requests, Usage, device_of};

/// The processes under watch.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    brokers: Vec<u32>,
    device: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    at: Instant,
    broker: Option<Usage>,
    own: Usage,
    machine: CpuTime,
    requests: Option<Requests>,
}

/// Of all broker processes and their children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub used: Usage,
    pub cpu_seconds: f64,
    /// `None` when there were no records.
    pub per_million: Option<PerMillion>,
    pub cpu_seconds_per_gb: Option<f64>,
    /// Bytes written for each byte of values.
    pub write_amplification: Option<f64>,
    /// Of the whole device that the broker's files are on, other programs' included.
    pub device_requests: Option<Requests>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerMillion {
    pub cpu_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub written_bytes: Option<f64>,
    pub read_bytes: Option<f64>,
    pub device_writes: Option<f64>,
}

/// How busy the machine was, in cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    pub broker_cores: Option<f64>,
    pub generator_cores: f64,
    /// Everybody else on this machine. Without a broker's process to look at, the broker too when it is here.
    pub others_cores: f64,
    /// Taken away by the host.
    pub steal_cores: f64,
    pub generator_cpu_seconds: f64,
    pub generator_cpu_seconds_per_million: Option<f64>,
}

/// What the broker was paid for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Watch {
    pub(crate) fn of(brokers: &[u32]) -> Watch {
        let device = if brokers.is_empty() { None } else { device_of(brokers) };
        Watch { brokers: brokers.to_vec(), device }
    }

    pub(crate) fn device(&self) -> Option<&PathBuf> {
        self.device.as_ref()
    }

    pub(crate) fn snapshot(&self) -> io::Result<Snapshot> {
        let broker = (!self.brokers.is_empty()).then(|| Usage::of_trees(&self.brokers)).transpose()?;
        Ok(Snapshot {
            at: Instant::now(),
            broker,
            own: Usage::of_self()?,
            machine: CpuTime::now(),
            requests: self.device.as_deref().and_then(Requests::of),
        })
    }
}

impl Snapshot {
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    pub(crate) fn cost_since(&self, earlier: &Snapshot, work: Work) -> Option<Cost> {
        let used = self.broker?.since(&earlier.broker?);
        let requests = self.requests.zip(earlier.requests).map(|(now, then)| now.since(&then));
        let (millions, bytes) = (work.records as f64 / 1e6, work.bytes as f64);
        let per = |amount: f64| amount / millions;
        let per_million = (work.records > 0).then(|| PerMillion {
            cpu_seconds: per(used.cpu_seconds()),
            user_seconds: per(used.user_seconds),
            system_seconds: per(used.system_seconds),
            written_bytes: used.written_bytes.map(|written| per(written as f64)),
            read_bytes: used.read_bytes.map(|read| per(read as f64)),
            device_writes: requests.map(|requests| per(requests.writes as f64)),
        });
        let by_bytes = |amount: f64| (work.bytes > 0).then(|| amount / bytes);
        Some(Cost {
            used,
            cpu_seconds: used.cpu_seconds(),
            per_million,
            cpu_seconds_per_gb: by_bytes(used.cpu_seconds() * 1e9),
            write_amplification: used.written_bytes.and_then(|written| by_bytes(written as f64)),
            device_requests: requests,
        })
    }

    pub(crate) fn busy_since(&self, earlier: &Snapshot, work: Work) -> Busy {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        let own = self.own.since(&earlier.own).cpu_seconds();
        let broker = self.broker.zip(earlier.broker).map(|(now, then)| now.since(&then).cpu_seconds());
        let busy = self.machine.busy_seconds - earlier.machine.busy_seconds;
        Busy {
            broker_cores: broker.map(|cpu| cpu / seconds),
            generator_cores: own / seconds,
            others_cores: (busy - own - broker.unwrap_or(0.0)).max(0.0) / seconds,
            steal_cores: (self.machine.steal_seconds - earlier.machine.steal_seconds) / seconds,
            generator_cpu_seconds: own,
            generator_cpu_seconds_per_million: (work.records > 0).then(|| own / (work.records as f64 / 1e6)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Snapshot, Work};
    use crate::machine::CpuTime;
    use crate::usage::{Requests, Usage};

    fn usage(user: f64, system: f64, written: u64) -> Usage {
        Usage {
            user_seconds: user,
            system_seconds: system,
            written_bytes: Some(written),
            read_bytes: None,
            resident_bytes: 1000,
        }
    }

    fn snapshots() -> (Snapshot, Snapshot) {
        let at = Instant::now();
        let then = Snapshot {
            at,
            broker: Some(usage(1.0, 1.0, 100)),
            own: usage(5.0, 0.0, 0),
            machine: CpuTime { busy_seconds: 100.0, steal_seconds: 1.0 },
            requests: Some(Requests { reads: 1, writes: 10, flushes: 0 }),
        };
        let now = Snapshot {
            at: at + Duration::from_secs(10),
            broker: Some(usage(3.0, 2.0, 4_000_100)),
            own: usage(9.0, 0.0, 0),
            machine: CpuTime { busy_seconds: 112.0, steal_seconds: 3.0 },
            requests: Some(Requests { reads: 1, writes: 1010, flushes: 0 }),
        };
        (then, now)
    }

    #[test]
    fn costs_are_per_million_records_and_per_gigabyte() {
        let (then, now) = snapshots();
        let cost = now.cost_since(&then, Work { records: 2_000_000, bytes: 2_000_000 }).unwrap();
        let per = cost.per_million.unwrap();
        assert_eq!((cost.cpu_seconds, per.cpu_seconds, per.user_seconds), (3.0, 1.5, 1.0));
        assert_eq!((per.written_bytes, per.device_writes, per.read_bytes), (Some(2e6), Some(500.0), None));
        assert_eq!((cost.cpu_seconds_per_gb, cost.write_amplification), (Some(1500.0), Some(2.0)));
        let idle = now.cost_since(&then, Work { records: 0, bytes: 0 }).unwrap();
        assert_eq!((idle.per_million, idle.cpu_seconds_per_gb), (None, None));
    }

    #[test]
    fn others_are_what_neither_broker_nor_generator_used() {
        let (then, now) = snapshots();
        let busy = now.busy_since(&then, Work { records: 1_000_000, bytes: 0 });
        assert_eq!((busy.broker_cores, busy.generator_cores, busy.others_cores), (Some(0.3), 0.4, 0.5));
        assert_eq!((busy.steal_cores, busy.generator_cpu_seconds_per_million), (0.2, Some(4.0)));
    }
}
