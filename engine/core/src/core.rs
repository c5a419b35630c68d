//! What lives on one core, and the tasks that feed it.
//!
//! All tasks only gather: datagrams, finished disk operations, ticks and deadlines are noted in the logic, and the
//! turn task is woken. It runs once the tasks that were ready have run, so what arrived together is handled together.
//! The ring is looked at after each round of tasks: none of them needs to wait for it to let others have their answers.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine_api::CoreId;
use engine_shard::{Event, Input, Level};
use engine_turn::{CoreLogic, Want};
use futures_lite::future::or;
use net_quic::Transmit;
use net_sockets::{TcpGate, UdpPort};
use storage_disk::Disk;
use storage_frame::{Now, TimestampMs};
use storage_ring::{Ring, yield_now};

use crate::config::EventSink;
use crate::kafka::{self, Connections};
use crate::mesh::MeshEnd;
use crate::node::Shared;
use crate::signal::Bell;

/// The shard's clock, and the bound on how long a missed wake can hide.
const TICK: Duration = Duration::from_millis(10);

/// How often free space is measured.
const FREE_SPACE_PERIOD: Duration = Duration::from_secs(1);

/// Near the watermark, below this many times its bytes, it is measured more often: a fast disk fills a gigabyte in
/// a second.
const FREE_SPACE_NEAR: u64 = 4;
const FREE_SPACE_PERIOD_NEAR: Duration = Duration::from_millis(100);

/// Receive calls between two turns: acknowledgements and answers must not wait for a socket to run dry. Each
/// brings 1 MiB at most, which takes about a millisecond to decrypt.
const RECEIVES_PER_TURN: usize = 2;

/// After a socket error that is not about one datagram.
const SOCKET_RETRY: Duration = Duration::from_millis(10);

pub(crate) struct Core {
    pub(crate) ring: Ring,
    pub(crate) me: CoreId,
    pub(crate) cpu: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Disk,
    pub(crate) port: UdpPort,
    pub(crate) events: EventSink,
    /// The watermark below which producers are refused.
    pub(crate) free_bytes_min: u64,
    /// Never borrowed across a wait.
    pub(crate) state: RefCell<State>,
    /// There is something for the turn task.
    pub(crate) work: Bell,
    /// The next deadline may be nearer than the one the timer task waits for.
    pub(crate) deadline_moved: Bell,
    pub(crate) deadline: Cell<Option<Instant>>,
    pub(crate) disk_waiting: Cell<u64>,
}

/// What the turn task works on.
pub(crate) struct State {
    pub(crate) logic: CoreLogic,
    pub(crate) mesh: MeshEnd,
    /// Empty between turns: its memory is used again.
    pub(crate) wants: Vec<Want>,
    /// The shard has closed its logs.
    pub(crate) is_stopped: bool,
    /// Bytes of the last datagram taken from the logic.
    pub(crate) outgoing: Vec<u8>,
    /// The socket was full: `outgoing` is still to be sent, no earlier than this.
    pub(crate) send_blocked: Option<(Transmit, Instant)>,
    pub(crate) kafka: Connections,
    /// Since somebody asked.
    pub(crate) turn_longest: Duration,
}

impl Core {
    pub(crate) fn now(&self) -> Now {
        now(self.shared.begun)
    }

    pub(crate) fn note(&self, input: Input) {
        self.state.borrow_mut().logic.note(input);
        self.work.ring();
    }

    pub(crate) fn event(&self, level: Level, name: &'static str, what: String) {
        (self.events)(self.me, Event { level, name, fields: vec![("what", what)] });
    }
}

/// The two clocks of a turn.
pub(crate) fn now(begun: Instant) -> Now {
    let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    Now { mono: begun.elapsed(), wall: TimestampMs(wall_ms) }
}

/// Runs the core until it has ended.
pub(crate) async fn run(core: Rc<Core>, gates: Vec<TcpGate>) {
    let mut tasks = vec![
        core.ring.spawn(receive(Rc::clone(&core))),
        core.ring.spawn(tick(Rc::clone(&core))),
        core.ring.spawn(keep_time(Rc::clone(&core))),
        core.ring.spawn(watch_free_space(Rc::clone(&core), core.free_bytes_min)),
    ];
    let accept = |gate| core.ring.spawn(kafka::accept(Rc::clone(&core), gate));
    tasks.extend(gates.into_iter().map(accept));
    let doorbell = Arc::clone(&core.shared.mesh.doorbells[usize::from(core.me.0)]);
    loop {
        let more = core.turn();
        if core.state.borrow().logic.is_ended() {
            break;
        }
        if more {
            // Work that feeds itself: the ring's answers first.
            yield_now().await;
            continue;
        }
        poll_fn(|context| {
            // Both, so that each has the waker.
            let (work, messages) = (core.work.poll(context), doorbell.poll(context));
            if work.is_ready() || messages.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    doorbell.leave();
    for task in tasks {
        task.cancel().await;
    }
    kafka::end(&core).await;
}

/// Feeds the QUIC server from the socket.
async fn receive(core: Rc<Core>) {
    loop {
        let received = match core.port.readable().await {
            Ok(()) => {
                let now = Instant::now();
                let logic = &mut core.state.borrow_mut().logic;
                core.port.receive(RECEIVES_PER_TURN, |datagram| {
                    let ecn = datagram.ecn.and_then(quinn_proto::EcnCodepoint::from_bits);
                    logic.handle_datagram(now, datagram.remote, datagram.local_ip, ecn, datagram.data);
                })
            }
            Err(error) => Err(error),
        };
        core.work.ring();
        if let Err(error) = received {
            core.event(Level::Warn, "udp_receive_failed", error.to_string());
            core.ring.sleep(SOCKET_RETRY).await;
        }
    }
}

async fn tick(core: Rc<Core>) {
    loop {
        core.ring.sleep(TICK).await;
        core.disk.tick();
        core.note(Input::Tick);
    }
}

/// Calls the turn task when a deadline of the logic or of a blocked send is reached. A deadline that moved
/// further away leaves the timer as it is: it finds nothing due and looks again.
async fn keep_time(core: Rc<Core>) {
    loop {
        let Some(deadline) = core.deadline.get() else {
            core.deadline_moved.heard().await;
            continue;
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            core.deadline.set(None);
            core.work.ring();
            core.deadline_moved.heard().await;
            continue;
        }
        or(core.deadline_moved.heard(), core.ring.sleep(wait)).await;
    }
}

async fn watch_free_space(core: Rc<Core>, free_bytes_min: u64) {
    let mut failing = false;
    loop {
        let mut period = FREE_SPACE_PERIOD;
        match core.disk.free_bytes().await {
            Ok(free_bytes) => {
                failing = false;
                if free_bytes < free_bytes_min.saturating_mul(FREE_SPACE_NEAR) {
                    period = FREE_SPACE_PERIOD_NEAR;
                }
                core.note(Input::FreeSpace { free_bytes });
            }
            Err(error) => {
                // Once, not every second.
                if !std::mem::replace(&mut failing, true) {
                    core.event(Level::Warn, "free_space_unknown", error.to_string());
                }
            }
        }
        core.ring.sleep(period).await;
    }
}
