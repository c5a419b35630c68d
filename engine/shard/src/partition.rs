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
    Acks, DeleteRecords, DeleteRecordsError, Durability, PartitionId, Produce, ProduceError, Produced,
    ReplySlot, Request, Response, StageTimings, TroubledPartition,
};
use engine_meta::{TimestampKind, TopicConfig};
use storage_frame::{BatchView, Codec, Encoding, Frame, LeaderEpoch, LogId, Now, Offset};
use storage_log::{Log, LogConfig, LogEvent, LogState, ReadId, Recovered};

use crate::context::{Context, Refusal, refuse};
use crate::limits::{BATCH_RECORDS_MAX, HELD_MAX, HELD_PER_PARTITION_MAX};
use crate::producers::{Producers, Verdict};
use crate::seam::Level;
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
    epoch: LeaderEpoch,
    pub(crate) stage: Stage,
    /// `None` until it is the partition's turn to be opened.
    pub(super) log: Option<Box<Log>>,
    pub(super) commit_end: Offset,
    cached_end: Offset,
    /// Bytes of frames committed since the log was opened: fetches wait for it to rise.
    pub(super) committed_bytes: u64,
    /// Appended and not committed: each frame's end and bytes.
    uncommitted: VecDeque<(Offset, usize)>,
    /// By `end`.
    produces: VecDeque<WaitingProduce>,
    deletes: Vec<WaitingDelete>,
    pub(super) waiters: Vec<WaiterKey>,
    /// Reads and finds the log has not answered.
    pub(super) reads: Vec<(ReadId, WaiterKey)>,
    producers: Option<Box<Producers>>,
    /// In the shard's count of logs to be opened.
    pub(crate) counted: Counted,
    /// Why it cannot be written.
    trouble: Option<String>,
    pub(super) read_fault_told: bool,
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
struct WaitingProduce {
    slot: ReplySlot,
    acks: Acks,
    base: Offset,
    end: Offset,
    duplicate: bool,
    arrived: Duration,
}

