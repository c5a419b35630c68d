//! An idempotent lane's records are stored once, in order, without holes that nobody explains (I3, fault row 24;
//! KIP-98). A record of another lane is stored at most as often as it was sent, unless the SDK retries it.
//!
//! A number may be missing where its batch was refused, or nobody was told of it, or it was deleted, or lost with
//! what memory had promised.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Durability, PartitionId};
use storage_frame::Offset;

use super::batches::{Batch, Batches, Outcome};
use super::lives::{Lives, Span};
use super::topics::Topics;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, BatchId, Fact, Seen};
use crate::value::Value;

#[derive(Debug)]
pub(super) struct Idempotence {
    rules: Rules,
    lives: Lives,
    topics: Topics,
    batches: Batches,
    /// Where each record of idempotent lanes is.
    places: BTreeMap<(PartitionId, u32, u32, u64), Stored>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    offset: u64,
    /// It was there in some life not after `first`, and in one not before `last`.
    first: u32,
    last: u32,
    is_bound: bool,
    told_at: Duration,
}

impl Idempotence {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            lives: Lives::default(),
            topics: Topics::default(),
            batches: Batches::default(),
            places: BTreeMap::new(),
        }
    }
}

impl Oracle for Idempotence {
    fn name(&self) -> &'static str {
        "idempotence"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.lives.hear(at);
        self.topics.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::Acked { batch, base_offset, durability, .. } => {
                let sent = self.batches.batch(*batch);
                if !sent.idempotent {
                    return Ok(());
                }
                let (to, span) = (sent.to, self.lives.since(sent.sent_at));
                let values: Vec<Value> = sent.records.iter().map(|(value, _)| *value).collect();
                let is_bound = *durability >= Durability::LeaderDisk;
                (base_offset.0..)
                    .zip(&values)
                    .try_for_each(|(offset, value)| self.learn(at.time, to, value, offset, span, is_bound))
            }
            Fact::Read { from, asked_at, records, .. } => {
                let span = self.lives.since(*asked_at);
                self.on_seen(at.time, *from, records, span)
            }
            Fact::Audit { partition, log_start, records, .. } => {
                let now = self.lives.now();
                self.on_seen(at.time, *partition, records, Span { first: now, last: now })?;
                self.check_counts(*partition, records)?;
                self.check_holes(*partition, *log_start, records)
            }
            Fact::Gap { batch } => self.on_gap(at.time, *batch),
            _ => Ok(()),
        }
    }
}

impl Idempotence {
    /// Right only where the batch before was lost, beyond what is promised. A log that has forgotten a producer takes any
    /// sequence of it for its first: lanes have one batch under way until one is stored, so none gets in before another.
    fn on_gap(&self, now: Duration, id: BatchId) -> Result<(), Violation> {
        let batch = self.batches.batch(id);
        let (value, _) = batch.records[0];
        let is_lost = |before: &Batch| {
            let life = self.lives.since(before.sent_at).first;
            self.lives.losses(life, self.lives.now(), self.topics.log(batch.to)).next().is_some()
        };
        let before = value.number.checked_sub(1).into_iter();
        let mut before = before.flat_map(|number| self.batches.of_number(&value, number));
        if self.rules.beyond_promise && before.any(|(_, before, _)| is_lost(before)) {
            return Ok(());
        }
        Err(Violation(format!(
            "{}: {value} in batch {} is the oldest of its lane, and at {now:?} one before is said to be missing",
            self.topics.label(batch.to),
            id.0,
        )))
    }

    fn on_seen(
        &mut self,
        now: Duration,
        from: PartitionId,
        records: &[Seen],
        span: Span,
    ) -> Result<(), Violation> {
        let is_bound = !self.topics.may_cache(from);
        let mut last: BTreeMap<(u32, u32), (u64, Offset)> = BTreeMap::new();
        for seen in records {
            let Some(value) = seen.value.filter(|value| self.is_idempotent(value)) else { continue };
            if let Some((number, offset)) =
                last.insert((value.client, value.lane), (value.number, seen.offset))
                && number > value.number
            {
                return Err(Violation(format!(
                    "{} read at {now:?}: {value} at offset {} comes behind #{number} at offset {offset}",
                    self.topics.label(from),
                    seen.offset,
                )));
            }
            self.learn(now, from, &value, seen.offset.0, span, is_bound)?;
        }
        Ok(())
    }

