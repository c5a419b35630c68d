//! An idempotent producer's ordered way into one partition: what is not acknowledged is sent again, in order, until it
//! is, on whatever connection there is.
//!
//! As the lanes of the direct clients: nothing follows the first batch until something was stored since it last got
//! stuck, and after a refusal or a lost connection it begins again at the oldest.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use engine_api::PartitionId;
use storage_frame::{Producer, TimestampMs};
use storage_recordbatch::{BatchBuilder, BatchFields, Compression};

use crate::fact::BatchId;
use crate::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) topic: String,
    pub(super) to: PartitionId,
    pub(super) may_cache: bool,
    pub(super) identity: Identity,
    pub(super) is_dead: bool,
    next_number: u64,
    next_nth: u64,
    /// Not acknowledged, oldest first.
    batches: VecDeque<Batch>,
    is_proven: bool,
    is_stuck: bool,
    retry_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    Wanted,
    Asked,
    Given { id: u64, epoch: u16 },
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    nth: u64,
    base_sequence: u32,
    records: Vec<(Value, TimestampMs)>,
    compression: Compression,
    in_flight: bool,
}

impl Lane {
    pub(super) fn new(id: LaneId, topic: String, to: PartitionId, may_cache: bool) -> Self {
        Self {
            id,
            topic,
            to,
            may_cache,
            identity: Identity::Wanted,
            is_dead: false,
            next_number: 0,
            next_nth: 0,
            batches: VecDeque::new(),
            is_proven: false,
            is_stuck: false,
            retry_at: Duration::ZERO,
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_dead || self.batches.is_empty()
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.batches.len()
    }

    /// The number of its next record.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(super) fn push(&mut self, id: BatchId, records: Vec<(Value, TimestampMs)>, compression: Compression) {
        let base_sequence = u32::try_from(self.next_number).expect("a short lane");
        self.next_number += records.len() as u64;
        let nth = self.next_nth;
        self.next_nth += 1;
        self.batches.push_back(Batch { id, nth, base_sequence, records, compression, in_flight: false });
    }

    /// The next batch that may be sent, with its bytes.
    pub(super) fn send_next(&mut self, now: Duration, in_flight_max: u64) -> Option<(BatchId, Bytes)> {
        let Identity::Given { id, epoch } = self.identity else { return None };
        let is_waiting = self.is_stuck && self.batches.iter().any(|batch| batch.in_flight);
        if self.is_dead || now < self.retry_at || is_waiting {
            return None;
        }
        self.is_stuck = false;
        let window = if self.is_proven { in_flight_max } else { 1 };
        let end = self.batches.front().map_or(0, |oldest| oldest.nth + window);
        let batch = self.batches.iter_mut().find(|batch| !batch.in_flight).filter(|batch| batch.nth < end)?;
        batch.in_flight = true;
        let producer = Producer { id, epoch, base_sequence: batch.base_sequence };
        Some((batch.id, seal(&batch.records, batch.compression, Some(producer))))
    }

    /// Whether it was waited for.
    pub(super) fn on_acked(&mut self, batch: BatchId) -> bool {
        let Some(at) = self.place(batch) else { return false };
        self.batches.remove(at);
        self.is_proven |= !self.is_stuck;
        true
    }

    /// Whether it was the oldest of a lane that nothing had gone wrong with.
    pub(super) fn on_refused(&mut self, batch: BatchId, retry_at: Duration) -> bool {
        let Some(at) = self.place(batch) else { return false };
        self.batches[at].in_flight = false;
        let was_well = at == 0 && !self.is_stuck;
        self.is_stuck = true;
        self.is_proven = false;
        self.retry_at = retry_at;
        was_well
    }

    /// Of a node that comes back nobody knows what it knows.
    pub(super) fn prove_again(&mut self) {
        self.is_proven = false;
    }

    /// Nothing more is sent on it. Returns what may be stored or not.
    pub(super) fn kill(&mut self) -> Vec<BatchId> {
        self.is_dead = true;
        std::mem::take(&mut self.batches).into_iter().map(|batch| batch.id).collect()
    }

    fn place(&self, batch: BatchId) -> Option<usize> {
        self.batches.iter().position(|sent| sent.id == batch)
    }
}

/// Client, lane and number of a value.
const KEY_BYTES: usize = 16;

pub(super) fn seal(
    records: &[(Value, TimestampMs)],
    compression: Compression,
    producer: Option<Producer>,
) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (delta, (value, timestamp)) in (0..).zip(records) {
        let encoded = value.encode();
        builder
            .push(delta, *timestamp, Some(&encoded[..KEY_BYTES]), Some(&encoded), [])
            .expect("a small batch");
    }
    builder.seal(compression, &BatchFields { producer, ..BatchFields::UNASSIGNED })
}
