//! Kafka's tools under Kafka's names: their flags, what they print, how they end.
//!
//! `millstream kafka-topics ...`, or the binary called by a tool's name (with or without `.sh`), is that tool. People's
//! scripts look for what Kafka's tools print, so layouts and exit codes (0, or 1 for everything else) are theirs and
//! not this command line's.
//!
//! Producing and consuming go through librdkafka, everything else through a few messages of the protocol over one TCP
//! connection to each broker ([`cluster`]): its administration lacks half of what the tools show
//! (`engine/decisions/0015-kafkas-tools.md`).

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

mod broker_api_versions;
pub(crate) mod client;
pub(crate) mod cluster;
mod configs;
mod connection;
mod console_consumer;
mod console_producer;
pub(crate) mod consume;
mod consumer_groups;
mod delete_records;
pub(crate) mod fault;
mod get_offsets;
pub(crate) mod groups;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod properties;
mod topics;

use fault::Fault;

/// A tool of Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Topics,
    ConsoleProducer,
    ConsoleConsumer,
    ConsumerGroups,
    Configs,
    GetOffsets,
    DeleteRecords,
    BrokerApiVersions,
}

/// By the name it is called by.
pub const TOOLS: [(&str, Tool); 8] = [
    ("kafka-topics", Tool::Topics),
    ("kafka-console-producer", Tool::ConsoleProducer),
    ("kafka-console-consumer", Tool::ConsoleConsumer),
    ("kafka-consumer-groups", Tool::ConsumerGroups),
    ("kafka-configs", Tool::Configs),
    ("kafka-get-offsets", Tool::GetOffsets),
    ("kafka-delete-records", Tool::DeleteRecords),
    ("kafka-broker-api-versions", Tool::BrokerApiVersions),
];

/// The tool that this process was started as, by its own name or by its first argument's, and the tool's arguments,
/// its name first.
#[must_use]
pub fn asked(args: &[OsString]) -> Option<(Tool, Vec<OsString>)> {
    let of = |at: usize| named(args.get(at)?).map(|tool| (tool, args[at..].to_vec()));
    of(0).or_else(|| of(1))
}

fn named(program: &OsString) -> Option<Tool> {
    let name = Path::new(program).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    TOOLS.iter().find(|(known, _)| *known == name).map(|(_, tool)| *tool)
}

/// Runs it.
#[must_use]
pub fn run(tool: Tool, args: Vec<OsString>) -> ExitCode {
    match tool {
        Tool::Topics => topics::run(args),
        Tool::ConsoleProducer => console_producer::run(args),
        Tool::ConsoleConsumer => console_consumer::run(args),
        Tool::ConsumerGroups => consumer_groups::run(args),
        Tool::Configs => configs::run(args),
        Tool::GetOffsets => get_offsets::run(args),
        Tool::DeleteRecords => delete_records::run(args),
        Tool::BrokerApiVersions => broker_api_versions::run(args),
    }
}

/// Kafka's tools know one way to fail.
const FAILED: u8 = 1;

/// The tool's arguments, or how it ends without them.
fn parse<A: Parser>(args: Vec<OsString>) -> Result<A, ExitCode> {
    let is_zookeeper = |arg: &OsString| {
        arg.to_str().is_some_and(|arg| arg == "--zookeeper" || arg.starts_with("--zookeeper="))
    };
    if args.iter().any(is_zookeeper) {
        eprintln!("--zookeeper is no longer needed: use --bootstrap-server HOST:PORT of any broker instead");
        return Err(FAILED.into());
    }
    A::try_parse_from(args).map_err(|error| {
        let _ = error.print();
        let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if is_asked_for { ExitCode::SUCCESS } else { FAILED.into() }
    })
}

/// Ends a tool: `say` prints what went wrong the way the tool does.
fn end(outcome: Result<(), Fault>, say: impl FnOnce(&Fault)) -> ExitCode {
    match outcome {
        Ok(()) | Err(Fault::ReaderLeft) => ExitCode::SUCCESS,
        Err(fault) => {
            say(&fault);
            FAILED.into()
        }
    }
}

#[cfg(test)]
mod tests;
