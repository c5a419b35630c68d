//! An offset means one record for ever (I2, fault row 24): whatever an acknowledgement, a reader or the audit said of
//! it holds. What was promised from memory, or only accepted, holds until the process ends otherwise than in order,
//! and is lost from some offset on, never from the middle.
//!
//! For each boundary between two lives two numbers are kept: below `survived_end` nothing was lost, from `lost_from`
//! on everything was. They never pass each other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use engine_api::{Durability, PartitionId};
use storage_frame::TimestampMs;

use super::batches::Batches;
use super::lives::{Lives, Span};
use super::tails::Tails;
use super::topics::Topics;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, BatchId, ClientId, Fact, Seen};
use crate::value::Value;

#[derive(Debug)]
pub(super) struct Offsets {
    rules: Rules,
    lives: Lives,
    topics: Topics,
    tails: Tails,
    batches: Batches,
    partitions: BTreeMap<PartitionId, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    meanings: BTreeMap<u64, Meaning>,
    /// By the life after.
    boundaries: BTreeMap<u32, Boundary>,
    /// Everything below was said to be on the disk.
    bound_end: u64,
}

#[derive(Debug, Clone, Copy)]
struct Boundary {
    survived_end: u64,
    lost_from: u64,
}

#[derive(Debug, Clone, Copy)]
struct Meaning {
    value: Value,
    /// Not known from an acknowledgement where the broker sets it.
    timestamp: Option<TimestampMs>,
    /// It was there in some life not after `first`, and in one not before `last`.
    first: u32,
    last: u32,
    is_bound: bool,
    said: Said,
}

/// Who said what an offset means.
#[derive(Debug, Clone, Copy)]
struct Said {
    by: By,
    at: Duration,
}

#[derive(Debug, Clone, Copy)]
enum By {
    Ack(BatchId, Durability),
    Client(ClientId),
    Audit,
}

struct News {
    partition: PartitionId,
    offset: u64,
    value: Value,
    timestamp: Option<TimestampMs>,
    span: Span,
    is_bound: bool,
    said: Said,
}

impl Offsets {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            lives: Lives::default(),
            topics: Topics::default(),
            tails: Tails::new(rules),
            batches: Batches::default(),
            partitions: BTreeMap::new(),
        }
    }
}

impl Oracle for Offsets {
    fn name(&self) -> &'static str {
        "offsets"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.lives.hear(at);
        self.topics.hear(at);
        self.tails.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::Began { .. } => {
                self.on_boundary();
                Ok(())
            }
            Fact::Acked { batch, base_offset, durability, .. } => {
                self.on_acked(at.time, *batch, base_offset.0, *durability)
            }
            Fact::Read { by, from, asked_at, records, .. } => {
                let span = self.lives.since(*asked_at);
                self.on_seen(*from, records, span, Said { by: By::Client(*by), at: at.time })
            }
            Fact::Audit { partition, log_start, high_watermark, records } => {
                self.check_dense(*partition, log_start.0, high_watermark.0, records)?;
                let now = self.lives.now();
                let span = Span { first: now, last: now };
                self.on_seen(*partition, records, span, Said { by: By::Audit, at: at.time })
            }
            _ => Ok(()),
        }
    }
}

impl Offsets {
    fn on_boundary(&mut self) {
        let life = self.lives.now();
        for (id, partition) in &mut self.partitions {
            let log = self.topics.log(*id);
            let on_disk = log.map_or(0, |log| self.tails.safe_end(log));
            let survived_end = if !self.lives.may_lose(life, log) {
                u64::MAX
            } else if self.rules.beyond_promise {
                on_disk
            } else {
                on_disk.max(partition.bound_end)
            };
            partition.boundaries.insert(life, Boundary { survived_end, lost_from: u64::MAX });
        }
    }

