//! What becomes of the records that were sent: tickets out, answers in, latencies between.
//!
//! A ticket is the index of a slot that knows when the record was due. Slots, counts and histograms of a few producers
//! stand behind one lock (a [`Desk`]), taken once for a chunk that is sent and once for a batch that is answered; the
//! histogram is what is shown and put away every second ([`Desk::take`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use crate::latency::Latencies;
use crate::seen::Seen;

/// Stands for one record on its way. As wide as a pointer, so that C libraries can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub usize);

/// A record about to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// On the run's clock.
    pub(crate) at: Duration,
    /// Of the producer's records.
    pub(crate) sequence: u64,
    pub(crate) bytes: usize,
}

/// One producer's side of its desk: where drivers tell what became of its records. Clones share everything.
#[derive(Debug, Clone)]
pub struct Outcomes {
    desk: Arc<Desk>,
    flight: Arc<Flight>,
    producer: u32,
}

/// What one producer has under way.
#[derive(Debug)]
struct Flight {
    records: AtomicU64,
    bytes: AtomicU64,
    limits: Limits,
    room: Notify,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Counts of a span of time, and its latencies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_bytes: u64,
    pub(crate) latencies: Latencies,
    /// By kind.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Parts of the latency that the system tells of, by name.
    pub(crate) stages: BTreeMap<&'static str, Latencies>,
    /// Of the last answer, on the run's clock.
    pub(crate) last_answer: Duration,
}

#[derive(Debug)]
struct Slot {
    due: Duration,
    sequence: u64,
    bytes: u32,
    producer: u32,
}

#[derive(Debug)]
struct State {
    slots: Slab<Slot>,
    tally: Tally,
    /// By producer, of those at this desk; kept when every record is to be checked.
    acknowledged: Option<BTreeMap<u32, Seen>>,
}

/// Shared by some of the producers.
#[derive(Debug)]
pub(crate) struct Desk {
    epoch: Instant,
    state: Mutex<State>,
}

impl Desk {
    /// `epoch` is the zero of the run's clock. With `check`, remembers which records were acknowledged.
    pub(crate) fn new(epoch: Instant, check: bool) -> Arc<Desk> {
        let acknowledged = check.then(BTreeMap::new);
        let state = State { slots: Slab::new(), tally: Tally::default(), acknowledged };
        Arc::new(Desk { epoch, state: Mutex::new(state) })
    }

    pub(crate) fn outcomes(self: &Arc<Self>, producer: u32, limits: Limits) -> Outcomes {
        let flight =
            Flight { records: AtomicU64::new(0), bytes: AtomicU64::new(0), limits, room: Notify::new() };
        Outcomes { desk: Arc::clone(self), flight: Arc::new(flight), producer }
    }

