//! A core's thread: its ring, what lives on it, and its end.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use engine_api::CoreId;
use engine_shard::{Shard, ShardConfig};
use engine_turn::CoreLogic;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use net_quic::{Server, ServerConfig};
use net_sockets::{TcpGate, UdpPort};
use storage_disk::{Disk, DiskConfig};
use storage_ring::{Ring, Threads};

use crate::config::EventSink;
use crate::core::{Core, State, run};
use crate::kafka::Connections;
use crate::mesh::MeshEnd;
use crate::node::{Control, Shared, StartError};
use crate::signal::Bell;

/// Memory registered with the ring, taken from the memory the process may lock. The runtime's default of 10 MiB
/// does not fit the usual limit of 8.
const IO_MEMORY_BYTES: usize = 1 << 20;

/// The least memory a ring can be had with.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Long: nothing here relies on being interrupted, and the runtime's own reactor is not to wake up.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

/// Threads for system calls that block (small files, directories, opening). More than one, so that their syncs meet in the
/// file system's journal.
const BLOCKING_THREADS: usize = 4;

/// What a core's thread is given.
pub(crate) struct CoreSeed {
    pub(crate) me: CoreId,
    pub(crate) cpu: usize,
    pub(crate) cores: usize,
    pub(crate) data: PathBuf,
    pub(crate) identity: PathBuf,
    pub(crate) socket: UdpSocket,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) shard: ShardConfig,
    pub(crate) quic: ServerConfig,
    pub(crate) kafka: net_kafka::ServerConfig,
    pub(crate) disk: DiskConfig,
    pub(crate) spin_before_park: Duration,
    pub(crate) events: EventSink,
    pub(crate) shared: Arc<Shared>,
}

/// A core has its ring, its disk and its socket, or has not.
pub(crate) type Started = (CoreId, Result<(), StartError>);

/// Starts a core's thread. It tells `started` once, waits for [`Control::Begin`] and runs until it has ended.
pub(crate) fn spawn(seed: CoreSeed, started: mpsc::Sender<Started>) -> io::Result<JoinHandle<()>> {
    let name = format!("core-{}", seed.me.0);
    std::thread::Builder::new().name(name).spawn(move || {
        let (me, shared) = (seed.me, Arc::clone(&seed.shared));
        let told = started.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| match make_executor(&seed) {
            Ok((executor, ring, threads)) => {
                executor.run(ring.drive(live(ring.clone(), threads, seed, started)));
            }
            Err(error) => drop(started.send((me, Err(error)))),
        }));
        match outcome {
            Ok(()) => shared.core_ended(me),
            Err(panic) => {
                let why = format!("panicked: {}", panic_message(&*panic));
                // Heard only if it had not been told before.
                let _ = told.send((me, Err(StartError::Core { core: me, why: why.clone() })));
                shared.core_failed(me, why);
            }
        }
    })
}

async fn live(ring: Ring, threads: Threads, seed: CoreSeed, started: mpsc::Sender<Started>) {
    let (me, shared) = (seed.me, Arc::clone(&seed.shared));
    let (core, gates) = match build(ring, threads, seed).await {
        Ok(built) => built,
        Err(error) => return drop(started.send((me, Err(error)))),
    };
    let _ = started.send((me, Ok(())));
    drop(started);
    if begins(me, &shared).await {
        run(Rc::new(core), gates).await;
    }
}