    fn on_acked(
        &mut self,
        now: Duration,
        batch_id: BatchId,
        base: u64,
        durability: Durability,
    ) -> Result<(), Violation> {
        let batch = self.batches.batch(batch_id);
        let (partition, span) = (batch.to, self.lives.since(batch.sent_at));
        let may_set_time =
            self.topics.topic(partition).is_none_or(|topic| topic.promises.iter().any(|p| p.append_time));
        let said = Said { by: By::Ack(batch_id, durability), at: now };
        let news: Vec<News> = (base..)
            .zip(&batch.records)
            .map(|(offset, (value, timestamp))| News {
                partition,
                offset,
                value: *value,
                timestamp: (!may_set_time).then_some(*timestamp),
                span,
                is_bound: durability >= Durability::LeaderDisk,
                said,
            })
            .collect();
        news.iter().try_for_each(|news| self.learn(news))
    }

    fn on_seen(
        &mut self,
        partition: PartitionId,
        records: &[Seen],
        span: Span,
        said: Said,
    ) -> Result<(), Violation> {
        // Without caching nothing is shown before it is on the disk.
        let is_bound = !self.topics.may_cache(partition);
        for seen in records {
            let Some(value) = seen.value else { continue };
            let (offset, timestamp) = (seen.offset.0, Some(seen.timestamp));
            self.learn(&News { partition, offset, value, timestamp, span, is_bound, said })?;
        }
        Ok(())
    }

    fn check_dense(
        &self,
        partition: PartitionId,
        log_start: u64,
        high_watermark: u64,
        records: &[Seen],
    ) -> Result<(), Violation> {
        let mut next = log_start;
        // Whole frames: the first may begin below.
        for seen in records.iter().filter(|seen| seen.offset.0 >= log_start) {
            if seen.offset.0 != next {
                let label = self.topics.label(partition);
                let why = format!("{label}: the audit has offset {} where {next} comes next", seen.offset);
                return Err(Violation(why));
            }
            next += 1;
        }
        if next != high_watermark {
            let label = self.topics.label(partition);
            let why = format!("{label}: the audit ends at {next}, the high watermark is {high_watermark}");
            return Err(Violation(why));
        }
        Ok(())
    }

    fn learn(&mut self, news: &News) -> Result<(), Violation> {
        let partition = self.partitions.entry(news.partition).or_default();
        if news.is_bound {
            partition.bound_end = partition.bound_end.max(news.offset + 1);
        }
        let Some(known) = partition.meanings.get_mut(&news.offset) else {
            partition.meanings.insert(news.offset, Meaning::of(news));
            return Ok(());
        };
        let is_same = known.value == news.value
            && known.timestamp.zip(news.timestamp).is_none_or(|(known, told)| known == told);
        if is_same {
            known.confirm(news);
            let (first, last) = (known.first, known.last);
            return self.on_survived(news, first, last);
        }
        self.on_conflict(news)
    }

    /// One of the boundaries between lost what was known, or the news is of before one that did.
    fn on_conflict(&mut self, news: &News) -> Result<(), Violation> {
        let log = self.topics.log(news.partition);
        let partition = self.partitions.get_mut(&news.partition).expect("something is known of it");
        let known = partition.meanings[&news.offset];
        let may_lose =
            |boundary: &u32| partition.boundaries.get(boundary).is_none_or(|b| news.offset >= b.survived_end);
        let is_pinned = |is_bound: bool| is_bound && !self.rules.beyond_promise;
        let lost: Vec<u32> = if is_pinned(known.is_bound) {
            Vec::new()
        } else {
            self.lives.losses(known.last, news.span.last, log).filter(may_lose).collect()
        };
        let is_late = !is_pinned(news.is_bound)
            && self.lives.losses(news.span.first, known.first, log).any(|boundary| may_lose(&boundary));
        if let [boundary] = lost[..]
            && !is_late
            && let Some(boundary) = partition.boundaries.get_mut(&boundary)
        {
            boundary.lost_from = boundary.lost_from.min(news.offset);
        }
        if !lost.is_empty() {
            partition.meanings.insert(news.offset, Meaning::of(news));
            return Ok(());
        }
        if is_late {
            return Ok(());
        }
        Err(Violation(format!(
            "{} offset {} has two meanings: {} said {} (time {:?}), {} says {} (time {:?})",
            self.topics.label(news.partition),
            news.offset,
            known.said,
            known.value,
            known.timestamp.map(|at| at.0),
            news.said,
            news.value,
            news.timestamp.map(|at| at.0),
        )))
    }

