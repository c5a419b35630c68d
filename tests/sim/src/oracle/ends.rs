//! What the start and the high watermark of each partition were at least, at any time: what had been told and
//! acknowledged before somebody asked.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Durability, PartitionId};
use tests_disk::Zone;

use super::Rules;
use super::batches::Batches;
use super::deletes::Deletes;
use super::lives::{Lives, log_of};
use super::tails::Tails;
use super::topics::Topics;
use crate::fact::{At, Fact};

#[derive(Debug)]
pub(super) struct Ends {
    pub(super) lives: Lives,
    pub(super) topics: Topics,
    pub(super) deletes: Deletes,
    tails: Tails,
    batches: Batches,
    partitions: BTreeMap<PartitionId, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    high_watermark: Floor,
    log_start: Floor,
    /// What no end of a process takes back.
    durable_high_watermark: u64,
    durable_start: u64,
    /// The life in which its checkpoint was harmed. Without it a log is scanned from the first segment there is, and
    /// starts there; what is being opened then may have read it before, and only the next life misses it.
    start_lost_in: Option<u32>,
}

/// What a number is at least, and was at any time.
#[derive(Debug, Default)]
struct Floor {
    /// When it was told, and what; rising but where it was lowered.
    steps: Vec<(Duration, u64)>,
    lowered: Vec<(Duration, u64)>,
}

impl Floor {
    fn now(&self) -> u64 {
        self.steps.last().map_or(0, |(_, value)| *value)
    }

    fn raise(&mut self, at: Duration, value: u64) {
        if value > self.now() {
            self.steps.push((at, value));
        }
    }

    fn lower(&mut self, at: Duration, value: u64) {
        if value < self.now() {
            self.steps.push((at, value));
            self.lowered.push((at, value));
        }
    }

    /// Of an answer heard now to what was asked then.
    fn since(&self, asked_at: Duration) -> u64 {
        let told = self.steps.partition_point(|(at, _)| *at < asked_at);
        let then = told.checked_sub(1).map_or(0, |last| self.steps[last].1);
        let lowered = self.lowered.iter().rev().take_while(|(at, _)| *at >= asked_at);
        lowered.map(|(_, value)| *value).fold(then, u64::min)
    }
}

impl Ends {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            lives: Lives::default(),
            topics: Topics::default(),
            deletes: Deletes::default(),
            tails: Tails::new(rules),
            batches: Batches::default(),
            partitions: BTreeMap::new(),
        }
    }

    pub(super) fn hear(&mut self, at: &At) {
        self.lives.hear(at);
        self.topics.hear(at);
        self.deletes.hear(at);
        self.tails.hear(at);
        self.batches.hear(at);
        match &at.fact {
            Fact::Began { .. } => self.on_boundary(at.time),
            Fact::Acked { batch, base_offset, durability, .. } => {
                let sent = self.batches.batch(*batch);
                let end = base_offset.plus(sent.records.len() as u32).0;
                let span = self.lives.since(sent.sent_at);
                let partition = self.partitions.entry(sent.to).or_default();
                let is_durable = *durability >= Durability::LeaderDisk;
                if is_durable {
                    partition.durable_high_watermark = partition.durable_high_watermark.max(end);
                }
                if is_durable || (span.first == span.last && *durability == Durability::Memory) {
                    partition.high_watermark.raise(at.time, end);
                }
            }
            Fact::Read { from: partition, asked_at, log_start, high_watermark, .. }
            | Fact::Found { partition, asked_at, log_start, high_watermark, .. } => {
                self.on_told(at.time, *partition, *asked_at, log_start.0, high_watermark.0);
            }
            Fact::Audit { partition, log_start, high_watermark, .. } => {
                self.on_told(at.time, *partition, at.time, log_start.0, high_watermark.0);
            }
            Fact::Injected { log: Some(log), kind: Some((kind, Zone::Checkpoint)), .. } => {
                if let Some(partition) = self.topics.partition(*log)
                    && kind.promise(Zone::Written) == tests_disk::Promise::Noticed
                {
                    let life = self.lives.now();
                    self.partitions.entry(partition).or_default().start_lost_in = Some(life);
                }
            }
            Fact::Event { name: "log_opened", fields, .. } => {
                if let Some(id) = log_of(fields).and_then(|log| self.topics.partition(log))
                    && let Some(partition) = self.partitions.get_mut(&id)
                    && let Some(lost_in) = partition.start_lost_in
                {
                    partition.start_lost_in = Some(lost_in).filter(|life| *life == self.lives.now());
                    partition.durable_start = 0;
                    partition.log_start.lower(at.time, 0);
                }
            }
            Fact::Deleted { partition, before } => {
                let partition = self.partitions.entry(*partition).or_default();
                partition.durable_start = partition.durable_start.max(before.0);
                partition.log_start.raise(at.time, before.0);
            }
            _ => {}
        }
    }

    fn on_boundary(&mut self, now: Duration) {
        let life = self.lives.now();
        for (id, partition) in &mut self.partitions {
            let log = self.topics.log(*id);
            if !self.lives.may_lose(life, log) {
                continue;
            }
            if self.topics.may_cache(*id) {
                let safe_end = log.map_or(0, |log| self.tails.safe_end(log));
                partition.high_watermark.lower(now, partition.durable_high_watermark.max(safe_end));
            }
            partition.log_start.lower(now, partition.durable_start);
        }
    }

    fn on_told(
        &mut self,
        now: Duration,
        id: PartitionId,
        asked_at: Duration,
        log_start: u64,
        high_watermark: u64,
    ) {
        let span = self.lives.since(asked_at);
        let partition = self.partitions.entry(id).or_default();
        let is_of_this_life = span.first == span.last;
        if is_of_this_life {
            partition.log_start.raise(now, log_start);
        }
        // Without caching it is on the disk.
        if is_of_this_life || !self.topics.may_cache(id) {
            partition.high_watermark.raise(now, high_watermark);
        }
    }

    /// At least so much an answer must say that was asked for then.
    pub(super) fn high_watermark(&self, partition: PartitionId, asked_at: Duration) -> u64 {
        self.partitions.get(&partition).map_or(0, |known| known.high_watermark.since(asked_at))
    }

    /// As far as anybody was told.
    pub(super) fn high_watermark_now(&self, partition: PartitionId) -> u64 {
        self.partitions.get(&partition).map_or(0, |known| known.high_watermark.now())
    }

    /// Something of it could not be read when it was opened: until it is opened again it ends there.
    pub(super) fn is_damaged(&self, partition: PartitionId, asked_at: Duration) -> bool {
        let log = self.topics.log(partition);
        log.is_some_and(|log| self.lives.was_damaged(self.lives.since(asked_at), log))
    }

    pub(super) fn log_start(&self, partition: PartitionId, asked_at: Duration) -> u64 {
        self.partitions.get(&partition).map_or(0, |known| known.log_start.since(asked_at))
    }
}
