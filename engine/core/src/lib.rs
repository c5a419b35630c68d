//! The cores of a node: one pinned executor each, owning a shard, a QUIC server, a disk and a socket, and the
//! mesh between them. Moves inputs and effects; decides nothing.
//!
//! - [`node`]: starting, watching and stopping a node from another thread.
//! - [`config`]: what a node must be told, as plain data.
//! - [`cpus`]: which processors there are and which to take.
//! - [`stats`]: what a node tells about itself.
//!
//! Does not know: settings files, certificates, what a request means, what the bytes on disk mean.
#![forbid(unsafe_code)]

pub mod config;
pub mod cpus;
pub mod node;
pub mod stats;

pub use config::{EventSink, NodeConfig};
pub use cpus::{CpuError, available_cpus, choose_cpus};
pub use node::{Node, NodeError, StartError};
pub use stats::{CoreStats, LoopStats, MeshStats, NodeStats};
