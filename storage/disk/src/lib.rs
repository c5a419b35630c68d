//! The door to the disk: runs the operations that logs ask for, on the files of one data directory.
//!
//! ```text
//! <data>/logs/<16 hex of log id>/<10 digits>.seg | <10 digits>.idx | checkpoint
//! <data>/spare/<core>-<n>.seg
//! ```
//! Segments are opened `O_DIRECT|O_DSYNC`: a write that is answered is on stable storage. They are read and written
//! through the core's ring; small files, directories and opening go to threads for calls that block, so the core never
//! waits for them.
//!
//! - [`disk`]: one core's disk: [`Disk::run`] takes a log's operation to its answer.
//! - [`config`], [`stats`]: its bounds and its counters.
//!
//! Does not know: what the bytes mean, which order a log needs, who owns the directory.

pub mod config;
pub mod disk;
pub mod stats;

mod buffers;
mod error;
mod files;
mod gates;
mod paths;
mod segment;
mod small;
mod spares;

pub use config::DiskConfig;
pub use disk::Disk;
pub use paths::log_directory;
pub use stats::DiskStats;
