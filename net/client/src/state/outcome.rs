//! What became of a batch, shared by the deliveries of all its records.
//!
//! One [`Outcome`] per batch, however many records: a delivery is a reference to it and an index. The lane holds
//! the only [`Verdict`] for each range of records; a verdict that is dropped without having been spoken says
//! "closed", so no delivery can wait for ever.
//!
//! Standard library only: no runtime's channels, so that the simulator can run it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use engine_api::{Durability, ProduceError, StageTimings};
use storage_frame::{Offset, TimestampMs};

/// Where a record went and how safe it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its name.
    pub topic: Arc<str>,
    /// From 0.
    pub partition: u32,
    /// `None` with [`Acks::None`](engine_api::Acks::None): the broker was not asked.
    pub offset: Option<Offset>,
    /// The record's own; the broker replaces it by its clock where the topic says
    /// `message.timestamp.type=LogAppendTime`.
    pub timestamp: TimestampMs,
    /// The level reached, `None` with [`Acks::None`](engine_api::Acks::None).
    pub durability: Option<Durability>,
    /// A retry found the batch stored already; `offset` is where.
    pub duplicate: bool,
    /// Where the batch's time went on the broker. Zero with [`Acks::None`](engine_api::Acks::None).
    pub timings: StageTimings,
}

/// What went wrong last, for errors that end a series of retries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum Trouble {
    /// The broker answered with a retriable error.
    #[error("broker said: {0}")]
    Refused(ProduceError),
    /// No connection to the partition's leader.
    #[error("{0}")]
    Unreachable(Arc<str>),
    /// The connection ended before the answer.
    #[error("connection lost: {0}")]
    Disconnected(Arc<str>),
}

/// Why a record that [`send`](crate::Producer::send) took is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum DeliveryError {
    /// The broker refused the record's batch for good: nothing of it was stored.
    #[error("{0}")]
    Refused(#[source] ProduceError),
    /// The batch was sent, got no answer, was sent again, and that was refused for good, or its topic has been deleted
    /// meanwhile: outcome of the first sending unknown.
    #[error("{0}; it had been sent before: outcome unknown")]
    RefusedOnRetry(#[source] ProduceError),
    /// The deadline passed before the record was ever sent, or the broker refused it each time for that moment (no
    /// space, overloaded): nothing was stored. Sending it again is safe.
    #[error("not taken within {after:?}: nothing was stored{}", said(last))]
    NotSent { after: Duration, last: Option<Trouble> },
    /// The deadline passed after the record was sent: outcome unknown. It may still be stored later.
    /// Sending it again may store it twice.
    #[error("no acknowledgement within {after:?}: outcome unknown{}", said(last))]
    TimedOut { after: Duration, last: Option<Trouble> },
    /// The broker has newer records of this producer but no longer knows this batch: it was stored most likely,
    /// its offset is unknown.
    #[error("the broker has moved past this batch: outcome unknown")]
    OffsetUnknown,
    /// The producer or its client was closed or dropped first. `sent`: outcome unknown, else nothing was stored.
    #[error("producer closed before the {}", if *sent { "acknowledgement: outcome unknown" } else { "record was sent: nothing was stored" })]
    Closed { sent: bool },
}

fn said(last: &Option<Trouble>) -> String {
    last.as_ref().map_or_else(String::new, |trouble| format!(" (last: {trouble})"))
}

/// Resolves to what became of one record. Cheap: all records of a batch share one outcome.
///
/// # Errors
/// [`DeliveryError`]; each case says whether something may have been stored.
/// # Cancel safety
/// Dropping it ends the waiting, not the write.
#[derive(Debug)]
#[must_use = "a delivery that nobody looks at hides lost records"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    /// Of the record in its batch.
    index: u32,
    timestamp: TimestampMs,
    /// This delivery's place among the outcome's wakers.
    waker_slot: Option<u32>,
}

impl Delivery {
    /// What is known by now, without waiting.
    #[must_use]
    pub fn peek(&self) -> Option<Result<RecordMetadata, DeliveryError>> {
        result_of(&self.outcome, &self.outcome.lock(), self.index, self.timestamp)
    }