    fn is_idempotent(&self, value: &Value) -> bool {
        self.batches.of_value(value).any(|(_, batch, _)| batch.idempotent)
    }

    fn learn(
        &mut self,
        now: Duration,
        partition: PartitionId,
        value: &Value,
        offset: u64,
        span: Span,
        is_bound: bool,
    ) -> Result<(), Violation> {
        let key = (partition, value.client, value.lane, value.number);
        let told = Stored { offset, first: span.last, last: span.first, is_bound, told_at: now };
        let Some(known) = self.places.get_mut(&key) else {
            self.places.insert(key, told);
            return Ok(());
        };
        if known.offset == offset {
            known.first = known.first.min(told.first);
            known.last = known.last.max(told.last);
            known.is_bound |= is_bound;
            return Ok(());
        }
        let log = self.topics.log(partition);
        let is_pinned = |is_bound: bool| is_bound && !self.rules.beyond_promise;
        // It went with memory, or with a device that lied, and was sent again.
        if !is_pinned(known.is_bound) && self.lives.losses(known.last, span.last, log).next().is_some() {
            *known = told;
            return Ok(());
        }
        if !is_pinned(is_bound) && self.lives.losses(span.first, known.first, log).next().is_some() {
            return Ok(());
        }
        Err(Violation(format!(
            "{}: {value} is stored twice: at offset {} (told at {:?}) and at offset {offset} (told at {now:?})",
            self.topics.label(partition),
            known.offset,
            known.told_at,
        )))
    }

    fn check_counts(&self, partition: PartitionId, records: &[Seen]) -> Result<(), Violation> {
        let mut counts: BTreeMap<(u32, u32, u64), (usize, Offset)> = BTreeMap::new();
        for seen in records {
            let Some(value) = seen.value else { continue };
            let sent = self
                .batches
                .of_value(&value)
                .filter(|(_, batch, _)| !matches!(batch.outcome, Outcome::Refused { .. }));
            let mut sent = sent.peekable();
            // The SDK says so of a producer that is not idempotent.
            if sent.peek().is_some_and(|(id, batch, _)| id.is_retried() && !batch.idempotent) {
                continue;
            }
            let sent_count = sent.count();
            let (count, first) =
                counts.entry((value.client, value.lane, value.number)).or_insert((0, seen.offset));
            *count += 1;
            // One that was refused and is there nevertheless is another oracle's.
            if *count > sent_count.max(1) {
                return Err(Violation(format!(
                    "{}: {value} was sent {sent_count} times and is stored {count} times, at offset {first} and at {}",
                    self.topics.label(partition),
                    seen.offset,
                )));
            }
        }
        Ok(())
    }

    /// Between two numbers of a lane that are there, each that is not has its reason.
    fn check_holes(
        &self,
        partition: PartitionId,
        log_start: Offset,
        records: &[Seen],
    ) -> Result<(), Violation> {
        let mut next: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for seen in records {
            let Some(value) = seen.value.filter(|value| self.is_idempotent(value)) else { continue };
            let next = next.entry((value.client, value.lane)).or_insert(0);
            for number in *next..value.number {
                if let Some(lost) = self.lost(partition, log_start, &value, number) {
                    return Err(Violation(format!(
                        "{}: {value} at offset {} comes where #{number} is missing, {lost}",
                        self.topics.label(partition),
                        seen.offset,
                    )));
                }
            }
            *next = value.number + 1;
        }
        Ok(())
    }

