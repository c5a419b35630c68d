//! Members that have something to do and do nothing.
//!
//! A partition is stuck when at each of `stuck_intervals` looks in a row there were records to read and, since the
//! look before, its member has neither committed another offset nor fetched. How much there is to read, and when the
//! member last fetched, comes from outside. A read that stands open and waits is no fetch: a native member that was
//! given everything and commits nothing of it is stuck too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_frame::Offset;

use crate::desk::Turn;
use crate::group::Group;
use crate::member::{Member, Owned};
use crate::seam::{Measured, Place};

#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Bounded by the partitions that members own.
    by_partition: BTreeMap<(String, u32), Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    looked_at: Duration,
    committed: Option<Offset>,
    idle_intervals: u32,
    is_stuck: bool,
}

impl Watches {
    pub(crate) fn clear(&mut self) {
        self.by_partition.clear();
    }

    pub(crate) fn stuck_count(&self) -> usize {
        self.by_partition.values().filter(|watch| watch.is_stuck).count()
    }

    pub(crate) fn stuck(&self, owned: &Owned) -> Vec<(String, u32)> {
        let is_owned = |topic: &str, partition| owned.get(topic).is_some_and(|of| of.contains(partition));
        self.by_partition
            .iter()
            .filter(|((topic, partition), watch)| watch.is_stuck && is_owned(topic, partition))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl Group {
    /// See [`Groups::places`](crate::Groups::places).
    pub(crate) fn places(&self) -> Vec<Place<'_>> {
        let mut owners: BTreeMap<(&str, u32), &Member> = BTreeMap::new();
        for member in self.members.values() {
            for (topic, partitions) in &member.owned {
                owners.extend(partitions.iter().map(|partition| ((topic.as_str(), *partition), member)));
            }
        }
        let committed = self.offsets.iter().map(|(topic, partition, _)| (topic, partition));
        let all: BTreeSet<(&str, u32)> = committed.chain(owners.keys().copied()).collect();
        let place = |(topic, partition)| Place {
            group: &self.id,
            topic,
            partition,
            committed: self.offsets.find(topic, partition).map(|at| at.committed.offset),
            reader: owners.get(&(topic, partition)).map(|member| member.reader(&self.id)),
        };
        all.into_iter().map(place).collect()
    }

    pub(crate) fn places_count(&self) -> usize {
        let owned = self.members.values().flat_map(|member| &member.owned);
        let uncommitted = owned.map(|(topic, partitions)| {
            partitions.iter().filter(|partition| self.offsets.find(topic, **partition).is_none()).count()
        });
        self.offsets.count() + uncommitted.sum::<usize>()
    }

    pub(crate) fn lag_measured(&mut self, turn: &mut Turn<'_>, topic: &str, partition: u32, lag: Measured) {
        let owner = self
            .members
            .iter()
            .find(|(_, member)| member.owned.get(topic).is_some_and(|owned| owned.contains(&partition)));
        let key = (topic.to_owned(), partition);
        let Some((owner, _)) = owner else {
            self.watches.by_partition.remove(&key);
            return;
        };
        let now = turn.now.mono;
        let committed = self.offsets.find(topic, partition).map(|at| at.committed.offset);
        let is_new = !self.watches.by_partition.contains_key(&key);
        let watch = self.watches.by_partition.entry(key).or_default();
        let since_look = now.saturating_sub(watch.looked_at);
        let has_read = lag.read_ago.is_some_and(|ago| ago < since_look);
        if is_new || watch.committed != committed || has_read || lag.records == 0 {
            *watch = Watch { looked_at: now, committed, ..Watch::default() };
            return;
        }
        // Asked more often, it still counts intervals.
        if since_look < turn.config.stuck_interval * 9 / 10 {
            return;
        }
        watch.looked_at = now;
        watch.idle_intervals += 1;
        if watch.idle_intervals < turn.config.stuck_intervals || watch.is_stuck {
            return;
        }
        watch.is_stuck = true;
        reach::mark!("groups.member_stuck");
        let fields = vec![
            ("group", self.id.to_string()),
            ("member", owner.to_string()),
            ("topic", topic.to_owned()),
            ("partition", partition.to_string()),
            ("lag_records", lag.records.to_string()),
            ("lag_seconds", lag.age.map_or(String::new(), |age| age.as_secs().to_string())),
        ];
        turn.desk.event("group_member_stuck", fields);
    }
}
