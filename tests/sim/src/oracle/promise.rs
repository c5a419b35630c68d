//! Nothing unacknowledged by the disk is promised: what is acknowledged as on the disk, and every high watermark of a
//! topic that does not cache, ends within what the disk answered for in this life or what opening the log found.
//!
//! Where opening ended is told by the first write of the life, which begins there.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Durability, PartitionId, TopicId};
use storage_frame::LogId;

use super::batches::Batches;
use super::lives::Lives;
use super::topics::Topics;
use super::{Oracle, Violation};
use crate::fact::{At, BatchId, Fact};

#[derive(Debug, Default)]
pub(super) struct Promise {
    lives: Lives,
    topics: Topics,
    batches: Batches,
    /// Acknowledged as in memory before anybody described their topics.
    early: Vec<(Duration, BatchId)>,
    /// Of this life.
    logs: BTreeMap<LogId, OnDisk>,
}

#[derive(Debug, Default)]
struct OnDisk {
    /// Where the first write began, and where the last one ended.
    written: Option<(u64, u64)>,
    /// The highest that was told before anything was written.
    told: Option<(u64, String)>,
}

impl Oracle for Promise {
    fn name(&self) -> &'static str {
        "promise"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.lives.hear(at);
        self.topics.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::Began { .. } => self.logs.clear(),
            Fact::Topic(topic) => return self.on_described(topic.id),
            Fact::Written { log, frames, .. } => {
                if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
                    return self.on_written(at.time, *log, first.base_offset.0, last.end_offset.0);
                }
            }
            Fact::Acked { batch, base_offset, durability, duplicate } => {
                return self.on_acked(at.time, *batch, base_offset.0, *durability, *duplicate);
            }
            Fact::Read { by, from, asked_at, high_watermark, .. } => {
                let who = || format!("client {}", by.0);
                return self.on_told(at.time, *from, *asked_at, high_watermark.0, who);
            }
            Fact::Found { partition, asked_at, high_watermark, .. } => {
                let who = || "a client that looked for an offset".to_owned();
                return self.on_told(at.time, *partition, *asked_at, high_watermark.0, who);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Promise {
    fn on_described(&mut self, topic: TopicId) -> Result<(), Violation> {
        let batches = &self.batches;
        let is_of_it = |early: &mut (Duration, BatchId)| batches.batch(early.1).to.topic == topic;
        let early: Vec<(Duration, BatchId)> = self.early.extract_if(.., is_of_it).collect();
        early.into_iter().try_for_each(|(at, batch)| self.check_memory(at, batch))
    }

    /// Only a topic that caches may promise from memory.
    fn check_memory(&self, acked_at: Duration, id: BatchId) -> Result<(), Violation> {
        let to = self.batches.batch(id).to;
        if self.topics.may_cache(to) {
            return Ok(());
        }
        Err(Violation(format!(
            "batch {} to {} was acknowledged at {acked_at:?} as in memory, and the topic does not cache",
            id.0,
            self.topics.label(to),
        )))
    }

    fn on_written(&mut self, now: Duration, log: LogId, base: u64, end: u64) -> Result<(), Violation> {
        let on_disk = self.logs.entry(log).or_default();
        let (first, last_end) = on_disk.written.unwrap_or((base, base));
        on_disk.written = Some((first, last_end.max(end)));
        match on_disk.told.take() {
            Some((told, who)) if told > base => {
                let label = self.topics.partition(log).map_or_else(String::new, |id| self.topics.label(id));
                Err(Violation(format!(
                    "{label}: {who}, before anything was written in this life, and the first write, answered at \
                     {now:?}, begins at {base}"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn on_acked(
        &mut self,
        now: Duration,
        id: BatchId,
        base: u64,
        durability: Durability,
        duplicate: bool,
    ) -> Result<(), Violation> {
        let batch = self.batches.batch(id);
        let (to, end) = (batch.to, base + batch.records.len() as u64);
        if durability == Durability::Memory {
            if self.topics.topic(to).is_none() {
                self.early.push((now, id));
            }
            self.check_memory(now, id)?;
        }
        let span = self.lives.since(batch.sent_at);
        if durability < Durability::LeaderDisk || span.first != span.last {
            return Ok(());
        }
        let Some(log) = self.topics.log(to) else { return Ok(()) };
        let on_disk = self.logs.entry(log).or_default();
        let is_there = match on_disk.written {
            Some((first, written_end)) => end <= written_end || (duplicate && end <= first),
            None => duplicate,
        };
        if is_there {
            return Ok(());
        }
        let written = on_disk.written;
        Err(Violation(format!(
            "batch {} to {} at offsets {base} to {end} was acknowledged at {now:?} as {durability:?}; in this life the \
             disk has answered for {written:?}",
            id.0,
            self.topics.label(to),
        )))
    }

    fn on_told(
        &mut self,
        now: Duration,
        partition: PartitionId,
        asked_at: Duration,
        high_watermark: u64,
        who: impl Fn() -> String,
    ) -> Result<(), Violation> {
        let span = self.lives.since(asked_at);
        if span.first != span.last || self.topics.may_cache(partition) {
            return Ok(());
        }
        let Some(log) = self.topics.log(partition) else { return Ok(()) };
        let on_disk = self.logs.entry(log).or_default();
        let told = || format!("{} was told at {now:?} of the high watermark {high_watermark}", who());
        let why = match (on_disk.written, &on_disk.told) {
            (Some((_, end)), _) if high_watermark > end => {
                format!("in this life the disk has answered for offsets up to {end}")
            }
            (None, Some((before, who))) if high_watermark > *before => {
                format!("nothing was written in this life since {who} ({before})")
            }
            (Some(_), _) | (None, Some(_)) => return Ok(()),
            (None, None) => {
                on_disk.told = Some((high_watermark, told()));
                return Ok(());
            }
        };
        Err(Violation(format!("{}: {}, and {why}", self.topics.label(partition), told())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, caching, plain};

    fn history() -> History {
        let mut history = History::new(Promise::default());
        history.topic(plain());
        history
    }

    #[test]
    fn what_was_written_before_it_is_promised_passes() {
        let mut history = history();
        history.sent(1, &[0, 1]).written(1, 0, 2).acked(1, 0).read(0, 2, &[0, 1]).crash().read(0, 2, &[0, 1]);
        history.sent(2, &[2]).written(1, 2, 3).acked(2, 2).read(2, 3, &[2]).passes();
    }

    #[test]
    fn an_ack_before_the_write_fails() {
        let mut nothing = history();
        nothing
            .sent(1, &[0])
            .acked(1, 0)
            .fails_with("batch 1 to orders/0 (log 0000000000000003) at offsets 0 to 1");
        let mut too_little = history();
        too_little.sent(1, &[0, 1]).written(1, 0, 1).acked(1, 0).fails_with("has answered for Some((0, 1))");
        let mut earlier_life = history();
        earlier_life.sent(1, &[0]).written(1, 0, 1).acked(1, 0).crash().sent(2, &[1]).acked(2, 0);
        earlier_life.fails_with("has answered for None");
    }

    #[test]
    fn a_high_watermark_before_the_write_fails() {
        let mut history = history();
        history.sent(1, &[0, 1]).written(1, 0, 1).read(0, 2, &[0, 1]);
        history.fails_with(
            "client 9 was told at 5s of the high watermark 2, and in this life the disk has answered",
        );
    }

    #[test]
    fn a_high_watermark_that_rises_without_a_write_fails() {
        history()
            .read(0, 0, &[])
            .read(0, 2, &[0, 1])
            .fails_with("nothing was written in this life since client 9");
    }

    #[test]
    fn a_high_watermark_above_where_opening_ended_fails() {
        history().crash().read(0, 2, &[0, 1]).written(1, 1, 2).fails_with("begins at 1");
    }

    #[test]
    fn what_opening_found_may_be_shown() {
        history().sent(1, &[0]).crash().read(0, 1, &[0]).written(1, 1, 2).read(0, 2, &[]).passes();
    }

    #[test]
    fn memory_is_promised_by_topics_that_cache_only() {
        let mut plain = history();
        plain.sent(1, &[0]).acked_as(1, 0, Durability::Memory).fails_with("the topic does not cache");
        let mut cached = History::new(Promise::default());
        cached.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory).read(0, 1, &[0]).passes();
    }
    #[test]
    fn what_was_promised_before_its_topic_was_described_is_checked_then() {
        let mut plain_one = History::new(Promise::default());
        plain_one.sent(1, &[0]).acked_as(1, 0, Durability::Memory).topic(plain());
        plain_one
            .fails_with("batch 1 to orders/0 (log 0000000000000003) was acknowledged at 3s as in memory");
        let mut cached = History::new(Promise::default());
        cached.sent(1, &[0]).acked_as(1, 0, Durability::Memory).topic(caching()).passes();
    }
}
