//! A node from the outside: starting it, watching it, stopping it, from any thread.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_api::CoreId;
use engine_shard::{GroupOffsets, PartitionEnds};
use engine_turn::LINK_MESSAGES_MAX;

use crate::config::NodeConfig;
use crate::cpus::{CpuError, check_cpus};
use crate::executor::{self, CoreSeed};
use crate::mesh::Mesh;
use crate::signal::{Latch, lock};
use crate::stats::{CoreStats, NodeStats};

/// Why a node could not start. Nothing of it is left running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Cpus(#[from] CpuError),
    #[error("{sockets} sockets for {cores} cores: there must be one each")]
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
    #[error("data directory {what}: {why}")]
    Data { what: String, why: String },
    #[error("core {} could not start: {why}", core.0)]
    Core { core: CoreId, why: String },
}

/// Why a node that ran has ended by itself, or not in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("core {core} failed: {why}")]
    CoreFailed { core: u8, why: String },
    #[error(
        "cores {waiting:?} had not closed their logs within {deadline:?}: what they acknowledged is safe, the next \
         start scans their logs"
    )]
    StopTimedOut { waiting: Vec<u8>, deadline: Duration },
    /// To those who wait for it to be ready.
    #[error("the node was stopped before it was ready")]
    StoppedEarly,
}

/// A running node. Dropping it without [`stop`](Self::stop) leaves its cores running.
pub struct Node {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Starts one pinned thread per core and returns once each has its ring, its disk and its socket; logs are
    /// still being opened then, see [`ready`](Self::ready). Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        check_cpus(&config.cpus)?;
        let cores = config.cpus.len();
        if config.udp.len() != cores {
            return Err(StartError::Sockets { sockets: config.udp.len(), cores });
        }
        if config.tcp.len() != cores {
            return Err(StartError::Sockets { sockets: config.tcp.len(), cores });
        }
        executor::probe_ring()?;
        let shared = Arc::new(Shared::new(cores));
        let (started, starts) = mpsc::channel();
        let mut threads = Vec::with_capacity(cores);
        let mut outcomes = Vec::with_capacity(cores);
        for seed in seeds(config, &shared) {
            let core = seed.me;
            match executor::spawn(seed, started.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => outcomes.push((core, Err(StartError::Core { core, why: error.to_string() }))),
            }
        }
        drop(started);
        while outcomes.len() < cores {
            outcomes.push(starts.recv().expect("every core tells how it started"));
        }
        outcomes.sort_unstable_by_key(|(core, _)| *core);
        let failed = outcomes.into_iter().find_map(|(_, outcome)| outcome.err());
        let Some(error) = failed else {
            shared.tell_all(|| Control::Begin);
            return Ok(Self { shared, threads: Mutex::new(threads) });
        };
        shared.tell_all(|| Control::Stop);
        join(threads);
        Err(error)
    }

    /// Every core has opened its logs. Works on any executor; many may wait.
    pub fn ready(&self) -> impl Future<Output = Result<(), NodeError>> + Send + use<> {
        Arc::clone(&self.shared.ready).wait()
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.value() == Some(Ok(()))
    }

    /// Asks every core; a core answers between two turns. Works on any executor.
    pub fn stats(&self) -> impl Future<Output = NodeStats> + Send + use<> {
        let mut answers = Vec::with_capacity(self.shared.mesh.cores());
        self.shared.tell_all(|| {
            let answer = Arc::new(Latch::default());
            answers.push(Arc::clone(&answer));
            Control::Stats(Reply { answer })
        });
        async move {
            let mut cores = Vec::with_capacity(answers.len());
            for answer in answers {
                cores.extend(answer.wait().await.map(|stats| *stats));
            }
            NodeStats { cores }
        }
    }

    /// As [`stats`](Self::stats): which offsets can be read, of every partition of every core.
    pub fn partition_ends(&self) -> impl Future<Output = Vec<PartitionEnds>> + Send + use<> {
        self.gather(Control::Ends)
    }

    /// As [`stats`](Self::stats): what groups have committed.
    pub fn group_offsets(&self) -> impl Future<Output = Vec<GroupOffsets>> + Send + use<> {
        self.gather(Control::GroupOffsets)
    }

    /// What every core has of something, one after the other.
    fn gather<T: Clone + Send>(
        &self,
        ask: fn(Reply<Vec<T>>) -> Control,
    ) -> impl Future<Output = Vec<T>> + Send + use<T> {
        let mut answers = Vec::with_capacity(self.shared.mesh.cores());
        self.shared.tell_all(|| {
            let answer = Arc::new(Latch::default());
            answers.push(Arc::clone(&answer));
            ask(Reply { answer })
        });
        async move {
            let mut all = Vec::new();
            for answer in answers {
                all.extend(answer.wait().await.into_iter().flat_map(|part| *part));
            }
            all
        }
    }

    /// Begins to stop: refuses new work, finishes and syncs what was accepted, closes the logs. Returns at once;
    /// asking again does nothing.
    pub fn stop(&self) {
        self.shared.tell_all(|| Control::Stop);
    }

    /// Every core has ended: `Ok` after a [`stop`](Self::stop) that closed every log, the error of the first core
    /// that failed otherwise. Works on any executor; many may wait.
    pub fn ended(&self) -> impl Future<Output = Result<(), NodeError>> + Send + use<> {
        Arc::clone(&self.shared.ended).wait()
    }

    /// [`stop`](Self::stop), then waits on this thread until every core has ended, at most `deadline`.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn stop_within(&self, deadline: Duration) -> Result<(), NodeError> {
        self.stop();
        match self.shared.ended.wait_timeout(deadline) {
            Some(Ok(())) => {
                join(std::mem::take(&mut *lock(&self.threads)));
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Err(NodeError::StopTimedOut { waiting: self.shared.not_stopped(), deadline }),
        }
    }
}

