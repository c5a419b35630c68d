//! What was sent, and what its senders were told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Durability, PartitionId};
use storage_frame::{Offset, TimestampMs};

use crate::fact::{At, BatchId, Fact};
use crate::value::Value;

#[derive(Debug, Default)]
pub(super) struct Batches {
    by_id: BTreeMap<BatchId, Batch>,
    /// In the order they were sent: one refused may be sent again.
    by_value: BTreeMap<(u32, u32, u64), Vec<(BatchId, u32)>>,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) to: PartitionId,
    pub(super) records: Vec<(Value, TimestampMs)>,
    pub(super) idempotent: bool,
    pub(super) sent_at: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Open,
    Acked { base: Offset, durability: Durability, at: Duration },
    Refused { why: String, at: Duration },
    Doubtful,
}

impl Batches {
    pub(super) fn hear(&mut self, at: &At) {
        match &at.fact {
            Fact::Sent { batch, to, records, idempotent } => {
                for (index, (value, _)) in records.iter().enumerate() {
                    let sent = self.by_value.entry(key(value)).or_default();
                    sent.push((*batch, index as u32));
                }
                let known = Batch {
                    to: *to,
                    records: records.clone(),
                    idempotent: *idempotent,
                    sent_at: at.time,
                    outcome: Outcome::Open,
                };
                self.by_id.insert(*batch, known);
            }
            Fact::Acked { batch, base_offset, durability, .. } => {
                let outcome = Outcome::Acked { base: *base_offset, durability: *durability, at: at.time };
                self.settle(*batch, outcome);
            }
            Fact::Refused { batch, why } => {
                self.settle(*batch, Outcome::Refused { why: why.clone(), at: at.time });
            }
            Fact::Doubtful { batch } => self.settle(*batch, Outcome::Doubtful),
            _ => {}
        }
    }

    fn settle(&mut self, batch: BatchId, outcome: Outcome) {
        let known = self.by_id.get_mut(&batch).expect("a batch is sent before it is answered");
        assert_eq!(known.outcome, Outcome::Open, "batch {} has one outcome", batch.0);
        known.outcome = outcome;
    }

    pub(super) fn batch(&self, id: BatchId) -> &Batch {
        self.by_id.get(&id).expect("a batch is sent before it is spoken of")
    }

    /// Each batch that carried `value`, with its place in it.
    pub(super) fn of_value(&self, value: &Value) -> impl Iterator<Item = (BatchId, &Batch, u32)> {
        let sent = self.by_value.get(&key(value)).map_or(&[][..], Vec::as_slice);
        sent.iter()
            .map(|(id, index)| (*id, self.batch(*id), *index))
            .filter(|(_, batch, index)| batch.records[*index as usize].0 == *value)
    }

    /// Each batch that carried `number` of `beside`'s lane, with its place in it.
    pub(super) fn of_number(
        &self,
        beside: &Value,
        number: u64,
    ) -> impl Iterator<Item = (BatchId, &Batch, u32)> {
        let sent = self.by_value.get(&(beside.client, beside.lane, number)).map_or(&[][..], Vec::as_slice);
        sent.iter().map(|(id, index)| (*id, self.batch(*id), *index))
    }
}

fn key(value: &Value) -> (u32, u32, u64) {
    (value.client, value.lane, value.number)
}
