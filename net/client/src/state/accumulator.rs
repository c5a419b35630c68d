//! All of a producer's pending records: which partition each goes to, and that they fit into memory.
//!
//! ```text
//! sum of the records and batches not yet answered <= memory_bytes_max
//! ```
//!
//! One value behind one lock. Putting a record in touches a map entry, a lane and its open batch; everything
//! dearer (sealing, compressing, writing) happens outside, once per batch.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use engine_api::ProduceError;
use storage_frame::{FRAME_BYTES_MAX, TimestampMs};

use super::backoff::Dice;
use super::batch::Supply;
use super::lane::{Lane, LaneSettings, Link, Pushed, Step};
use super::ledger::Ledger;
use super::outcome::{Delivery, DeliveryError};
use super::partitioner::{Sticky, partition_of_key};
use super::record::{BATCH_OVERHEAD_BYTES, Record};

#[derive(Debug, Clone, Copy)]
pub(crate) struct AccumulatorSettings {
    pub(crate) batch_bytes_max: usize,
    pub(crate) memory_bytes_max: usize,
    pub(crate) lane: LaneSettings,
    /// A topic's metadata is to be asked for again after this.
    pub(crate) metadata_age_max: Duration,
    /// For everything random.
    pub(crate) seed: u64,
}

/// Why a record did not go in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// [`Accumulator::set_topic`] first.
    TopicNotLoaded,
    /// Memory is full: again when some is released.
    NoRoom,
    PartitionOutOfRange {
        partition: u32,
        partitions_count: u32,
    },
    RecordTooLarge {
        record_bytes: usize,
        record_bytes_max: usize,
    },
    HeaderName {
        bytes: usize,
    },
    Fenced(ProduceError),
    Closed,
}

#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) delivery: Delivery,
    pub(crate) lane: usize,
    /// Nobody drives the lane yet.
    pub(crate) is_new_lane: bool,
    /// The topic's metadata is old, which is said once.
    pub(crate) is_stale: bool,
    pub(crate) wake: bool,
    /// The sender lets the lanes run before the next record.
    pub(crate) is_lanes_turn: bool,
}

/// So much is taken, or so long, before woken lanes are given a turn: what they then write at once shares datagrams.
const TURN_BYTES: usize = 16 << 10;
const TURN_AFTER: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// By partition; a lane is made when its partition gets its first record.
    lanes: Vec<Option<usize>>,
    message_bytes_max: usize,
    sticky: Sticky,
    loaded_at: Duration,
    /// When the broker was asked for what is known.
    asked_at: Duration,
}

#[derive(Debug)]
pub(crate) struct Accumulator {
    settings: AccumulatorSettings,
    lanes: Vec<Lane>,
    topics: AHashMap<Arc<str>, Topic>,
    ledger: Ledger,
    supply: Supply,
    dice: Dice,
    /// The id every partition's first lane begins with. A partition whose lane is made anew must not: its
    /// sequences of this id are used up.
    first_id: Option<u64>,
    flush_below: u64,
    ending: Ending,
    records_count: u64,
    /// Taken since the lanes had a turn.
    untold_bytes: usize,
    /// When the first of them was woken since then.
    woken_at: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    No,
    /// What is in goes out, nothing more comes in.
    Closing,
    Closed,
    Fenced(ProduceError),
}

impl Accumulator {
    pub(crate) fn new(settings: AccumulatorSettings) -> Self {
        Self {
            settings,
            lanes: Vec::new(),
            topics: AHashMap::new(),
            ledger: Ledger::default(),
            supply: Supply::default(),
            dice: Dice(settings.seed),
            first_id: None,
            flush_below: 0,
            ending: Ending::No,
            records_count: 0,
            untold_bytes: 0,
            woken_at: None,
        }
    }

    /// A topic's metadata, new or changed, as it was asked for at `asked_at`. What is older than what is known is
    /// not heard.
    pub(crate) fn set_topic(
        &mut self,
        now: Duration,
        asked_at: Duration,
        name: &str,
        partitions_count: u32,
        message_bytes_max: usize,
    ) {
        let name: Arc<str> = name.into();
        let dice = self.dice.roll();
        let topic = self.topics.entry(Arc::clone(&name)).or_insert_with(|| Topic {
            name,
            lanes: Vec::new(),
            message_bytes_max,
            sticky: Sticky::new(dice),
            loaded_at: now,
            asked_at,
        });
        if asked_at < topic.asked_at {
            reach::mark!("client.older_metadata_not_heard");
            return;
        }
        topic.asked_at = asked_at;
        let lanes_count = topic.lanes.len().min(partitions_count as usize);
        // Fewer only when it was deleted and made anew in between; what is in the lanes beyond finds that out.
        for lane in topic.lanes.drain(lanes_count..) {
            reach::mark!("client.topic_has_fewer_partitions");
            self.first_id = None;
            lane.into_iter().for_each(|lane| self.lanes[lane].retire());
        }
        topic.lanes.resize(partitions_count as usize, None);
        topic.loaded_at = now;
        topic.message_bytes_max = message_bytes_max.min(FRAME_BYTES_MAX);
    }

