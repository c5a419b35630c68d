//! One partition's way out: batches in order, from the first record put in to the broker's answer.
//!
//! ```text
//! send -> open -> queue -> in_flight -> answered
//!                   ^----------'  (stream lost, or a retriable refusal: all of them, in order)
//! ```
//! What must hold:
//! - The broker answers in the order it was asked, so an answer is always for `in_flight`'s front.
//! - A sequence number that has been on the wire names one batch for ever. A batch that is given up after that
//!   leaves a hole: the broker refuses what follows it as out of sequence, which proves that nothing of that is
//!   stored, so the lane sends it again under a new producer id. For that the broker must know the id: until it
//!   has stored a batch over the stream, nothing follows the first.
//! - A batch that every sending of was refused for then (no space, overloaded) is known not to be stored, and at its
//!   deadline counts as never sent. Without sequences nothing else is known of what had no answer: it may be stored,
//!   and be stored again by a retry.
//! - A batch whose deadline passes while its outcome is unknown has its verdict spoken ("timed out"), but stays
//!   in its place as long as younger batches behind it may still be stored under the same producer id: sending
//!   them under another one could store them twice. So it may be stored after all, for at most as long again.
//!
//! Time is told; nothing here waits. Does not know: connections, topics' metadata, other partitions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine_api::{Acks, ProduceError, Produced};
use storage_frame::{Frame, Producer, TimestampMs};

use super::backoff::Backoff;
use super::batch::{Batch, Body, Sending, Supply};
use super::ledger::Ledger;
use super::outcome::{Delivery, DeliveryError, Stored, Trouble, Verdict};
use super::record::{BATCH_OVERHEAD_BYTES, Record};

/// What of a producer's settings its lanes need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneSettings {
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// Not idempotent.
    None,
    Wanted,
    Given {
        id: u64,
        next_sequence: u32,
    },
}

/// What the lane's driver can do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// No stream.
    Down,
    /// Making a stream, asking for an id, or writing: no time for anything else.
    Busy,
    /// A stream that takes another batch.
    Ready,
}

/// What a lane wants done.
#[derive(Debug)]
pub(crate) enum Step {
    /// A stream to the partition's leader.
    Connect,
    /// A producer id, for [`Lane::on_identity`].
    Identify,
    Send(Sending),
    /// Answers on the current stream are no longer of use: drop it, then ask again.
    Abandon,
    /// Nothing until then, or until something is told.
    Wait(Option<Duration>),
}

/// What an answer means for its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterAnswer {
    Continue,
    /// Drop the stream: everything on it was put back.
    Abandon,
    /// The same, and the leader is elsewhere.
    Refresh,
    /// The producer is over.
    Fatal(ProduceError),
}

/// With `linger` 0: batches of one partition on the way before a partly filled one has to wait. One is being
/// written by the broker and one is at hand for it when that is done; more would only make batches smaller.
const PARTIAL_IN_FLIGHT_MAX: usize = 2;
/// Batches on the way whatever their size; more of them where they are small, together below one of the default size, for
/// then what each costs by itself is what counts: the broker writes all that it has at hand at once.
const IN_FLIGHT_LARGE_MAX: usize = 5;
const IN_FLIGHT_SMALL_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    settings: LaneSettings,
    open: Option<Batch>,
    queue: VecDeque<Batch>,
    in_flight: VecDeque<Batch>,
    identity: Identity,
    /// Something was stored over the current stream.
    stream_proven: bool,
    backoff: Backoff,
    retry_at: Option<Duration>,
    last: Option<Trouble>,
    /// May share the producer id of the other lanes: it has never used one up.
    pub(crate) is_fresh: bool,
    /// Gets no more records.
    retired: bool,
}

/// How a record went into a lane.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) delivery: Delivery,
    /// The lane has something new to do.
    pub(crate) wake: bool,
    /// A batch was closed because the record did not fit.
    pub(crate) closed: bool,
}

