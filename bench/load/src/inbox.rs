//! What readers have read: counted, timed, and checked where that is asked for.
//!
//! Consumers that share a topic's partitions share an inbox: together they see every record once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::checker::{Checker, Verdict};
use crate::latency::Latencies;
use crate::payload::stamp;
use crate::seen::Seen;
use crate::system::{Consumer, Incoming, SystemError};

/// Counts of a span of time, and its latencies: from when a record was due to when a consumer had it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadTally {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) latencies: Latencies,
    /// Of the last record, on the run's clock.
    pub(crate) last: Duration,
}

impl ReadTally {
    pub(crate) fn add(&mut self, other: &ReadTally) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies);
        self.last = self.last.max(other.last);
    }
}

#[derive(Debug)]
pub(crate) struct Inbox {
    epoch: Instant,
    run: u32,
    checked: bool,
    state: Mutex<State>,
    came: Notify,
}

#[derive(Debug)]
struct State {
    tally: ReadTally,
    /// Of this run, ever; where they are checked, different ones.
    count: u64,
    checker: Option<Checker>,
}

impl Inbox {
    pub(crate) fn new(epoch: Instant, run: u32, check: bool) -> Arc<Inbox> {
        let checker = check.then(|| Checker::new(run));
        let state = Mutex::new(State { tally: ReadTally::default(), count: 0, checker });
        Arc::new(Inbox { epoch, run, checked: check, state, came: Notify::new() })
    }

    /// Reads until there were `count` records in all.
    pub(crate) async fn read(&self, consumer: &mut dyn Consumer, count: u64) -> Result<(), SystemError> {
        let mut batch = Batch::default();
        while self.count() < count {
            let next = consumer.next(&mut |record| batch.take(record, self)).await;
            self.put(&mut batch);
            next?;
        }
        Ok(())
    }

    /// What came since it was asked last.
    pub(crate) fn take(&self) -> ReadTally {
        std::mem::take(&mut self.lock().tally)
    }

    /// Different records of this run so far; without a checker, records. All of them are in the tally.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Until `wanted` records have come, or none did for `stall`. Returns whether they have.
    pub(crate) async fn has(&self, wanted: u64, stall: Duration) -> bool {
        while self.count() < wanted {
            if tokio::time::timeout(stall, self.came.notified()).await.is_err() {
                return self.count() >= wanted;
            }
        }
        true
    }

    pub(crate) fn is_checking(&self) -> bool {
        self.checked
    }

    /// `None` unless records are checked.
    pub(crate) fn verdict(&self, acknowledged: &BTreeMap<u32, Seen>) -> Option<Verdict> {
        self.lock().checker.as_ref().map(|checker| checker.verdict(acknowledged))
    }

    fn put(&self, batch: &mut Batch) {
        if batch.records == 0 {
            return;
        }
        let mut state = self.lock();
        state.tally.records += batch.records;
        state.tally.bytes += batch.bytes;
        state.count = match &state.checker {
            Some(checker) => checker.count(),
            None => state.count + batch.dues.len() as u64,
        };
        state.tally.last = batch.at;
        for due in batch.dues.drain(..) {
            state.tally.latencies.record(batch.at.saturating_sub(due));
        }
        *batch = Batch { dues: std::mem::take(&mut batch.dues), ..Batch::default() };
        drop(state);
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one call of a consumer gave. Latencies count to its first record: the batch was in hand then.
#[derive(Debug, Default)]
struct Batch {
    at: Duration,
    records: u64,
    bytes: u64,
    /// Of this run's records.
    dues: Vec<Duration>,
}

impl Batch {
    fn take(&mut self, record: Incoming<'_>, inbox: &Inbox) {
        if self.records == 0 {
            self.at = inbox.epoch.elapsed();
        }
        self.records += 1;
        self.bytes += record.value.len() as u64;
        let stamp = stamp(record.value).filter(|stamp| stamp.run == inbox.run);
        self.dues.extend(stamp.map(|stamp| stamp.due));
        // One by one, while the value is there; runs that do not check take the lock once a batch.
        if inbox.checked
            && let Some(checker) = &mut inbox.lock().checker
        {
            checker.read(record.partition, record.value);
        }
    }
}