/// Whether all cores could start: waits for the word.
async fn begins(me: CoreId, shared: &Shared) -> bool {
    let doorbell = &shared.mesh.doorbells[usize::from(me.0)];
    let begins = poll_fn(|context| {
        loop {
            // One by one: what was told after the word is for the core's own loop.
            while let Some(control) = shared.next_control(me) {
                match control {
                    Control::Begin => return Poll::Ready(true),
                    Control::Stop => return Poll::Ready(false),
                    // Asked too early: nothing to tell, and the asker learns so from the reply's end.
                    Control::Stats(_) | Control::Ends(_) | Control::GroupOffsets(_) => {}
                }
            }
            if doorbell.poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    });
    let begins = begins.await;
    doorbell.leave();
    begins
}

async fn build(ring: Ring, threads: Threads, seed: CoreSeed) -> Result<(Core, Vec<TcpGate>), StartError> {
    let CoreSeed { me, cpu, cores, shared, .. } = seed;
    let disk = Disk::open(ring.clone(), threads, &seed.data, &seed.identity, me.0, cores, seed.disk).await;
    let disk =
        disk.map_err(|error| StartError::Data { what: seed.data.display().to_string(), why: error.what })?;
    let port = UdpPort::new(ring.clone(), seed.socket)
        .map_err(|error| StartError::Core { core: me, why: error.to_string() })?;
    let mesh = MeshEnd::new(Arc::clone(&shared.mesh), me);
    let free_bytes_min = seed.shard.free_bytes_min;
    let shard = Shard::new(seed.shard, crate::core::now(shared.begun));
    let kafka = net_kafka::Server::new(seed.kafka);
    let logic = CoreLogic::new(me, cores, shard, Server::new(seed.quic), kafka);
    let gates = seed.listeners.into_iter().map(|listener| TcpGate::new(ring.clone(), listener)).collect();
    let gates =
        io::Result::<Vec<_>>::map_err(gates, |error| StartError::Core { core: me, why: error.to_string() })?;
    let core = Core {
        ring,
        me,
        cpu,
        disk,
        port,
        events: seed.events,
        free_bytes_min,
        work: Bell::default(),
        deadline_moved: Bell::default(),
        deadline: Cell::new(None),
        disk_waiting: Cell::new(0),
        state: RefCell::new(State {
            logic,
            mesh,
            wants: Vec::new(),
            is_stopped: false,
            outgoing: Vec::new(),
            send_blocked: None,
            kafka: Connections::default(),
            turn_longest: Duration::ZERO,
        }),
        shared,
    };
    // The first turn opens the logs.
    core.work.ring();
    Ok((core, gates))
}

fn make_executor(seed: &CoreSeed) -> Result<(LocalExecutor, Ring, Threads), StartError> {
    let limit_bytes = memlock_limit_bytes();
    if limit_bytes.is_some_and(|bytes| bytes < MEMLOCK_BYTES_MIN) {
        return Err(StartError::Memlock { limit_bytes: limit_bytes.unwrap_or(0) });
    }
    let failed = |why: String| StartError::Core { core: seed.me, why };
    // Before the executor pins this thread: what blocks is to run beside the core, not in its time.
    let threads = Threads::new(&format!("disk-{}", seed.me.0), BLOCKING_THREADS);
    let threads = threads.map_err(|error| failed(error.to_string()))?;
    let made = LocalExecutorBuilder::new(Placement::Fixed(seed.cpu))
        .name(&format!("core-{}", seed.me.0))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .make();
    let executor = made.map_err(|error| explain(seed.me, limit_bytes, error))?;
    let ring = Ring::new(seed.spin_before_park).map_err(|error| {
        ring_error(&error, limit_bytes).unwrap_or_else(|| failed(format!("no io_uring: {error}")))
    })?;
    Ok((executor, ring, threads))
}

/// Makes a ring and lets it go: the runtime panics where it cannot have one, which tells nobody what to do.
pub(crate) fn probe_ring() -> Result<(), StartError> {
    const ENTRIES: u32 = 8;
    let made = io_uring::IoUring::new(ENTRIES);
    made.map(drop).map_err(|error| {
        ring_error(&error, memlock_limit_bytes())
            .unwrap_or_else(|| StartError::Core { core: CoreId(0), why: format!("no io_uring: {error}") })
    })
}

fn explain(core: CoreId, limit_bytes: Option<u64>, error: GlommioError<()>) -> StartError {
    let text = error.to_string();
    let known = match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            ring_error(&source, limit_bytes)
        }
        GlommioError::ExecutorError(_)
        | GlommioError::BuilderError(_)
        | GlommioError::Closed(_)
        | GlommioError::CanNotBeClosed(..)
        | GlommioError::WouldBlock(_)
        | GlommioError::ReactorError(_)
        | GlommioError::TimedOut(_) => None,
    };
    known.unwrap_or(StartError::Core { core, why: text })
}

/// What it means when a ring cannot be had; `None`: nothing in particular.
fn ring_error(error: &io::Error, limit_bytes: Option<u64>) -> Option<StartError> {
    let errno = error.to_string();
    match error.raw_os_error()? {
        libc::ENOMEM => Some(StartError::Memlock { limit_bytes: limit_bytes.unwrap_or(0) }),
        libc::EPERM | libc::EACCES => Some(StartError::IoUringForbidden { errno }),
        libc::ENOSYS => Some(StartError::IoUringMissing { errno }),
        _ => None,
    }
}

/// The soft limit; `None` where there is none or it cannot be read.
fn memlock_limit_bytes() -> Option<u64> {
    parse_memlock(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_memlock(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_memory_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max locked memory         65536                8388608              bytes     \n";
        assert_eq!(parse_memlock(limits), Some(65536));
        assert_eq!(
            parse_memlock("Max locked memory         unlimited            unlimited            bytes"),
            None
        );
        assert_eq!(parse_memlock(""), None);
    }

    #[test]
    fn errors_of_the_ring_name_cause_and_remedy() {
        let explain = |errno| {
            explain(CoreId(1), Some(8 << 20), GlommioError::IoError(io::Error::from_raw_os_error(errno)))
        };
        assert!(explain(libc::ENOMEM).to_string().contains("LimitMEMLOCK=infinity"));
        assert!(explain(libc::EPERM).to_string().contains("kernel.io_uring_disabled"));
        assert!(explain(libc::EPERM).to_string().contains("seccomp"));
        assert_eq!(explain(libc::ENOSYS), StartError::IoUringMissing { errno: named(libc::ENOSYS) });
        assert!(matches!(explain(libc::EMFILE), StartError::Core { core: CoreId(1), .. }));
    }

    fn named(errno: i32) -> String {
        io::Error::from_raw_os_error(errno).to_string()
    }
}
