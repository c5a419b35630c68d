//! The floor of durable appends: plain `pwrite` with `O_DIRECT|O_DSYNC` to a file zeroed before, one at a time, and
//! fio on the same file when it is there. What the log achieves is to be seen against these.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::latency::{Latencies, LatencySummary};

/// Direct I/O wants memory, offsets and lengths in multiples of the block.
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Clone)]
pub struct DiskBench {
    /// A directory on the disk in question.
    pub dir: PathBuf,
    pub block_bytes: Vec<usize>,
    pub file_bytes: u64,
    /// Per block size.
    pub duration: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct DiskReport {
    pub rows: Vec<DiskRow>,
}

#[derive(Debug, Clone, Serialize)]
pub struct DiskRow {
    pub block_bytes: usize,
    pub pwrite: DiskFigures,
    /// Absent when fio is not installed.
    pub fio: Option<DiskFigures>,
}

#[derive(Debug, Clone, Serialize)]
pub struct DiskFigures {
    pub mb_per_second: f64,
    pub writes_per_second: f64,
    pub latency: Option<LatencySummary>,
}

/// Blocks the calling thread. The file is removed afterwards.
pub fn run(bench: &DiskBench) -> io::Result<DiskReport> {
    let path = bench.dir.join(format!("millstream-bench-{}.zero", std::process::id()));
    let rows = zeroed(&path, bench.file_bytes).and_then(|()| rows(bench, &path));
    let removed = std::fs::remove_file(&path);
    let report = DiskReport { rows: rows? };
    removed.map(|()| report)
}

fn rows(bench: &DiskBench, path: &Path) -> io::Result<Vec<DiskRow>> {
    let row = |&block_bytes: &usize| {
        let pwrite = pwrite(path, block_bytes, bench.file_bytes, bench.duration)?;
        let fio = fio(path, block_bytes, bench.file_bytes, bench.duration)?;
        Ok(DiskRow { block_bytes, pwrite, fio })
    };
    bench.block_bytes.iter().map(row).collect()
}

/// Every block written once, so that later writes change no extent.
pub fn zeroed(path: &Path, file_bytes: u64) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let file =
        OpenOptions::new().create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let zeros = Aligned::filled(CHUNK_BYTES, 0);
    let mut at = 0;
    while at < file_bytes {
        file.write_all_at(zeros.bytes(), at)?;
        at += CHUNK_BYTES as u64;
    }
    file.sync_all()
}

fn pwrite(path: &Path, block_bytes: usize, file_bytes: u64, duration: Duration) -> io::Result<DiskFigures> {
    let file = durable(path)?;
    let block = Aligned::filled(block_bytes, 0xA5);
    let mut latencies = Latencies::default();
    let blocks = file_bytes / block_bytes as u64;
    assert!(blocks > 0, "the file holds at least one block");
    let start = Instant::now();
    let (mut count, mut elapsed) = (0_u64, Duration::ZERO);
    while elapsed < duration {
        file.write_all_at(block.bytes(), (count % blocks) * block_bytes as u64)?;
        let now = start.elapsed();
        latencies.record(now - elapsed);
        (count, elapsed) = (count + 1, now);
    }
    let writes_per_second = count as f64 / elapsed.as_secs_f64();
    let mb_per_second = writes_per_second * block_bytes as f64 / 1e6;
    Ok(DiskFigures { mb_per_second, writes_per_second, latency: latencies.summary() })
}

fn durable(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path)
}

/// fio, one write at a time, on the file as it stands. Nothing when it is not installed.
pub fn fio(
    path: &Path,
    block_bytes: usize,
    file_bytes: u64,
    duration: Duration,
) -> io::Result<Option<DiskFigures>> {
    let output = Command::new("fio")
        .arg("--name=append")
        .arg(format!("--filename={}", path.display()))
        .args([
            "--rw=write",
            "--direct=1",
            "--sync=dsync",
            "--ioengine=psync",
            "--overwrite=1",
            "--fallocate=none",
        ])
        .args(["--time_based=1", "--output-format=json"])
        .arg(format!("--bs={block_bytes}"))
        .arg(format!("--size={}", file_bytes / block_bytes as u64 * block_bytes as u64))
        .arg(format!("--runtime={}", duration.as_secs().max(1)))
        .output();
    match output {
        Ok(output) if output.status.success() => fio_figures(&output.stdout).map(Some),
        Ok(output) => {
            Err(io::Error::other(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn fio_figures(json: &[u8]) -> io::Result<DiskFigures> {
    let report: Value = serde_json::from_slice(json)?;
    let write = &report["jobs"][0]["write"];
    let number =
        |value: &Value| value.as_f64().ok_or_else(|| io::Error::other("fio's report lacks a figure"));
    let us = |ns: &Value| ns.as_f64().map_or(0, |ns| (ns / 1000.0) as u64);
    let latency = &write["clat_ns"];
    let at = |percentile: &str| us(&latency["percentile"][percentile]);
    let summary = LatencySummary {
        count: write["total_ios"].as_u64().unwrap_or(0),
        mean_us: latency["mean"].as_f64().unwrap_or(0.0) / 1000.0,
        p50_us: at("50.000000"),
        p90_us: at("90.000000"),
        p99_us: at("99.000000"),
        p999_us: at("99.900000"),
        p9999_us: at("99.990000"),
        max_us: us(&latency["max"]),
    };
    Ok(DiskFigures {
        mb_per_second: number(&write["bw_bytes"])? / 1e6,
        writes_per_second: number(&write["iops"])?,
        latency: Some(summary),
    })
}

/// Memory that begins on a block, found inside a larger buffer.
#[derive(Debug)]
struct Aligned {
    buffer: Vec<u8>,
    from: usize,
    bytes: usize,
}

impl Aligned {
    fn filled(bytes: usize, byte: u8) -> Aligned {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "direct I/O goes by whole blocks");
        let buffer = vec![byte; bytes + BLOCK_BYTES];
        let from = buffer.as_ptr().align_offset(BLOCK_BYTES);
        assert!(from < BLOCK_BYTES, "an aligned address lies within one block");
        Aligned { buffer, from, bytes }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.from..self.from + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::{Aligned, BLOCK_BYTES, fio_figures};

    #[test]
    fn buffers_begin_on_a_block() {
        let block = Aligned::filled(8192, 7);
        assert_eq!(block.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert_eq!(block.bytes().len(), 8192);
    }

    #[test]
    fn a_report_of_fio_is_read_and_a_broken_one_refused() {
        let json = br#"{"jobs":[{"write":{"bw_bytes":4096000,"iops":1000.0,"total_ios":10,
            "clat_ns":{"mean":95000.0,"max":200000,"percentile":{"50.000000":94000,"99.000000":150000}}}}]}"#;
        let figures = fio_figures(json).unwrap();
        assert_eq!(figures.writes_per_second, 1000.0);
        assert_eq!(figures.latency.map(|l| (l.p50_us, l.p99_us, l.max_us)), Some((94, 150, 200)));
        assert!(fio_figures(b"{}").is_err());
    }
}
