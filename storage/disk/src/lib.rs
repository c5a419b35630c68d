//! The door to the disk: runs the operations that logs ask for, on the files of one data directory.
//!
//! Does not know: what the bytes mean, which order a log needs, who owns the directory.

pub mod config;
pub mod stats;

pub use config::DiskConfig;
pub use stats::{DiskStats, LatencyHistogram};