    /// The partition the record was put in.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.outcome.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outcome, index, timestamp, waker_slot } = self.get_mut();
        let mut state = outcome.lock();
        if let Some(result) = result_of(outcome, &state, *index, *timestamp) {
            return Poll::Ready(result);
        }
        // One slot per delivery, so that polling again replaces its waker instead of adding one.
        match waker_slot {
            Some(slot) => state.wakers[*slot as usize].clone_from(cx.waker()),
            None => {
                *waker_slot = Some(state.wakers.len() as u32);
                state.wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

fn result_of(
    outcome: &Outcome,
    state: &OutcomeState,
    index: u32,
    timestamp: TimestampMs,
) -> Option<Result<RecordMetadata, DeliveryError>> {
    let part = state.parts.iter().find(|part| part.range.contains(&index))?;
    Some(part.result.clone().map(|stored| RecordMetadata {
        topic: Arc::clone(&outcome.topic),
        partition: outcome.partition,
        offset: stored.base_offset.map(|base| base.plus(index - part.range.start)),
        timestamp,
        durability: stored.durability,
        duplicate: stored.duplicate,
        timings: stored.timings,
    }))
}

/// What the broker said of the records of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) base_offset: Option<Offset>,
    pub(crate) durability: Option<Durability>,
    pub(crate) duplicate: bool,
    pub(crate) timings: StageTimings,
}

#[derive(Debug)]
struct Part {
    range: std::ops::Range<u32>,
    result: Result<Stored, DeliveryError>,
}

#[derive(Debug, Default)]
struct OutcomeState {
    /// One, unless the batch had to be split.
    parts: Vec<Part>,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    topic: Arc<str>,
    partition: u32,
    state: Mutex<OutcomeState>,
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, OutcomeState> {
        // Nothing below can leave the state half changed, so a panic elsewhere is no reason to add one here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right, and the duty, to say what became of a range of a batch's records.
#[derive(Debug)]
pub(crate) struct Verdict {
    outcome: Arc<Outcome>,
    range: std::ops::Range<u32>,
    spoken: bool,
    /// Some bytes of it may have reached the broker.
    sent: bool,
    /// Others speak for other records of the batch.
    split: bool,
}

impl Verdict {
    pub(crate) fn new(topic: Arc<str>, partition: u32) -> Self {
        let outcome = Outcome { topic, partition, state: Mutex::default() };
        Self { outcome: Arc::new(outcome), range: 0..0, spoken: false, sent: false, split: false }
    }

    /// The delivery of the next record of the batch.
    pub(crate) fn add_record(&mut self, timestamp: TimestampMs) -> Delivery {
        let index = self.range.end;
        self.range.end += 1;
        Delivery { outcome: Arc::clone(&self.outcome), index, timestamp, waker_slot: None }
    }

    pub(crate) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// What was sent is known not to be stored.
    pub(crate) fn mark_unsent(&mut self) {
        self.sent = false;
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    pub(crate) fn is_spoken(&self) -> bool {
        self.spoken
    }

    /// Says it. A verdict is spoken once: what comes later is not heard.
    pub(crate) fn speak(&mut self, result: Result<Stored, DeliveryError>) {
        if std::mem::replace(&mut self.spoken, true) {
            return;
        }
        let wakers = {
            let mut state = self.outcome.lock();
            state.parts.push(Part { range: self.range.clone(), result });
            // Those of records in other parts poll again for nothing and must stay.
            if self.split { state.wakers.clone() } else { std::mem::take(&mut state.wakers) }
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes the first `count` records off into a verdict of their own.
    pub(crate) fn split_front(&mut self, count: u32) -> Self {
        assert!(count < self.range.end - self.range.start, "a split leaves records on both sides");
        let at = self.range.start + count;
        self.split = true;
        let front = Self { range: self.range.start..at, outcome: Arc::clone(&self.outcome), ..*self };
        self.range.start = at;
        front
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        let sent = self.sent;
        self.speak(Err(DeliveryError::Closed { sent }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stored(base: u64) -> Stored {
        Stored {
            base_offset: Some(Offset(base)),
            durability: Some(Durability::AllDisks),
            duplicate: false,
            timings: StageTimings::default(),
        }
    }

    #[test]
    fn every_record_of_a_batch_learns_its_own_offset() {
        let mut verdict = Verdict::new("t".into(), 3);
        let deliveries: Vec<_> = (0..3).map(|i| verdict.add_record(TimestampMs(i))).collect();
        assert!(deliveries[0].peek().is_none());
        verdict.speak(Ok(stored(40)));
        let offsets: Vec<_> =
            deliveries.iter().map(|d| d.peek().unwrap().unwrap().offset.unwrap().0).collect();
        assert_eq!(offsets, [40, 41, 42]);
        assert_eq!(deliveries[2].peek().unwrap().unwrap().timestamp, TimestampMs(2));
    }

    #[test]
    fn parts_of_a_split_batch_have_their_own_results() {
        let mut rest = Verdict::new("t".into(), 0);
        let deliveries: Vec<_> = (0..5).map(|i| rest.add_record(TimestampMs(i))).collect();
        let mut front = rest.split_front(2);
        rest.speak(Ok(stored(100)));
        assert!(deliveries[1].peek().is_none());
        front.speak(Err(DeliveryError::OffsetUnknown));
        assert_eq!(deliveries[1].peek(), Some(Err(DeliveryError::OffsetUnknown)));
        assert_eq!(deliveries[2].peek().unwrap().unwrap().offset, Some(Offset(100)));
    }

    #[test]
    fn dropped_verdict_says_closed_and_whether_it_was_sent() {
        let mut verdict = Verdict::new("t".into(), 0);
        let delivery = verdict.add_record(TimestampMs(0));
        verdict.mark_sent();
        drop(verdict);
        assert_eq!(delivery.peek(), Some(Err(DeliveryError::Closed { sent: true })));
    }

    #[test]
    fn polling_again_keeps_one_waker_per_delivery() {
        let mut verdict = Verdict::new("t".into(), 0);
        let mut delivery = verdict.add_record(TimestampMs(0));
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        for _ in 0..10 {
            assert!(Pin::new(&mut delivery).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        verdict.speak(Ok(stored(0)));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(Pin::new(&mut delivery).poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
