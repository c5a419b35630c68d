//! One partition on its leader: which offsets exist, which are safe, who must be told.
//!
//! ```text
//! log start <= commit_end <= max(durable_end, cached_end)     durable_end, cached_end <= staged_end
//!              readable       on this disk, in memory where that is promised enough
//! ```
//! All ends are exclusive. `cached_end` rises only while `write.caching` is on; otherwise what is readable or
//! acknowledged is on stable storage. [`Partition::advance_commit`] is the single place that derives
//! `commit_end`, answers produces and wakes fetches, so nothing is shown or promised before it is safe.
//!
//! Lives on: the owning core only. Does not know: files, sockets, other cores, what a payload holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::{
    Acks, Durability, PartitionId, Produced, ReplySlot, Request, Response, StageTimings, TroubledPartition,
};
use engine_meta::TopicConfig;
use storage_frame::{LeaderEpoch, LogId, Now, Offset, TimestampMs};
use storage_log::{Log, LogConfig, LogEvent, LogState, ReadId, Recovered};

use crate::context::{Context, Refusal, refuse};
use crate::coordinator::Coordinator;
use crate::limits::{HELD_MAX, HELD_PER_PARTITION_MAX, PRODUCERS_MAX};
use crate::producers::Producers;
use crate::readers::Readers;
use crate::seam::{Level, PartitionEnds};
use crate::waiting::{PartitionKey, Waiter, WaiterKey, Waiting};

/// What all partitions of a topic on this core share.
#[derive(Debug)]
pub(crate) struct TopicSettings {
    pub(crate) name: String,
    pub(crate) config: TopicConfig,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) log_id: LogId,
    pub(crate) topic: Arc<TopicSettings>,
    pub(super) key: PartitionKey,
    pub(super) epoch: LeaderEpoch,
    pub(crate) stage: Stage,
    /// `None` until it is the partition's turn to be opened.
    pub(super) log: Option<Box<Log>>,
    /// The log's start that no restart goes below.
    pub(super) durable_start: Offset,
    pub(super) commit_end: Offset,
    cached_end: Offset,
    /// Bytes of frames committed since the log was opened: fetches wait for it to rise.
    pub(super) committed_bytes: u64,
    /// Appended and not committed: each frame's end and bytes.
    pub(super) uncommitted: VecDeque<(Offset, usize)>,
    /// By `end`.
    pub(super) produces: VecDeque<WaitingProduce>,
    pub(super) deletes: Vec<WaitingDelete>,
    pub(super) waiters: Vec<WaiterKey>,
    /// Reads and finds the log has not answered.
    pub(super) reads: Vec<(ReadId, WaiterKey)>,
    pub(super) producers: Option<Box<Producers>>,
    pub(super) readers: Readers,
    /// Of a partition of the offsets topic.
    pub(super) coordinator: Option<Box<Coordinator>>,
    /// In the shard's count of logs to be opened.
    pub(crate) counted: Counted,
    /// Why it cannot be written.
    pub(super) trouble: Option<String>,
    /// The log's ends are known: false while, and if, opening fails.
    pub(super) is_known: bool,
    pub(super) read_fault_told: bool,
    /// Has been put in front of the logs to be opened.
    pub(crate) hurried: bool,
    /// On the shard's list of logs to be asked for operations.
    pub(crate) dirty: bool,
    /// On the shard's list of logs to be told every tick.
    pub(crate) hot: bool,
    /// As last told to the budget.
    memory_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The log's turn to be opened has not come.
    Unopened,
    Opening,
    /// Opened, perhaps damaged, perhaps failed.
    Open,
    /// Clean-shutdown marker on its way.
    Closing,
    /// The topic is deleted; files are on their way out.
    Removing,
    /// Nothing is under way.
    Closed,
}

/// Where a partition stands in the roster's count of logs to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    ToOpen,
    Opening,
    Opened,
}

#[derive(Debug)]
pub(super) struct WaitingProduce {
    pub(super) slot: ReplySlot,
    pub(super) acks: Acks,
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) duplicate: bool,
    pub(super) append_time: Option<TimestampMs>,
    pub(super) arrived: Duration,
}

#[derive(Debug)]
pub(super) struct WaitingDelete {
    pub(super) slot: ReplySlot,
    pub(super) before: Offset,
    /// The log has been told; before that `before` was not durable.
    pub(super) told: bool,
}

