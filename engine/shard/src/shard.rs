//! One core's shard: takes inputs apart, hands each to whoever it concerns, and collects what they want.
//!
//! What must hold: a request is answered once, unless it is cancelled first; requests for one partition take
//! effect in the order they arrive; nothing is done before the end of the turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::{
    Catalog, CheckTopic, CheckedTopic, ClusterDescription, CoreId, DescribeTopics, NodeDescription, NodeId,
    OFFSETS_TOPIC, PartitionId, ReplySlot, Request, Response, TopicError, TopicId, TroubledPartition,
};
use engine_meta::{ClusterState, Command, config};
use storage_frame::Now;

use crate::context::{Context, Refusal, refuse};
use crate::controller::{Controller, META_LOG, Origin, Step};
use crate::news::{self, News};
use crate::partition::TopicSettings;
use crate::reads;
use crate::roster::Roster;
use crate::seam::{Effect, Input, Level, MetaUpdate, PartitionEnds, ShardConfig, ShardStats};
use crate::waiting::Waiting;
use groups::Coordinators;

/// See the crate.
#[derive(Debug)]
pub struct Shard {
    ctx: Context,
    roster: Roster,
    /// On core 0.
    controller: Option<Box<Controller>>,
    state: ClusterState,
    /// Metadata has been read or told.
    is_loaded: bool,
    /// Of the topics with a partition here.
    settings: BTreeMap<TopicId, Arc<TopicSettings>>,
    /// By core, as each last told.
    troubles: Vec<Vec<TroubledPartition>>,
    /// Not told since the last tick: a disk that fails takes thousands of logs with it, one by one.
    may_tell_troubles: bool,
    groups: Coordinators,
    ready_told: bool,
    overload_told: bool,
    stopped: bool,
}

impl Shard {
    /// A shard that is about to start; [`end_turn`](Self::end_turn) tells what it wants first.
    ///
    /// # Panics
    /// When `config` names a core that it does not have.
    #[must_use]
    pub fn new(config: ShardConfig, now: Now) -> Self {
        assert!(config.core.0 < config.cores, "core {} of {}", config.core.0, config.cores);
        let cores = usize::from(config.cores);
        let is_controller = config.core == CoreId(0);
        let ctx = Context::new(config, now);
        Self {
            controller: is_controller.then(|| Box::new(Controller::new(&ctx, now))),
            ctx,
            roster: Roster::default(),
            state: ClusterState::default(),
            is_loaded: false,
            settings: BTreeMap::new(),
            troubles: vec![Vec::new(); cores],
            may_tell_troubles: true,
            groups: Coordinators::default(),
            ready_told: false,
            overload_told: false,
            stopped: false,
        }
    }

    /// Cores of this node, as configured.
    #[must_use]
    pub fn cores(&self) -> u8 {
        self.ctx.config.cores
    }

    /// What is known of topics, for looking up without asking; nothing before metadata has been read or told.
    #[must_use]
    pub fn catalog(&self) -> &dyn Catalog {
        &self.state
    }

    /// The core that answers `request`: the owner of its partition, core 0 for changes of metadata, this core
    /// for everything it can answer itself (unknown partitions included).
    #[must_use]
    pub fn route(&self, request: &Request) -> CoreId {
        match request {
            Request::CreateTopic(_)
            | Request::AlterTopic(_)
            | Request::DeleteTopic(_)
            | Request::InitProducer => CoreId(0),
            Request::DescribeTopics(_) | Request::DescribeCluster | Request::CheckTopic(_) => self.core(),
            Request::Produce(produce) => self.owner(produce.partition),
            Request::Fetch(fetch) => self.owner(fetch.partition),
            Request::FindOffset(find) => self.owner(find.partition),
            Request::DeleteRecords(delete) => self.owner(delete.partition),
            Request::MeasureLag(measure) => self.owner(measure.partition),
            Request::ListGroups(list) if list.core.0 < self.cores() => list.core,
            Request::ListGroups(_) => self.core(),
            Request::DescribeLogs(describe) if describe.core.0 < self.cores() => describe.core,
            Request::DescribeLogs(_) => self.core(),
            Request::Group(asked) => self.coordinator_core(&asked.group),
        }
    }

