//! Idempotence: what each producer last stored in one partition.
//!
//! Kafka's rules (KIP-98, KIP-360): a batch follows its producer's last one without a gap in sequence; one of
//! the last [`IN_FLIGHT_BATCHES_MAX`] sent again is a duplicate and is answered with its first offset (Kafka: of the
//! last five); a newer epoch starts at sequence 0 and fences the older; a producer nobody knows may start anywhere,
//! because its state may have expired or gone with deleted records.
//!
//! Batches whose sequences and offsets both follow each other are remembered as one run, so a producer that has a
//! partition for itself costs one however much it has under way.
//!
//! Rebuilt when a log is opened, from state stored with the log's checkpoint and the headers after it, so it
//! always describes frames that exist.

use std::time::Duration;

use ahash::AHashMap;
use engine_api::IN_FLIGHT_BATCHES_MAX;
use rkyv::{Archive, Deserialize, Serialize};
use storage_frame::{FrameHeader, Offset, Producer};

use crate::limits::{PRODUCER_SILENCE_MAX, PRODUCERS_MAX};

/// Runs remembered of each producer where there are many: as many batches as a Kafka client has in flight.
const RUNS_CROWDED_MAX: usize = 5;
/// All runs of a producer together are at most half of the 2^31 sequences there are, so none stands for two records.
const RUN_RECORDS_MAX: u32 = (1 << 30) / IN_FLIGHT_BATCHES_MAX as u32;
const FORMAT: u8 = 2;
/// Of older builds: each run one batch.
const FORMAT_OF_BATCHES: u8 = 1;

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

#[derive(Debug)]
struct Known {
    epoch: u16,
    /// In the time of this process; silence does not count while it is down.
    last_seen: Duration,
    /// Oldest first; at least one.
    runs: Vec<Run>,
}

/// Records that follow each other in sequence and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Run {
    base_sequence: u32,
    record_count: u32,
    base_offset: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct Stored {
    id: u64,
    epoch: u16,
    runs: Vec<Run>,
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
        let expected = known.last().next_sequence();
        if sent.base_sequence == expected {
            return Verdict::New;
        }
        let again = known.runs.iter().rev().find_map(|run| run.offset_of(sent.base_sequence, record_count));
        again.map_or(Verdict::OutOfSequence { expected }, Verdict::Duplicate)
    }

    /// Remembers a batch that has been given its offset; a new producer takes the place of old ones when there
    /// are `room.producers_max`.
    pub(crate) fn note(&mut self, now: Duration, header: &FrameHeader, room: Room) {
        let Some(sent) = header.producer else { return };
        let batch = Run {
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
            known.push(batch, room.runs_max());
            return;
        }
        if self.by_id.len() >= room.producers_max && !self.by_id.contains_key(&sent.id) {
            self.make_room(now, room.producers_max);
        }
        self.by_id.insert(sent.id, Known { epoch: sent.epoch, last_seen: now, runs: vec![batch] });
    }

    /// The state that describes every frame noted so far.
    #[expect(clippy::disallowed_methods, reason = "sorted before anybody sees it")]
    pub(crate) fn encode(&mut self, now: Duration) -> Vec<u8> {
        self.expire(now);
        let store =
            |(id, known): (&u64, &Known)| Stored { id: *id, epoch: known.epoch, runs: known.runs.clone() };
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
        room: Room,
    ) -> Option<Self> {
        let mut producers = Self::default();
        if let Some(bytes) = state.filter(|bytes| !bytes.is_empty()) {
            for stored in decode(bytes)? {
                reach::mark!(
                    "shard.producer_state_past_end",
                    stored.runs.last().is_some_and(|run| run.end_offset() > end.0)
                );
                // State past the log's end tells of frames that were lost before they were acknowledged.
                let runs: Vec<Run> = stored.runs.iter().filter_map(|run| run.before(end)).collect();
                if !runs.is_empty() {
                    producers.by_id.insert(stored.id, Known { epoch: stored.epoch, last_seen: now, runs });
                }
            }
        }
        for header in headers {
            producers.note(now, header, room);
        }
        Some(producers)
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
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
        let mut last_offsets: Vec<u64> = self.by_id.values().map(|known| known.last().end_offset()).collect();
        let (_, oldest_kept, _) = last_offsets.select_nth_unstable(count_max / 8 + 1);
        let oldest_kept = *oldest_kept;
        reach::mark!("shard.producers_evicted");
        self.by_id.retain(|_, known| known.last().end_offset() >= oldest_kept);
    }
}

impl Known {
    fn push(&mut self, batch: Run, runs_max: usize) {
        let last = self.runs.last_mut().expect("a known producer has stored a batch");
        if last.take_in(&batch) {
            return;
        }
        if self.runs.len() >= runs_max {
            self.runs.drain(..=self.runs.len() - runs_max);
        }
        self.runs.push(batch);
    }

    fn last(&self) -> &Run {
        self.runs.last().expect("a known producer has stored a batch")
    }
}

impl Run {
    fn next_sequence(&self) -> u32 {
        Producer::sequence_after(self.base_sequence, self.record_count)
    }

    fn end_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.record_count))
    }

    /// Whether `batch` goes on where it ends, in sequence and in the log, and is part of it now.
    fn take_in(&mut self, batch: &Run) -> bool {
        let goes_on = self.next_sequence() == batch.base_sequence && self.end_offset() == batch.base_offset;
        let together = self.record_count.checked_add(batch.record_count);
        match together.filter(|together| goes_on && *together <= RUN_RECORDS_MAX) {
            Some(together) => {
                self.record_count = together;
                true
            }
            None => false,
        }
    }

    /// Where the first of these records is, if all of them are in it.
    fn offset_of(&self, base_sequence: u32, record_count: u32) -> Option<Offset> {
        let ahead = Producer::sequences_between(self.base_sequence, base_sequence);
        let is_inside = u64::from(ahead) + u64::from(record_count) <= u64::from(self.record_count);
        is_inside.then(|| Offset(self.base_offset).plus(ahead))
    }

    /// What of it is below `end`.
    fn before(&self, end: Offset) -> Option<Run> {
        let kept = end.0.checked_sub(self.base_offset).filter(|kept| *kept > 0)?;
        Some(Run { record_count: u64::from(self.record_count).min(kept) as u32, ..*self })
    }
}

/// How much a partition may remember.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) producers_max: usize,
    /// Many producers are remembered: a run is kept for each of a Kafka client's batches, and no more.
    pub(crate) is_crowded: bool,
}

impl Room {
    fn runs_max(self) -> usize {
        if self.is_crowded { RUNS_CROWDED_MAX } else { IN_FLIGHT_BATCHES_MAX }
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<Stored>> {
    let (format, archived) = bytes.split_first()?;
    if ![FORMAT, FORMAT_OF_BATCHES].contains(format) {
        return None;
    }
    let stored = rkyv::from_bytes::<Vec<Stored>, rkyv::rancor::Failure>(archived).ok()?;
    let fits = |known: &Stored| known.runs.len() <= IN_FLIGHT_BATCHES_MAX;
    (stored.len() <= PRODUCERS_MAX && stored.iter().all(fits)).then_some(stored)
}

#[cfg(test)]
mod tests;