#[derive(Debug)]
struct WaitingDelete {
    slot: ReplySlot,
    before: Offset,
    /// The log has been told; before that `before` was not durable.
    told: bool,
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
            commit_end: Offset::ZERO,
            cached_end: Offset::ZERO,
            committed_bytes: 0,
            uncommitted: VecDeque::new(),
            produces: VecDeque::new(),
            deletes: Vec::new(),
            waiters: Vec::new(),
            reads: Vec::new(),
            producers: None,
            counted: Counted::ToOpen,
            trouble: None,
            read_fault_told: false,
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
                | Request::InitProducer => unreachable!("not about a partition"),
            },
        }
    }

    /// Requests that were held until now, in the order they came.
    pub(crate) fn serve_held(&mut self, ctx: &mut Context, now: Now) {
        for key in std::mem::take(&mut self.waiters) {
            let waiter = ctx.remove_waiter(key);
            match waiter.what {
                Waiting::Held(request) => self.serve(ctx, now, waiter.slot, request),
                Waiting::Data { .. } | Waiting::Memory(_) | Waiting::Read { .. } | Waiting::Find(_) => {
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
            return ctx.reply(slot, refuse(&request, Refusal::NotReady));
        }
        let waiter = Waiter { slot, partition: self.key, deadline: None, what: Waiting::Held(request) };
        self.waiters.push(ctx.add_waiter(waiter));
    }

    fn produce(&mut self, ctx: &mut Context, now: Now, slot: ReplySlot, produce: Produce) {
        let Produce { acks, frame, .. } = produce;
        match self.accept(ctx, now, frame) {
            Err(error) => ctx.reply(slot, Response::Produce(Err(error))),
            Ok((base, end, duplicate)) => {
                let produce = WaitingProduce { slot, acks, base, end, duplicate, arrived: now.mono };
                match acks {
                    Acks::None => self.answer(ctx, &produce, Durability::Accepted, StageTimings::default()),
                    Acks::Leader | Acks::All => {
                        // Behind its equals: a duplicate waits for the batch it repeats.
                        let place = self.produces.partition_point(|other| other.end <= end);
                        self.produces.insert(place, produce);
                        ctx.tally.waiting_produces += 1;
                    }
                }
                self.advance_commit(ctx, now, Duration::ZERO);
            }
        }
    }

    /// Appends the batch or finds it stored before: its base and end, and which of the two it was.
    fn accept(
        &mut self,
        ctx: &mut Context,
        now: Now,
        mut frame: Frame,
    ) -> Result<(Offset, Offset, bool), ProduceError> {
        self.check_writable(ctx)?;
        check_batch(&frame, &self.topic.config)?;
        let count = frame.header().record_count;
        if let (Some(sent), Some(producers)) = (frame.header().producer, &self.producers) {
            match producers.judge(sent, count) {
                Verdict::New => {}
                Verdict::Duplicate(base) => return Ok((base, base.plus(count), true)),
                Verdict::OutOfSequence { expected } => {
                    return Err(ProduceError::OutOfSequence {
                        producer_id: sent.id,
                        sent: sent.base_sequence,
                        expected,
                    });
                }
                Verdict::Fenced { current } => {
                    return Err(ProduceError::ProducerFenced {
                        producer_id: sent.id,
                        sent: sent.epoch,
                        current,
                    });
                }
            }
        }
        let log = self.log.as_mut().expect("an open partition has a log");
        let base = log.staged_end();
        frame.assign(base, self.epoch);
        if self.topic.config.timestamps == TimestampKind::LogAppend {
            frame.set_append_time(now.wall);
        }
        if frame.header().producer.is_some() {
            self.producers.get_or_insert_default().note(now.mono, frame.header());
        }
        let (end, frame_bytes) = (base.plus(count), frame.header().frame_bytes());
        ctx.tally.produce_batches += 1;
        ctx.tally.produce_records += u64::from(count);
        ctx.tally.produce_bytes += frame_bytes as u64;
        log.append(now, frame);
        assert_eq!(log.staged_end(), end, "a frame's records follow each other");
        self.uncommitted.push_back((end, frame_bytes));
        Ok((base, end, false))
    }

    fn check_writable(&self, ctx: &Context) -> Result<(), ProduceError> {
        let log = self.log();
        match log.state() {
            LogState::Ready => {}
            LogState::Damaged { why, .. } => return Err(ProduceError::Damaged { why: why.clone() }),
            LogState::Failed { why } => return Err(ProduceError::StorageFailed { why: why.clone() }),
            LogState::Opening => return Err(ProduceError::NotLeader),
            LogState::Closing | LogState::Closed => return Err(ProduceError::ShuttingDown),
        }
        if ctx.space.is_short() || log.out_of_space() {
            return Err(ProduceError::NoSpace);
        }
        if ctx.budget.is_full() {
            return Err(ProduceError::Overloaded);
        }
        Ok(())
    }

    fn delete_records(&mut self, ctx: &mut Context, slot: ReplySlot, delete: DeleteRecords) {
        let (start, high) = (self.log().start(), self.commit_end);
        if let LogState::Failed { why } | LogState::Damaged { why, .. } = self.log().state() {
            let error = DeleteRecordsError::StorageFailed { why: why.clone() };
            return ctx.reply(slot, Response::DeleteRecords(Err(error)));
        }
        if delete.before > high {
            let error = DeleteRecordsError::OffsetOutOfRange {
                asked: delete.before,
                log_start: start,
                high_watermark: high,
            };
            return ctx.reply(slot, Response::DeleteRecords(Err(error)));
        }
        self.deletes.push(WaitingDelete { slot, before: delete.before, told: false });
        self.advance_deletes(ctx);
    }

    /// Tells the log of deletes whose offset has become durable and answers those that are done.
    fn advance_deletes(&mut self, ctx: &mut Context) {
        let Some(log) = &mut self.log else { return };
        for delete in &mut self.deletes {
            if !delete.told && delete.before <= log.durable_end() {
                delete.told = true;
                if delete.before > log.start() {
                    log.delete_before(delete.before);
                }
            }
        }
        let durable_start = log.durable_start();
        self.deletes.retain(|delete| {
            let done = delete.told && delete.before <= durable_start;
            if done {
                ctx.reply(delete.slot, Response::DeleteRecords(Ok(durable_start)));
            }
            !done
        });
    }

    /// Derives what is committed from what is durable and what is promised from memory, answers the produces
    /// below it and wakes the fetches that waited for it. `disk`: the time of the write that made it so.
    fn advance_commit(&mut self, ctx: &mut Context, now: Now, disk: Duration) {
        let log = self.log.as_ref().expect("an open partition has a log");
        let durable_end = log.durable_end();
        if self.topic.config.write_caching && *log.state() == LogState::Ready {
            self.cached_end = log.staged_end();
        }
        assert!(durable_end <= log.staged_end() && self.cached_end <= log.staged_end());
        let safe_end = durable_end.max(self.cached_end);
        assert!(self.commit_end <= safe_end, "what was committed stays committed");
        self.commit_end = safe_end;
        while let Some((_, bytes)) = self.uncommitted.pop_front_if(|(end, _)| *end <= safe_end) {
            self.committed_bytes += bytes as u64;
        }
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
        self.wake_fetches(ctx, now);
    }

    fn answer(
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
                }
            }
            LogEvent::Read(read, result) => self.on_read(ctx, now, read, result),
            LogEvent::Found(read, result) => self.on_found(ctx, read, result),
            LogEvent::Trimmed => self.advance_deletes(ctx),
            LogEvent::Failed => self.on_failed(ctx),
            LogEvent::Closed => {
                self.stage = Stage::Closed;
                ctx.changed.push(self.key);
            }
            LogEvent::Note(what) => ctx.event(Level::Info, "log_note", self.fields([("note", what)])),
        }
    }

    fn on_opened(&mut self, ctx: &mut Context, now: Now, recovered: &Recovered) {
        if self.stage == Stage::Removing {
            return;
        }
        assert_eq!(self.stage, Stage::Opening);
        self.stage = Stage::Open;
        ctx.changed.push(self.key);
        let log = self.log.as_ref().expect("just opened");
        let end = log.durable_end();
        assert_eq!(log.staged_end(), end, "nothing is appended before a log is open");
        self.commit_end = end;
        self.cached_end = end;
        let (start, state) = (log.start(), log.state().clone());
        match Producers::recover(recovered.app_state.as_deref(), &recovered.headers, end, now.mono) {
            Some(producers) if producers.is_empty() => {}
            Some(producers) => self.producers = Some(Box::new(producers)),
            None => {
                let fields =
                    self.fields([("why", "stored producers do not decode: duplicates may pass".into())]);
                ctx.event(Level::Error, "producers_lost", fields);
            }
        }
        if let LogState::Damaged { why, .. } = state {
            ctx.event(
                Level::Error,
                "log_damaged",
                self.fields([("why", why.clone()), ("end", end.to_string())]),
            );
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
    }

    fn on_failed(&mut self, ctx: &mut Context) {
        let why = match self.log().state() {
            LogState::Failed { why } => why.clone(),
            other => unreachable!("told of a failure in {other:?}"),
        };
        ctx.event(Level::Error, "log_failed", self.fields([("why", why.clone())]));
        match self.stage {
            Stage::Opening => self.stage = Stage::Open,
            // What is left on disk is removed by the next start.
            Stage::Closing | Stage::Removing => self.stage = Stage::Closed,
            Stage::Unopened | Stage::Open | Stage::Closed => {}
        }
        ctx.changed.push(self.key);
        self.trouble = Some(why.clone());
        self.uncommitted.clear();
        for produce in std::mem::take(&mut self.produces) {
            ctx.tally.waiting_produces -= 1;
            let error = ProduceError::StorageFailed { why: why.clone() };
            ctx.reply(produce.slot, Response::Produce(Err(error)));
        }
        for delete in std::mem::take(&mut self.deletes) {
            let error = DeleteRecordsError::StorageFailed { why: why.clone() };
            ctx.reply(delete.slot, Response::DeleteRecords(Err(error)));
        }
        self.end_data_waits(ctx, &Refusal::StorageFailed(why));
    }

    /// The topic is gone: everybody who waits is told, the files go.
    pub(crate) fn remove(&mut self, ctx: &mut Context, now: Now) {
        if self.stage == Stage::Unopened {
            self.open(now);
        }
        self.refuse_all(ctx, &Refusal::UnknownPartition);
        self.trouble = None;
        self.stage = Stage::Removing;
        ctx.changed.push(self.key);
        self.log.as_mut().expect("opened above or before").remove();
    }

    /// Nothing new from here on; what was accepted is finished.
    pub(crate) fn close(&mut self, ctx: &mut Context, now: Now) {
        self.end_waits(ctx, &Refusal::ShuttingDown);
        match self.stage {
            Stage::Unopened => self.stage = Stage::Closed,
            Stage::Open if *self.log().state() == LogState::Ready => {
                self.stage = Stage::Closing;
                // The state describes every frame, so the next start reads no headers.
                let state = self.encode_producers(now);
                let log = self.log.as_mut().expect("an open partition has a log");
                log.set_app_state(log.staged_end(), state);
                log.close();
            }
            // Damaged or failed: nothing may be written, least of all a marker that says all is well.
            Stage::Open => {
                self.refuse_all(ctx, &Refusal::ShuttingDown);
                self.stage = Stage::Closed;
            }
            // Opening ends first, then `close` is called again.
            Stage::Opening | Stage::Closing | Stage::Removing | Stage::Closed => return,
        }
        ctx.changed.push(self.key);
    }

    fn refuse_all(&mut self, ctx: &mut Context, refusal: &Refusal) {
        for produce in std::mem::take(&mut self.produces) {
            ctx.tally.waiting_produces -= 1;
            let error = match refusal {
                Refusal::UnknownPartition => ProduceError::UnknownPartition,
                Refusal::NotReady => ProduceError::NotLeader,
                Refusal::StorageFailed(why) => ProduceError::StorageFailed { why: why.clone() },
                Refusal::ShuttingDown => ProduceError::ShuttingDown,
            };
            ctx.reply(produce.slot, Response::Produce(Err(error)));
        }
        for delete in std::mem::take(&mut self.deletes) {
            let error = match refusal {
                Refusal::UnknownPartition => DeleteRecordsError::UnknownPartition,
                Refusal::NotReady => DeleteRecordsError::NotLeader,
                Refusal::StorageFailed(why) => DeleteRecordsError::StorageFailed { why: why.clone() },
                Refusal::ShuttingDown => DeleteRecordsError::ShuttingDown,
            };
            ctx.reply(delete.slot, Response::DeleteRecords(Err(error)));
        }
        self.uncommitted.clear();
        self.end_waits(ctx, refusal);
    }

    /// What the log is to be told before it is asked what it wants.
    pub(crate) fn before_ops(&mut self, now: Now) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        let log = self.log();
        if log.wants_app_state() {
            let end = log.staged_end();
            let state = self.encode_producers(now);
            self.log.as_mut().expect("an open partition has a log").set_app_state(end, state);
        }
    }

    fn encode_producers(&mut self, now: Now) -> Bytes {
        self.producers.as_mut().map_or_else(Bytes::new, |producers| Bytes::from(producers.encode(now.mono)))
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

/// What the header claims must be possible before offsets are given away for it.
fn check_batch(frame: &Frame, config: &TopicConfig) -> Result<(), ProduceError> {
    let header = frame.header();
    let (batch_bytes, batch_bytes_max) = (u64::from(header.payload_bytes), config.batch_bytes_max());
    if batch_bytes > batch_bytes_max {
        return Err(ProduceError::TooLarge { batch_bytes, batch_bytes_max });
    }
    let invalid = |why: String| Err(ProduceError::Invalid { why });
    if header.record_count == 0 || header.record_count > BATCH_RECORDS_MAX {
        return invalid(format!(
            "it claims {} records, 1 to {BATCH_RECORDS_MAX} are possible",
            header.record_count
        ));
    }
    if header.first_timestamp > header.max_timestamp {
        return invalid("its first timestamp is above its largest".into());
    }
    match (header.encoding, header.codec) {
        // The index is checked, which costs the same for every size; records are left to their readers.
        (Encoding::Archived, Codec::None) => match BatchView::open(frame) {
            Ok(_) => Ok(()),
            Err(error) => invalid(error.to_string()),
        },
        // A compressed batch and Kafka's are opaque here.
        (Encoding::Archived, Codec::Lz4 | Codec::Zstd) | (Encoding::KafkaV2, _) => Ok(()),
    }
}

fn log_config(config: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_age_max: config.segment_age_max,
        retention_bytes: config.retention_bytes,
        retention_age: config.retention_age,
        write_back_delay: config.write_caching.then_some(config.flush_delay),
    }
}