    /// Changes memory and never waits. What follows from it is told by [`end_turn`](Self::end_turn).
    pub fn handle(&mut self, now: Now, input: Input) {
        if let Some(change) = self.ctx.hearing.pass(now.mono) {
            self.tell_heard(change);
        }
        match input {
            Input::Request { slot, request } => self.on_request(now, slot, request),
            Input::Cancel(slot) => self.on_cancel(now, slot),
            Input::Disk { log, op, result } => {
                if let Some(key) = self.roster.find_log(log) {
                    self.roster.on_disk(&mut self.ctx, now, key, op, result);
                } else if let Some(controller) = &mut self.controller {
                    if log == META_LOG {
                        controller.on_disk(&mut self.ctx, now, op, result);
                    } else {
                        controller.on_swept(&mut self.ctx, log, result);
                    }
                }
            }
            Input::Meta(update) => self.on_update(now, &update),
            Input::MetaApplied { core, version } => {
                let controller = self.controller.as_mut().expect("told to the controller's core");
                controller.on_acked(&mut self.ctx, core, version);
            }
            Input::Answer { key, response } => self.on_answer(now, key, &response),
            Input::FreeSpace { free_bytes } => self.on_free_space(free_bytes),
            Input::Paused(is_paused) => self.ctx.hearing.pause(is_paused),
            Input::Tick => self.on_tick(now),
            Input::Stop => self.on_stop(now),
        }
        self.settle(now);
    }

    /// What the shard wants done since the last turn's end, in order: disk operations of every log touched,
    /// then answers, news and events.
    pub fn end_turn(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(controller) = &mut self.controller {
            controller.end_turn(&mut self.ctx, now, out);
        }
        self.roster.end_turn(&mut self.ctx, now, out);
        self.tell_overload();
        out.append(&mut self.ctx.out);
    }

