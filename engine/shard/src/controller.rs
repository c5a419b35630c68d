//! Core 0's controller: the metadata log, and changes of metadata from being asked to being answered.
//!
//! A change is checked against the state as of the last one, appended, and once durable applied here and
//! published; it is answered when every core has applied it, so whoever hears of a topic finds it on any core.
//! One change is written at a time: each is checked against what the one before it left.
//!
//! Replay refuses rather than guesses: a log that does not decode, or that belongs to another cluster, leaves
//! the node without metadata, and nothing on disk is touched.

use std::collections::VecDeque;
use std::ops::Range;

use engine_api::{
    AlterTopic, CoreId, CreateTopic, DeleteTopic, GroupError, InitProducerError, ReplySlot, Request,
    Response, TopicError, TopicId,
};
use engine_meta::{ClusterState, Command, check};
use storage_frame::{LogId, Now, Offset};
use storage_log::{DiskResult, Log, LogEvent, LogState, OpId};

use crate::context::{Context, Refusal, refuse};
use crate::limits::{CHANGES_MAX, PRODUCER_IDS_BLOCK};
use crate::meta_log::{self, Replay, Replayed};
use crate::offsets;
use crate::seam::{Effect, Level};
use crate::sweep::Sweep;

/// The metadata log's id.
pub(crate) const META_LOG: LogId = LogId(0);

#[derive(Debug)]
pub(crate) struct Controller {
    log: Log,
    stage: Stage,
    queue: VecDeque<Asked>,
    writing: Option<Writing>,
    /// Applied here and not yet everywhere, oldest first.
    unacked: VecDeque<Unacked>,
    /// The version each core has applied.
    acked: Vec<u64>,
    /// Allocated and not given away.
    producer_ids: Range<u64>,
    since_snapshot_bytes: usize,
    snapshot_bytes: usize,
    sweep: Sweep,
    /// It is being made, or there.
    offsets_topic_wanted: bool,
    /// Random state for topic ids.
    entropy: u64,
    memory_bytes: usize,
    events: Vec<LogEvent>,
}

#[derive(Debug)]
enum Stage {
    Opening,
    Replaying(Box<Replay>),
    /// This start is being written; the state already has it.
    Starting(Box<ClusterState>),
    Running,
    Closing,
    Closed,
    /// Why there is no metadata, or no more changes to it.
    Unusable(String),
}

#[derive(Debug)]
enum Asked {
    Create(ReplySlot, CreateTopic),
    Alter(ReplySlot, AlterTopic),
    Delete(ReplySlot, DeleteTopic),
    Producer(ReplySlot),
    Forget(Vec<(u64, u64)>),
    OffsetsTopic,
}

#[derive(Debug)]
struct Writing {
    end: Offset,
    what: Written,
}

#[derive(Debug)]
enum Written {
    Start,
    Change(Command, Origin),
    Snapshot { base: Offset },
}

/// Who is answered for a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    Create(ReplySlot),
    Alter(ReplySlot),
    Delete(ReplySlot),
    Nobody,
}

#[derive(Debug)]
struct Unacked {
    version: u64,
    slot: ReplySlot,
    response: Response,
}

/// What the shard is to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Begin with this state.
    Load(Box<ClusterState>),
    /// Durable: apply it, then [`Controller::on_applied`].
    Apply(Command, Origin),
}

