//! Everything acknowledged is there at the end, at its offset, as it was sent (I1; fault rows 3, 4, 11, 12).
//!
//! Gone may be what a delete or retention may have raised the log's start above; what was promised from memory, by a
//! process that did not end in order, and then everything behind it; and nothing is asked of what was only accepted.
//! Beyond the promise a partition may refuse instead, and the last write before an end may be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Durability, PartitionId};
use storage_frame::Offset;

use super::batches::Batches;
use super::deletes::Deletes;
use super::lives::Lives;
use super::tails::Tails;
use super::topics::Topics;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, BatchId, Fact, Seen};
use crate::value::Value;

#[derive(Debug)]
pub(super) struct Durable {
    rules: Rules,
    lives: Lives,
    topics: Topics,
    tails: Tails,
    batches: Batches,
    deletes: Deletes,
    partitions: BTreeMap<PartitionId, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    promised: BTreeMap<u64, Promised>,
    /// By the life after: what was safe on the disk when the one before ended.
    safe_ends: BTreeMap<u32, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Promised {
    value: Value,
    batch: BatchId,
    durability: Durability,
    /// The earliest life it can have been stored in.
    life: u32,
    acked_at: Duration,
}

impl Durable {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            lives: Lives::default(),
            topics: Topics::default(),
            tails: Tails::new(rules),
            batches: Batches::default(),
            deletes: Deletes::default(),
            partitions: BTreeMap::new(),
        }
    }
}

impl Oracle for Durable {
    fn name(&self) -> &'static str {
        "durable"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.lives.hear(at);
        self.topics.hear(at);
        self.tails.hear(at);
        self.batches.hear(at);
        self.deletes.hear(at);
        match &at.fact {
            Fact::Began { .. } => self.on_boundary(),
            Fact::Acked { batch, base_offset, durability, .. } if *durability > Durability::Accepted => {
                self.on_acked(at.time, *batch, *base_offset, *durability);
            }
            Fact::Audit { partition, log_start, records, .. } => {
                return self.on_audit(at.time, *partition, *log_start, records);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Durable {
    fn on_boundary(&mut self) {
        let life = self.lives.now();
        for (id, partition) in &mut self.partitions {
            let safe_end = self.topics.log(*id).map_or(0, |log| self.tails.safe_end(log));
            partition.safe_ends.insert(life, safe_end);
        }
    }

    fn on_acked(&mut self, now: Duration, id: BatchId, base: Offset, durability: Durability) {
        let batch = self.batches.batch(id);
        let life = self.lives.since(batch.sent_at).first;
        let partition = self.partitions.entry(batch.to).or_default();
        for (offset, (value, _)) in (base.0..).zip(&batch.records) {
            let promised = Promised { value: *value, batch: id, durability, life, acked_at: now };
            let known = partition.promised.entry(offset).or_insert(promised);
            // In memory once, on the disk later, or lost and given again: the last word counts.
            *known = promised;
        }
    }

    fn on_audit(
        &self,
        now: Duration,
        id: PartitionId,
        log_start: Offset,
        records: &[Seen],
    ) -> Result<(), Violation> {
        let Some(partition) = self.partitions.get(&id) else { return Ok(()) };
        for (offset, promised) in &partition.promised {
            let seen = find(records, *offset);
            if seen.is_some_and(|seen| seen.value == Some(promised.value)) {
                continue;
            }
            let is_deleted =
                *offset < log_start.0 && (*offset < self.deletes.before(id) || self.topics.may_retire(id));
            if is_deleted || self.may_be_lost(id, partition, *offset, promised) {
                continue;
            }
            let found = match seen.map(|seen| seen.value) {
                Some(Some(value)) => format!("holds {value}"),
                Some(None) => "holds bytes nobody sent".to_owned(),
                None if *offset < log_start.0 => format!("is below the log's start {log_start}"),
                None => "is not there".to_owned(),
            };
            return Err(Violation(format!(
                "{} offset {offset}: {} of batch {} was acknowledged at {:?} as {:?}, and at {now:?} the offset {found}",
                self.topics.label(id),
                promised.value,
                promised.batch.0,
                promised.acked_at,
                promised.durability,
            )));
        }
        Ok(())
    }

    /// The device lost it beyond the promise, or memory did.
    fn may_be_lost(&self, id: PartitionId, partition: &Partition, offset: u64, promised: &Promised) -> bool {
        if promised.durability >= Durability::LeaderDisk && !self.rules.beyond_promise {
            return false;
        }
        self.lives
            .losses(promised.life, self.lives.now(), self.topics.log(id))
            .any(|boundary| partition.safe_ends.get(&boundary).is_none_or(|safe_end| offset >= *safe_end))
    }
}

fn find(records: &[Seen], offset: u64) -> Option<&Seen> {
    let nth = records.binary_search_by_key(&offset, |seen| seen.offset.0).ok()?;
    records.get(nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::TopicPromise;
    use crate::oracle::history::{History, caching, plain};
    use tests_disk::{FaultKind, Zone};

    fn history() -> History {
        History::new(Durable::new(Rules::default()))
    }

    #[test]
    fn what_was_acknowledged_and_is_there_passes() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).crash().audit(0, &[0, 1]).passes();
    }

    #[test]
    fn a_record_that_is_gone_from_the_end_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).crash().audit(0, &[0]);
        history.fails_with("offset 1: c1/l1#1(20B) of batch 1 was acknowledged at 4s as LeaderDisk");
    }

