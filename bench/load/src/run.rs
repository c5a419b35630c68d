//! From flags to figures.

use std::io;

use crate::args::{BenchArgs, BenchKind};
use crate::report::{Figures, Report};
use crate::{disk, quic_sink};

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

/// Runs one bench to its end.
///
/// # Cancel safety
/// Dropping the future leaves a blocking measurement running to its end; nothing is lost but its figures.
pub async fn run(args: BenchArgs) -> Result<Report, BenchError> {
    let figures = match args.kind {
        BenchKind::Disk(args) => {
            let bench = args.bench();
            blocking("disk bench", move || disk::run(&bench)).await.map(Figures::Disk)
        }
        BenchKind::Quic(args) => {
            let bench = args.bench();
            blocking("QUIC bench", move || quic_sink::run(bench)).await.map(Figures::Quic)
        }
    };
    figures.map(Report::new)
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BenchError> {
    let done = tokio::task::spawn_blocking(work).await;
    let result = done.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    result.map_err(|source| BenchError::Io { what, source })
}
