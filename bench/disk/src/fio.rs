//! fio on the same file: a second opinion.

use std::io;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::file::ProbeFile;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FioFigures {
    pub block_bytes: usize,
    pub mb_per_second: f64,
    pub operations_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

/// Durable writes of `block_bytes`, one at a time, on the file as it stands, for whole seconds. Nothing when fio is not
/// installed.
///
/// # Errors
/// When it fails, or says what is not understood.
pub fn write(file: &ProbeFile, block_bytes: usize, duration: Duration) -> io::Result<Option<FioFigures>> {
    const FLAGS: [&str; 9] = [
        "--name=append",
        "--rw=write",
        "--direct=1",
        "--sync=dsync",
        "--ioengine=psync",
        "--overwrite=1",
        "--fallocate=none",
        "--time_based=1",
        "--output-format=json",
    ];
    let output = Command::new("fio")
        .args(FLAGS)
        .arg(format!("--filename={}", file.path().display()))
        .arg(format!("--bs={block_bytes}"))
        .arg(format!("--size={}", file.bytes() / block_bytes as u64 * block_bytes as u64))
        .arg(format!("--runtime={}", duration.as_secs().max(1)))
        .output();
    match output {
        Ok(output) if output.status.success() => figures(block_bytes, &output.stdout).map(Some),
        Ok(output) => {
            Err(io::Error::other(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn figures(block_bytes: usize, json: &[u8]) -> io::Result<FioFigures> {
    let report: Value = serde_json::from_slice(json)?;
    let write = &report["jobs"][0]["write"];
    let number =
        |value: &Value| value.as_f64().ok_or_else(|| io::Error::other("fio's report lacks a figure"));
    let percentile = |name: &str| number(&write["clat_ns"]["percentile"][name]).map(|ns| ns / 1000.0);
    Ok(FioFigures {
        block_bytes,
        mb_per_second: number(&write["bw_bytes"])? / 1e6,
        operations_per_second: number(&write["iops"])?,
        p50_us: percentile("50.000000")?,
        p99_us: percentile("99.000000")?,
        p999_us: percentile("99.900000")?,
    })
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn a_report_is_read_and_a_broken_one_refused() {
        let json = br#"{"jobs":[{"write":{"bw_bytes":4096000,"iops":1000.0,"clat_ns":{"percentile":
            {"50.000000":94000,"99.000000":150000,"99.900000":170000}}}}]}"#;
        let figures_of = figures(4096, json).unwrap();
        assert_eq!((figures_of.mb_per_second, figures_of.operations_per_second), (4.096, 1000.0));
        assert_eq!((figures_of.p50_us, figures_of.p99_us, figures_of.p999_us), (94.0, 150.0, 170.0));
        assert!(figures(4096, b"{}").is_err());
    }
}
