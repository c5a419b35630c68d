//! The partitions a core owns, found by id, by log or by key, and the order in which they get its attention.
//!
//! What must hold: a partition is asked for operations at the end of every turn that touched it, once; one that
//! nothing happens to is looked at once in a hundred ticks, so ten thousand idle ones cost a hundred looks a
//! tick; at most `opens_max` logs are being opened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ahash::AHashMap;
use engine_api::{LogSize, PartitionId, TroubledPartition};
use slab::Slab;
use storage_frame::{LeaderEpoch, LogId, Now};
use storage_log::{DiskResult, LogEvent, OpId};

use crate::compaction;
use crate::context::Context;
use crate::limits::{SHRINKS_PER_TURN, TICKS_PER_ROUND, TROUBLED_MAX};
use crate::partition::{Counted, Partition, Stage, TopicSettings};
use crate::seam::{Effect, PartitionEnds, ShardStats};
use crate::waiting::PartitionKey;

#[derive(Debug, Default)]
pub(crate) struct Roster {
    partitions: Slab<Partition>,
    by_id: AHashMap<PartitionId, PartitionKey>,
    by_log: AHashMap<LogId, PartitionKey>,
    /// Logs to be opened, first first; some may have been opened out of turn. Twice at most each.
    opens: VecDeque<PartitionKey>,
    /// Unopened or being opened.
    to_open_count: usize,
    opening_count: usize,
    dirty: Vec<PartitionKey>,
    hot: Vec<PartitionKey>,
    /// One past the largest key ever used.
    keys_end: PartitionKey,
    tick_cursor: PartitionKey,
    shrink_cursor: PartitionKey,
    troubled: BTreeSet<PartitionKey>,
    /// `troubled` has changed since it was last taken.
    troubles_changed: bool,
    compaction: compaction::Turn,
    events: Vec<LogEvent>,
}