    /// What came since it was asked last.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut self.lock().tally)
    }

    /// By producer, what was acknowledged; empty unless records are checked.
    pub(crate) fn acknowledged(&self) -> BTreeMap<u32, Seen> {
        self.lock().acknowledged.clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcomes {
    /// These records were acknowledged just now.
    ///
    /// # Panics
    /// When one of them was answered before.
    pub fn acknowledged(&self, tickets: impl IntoIterator<Item = Ticket>) {
        let now = self.desk.epoch.elapsed();
        let (mut records, mut bytes) = (0, 0);
        {
            let mut state = self.desk.lock();
            let State { slots, tally, acknowledged } = &mut *state;
            for Ticket(slot) in tickets {
                let slot = slots.remove(slot);
                tally.latencies.record(now.saturating_sub(slot.due));
                (records, bytes) = (records + 1, bytes + u64::from(slot.bytes));
                if let Some(acknowledged) = acknowledged {
                    acknowledged.entry(slot.producer).or_default().insert(slot.sequence);
                }
            }
            tally.acknowledged += records;
            tally.acknowledged_bytes += bytes;
            tally.last_answer = now;
        }
        self.flight.land(records, bytes);
    }

    /// These were not, or nothing is known of them; `kind` is what they are counted by, so without their own details.
    ///
    /// # Panics
    /// When one of them was answered before.
    pub fn failed(&self, tickets: impl IntoIterator<Item = Ticket>, kind: &str) {
        let now = self.desk.epoch.elapsed();
        let (mut records, mut bytes) = (0, 0);
        {
            let mut state = self.desk.lock();
            for Ticket(slot) in tickets {
                let slot = state.slots.remove(slot);
                (records, bytes) = (records + 1, bytes + u64::from(slot.bytes));
            }
            match state.tally.failed.get_mut(kind) {
                Some(count) => *count += records,
                None => _ = state.tally.failed.insert(kind.to_owned(), records),
            }
            state.tally.last_answer = now;
        }
        self.flight.land(records, bytes);
    }

    /// A part of `count` records' latency that the system told of, as `queue` or `disk`.
    pub fn stage(&self, name: &'static str, took: Duration, count: u64) {
        self.desk.lock().tally.stages.entry(name).or_default().record_many(took, count);
    }

    /// Gives a ticket to each of `dues`.
    pub(crate) fn issue(&self, dues: &[Due], tickets: &mut Vec<Ticket>) {
        let bytes: u64 = dues.iter().map(|due| due.bytes as u64).sum();
        self.flight.records.fetch_add(dues.len() as u64, Ordering::AcqRel);
        self.flight.bytes.fetch_add(bytes, Ordering::AcqRel);
        let mut state = self.desk.lock();
        state.tally.sent += dues.len() as u64;
        state.tally.sent_bytes += bytes;
        tickets.clear();
        tickets.extend(dues.iter().map(|due| {
            let bytes = u32::try_from(due.bytes).expect("a record is below 4 GiB");
            let slot = Slot { due: due.at, sequence: due.sequence, bytes, producer: self.producer };
            Ticket(state.slots.insert(slot))
        }));
    }

    /// How many more records may be under way, waiting until there is room for some. A record above the limit of
    /// bytes goes alone.
    pub(crate) async fn room(&self) -> u64 {
        loop {
            let room = self.flight.room_now();
            if room > 0 {
                return room;
            }
            // A permit that was left is taken at once, and looked at again: no wake-up is lost between.
            self.flight.room.notified().await;
        }
    }

    /// Under way now.
    pub(crate) fn in_flight(&self) -> u64 {
        self.flight.records.load(Ordering::Acquire)
    }

    /// Until nothing is under way.
    pub(crate) async fn settled(&self) {
        while self.in_flight() > 0 {
            self.flight.room.notified().await;
        }
    }
}

impl Flight {
    fn room_now(&self) -> u64 {
        let (records, bytes) = (self.records.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
        if bytes >= self.limits.bytes { 0 } else { self.limits.records.saturating_sub(records) }
    }

    /// Wakes who waits once a quarter of the window is free: fewer wake-ups, and chunks instead of single records.
    fn land(&self, records: u64, bytes: u64) {
        let records = self.records.fetch_sub(records, Ordering::AcqRel) - records;
        let bytes = self.bytes.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        let Limits { records: records_max, bytes: bytes_max } = self.limits;
        if records < records_max.div_ceil(4) * 3 && bytes < bytes_max / 4 * 3 || records == 0 {
            self.room.notify_one();
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.acknowledged += other.acknowledged;
        self.acknowledged_bytes += other.acknowledged_bytes;
        self.latencies.add(&other.latencies);
        for (kind, count) in &other.failed {
            *self.failed.entry(kind.clone()).or_default() += count;
        }
        for (name, latencies) in &other.stages {
            self.stages.entry(name).or_default().add(latencies);
        }
        self.last_answer = self.last_answer.max(other.last_answer);
    }

    pub(crate) fn failed_count(&self) -> u64 {
        self.failed.values().sum()
    }
}