impl Partition {
    pub(crate) fn new(
        id: PartitionId,
        log_id: LogId,
        key: PartitionKey,
        epoch: LeaderEpoch,
        topic: Arc<TopicSettings>,
    ) -> Self {
        Self {
            id,
            log_id,
            topic,
            key,
            epoch,
            stage: Stage::Unopened,
            log: None,
            durable_start: Offset::ZERO,
            commit_end: Offset::ZERO,
            cached_end: Offset::ZERO,
            committed_bytes: 0,
            uncommitted: VecDeque::new(),
            produces: VecDeque::new(),
            deletes: Vec::new(),
            waiters: Vec::new(),
            reads: Vec::new(),
            producers: None,
            readers: Readers::default(),
            coordinator: None,
            counted: Counted::ToOpen,
            trouble: None,
            is_known: false,
            read_fault_told: false,
            hurried: false,
            dirty: false,
            hot: false,
            memory_bytes: 0,
        }
    }

    pub(crate) fn open(&mut self, now: Now) {
        assert_eq!(self.stage, Stage::Unopened);
        let label = format!("{}/{}", self.topic.name, self.id.index);
        self.log = Some(Box::new(Log::open(self.log_id, &label, log_config(&self.topic.config), now)));
        self.stage = Stage::Opening;
    }

    /// New settings, in force from the next request on.
    pub(crate) fn configure(
        &mut self,
        ctx: &mut Context,
        now: Now,
        topic: Arc<TopicSettings>,
        epoch: LeaderEpoch,
    ) {
        assert!(epoch >= self.epoch, "leader epochs never fall");
        self.topic = topic;
        self.epoch = epoch;
        if let Some(log) = &mut self.log {
            log.set_config(log_config(&self.topic.config));
        }
        if self.stage == Stage::Open {
            // Caching switched on: what is staged has become safe enough.
            self.advance_commit(ctx, now, Duration::ZERO);
        }
    }

    pub(crate) fn serve(&mut self, ctx: &mut Context, now: Now, slot: ReplySlot, request: Request) {
        match self.stage {
            Stage::Unopened | Stage::Opening => self.hold(ctx, slot, request),
            Stage::Closing | Stage::Closed => ctx.reply(slot, refuse(&request, Refusal::ShuttingDown)),
            Stage::Removing => ctx.reply(slot, refuse(&request, Refusal::UnknownPartition)),
            Stage::Open if !self.is_known => {
                reach::mark!("shard.request_of_log_not_opened");
                let why = self.trouble.clone().unwrap_or_default();
                ctx.reply(slot, refuse(&request, Refusal::StorageFailed(why)));
            }
            Stage::Open => match request {
                Request::Produce(produce) => self.produce(ctx, now, slot, produce),
                Request::Fetch(fetch) => self.fetch(ctx, now, slot, fetch),
                Request::FindOffset(find) => self.find(ctx, slot, find),
                Request::DeleteRecords(delete) => self.delete_records(ctx, slot, delete),
                Request::CreateTopic(_)
                | Request::AlterTopic(_)
                | Request::DeleteTopic(_)
                | Request::DescribeTopics(_)
                | Request::DescribeCluster
                | Request::InitProducer
                | Request::Group(_)
                | Request::ListGroups(_)
                | Request::MeasureLag(_)
                | Request::CheckTopic(_)
                | Request::DescribeLogs(_) => unreachable!("not about a partition"),
            },
        }
    }

    /// Requests that were held until now, in the order they came.
    pub(crate) fn serve_held(&mut self, ctx: &mut Context, now: Now) {
        for key in std::mem::take(&mut self.waiters) {
            let waiter = ctx.remove_waiter(key);
            match waiter.what {
                Waiting::Held { request, .. } => self.serve(ctx, now, waiter.slot, request),
                Waiting::Data { .. }
                | Waiting::Memory(_)
                | Waiting::Read { .. }
                | Waiting::Find { .. }
                | Waiting::Abandoned { .. } => {
                    unreachable!("nothing else waits before the log is open")
                }
            }
        }
    }