impl Lane {
    pub(crate) fn new(topic: Arc<str>, partition: u32, settings: LaneSettings, seed: u64) -> Self {
        Self {
            topic,
            partition,
            settings,
            open: None,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            identity: if settings.idempotent { Identity::Wanted } else { Identity::None },
            stream_proven: false,
            backoff: Backoff::new(seed),
            retry_at: None,
            last: None,
            is_fresh: true,
            retired: false,
        }
    }

    /// No more records come; the lane is over once it is empty.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
        // The partition's next lane may take the id the others share.
        self.is_fresh = false;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.retired && self.open.is_none() && self.queue.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn has_open_batch(&self) -> bool {
        self.open.is_some()
    }

    /// Adds a record that fits into `batch_bytes_max` by itself. `builder` and `next_number` are for a new batch.
    ///
    /// # Errors
    /// The bytes of a header's name that is too long.
    pub(crate) fn push(
        &mut self,
        now: Duration,
        record: &Record<'_>,
        timestamp: TimestampMs,
        batch_bytes_max: usize,
        ledger: &mut Ledger,
        supply: &mut Supply,
    ) -> Result<Pushed, usize> {
        use storage_frame::PushError;

        let record_bytes = record.batch_bytes();
        let mut closed = false;
        if let Some(batch) = &self.open
            && batch.charged_bytes + record_bytes > batch_bytes_max
        {
            self.close_open();
            closed = true;
        }
        loop {
            let opened = self.open.is_none();
            let batch = self.open.get_or_insert_with(|| Batch {
                number: supply.next_number,
                body: Body::Open(supply.builders.pop().unwrap_or_default()),
                verdict: Verdict::new(Arc::clone(&self.topic), self.partition),
                record_count: 0,
                charged_bytes: 0,
                opened_at: now,
                sequence: None,
                doubtful: false,
            });
            let Body::Open(builder) = &mut batch.body else { unreachable!("the open batch is open") };
            match builder.push(timestamp, record.key, record.value, record.headers.iter().copied()) {
                Ok(()) => {}
                Err(PushError::HeaderName(bytes)) => {
                    if opened {
                        self.open = None;
                    }
                    return Err(bytes);
                }
                Err(PushError::Full | PushError::TimestampSpan) => {
                    assert!(!opened, "an empty batch takes a record within the limits");
                    self.close_open();
                    closed = true;
                    continue;
                }
            }
            let charged_bytes = record_bytes + if opened { BATCH_OVERHEAD_BYTES } else { 0 };
            if opened {
                supply.next_number += 1;
                ledger.add_unsettled(batch.number, 1);
            }
            ledger.charge(charged_bytes);
            batch.charged_bytes += charged_bytes;
            batch.record_count += 1;
            let delivery = batch.verdict.add_record(timestamp);
            return Ok(Pushed { delivery, wake: opened || closed, closed });
        }
    }

    fn close_open(&mut self) {
        self.queue.extend(self.open.take());
    }

    /// Says what to do next. `flush_below`: batches of a lower number do not wait for more records.
    pub(crate) fn next_step(
        &mut self,
        now: Duration,
        link: Link,
        flush_below: u64,
        ledger: &mut Ledger,
    ) -> Step {
        if self.expire(now, ledger) {
            reach::mark!("client.stream_given_up");
            return Step::Abandon;
        }
        if link == Link::Down {
            self.stream_proven = false;
        }
        if link == Link::Busy {
            return Step::Wait(self.next_deadline());
        }
        if let Some(retry_at) = self.retry_at {
            if now < retry_at {
                reach::mark!("client.lane_backs_off");
                return Step::Wait(min_time(Some(retry_at), self.next_deadline()));
            }
            self.retry_at = None;
        }
        if self.is_way_full() {
            return Step::Wait(self.next_deadline());
        }
        reach::mark!(
            "client.lane_holds_for_unanswered",
            self.in_flight.front().is_some_and(|batch| batch.verdict.is_spoken())
        );
        // No answer for a whole delivery timeout: what is sent now would only keep the stream alive longer.
        if self.in_flight.front().is_some_and(|batch| batch.verdict.is_spoken()) {
            return Step::Wait(self.next_deadline());
        }
        if self.queue.is_empty() && self.is_open_ready(now, flush_below) {
            self.close_open();
        }
        if self.queue.is_empty() {
            let lingered = self.open.as_ref().map(|batch| batch.opened_at + self.settings.linger);
            // Without linger an answer sets the open batch going, not the time.
            let lingered = lingered.filter(|_| !self.settings.linger.is_zero());
            return Step::Wait(min_time(lingered, self.next_deadline()));
        }
        if self.identity == Identity::Wanted {
            return Step::Identify;
        }
        if link == Link::Down {
            return Step::Connect;
        }
        Step::Send(self.take_front())
    }

