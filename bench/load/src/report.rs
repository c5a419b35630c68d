//! What a run found, for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;
use crate::quic_sink::SinkReport;
use crate::traffic::{BrokerCost, Setup, TrafficReport};

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
    Disk(bench_disk::DiskReport),
    Quic(SinkReport),
    Traffic(Box<TrafficReport>),
}

impl Report {
    pub fn new(result: Figures) -> Report {
        Report { version: env!("CARGO_PKG_VERSION"), machine: Machine::here(), result }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Figures::Disk(report) => report.fmt(f)?,
            Figures::Quic(report) => quic(f, report)?,
            Figures::Traffic(report) => traffic(f, report)?,
        }
        writeln!(f, "load generator {}", self.version)?;
        write!(f, "machine        {}", self.machine)
    }
}

fn quic(f: &mut fmt::Formatter<'_>, report: &SinkReport) -> fmt::Result {
    writeln!(f, "bare QUIC      {} bytes one way, {:.2} GB/s", report.total_bytes, report.gb_per_second)?;
    writeln!(f, "receiver       {:.3} CPU s/GB", report.receiver_cpu_seconds_per_gb)?;
    writeln!(f, "sender         {:.3} CPU s/GB", report.sender_cpu_seconds_per_gb)?;
    writeln!(f, "windows        {:?}", report.windows)
}

fn traffic(f: &mut fmt::Formatter<'_>, report: &TrafficReport) -> fmt::Result {
    let rate = (report.records_per_second, report.mb_per_second);
    writeln!(
        f,
        "{:<14} {} records in {:.2} s: {:.0} records/s, {:.1} MB/s",
        report.kind, report.records, report.seconds, rate.0, rate.1
    )?;
    for (name, latency) in [
        ("latency", &report.latency),
        ("broker queue", &report.broker_queue),
        ("broker disk", &report.broker_disk),
    ] {
        if let Some(latency) = latency {
            writeln!(f, "{name:<14} {latency}")?;
        }
    }
    if report.setup.rate.is_none() && report.kind == "produce" {
        writeln!(f, "               (at full rate latency is mostly the producer's own queue)")?;
    }
    writeln!(f, "failed         {}, retried batches {}", report.failed, report.producer_retries)?;
    if let Some(failure) = &report.first_failure {
        writeln!(f, "first failure  {failure}")?;
    }
    if let Some(cost) = &report.broker {
        broker_cost(f, cost)?;
    }
    setup(f, &report.setup, report.protocol)
}

fn broker_cost(f: &mut fmt::Formatter<'_>, cost: &BrokerCost) -> fmt::Result {
    let per = (cost.cpu_seconds_per_million_records, cost.cpu_seconds_per_gb);
    writeln!(
        f,
        "broker CPU     {:.2} s, {:.3} s per million records, {:.3} s per GB",
        cost.cpu_seconds, per.0, per.1
    )?;
    if let (Some(bytes), Some(times)) = (cost.written_bytes_per_million_records, cost.write_amplification) {
        writeln!(f, "broker writes  {:.1} MB per million records, {times:.2} times the values", bytes / 1e6)?;
    }
    writeln!(f, "broker memory  {:.1} MiB resident", cost.resident_bytes as f64 / f64::from(1 << 20))
}

fn setup(f: &mut fmt::Formatter<'_>, setup: &Setup, protocol: &str) -> fmt::Result {
    let rate = setup.rate.map_or("full rate".to_string(), |rate| format!("open loop at {rate} records/s"));
    writeln!(
        f,
        "load           {rate}, {} B records, {} clients, {} s warm-up",
        setup.record_bytes, setup.clients, setup.warm_up_seconds
    )?;
    writeln!(
        f,
        "batch          {} B, linger {} us, compression {}",
        setup.batch_bytes, setup.linger_us, setup.compression
    )?;
    writeln!(
        f,
        "durability     acks={}, reached {}, {} replicas",
        setup.acks, setup.durability, setup.replicas
    )?;
    writeln!(f, "topic          {} partitions {:?}", setup.partitions, setup.topic_configs)?;
    writeln!(f, "protocol       {protocol}")?;
    writeln!(f, "broker         {}, cores {:?}", setup.broker_version, setup.broker_cores)
}
