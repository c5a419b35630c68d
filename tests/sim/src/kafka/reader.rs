//! A client that fetches: one partition or several, with a fetch session (KIP-227) or without, waiting or not, with
//! small limits and large ones.
//!
//! Of a session it keeps what it was told last of each partition: together with the next answer that is what a full
//! fetch would have told, and it is told on as a fact for those that the answer left out.

use std::time::Duration;

use engine_api::{PartitionId, Place};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage_frame::Offset;
use tests_disk::Dice;

use super::asked::{Asked, What};
use super::line::{Line, News, decode};
use super::records::{Batches, batches_of};
use super::versions::Versions;
use super::{Scene, name_of};
use crate::fact::{ClientId, Fact, Shown};
use crate::net::PipeId;

const TARGETS_MAX: u64 = 4;
const SESSIONS_SINCE: i16 = 7;
const WAIT_MS_MAX: u64 = 500;
/// Begins a session; goes on without one.
const INITIAL_EPOCH: i32 = 0;
const NO_SESSION: i32 = -1;

#[derive(Debug)]
pub(super) struct Reader {
    client: u32,
    dice: Dice,
    line: Line,
    versions: Versions,
    wants_sessions: bool,
    /// Its partitions are a group's; else it takes what there is.
    is_owned: bool,
    targets: Vec<Target>,
    /// What it is to read once the fetch under way is answered.
    wanted: Option<Vec<(String, PartitionId, Offset)>>,
    session: Option<Session>,
    /// To be taken out of the session.
    forgotten: Vec<Target>,
}

#[derive(Debug, Clone)]
struct Target {
    topic: String,
    partition: PartitionId,
    position: Offset,
    /// As the session knows it: where it is read from.
    known_as: Option<Offset>,
    /// High watermark and start, or an error.
    told: Option<Result<(Offset, Offset), i16>>,
    /// It came to the end, after faults.
    is_caught_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
}

/// A fetch under way.
#[derive(Debug)]
pub(super) struct Fetching {
    /// All of the session, or of the request.
    asked: Vec<(PartitionId, Offset)>,
    is_incremental: bool,
}

impl Target {
    fn new(topic: String, partition: PartitionId, position: Offset) -> Self {
        Self { topic, partition, position, known_as: None, told: None, is_caught_up: false }
    }
}

impl Reader {
    pub(super) fn new(client: u32, mut dice: Dice, is_owned: bool) -> Self {
        Self {
            client,
            line: Line::new(client, None),
            versions: Versions::draw(&mut dice),
            wants_sessions: dice.below(4) > 0,
            is_owned,
            dice,
            targets: Vec::new(),
            wanted: None,
            session: None,
            forgotten: Vec::new(),
        }
    }

    /// It has seen the ends of its partitions.
    pub(super) fn is_drained(&self) -> bool {
        let has_any = self.is_owned || !self.targets.is_empty();
        has_any && self.wanted.is_none() && self.targets.iter().all(|target| target.is_caught_up)
    }

    pub(super) fn calm_down(&mut self) {
        self.line.calm_down();
    }