    /// Memory is short: stop reading requests from sockets until this is false again.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.ctx.budget.is_overloaded()
    }

    /// Bytes of frames in memory now: staged, cached, on their way out.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.ctx.budget.bytes()
    }

    /// Of every partition owned here, by topic and index. As long as there are partitions: for somebody who looks.
    #[must_use]
    pub fn partition_ends(&self) -> Vec<PartitionEnds> {
        self.roster.ends()
    }

    #[must_use]
    pub fn stats(&self) -> ShardStats {
        let tally = &self.ctx.tally;
        let mut stats = ShardStats {
            produce_batches: tally.produce_batches,
            produce_records: tally.produce_records,
            produce_bytes: tally.produce_bytes,
            fetch_records: tally.fetch_records,
            fetch_bytes: tally.fetch_bytes,
            fetch_disk_bytes: tally.fetch_disk_bytes,
            duplicates: tally.duplicates,
            refused: tally
                .refused
                .iter()
                .map(|((request, error), count)| (*request, *error, *count))
                .collect(),
            requests: tally.requests(),
            acks: tally.acks,
            append: tally.append.clone(),
            memory_bytes: self.ctx.budget.bytes() as u64,
            waiting_fetches: self.ctx.waiters.count() as u64,
            waiting_produces: tally.waiting_produces,
            compaction: tally.compaction,
            ..ShardStats::default()
        };
        self.roster.add_stats(&mut stats);
        self.add_group_stats(&mut stats);
        stats
    }

    fn core(&self) -> CoreId {
        self.ctx.config.core
    }

    fn owner(&self, id: PartitionId) -> CoreId {
        if self.roster.find(id).is_some() {
            return self.core();
        }
        match self.state.partition(id) {
            Some(partition) if partition.leader == self.ctx.config.node => partition.core,
            _ => self.core(),
        }
    }

    fn on_request(&mut self, now: Now, slot: ReplySlot, request: Request) {
        self.ctx.tally.count_request(&request);
        let id = match request {
            Request::DescribeCluster => {
                let description = self.describe_cluster();
                return self.ctx.reply(slot, Response::DescribeCluster(description));
            }
            Request::DescribeTopics(asked) => {
                let described = self.describe_topics(&asked);
                return self.ctx.reply(slot, Response::DescribeTopics(described));
            }
            Request::CheckTopic(asked) => {
                let checked = self.check_topic(&asked);
                return self.ctx.reply(slot, Response::CheckTopic(checked));
            }
            Request::DescribeLogs(_) => {
                let sizes = self.roster.log_sizes();
                return self.ctx.reply(slot, Response::DescribeLogs(Ok(sizes)));
            }
            _ if self.ctx.stopping => {
                reach::mark!("shard.request_while_stopping");
                return self.ctx.reply(slot, refuse(&request, Refusal::ShuttingDown));
            }
            Request::CreateTopic(_)
            | Request::AlterTopic(_)
            | Request::DeleteTopic(_)
            | Request::InitProducer => {
                return match &mut self.controller {
                    Some(controller) => controller.ask(&mut self.ctx, slot, request),
                    // Not routed here; another try will be.
                    None => self.ctx.reply(slot, refuse(&request, Refusal::NotReady)),
                };
            }
            Request::Group(asked) => return self.on_group(now, slot, asked),
            Request::ListGroups(list) => return self.on_list_groups(slot, list),
            Request::MeasureLag(measure) => return self.on_measure(now, slot, measure),
            Request::Produce(ref produce) => produce.partition,
            Request::Fetch(ref fetch) => fetch.partition,
            Request::FindOffset(ref find) => find.partition,
            Request::DeleteRecords(ref delete) => delete.partition,
        };
        match self.roster.find(id) {
            Some(key) => {
                self.roster.hurry(key);
                self.roster.touch(key).serve(&mut self.ctx, now, slot, request);
            }
            // Known but led elsewhere, or nothing is known yet.
            None if !self.is_loaded || self.state.partition(id).is_some() => {
                reach::mark!("shard.request_before_metadata", !self.is_loaded);
                reach::mark!("shard.request_of_another_core", self.is_loaded);
                self.ctx.reply(slot, refuse(&request, Refusal::NotReady));
            }
            None => {
                reach::mark!("shard.request_of_unknown_partition");
                self.ctx.reply(slot, refuse(&request, Refusal::UnknownPartition));
            }
        }
    }

    fn on_cancel(&mut self, now: Now, slot: ReplySlot) {
        if self.cancel_group_ask(now, slot) {
            return;
        }
        if let Some(key) = self.ctx.waiters.find(slot) {
            let partition = self.ctx.waiters.at(key).expect("just found").partition;
            self.roster.touch(partition).cancel(&mut self.ctx, key);
        }
    }

    fn on_update(&mut self, now: Now, update: &MetaUpdate) {
        // From another core of this process: not to be understood is a fault of this build.
        match news::read(update).expect("news of the same build") {
            News::Snapshot(state) => {
                self.load(now, *state);
                self.ctx.out.push(Effect::MetaApplied { version: update.version });
            }
            News::Command(command) => {
                assert_eq!(self.state.version() + 1, update.version, "changes arrive in order, none is lost");
                self.apply(now, &command);
                self.ctx.out.push(Effect::MetaApplied { version: update.version });
            }
            News::Listening(core) => self.ctx.hearing.on_listening(core),
            News::Troubles(core, list) => self.troubles[usize::from(core.0)] = list,
        }
    }

    /// The answer to what this shard asked for itself.
    fn on_answer(&mut self, now: Now, key: u64, response: &Response) {
        if let Response::MeasureLag(measured) = response {
            self.on_lag(now, key, measured);
        }
    }

    fn on_free_space(&mut self, free_bytes: u64) {
        if self.ctx.space.measure(free_bytes) {
            reach::mark!("shard.space_short", self.ctx.space.is_short());
            reach::mark!("shard.space_back", !self.ctx.space.is_short());
            let (level, name) = if self.ctx.space.is_short() {
                (Level::Warn, "space_short")
            } else {
                (Level::Info, "space_back")
            };
            self.ctx.event(level, name, vec![("free_bytes", free_bytes.to_string())]);
        }
    }

    fn on_tick(&mut self, now: Now) {
        self.may_tell_troubles = true;
        while let Some(key) = self.ctx.waiters.first_overdue(now.mono) {
            let partition = self.ctx.waiters.at(key).expect("just found").partition;
            self.roster.touch(partition).on_deadline(&mut self.ctx, now, key);
        }
        self.roster.on_tick(&mut self.ctx, now);
        self.tick_groups(now);
        if let Some(controller) = &mut self.controller {
            controller.on_tick(&mut self.ctx, now);
        }
    }

    fn on_stop(&mut self, now: Now) {
        if std::mem::replace(&mut self.ctx.stopping, true) {
            return;
        }
        reach::mark!("shard.stopped_before_ready", !self.ready_told);
        self.ctx.event(Level::Info, "stopping", vec![("partitions", self.roster.count().to_string())]);
        self.roster.close_all(&mut self.ctx, now);
        if let Some(controller) = &mut self.controller {
            controller.stop(&mut self.ctx);
        }
    }

    /// Follows up on what the input changed.
    fn settle(&mut self, now: Now) {
        self.run_controller(now);
        while let Some(key) = self.ctx.changed.pop() {
            self.roster.on_changed(&mut self.ctx, now, key);
        }
        if !self.ctx.stopping {
            self.roster.open_next(&self.ctx, now);
        }
        self.read_when_memory_allows(now);
        self.tell_troubles();
        if self.is_loaded && !self.ready_told && !self.ctx.stopping && self.roster.is_open() {
            self.ready_told = true;
            let fields = vec![("partitions", self.roster.count().to_string())];
            self.ctx.event(Level::Info, "shard_ready", fields);
            self.ctx.out.push(Effect::Ready);
        }
        if self.ctx.stopping && !self.stopped && self.is_closed() {
            self.stopped = true;
            self.ctx.out.push(Effect::Stopped);
        }
    }

    fn is_closed(&self) -> bool {
        self.roster.is_empty() && self.controller.as_ref().is_none_or(|controller| controller.is_closed())
    }

    fn run_controller(&mut self, now: Now) {
        while let Some(controller) = &mut self.controller {
            match controller.poll(&mut self.ctx, now, &self.state) {
                None => return,
                Some(Step::Load(state)) => {
                    self.ctx.out.push(Effect::Publish(news::snapshot(&state)));
                    self.load(now, *state);
                    self.on_applied(None, Origin::Nobody);
                }
                Some(Step::Apply(command, origin)) => {
                    self.apply(now, &command);
                    self.ctx.out.push(Effect::Publish(news::command(self.state.version(), &command)));
                    self.on_applied(Some(&command), origin);
                }
            }
        }
    }

    fn on_applied(&mut self, command: Option<&Command>, origin: Origin) {
        let controller = self.controller.as_mut().expect("only the controller's core");
        match command {
            Some(command) => controller.on_applied(&mut self.ctx, &self.state, command, origin),
            None => controller.on_acked(&mut self.ctx, CoreId(0), self.state.version()),
        }
    }

    /// Begins with a whole state.
    fn load(&mut self, now: Now, state: ClusterState) {
        assert!(!self.is_loaded, "a shard is told the whole state once");
        self.state = state;
        self.is_loaded = true;
        let topics: Vec<TopicId> = self.state.topics().map(|topic| topic.id).collect();
        for topic in topics {
            self.adopt(now, topic);
        }
    }

    fn apply(&mut self, now: Now, command: &Command) {
        if let Command::DeleteTopic { id } = command {
            self.forget_topic(now, TopicId(*id));
            self.drop_topic(now, TopicId(*id));
        }
        self.state.apply(command).expect("checked by the controller against the same state");
        match command {
            Command::CreateTopic { id, .. } | Command::AlterTopic { id, .. } => self.adopt(now, TopicId(*id)),
            Command::NodeStarted { .. }
            | Command::DeleteTopic { .. }
            | Command::AllocateProducerIds { .. }
            | Command::ForgetLogs { .. } => {}
        }
    }

    /// Takes in new partitions of the topic that are placed here, and new settings for those that were.
    fn adopt(&mut self, now: Now, id: TopicId) {
        // What begins now would not end any more.
        if self.ctx.stopping {
            reach::mark!("shard.topic_while_stopping");
            return;
        }
        let topic = self.state.topic(id).expect("a topic that was just made or changed");
        let (node, core): (NodeId, CoreId) = (self.ctx.config.node, self.ctx.config.core);
        let owned = (0..).zip(&topic.partitions).filter(|(_, p)| p.leader == node && p.core == core);
        let owned: Vec<_> =
            owned.map(|(index, p)| (PartitionId { topic: id, index }, p.log, p.leader_epoch)).collect();
        if owned.is_empty() {
            return;
        }
        let config = config::effective(&self.ctx.config.topic_defaults, &topic.configs);
        let settings = Arc::new(TopicSettings { name: topic.name.clone(), config });
        self.settings.insert(id, Arc::clone(&settings));
        for (id, log, epoch) in owned {
            match self.roster.find(id) {
                Some(key) => {
                    self.roster.touch(key).configure(&mut self.ctx, now, Arc::clone(&settings), epoch)
                }
                None => self.roster.add(id, log, epoch, Arc::clone(&settings)),
            }
            if settings.name == OFFSETS_TOPIC {
                self.adopt_coordinator(now, id);
            }
        }
    }

    fn drop_topic(&mut self, now: Now, id: TopicId) {
        self.settings.remove(&id);
        let partitions = self.state.topic(id).map_or(0, |topic| topic.partitions.len() as u32);
        for index in 0..partitions {
            self.roster.remove(&mut self.ctx, now, PartitionId { topic: id, index });
        }
    }

    /// Fetches that waited for memory go on, as far as it reaches.
    fn read_when_memory_allows(&mut self, now: Now) {
        while let Some(slot) = self.ctx.reads_waiting.front().copied() {
            let key = self.ctx.waiters.find(slot);
            let waiter = key.and_then(|key| Some((key, self.ctx.waiters.at(key)?)));
            let Some((key, partition, bytes)) = waiter.and_then(|(key, waiter)| match &waiter.what {
                Waiting::Memory(fetch) => Some((key, waiter.partition, reads::read_bytes(fetch))),
                Waiting::Held { .. }
                | Waiting::Data { .. }
                | Waiting::Read { .. }
                | Waiting::Find { .. }
                | Waiting::Abandoned { .. } => None,
            }) else {
                reach::mark!("shard.read_left_before_memory");
                // Cancelled or answered meanwhile.
                self.ctx.reads_waiting.pop_front();
                continue;
            };
            if !self.ctx.budget.may_read(bytes) {
                return;
            }
            self.ctx.reads_waiting.pop_front();
            self.roster.touch(partition).on_memory(&mut self.ctx, now, key);
        }
    }

    fn tell_troubles(&mut self) {
        if !self.may_tell_troubles {
            return;
        }
        if let Some(list) = self.roster.take_troubles() {
            reach::mark!("shard.troubles_told");
            self.may_tell_troubles = false;
            let core = self.core();
            self.ctx.out.push(Effect::Publish(news::troubles(core, &list)));
            self.troubles[usize::from(core.0)] = list;
        }
    }

    fn tell_overload(&mut self) {
        let overloaded = self.ctx.budget.is_overloaded();
        if std::mem::replace(&mut self.overload_told, overloaded) != overloaded {
            reach::mark!("shard.overload_on", overloaded);
            reach::mark!("shard.overload_off", !overloaded);
            let (level, name) =
                if overloaded { (Level::Warn, "memory_short") } else { (Level::Info, "memory_back") };
            self.ctx.event(level, name, vec![("memory_bytes", self.ctx.budget.bytes().to_string())]);
        }
    }

    fn describe_topics(
        &self,
        asked: &DescribeTopics,
    ) -> Result<Vec<engine_api::TopicDescription>, TopicError> {
        if !self.is_loaded {
            return Err(TopicError::NotReady);
        }
        self.state.describe_topics(&asked.names, &self.ctx.config.topic_defaults)
    }

    fn check_topic(&self, asked: &CheckTopic) -> Result<CheckedTopic, TopicError> {
        if !self.is_loaded {
            return Err(TopicError::NotReady);
        }
        self.state.check_topic(asked, &self.ctx.config.topic_defaults)
    }

    fn describe_cluster(&self) -> ClusterDescription {
        let nodes = self.state.nodes().map(|(id, node)| NodeDescription {
            id,
            address: node.address.clone(),
            cores: node.cores,
            partitions_led: self.state.partitions_led(id),
            incarnation: node.incarnation,
        });
        ClusterDescription {
            cluster_id: self.ctx.config.cluster_id,
            version: self.ctx.config.version.clone(),
            nodes: nodes.collect(),
            topics_count: self.state.topics_count(),
            partitions_count: self.state.partitions_count(),
            troubled: self.troubles.iter().flatten().cloned().collect(),
        }
    }
}

mod groups;
mod lagging;
#[cfg(test)]
mod tests;