    /// Why `number` of `beside`'s lane should be there; `None`: it need not.
    fn lost(&self, partition: PartitionId, log_start: Offset, beside: &Value, number: u64) -> Option<String> {
        for (id, batch, index) in self.batches.of_number(beside, number) {
            let Outcome::Acked { base, durability, at } = &batch.outcome else { continue };
            let offset = base.plus(index);
            let life = self.lives.since(batch.sent_at).first;
            let is_bound = *durability >= Durability::LeaderDisk && !self.rules.beyond_promise;
            let mut losses = self.lives.losses(life, self.lives.now(), self.topics.log(partition));
            if offset < log_start || (!is_bound && losses.next().is_some()) {
                continue;
            }
            return Some(format!(
                "of batch {}, acknowledged at {at:?} at offset {offset} as {durability:?}",
                id.0
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, caching, plain};

    fn history() -> History {
        History::new(Idempotence::new(Rules::default()))
    }

    #[test]
    fn each_once_and_in_order_passes() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).sent(2, &[1]).acked(1, 0).acked(2, 1).read(0, 2, &[0, 1]);
        history.audit(0, &[0, 1]).passes();
    }

    #[test]
    fn a_duplicate_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).acked(1, 0).audit(0, &[0, 0]);
        history.fails_with("c1/l1#0(20B) is stored twice: at offset 0");
    }

    #[test]
    fn a_duplicate_answered_with_another_offset_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).read(0, 1, &[0]).acked(1, 3);
        history.fails_with("and at offset 3");
    }

    #[test]
    fn another_order_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).sent(2, &[1]).read(0, 2, &[1, 0]);
        history.fails_with("c1/l1#0(20B) at offset 1 comes behind #1 at offset 0");
    }

    #[test]
    fn a_hole_fails_unless_it_was_refused_or_doubtful() {
        let mut lost = history();
        lost.topic(plain()).sent(1, &[0]).sent(2, &[1]).acked(1, 0).acked(2, 1).audit(0, &[1]);
        lost.fails_with("offset 0");
        let mut refused = history();
        refused.topic(plain()).sent(1, &[0]).sent(2, &[1]).refused(1).acked(2, 0).audit(0, &[1]).passes();
        let mut doubtful = history();
        doubtful.topic(plain()).sent(1, &[0]).sent(2, &[1]).doubtful(1).acked(2, 0).audit(0, &[1]).passes();
    }

    #[test]
    fn a_hole_between_two_that_are_there_names_what_is_missing() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1, 2]).acked(1, 0).audit(0, &[0]);
        history.sent(2, &[3]).audit(0, &[0, 3]);
        history.fails_with("comes where #1 is missing, of batch 1");
    }

    #[test]
    fn sent_again_after_a_refusal_passes() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).refused(1).sent(2, &[0]).acked(2, 0).audit(0, &[0]).passes();
    }

    #[test]
    fn what_memory_lost_may_be_stored_elsewhere() {
        let mut history = history();
        history.topic(caching()).sent(1, &[0]).sent(2, &[1]).read(0, 2, &[0, 1]).crash();
        history.acked(2, 0).passes();
    }

    #[test]
    fn a_gap_before_the_oldest_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).acked(1, 0).sent(2, &[1]).fact(Fact::Gap { batch: BatchId(2) });
        history.fails_with("c1/l1#1(20B) in batch 2 is the oldest of its lane");
    }

    #[test]
    fn a_gap_behind_what_a_lying_device_lost_is_none() {
        let rules = Rules { beyond_promise: true };
        let mut history = History::new(Idempotence::new(rules));
        history.topic(plain()).sent(1, &[0]).acked(1, 0).crash().sent(2, &[1]);
        history.fact(Fact::Gap { batch: BatchId(2) }).passes();
    }

    #[test]
    fn a_plain_record_is_stored_as_often_as_it_was_sent() {
        let mut once = history();
        once.topic(plain()).send(1, &[0], false).doubtful(1).audit(0, &[0, 0]);
        once.fails_with("was sent 1 times and is stored 2 times");
        let mut twice = history();
        twice.topic(plain()).send(1, &[0], false).doubtful(1).send(2, &[0], false).doubtful(2);
        twice.audit(0, &[0, 0]).passes();
    }
}