    fn is_way_full(&self) -> bool {
        let count = self.in_flight.len();
        // One until the broker has stored something over this stream: a broker that does not know the producer id
        // takes any sequence for its first, so behind a refused batch it would store the next.
        if self.settings.idempotent && !self.stream_proven {
            return count >= 1;
        }
        if count < IN_FLIGHT_LARGE_MAX.min(self.settings.in_flight_max) {
            return false;
        }
        let bytes = || self.in_flight.iter().map(|batch| batch.charged_bytes).sum::<usize>();
        count >= self.settings.in_flight_max || bytes() >= IN_FLIGHT_SMALL_BYTES
    }

    fn is_open_ready(&self, now: Duration, flush_below: u64) -> bool {
        let Some(batch) = &self.open else { return false };
        if batch.number < flush_below {
            return true;
        }
        if self.settings.linger.is_zero() {
            self.in_flight.len() < PARTIAL_IN_FLIGHT_MAX
        } else {
            now >= batch.opened_at + self.settings.linger
        }
    }

    fn take_front(&mut self) -> Sending {
        let mut batch = self.queue.pop_front().expect("looked before");
        let producer = match &mut self.identity {
            Identity::None => None,
            Identity::Wanted => unreachable!("asked for before"),
            Identity::Given { id, next_sequence } => {
                let base_sequence = *batch.sequence.get_or_insert_with(|| {
                    let sequence = *next_sequence;
                    *next_sequence = Producer::sequence_after(sequence, batch.record_count);
                    sequence
                });
                Some(Producer { id: *id, epoch: 0, base_sequence })
            }
        };
        batch.verdict.mark_sent();
        let body = std::mem::replace(&mut batch.body, Body::Away);
        self.in_flight.push_back(batch);
        Sending { body, producer }
    }

    /// The frame of the batch taken last, kept for retries.
    pub(crate) fn put_back(&mut self, frame: Frame) {
        let batch = self.in_flight.back_mut().expect("a batch was taken");
        assert!(matches!(batch.body, Body::Away), "a batch comes back once");
        batch.body = Body::Sealed(frame);
    }

    /// The batch taken last is on the stream and no answer will come ([`Acks::None`]).
    pub(crate) fn on_written_unacknowledged(&mut self, ledger: &mut Ledger) {
        assert_eq!(self.settings.acks, Acks::None);
        let batch = self.in_flight.pop_back().expect("a batch was taken");
        let nothing = Stored {
            base_offset: None,
            durability: None,
            duplicate: false,
            timings: engine_api::StageTimings::default(),
        };
        batch.finish(ledger, Ok(nothing));
        self.backoff.succeeded();
    }

    pub(crate) fn on_identity(&mut self, id: u64) {
        if self.identity == Identity::Wanted {
            self.identity = Identity::Given { id, next_sequence: 0 };
            self.is_fresh = false;
        }
    }

    /// There is no stream, or no producer id, for now. What was on the stream has an unknown outcome and is sent
    /// again.
    pub(crate) fn on_disconnected(&mut self, now: Duration, trouble: Trouble, ledger: &mut Ledger) {
        self.requeue(ledger);
        self.wait_to_retry(now, trouble);
    }

    fn wait_to_retry(&mut self, now: Duration, trouble: Trouble) {
        self.last = Some(trouble);
        self.retry_at = Some(now + self.backoff.next_wait());
    }