    fn hold(&mut self, ctx: &mut Context, slot: ReplySlot, request: Request) {
        if self.waiters.len() >= HELD_PER_PARTITION_MAX
            || ctx.held_count >= HELD_MAX
            || ctx.budget.is_overloaded()
        {
            reach::mark!("shard.request_not_held");
            return ctx.reply(slot, refuse(&request, Refusal::NotReady));
        }
        let bytes = match &request {
            Request::Produce(produce) => produce.frame.header().frame_bytes(),
            Request::Fetch(_)
            | Request::FindOffset(_)
            | Request::DeleteRecords(_)
            | Request::CreateTopic(_)
            | Request::AlterTopic(_)
            | Request::DeleteTopic(_)
            | Request::DescribeTopics(_)
            | Request::DescribeCluster
            | Request::InitProducer
            | Request::Group(_)
            | Request::ListGroups(_)
            | Request::MeasureLag(_)
            | Request::CheckTopic(_)
            | Request::DescribeLogs(_) => 0,
        };
        reach::mark!("shard.request_held");
        let what = Waiting::Held { request, bytes };
        let waiter = Waiter { slot, partition: self.key, deadline: None, what };
        self.waiters.push(ctx.add_waiter(waiter));
    }

    /// Derives what is committed from what is durable and what is promised from memory, answers the produces
    /// below it and wakes the fetches that waited for it. `disk`: the time of the write that made it so.
    pub(super) fn advance_commit(&mut self, ctx: &mut Context, now: Now, disk: Duration) {
        let log = self.log.as_ref().expect("an open partition has a log");
        let durable_end = log.durable_end();
        if self.topic.config.write_caching && *log.state() == LogState::Ready {
            self.cached_end = log.staged_end();
        }
        assert!(durable_end <= log.staged_end() && self.cached_end <= log.staged_end());
        let safe_end = durable_end.max(self.cached_end);
        assert!(self.commit_end <= safe_end, "what was committed stays committed");
        let has_risen = safe_end > self.commit_end;
        self.commit_end = safe_end;
        while let Some(produce) = self.produces.pop_front_if(|produce| produce.end <= safe_end) {
            ctx.tally.waiting_produces -= 1;
            let durability = match produce.acks {
                _ if produce.end > durable_end => Durability::Memory,
                Acks::None => unreachable!("answered when it was accepted"),
                Acks::Leader => Durability::LeaderDisk,
                // The only replica's disk is every replica's disk.
                Acks::All => Durability::AllDisks,
            };
            let queue = now.mono.saturating_sub(disk).saturating_sub(produce.arrived);
            let timings = StageTimings { queue, disk, replicate: Duration::ZERO };
            self.answer(ctx, &produce, durability, timings);
        }
        if has_risen {
            while let Some((_, bytes)) = self.uncommitted.pop_front_if(|(end, _)| *end <= safe_end) {
                self.committed_bytes += bytes as u64;
            }
            self.wake_fetches(ctx, now);
        }
    }

    pub(super) fn answer(
        &self,
        ctx: &mut Context,
        produce: &WaitingProduce,
        durability: Durability,
        timings: StageTimings,
    ) {
        let produced = Produced {
            base_offset: produce.base,
            leader_epoch: self.epoch,
            durability,
            duplicate: produce.duplicate,
            append_time: produce.append_time,
            timings,
        };
        ctx.reply(produce.slot, Response::Produce(Ok(produced)));
    }

    pub(crate) fn on_log_event(&mut self, ctx: &mut Context, now: Now, event: LogEvent) {
        match event {
            LogEvent::Opened(recovered) => self.on_opened(ctx, now, &recovered),
            LogEvent::Durable { disk } => {
                if matches!(self.stage, Stage::Open | Stage::Closing) {
                    self.advance_commit(ctx, now, disk);
                    self.advance_deletes(ctx);
                    self.advance_stores(ctx, now);
                }
            }
            LogEvent::Read(read, result) => {
                if let Some(result) = self.on_group_read(ctx, now, read, result) {
                    self.on_read(ctx, now, read, result);
                }
            }
            LogEvent::Found(read, result) => self.on_found(ctx, read, result),
            LogEvent::Trimmed => {
                self.durable_start = self.log().start();
                self.advance_deletes(ctx);
            }
            LogEvent::Failed { why } => self.on_failed(ctx, why),
            LogEvent::Closed => {
                reach::mark!("shard.closed_without_answers", !self.produces.is_empty());
                self.refuse_all(ctx, &Refusal::ShuttingDown);
                self.stage = Stage::Closed;
                ctx.changed.push(self.key);
            }
            LogEvent::Compacted(how) => self.on_compacted(ctx, how),
            LogEvent::Note(what) => ctx.event(Level::Info, "log_note", self.fields([("note", what)])),
        }
    }