impl Controller {
    pub(crate) fn new(ctx: &Context, now: Now) -> Self {
        Self {
            log: Log::open(META_LOG, "metadata", meta_log::config(ctx.config.metadata_snapshot_bytes), now),
            stage: Stage::Opening,
            queue: VecDeque::new(),
            writing: None,
            unacked: VecDeque::new(),
            acked: vec![0; usize::from(ctx.config.cores)],
            producer_ids: 0..0,
            since_snapshot_bytes: 0,
            snapshot_bytes: 0,
            sweep: Sweep::default(),
            offsets_topic_wanted: false,
            entropy: ctx.config.seed,
            memory_bytes: 0,
            events: Vec::new(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed | Stage::Unusable(_)) && !self.sweep.is_under_way()
    }

    /// A change of metadata, or an id for a producer.
    pub(crate) fn ask(&mut self, ctx: &mut Context, slot: ReplySlot, request: Request) {
        if let Some(refusal) = offsets::protect(&request).or_else(|| self.refusal(ctx, &request)) {
            return ctx.reply(slot, refusal);
        }
        self.queue.push_back(match request {
            Request::CreateTopic(create) => Asked::Create(slot, create),
            Request::AlterTopic(alter) => Asked::Alter(slot, alter),
            Request::DeleteTopic(delete) => Asked::Delete(slot, delete),
            Request::InitProducer => Asked::Producer(slot),
            Request::Produce(_)
            | Request::Fetch(_)
            | Request::FindOffset(_)
            | Request::DeleteRecords(_)
            | Request::DescribeTopics(_)
            | Request::DescribeCluster
            | Request::Group(_)
            | Request::ListGroups(_)
            | Request::MeasureLag(_)
            | Request::CheckTopic(_)
            | Request::DescribeLogs(_) => unreachable!("not the controller's"),
        });
    }

    fn refusal(&self, ctx: &Context, request: &Request) -> Option<Response> {
        if let Stage::Unusable(why) = &self.stage {
            reach::mark!("shard.change_without_metadata");
            return Some(refuse(request, Refusal::StorageFailed(why.clone())));
        }
        if self.queue.len() + self.unacked.len() >= CHANGES_MAX {
            reach::mark!("shard.too_many_changes");
            return Some(refuse(request, Refusal::NotReady));
        }
        if !ctx.space.is_short() && !self.log.out_of_space() {
            return None;
        }
        reach::mark!("shard.change_without_space");
        // Deleting goes on, and so does making retention shorter: that is how space comes back.
        match request {
            Request::CreateTopic(_) => Some(Response::CreateTopic(Err(TopicError::NoSpace))),
            Request::AlterTopic(alter) => {
                alter.partitions.map(|_| Response::AlterTopic(Err(TopicError::NoSpace)))
            }
            Request::InitProducer => (self.producer_ids.is_empty() && self.log.out_of_space())
                .then_some(Response::InitProducer(Err(InitProducerError::NoSpace))),
            Request::DeleteTopic(_)
            | Request::Produce(_)
            | Request::Fetch(_)
            | Request::FindOffset(_)
            | Request::DeleteRecords(_)
            | Request::DescribeTopics(_)
            | Request::DescribeCluster
            | Request::Group(_)
            | Request::ListGroups(_)
            | Request::MeasureLag(_)
            | Request::CheckTopic(_)
            | Request::DescribeLogs(_) => None,
        }
    }

    /// Somebody needs the topic that groups' state is kept in, and there is none: why it must wait.
    pub(crate) fn want_offsets_topic(&mut self, ctx: &Context) -> GroupError {
        if let Stage::Unusable(why) = &self.stage {
            return GroupError::StorageFailed { why: why.clone() };
        }
        if ctx.space.is_short() || self.log.out_of_space() {
            reach::mark!("shard.offsets_topic_without_space");
            return GroupError::NoSpace;
        }
        if !std::mem::replace(&mut self.offsets_topic_wanted, true) {
            reach::mark!("shard.offsets_topic_made");
            self.queue.push_back(Asked::OffsetsTopic);
        }
        GroupError::NotReady
    }

    /// The next thing to do, until there is none. `state`: with everything applied that was returned before.
    pub(crate) fn poll(&mut self, ctx: &mut Context, now: Now, state: &ClusterState) -> Option<Step> {
        self.replay(ctx, now);
        let durable_end = self.log.durable_end();
        if let Some(writing) = self.writing.take_if(|writing| writing.end <= durable_end) {
            match writing.what {
                Written::Start => {
                    let Stage::Starting(state) = std::mem::replace(&mut self.stage, Stage::Running) else {
                        unreachable!("a start is written while starting");
                    };
                    self.sweep = Sweep::new(state.removed_logs());
                    if ctx.stopping {
                        reach::mark!("shard.stopped_while_starting");
                        self.sweep.stop();
                    }
                    return Some(Step::Load(state));
                }
                Written::Change(command, origin) => return Some(Step::Apply(command, origin)),
                Written::Snapshot { base } => {
                    reach::mark!("shard.metadata_snapshot");
                    self.log.delete_before(base);
                }
            }
        }
        if let Some(logs) = self.sweep.take_swept() {
            reach::mark!("shard.removed_logs_forgotten");
            self.queue.push_back(Asked::Forget(logs));
        }
        self.decide(ctx, now, state);
        self.close_when_done(ctx);
        None
    }

    /// The shard has applied `command`, which made `state`.
    pub(crate) fn on_applied(
        &mut self,
        ctx: &mut Context,
        state: &ClusterState,
        command: &Command,
        origin: Origin,
    ) {
        match command {
            Command::CreateTopic { name, partitions, .. } => {
                let fields = vec![("topic", name.clone()), ("partitions", partitions.to_string())];
                ctx.event(Level::Info, "topic_created", fields);
            }
            Command::AlterTopic { id, .. } => {
                let name = state.topic(TopicId(*id)).map(|topic| topic.name.clone()).unwrap_or_default();
                ctx.event(Level::Info, "topic_altered", vec![("topic", name)]);
            }
            Command::DeleteTopic { id } => {
                ctx.event(Level::Info, "topic_deleted", vec![("topic_id", TopicId(*id).to_string())]);
            }
            Command::AllocateProducerIds { count } => {
                let end = state.next_producer();
                self.producer_ids = end - u64::from(*count)..end;
            }
            Command::NodeStarted { .. } | Command::ForgetLogs { .. } => {}
        }
        let describe = |id: &u128| {
            let topic = state.topic(TopicId(*id)).expect("just made or changed");
            check::describe(topic, &ctx.config.topic_defaults)
        };
        let answer = match (origin, command) {
            (Origin::Create(slot), Command::CreateTopic { id, .. }) => {
                (slot, Response::CreateTopic(Ok(describe(id))))
            }
            (Origin::Alter(slot), Command::AlterTopic { id, .. }) => {
                (slot, Response::AlterTopic(Ok(describe(id))))
            }
            (Origin::Delete(slot), Command::DeleteTopic { .. }) => (slot, Response::DeleteTopic(Ok(()))),
            _ => return self.on_acked(ctx, CoreId(0), state.version()),
        };
        let (slot, response) = answer;
        self.unacked.push_back(Unacked { version: state.version(), slot, response });
        self.on_acked(ctx, CoreId(0), state.version());
    }

    /// `core` has applied everything up to `version`.
    pub(crate) fn on_acked(&mut self, ctx: &mut Context, core: CoreId, version: u64) {
        let acked = &mut self.acked[usize::from(core.0)];
        *acked = version.max(*acked);
        let everywhere = self.acked.iter().copied().min().unwrap_or(version);
        reach::mark!(
            "shard.change_waits_for_cores",
            self.unacked.front().is_some_and(|change| change.version > everywhere)
        );
        // A stopping node does not wait for its cores: the change is durable, and all start from it.
        while let Some(done) =
            self.unacked.pop_front_if(|change| change.version <= everywhere || ctx.stopping)
        {
            ctx.reply(done.slot, done.response);
        }
    }

    pub(crate) fn on_disk(&mut self, ctx: &mut Context, now: Now, op: OpId, result: DiskResult) {
        let mut events = std::mem::take(&mut self.events);
        self.log.on_disk(now, op, result, &mut events);
        self.on_log_events(ctx, &mut events);
        self.events = events;
    }

    /// A removed log's files are gone, or could not be removed.
    pub(crate) fn on_swept(&mut self, ctx: &mut Context, log: LogId, result: DiskResult) {
        if let Some(why) = self.sweep.on_swept(log, result) {
            ctx.event(Level::Error, "log_not_removed", vec![("log", log.to_string()), ("why", why)]);
        }
    }

    pub(crate) fn on_tick(&mut self, ctx: &mut Context, now: Now) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        let mut events = std::mem::take(&mut self.events);
        self.log.on_tick(now, &mut events);
        self.on_log_events(ctx, &mut events);
        self.events = events;
    }

    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        assert!(ctx.stopping);
        self.sweep.stop();
        for asked in std::mem::take(&mut self.queue) {
            reach::mark!("shard.change_refused_by_stop");
            refuse_asked(ctx, asked, &Refusal::ShuttingDown);
        }
        self.on_acked(ctx, CoreId(0), 0);
    }

    pub(crate) fn end_turn(&mut self, ctx: &mut Context, now: Now, out: &mut Vec<Effect>) {
        if self.log.wants_app_state() {
            // The log is its own state; there is none beside it.
            self.log.set_app_state(self.log.staged_end(), bytes::Bytes::new());
        }
        let mut ops = Vec::new();
        self.log.take_ops(now, &mut ops);
        out.extend(ops.into_iter().map(|(op, what)| Effect::Disk { log: META_LOG, op, what }));
        self.sweep.take_ops(out);
        ctx.budget.move_log(self.memory_bytes, self.log.memory_bytes());
        self.memory_bytes = self.log.memory_bytes();
    }

    fn on_log_events(&mut self, ctx: &mut Context, events: &mut Vec<LogEvent>) {
        for event in events.drain(..) {
            match event {
                LogEvent::Opened(_) => {
                    if let LogState::Damaged { why, .. } = self.log.state() {
                        reach::mark!("shard.metadata_damaged");
                        let why = format!("metadata log is damaged: {why}");
                        self.give_up(ctx, why);
                    } else if matches!(self.stage, Stage::Opening) {
                        let replay = Replay::new(self.log.start(), self.log.durable_end());
                        self.stage = Stage::Replaying(Box::new(replay));
                    }
                }
                LogEvent::Read(read, result) => {
                    if let Stage::Replaying(replay) = &mut self.stage {
                        replay.on_read(read, result);
                    }
                }
                LogEvent::Failed { why } => {
                    reach::mark!("shard.metadata_failed");
                    let why = format!("metadata log failed: {why}");
                    self.give_up(ctx, why);
                }
                LogEvent::Closed => self.stage = Stage::Closed,
                LogEvent::Compacted(_) => unreachable!("nobody compacts the metadata log this way"),
                LogEvent::Note(what) => ctx.event(Level::Info, "metadata_log_note", vec![("note", what)]),
                LogEvent::Durable { .. } | LogEvent::Trimmed | LogEvent::Found(..) => {}
            }
        }
    }

    /// Reads on, and begins this start's record when everything is read.
    fn replay(&mut self, ctx: &mut Context, now: Now) {
        let Stage::Replaying(replay) = &mut self.stage else { return };
        if ctx.stopping {
            return;
        }
        let mut state = match replay.advance(&mut self.log) {
            Replayed::NotYet => return,
            Replayed::Refused(why) => {
                reach::mark!("shard.metadata_refused");
                return self.give_up(ctx, why);
            }
            Replayed::Done(state) => state,
        };
        self.since_snapshot_bytes = replay.bytes();
        let start = Command::NodeStarted {
            cluster_id: ctx.config.cluster_id,
            node: ctx.config.node.0,
            incarnation: ctx.config.incarnation,
            cores: ctx.config.cores,
            address: ctx.config.address.clone(),
        };
        if self.log.last_epoch().0 > ctx.config.incarnation {
            reach::mark!("shard.metadata_from_later_start");
            let why = format!("metadata was written by start {} of this node", self.log.last_epoch());
            return self.give_up(ctx, why);
        }
        if let Err(error) = state.apply(&start) {
            return self.give_up(ctx, error.to_string());
        }
        let fields = vec![
            ("incarnation", ctx.config.incarnation.to_string()),
            ("topics", state.topics_count().to_string()),
            ("partitions", state.partitions_count().to_string()),
        ];
        ctx.event(Level::Info, "node_started", fields);
        self.append(ctx, now, &start, Written::Start);
        self.stage = Stage::Starting(state);
    }

    fn decide(&mut self, ctx: &mut Context, now: Now, state: &ClusterState) {
        while matches!(self.stage, Stage::Running) && self.writing.is_none() {
            let snapshot_bytes = ctx.config.metadata_snapshot_bytes;
            if self.since_snapshot_bytes > snapshot_bytes.max(2 * self.snapshot_bytes) && !ctx.stopping {
                return self.write_snapshot(ctx, now, state);
            }
            let Some(asked) = self.queue.pop_front() else { return };
            self.decide_one(ctx, now, state, asked);
        }
    }

    fn decide_one(&mut self, ctx: &mut Context, now: Now, state: &ClusterState, asked: Asked) {
        let defaults = &ctx.config.topic_defaults;
        let (command, origin) = match asked {
            Asked::Create(slot, create) => {
                let id = self.new_topic_id(state);
                match state.check_create(&create, id, defaults) {
                    Ok(command) => (command, Origin::Create(slot)),
                    Err(error) => return ctx.reply(slot, Response::CreateTopic(Err(error))),
                }
            }
            Asked::Alter(slot, alter) => match state.check_alter(&alter, defaults) {
                Ok(command) => (command, Origin::Alter(slot)),
                Err(error) => return ctx.reply(slot, Response::AlterTopic(Err(error))),
            },
            Asked::Delete(slot, delete) => match state.check_delete(&delete) {
                Ok(command) => (command, Origin::Delete(slot)),
                Err(error) => return ctx.reply(slot, Response::DeleteTopic(Err(error))),
            },
            Asked::Producer(slot) => match self.producer_ids.next() {
                Some(id) => return ctx.reply(slot, Response::InitProducer(Ok(id))),
                None => {
                    self.queue.push_front(Asked::Producer(slot));
                    (Command::AllocateProducerIds { count: PRODUCER_IDS_BLOCK }, Origin::Nobody)
                }
            },
            Asked::Forget(logs) => (Command::ForgetLogs { logs }, Origin::Nobody),
            Asked::OffsetsTopic => {
                let asked = offsets::topic(ctx.config.offsets_partitions);
                let id = self.new_topic_id(state);
                match state.check_create(&asked, id, defaults) {
                    Ok(command) => (command, Origin::Nobody),
                    Err(error) => {
                        self.offsets_topic_wanted = false;
                        let fields = vec![("why", error.to_string())];
                        return ctx.event(Level::Error, "offsets_topic_not_made", fields);
                    }
                }
            }
        };
        let written = Written::Change(command.clone(), origin);
        self.append(ctx, now, &command, written);
    }

    fn append(&mut self, ctx: &Context, now: Now, command: &Command, what: Written) {
        let frame = meta_log::command_frame(now, ctx.config.incarnation, self.log.staged_end(), command);
        self.since_snapshot_bytes += frame.header().frame_bytes();
        self.log.append(now, frame);
        self.writing = Some(Writing { end: self.log.staged_end(), what });
    }

    fn write_snapshot(&mut self, ctx: &mut Context, now: Now, state: &ClusterState) {
        let base = self.log.staged_end();
        let bytes = state.encode();
        for frame in meta_log::snapshot_frames(
            now,
            ctx.config.incarnation,
            base,
            ctx.config.metadata_snapshot_bytes,
            &bytes,
        ) {
            self.log.append(now, frame);
        }
        self.snapshot_bytes = bytes.len();
        self.since_snapshot_bytes = 0;
        self.writing = Some(Writing { end: self.log.staged_end(), what: Written::Snapshot { base } });
        let fields = vec![("bytes", bytes.len().to_string()), ("version", state.version().to_string())];
        ctx.event(Level::Info, "metadata_snapshot", fields);
    }

    fn close_when_done(&mut self, ctx: &mut Context) {
        if !ctx.stopping || (self.writing.is_some() && !self.log.out_of_space()) {
            return;
        }
        match self.stage {
            Stage::Opening | Stage::Replaying(_) | Stage::Starting(_) => {}
            Stage::Running => self.log.set_app_state(self.log.staged_end(), bytes::Bytes::new()),
            Stage::Closing | Stage::Closed | Stage::Unusable(_) => return,
        }
        reach::mark!("shard.stopped_without_space", self.writing.is_some());
        reach::mark!("shard.stopped_while_replaying", matches!(self.stage, Stage::Replaying(_)));
        // Without room for the change that is being written, waiting for it would be for ever.
        self.refuse_writing(ctx, &Refusal::ShuttingDown);
        self.log.close();
        self.stage = Stage::Closing;
    }

    /// Who waits for the change being written is told; whether it is stored is not known.
    fn refuse_writing(&mut self, ctx: &mut Context, refusal: &Refusal) {
        let Some(Writing { what: Written::Change(_, origin), .. }) = self.writing.take() else { return };
        let error = TopicError::from(refusal.clone());
        match origin {
            Origin::Create(slot) => ctx.reply(slot, Response::CreateTopic(Err(error))),
            Origin::Alter(slot) => ctx.reply(slot, Response::AlterTopic(Err(error))),
            Origin::Delete(slot) => ctx.reply(slot, Response::DeleteTopic(Err(error))),
            Origin::Nobody => {}
        }
    }

    /// No metadata, or none that can change: everybody who waits for a change is told why.
    fn give_up(&mut self, ctx: &mut Context, why: String) {
        ctx.event(Level::Error, "metadata_unusable", vec![("why", why.clone())]);
        self.refuse_writing(ctx, &Refusal::StorageFailed(why.clone()));
        for asked in std::mem::take(&mut self.queue) {
            refuse_asked(ctx, asked, &Refusal::StorageFailed(why.clone()));
        }
        self.stage = Stage::Unusable(why);
    }

    fn new_topic_id(&mut self, state: &ClusterState) -> TopicId {
        loop {
            let high = split_mix(&mut self.entropy);
            let id = TopicId(u128::from(high) << 64 | u128::from(split_mix(&mut self.entropy)));
            if id.0 != 0 && state.topic(id).is_none() {
                return id;
            }
        }
    }
}

fn refuse_asked(ctx: &mut Context, asked: Asked, refusal: &Refusal) {
    let (slot, request) = match asked {
        Asked::Create(slot, create) => (slot, Request::CreateTopic(create)),
        Asked::Alter(slot, alter) => (slot, Request::AlterTopic(alter)),
        Asked::Delete(slot, delete) => (slot, Request::DeleteTopic(delete)),
        Asked::Producer(slot) => (slot, Request::InitProducer),
        Asked::Forget(_) | Asked::OffsetsTopic => return,
    };
    ctx.reply(slot, refuse(&request, refusal.clone()));
}

/// The next number of the sequence that `state` stands in (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
