//! The coordinator that lives in a partition of the offsets topic: read in from its log, its records appended, its
//! askers answered.
//!
//! ```text
//! Opening -> Loading -> Running -> Ended
//!                 \________\______-> Ended
//! ```
//! What must hold: nothing is appended before everything is read; a ticket is told of once, in the order in which
//! the records were appended, when they are on stable storage or never will be; once it has ended nobody who asked
//! is left without an answer, and nobody is served again before the next start.
//!
//! Lives on: the partition's core. Does not know: what a group is, encodings of requests.

use std::collections::{BTreeSet, VecDeque};

use engine_api::{GroupError, GroupListing, GroupRequest, ProduceError, ReplySlot, Response};
use engine_groups::{Groups, GroupsConfig, Measured, StoredRecord, Topics};
use storage_frame::{BatchBuilder, BatchError, BatchView, Frame, Now, Offset, TimestampMs};
use storage_log::{Read, ReadError, ReadId};

use crate::context::{Context, Refusal};
use crate::lags::Place;
use crate::limits::{LOAD_READ_BYTES, STORES_WAITING_MAX};
use crate::partition::{Partition, Stage};
use crate::seam::Level;

#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(super) groups: Groups,
    pub(super) stage: Loaded,
    /// Appended and not on stable storage, oldest first: where the records end, and the ticket.
    pub(super) stores: VecDeque<(Offset, u64)>,
    /// What was restored has been held against the topics there are.
    knows_topics: bool,
}

#[derive(Debug)]
pub(super) enum Loaded {
    /// The log is not open.
    Opening,
    Loading(Load),
    Running,
    /// Why nobody is served any more.
    Ended(GroupError),
}

/// The log being read from its start.
#[derive(Debug)]
pub(super) struct Load {
    next: Offset,
    end: Offset,
    reading: Option<ReadId>,
}

impl Coordinator {
    pub(super) fn new(groups: Groups) -> Self {
        Self { groups, stage: Loaded::Opening, stores: VecDeque::new(), knows_topics: false }
    }

    fn refusal(&self) -> Option<GroupError> {
        match &self.stage {
            Loaded::Opening | Loaded::Loading(_) => Some(GroupError::Loading),
            Loaded::Running => None,
            Loaded::Ended(error) => Some(error.clone()),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.stage, Loaded::Running)
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// # Errors
    /// [`GroupError::Loading`] while not everything is known. One that has ended has nothing to list.
    pub(crate) fn list(&self) -> Result<Vec<GroupListing>, GroupError> {
        match &self.stage {
            Loaded::Opening | Loaded::Loading(_) => Err(GroupError::Loading),
            Loaded::Running => Ok(self.groups.list()),
            Loaded::Ended(_) => Ok(Vec::new()),
        }
    }
}

impl Partition {
    pub(crate) fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_deref()
    }

    /// It is a partition of the offsets topic: `true` when that is new.
    pub(crate) fn coordinate(&mut self, config: GroupsConfig, now: Now) -> bool {
        let is_new = self.coordinator.is_none();
        if is_new {
            assert_eq!(self.stage, Stage::Unopened, "it is taken in before it is opened");
            self.coordinator = Some(Box::new(Coordinator::new(Groups::new(config, now))));
        }
        is_new
    }

    /// Whoever asks is answered now, or when the coordinator says so.
    pub(crate) fn ask_group(
        &mut self,
        ctx: &mut Context,
        now: Now,
        slot: ReplySlot,
        request: GroupRequest,
        topics: &dyn Topics,
    ) {
        let Some(coordinator) = &mut self.coordinator else {
            return ctx.reply(slot, Response::Group(Err(GroupError::NotReady)));
        };
        if let Some(error) = coordinator.refusal() {
            reach::mark!("shard.group_asked_while_loading", error == GroupError::Loading);
            return ctx.reply(slot, Response::Group(Err(error)));
        }
        ctx.group_asks.insert(slot, self.key);
        coordinator.groups.handle(ctx.heard(now), slot, request, topics);
        self.follow_groups(ctx, now);
    }

