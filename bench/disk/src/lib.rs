//! What the disk below a directory can do: the floor that appends and reads of the log are to be seen against.
//!
//! Everything goes to one file that is written whole beforehand, as the log's segments are, with direct I/O through
//! io_uring, so that neither the page cache nor the growth of files is measured.
//!
//! - [`probe`]: writes and reads by size and depth, and the latency of one small durable write.
//! - [`glance`]: the same in a second, for `millstream doctor`.
//! - [`device`]: what the system says of the disk; [`busy`]: and of the machine; [`fio`]: a second opinion.
//! - [`file`](mod@file): the file; [`args`]: flags of `millstream bench disk`; [`latency`], [`report`]: figures.
//! - `ring`, `aligned`: operations under way and the memory under them.
//!
//! Does not know: the log, its formats, the broker.

mod aligned;
pub mod args;
pub mod busy;
pub mod device;
pub mod file;
pub mod fio;
pub mod glance;
pub mod latency;
pub mod probe;
pub mod report;
mod ring;

pub use args::DiskArgs;
pub use busy::Busy;
pub use device::{Device, Disk};
pub use file::ProbeFile;
pub use glance::{Glance, glance};
pub use latency::Latency;
pub use probe::{DiskReport, Probe, run};