/// The threads have done their last work: what they ran into has been told elsewhere.
fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}

fn seeds(config: NodeConfig, shared: &Arc<Shared>) -> Vec<CoreSeed> {
    let NodeConfig { cpus, data, identity, udp, tcp, shard, quic, kafka, disk, spin_before_park, events } =
        config;
    let cores = cpus.len();
    let numbered = (0..=u8::MAX).map(CoreId).zip(cpus.into_iter().zip(udp.into_iter().zip(tcp)));
    numbered
        .map(|(me, (cpu, (socket, listeners)))| {
            let mut shard = shard.clone();
            shard.core = me;
            shard.cores = u8::try_from(cores).unwrap_or(u8::MAX);
            // Any odd constant keeps the cores' seeds apart.
            shard.seed ^= u64::from(me.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut quic = quic.clone();
            quic.core = me;
            let mut kafka = kafka.clone();
            kafka.core = me;
            CoreSeed {
                me,
                cpu,
                cores,
                data: data.clone(),
                identity: identity.clone(),
                socket,
                listeners,
                shard,
                quic,
                kafka,
                disk: disk.clone(),
                spin_before_park,
                events: Arc::clone(&events),
                shared: Arc::clone(shared),
            }
        })
        .collect()
}

/// What other threads tell a core.
pub(crate) enum Control {
    /// Every core could start: go on.
    Begin,
    /// Stop; before [`Begin`](Self::Begin): end at once.
    Stop,
    Stats(Reply<CoreStats>),
    Ends(Reply<Vec<PartitionEnds>>),
    GroupOffsets(Reply<Vec<GroupOffsets>>),
}

/// Dropping it unanswered tells the asker that there is no such core any more.
pub(crate) struct Reply<T: Clone> {
    answer: Arc<Latch<Option<Box<T>>>>,
}

impl<T: Clone> Reply<T> {
    pub(crate) fn answer(self, answer: T) {
        self.answer.set(Some(Box::new(answer)));
    }
}

impl<T: Clone> Drop for Reply<T> {
    fn drop(&mut self) {
        self.answer.set(None);
    }
}

/// What the cores and the node's handle share.
pub(crate) struct Shared {
    pub(crate) begun: Instant,
    pub(crate) mesh: Arc<Mesh>,
    /// By core; `None` once it has ended.
    controls: Vec<Mutex<Option<VecDeque<Control>>>>,
    progress: Mutex<Vec<Progress>>,
    ready: Arc<Latch<Result<(), NodeError>>>,
    ended: Arc<Latch<Result<(), NodeError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Opening,
    Ready,
    Stopped,
    Ended,
}

impl Shared {
    fn new(cores: usize) -> Self {
        Self {
            begun: Instant::now(),
            mesh: Arc::new(Mesh::new(cores, LINK_MESSAGES_MAX)),
            controls: (0..cores).map(|_| Mutex::new(Some(VecDeque::new()))).collect(),
            progress: Mutex::new(vec![Progress::Opening; cores]),
            ready: Arc::default(),
            ended: Arc::default(),
        }
    }

    fn tell_all(&self, mut control: impl FnMut() -> Control) {
        for (inbox, doorbell) in self.controls.iter().zip(&self.mesh.doorbells) {
            let control = control();
            if let Some(inbox) = &mut *lock(inbox) {
                inbox.push_back(control);
                doorbell.ring();
            }
        }
    }

    pub(crate) fn next_control(&self, core: CoreId) -> Option<Control> {
        lock(&self.controls[usize::from(core.0)]).as_mut()?.pop_front()
    }

    pub(crate) fn core_ready(&self, core: CoreId) {
        if self.advance(core, Progress::Ready) {
            self.ready.set(Ok(()));
        }
    }

    pub(crate) fn core_stopped(&self, core: CoreId) {
        if self.advance(core, Progress::Stopped) {
            self.mesh.doorbells.iter().for_each(|doorbell| doorbell.ring());
        }
    }

    pub(crate) fn all_stopped(&self) -> bool {
        lock(&self.progress).iter().all(|progress| *progress >= Progress::Stopped)
    }

    fn not_stopped(&self) -> Vec<u8> {
        let progress = lock(&self.progress);
        (0..=u8::MAX)
            .zip(&*progress)
            .filter(|(_, progress)| **progress < Progress::Stopped)
            .map(|(core, _)| core)
            .collect()
    }

    pub(crate) fn core_ended(&self, core: CoreId) {
        *lock(&self.controls[usize::from(core.0)]) = None;
        if self.advance(core, Progress::Ended) {
            self.ready.set(Err(NodeError::StoppedEarly));
            self.ended.set(Ok(()));
        }
    }

    pub(crate) fn core_failed(&self, core: CoreId, why: String) {
        *lock(&self.controls[usize::from(core.0)]) = None;
        let error = NodeError::CoreFailed { core: core.0, why };
        self.ready.set(Err(error.clone()));
        self.ended.set(Err(error));
    }

    /// Returns whether every core has come as far now.
    fn advance(&self, core: CoreId, to: Progress) -> bool {
        let mut all = lock(&self.progress);
        let own = &mut all[usize::from(core.0)];
        *own = to.max(*own);
        all.iter().all(|progress| *progress >= to)
    }
}

#[cfg(test)]
mod tests;