    #[test]
    fn another_record_in_its_place_fails() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).sent(2, &[1]).acked(1, 0).audit(0, &[1]);
        history.fails_with("the offset holds c1/l1#1(20B)");
    }

    #[test]
    fn a_record_below_the_start_fails_unless_something_may_have_removed_it() {
        let mut lost = history();
        lost.topic(plain()).sent(1, &[0, 1]).acked(1, 0).audit(1, &[1]).fails_with("below the log's start 1");
        let mut too_many = history();
        too_many.topic(plain()).sent(1, &[0, 1]).acked(1, 0).delete_asked(1).audit(2, &[]);
        too_many.fails_with("offset 1: ");
        let mut deleted = history();
        deleted.topic(plain()).sent(1, &[0, 1]).acked(1, 0).delete_asked(1).audit(1, &[1]).passes();
        let mut refused = history();
        refused.topic(plain()).sent(1, &[0, 1]).acked(1, 0).delete_asked(1).fact(Fact::DeleteRefused {
            partition: crate::oracle::history::PARTITION,
            before: Offset(1),
            why: "shutting down".to_owned(),
        });
        refused.audit(1, &[1]).fails_with("offset 0: ");
        let mut retired = history();
        let promise = TopicPromise { retention_ms: Some(1), ..plain() };
        retired.topic(promise).sent(1, &[0, 1]).acked(1, 0).audit(1, &[1]).passes();
    }

    #[test]
    fn nothing_is_promised_of_what_was_only_accepted() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0]).acked_as(1, 0, Durability::Accepted).audit(0, &[]).passes();
    }

    #[test]
    fn memory_may_be_lost_by_a_crash_and_not_by_a_stop() {
        let mut crashed = history();
        crashed.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory).crash();
        crashed.audit(0, &[]).passes();
        let mut stopped = history();
        stopped.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory).stop();
        stopped.audit(0, &[]).fails_with("as Memory");
        let mut lived = history();
        lived.topic(caching()).crash().sent(1, &[0]).acked_as(1, 0, Durability::Memory);
        lived.audit(0, &[]).fails_with("as Memory");
    }

    #[test]
    fn memory_may_be_lost_by_a_stop_of_a_log_that_failed() {
        let mut history = history();
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory);
        history.error("log_failed").stop().audit(0, &[]).passes();
    }

    #[test]
    fn memory_that_had_reached_the_disk_is_kept() {
        let mut history = history();
        history.topic(caching()).sent(1, &[0]).acked_as(1, 0, Durability::Memory).written(1, 0, 1).crash();
        history.audit(0, &[]).fails_with("as Memory");
    }

    #[test]
    fn beyond_the_promise_the_last_write_before_a_crash_may_go_and_no_more() {
        for lost in [1, 2] {
            let mut history = History::new(Durable::new(Rules { beyond_promise: true }));
            history.topic(plain()).sent(1, &[0]).sent(2, &[1]);
            history.written(1, 0, 1).acked(1, 0).written(1, 1, 2).acked(2, 1);
            history.injected(FaultKind::BitFlip, Zone::Written).crash();
            if lost == 1 {
                history.audit(0, &[0]).passes();
            } else {
                history.audit(0, &[]).fails_with("offset 0: ");
            }
        }
    }
}