    /// The topic of `lane` does not exist any more: everything in the lane is refused, and the next record for it
    /// asks for the topic anew. What was sent without an answer may have been stored while the topic was there. The
    /// lanes of the topic end once they are empty.
    pub(crate) fn on_topic_gone(&mut self, lane: usize) {
        let error = ProduceError::UnknownPartition;
        reach::mark!("client.topic_gone");
        let gone = &mut self.lanes[lane];
        gone.fail_all(&mut self.ledger, |sent| match sent {
            true => DeliveryError::RefusedOnRetry(error.clone()),
            false => DeliveryError::Refused(error.clone()),
        });
        gone.retire();
        let (name, partition) = (Arc::clone(&gone.topic), gone.partition as usize);
        // It may have been made anew, and be written to by other lanes already.
        let is_current =
            |topic: &Topic| topic.lanes.get(partition).copied().flatten().is_some_and(|at| at == lane);
        if self.topics.get(&name).is_some_and(is_current) {
            let topic = self.topics.remove(&name).expect("looked before");
            self.first_id = None;
            topic.lanes.into_iter().flatten().for_each(|lane| self.lanes[lane].retire());
        }
    }

    /// Metadata of the topic is from before `time`, or there is none.
    pub(crate) fn is_topic_older(&self, name: &str, time: Duration) -> bool {
        self.topics.get(name).is_none_or(|topic| topic.loaded_at < time)
    }

    pub(crate) fn append(
        &mut self,
        now: Duration,
        record: &Record<'_>,
        timestamp: TimestampMs,
    ) -> Result<Appended, AppendError> {
        match &self.ending {
            Ending::No => {}
            Ending::Closing | Ending::Closed => return Err(AppendError::Closed),
            Ending::Fenced(error) => return Err(AppendError::Fenced(error.clone())),
        }
        let topic = self.topics.get_mut(record.topic).ok_or(AppendError::TopicNotLoaded)?;
        let record_bytes = BATCH_OVERHEAD_BYTES + record.batch_bytes();
        let record_bytes_max = topic.message_bytes_max.min(self.settings.memory_bytes_max);
        if record_bytes > record_bytes_max {
            return Err(AppendError::RecordTooLarge { record_bytes, record_bytes_max });
        }
        if self.ledger.charged_bytes() + record_bytes > self.settings.memory_bytes_max {
            reach::mark!("client.no_room_for_record");
            return Err(AppendError::NoRoom);
        }
        let partitions_count = topic.lanes.len() as u32;
        let is_sticky = record.partition.is_none() && record.key.is_none();
        let partition = match (record.partition, record.key) {
            (Some(partition), _) if partition < partitions_count => partition,
            (Some(partition), _) => {
                return Err(AppendError::PartitionOutOfRange { partition, partitions_count });
            }
            (None, Some(key)) => partition_of_key(key, partitions_count),
            (None, None) => {
                let current = topic.sticky.current(partitions_count);
                let has_batch = |partition: u32| {
                    topic.lanes[partition as usize].is_some_and(|lane| self.lanes[lane].has_open_batch())
                };
                if topic.sticky.is_used() && !has_batch(current) {
                    // Its batch has left.
                    topic.sticky.advance();
                }
                topic.sticky.current(partitions_count)
            }
        };
        let (lane, is_new_lane) = match topic.lanes[partition as usize] {
            Some(lane) => (lane, false),
            None => {
                let seed = self.dice.roll();
                let lane = self.lanes.len();
                self.lanes.push(Lane::new(Arc::clone(&topic.name), partition, self.settings.lane, seed));
                topic.lanes[partition as usize] = Some(lane);
                (lane, true)
            }
        };
        let batch_bytes_max = self.settings.batch_bytes_max.min(topic.message_bytes_max).max(record_bytes);
        let pushed = self.lanes[lane].push(
            now,
            record,
            timestamp,
            batch_bytes_max,
            &mut self.ledger,
            &mut self.supply,
        );
        let Pushed { delivery, wake, closed } = match pushed {
            Ok(pushed) => pushed,
            Err(bytes) => return Err(AppendError::HeaderName { bytes }),
        };
        if is_sticky {
            topic.sticky.on_used();
            if closed {
                topic.sticky.advance();
            }
        }
        self.records_count += 1;
        let is_stale = now.saturating_sub(topic.loaded_at) > self.settings.metadata_age_max;
        if is_stale {
            topic.loaded_at = now;
        }
        let is_lanes_turn = self.is_lanes_turn(now, record_bytes - BATCH_OVERHEAD_BYTES, wake);
        Ok(Appended { delivery, lane, is_new_lane, is_stale, wake, is_lanes_turn })
    }

