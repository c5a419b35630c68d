//! The cores of a node: one pinned executor each, owning a shard, a server for each protocol, a disk and sockets, and
//! the mesh between them. Drives `engine/turn`; decides nothing.
//!
//! - [`node`]: starting, watching and stopping a node from another thread.
//! - [`config`]: what a node must be told, as plain data.
//! - [`cpus`]: which processors there are and which to take.
//! - [`stats`]: what a node tells about itself.
//!
//! Inside, `executor` makes a core's thread and ring, `core` is what lives on it, `turn` moves what has gathered in and
//! out, `kafka` moves the bytes of Kafka's clients, `mesh` carries messages between cores, `signal` wakes threads and executors; `tests/interleavings.rs` runs
//! these two under loom.
//!
//! Does not know: settings files, certificates, what a request means, what the bytes on disk mean.
#![forbid(unsafe_code)]

pub mod config;
pub mod cpus;
pub mod node;
pub mod stats;

mod core;
mod executor;
mod kafka;
mod mesh;
mod signal;
mod sync;
mod turn;

pub use config::{EventSink, NodeConfig};
pub use cpus::{CpuError, available_cpus, check_cpus, choose_cpus};
pub use engine_turn::TurnStats;
pub use node::{Node, NodeError, StartError};
pub use stats::{CoreStats, ExecutorStats, MeshStats, NodeStats};
