//! Every value that is read is one that was sent, to that partition, with its time (I1; fault rows 13, 14, 25).
//!
//! Holds of every run, whatever was done to its disk: wrong bytes are refused, not served.

use std::time::Duration;

use engine_api::PartitionId;

use super::batches::Batches;
use super::topics::Topics;
use super::{Oracle, Violation};
use crate::fact::{At, Fact, Seen};

#[derive(Debug, Default)]
pub(super) struct Values {
    topics: Topics,
    batches: Batches,
}

impl Oracle for Values {
    fn name(&self) -> &'static str {
        "values"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.topics.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::Read { by, from, records, .. } => {
                self.check_all(at.time, *from, records, || format!("client {}", by.0))
            }
            Fact::Audit { partition, records, .. } => {
                self.check_all(at.time, *partition, records, || "the audit".to_owned())
            }
            Fact::Unreadable { by, from, asked, why } => Err(Violation(format!(
                "client {} asked {} for offset {asked} and was given at {:?} what is no batch: {why}",
                by.0,
                self.topics.label(*from),
                at.time,
            ))),
            _ => Ok(()),
        }
    }
}

impl Values {
    fn check_all(
        &self,
        now: Duration,
        from: PartitionId,
        records: &[Seen],
        who: impl Fn() -> String,
    ) -> Result<(), Violation> {
        for seen in records {
            if let Err(why) = self.check(from, seen) {
                let place = self.topics.label(from);
                return Err(Violation(format!(
                    "{} at {now:?} of {place} offset {}: {why}",
                    who(),
                    seen.offset
                )));
            }
        }
        Ok(())
    }

    fn check(&self, from: PartitionId, seen: &Seen) -> Result<(), String> {
        let Some(value) = &seen.value else {
            return Err("bytes that nobody sent".to_owned());
        };
        let mut elsewhere = None;
        let mut other_time = None;
        for (_, batch, index) in self.batches.of_value(value) {
            if batch.to != from {
                elsewhere = Some(batch.to);
                continue;
            }
            let sent = batch.records[index as usize].1;
            if sent == seen.timestamp || self.may_set_time(from) {
                return Ok(());
            }
            other_time = Some(sent);
        }
        Err(match (elsewhere, other_time) {
            (_, Some(sent)) => {
                format!("{value} has the time {} and was sent with {}", seen.timestamp.0, sent.0)
            }
            (Some(to), None) => format!("{value}, which was sent to {}", self.topics.label(to)),
            (None, None) => format!("{value}, which was never sent"),
        })
    }

    fn may_set_time(&self, partition: PartitionId) -> bool {
        self.topics.topic(partition).is_none_or(|topic| topic.promises.iter().any(|p| p.append_time))
    }
}

#[cfg(test)]
mod tests {
    use storage_frame::TimestampMs;

    use super::*;
    use crate::oracle::history::{History, PARTITION, plain, value};

    #[test]
    fn values_that_were_sent_there_pass() {
        let mut history = History::new(Values::default());
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).read(0, 2, &[0, 1]).audit(0, &[0, 1]);
        history.passes();
    }

    #[test]
    fn bytes_that_are_no_value_fail() {
        let mut history = History::new(Values::default());
        history.topic(plain()).sent(1, &[0]);
        let seen = Seen { offset: storage_frame::Offset(0), value: None, timestamp: TimestampMs(0) };
        history.fact(Fact::Audit {
            partition: PARTITION,
            log_start: storage_frame::Offset(0),
            high_watermark: storage_frame::Offset(1),
            records: vec![seen],
        });
        history.fails_with("offset 0: bytes that nobody sent");
    }

    #[test]
    fn frames_that_hold_no_batch_fail() {
        let mut history = History::new(Values::default());
        history.topic(plain()).fact(Fact::Unreadable {
            by: crate::fact::ClientId(9),
            from: PARTITION,
            asked: storage_frame::Offset(4),
            why: "crc".to_owned(),
        });
        history.fails_with("asked orders/0 (log 0000000000000003) for offset 4 and was given at 3s");
    }

    #[test]
    fn a_value_that_was_never_sent_fails() {
        let mut history = History::new(Values::default());
        history.topic(plain()).sent(1, &[0]).read(0, 1, &[5]);
        history.fails_with("c1/l1#5(20B), which was never sent");
    }

    #[test]
    fn a_value_of_another_partition_fails() {
        let mut history = History::new(Values::default());
        let to = PartitionId { index: 1, ..PARTITION };
        history.topic(plain()).fact(Fact::Sent {
            batch: crate::fact::BatchId(1),
            to,
            records: vec![(value(0), TimestampMs(0))],
            idempotent: true,
        });
        history.read(0, 1, &[0]).fails_with("which was sent to orders/1");
    }

    #[test]
    fn another_time_than_was_sent_fails_unless_the_broker_sets_it() {
        let seen =
            Seen { offset: storage_frame::Offset(0), value: Some(value(0)), timestamp: TimestampMs(7) };
        for append_time in [false, true] {
            let mut history = History::new(Values::default());
            let promise = crate::fact::TopicPromise { append_time, ..plain() };
            history.topic(promise).sent(1, &[0]).seen(0, 1, vec![seen]);
            if append_time {
                history.passes();
            } else {
                history.fails_with("has the time 7 and was sent with 1000");
            }
        }
    }
}
