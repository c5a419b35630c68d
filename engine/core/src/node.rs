//! SKELETON of the node's public face: bodies to come, signatures agreed with `engine/broker`.

use std::future::Future;
use std::time::Duration;

use engine_api::CoreId;

use crate::config::NodeConfig;
use crate::stats::NodeStats;

/// Why a node could not start. Nothing of it is left running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Cpus(#[from] crate::cpus::CpuError),
    #[error("{sockets} UDP sockets for {cores} cores: there must be one each")]
    Sockets { sockets: usize, cores: usize },
    #[error(
        "the memory this process may lock (RLIMIT_MEMLOCK, {limit_bytes} bytes) is too small for io_uring: raise it with \
         `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit"
    )]
    Memlock { limit_bytes: u64 },
    #[error(
        "io_uring is forbidden here ({errno}): set `sysctl kernel.io_uring_disabled=0`, and in a container allow \
         io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    IoUringForbidden { errno: String },
    #[error("this kernel has no io_uring ({errno}): Millstream needs Linux 5.11 or later")]
    IoUringMissing { errno: String },
    #[error("{what}: {why}")]
    Data { what: String, why: String },
    #[error("{core:?} could not start: {why}")]
    Core { core: CoreId, why: String },
}

/// Why a node that ran has ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("core {core} failed: {why}")]
    CoreFailed { core: u8, why: String },
    #[error("cores {waiting:?} had not closed their logs within {deadline:?}: what they acknowledged is safe, the next start scans their logs")]
    StopTimedOut { waiting: Vec<u8>, deadline: Duration },
}

/// A running node. Dropping it without [`stop`](Self::stop) leaves its cores running.
#[derive(Debug)]
pub struct Node {}

#[allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
impl Node {
    /// Starts one pinned thread per core and returns once each has its ring, its disk and its socket; logs are
    /// still being opened then, see [`ready`](Self::ready). Blocks for some milliseconds.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        todo!()
    }
    /// Every core has opened its logs. Works on any executor; many may wait.
    pub fn ready(&self) -> impl Future<Output = Result<(), NodeError>> + Send + use<> {
        async { todo!() }
    }
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// Asks every core; a core answers between two turns. Works on any executor.
    pub fn stats(&self) -> impl Future<Output = NodeStats> + Send + use<> {
        async { todo!() }
    }
    /// Begins to stop: refuses new work, finishes and syncs what was accepted, closes the logs. Returns at once;
    /// asking again does nothing.
    pub fn stop(&self) {
        todo!()
    }
    /// Every core has ended: `Ok` after a [`stop`](Self::stop) that closed every log, the error of the first core
    /// that failed otherwise. Works on any executor; many may wait.
    pub fn ended(&self) -> impl Future<Output = Result<(), NodeError>> + Send + use<> {
        async { todo!() }
    }
    /// [`stop`](Self::stop), then waits on this thread until every core has ended, at most `deadline`.
    pub fn stop_within(&self, deadline: Duration) -> Result<(), NodeError> {
        todo!()
    }
}