    /// What was there before a boundary and is there after it shows that nothing below it was lost there.
    fn on_survived(&mut self, news: &News, first: u32, last: u32) -> Result<(), Violation> {
        if first >= last {
            return Ok(());
        }
        let partition = self.partitions.get_mut(&news.partition).expect("something is known of it");
        for (life, boundary) in partition.boundaries.range_mut(first + 1..=last) {
            if boundary.survived_end != u64::MAX {
                boundary.survived_end = boundary.survived_end.max(news.offset + 1);
            }
            if boundary.lost_from <= news.offset {
                let lost_from = boundary.lost_from;
                return Err(Violation(format!(
                    "{}: offset {} ({}) is still there in life {life}, as {} says, though what was at offset \
                     {lost_from} before that life is not: a loss in the middle",
                    self.topics.label(news.partition),
                    news.offset,
                    news.value,
                    news.said,
                )));
            }
        }
        Ok(())
    }
}

impl Meaning {
    fn of(news: &News) -> Self {
        Self {
            value: news.value,
            timestamp: news.timestamp,
            first: news.span.last,
            last: news.span.first,
            is_bound: news.is_bound,
            said: news.said,
        }
    }

    fn confirm(&mut self, news: &News) {
        self.timestamp = self.timestamp.or(news.timestamp);
        self.first = self.first.min(news.span.last);
        self.last = self.last.max(news.span.first);
        self.is_bound |= news.is_bound;
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Ack(batch, durability) => write!(f, "the {durability:?} ack of batch {}", batch.0)?,
            By::Client(client) => write!(f, "reader {}", client.0)?,
            By::Audit => f.write_str("the audit")?,
        }
        write!(f, " at {:?}", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, PARTITION, caching, plain, seen};
    use tests_disk::{FaultKind, Zone};

    const PROMISED: Rules = Rules { beyond_promise: false };
    const BEYOND: Rules = Rules { beyond_promise: true };

    fn history(rules: Rules) -> History {
        History::new(Offsets::new(rules))
    }