impl Roster {
    pub(crate) fn count(&self) -> usize {
        self.partitions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Every log has been opened or has failed to.
    pub(crate) fn is_open(&self) -> bool {
        self.to_open_count == 0
    }

    pub(crate) fn find(&self, id: PartitionId) -> Option<PartitionKey> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn at(&self, key: PartitionKey) -> Option<&Partition> {
        self.partitions.get(key)
    }

    /// As [`touch`](Self::touch), if it is still there.
    pub(crate) fn touch_known(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        self.partitions.contains(key).then(|| self.touch(key))
    }

    pub(crate) fn find_log(&self, log: LogId) -> Option<PartitionKey> {
        self.by_log.get(&log).copied()
    }

    /// The partition, which will be asked for operations when the turn ends.
    pub(crate) fn touch(&mut self, key: PartitionKey) -> &mut Partition {
        let partition = &mut self.partitions[key];
        if !std::mem::replace(&mut partition.dirty, true) {
            self.dirty.push(key);
        }
        partition
    }

    pub(crate) fn add(&mut self, id: PartitionId, log: LogId, epoch: LeaderEpoch, topic: Arc<TopicSettings>) {
        let entry = self.partitions.vacant_entry();
        let key = entry.key();
        entry.insert(Partition::new(id, log, key, epoch, topic));
        let before = (self.by_id.insert(id, key), self.by_log.insert(log, key));
        assert_eq!(before, (None, None), "a partition and its log are known once");
        self.keys_end = self.keys_end.max(key + 1);
        self.to_open_count += 1;
        self.opens.push_back(key);
    }

    /// Somebody waits for it: its log is the next to be opened.
    pub(crate) fn hurry(&mut self, key: PartitionKey) {
        let partition = &mut self.partitions[key];
        if partition.stage == Stage::Unopened && !std::mem::replace(&mut partition.hurried, true) {
            reach::mark!("shard.opening_hurried");
            self.opens.push_front(key);
        }
    }

    pub(crate) fn open_next(&mut self, ctx: &Context, now: Now) {
        while self.opening_count < ctx.config.opens_max.max(1) {
            let Some(key) = self.opens.pop_front() else { return };
            let waits = |p: &Partition| p.stage == Stage::Unopened;
            if !self.partitions.get(key).is_some_and(waits) {
                continue;
            }
            let partition = self.touch(key);
            partition.open(now);
            partition.counted = Counted::Opening;
            self.opening_count += 1;
        }
    }

    /// The topic is deleted: nobody finds the partition any more, its files go.
    pub(crate) fn remove(&mut self, ctx: &mut Context, now: Now, id: PartitionId) {
        let Some(key) = self.by_id.remove(&id) else { return };
        self.touch(key).remove(ctx, now);
    }

    pub(crate) fn close_all(&mut self, ctx: &mut Context, now: Now) {
        self.opens.clear();
        for key in 0..self.keys_end {
            if self.partitions.contains(key) {
                self.touch(key).close(ctx, now);
            }
        }
    }

    /// Looks at a partition whose stage may have changed.
    pub(crate) fn on_changed(&mut self, ctx: &mut Context, now: Now, key: PartitionKey) {
        let Some(partition) = self.partitions.get_mut(key) else { return };
        if !matches!(partition.stage, Stage::Unopened | Stage::Opening) {
            match std::mem::replace(&mut partition.counted, Counted::Opened) {
                Counted::ToOpen => self.to_open_count -= 1,
                Counted::Opening => {
                    self.to_open_count -= 1;
                    self.opening_count -= 1;
                    partition.serve_held(ctx, now);
                    if ctx.stopping {
                        partition.close(ctx, now);
                    }
                }
                Counted::Opened => {}
            }
        }
        // Nobody can be helped by hearing of a topic that is deleted.
        let removed = self.by_id.get(&partition.id) != Some(&key);
        let troubled = partition.is_troubled() && !removed;
        let changed = if troubled { self.troubled.insert(key) } else { self.troubled.remove(&key) };
        self.troubles_changed |= changed;
        if partition.stage == Stage::Closed {
            self.drop_closed(ctx, key);
        }
    }

    /// A partition that is closed has been removed, or the shard is stopping: nothing asks for it again.
    fn drop_closed(&mut self, ctx: &mut Context, key: PartitionKey) {
        let removed = self.by_id.get(&self.partitions[key].id) != Some(&key);
        if !removed && !ctx.stopping {
            return;
        }
        let mut partition = self.partitions.remove(key);
        partition.drop_log(ctx);
        self.by_log.remove(&partition.log_id);
        if !removed {
            self.by_id.remove(&partition.id);
        }
        // While stopping, what cannot be written stays in the list until the end.
        self.troubled.remove(&key);
    }

    pub(crate) fn on_disk(
        &mut self,
        ctx: &mut Context,
        now: Now,
        key: PartitionKey,
        op: OpId,
        result: DiskResult,
    ) {
        let mut events = std::mem::take(&mut self.events);
        let partition = self.touch(key);
        if let Some(log) = partition.log_mut() {
            log.on_disk(now, op, result, &mut events);
        }
        for event in events.drain(..) {
            partition.on_log_event(ctx, now, event);
        }
        self.events = events;
    }

    /// Those that asked to hear every tick, and the next slice of all.
    pub(crate) fn on_tick(&mut self, ctx: &mut Context, now: Now) {
        let mut hot = std::mem::take(&mut self.hot);
        for key in hot.drain(..) {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.hot = false;
                self.tick(ctx, now, key);
            }
        }
        self.hot = hot;
        // A stopping shard waits for nothing but its logs.
        let ticks_per_round = if ctx.stopping { 1 } else { TICKS_PER_ROUND };
        for _ in 0..self.keys_end.div_ceil(ticks_per_round) {
            let key = self.tick_cursor;
            self.tick_cursor = if key + 1 < self.keys_end { key + 1 } else { 0 };
            if self.partitions.contains(key) {
                self.tick(ctx, now, key);
            }
        }
    }

    fn tick(&mut self, ctx: &mut Context, now: Now, key: PartitionKey) {
        let mut events = std::mem::take(&mut self.events);
        let partition = self.touch(key);
        if let Some(log) = partition.log_mut() {
            log.on_tick(now, &mut events);
        }
        for event in events.drain(..) {
            partition.on_log_event(ctx, now, event);
        }
        self.events = events;
        self.offer_compaction(ctx, now, key);
    }

    fn offer_compaction(&mut self, ctx: &Context, now: Now, key: PartitionKey) {
        let mut turn = std::mem::take(&mut self.compaction);
        let is_busy = turn.partition().is_some_and(|other| {
            self.partitions.get_mut(other).and_then(Partition::log_mut).is_some_and(|log| log.is_compacting())
        });
        if !is_busy {
            turn.offer(ctx, now, key, &mut self.partitions[key]);
        }
        self.compaction = turn;
    }

