//! From the command line to its exit code.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, Global};
use crate::failure::{Exit, Failure};
use crate::{cluster, consume, doctor, group, kafka, log, manual, output, produce, sdk, serve, topic};

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some((tool, args)) = kafka::asked(&args) {
        return kafka::run(tool, args);
    }
    let outcome = dispatch(Cli::parse());
    if let Err(failure) = &outcome {
        failure.print();
    }
    outcome.map_or_else(|failure| failure.exit, |()| Exit::Ok).into()
}

fn dispatch(Cli { global, command }: Cli) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Topic(command) => on_one_thread(sdk::with_client(&global, async |client| {
            topic::run(&client.admin(), command, global.format).await
        })),
        Command::Group(command) => on_one_thread(sdk::with_client(&global, async |client| {
            group::run(&client.admin(), command, global.format).await
        })),
        Command::Produce(args) if args.kafka => on_two_threads(kafka::produce::run(&global, args)),
        Command::Produce(args) => on_two_threads(produce::run(&global, args)),
        Command::Consume(args) if args.kafka => on_two_threads(kafka::consume::run(&global, args)),
        Command::Consume(args) => on_two_threads(consume::run(&global, args)),
        Command::Cluster(command) => on_one_thread(sdk::with_client(&global, async |client| {
            cluster::run(&client.admin(), command, global.format).await
        })),
        Command::Log(command) => log::run(&command, global.format),
        Command::Doctor(args) => doctor::run(&args, global.format),
        Command::Bench(args) => on_two_threads(bench(&global, *args)),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

async fn bench(global: &Global, args: bench_load::BenchArgs) -> Result<(), Failure> {
    let started = engine_broker::utc::rfc3339(engine_broker::utc::now_ms());
    let answer = bench_load::run(args, sdk::config(global)?, started).await.map_err(Failure::failed)?;
    let json = || serde_json::to_value(&answer).expect("figures are JSON");
    output::print(global.format, || format!("{answer}\n"), json)?;
    if answer.is_good() {
        Ok(())
    } else {
        Err(Failure::failed("records were lost, doubled, damaged or out of order: see above"))
    }
}

fn on_one_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    on(tokio::runtime::Builder::new_current_thread(), work)
}

/// This thread cuts lines or prints them; the other one does QUIC.
pub(crate) fn on_two_threads<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1);
    on(builder, work)
}

fn on<T>(
    mut builder: tokio::runtime::Builder,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = builder.enable_all().build().map_err(|e| Failure::failed(format_args!("runtime: {e}")))?;
    let outcome = runtime.block_on(work);
    // Whatever still runs has nobody left to tell.
    runtime.shutdown_background();
    outcome
}