    fn requeue(&mut self, ledger: &mut Ledger) {
        self.stream_proven = false;
        while let Some(mut batch) = self.in_flight.pop_back() {
            assert!(!matches!(batch.body, Body::Away), "put back before the stream is given up");
            if self.settings.idempotent || !batch.verdict.is_spoken() {
                ledger.retries_count += 1;
                reach::mark!("client.batch_put_back");
                batch.doubtful = true;
                self.queue.push_front(batch);
            } else {
                reach::mark!("client.unacked_given_up");
                ledger.release(batch.charged_bytes);
            }
        }
    }

    /// The broker's answer to the oldest batch in flight.
    pub(crate) fn on_answer(
        &mut self,
        now: Duration,
        answer: Result<Produced, ProduceError>,
        ledger: &mut Ledger,
    ) -> Result<AfterAnswer, UnaskedAnswer> {
        if self.in_flight.is_empty() {
            reach::mark!("client.unasked_answer");
            return Err(UnaskedAnswer);
        }
        let error = match answer {
            Ok(produced) => {
                let stored = Stored {
                    base_offset: Some(produced.base_offset),
                    durability: Some(produced.durability),
                    duplicate: produced.duplicate,
                    timings: produced.timings,
                };
                reach::mark!("client.duplicate_stored", stored.duplicate);
                self.finish_front(ledger, Ok(stored));
                self.stream_proven = true;
                self.backoff.succeeded();
                self.last = None;
                return Ok(AfterAnswer::Continue);
            }
            Err(error) => error,
        };
        Ok(match error {
            ProduceError::UnknownPartition | ProduceError::NotLeader => {
                self.retry_front(now, error, ledger);
                AfterAnswer::Refresh
            }
            ProduceError::NoSpace | ProduceError::Overloaded => {
                reach::mark!("client.refused_for_now");
                self.retry_front(now, error, ledger);
                AfterAnswer::Abandon
            }
            // Unknown outcomes.
            ProduceError::ShuttingDown | ProduceError::StorageFailed { .. } => {
                self.on_disconnected(now, Trouble::Refused(error), ledger);
                AfterAnswer::Abandon
            }
            ProduceError::TooLarge { batch_bytes_max, .. } if self.may_split_front() => {
                let front = self.in_flight.pop_front().expect("looked before");
                reach::mark!("client.batch_split");
                let limit = usize::try_from(batch_bytes_max).unwrap_or(usize::MAX);
                self.split(front, limit, &error, ledger)
            }
            ProduceError::OutOfSequence { sent, expected, .. } if self.settings.idempotent => {
                self.on_out_of_sequence(sent, expected, error, ledger)
            }
            // Behind it the broker refuses everything as out of sequence, which is answered then.
            ProduceError::TooLarge { .. }
            | ProduceError::Invalid { .. }
            | ProduceError::Damaged { .. }
            | ProduceError::OutOfSequence { .. } => {
                self.refuse_front(error, ledger);
                AfterAnswer::Continue
            }
            ProduceError::ProducerFenced { .. } => {
                reach::mark!("client.producer_fenced");
                self.refuse_front(error.clone(), ledger);
                AfterAnswer::Fatal(error)
            }
        })
    }

    /// The front was refused for now, so this sending did not store it; what is behind it on the stream has no
    /// answer yet.
    fn retry_front(&mut self, now: Duration, error: ProduceError, ledger: &mut Ledger) {
        let front = self.in_flight.front().expect("looked before");
        let (number, was_doubtful) = (front.number, front.doubtful);
        self.on_disconnected(now, Trouble::Refused(error), ledger);
        // One that was given up is not put back.
        if let Some(front) = self.queue.front_mut()
            && front.number == number
        {
            front.doubtful = was_doubtful;
            if !was_doubtful && !front.verdict.is_spoken() {
                reach::mark!("client.batch_known_unsent");
                front.verdict.mark_unsent();
            }
        }
    }