    /// Where it stands in what it was given last.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&str, u32, Offset)> {
        let targets = self.targets.iter().filter(|_| self.wanted.is_none());
        targets.map(|target| (target.topic.as_str(), target.partition.index, target.position))
    }

    /// Reads these and nothing else from now on.
    pub(super) fn assign(&mut self, targets: Vec<(String, PartitionId, Offset)>) {
        self.wanted = Some(targets);
    }

    fn take_up(&mut self, targets: Vec<(String, PartitionId, Offset)>) {
        let old = std::mem::take(&mut self.targets);
        for (topic, partition, position) in targets {
            let known = old.iter().find(|target| target.partition == partition);
            let target = known.cloned().unwrap_or_else(|| Target::new(topic, partition, position));
            self.targets.push(Target { position, is_caught_up: false, ..target });
        }
        let is_gone = |target: &Target| !self.targets.iter().any(|kept| kept.partition == target.partition);
        let gone = old.into_iter().filter(|target| target.known_as.is_some()).filter(is_gone);
        self.forgotten.extend(gone.collect::<Vec<_>>());
    }

    pub(super) fn on_pipe(&mut self, scene: &mut Scene<'_>, pipe: PipeId) -> bool {
        let is_mine = self.line.is_on(pipe);
        if is_mine {
            self.hear(scene);
        }
        is_mine
    }

    pub(super) fn hang_up(&mut self, scene: &mut Scene<'_>) {
        let news = self.line.drop_it(scene, &mut self.dice);
        self.on_news(scene, news);
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        while let Some(news) = self.line.hear(scene, &mut self.dice) {
            self.on_news(scene, news);
        }
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>) {
        self.hear(scene);
        if !self.is_owned {
            self.choose(scene);
        }
        let is_fetching = self.line.waits_for(|what| matches!(what, What::Fetch(_)));
        if !is_fetching && let Some(targets) = self.wanted.take() {
            self.take_up(targets);
        }
        if self.line.is_open() && !is_fetching && (scene.is_calm || self.dice.one_in(3)) {
            self.fetch(scene);
        }
        if self.line.is_open() && self.dice.one_in(20) {
            self.list(scene);
        }
        if !scene.is_calm && self.dice.one_in(100) {
            self.line.be_deaf(scene.now + Duration::from_millis(self.dice.below(2000)));
        }
        if let Some(news) = self.line.step(scene, &mut self.dice) {
            self.on_news(scene, news);
        }
        if !scene.is_calm && self.line.is_open() && self.dice.one_in(300) {
            self.hang_up(scene);
        }
    }

    /// Now and then another partition, or another place in one.
    fn choose(&mut self, scene: &Scene<'_>) {
        let may_change = !scene.is_calm && self.dice.one_in(20);
        if self.targets.is_empty() && self.wanted.is_none() || may_change && self.dice.one_in(2) {
            self.choose_targets(scene);
        } else if may_change && !self.targets.is_empty() {
            let at = self.dice.below(self.targets.len() as u64) as usize;
            let target = &mut self.targets[at];
            let end = target.told.and_then(Result::ok).map_or(0, |(high_watermark, _)| high_watermark.0);
            // Seldom past the end.
            target.position = Offset(self.dice.below(end + 3));
        }
    }

    fn choose_targets(&mut self, scene: &Scene<'_>) {
        let count = self.dice.between(1, TARGETS_MAX + 1);
        let mut chosen: Vec<(String, PartitionId, Offset)> = Vec::new();
        for _ in 0..count {
            let Some((topic, partition, _)) = scene.any_partition(&mut self.dice) else { return };
            let known = self.targets.iter().find(|target| target.partition == partition);
            let position = known.map_or(Offset::ZERO, |target| target.position);
            if !chosen.iter().any(|(_, other, _)| *other == partition) {
                chosen.push((topic, partition, position));
            }
        }
        self.assign(chosen);
    }

    fn fetch(&mut self, scene: &mut Scene<'_>) {
        if self.targets.is_empty() {
            return;
        }
        let version = self.versions.of::<FetchRequest>();
        let has_sessions = version >= SESSIONS_SINCE && self.wants_sessions;
        // Begun anew at times, or left.
        let session = self.session.filter(|_| has_sessions && !self.dice.one_in(40));
        let is_incremental = session.is_some();
        let (id, epoch) = match (session, self.session) {
            (Some(session), _) => (session.id, session.epoch),
            (None, before) if has_sessions => (before.map_or(0, |session| session.id), INITIAL_EPOCH),
            (None, before) => (before.map_or(0, |session| session.id), NO_SESSION),
        };
        self.session = session.map(|session| Session { epoch: session.epoch + 1, ..session });
        let partition_bytes = *self.dice.pick(&[1, 2000, 60_000, 1 << 20]);
        let forgotten = std::mem::take(&mut self.forgotten);
        let mut topics = Vec::new();
        for target in &mut self.targets {
            if !is_incremental {
                target.told = None;
            } else if target.known_as == Some(target.position) {
                continue;
            }
            target.known_as = has_sessions.then_some(target.position);
            let partition = FetchPartition::default()
                .with_partition(target.partition.index as i32)
                .with_fetch_offset(target.position.0.cast_signed())
                .with_partition_max_bytes(partition_bytes);
            topics
                .push(FetchTopic::default().with_topic(name(&target.topic)).with_partitions(vec![partition]));
        }
        let forgotten = forgotten.iter().filter(|_| is_incremental).map(|target| {
            ForgottenTopic::default()
                .with_topic(name(&target.topic))
                .with_partitions(vec![target.partition.index as i32])
        });
        let wait_ms = self.dice.below(WAIT_MS_MAX);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait_ms as i32)
            .with_min_bytes(*self.dice.pick(&[0, 1, 1, 1, 20_000]))
            .with_max_bytes(*self.dice.pick(&[1, 10_000, 1 << 20, 50 << 20]))
            .with_isolation_level(self.dice.below(2) as i8)
            .with_topics(topics)
            .with_forgotten_topics_data(forgotten.collect());
        let request = match version {
            SESSIONS_SINCE.. => request.with_session_id(id).with_session_epoch(epoch),
            _ => request,
        };
        let asked = self.targets.iter().map(|target| (target.partition, target.position)).collect();
        let what = What::Fetch(Fetching { asked, is_incremental });
        self.line.ask_patiently(scene, version, &request, Some(what), Duration::from_millis(wait_ms));
    }

    fn list(&mut self, scene: &mut Scene<'_>) {
        let Some((topic, partition, _)) = scene.any_partition(&mut self.dice) else { return };
        let (place, timestamp) = *self.dice.pick(&[(Place::Start, -2), (Place::End, -1)]);
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition.index as i32)
            .with_timestamp(timestamp);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![asked]),
        ]);
        let version = self.versions.of::<ListOffsetsRequest>();
        self.line.ask(scene, version, &request, Some(What::List { partition, place }));
    }

    fn on_news(&mut self, scene: &mut Scene<'_>, news: News) {
        match news {
            News::Answer(Asked { version, what, at, .. }, frame) => match what {
                What::Fetch(fetching) => {
                    if let Some(response) = scene.take(decode::<FetchRequest>(version, frame)) {
                        self.on_fetched(scene, at, &fetching, response);
                    }
                }
                What::List { partition, place } => {
                    if let Some(response) = scene.take(decode::<ListOffsetsRequest>(version, frame)) {
                        let found = response.topics.iter().flat_map(|topic| &topic.partitions).next();
                        if let Some(found) = found.filter(|found| found.error_code == 0) {
                            let offset = Offset(found.offset.cast_unsigned());
                            scene.tell(Fact::KafkaListed { partition, asked_at: at, place, offset });
                        }
                    }
                }
                other => scene.check(Err(format!("a reader asked {other:?}"))),
            },
            // Its session went with the connection.
            News::Lost(_) => {
                self.session = None;
                self.forgotten.clear();
                for target in &mut self.targets {
                    target.known_as = None;
                    target.told = None;
                }
            }
        }
    }

    fn on_fetched(
        &mut self,
        scene: &mut Scene<'_>,
        asked_at: Duration,
        fetching: &Fetching,
        response: FetchResponse,
    ) {
        if response.error_code != 0 {
            let code = response.error_code;
            return scene.check(Err(format!("client {}: its session was refused: {code}", self.client)));
        }
        if fetching.is_incremental {
            let id = self.session.map_or(0, |session| session.id);
            if response.session_id != id {
                let told = response.session_id;
                return scene.check(Err(format!("session {id} was answered as {told}")));
            }
        } else {
            self.session = (response.session_id != 0)
                .then_some(Session { id: response.session_id, epoch: INITIAL_EPOCH + 1 });
        }
        let mut told: Vec<(String, PartitionData)> = Vec::new();
        for topic in response.responses {
            let name = name_of(&topic.topic);
            told.extend(topic.partitions.into_iter().map(|data| (name.clone(), data)));
        }
        let has_records =
            told.iter().any(|(_, data)| data.records.as_ref().is_some_and(|records| !records.is_empty()));
        for (partition, asked) in &fetching.asked {
            let topic = scene.name(*partition);
            let is_it = |(name, data): &&(String, PartitionData)| {
                Some(name.as_str()) == topic && data.partition_index == partition.index as i32
            };
            let data = told.iter().find(is_it).map(|(_, data)| data);
            match data {
                Some(data) => self.on_told(scene, asked_at, (*partition, *asked), has_records, data),
                None if !fetching.is_incremental => {
                    scene.check(Err(format!("a full fetch leaves out {partition:?}")));
                }
                None => self.on_untold(scene, asked_at, (*partition, *asked), has_records),
            }
        }
    }

    fn target(&mut self, partition: PartitionId) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.partition == partition)
    }

    fn on_told(
        &mut self,
        scene: &mut Scene<'_>,
        asked_at: Duration,
        (partition, asked): (PartitionId, Offset),
        has_records: bool,
        data: &PartitionData,
    ) {
        let by = ClientId(self.client);
        let offset = |number: i64| Offset(u64::try_from(number).unwrap_or(0));
        let (high_watermark, log_start) = (offset(data.high_watermark), offset(data.log_start_offset));
        let told = if data.error_code == 0 { Ok((high_watermark, log_start)) } else { Err(data.error_code) };
        if let Some(target) = self.target(partition) {
            target.told = Some(told);
        }
        if data.error_code != 0 {
            return self.on_error(scene, asked_at, (partition, asked), log_start, data.error_code);
        }
        if data.last_stable_offset != data.high_watermark {
            let why = format!("{partition:?} is stable to {}, without transactions", data.last_stable_offset);
            scene.check(Err(why));
        }
        let records = data.records.clone().unwrap_or_default();
        let Batches { spans, records, loose_bytes } = match batches_of(records) {
            Ok(batches) => batches,
            Err(why) => return scene.tell(Fact::Unreadable { by, from: partition, asked, why }),
        };
        let end = spans.last().map(|(_, end)| *end);
        let shown = Shown {
            by,
            from: partition,
            asked_at,
            asked,
            log_start,
            high_watermark,
            batches: spans,
            loose_bytes,
            is_told: true,
            has_records,
        };
        scene.tell(Fact::KafkaShown(shown));
        scene.tell(Fact::Read { by, from: partition, asked_at, asked, log_start, high_watermark, records });
        let is_calm = scene.is_calm;
        // Moved elsewhere meanwhile, or not its own any more.
        if let Some(target) = self.target(partition).filter(|target| target.position == asked) {
            target.position = end.unwrap_or(asked);
            target.is_caught_up |= is_calm && target.position >= high_watermark;
        }
    }

    /// What was told before stands.
    fn on_untold(
        &mut self,
        scene: &mut Scene<'_>,
        asked_at: Duration,
        (partition, asked): (PartitionId, Offset),
        has_records: bool,
    ) {
        let by = ClientId(self.client);
        let is_calm = scene.is_calm;
        let Some(target) = self.target(partition) else { return };
        match target.told {
            Some(Ok((high_watermark, log_start))) => {
                target.is_caught_up |= is_calm && target.position >= high_watermark;
                let (batches, loose_bytes, is_told) = (Vec::new(), 0, false);
                scene.tell(Fact::KafkaShown(Shown {
                    by,
                    from: partition,
                    asked_at,
                    asked,
                    log_start,
                    high_watermark,
                    batches,
                    loose_bytes,
                    is_told,
                    has_records,
                }));
            }
            before => {
                scene.check(Err(format!("a session leaves out {partition:?}, told before: {before:?}")))
            }
        }
    }

    fn on_error(
        &mut self,
        scene: &mut Scene<'_>,
        asked_at: Duration,
        (from, asked): (PartitionId, Offset),
        log_start: Offset,
        code: i16,
    ) {
        if code == ResponseError::OffsetOutOfRange.code() {
            let (by, error) = (ClientId(self.client), "OffsetOutOfRange");
            let why = format!("the log starts at {log_start}");
            scene.tell(Fact::ReadRefused { by, from, asked_at, asked, error, why });
            if let Some(target) = self.target(from).filter(|target| target.position == asked) {
                target.position = log_start;
            }
        } else if !ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable()) {
            scene.check(Err(format!("{from:?} is refused to be read: error {code}")));
        }
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
