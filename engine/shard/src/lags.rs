//! How far behind groups are: every committed offset, and every member's partition without one, measured where the
//! partition lives, a part of them in each interval.
//!
//! What must hold: a tick costs a bounded number of looks and questions, however many places there are; what is told
//! is of one whole pass over them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine_api::{Lag, MeasureLag, PartitionId, ReaderId};
use engine_groups::Measured;
use storage_frame::{Now, Offset};

use crate::limits::{GROUP_FIGURES_MAX, LAG_ANSWER_MAX, LAG_INTERVAL, LAGS_PER_ROUND_MAX, LAGS_PER_TICK_MAX};
use crate::seam::{GroupLag, SHARD_KEY_BIT};
use crate::waiting::PartitionKey;

/// Where a group is in a partition, to be measured.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) coordinator: PartitionKey,
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: PartitionId,
    pub(crate) committed: Option<Offset>,
    /// The member that has the partition.
    pub(crate) reader: Option<ReaderId>,
}

impl Place {
    pub(crate) fn measure(&self) -> MeasureLag {
        let offset = self.committed.unwrap_or(Offset::ZERO);
        MeasureLag { partition: self.partition, offset, reader: self.reader }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Lags {
    /// When the part now being measured was taken up.
    begun: Duration,
    left: VecDeque<Place>,
    /// Asked of other cores, by the key of the question.
    asked: BTreeMap<u64, Place>,
    keys_count: u64,
    /// Places of this pass before the next part.
    cursor: usize,
    /// Of this pass.
    sums: BTreeMap<(String, String), GroupLag>,
    /// Of the last whole pass.
    told: Vec<GroupLag>,
}

impl Lags {
    /// By group and topic, of the last whole pass.
    pub(crate) fn told(&self) -> &[GroupLag] {
        &self.told
    }

    /// Where the next part begins, when it is time for one.
    pub(crate) fn next_part(&mut self, now: Now) -> Option<usize> {
        if !self.asked.is_empty() && now.mono >= self.begun + LAG_ANSWER_MAX {
            self.asked.clear();
        }
        let is_due = self.begun == Duration::ZERO || now.mono >= self.begun + LAG_INTERVAL;
        (is_due && self.left.is_empty() && self.asked.is_empty()).then_some(self.cursor)
    }

    /// The part, and whether the pass ends with it. What was measured before is whole when it ended one.
    pub(crate) fn begin_part(&mut self, now: Now, places: Vec<Place>, is_last: bool) {
        if self.cursor == 0 {
            self.told = std::mem::take(&mut self.sums).into_values().collect();
        }
        self.begun = now.mono;
        self.cursor = if is_last { 0 } else { self.cursor + LAGS_PER_ROUND_MAX };
        self.left = places.into();
    }

    /// The next ones to be looked at in this tick.
    pub(crate) fn take_next(&mut self) -> Vec<Place> {
        let room = LAGS_PER_TICK_MAX.saturating_sub(self.asked.len());
        self.left.drain(..room.min(self.left.len())).collect()
    }

    /// Another core has to be asked: the key of the question.
    pub(crate) fn ask(&mut self, place: Place) -> u64 {
        self.keys_count = (self.keys_count + 1) % SHARD_KEY_BIT;
        let key = SHARD_KEY_BIT | self.keys_count;
        self.asked.insert(key, place);
        key
    }

    /// What was asked, unless nobody waits for the answer any more.
    pub(crate) fn take_asked(&mut self, key: u64) -> Option<Place> {
        self.asked.remove(&key)
    }

    /// Counts what was measured, if the group has committed there; returns what it means for the group.
    pub(crate) fn note(&mut self, now: Now, place: &Place, lag: &Lag) -> Measured {
        let asked = lag.read.map_or(Offset::ZERO, |read| read.next);
        let from = place.committed.unwrap_or(asked).max(lag.log_start);
        let records = lag.high_watermark.0.saturating_sub(from.0);
        let first = lag.timestamp.filter(|_| records > 0 && place.committed.is_some());
        let age = first.map(|first| Duration::from_millis(now.wall.0.saturating_sub(first.0).max(0) as u64));
        let at = Measured { records, age, read_ago: lag.read.map(|read| read.ago) };
        if place.committed.is_none() {
            return at;
        }
        let key = (place.group.clone(), place.topic.clone());
        if self.sums.len() >= GROUP_FIGURES_MAX && !self.sums.contains_key(&key) {
            reach::mark!("shard.too_many_group_figures");
            return at;
        }
        let sum = self.sums.entry(key).or_insert_with(|| GroupLag {
            group: place.group.clone(),
            topic: place.topic.clone(),
            records: 0,
            age_max: Duration::ZERO,
        });
        sum.records += records;
        sum.age_max = sum.age_max.max(age.unwrap_or_default());
        at
    }
}
