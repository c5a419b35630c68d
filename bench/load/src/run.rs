//! From flags to figures.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_client::Config;
use serde::Serialize;

use crate::args::{BenchArgs, BenchKind};
use crate::compare::{Comparison, compare};
use crate::html::page;
use crate::live::Live;
use crate::report::{Figures, Report};
use crate::saved::Saved;
use crate::system::SystemError;
use crate::traffic::Bench;
use crate::{quic_sink, traffic};

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    System(SystemError),
    #[error("{0}")]
    Usage(String),
}

impl BenchError {
    pub(crate) fn watching(source: io::Error) -> BenchError {
        BenchError::Io { what: "looking at the broker's process", source }
    }
}

/// What a bench has to say.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Report(Box<Report>),
    Comparison(Comparison),
    Written { page: PathBuf },
}

impl Answer {
    /// Whether what was checked is right; true where nothing was.
    pub fn is_good(&self) -> bool {
        match self {
            Answer::Report(report) => report.is_good(),
            Answer::Comparison(_) | Answer::Written { .. } => true,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Report(report) => report.fmt(f),
            Answer::Comparison(comparison) => comparison.fmt(f),
            Answer::Written { page } => write!(f, "written: {}", page.display()),
        }
    }
}

/// Runs one bench to its end. `config` says which broker, where one is needed. `started` is the time, UTC.
///
/// # Cancel safety
/// Dropping the future leaves a blocking measurement running to its end, and the topic of a run on the broker.
pub async fn run(args: BenchArgs, config: Config, started: String) -> Result<Answer, BenchError> {
    let bench = Bench { config: &config, started, live: Live::new() };
    let (traffic, output) = match args.kind {
        BenchKind::Produce(args) => (Box::pin(traffic::produce(&args, &bench)).await?, args.load.output),
        BenchKind::E2e(args) => (Box::pin(traffic::e2e(&args, &bench)).await?, args.load.output),
        BenchKind::Consume(args) => (Box::pin(traffic::consume(&args, &bench)).await?, args.load.output),
        BenchKind::Mixed(args) => (Box::pin(traffic::mixed(&args, &bench)).await?, args.load.output),
        BenchKind::Compare(args) => {
            let (a, b) = (saved(&args.a)?, saved(&args.b)?);
            return Ok(Answer::Comparison(compare(&a, &b, args.threshold)));
        }
        BenchKind::Report(args) => {
            let results = args.results.iter().map(|path| saved(path)).collect::<Result<Vec<_>, _>>()?;
            write(&args.html, page(&results).as_bytes())?;
            return Ok(Answer::Written { page: args.html });
        }
        BenchKind::Disk(args) => {
            let probe = args.probe();
            let report = blocking("disk bench", move || bench_disk::run(&probe)).await?;
            return Ok(Answer::Report(Box::new(Report::new(Figures::Disk(Box::new(report))))));
        }
        BenchKind::Quic(args) => {
            let bench = args.bench();
            let report = blocking("QUIC bench", move || quic_sink::run(bench)).await?;
            return Ok(Answer::Report(Box::new(Report::new(Figures::Quic(report)))));
        }
    };
    let report = Report::new(Figures::Traffic(Box::new(traffic)));
    if let Some(path) = &output.json {
        write(path, &serde_json::to_vec_pretty(&report).expect("figures are JSON"))?;
    }
    if let (Some(path), Some(saved)) = (&output.html, report.saved()) {
        write(path, page(&[saved]).as_bytes())?;
    }
    Ok(Answer::Report(Box::new(report)))
}

fn saved(path: &Path) -> Result<Saved, BenchError> {
    Saved::read(path).map_err(BenchError::Usage)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    fs::write(path, bytes).map_err(|source| BenchError::File { path: path.to_owned(), source })
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BenchError> {
    let done = tokio::task::spawn_blocking(work).await;
    let result = done.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    result.map_err(|source| BenchError::Io { what, source })
}