    fn is_lanes_turn(&mut self, now: Duration, record_bytes: usize, wake: bool) -> bool {
        self.untold_bytes += record_bytes;
        if wake {
            self.woken_at.get_or_insert(now);
        }
        let has_waited = |woken_at: Duration| now.saturating_sub(woken_at) >= TURN_AFTER;
        let is_due = self.woken_at.is_some_and(|at| self.untold_bytes >= TURN_BYTES || has_waited(at));
        if is_due {
            (self.untold_bytes, self.woken_at) = (0, None);
        }
        is_due
    }

    pub(crate) fn lane(&mut self, lane: usize) -> (&mut Lane, &mut Ledger) {
        (&mut self.lanes[lane], &mut self.ledger)
    }

    pub(crate) fn supply(&mut self) -> &mut Supply {
        &mut self.supply
    }

    pub(crate) fn lanes_count(&self) -> usize {
        self.lanes.len()
    }

    /// What lane `lane` is to do now; `None`: it is over, everything in it has been told so.
    pub(crate) fn next_step(&mut self, lane: usize, now: Duration, link: Link) -> Option<Step> {
        let flush_below = match &self.ending {
            Ending::No => self.flush_below,
            Ending::Closing => u64::MAX,
            Ending::Closed => {
                self.lanes[lane].fail_all(&mut self.ledger, |sent| DeliveryError::Closed { sent });
                return None;
            }
            Ending::Fenced(error) => {
                let error = DeliveryError::Refused(error.clone());
                self.lanes[lane].fail_all(&mut self.ledger, |sent| {
                    if sent { DeliveryError::Closed { sent } } else { error.clone() }
                });
                return None;
            }
        };
        if self.lanes[lane].is_over() {
            return None;
        }
        let step = self.lanes[lane].next_step(now, link, flush_below, &mut self.ledger);
        match (&step, self.first_id) {
            (Step::Identify, Some(first_id)) if self.lanes[lane].is_fresh => {
                self.lanes[lane].on_identity(first_id);
                Some(self.lanes[lane].next_step(now, link, flush_below, &mut self.ledger))
            }
            _ => Some(step),
        }
    }

    /// A producer id never used before, asked for by `lane`.
    pub(crate) fn on_identity(&mut self, lane: usize, id: u64) {
        if self.lanes[lane].is_fresh && self.first_id.is_none() {
            self.first_id = Some(id);
        }
        self.lanes[lane].on_identity(id);
    }

    /// No batch that exists now waits for more records. Returns the mark for [`is_settled`](Self::is_settled).
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush_below = self.supply.next_number;
        self.flush_below
    }

    /// Every batch older than `mark` has its verdict.
    pub(crate) fn is_settled(&self, mark: u64) -> bool {
        self.ledger.oldest_unsettled().is_none_or(|oldest| oldest >= mark)
    }

    pub(crate) fn start_closing(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Closing;
        }
    }

    /// The lanes are to be stepped once more, to hear of it.
    pub(crate) fn close(&mut self) {
        if !matches!(self.ending, Ending::Fenced(_)) {
            self.ending = Ending::Closed;
        }
    }

    pub(crate) fn fence(&mut self, error: ProduceError) {
        if self.ending != Ending::Closed {
            self.ending = Ending::Fenced(error);
        }
    }

    /// Something was released or settled since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        self.ledger.take_changed()
    }

    pub(crate) fn charged_bytes(&self) -> usize {
        self.ledger.charged_bytes()
    }

    pub(crate) fn records_count(&self) -> u64 {
        self.records_count
    }

    pub(crate) fn retries_count(&self) -> u64 {
        self.ledger.retries_count
    }

    pub(crate) fn identities_count(&self) -> u64 {
        self.ledger.identities_count
    }
}

#[cfg(test)]
mod tests;