    fn refuse_front(&mut self, error: ProduceError, ledger: &mut Ledger) {
        let doubtful = self.in_flight.front().expect("looked before").doubtful;
        let error =
            if doubtful { DeliveryError::RefusedOnRetry(error) } else { DeliveryError::Refused(error) };
        self.finish_front(ledger, Err(error));
    }

    /// Many records, none of which can be stored yet.
    fn may_split_front(&self) -> bool {
        let front = self.in_flight.front().expect("looked before");
        front.record_count > 1 && !front.doubtful && !front.verdict.is_spoken()
    }

    fn finish_front(&mut self, ledger: &mut Ledger, result: Result<Stored, DeliveryError>) {
        self.in_flight.pop_front().expect("an answer is for a batch").finish(ledger, result);
    }

    fn on_out_of_sequence(
        &mut self,
        sent: u32,
        expected: u32,
        error: ProduceError,
        ledger: &mut Ledger,
    ) -> AfterAnswer {
        let front = self.in_flight.front().expect("looked before");
        let ahead = Producer::sequences_between(sent, expected);
        if ahead >= front.record_count && ahead < Producer::SEQUENCE_MAX / 2 {
            reach::mark!("client.duplicate_too_old");
            self.finish_front(ledger, Err(DeliveryError::OffsetUnknown));
            return AfterAnswer::Continue;
        }
        if front.sequence == Some(0) {
            reach::mark!("client.first_batch_out_of_sequence");
            // The broker refuses the very first batch of an id; another id would not help.
            self.refuse_front(error, ledger);
            return AfterAnswer::Continue;
        }
        // What came before was refused, or the broker has lost it or forgotten this producer. So this batch and
        // those behind it are not stored, and may go again under another id.
        reach::mark!("client.sequence_hole");
        self.requeue(ledger);
        self.renew_identity(ledger);
        AfterAnswer::Abandon
    }

    /// Nothing may be in flight. With sequences nothing in the queue can be stored but what was timed out already;
    /// without, what was sent stays in doubt. What was timed out is let go.
    fn renew_identity(&mut self, ledger: &mut Ledger) {
        assert!(self.in_flight.is_empty());
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for mut batch in self.queue.drain(..) {
            if batch.verdict.is_spoken() {
                reach::mark!("client.timed_out_batch_let_go");
                ledger.release(batch.charged_bytes);
            } else {
                if self.settings.idempotent {
                    batch.sequence = None;
                    batch.doubtful = false;
                    batch.verdict.mark_unsent();
                }
                kept.push_back(batch);
            }
        }
        self.queue = kept;
        if self.settings.idempotent {
            self.identity = Identity::Wanted;
            self.is_fresh = false;
            reach::mark!("client.identity_renewed");
            ledger.identities_count += 1;
        }
    }

    /// Puts `batch`, which is not stored, at the front of the queue in pieces that fit into `batch_bytes_max`; records that do not fit
    /// alone are refused.
    fn split(
        &mut self,
        mut batch: Batch,
        batch_bytes_max: usize,
        error: &ProduceError,
        ledger: &mut Ledger,
    ) -> AfterAnswer {
        // At most half, so that a broker that measures otherwise than we do is satisfied in the end.
        let pieces = batch.pieces(batch_bytes_max.min(batch.charged_bytes / 2));
        ledger.add_unsettled(batch.number, pieces.len() as u32 - 1);
        let last_index = pieces.len() - 1;
        let mut split = Vec::with_capacity(pieces.len());
        for (index, (builder, piece_bytes)) in pieces.into_iter().enumerate() {
            let record_count = builder.record_count();
            let verdict = if index == last_index {
                std::mem::replace(&mut batch.verdict, Verdict::new(Arc::clone(&self.topic), self.partition))
            } else {
                batch.verdict.split_front(record_count)
            };
            // All pieces together hold what the batch was charged for; the last takes the rest.
            let charged_bytes = if index == last_index {
                batch.charged_bytes
            } else {
                (piece_bytes - BATCH_OVERHEAD_BYTES).min(batch.charged_bytes)
            };
            batch.charged_bytes -= charged_bytes;
            let mut piece = Batch {
                number: batch.number,
                body: Body::Open(builder),
                verdict,
                record_count,
                charged_bytes,
                opened_at: batch.opened_at,
                sequence: None,
                doubtful: false,
            };
            piece.verdict.mark_unsent();
            if piece_bytes > batch_bytes_max && record_count == 1 {
                piece.finish(ledger, Err(DeliveryError::Refused(error.clone())));
            } else {
                split.push(piece);
            }
        }
        // The pieces need sequences of their own. The batch is not stored, so nothing behind it is.
        self.requeue(ledger);
        for piece in split.into_iter().rev() {
            self.queue.push_front(piece);
        }
        self.renew_identity(ledger);
        AfterAnswer::Abandon
    }