    #[test]
    fn one_meaning_passes() {
        let mut history = history(PROMISED);
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).read(0, 2, &[0, 1]).crash();
        history.read(1, 2, &[1]).audit(0, &[0, 1]).passes();
    }

    #[test]
    fn two_values_at_one_offset_fail() {
        let mut history = history(PROMISED);
        history.topic(plain()).sent(1, &[0]).sent(2, &[1]).acked(1, 0).acked(2, 0);
        history.fails_with(
            "orders/0 (log 0000000000000003) offset 0 has two meanings: the LeaderDisk ack of batch 1",
        );
    }

    #[test]
    fn two_times_at_one_offset_fail() {
        let mut history = history(PROMISED);
        let mut other = seen(0, &[0]);
        other[0].timestamp = TimestampMs(5);
        history.topic(plain()).sent(1, &[0]).acked(1, 0).seen(0, 1, other).fails_with("(time Some(5))");
    }

    #[test]
    fn an_offset_that_was_shown_is_not_used_again_after_a_crash() {
        let mut history = history(PROMISED);
        history.topic(plain()).sent(1, &[0]).sent(2, &[1]).read(0, 1, &[0]).crash();
        history.acked(2, 0).fails_with("reader 9");
    }

    #[test]
    fn what_was_only_accepted_may_go_with_a_crash_and_not_otherwise() {
        for is_crash in [true, false] {
            let mut history = history(PROMISED);
            history.topic(plain()).sent(1, &[0]).acked_as(1, 0, Durability::Accepted);
            if is_crash {
                history.crash();
            } else {
                history.stop();
            }
            history.sent(2, &[1]).acked(2, 0);
            if is_crash {
                history.passes();
            } else {
                history.fails_with("the Accepted ack of batch 1");
            }
        }
    }

    #[test]
    fn the_last_write_may_go_with_a_stop_where_its_frames_were_harmed() {
        for is_harmed in [true, false] {
            let mut history = history(BEYOND);
            history.topic(plain()).sent(1, &[0]).written(1, 0, 1).acked(1, 0);
            if is_harmed {
                history.injected(FaultKind::BitFlip, Zone::Written);
            }
            history.stop().sent(2, &[1]).acked(2, 0);
            if is_harmed {
                history.passes();
            } else {
                history.fails_with("two meanings");
            }
        }
    }

    #[test]
    fn memory_is_lost_by_a_crash_as_a_suffix() {
        let mut history = history(PROMISED);
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory);
        history.sent(2, &[1]).acked_as(2, 1, Durability::Memory).crash();
        history.sent(3, &[2]).acked_as(3, 1, Durability::Memory).audit(0, &[0, 2]).passes();
    }

    #[test]
    fn memory_is_not_lost_from_the_middle() {
        let mut history = history(PROMISED);
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory);
        history.sent(2, &[1]).acked_as(2, 1, Durability::Memory).crash();
        history.sent(3, &[2]).audit(0, &[2, 1]).fails_with("a loss in the middle");
    }

    #[test]
    fn memory_below_what_survived_is_not_lost() {
        let mut history = history(PROMISED);
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory);
        history.sent(2, &[1]).acked_as(2, 1, Durability::Memory).crash();
        history.read(1, 2, &[1]).sent(3, &[2]).audit(0, &[2, 1]).fails_with("two meanings");
    }

    #[test]
    fn what_the_disk_had_is_not_lost_with_memory() {
        let mut history = history(PROMISED);
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory).written(1, 0, 1).crash();
        history.sent(2, &[1]).acked_as(2, 0, Durability::Memory).fails_with("two meanings");
    }

    #[test]
    fn an_answer_of_an_earlier_life_may_come_late() {
        let mut history = history(PROMISED);
        history.topic(caching()).sent(1, &[0]).sent(2, &[1]);
        let asked_at = history.now;
        history.crash().acked_as(2, 0, Durability::Memory);
        let old = seen(0, &[0]);
        history.read_of(asked_at, 0, (0, 1), old).passes();
    }

    #[test]
    fn a_gap_in_the_audit_fails() {
        let mut history = history(PROMISED);
        let mut records = seen(0, &[0, 1, 2]);
        records.remove(1);
        history.topic(plain()).fact(Fact::Audit {
            partition: PARTITION,
            log_start: storage_frame::Offset(0),
            high_watermark: storage_frame::Offset(3),
            records,
        });
        history.fails_with("the audit has offset 2 where 1 comes next");
    }

    #[test]
    fn an_audit_that_ends_early_fails() {
        let mut history = history(PROMISED);
        history.topic(plain()).fact(Fact::Audit {
            partition: PARTITION,
            log_start: storage_frame::Offset(0),
            high_watermark: storage_frame::Offset(3),
            records: seen(0, &[0, 1]),
        });
        history.fails_with("the audit ends at 2, the high watermark is 3");
    }

    #[test]
    fn beyond_the_promise_only_the_last_write_may_be_replaced() {
        let cases = [(true, FaultKind::BitFlip), (false, FaultKind::BitFlip), (true, FaultKind::LostFile)];
        for (is_last, kind) in cases {
            let mut history = history(BEYOND);
            history.topic(plain()).sent(1, &[0]).sent(2, &[1]).written(1, 0, 1).acked(1, 0);
            if !is_last {
                history.written(1, 1, 2).acked(2, 1);
            }
            history.injected(kind, Zone::Written).crash().sent(3, &[2]).acked(3, 0);
            if is_last {
                history.passes();
            } else {
                history.fails_with("two meanings");
            }
        }
    }
}