    fn on_opened(&mut self, ctx: &mut Context, now: Now, recovered: &Recovered) {
        assert_eq!(self.stage, Stage::Opening, "a log being removed does not say that it was opened");
        self.stage = Stage::Open;
        ctx.changed.push(self.key);
        let log = self.log.as_ref().expect("just opened");
        let end = log.durable_end();
        assert_eq!(log.staged_end(), end, "nothing is appended before a log is open");
        self.commit_end = end;
        self.cached_end = end;
        self.is_known = true;
        let (start, state, last_epoch) = (log.start(), log.state().clone(), log.last_epoch());
        self.durable_start = start;
        let room = ctx.room_for_producers(PRODUCERS_MAX);
        match Producers::recover(recovered.app_state.as_deref(), &recovered.headers, end, now.mono, room) {
            Some(producers) if producers.is_empty() => {}
            Some(producers) => {
                reach::mark!("shard.producers_from_checkpoint", recovered.headers.is_empty());
                reach::mark!("shard.producers_from_headers", !recovered.headers.is_empty());
                ctx.producers_count += producers.count();
                self.producers = Some(Box::new(producers));
            }
            None => {
                reach::mark!("shard.producers_lost");
                let fields =
                    self.fields([("why", "stored producers do not decode: duplicates may pass".into())]);
                ctx.event(Level::Error, "producers_lost", fields);
            }
        }
        if let LogState::Damaged { why, .. } = state {
            reach::mark!("shard.opened_damaged");
            ctx.event(
                Level::Error,
                "log_damaged",
                self.fields([("why", why.clone()), ("end", end.to_string())]),
            );
            self.trouble = Some(why);
        } else if last_epoch > self.epoch {
            reach::mark!("shard.log_from_later_start");
            // Copied or restored: what this start would write could not be told from what a later one wrote.
            let why =
                format!("log was written by start {last_epoch} of this node, this is start {}", self.epoch);
            ctx.event(Level::Error, "log_from_later_start", self.fields([("why", why.clone())]));
            self.trouble = Some(why);
        }
        let level = if recovered.cut_bytes > 0 { Level::Info } else { Level::Debug };
        let fields = self.fields([
            ("start", start.to_string()),
            ("end", end.to_string()),
            ("clean", recovered.clean.to_string()),
            ("cut_bytes", recovered.cut_bytes.to_string()),
        ]);
        ctx.event(level, "log_opened", fields);
        self.begin_groups(ctx, now);
    }

    fn on_failed(&mut self, ctx: &mut Context, why: String) {
        ctx.event(Level::Error, "log_failed", self.fields([("why", why.clone())]));
        reach::mark!("shard.failed_while_opening", self.stage == Stage::Opening);
        reach::mark!("shard.failed_while_closing", self.stage == Stage::Closing);
        reach::mark!("shard.failed_with_produces_waiting", !self.produces.is_empty());
        // A log that is closing or being removed goes on to its end.
        if self.stage == Stage::Opening {
            self.stage = Stage::Open;
        }
        ctx.changed.push(self.key);
        self.trouble = Some(why.clone());
        self.refuse_writes(ctx, &Refusal::StorageFailed(why.clone()));
        self.end_data_waits(ctx, &Refusal::StorageFailed(why.clone()));
        self.end_groups(ctx, &Refusal::StorageFailed(why));
    }

    /// The topic is gone: everybody who waits is told, the files go.
    pub(crate) fn remove(&mut self, ctx: &mut Context, now: Now) {
        if self.stage == Stage::Unopened {
            reach::mark!("shard.topic_deleted_unopened");
            self.open(now);
        }
        reach::mark!("shard.topic_deleted_under_fetch", !self.waiters.is_empty());
        reach::mark!("shard.topic_deleted_under_produce", !self.produces.is_empty());
        self.refuse_all(ctx, &Refusal::UnknownPartition);
        self.trouble = None;
        self.stage = Stage::Removing;
        ctx.changed.push(self.key);
        self.log.as_mut().expect("opened above or before").remove();
    }

