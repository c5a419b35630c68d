//! The world of one run: a node, its disk, its network and its clients, moved along by events in virtual time.
//!
//! - `queue`: what happens next. `process`: one life of the node.
//! - `turns`: cores taking turns, and what they want done. `lives`: starting, crashing, stopping.
//! - `door`: connections of Kafka's clients. `chaos`: what is done to the node. `phases`: from the first topic to the audit.
//! - `hearsay`: what clients on the SDK note, told as facts. `telling`: facts, their oracles, the trace.

mod chaos;
mod door;
mod hearsay;
mod lives;
mod phases;
mod process;
mod queue;
mod telling;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use storage_frame::{LogId, Now, Salt, TimestampMs};
use storage_log::SegmentId;
use tests_disk::{Dice, ModelDisk, Settings};
use tokio::sync::Notify;

use crate::direct::{Direct, Moment};
use crate::kafka::Kafka;
use crate::members::Members;
use crate::net::Net;
use crate::oracle::{self, Oracle, Rules, Violation};
use crate::plan::Plan;
use crate::sdk::{Journal, SdkPlan};
use crate::trace::{Detail, Trace};
use door::Door;
use hearsay::Hearsay;
use phases::Phase;
use process::Process;
use queue::{Event, Queue};

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The oracle's name, or `world`.
    pub oracle: String,
    pub at: Duration,
    pub what: String,
}

/// What a run did, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub events: u64,
    pub lives: u64,
    pub crashes: u64,
    pub facts: u64,
}

/// See the module.
pub struct World {
    plan: Plan,
    now: Duration,
    net: Net,
    queue: Queue,
    trace: Trace,
    disk: ModelDisk,
    /// Of the disk's account of what it did wrong, what was told.
    injected_told: usize,
    /// The salt of each segment's frames, as its first write named it.
    salts: BTreeMap<(LogId, SegmentId), Salt>,
    process: Option<Process>,
    lives: u32,
    /// The node's wall clock is wrong by so much.
    wall_jump_ms: i64,
    /// The process dies after so many more effects.
    fuse: Option<u32>,
    /// Reads or writes failed in this life: logs may wait for the next.
    has_failed_logs: bool,
    /// Logs that gave up writing in this life: what they have in memory goes with it.
    failed_logs: BTreeSet<LogId>,
    /// Space was refused in this life: a stop may have given up what was in memory, though there is space again.
    was_full: bool,
    /// A member of a group is to be watched doing nothing.
    is_watching: bool,
    /// When the last fault ended.
    healed_at: Duration,
    direct: Direct,
    members: Members,
    kafka: Kafka,
    door: Door,
    /// The core each request of this life went to, and which of them were cancelled.
    sent_to: BTreeMap<u64, usize>,
    cancelled: BTreeSet<u64>,
    hearsay: Hearsay,
    /// Clients on the SDK have come to their end.
    sdk_over: Arc<AtomicBool>,
    oracles: Vec<Box<dyn Oracle>>,
    phase: Phase,
    actions_left: u64,
    dice: WorldDice,
    counts: Counts,
    failure: Option<Failure>,
    done: Arc<Notify>,
}

struct WorldDice {
    schedule: Dice,
    mesh: Dice,
    work: Dice,
    chaos: Dice,
    node: Dice,
}

/// Where the node's clients find it.
#[must_use]
pub fn node_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9092))
}

impl World {
    #[must_use]
    pub fn new(plan: Plan, net: Net, trace: Trace) -> Self {
        let seed = plan.seed;
        let settings = Settings {
            spares_max: plan.spares,
            spare_bytes_min: 0,
            capacity_bytes: 1 << 40,
            spares_free_bytes_min: 1 << 20,
        };
        net.wire().add_node(node_address(), 1);
        let rules = Rules { beyond_promise: plan.beyond_promise };
        let mut world = Self {
            now: Duration::ZERO,
            queue: Queue::new(seed),
            trace,
            disk: ModelDisk::with_settings(seed, plan.faults.clone(), settings),
            injected_told: 0,
            salts: BTreeMap::new(),
            process: None,
            lives: 0,
            wall_jump_ms: 0,
            fuse: None,
            has_failed_logs: false,
            failed_logs: BTreeSet::new(),
            was_full: false,
            is_watching: false,
            healed_at: Duration::ZERO,
            direct: Direct::new(seed, plan.manners.clone()),
            members: Members::new(seed, plan.groups.clone()),
            kafka: Kafka::new(seed, plan.kafka.clone()),
            door: Door::new(seed),
            sent_to: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            hearsay: Hearsay::new(Journal::new(&net)),
            sdk_over: Arc::new(AtomicBool::new(plan.sdk.is_none())),
            oracles: oracle::all(rules),
            phase: Phase::Beginning,
            actions_left: plan.actions,
            dice: WorldDice {
                schedule: Dice::new(seed, "schedule"),
                mesh: Dice::new(seed, "mesh"),
                work: Dice::new(seed, "work"),
                chaos: Dice::new(seed, "chaos"),
                node: Dice::new(seed, "node"),
            },
            counts: Counts::default(),
            failure: None,
            done: Arc::default(),
            plan,
            net,
        };
        world.queue.push(Duration::ZERO, Event::Start);
        world.queue.push(Duration::from_millis(50), Event::Work);
        world.queue.push(Duration::from_millis(20), Event::Retry);
        world.schedule_chaos();
        world
    }

