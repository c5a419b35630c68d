//! One node as a process: settings in, a running broker out, and what operators see of it.
//!
//! Wiring only, in the order of a start: [`settings`], [`preflight`], [`data_dir`] with [`identity`], [`certs`],
//! the sockets, the cores (`engine/core`), and the control thread with the HTTP port ([`metrics`], probes).
//!
//! Does not know: what a request means, how a core works, what is in a log.
#![forbid(unsafe_code)]

pub mod certs;
mod control;
pub mod cores;
pub mod data_dir;
mod exposition;
mod group_metrics;
mod http;
pub mod identity;
mod kafka_metrics;
pub mod logger;
mod metrics;
mod notify;
pub mod preflight;
mod process;
mod random;
mod replace;
pub mod run;
pub mod settings;
mod signals;
pub mod utc;

pub use run::{RunError, VERSION, run};
pub use settings::{Flags, Settings, SettingsError};
