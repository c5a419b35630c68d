//! What a run found. Written as JSON and read back by `compare` and `report`: a field that is added has a default, so
//! that older results stay readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checker::Verdict;
use crate::cost::{Busy, Cost};
use crate::knee::Knee;
use crate::latency::{Latencies, LatencySummary};
use crate::machine::Machine;
use crate::quic_sink::SinkReport;
use crate::saved::{Saved, SavedFigures};
use crate::system::Description;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of this load generator.
    pub version: &'static str,
    pub machine: Machine,
    pub result: Figures,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figures {
    Disk(Box<bench_disk::DiskReport>),
    Quic(SinkReport),
    Traffic(Box<TrafficReport>),
}

/// A run against a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// `produce`, `consume`, `e2e`, `mixed`.
    pub kind: String,
    pub setup: Setup,
    pub system: Description,
    pub phases: Vec<Phase>,
    /// When one was searched for.
    pub knee: Option<Knee>,
    /// When every record was checked.
    pub verdict: Option<Verdict>,
}

/// What was asked for: everything without which the figures mean nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// As it can be typed again.
    pub command: String,
    /// UTC, of the start.
    pub started: String,
    pub driver: String,
    pub record_bytes: String,
    pub record_bytes_mean: f64,
    pub keys: String,
    pub compress_ratio: f64,
    pub partitions: u32,
    pub producers: u32,
    pub consumers: u32,
    pub groups: u32,
    pub spread: String,
    /// `all`, `leader` or `none`.
    pub acks: String,
    /// As asked for; what was in force is in the system's description.
    pub durability: String,
    pub compression: String,
    pub batch_bytes: usize,
    pub linger_us: u64,
    pub window: usize,
    pub memory_bytes: usize,
    /// `fixed`, `poisson`; `closed` at full rate.
    pub arrivals: String,
    pub warm_up_seconds: f64,
    pub seed: u64,
    /// Cores that each broker process may run on.
    pub broker_cores: Vec<String>,
    /// That the broker's files are on, where it could be found.
    pub broker_disk: Option<String>,
}

/// A stretch of the run, measured by itself; nothing was under way when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    /// Until the last answer, or the last record read.
    pub seconds: f64,
    pub produced: Option<Produced>,
    pub read: Vec<Read>,
    /// Of the broker's processes.
    pub cost: Option<Cost>,
    pub busy: Busy,
    pub series: Vec<Second>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Produced {
    /// Records per second, `None` at full rate.
    pub asked_rate: Option<f64>,
    /// Records that were due.
    pub asked: u64,
    pub sent: u64,
    pub acknowledged: u64,
    /// Due, and given up before they were sent: the system was too far behind.
    pub unsent: u64,
    /// By kind.
    pub failed: BTreeMap<String, u64>,
    pub retries: u64,
    pub records_per_second: f64,
    pub mb_per_second: f64,
    /// Acknowledged records per second, by those asked for.
    pub achieved: Option<f64>,
    /// From when a record was due until its acknowledgement was heard.
    pub latency: Option<LatencySummary>,
    pub curve: Vec<CurvePoint>,
    /// Parts of it that the system told of.
    pub stages: BTreeMap<String, LatencySummary>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// `tail`, `catch-up`, `back-fill`.
    pub name: String,
    pub records: u64,
    pub records_per_second: f64,
    pub mb_per_second: f64,
    /// From when a record was due until a consumer had it; of tails only.
    pub latency: Option<LatencySummary>,
    pub curve: Vec<CurvePoint>,
    /// How often the whole backlog was read.
    pub rounds: Option<u64>,
}

/// A point of a latency distribution: this share of records took no longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    pub percent: f64,
    pub us: u64,
}

/// One line of the time series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its end, from the start of the phase.
    pub at: f64,
    pub seconds: f64,
    pub asked: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub latency: Option<SecondLatency>,
    pub read: u64,
    /// From when a record was due until a consumer had it.
    pub read_latency: Option<SecondLatency>,
    /// By the reader of the backlog.
    pub back_filled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondLatency {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Report {
    pub fn new(result: Figures) -> Report {
        Report { version: env!("CARGO_PKG_VERSION"), machine: Machine::here(), result }
    }

    /// As it would be read back from a file; nothing for what is no run against a system.
    pub(crate) fn saved(&self) -> Option<Saved> {
        let Figures::Traffic(report) = &self.result else { return None };
        let result = SavedFigures::Traffic(report.clone());
        Some(Saved { version: self.version.to_owned(), machine: self.machine.clone(), result })
    }

    /// Whether what was checked is right; true where nothing was.
    pub fn is_good(&self) -> bool {
        match &self.result {
            Figures::Disk(_) | Figures::Quic(_) => true,
            Figures::Traffic(report) => report.verdict.as_ref().is_none_or(Verdict::is_good),
        }
    }
}

impl SecondLatency {
    pub(crate) fn of(latencies: &Latencies) -> Option<SecondLatency> {
        let summary = latencies.summary()?;
        Some(SecondLatency { p50_us: summary.p50_us, p99_us: summary.p99_us, max_us: summary.max_us })
    }
}

/// Where the curve is looked at: dense at both ends of what matters.
const CURVE_PERCENTS: [f64; 20] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.975, 99.99, 99.995,
    99.9975, 99.999, 99.9999, 100.0,
];

pub(crate) fn curve(latencies: &Latencies) -> Vec<CurvePoint> {
    let point = |percent: f64| latencies.at(percent / 100.0).map(|us| CurvePoint { percent, us });
    CURVE_PERCENTS.into_iter().filter_map(point).collect()
}

#[cfg(test)]
pub(crate) mod samples;