    /// The asker is gone.
    pub(crate) fn cancel_group(&mut self, ctx: &mut Context, now: Now, slot: ReplySlot) {
        reach::mark!("shard.group_ask_cancelled");
        ctx.group_asks.remove(&slot);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.groups.cancel(ctx.heard(now), slot);
            self.follow_groups(ctx, now);
        }
    }

    /// What was committed for a topic that is deleted means nothing.
    pub(crate) fn forget_topic(&mut self, ctx: &mut Context, now: Now, topic: &str) {
        if let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.is_running()) {
            coordinator.groups.topic_deleted(ctx.heard(now), topic);
            self.follow_groups(ctx, now);
        }
    }

    /// It was deleted while this was not running, or in a former life.
    fn forget_gone_topics(&mut self, heard: Now, topics: &dyn Topics) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let committed = coordinator.groups.committed().map(|(_, topic, ..)| topic);
        let gone: BTreeSet<String> =
            committed.filter(|topic| topics.partitions(topic).is_none()).map(str::to_owned).collect();
        for topic in gone {
            reach::mark!("shard.offsets_of_gone_topic");
            coordinator.groups.topic_deleted(heard, &topic);
        }
    }

    /// Timeouts; and loading goes on when there was no memory for it before.
    pub(crate) fn tick_groups(&mut self, ctx: &mut Context, now: Now, topics: &dyn Topics) {
        let Some(coordinator) = &mut self.coordinator else { return };
        match coordinator.stage {
            Loaded::Running => {
                if !std::mem::replace(&mut coordinator.knows_topics, true) {
                    self.forget_gone_topics(ctx.heard(now), topics);
                }
                let coordinator = self.coordinator.as_mut().expect("just seen");
                coordinator.groups.tick(ctx.heard(now), topics);
                self.follow_groups(ctx, now);
            }
            Loaded::Loading(_) => self.load_groups(ctx, now),
            Loaded::Opening | Loaded::Ended(_) => {}
        }
    }

    /// Of a place that one of its groups is at.
    pub(crate) fn lag_measured(&mut self, ctx: &mut Context, now: Now, place: &Place, lag: Measured) {
        if let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.is_running()) {
            let heard = ctx.heard(now);
            coordinator.groups.lag_measured(heard, &place.group, &place.topic, place.partition.index, lag);
            self.follow_groups(ctx, now);
        }
    }

    /// The log is open: what it holds is read, if it is whole.
    pub(super) fn begin_groups(&mut self, ctx: &mut Context, now: Now) {
        let (start, end) = (self.log().start(), self.commit_end);
        let Some(coordinator) = &mut self.coordinator else { return };
        if let Some(why) = self.trouble.clone() {
            reach::mark!("shard.groups_of_damaged_log");
            coordinator.stage = Loaded::Ended(GroupError::StorageFailed { why });
            return;
        }
        coordinator.stage = Loaded::Loading(Load { next: start, end, reading: None });
        self.load_groups(ctx, now);
    }

    /// Reads on, a piece at a time, as far as memory allows.
    fn load_groups(&mut self, ctx: &mut Context, now: Now) {
        loop {
            let Some(Coordinator { stage: Loaded::Loading(load), .. }) = self.coordinator.as_deref_mut()
            else {
                return;
            };
            if load.reading.is_some() || self.stage != Stage::Open {
                return;
            }
            if load.next >= load.end {
                return self.end_loading(ctx, now);
            }
            if !ctx.budget.may_read(LOAD_READ_BYTES) {
                reach::mark!("shard.group_load_waits_for_memory");
                return;
            }
            let log = self.log.as_mut().expect("an open partition has a log");
            match log.read(load.next, load.end, LOAD_READ_BYTES) {
                Read::Now(frames) => self.take_loaded(ctx, Ok(frames)),
                Read::Pending(read) => {
                    load.reading = Some(read);
                    ctx.budget.begin_read(LOAD_READ_BYTES);
                    return;
                }
            }
        }
    }

    /// Gives `result` back when the read was not the coordinator's.
    pub(super) fn on_group_read(
        &mut self,
        ctx: &mut Context,
        now: Now,
        read: ReadId,
        result: Result<Vec<Frame>, ReadError>,
    ) -> Option<Result<Vec<Frame>, ReadError>> {
        let Some(Coordinator { stage: Loaded::Loading(load), .. }) = self.coordinator.as_deref_mut() else {
            return Some(result);
        };
        if load.reading.take_if(|reading| *reading == read).is_none() {
            return Some(result);
        }
        ctx.budget.end_read(LOAD_READ_BYTES);
        self.take_loaded(ctx, result);
        self.load_groups(ctx, now);
        None
    }

    fn take_loaded(&mut self, ctx: &mut Context, read: Result<Vec<Frame>, ReadError>) {
        let Some(coordinator) = self.coordinator.as_deref_mut() else { return };
        let Loaded::Loading(load) = &mut coordinator.stage else { return };
        let taken = read
            .map_err(|error| error.to_string())
            .and_then(|frames| restore(&mut coordinator.groups, load, &frames));
        if let Err(why) = taken {
            reach::mark!("shard.groups_not_readable");
            let why = format!("groups cannot be read at offset {}: {why}", load.next);
            ctx.event(Level::Error, "groups_lost", self.fields([("why", why.clone())]));
            self.trouble = Some(why.clone());
            ctx.changed.push(self.key);
            self.end_groups(ctx, &Refusal::StorageFailed(why));
        }
    }

    fn end_loading(&mut self, ctx: &mut Context, now: Now) {
        let coordinator = self.coordinator.as_deref_mut().expect("it is loading");
        coordinator.stage = Loaded::Running;
        coordinator.groups.loaded(ctx.heard(now));
        let groups = coordinator.groups.list().len();
        if groups > 0 {
            ctx.event(Level::Info, "groups_loaded", self.fields([("groups", groups.to_string())]));
        }
        self.follow_groups(ctx, now);
    }

    /// What has been appended for the coordinator and is safe now.
    pub(super) fn advance_stores(&mut self, ctx: &mut Context, now: Now) {
        let durable_end = self.log().durable_end();
        let Some(coordinator) = &mut self.coordinator else { return };
        let mut told = false;
        while let Some((_, ticket)) = coordinator.stores.pop_front_if(|(end, _)| *end <= durable_end) {
            coordinator.groups.stored(ctx.heard(now), ticket);
            told = true;
        }
        if told {
            self.follow_groups(ctx, now);
        }
    }

    /// Does what the coordinator wants, until it wants nothing.
    pub(super) fn follow_groups(&mut self, ctx: &mut Context, now: Now) {
        while let Some(effect) = self.coordinator.as_mut().and_then(|coordinator| coordinator.groups.poll()) {
            match effect {
                engine_groups::Effect::Reply(slot, result) => {
                    if ctx.group_asks.remove(&slot).is_some() {
                        ctx.reply(slot, Response::Group(result));
                    }
                }
                engine_groups::Effect::Store { ticket, records } => {
                    if let Err(error) = self.store(ctx, now, ticket, &records) {
                        reach::mark!("shard.group_store_refused");
                        let coordinator = self.coordinator.as_mut().expect("it wants something");
                        coordinator.groups.store_failed(ctx.heard(now), ticket, error);
                    }
                }
                engine_groups::Effect::Event(name, mut fields) => {
                    ctx.tally.count_group_event(name, &fields);
                    fields.push(("offsets_partition", self.id.index.to_string()));
                    ctx.event(Level::Info, name, fields);
                }
            }
        }
    }

    /// Appends the records as one frame.
    fn store(
        &mut self,
        ctx: &mut Context,
        now: Now,
        ticket: u64,
        records: &[StoredRecord],
    ) -> Result<(), GroupError> {
        let waiting = self.coordinator.as_ref().map_or(0, |coordinator| coordinator.stores.len());
        if waiting >= STORES_WAITING_MAX {
            return Err(GroupError::Overloaded);
        }
        self.check_writable(ctx).map_err(of_produce)?;
        let mut frame = build(now.wall, records)?;
        let (bytes, bytes_max) =
            (u64::from(frame.header().payload_bytes), self.topic.config.batch_bytes_max());
        if bytes > bytes_max {
            reach::mark!("shard.group_record_too_large");
            return Err(GroupError::TooLarge { bytes, bytes_max });
        }
        let log = self.log.as_mut().expect("an open partition has a log");
        let base = log.staged_end();
        frame.assign(base, self.epoch);
        let (end, frame_bytes) = (frame.header().end_offset(), frame.header().frame_bytes());
        log.append(now, frame);
        assert_eq!(log.staged_end(), end, "a frame's records follow each other");
        self.uncommitted.push_back((end, frame_bytes));
        self.coordinator.as_mut().expect("it stores").stores.push_back((end, ticket));
        Ok(())
    }

    /// Nobody is served any more: those who wait are told why.
    pub(super) fn end_groups(&mut self, ctx: &mut Context, refusal: &Refusal) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if let Loaded::Loading(Load { reading: Some(_), .. }) = coordinator.stage {
            reach::mark!("shard.groups_end_while_loading");
            ctx.budget.end_read(LOAD_READ_BYTES);
        }
        let error = GroupError::from(refusal.clone());
        coordinator.stores.clear();
        coordinator.stage = Loaded::Ended(error.clone());
        let mine = |(slot, key): (&ReplySlot, &usize)| (*key == self.key).then_some(*slot);
        for slot in ctx.group_asks.iter().filter_map(mine).collect::<Vec<_>>() {
            reach::mark!("shard.group_ask_ended");
            ctx.group_asks.remove(&slot);
            ctx.reply(slot, Response::Group(Err(error.clone())));
        }
    }
}