    /// Nothing new from here on; what was accepted is finished.
    pub(crate) fn close(&mut self, ctx: &mut Context, now: Now) {
        reach::mark!("shard.stopped_under_fetch", !self.waiters.is_empty());
        reach::mark!("shard.stopped_under_produce", !self.produces.is_empty());
        reach::mark!("shard.stopped_while_opening", self.stage == Stage::Opening);
        self.end_waits(ctx, &Refusal::ShuttingDown);
        match self.stage {
            Stage::Unopened => self.stage = Stage::Closed,
            Stage::Open => {
                self.stage = Stage::Closing;
                // The state describes every frame, so the next start reads no headers; without any there is
                // nothing to say, and ten thousand empty logs close without a write.
                if *self.log().state() == LogState::Ready && self.log().staged_end() > Offset::ZERO {
                    let (end, state) = (self.log().staged_end(), self.encode_producers(ctx, now));
                    self.log.as_mut().expect("an open partition has a log").set_app_state(end, state);
                }
                self.log.as_mut().expect("an open partition has a log").close();
            }
            // Opening ends first, then `close` is called again.
            Stage::Opening | Stage::Closing | Stage::Removing | Stage::Closed => return,
        }
        ctx.changed.push(self.key);
    }

    fn refuse_all(&mut self, ctx: &mut Context, refusal: &Refusal) {
        self.refuse_writes(ctx, refusal);
        self.end_waits(ctx, refusal);
        self.end_groups(ctx, refusal);
    }

    /// What the log is to be told before it is asked what it wants.
    pub(crate) fn before_ops(&mut self, ctx: &mut Context, now: Now) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        let log = self.log();
        if log.wants_app_state() {
            let end = log.staged_end();
            let state = self.encode_producers(ctx, now);
            self.log.as_mut().expect("an open partition has a log").set_app_state(end, state);
        }
    }

    fn encode_producers(&mut self, ctx: &mut Context, now: Now) -> Bytes {
        let Some(producers) = &mut self.producers else { return Bytes::new() };
        let before = producers.count();
        let state = producers.encode(now.mono);
        ctx.producers_count -= before - producers.count();
        Bytes::from(state)
    }

    /// Tells the budget how much memory the log holds now.
    pub(crate) fn account(&mut self, ctx: &mut Context) {
        let bytes = self.log.as_ref().map_or(0, |log| log.memory_bytes());
        ctx.budget.move_log(self.memory_bytes, bytes);
        self.memory_bytes = bytes;
    }

    /// Nothing holds memory once it is closed and about to be dropped.
    pub(crate) fn drop_log(&mut self, ctx: &mut Context) {
        assert_eq!(self.stage, Stage::Closed);
        ctx.producers_count -= self.producers.take().map_or(0, |producers| producers.count());
        self.log = None;
        self.account(ctx);
    }

    /// It wants to hear every tick: something is held back or has to be tried again.
    pub(crate) fn wants_ticks(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.staged_bytes() > 0 || log.out_of_space())
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    pub(crate) fn trouble(&self) -> Option<TroubledPartition> {
        let why = self.trouble.clone()?;
        Some(TroubledPartition {
            topic: self.topic.name.clone(),
            index: self.id.index,
            end: self.commit_end,
            why,
        })
    }

    /// `None`: its log is not open.
    pub(crate) fn ends(&self) -> Option<PartitionEnds> {
        let log = self.log.as_ref()?;
        Some(PartitionEnds {
            topic: self.topic.name.clone(),
            index: self.id.index,
            start: log.start(),
            end: self.commit_end,
        })
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.disk_bytes())
    }

    pub(crate) fn log_mut(&mut self) -> Option<&mut Log> {
        self.log.as_deref_mut()
    }

    pub(super) fn log(&self) -> &Log {
        self.log.as_ref().expect("an open partition has a log")
    }

    pub(super) fn fields<const N: usize>(
        &self,
        more: [(&'static str, String); N],
    ) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("topic", self.topic.name.clone()),
            ("partition", self.id.index.to_string()),
            ("log", self.log_id.to_string()),
        ];
        fields.extend(more);
        fields
    }
}

fn log_config(config: &TopicConfig) -> LogConfig {
    // What is being written is not compacted: it must not go on longer than its records may stay.
    let lag_max = if config.compacts { config.compaction_lag_max } else { Duration::MAX };
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_age_max: config.segment_age_max.min(lag_max),
        retention_bytes: config.retention_bytes.filter(|_| config.deletes),
        retention_age: config.retention_age.filter(|_| config.deletes),
        write_back_delay: config.write_caching.then_some(config.flush_delay),
    }
}
