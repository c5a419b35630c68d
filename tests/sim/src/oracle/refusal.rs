//! What was refused changed nothing (fault rows 12, 25, 31): a refused record is never read, a refused delete of
//! records excuses no loss (`durable`, `prefix` and `retention` ask [`Deletes`](super::deletes)), and a topic that was
//! deleted is neither read nor written any more.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{PartitionId, TopicId};
use storage_frame::Offset;

use super::batches::{Batches, Outcome};
use super::topics::Topics;
use super::{Oracle, Violation};
use crate::fact::{At, BatchId, Fact, Seen};
use crate::value::Value;

#[derive(Debug, Default)]
pub(super) struct Refusal {
    topics: Topics,
    batches: Batches,
    /// By client, lane and number: where and when it was last seen.
    seen: BTreeMap<(u32, u32, u64), (PartitionId, Offset, Duration)>,
    deleted: BTreeMap<TopicId, Duration>,
}

impl Oracle for Refusal {
    fn name(&self) -> &'static str {
        "refusal"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.topics.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::TopicDeleted(id) => {
                self.deleted.entry(*id).or_insert(at.time);
                Ok(())
            }
            Fact::Refused { batch, .. } => self.on_refused(at.time, *batch),
            Fact::Acked { batch, .. } => {
                let sent = self.batches.batch(*batch);
                self.check_exists(at.time, sent.to, sent.sent_at, "acknowledged a batch")
            }
            Fact::Read { from, asked_at, records, .. } => {
                self.check_exists(at.time, *from, *asked_at, "read")?;
                self.on_seen(at.time, *from, records)
            }
            Fact::Audit { partition, records, .. } => {
                self.check_exists(at.time, *partition, at.time, "read by the audit")?;
                self.on_seen(at.time, *partition, records)
            }
            Fact::Found { partition, asked_at, .. } => {
                self.check_exists(at.time, *partition, *asked_at, "searched")
            }
            _ => Ok(()),
        }
    }
}

impl Refusal {
    fn on_seen(&mut self, now: Duration, from: PartitionId, records: &[Seen]) -> Result<(), Violation> {
        for seen in records {
            let Some(value) = seen.value else { continue };
            if let Some(why) = self.refused(&value) {
                return Err(self.violation(&value, from, seen.offset, now, &why));
            }
            self.seen.insert((value.client, value.lane, value.number), (from, seen.offset, now));
        }
        Ok(())
    }

    fn on_refused(&mut self, now: Duration, batch: BatchId) -> Result<(), Violation> {
        for (value, _) in &self.batches.batch(batch).records {
            let seen = self.seen.get(&(value.client, value.lane, value.number));
            if let Some((from, offset, at)) = seen
                && let Some(why) = self.refused(value)
            {
                let why = format!("{why}, which it was told at {now:?}");
                return Err(self.violation(value, *from, *offset, *at, &why));
            }
        }
        Ok(())
    }

    /// Why everybody who sent it was refused.
    fn refused(&self, value: &Value) -> Option<String> {
        let mut refused = None;
        for (id, batch, _) in self.batches.of_value(value) {
            match &batch.outcome {
                Outcome::Refused { why, at } => {
                    refused = Some(format!("batch {} was refused at {at:?}: {why}", id.0));
                }
                Outcome::Open | Outcome::Acked { .. } | Outcome::Doubtful => return None,
            }
        }
        refused
    }

    fn violation(
        &self,
        value: &Value,
        from: PartitionId,
        offset: Offset,
        at: Duration,
        why: &str,
    ) -> Violation {
        let label = self.topics.label(from);
        Violation(format!("{value} was read at {at:?} at offset {offset} of {label}, but {why}"))
    }

    fn check_exists(
        &self,
        now: Duration,
        partition: PartitionId,
        asked_at: Duration,
        what: &str,
    ) -> Result<(), Violation> {
        match self.deleted.get(&partition.topic) {
            Some(deleted_at) if *deleted_at < asked_at => Err(Violation(format!(
                "{} was {what} at {now:?} (asked at {asked_at:?}), though the topic was deleted at {deleted_at:?}",
                self.topics.label(partition),
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, TOPIC, plain};

    fn history() -> History {
        let mut history = History::new(Refusal::default());
        history.topic(plain());
        history
    }

    #[test]
    fn what_was_refused_and_is_not_there_passes() {
        history().sent(1, &[0]).sent(2, &[1]).refused(1).acked(2, 0).audit(0, &[1]).passes();
    }

    #[test]
    fn a_refused_record_that_is_read_fails() {
        let mut history = history();
        history.sent(1, &[0]).refused(1).read(0, 1, &[0]);
        history.fails_with("c1/l1#0(20B) was read at 5s at offset 0 of orders/0 (log 0000000000000003), but batch 1 was refused");
    }

    #[test]
    fn a_record_that_was_read_and_is_refused_later_fails() {
        history().sent(1, &[0]).read(0, 1, &[0]).refused(1).fails_with("which it was told at 5s");
    }

    #[test]
    fn one_that_was_sent_again_may_be_there() {
        history().sent(1, &[0]).refused(1).sent(2, &[0]).read(0, 1, &[0]).acked(2, 0).passes();
    }

    #[test]
    fn a_deleted_topic_is_not_read_or_written() {
        let mut read = history();
        read.fact(Fact::TopicDeleteAsked(TOPIC)).read(0, 0, &[]).fact(Fact::TopicDeleted(TOPIC)).read(
            0,
            0,
            &[],
        );
        read.fails_with("orders/0 (log 0000000000000003) was read at 6s");
        let mut written = history();
        written.fact(Fact::TopicDeleted(TOPIC)).sent(1, &[0]).acked(1, 0).fails_with("acknowledged a batch");
        let mut late = history();
        late.sent(1, &[0]).fact(Fact::TopicDeleted(TOPIC)).acked(1, 0).passes();
    }
}