    /// Ends everything: the topic is gone, or the producer is over. `error` is told whether the batch was sent.
    ///
    /// Only for the task that drives this lane: a batch that is away must not come back.
    pub(crate) fn fail_all(&mut self, ledger: &mut Ledger, error: impl Fn(bool) -> DeliveryError) {
        self.close_open();
        for batch in self.in_flight.drain(..).chain(self.queue.drain(..)) {
            reach::mark!("client.lane_ended_with_batches");
            let sent = batch.is_sent();
            batch.finish(ledger, Err(error(sent)));
        }
        self.renew_identity(ledger);
    }

    /// Speaks the verdict on batches past their deadline. True: everything on the stream was given up.
    fn expire(&mut self, now: Duration, ledger: &mut Ledger) -> bool {
        let after = self.settings.delivery_timeout;
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        let last = &self.last;
        for batch in self.in_flight.iter_mut().chain(&mut self.queue) {
            if now >= batch.opened_at + after && batch.is_sent() {
                reach::mark!("client.doubtful_batch_expired");
                batch.speak(ledger, Err(DeliveryError::TimedOut { after, last: last.clone() }));
            }
        }
        // Deadlines grow along the queue, and what was never sent is behind what was.
        let is_late_unsent = |batch: &Batch| now >= batch.opened_at + after && !batch.is_sent();
        let mut leaves_hole = false;
        while let Some(index) = self.queue.iter().position(is_late_unsent) {
            let batch = self.queue.remove(index).expect("found");
            reach::mark!("client.unsent_batch_expired");
            leaves_hole |= batch.sequence.is_some();
            batch.finish(ledger, Err(DeliveryError::NotSent { after, last: last.clone() }));
        }
        if let Some(batch) = self.open.take_if(|batch| now >= batch.opened_at + after) {
            batch.finish(ledger, Err(DeliveryError::NotSent { after, last: last.clone() }));
        }
        let mut sent = self.in_flight.iter().chain(&self.queue).filter(|batch| batch.is_sent()).peekable();
        if sent.peek().is_none() {
            if leaves_hole {
                reach::mark!("client.expired_batch_leaves_hole");
                // Nothing of this id is on its way: what follows need not be refused first.
                self.renew_identity(ledger);
            }
            return false;
        }
        if sent.any(|batch| !batch.verdict.is_spoken()) {
            reach::mark!("client.expired_batch_keeps_its_place");
            return false;
        }
        let abandoned = !self.in_flight.is_empty();
        self.stream_proven = false;
        for batch in self.in_flight.drain(..) {
            ledger.release(batch.charged_bytes);
        }
        self.renew_identity(ledger);
        abandoned
    }

    /// Of the oldest batch without a verdict.
    fn next_deadline(&self) -> Option<Duration> {
        let batches = self.in_flight.iter().chain(&self.queue).chain(&self.open);
        let oldest = batches.filter(|batch| !batch.verdict.is_spoken()).map(|batch| batch.opened_at).next();
        oldest.map(|opened_at| opened_at + self.settings.delivery_timeout)
    }
}

/// The broker answered what it was not asked: the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnaskedAnswer;

fn min_time(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
