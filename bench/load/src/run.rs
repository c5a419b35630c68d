//! From flags to figures.

use std::io;

use millstream_client::Config;

use crate::args::{BenchArgs, BenchKind};
use crate::report::{Figures, Report};
use crate::{quic_sink, traffic};

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("{0}")]
    Connect(String),
    #[error("topic for the run: {0}")]
    Topic(String),
    #[error("sending: {0}")]
    Send(String),
    #[error("reading back: {0}")]
    Read(String),
}

/// Runs one bench to its end. `config` says which broker; `disk` and `quic` need none.
///
/// # Cancel safety
/// Dropping the future leaves a blocking measurement running to its end, and the topic of a run on the broker.
pub async fn run(args: BenchArgs, config: Config) -> Result<Report, BenchError> {
    let figures = match args.kind {
        BenchKind::Produce(args) => {
            Box::pin(traffic::produce(&args, &config)).await.map(Box::new).map(Figures::Traffic)
        }
        BenchKind::E2e(args) => {
            Box::pin(traffic::e2e(&args, &config)).await.map(Box::new).map(Figures::Traffic)
        }
        BenchKind::Consume(args) => {
            Box::pin(traffic::consume(&args, &config)).await.map(Box::new).map(Figures::Traffic)
        }
        BenchKind::Disk(args) => {
            let probe = args.probe();
            blocking("disk bench", move || bench_disk::run(&probe)).await.map(Figures::Disk)
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