    /// Asks every log touched in this turn what it wants done.
    pub(crate) fn end_turn(&mut self, ctx: &mut Context, now: Now, out: &mut Vec<Effect>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut ops = Vec::new();
        for key in dirty.drain(..) {
            let Some(partition) = self.partitions.get_mut(key) else { continue };
            partition.dirty = false;
            partition.before_ops(ctx, now);
            let log_id = partition.log_id;
            if let Some(log) = partition.log_mut() {
                log.take_ops(now, &mut ops);
            }
            out.extend(ops.drain(..).map(|(op, what)| Effect::Disk { log: log_id, op, what }));
            partition.account(ctx);
            if partition.wants_ticks() && !std::mem::replace(&mut partition.hot, true) {
                self.hot.push(key);
            }
        }
        self.dirty = dirty;
        self.shrink(ctx);
    }

    /// Shortens caches round and round, each to half, until the memory they are to give back is back.
    fn shrink(&mut self, ctx: &mut Context) {
        for _ in 0..SHRINKS_PER_TURN.min(self.keys_end) {
            let excess = ctx.budget.excess();
            if excess == 0 {
                return;
            }
            let key = self.shrink_cursor;
            self.shrink_cursor = if key + 1 < self.keys_end { key + 1 } else { 0 };
            let Some(partition) = self.partitions.get_mut(key) else { continue };
            if let Some(log) = partition.log_mut() {
                log.shrink_cache(excess.min(log.memory_bytes() / 2 + 1));
            }
            partition.account(ctx);
        }
    }

    /// The troubled partitions, when they have changed since they were last asked for.
    pub(crate) fn take_troubles(&mut self) -> Option<Vec<TroubledPartition>> {
        if !std::mem::take(&mut self.troubles_changed) {
            return None;
        }
        let trouble = |key: &PartitionKey| self.partitions.get(*key)?.trouble();
        Some(self.troubled.iter().filter_map(trouble).take(TROUBLED_MAX).collect())
    }

    /// Of every partition whose log is open, by topic and index.
    pub(crate) fn ends(&self) -> Vec<PartitionEnds> {
        let mut ends: Vec<_> = self.known().filter_map(Partition::ends).collect();
        ends.sort_unstable_by(|a, b| (&a.topic, a.index).cmp(&(&b.topic, b.index)));
        ends
    }

    /// Those of topics that there are; others may be on their way out.
    fn known(&self) -> impl Iterator<Item = &Partition> {
        let known =
            |(key, partition): &(PartitionKey, &Partition)| self.by_id.get(&partition.id) == Some(key);
        self.partitions.iter().filter(known).map(|(_, partition)| partition)
    }

    /// Every partition's, by topic id and index.
    pub(crate) fn log_sizes(&self) -> Vec<LogSize> {
        let size = |partition: &Partition| LogSize { partition: partition.id, bytes: partition.disk_bytes() };
        let mut sizes: Vec<LogSize> = self.known().map(size).collect();
        sizes.sort_unstable_by_key(|size| size.partition);
        sizes
    }

    pub(crate) fn add_stats(&self, stats: &mut ShardStats) {
        stats.partitions = self.partitions.len() as u64;
        stats.partitions_open = (self.partitions.len() - self.to_open_count) as u64;
        stats.partitions_troubled = self.troubled.len() as u64;
        let mut bytes_by_topic: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, partition) in &self.partitions {
            *bytes_by_topic.entry(&partition.topic.name).or_default() += partition.disk_bytes();
        }
        stats.log_bytes = bytes_by_topic.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    }
}

#[cfg(test)]
mod tests {
    use engine_api::TopicId;
    use engine_meta::config;

    use super::*;

    #[test]
    fn requests_for_logs_that_are_not_open_do_not_make_the_list_of_opens_grow() {
        let topic =
            Arc::new(TopicSettings { name: "a".into(), config: config::effective(&[], &BTreeMap::new()) });
        let mut roster = Roster::default();
        for index in 0..3 {
            let id = PartitionId { topic: TopicId(1), index };
            roster.add(id, LogId(1 + u64::from(index)), LeaderEpoch(1), Arc::clone(&topic));
        }
        for request in 0..100 {
            roster.hurry(1 + request % 2);
        }
        assert_eq!(roster.opens, [2, 1, 0, 1, 2]);
    }
}
