//! The command line: one binary for the server, the administration over the SDK, and the tools for logs on disk.
//!
//! Results go to stdout, everything else to stderr; how a command ends is an exit code ([`failure`]). Each
//! command has a file of its own; [`args`] is the whole grammar.
//!
//! Does not know: the broker's inside, the protocol.
#![forbid(unsafe_code)]

pub mod args;
mod cluster;
mod consume;
mod doctor;
pub mod failure;
mod group;
mod interrupt;
pub mod kafka;
pub mod lines;
mod log;
mod manual;
mod output;
mod produce;
mod progress;
pub mod record_json;
mod run;
mod sdk;
mod serve;
mod topic;

pub use run::run;