fn restore(groups: &mut Groups, load: &mut Load, frames: &[Frame]) -> Result<(), String> {
    if frames.is_empty() {
        return Err("a read below the end found nothing".to_owned());
    }
    for frame in frames {
        restore_frame(groups, frame).map_err(|error| error.to_string())?;
        load.next = frame.header().end_offset();
    }
    Ok(())
}

fn restore_frame(groups: &mut Groups, frame: &Frame) -> Result<(), BatchError> {
    for record in BatchView::open(frame)?.records() {
        let record = record?;
        // A record without a key is nobody's.
        if let Some(key) = record.key {
            groups.restore(StoredRecord {
                key: bytes::Bytes::copy_from_slice(key),
                value: record.value.map(bytes::Bytes::copy_from_slice),
            });
        }
    }
    Ok(())
}

fn build(at: TimestampMs, records: &[StoredRecord]) -> Result<Frame, GroupError> {
    let mut builder = BatchBuilder::new();
    for record in records {
        let pushed = builder.push(at, Some(&record.key), record.value.as_deref(), []);
        pushed.map_err(|error| GroupError::StorageFailed { why: error.to_string() })?;
    }
    Ok(builder.seal(None))
}

fn of_produce(error: ProduceError) -> GroupError {
    match error {
        ProduceError::NoSpace => GroupError::NoSpace,
        ProduceError::Overloaded => GroupError::Overloaded,
        ProduceError::ShuttingDown => GroupError::ShuttingDown,
        ProduceError::NotLeader => GroupError::NotReady,
        ProduceError::StorageFailed { why } | ProduceError::Damaged { why } => {
            GroupError::StorageFailed { why }
        }
        other @ (ProduceError::UnknownPartition
        | ProduceError::TooLarge { .. }
        | ProduceError::Invalid { .. }
        | ProduceError::OutOfSequence { .. }
        | ProduceError::ProducerFenced { .. }) => GroupError::StorageFailed { why: other.to_string() },
    }
}
