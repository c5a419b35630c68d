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

/// Records of each partition.
pub(crate) type Shares = BTreeMap<u32, u64>;

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
    /// Records ever, whoever sent them.
    by_partition: Shares,
    checker: Option<Checker>,
}

impl Inbox {
    pub(crate) fn new(epoch: Instant, run: u32, check: bool) -> Arc<Inbox> {
        let checker = check.then(|| Checker::new(run));
        let (tally, by_partition) = (ReadTally::default(), Shares::new());
        let state = Mutex::new(State { tally, count: 0, by_partition, checker });
        Arc::new(Inbox { epoch, run, checked: check, state, came: Notify::new() })
    }

    /// Reads until it fails.
    pub(crate) async fn read(&self, consumer: &mut dyn Consumer) -> Result<(), SystemError> {
        let mut batch = Batch::default();
        loop {
            let next = consumer.next(&mut |record| batch.take(record, self)).await;
            self.put(&mut batch);
            next?;
        }
    }

    /// Reads until every partition has given its share. Those that have go on giving what lies behind it.
    pub(crate) async fn read_shares(
        &self,
        consumer: &mut dyn Consumer,
        shares: &Shares,
    ) -> Result<(), SystemError> {
        let (mut batch, mut left) = (Batch::default(), shares.clone());
        while left.values().any(|left| *left > 0) {
            let mut take = |record: Incoming<'_>| {
                if let Some(left) = left.get_mut(&record.partition) {
                    *left = left.saturating_sub(1);
                }
                batch.take(record, self);
            };
            let next = consumer.next(&mut take).await;
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

    /// Records so far, whoever sent them.
    pub(crate) fn by_partition(&self) -> Shares {
        self.lock().by_partition.clone()
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
            None => state.count + batch.latencies.len() as u64,
        };
        for (partition, count) in batch.by_partition.drain(..) {
            *state.by_partition.entry(partition).or_default() += count;
        }
        state.tally.last = batch.at;
        for took in batch.latencies.drain(..) {
            state.tally.latencies.record(took);
        }
        (batch.records, batch.bytes) = (0, 0);
        drop(state);
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one call of a consumer gave.
#[derive(Debug, Default)]
struct Batch {
    /// Of the last record.
    at: Duration,
    records: u64,
    bytes: u64,
    /// Of this run's records, each until it was handed over: a driver may go on receiving within a call.
    latencies: Vec<Duration>,
    /// Records that came one after the other from one partition.
    by_partition: Vec<(u32, u64)>,
}

impl Batch {
    fn take(&mut self, record: Incoming<'_>, inbox: &Inbox) {
        self.at = inbox.epoch.elapsed();
        self.records += 1;
        self.bytes += record.value.len() as u64;
        match self.by_partition.last_mut() {
            Some((partition, count)) if *partition == record.partition => *count += 1,
            _ => self.by_partition.push((record.partition, 1)),
        }
        let stamp = stamp(record.value).filter(|stamp| stamp.run == inbox.run);
        self.latencies.extend(stamp.map(|stamp| self.at.saturating_sub(stamp.due)));
        // One by one, while the value is there; runs that do not check take the lock once a batch.
        if inbox.checked
            && let Some(checker) = &mut inbox.lock().checker
        {
            checker.read(record.partition, record.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Inbox, Shares};
    use crate::payload::{Filler, Noise, Stamp};
    use crate::system::{Consumer, Incoming, Pending, SystemError, Take};

    const RUN: u32 = 7;

    fn value() -> Vec<u8> {
        let stamp = Stamp { due: Duration::ZERO, run: RUN, producer: 0, sequence: 0 };
        let mut value = Vec::new();
        Filler::new(Noise::new(1), 1, 1.0, false).append(stamp, 100, &mut value);
        value
    }

    /// Hands over one record of each of these partitions a call, and fails at the end.
    struct Partitions(Vec<Vec<u32>>);

    impl Consumer for Partitions {
        fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>> {
            Box::pin(async move {
                if self.0.is_empty() {
                    return Err(SystemError::Read("the end".to_owned()));
                }
                let partitions = self.0.remove(0);
                for partition in &partitions {
                    take(Incoming { partition: *partition, value: &value() });
                }
                Ok(partitions.len())
            })
        }
    }

    /// Receives for a while between two records that it hands over by one call.
    struct Slow(bool);

    const PAUSE: Duration = Duration::from_millis(20);

    impl Consumer for Slow {
        fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>> {
            Box::pin(async move {
                if std::mem::replace(&mut self.0, true) {
                    return Err(SystemError::Read("the end".to_owned()));
                }
                take(Incoming { partition: 0, value: &value() });
                tokio::time::sleep(PAUSE).await;
                take(Incoming { partition: 0, value: &value() });
                Ok(2)
            })
        }
    }

    #[tokio::test]
    async fn a_record_is_in_hand_when_it_is_handed_over_and_not_with_the_first_of_its_call() {
        let inbox = Inbox::new(Instant::now(), RUN, false);
        assert!(inbox.read(&mut Slow(false)).await.is_err());
        let latency = inbox.take().latencies.summary().unwrap();
        let [first, last] = [latency.p50_us, latency.max_us];
        assert!(last - first >= PAUSE.as_micros() as u64 * 9 / 10, "{first} and {last}");
    }

    #[tokio::test]
    async fn a_round_is_over_when_every_partition_has_given_its_share() {
        let inbox = Inbox::new(Instant::now(), RUN, false);
        // The first partition runs ahead: records behind its share are no substitute for the second's.
        let mut consumer = Partitions(vec![vec![0, 0, 0, 0], vec![0, 1], vec![0], vec![1], vec![1]]);
        let shares = Shares::from([(0, 2), (1, 2)]);
        inbox.read_shares(&mut consumer, &shares).await.unwrap();
        assert_eq!(consumer.0.len(), 1);
        assert_eq!(inbox.by_partition(), Shares::from([(0, 6), (1, 2)]));
        assert_eq!(inbox.count(), 8);
        assert!(inbox.read(&mut consumer).await.is_err());
        assert_eq!(inbox.by_partition(), Shares::from([(0, 6), (1, 3)]));
    }
}
