//! Figures as people read them.

use std::fmt;

use crate::probe::{DiskReport, Row};

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "disk           {}", self.device)?;
        writeln!(f, "busy           {}", self.busy)?;
        writeln!(f, "file           {} MiB, every block written before", self.file_bytes >> 20)?;
        if let Some(sync) = &self.sync {
            writeln!(f, "sync           4 KiB, one at a time     {sync}  of {}", sync.count)?;
        }
        rows(f, "durable writes (O_DIRECT|O_DSYNC, in order)", &self.writes)?;
        for fio in &self.fio {
            let (bytes, mb, each) = (fio.block_bytes, fio.mb_per_second, fio.operations_per_second);
            writeln!(
                f,
                "{bytes:>9} B      fio {mb:>9.1} MB/s {each:>8.0}/s  p50 {:>6.0}  p99 {:>6.0}  p99.9 {:>6.0}",
                fio.p50_us, fio.p99_us, fio.p999_us
            )?;
        }
        rows(f, "reads (O_DIRECT, in order)", &self.reads)
    }
}

fn rows(f: &mut fmt::Formatter<'_>, what: &str, rows: &[Row]) -> fmt::Result {
    writeln!(f, "{what}")?;
    for Row { block_bytes, depth, mb_per_second, operations_per_second, latency } in rows {
        write!(
            f,
            "{block_bytes:>9} B  depth {depth} {mb_per_second:>9.1} MB/s {operations_per_second:>8.0}/s  "
        )?;
        match latency {
            Some(latency) => writeln!(f, "{latency}")?,
            None => writeln!(f, "none came to an end")?,
        }
    }
    Ok(())
}