    /// Rings when the run is over.
    #[must_use]
    pub fn done(&self) -> Arc<Notify> {
        Arc::clone(&self.done)
    }

    /// What clients on the SDK are to do, where they put their notes, and what is to be set when they are done.
    #[must_use]
    pub fn sdk(&self) -> Option<(SdkPlan, Journal, Arc<AtomicBool>)> {
        let plan = self.plan.sdk.clone()?;
        Some((plan, self.hearsay.journal(), Arc::clone(&self.sdk_over)))
    }

    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How the run ended.
    ///
    /// # Errors
    /// What failed.
    pub fn outcome(&self) -> Result<(), Failure> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.phase == Phase::Over => Ok(()),
            None => Err(Failure {
                oracle: "world".to_owned(),
                at: self.now,
                what: format!("the run ended in {:?}", self.phase),
            }),
        }
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over || self.failure.is_some()
    }

    fn fail(&mut self, oracle: &str, what: String) {
        if self.failure.is_none() {
            let failure = Failure { oracle: oracle.to_owned(), at: self.now, what };
            self.trace.note(Detail::Story, || format!("FAILED {}: {}", failure.oracle, failure.what));
            self.failure = Some(failure);
            self.done.notify_one();
        }
    }

    fn violated(&mut self, oracle: &'static str, violation: &Violation) {
        self.fail(oracle, violation.0.clone());
    }

    /// The two clocks of a life of the node.
    fn node_now(&self, begun: Duration) -> Now {
        Now { mono: self.now - begun, wall: self.node_wall() }
    }

    fn node_wall(&self) -> TimestampMs {
        TimestampMs(self.true_wall().0 + self.wall_jump_ms)
    }

    fn true_wall(&self) -> TimestampMs {
        TimestampMs(crate::net::START_MS + self.now.as_millis() as i64)
    }

    fn instant(&self) -> std::time::Instant {
        self.net.instant(self.now)
    }

    fn on_event(&mut self, event: Event) {
        self.counts.events += 1;
        match event {
            Event::Start => self.start(),
            Event::Turn { life, core } if self.lives_still(life) => self.turn(usize::from(core)),
            Event::Tick { life, core } if self.lives_still(life) => self.tick(usize::from(core)),
            Event::FreeSpace { life, core } if self.lives_still(life) => {
                self.measure_space(usize::from(core))
            }
            Event::DiskDone { life, core, log, op } if self.lives_still(life) => {
                self.disk_done(usize::from(core), log, op);
            }
            Event::Answers { life } if self.lives_still(life) => self.hear_answers(),
            Event::Turn { .. }
            | Event::Tick { .. }
            | Event::FreeSpace { .. }
            | Event::DiskDone { .. }
            | Event::Answers { .. } => {}
            Event::Pipe(pipe) => self.look_at_pipe(pipe),
            Event::Work => self.work(),
            Event::Chaos => self.do_chaos(),
            Event::Retry => self.retry(),
        }
    }

    fn lives_still(&self, life: u32) -> bool {
        self.process.as_ref().is_some_and(|process| process.life == life)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, wall: self.true_wall() }
    }

    /// Somewhere between.
    fn between(dice: &mut Dice, span: [Duration; 2]) -> Duration {
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        Duration::from_nanos(dice.between(nanos(span[0]), nanos(span[1]) + 1))
    }
}

impl crate::net::World for World {
    fn next_at(&mut self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        [self.queue.next_at(), self.net.wire().next_at()].into_iter().flatten().min()
    }

    fn run_to(&mut self, now: Duration) {
        while !self.is_over() {
            let event_at = self.queue.next_at();
            let packet_at = self.net.wire().next_at();
            let Some(at) = [event_at, packet_at].into_iter().flatten().min().filter(|at| *at <= now) else {
                break;
            };
            self.hear_sdk(Some(at));
            self.now = self.now.max(at);
            self.trace.set_now(self.now);
            if packet_at.is_some_and(|packet| packet <= at) {
                let arrival = self.net.wire().pop_due(at);
                if let Some(arrival) = arrival {
                    self.on_arrival(arrival);
                }
                continue;
            }
            if let Some((_, event)) = self.queue.pop() {
                self.on_event(event);
            }
        }
        if !self.is_over() {
            self.hear_sdk(None);
        }
    }
}
