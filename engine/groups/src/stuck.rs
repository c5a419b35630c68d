//! Members that have something to do and do nothing.
//!
//! A partition is stuck when at each of `stuck_intervals` looks in a row there were records to read and, since the
//! look before, its member has neither committed another offset nor been seen reading. How much there is to read
//! comes from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use storage_frame::Offset;

use crate::desk::Turn;
use crate::group::Group;
use crate::member::Owned;

#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Bounded by the partitions that members own.
    by_partition: BTreeMap<(String, u32), Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    looked_at: Duration,
    committed: Option<Offset>,
    has_read: bool,
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
    pub(crate) fn read_seen(&mut self, topic: &str, partition: u32) {
        if let Some(watch) = self.watches.by_partition.get_mut(&(topic.to_owned(), partition)) {
            watch.has_read = true;
        }
    }

    pub(crate) fn lag_measured(
        &mut self,
        turn: &mut Turn<'_>,
        topic: &str,
        partition: u32,
        records: u64,
        seconds: Option<u64>,
    ) {
        let owner = self
            .members
            .iter()
            .find(|(_, member)| member.owned.get(topic).is_some_and(|owned| owned.contains(&partition)));
        let key = (topic.to_owned(), partition);
        let Some((owner, _)) = owner else {
            self.watches.by_partition.remove(&key);
            return;
        };
        let committed = self.offsets.find(topic, partition).map(|at| at.committed.offset);
        let is_new = !self.watches.by_partition.contains_key(&key);
        let watch = self.watches.by_partition.entry(key).or_default();
        if is_new {
            *watch = Watch { looked_at: turn.now.mono, committed, ..Watch::default() };
            return;
        }
        let moved = watch.committed != committed || std::mem::take(&mut watch.has_read);
        if moved || records == 0 {
            *watch = Watch { looked_at: turn.now.mono, committed, ..Watch::default() };
            return;
        }
        // Asked more often, it still counts intervals.
        if turn.now.mono.saturating_sub(watch.looked_at) < turn.config.stuck_interval * 9 / 10 {
            return;
        }
        watch.looked_at = turn.now.mono;
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
            ("lag_records", records.to_string()),
            ("lag_seconds", seconds.map_or(String::new(), |seconds| seconds.to_string())),
        ];
        turn.desk.event("group_member_stuck", fields);
    }
}
