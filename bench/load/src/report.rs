//! What a run found, for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::disk::{DiskFigures, DiskReport};
use crate::machine::Machine;
use crate::quic_sink::SinkReport;

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
    Disk(DiskReport),
    Quic(SinkReport),
}

impl Report {
    pub fn new(result: Figures) -> Report {
        Report { version: env!("CARGO_PKG_VERSION"), machine: Machine::here(), result }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Figures::Disk(report) => disk(f, report)?,
            Figures::Quic(report) => quic(f, report)?,
        }
        writeln!(f, "load generator {}", self.version)?;
        write!(f, "machine        {}", self.machine)
    }
}

fn disk(f: &mut fmt::Formatter<'_>, report: &DiskReport) -> fmt::Result {
    writeln!(f, "durable appends (O_DIRECT|O_DSYNC, one at a time) to a zeroed file")?;
    for row in &report.rows {
        writeln!(f, "{:>7} B  pwrite {}", row.block_bytes, DiskLine(&row.pwrite))?;
        match &row.fio {
            Some(fio) => writeln!(f, "           fio    {}", DiskLine(fio))?,
            None => writeln!(f, "           fio    not installed")?,
        }
    }
    Ok(())
}

struct DiskLine<'a>(&'a DiskFigures);

impl fmt::Display for DiskLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.1} MB/s {:8.0} writes/s", self.0.mb_per_second, self.0.writes_per_second)?;
        self.0.latency.as_ref().map_or(Ok(()), |latency| write!(f, "  {latency}"))
    }
}

fn quic(f: &mut fmt::Formatter<'_>, report: &SinkReport) -> fmt::Result {
    writeln!(f, "bare QUIC      {} bytes one way, {:.2} GB/s", report.total_bytes, report.gb_per_second)?;
    writeln!(f, "receiver       {:.3} CPU s/GB", report.receiver_cpu_seconds_per_gb)?;
    writeln!(f, "sender         {:.3} CPU s/GB", report.sender_cpu_seconds_per_gb)?;
    writeln!(f, "windows        {:?}", report.windows)
}
