//! Durable writes and reads, by size and by how many are under way.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::aligned::BLOCK_BYTES;
use crate::busy::Busy;
use crate::device::Device;
use crate::file::ProbeFile;
use crate::fio::{self, FioFigures};
use crate::latency::Latency;
use crate::ring::{Kind, Ring, Run};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Probe {
    /// A directory on the disk in question.
    pub dir: PathBuf,
    /// Bytes of an operation.
    pub block_bytes: Vec<usize>,
    /// Operations under way at a time.
    pub depths: Vec<usize>,
    /// As large as `depth * block_bytes` at least, for all of them.
    pub file_bytes: u64,
    /// For each size, of writes, and as long of reads.
    pub duration: Duration,
    /// Ask fio too, where it is installed.
    pub fio: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct DiskReport {
    pub device: Device,
    /// Before the first operation.
    pub busy: Busy,
    pub file_bytes: u64,
    /// Of one durable write of 4 KiB at a time, measured on its own.
    pub sync: Option<Latency>,
    /// `O_DIRECT|O_DSYNC`, in order.
    pub writes: Vec<Row>,
    /// `O_DIRECT`, in order.
    pub reads: Vec<Row>,
    /// Durable writes, one at a time.
    pub fio: Vec<FioFigures>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub block_bytes: usize,
    pub depth: usize,
    pub mb_per_second: f64,
    pub operations_per_second: f64,
    pub latency: Option<Latency>,
}

/// Blocks the calling thread. The file is removed afterwards.
///
/// # Errors
/// The system's.
pub fn run(probe: &Probe) -> io::Result<DiskReport> {
    let busy = Busy::now();
    let path = probe.dir.join(format!("millstream-bench-{}.zero", std::process::id()));
    let file = ProbeFile::make(&path, probe.file_bytes, Duration::MAX)?;
    let sync = measure(&file, Kind::Write, BLOCK_BYTES, 1, probe.duration)?;
    let writes = rows(probe, &file, Kind::Write)?;
    let reads = rows(probe, &file, Kind::Read)?;
    let mut others = Vec::new();
    if probe.fio {
        for &block_bytes in &probe.block_bytes {
            others.extend(fio::write(&file, block_bytes, probe.duration)?);
        }
    }
    Ok(DiskReport {
        device: Device::below(&probe.dir),
        busy,
        file_bytes: file.bytes(),
        sync: Latency::of(sync.latencies),
        writes,
        reads,
        fio: others,
    })
}

fn rows(probe: &Probe, file: &ProbeFile, kind: Kind) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &block_bytes in &probe.block_bytes {
        for &depth in &probe.depths {
            let share = probe.duration / probe.depths.len() as u32;
            let run = measure(file, kind, block_bytes, depth, share)?;
            let operations_per_second = run.latencies.len() as f64 / run.elapsed.as_secs_f64();
            rows.push(Row {
                block_bytes,
                depth,
                mb_per_second: operations_per_second * block_bytes as f64 / 1e6,
                operations_per_second,
                latency: Latency::of(run.latencies),
            });
        }
    }
    Ok(rows)
}

pub(crate) fn measure(
    file: &ProbeFile,
    kind: Kind,
    block_bytes: usize,
    depth: usize,
    duration: Duration,
) -> io::Result<Run> {
    if (depth * block_bytes) as u64 > file.bytes() {
        let what = format!("{depth} operations of {block_bytes} bytes need a larger file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ring::new(&file.open()?, block_bytes, depth)?.run(kind, file.bytes(), duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_and_depth_has_its_row_and_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe {
            dir: dir.path().to_owned(),
            block_bytes: vec![4096, 65_536],
            depths: vec![1, 4],
            file_bytes: 2 << 20,
            duration: Duration::from_millis(20),
            fio: false,
        };
        let report = run(&probe).unwrap();
        for rows in [&report.writes, &report.reads] {
            let shapes: Vec<_> = rows.iter().map(|row| (row.block_bytes, row.depth)).collect();
            assert_eq!(shapes, [(4096, 1), (4096, 4), (65_536, 1), (65_536, 4)]);
            assert!(rows.iter().all(|row| row.mb_per_second > 0.0 && row.latency.is_some()));
        }
        assert!(report.sync.is_some_and(|sync| sync.p50_us <= sync.p999_us));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        probe.depths = vec![64];
        assert_eq!(run(&probe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
