//! Idempotence: what each producer last stored in one partition.
//!
//! Kafka's rules (KIP-98, KIP-360): a batch follows its producer's last one without a gap in sequence; one of
//! the last five sent again is a duplicate and is answered with its first offset; a newer epoch starts at
//! sequence 0 and fences the older; a producer nobody knows may start anywhere, because its state may have
//! expired or gone with deleted records.
//!
//! Rebuilt when a log is opened, from state stored with the log's checkpoint and the headers after it, so it
//! always describes frames that exist.

use std::time::Duration;

use ahash::AHashMap;
use rkyv::{Archive, Deserialize, Serialize};
use storage_frame::{FrameHeader, Offset, Producer};

use crate::limits::{PRODUCER_SILENCE_MAX, PRODUCERS_MAX};

/// Batches remembered per producer: as many as a Kafka client has in flight.
const BATCHES_MAX: usize = 5;
const FORMAT: u8 = 1;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    /// Stored before, at this offset.
    Duplicate(Offset),
    OutOfSequence {
        expected: u32,
    },
    Fenced {
        current: u16,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: AHashMap<u64, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: u16,
    /// In the time of this process; silence does not count while it is down.
    last_seen: Duration,
    /// Oldest first; at least one.
    batches: [Batch; BATCHES_MAX],
    batches_count: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Batch {
    base_sequence: u32,
    record_count: u32,
    base_offset: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct Stored {
    id: u64,
    epoch: u16,
    batches: Vec<Batch>,
}

/// `sequence` plus `count`, wrapping at 2^31 as Kafka's do.
fn sequence_after(sequence: u32, count: u32) -> u32 {
    sequence.wrapping_add(count) & (i32::MAX as u32)
}

impl Producers {
    pub(crate) fn judge(&self, sent: Producer, record_count: u32) -> Verdict {
        let Some(known) = self.by_id.get(&sent.id) else { return Verdict::New };
        if sent.epoch < known.epoch {
            return Verdict::Fenced { current: known.epoch };
        }
        if sent.epoch > known.epoch {
            return if sent.base_sequence == 0 {
                Verdict::New
            } else {
                Verdict::OutOfSequence { expected: 0 }
            };
        }
        let again =
            |batch: &&Batch| batch.base_sequence == sent.base_sequence && batch.record_count == record_count;
        if let Some(batch) = known.batches().iter().find(again) {
            return Verdict::Duplicate(Offset(batch.base_offset));
        }
        let last = known.last();
        let expected = sequence_after(last.base_sequence, last.record_count);
        if sent.base_sequence == expected { Verdict::New } else { Verdict::OutOfSequence { expected } }
    }

    /// Remembers a batch that has been given its offset; a new producer takes the place of old ones when there
    /// are `count_max`.
    pub(crate) fn note(&mut self, now: Duration, header: &FrameHeader, count_max: usize) {
        let Some(sent) = header.producer else { return };
        let batch = Batch {
            base_sequence: sent.base_sequence,
            record_count: header.record_count,
            base_offset: header.base_offset.0,
        };
        reach::mark!(
            "shard.producer_epoch_new",
            self.by_id.get(&sent.id).is_some_and(|known| known.epoch < sent.epoch)
        );
        if let Some(known) = self.by_id.get_mut(&sent.id).filter(|known| known.epoch == sent.epoch) {
            known.last_seen = now;
            known.push(batch);
            return;
        }
        if self.by_id.len() >= count_max && !self.by_id.contains_key(&sent.id) {
            self.make_room(now, count_max);
        }
        self.by_id.insert(sent.id, Known::new(sent.epoch, now, batch));
    }

    /// The state that describes every frame noted so far.
    #[expect(clippy::disallowed_methods, reason = "sorted before anybody sees it")]
    pub(crate) fn encode(&mut self, now: Duration) -> Vec<u8> {
        self.expire(now);
        let store = |(id, known): (&u64, &Known)| Stored {
            id: *id,
            epoch: known.epoch,
            batches: known.batches().to_vec(),
        };
        let mut stored: Vec<Stored> = self.by_id.iter().map(store).collect();
        stored.sort_unstable_by_key(|producer| producer.id);
        let archived = rkyv::to_bytes::<rkyv::rancor::Panic>(&stored).unwrap_or_else(|never| match never {});
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&archived);
        bytes
    }

    /// From stored state and the headers that follow it, up to the log's `end`. `None`: the state does not
    /// decode; the headers alone are not the whole story then.
    pub(crate) fn recover(
        state: Option<&[u8]>,
        headers: &[FrameHeader],
        end: Offset,
        now: Duration,
    ) -> Option<Self> {
        let mut producers = Self::default();
        if let Some(bytes) = state.filter(|bytes| !bytes.is_empty()) {
            for stored in decode(bytes)? {
                reach::mark!(
                    "shard.producer_state_past_end",
                    stored.batches.iter().any(|batch| batch.base_offset >= end.0)
                );
                // State past the log's end tells of frames that were lost before they were acknowledged.
                for batch in stored.batches.iter().filter(|batch| batch.base_offset < end.0) {
                    producers.restore(stored.id, stored.epoch, now, *batch);
                }
            }
        }
        for header in headers {
            producers.note(now, header, PRODUCERS_MAX);
        }
        Some(producers)
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn restore(&mut self, id: u64, epoch: u16, now: Duration, batch: Batch) {
        match self.by_id.get_mut(&id) {
            Some(known) => known.push(batch),
            None => {
                self.by_id.insert(id, Known::new(epoch, now, batch));
            }
        }
    }

    fn expire(&mut self, now: Duration) {
        self.by_id.retain(|_, known| {
            let is_kept = now.saturating_sub(known.last_seen) < PRODUCER_SILENCE_MAX;
            reach::mark!("shard.producer_expired", !is_kept);
            is_kept
        });
    }

    /// Forgets the expired, or else the eighth whose last batches are the oldest: seldom enough to cost nothing.
    #[expect(clippy::disallowed_methods, reason = "only the one at a given rank is looked at")]
    fn make_room(&mut self, now: Duration, count_max: usize) {
        self.expire(now);
        if self.by_id.len() < count_max {
            return;
        }
        let mut last_offsets: Vec<u64> = self.by_id.values().map(|known| known.last().base_offset).collect();
        let (_, oldest_kept, _) = last_offsets.select_nth_unstable(count_max / 8 + 1);
        let oldest_kept = *oldest_kept;
        reach::mark!("shard.producers_evicted");
        self.by_id.retain(|_, known| known.last().base_offset >= oldest_kept);
    }
}

impl Known {
    fn new(epoch: u16, last_seen: Duration, batch: Batch) -> Self {
        let mut known = Self { epoch, last_seen, batches: [Batch::default(); BATCHES_MAX], batches_count: 0 };
        known.push(batch);
        known
    }

    fn push(&mut self, batch: Batch) {
        if self.batches_count as usize == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.batches_count -= 1;
        }
        self.batches[self.batches_count as usize] = batch;
        self.batches_count += 1;
    }

    fn batches(&self) -> &[Batch] {
        &self.batches[..self.batches_count as usize]
    }

    fn last(&self) -> &Batch {
        self.batches().last().expect("a known producer has stored a batch")
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<Stored>> {
    let archived = bytes.strip_prefix(&[FORMAT])?;
    let stored = rkyv::from_bytes::<Vec<Stored>, rkyv::rancor::Failure>(archived).ok()?;
    let fits = stored.len() <= PRODUCERS_MAX && stored.iter().all(|p| p.batches.len() <= BATCHES_MAX);
    fits.then_some(stored)
}

#[cfg(test)]
mod tests;
