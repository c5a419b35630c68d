//! A member of a group, as Kafka's clients are: one connection to its coordinator, another one on which it reads what
//! it owns, and commits of where it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use engine_api::PartitionId;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use storage_frame::Offset;
use tests_disk::Dice;

use super::asked::{Asked, What};
use super::group::Group;
use super::line::{Line, News, decode};
use super::reader::Reader;
use super::versions::Versions;
use super::{Scene, name_of};
use crate::fact::{ClientId, CommitId, Fact};
use crate::members::{assign, assigned};
use crate::net::PipeId;

const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "round";
/// Beside the timeouts of a group: a join may wait for others.
const JOIN_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Member {
    client: ClientId,
    pub(super) group: usize,
    dice: Dice,
    line: Line,
    versions: Versions,
    reader: Reader,
    /// Empty: a stranger.
    member: String,
    generation: i32,
    stage: Stage,
    owned: Vec<(String, u32)>,
    /// It knows where to begin what it owns.
    has_positions: bool,
    committed: BTreeMap<(String, u32), Offset>,
    heartbeat_at: Duration,
    sleeps_until: Duration,
    /// It neither reads nor commits.
    is_idle: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Out {
        until: Duration,
    },
    Joining,
    /// With what the leader assigns, if it is the leader.
    Syncing {
        assignments: Vec<(String, Bytes)>,
    },
    Stable,
    Leaving,
}

impl Member {
    pub(super) fn new(client: u32, group: usize, name: &str, mut dice: Dice) -> Self {
        Self {
            client: ClientId(client),
            group,
            line: Line::new(client, Some(name.to_owned())),
            versions: Versions::draw(&mut dice),
            reader: Reader::new(client, Dice::nth(dice.roll(), "reader", 0), true),
            dice,
            member: String::new(),
            generation: -1,
            stage: Stage::Out { until: Duration::ZERO },
            owned: Vec::new(),
            has_positions: false,
            committed: BTreeMap::new(),
            heartbeat_at: Duration::ZERO,
            sleeps_until: Duration::ZERO,
            is_idle: false,
        }
    }

    pub(super) fn stable_generation(&self) -> Option<i32> {
        (self.stage == Stage::Stable).then_some(self.generation)
    }

    /// It has read and committed everything that it owns.
    pub(super) fn is_drained(&self) -> bool {
        if self.is_idle {
            return true;
        }
        let mut positions = self.reader.positions();
        let is_committed = positions.all(|(topic, partition, position)| {
            position == Offset::ZERO || self.committed.get(&(topic.to_owned(), partition)) == Some(&position)
        });
        let is_committing = self.line.waits_for(|what| matches!(what, What::Commit(_)));
        self.has_positions && self.reader.is_drained() && is_committed && !is_committing
    }

    pub(super) fn calm_down(&mut self, now: Duration) {
        self.line.calm_down();
        self.reader.calm_down();
        self.sleeps_until = now;
        if let Stage::Out { until } = &mut self.stage {
            *until = now.min(*until);
        }
    }

    /// Stops reading, if it owns something of which a lag is measured: a place with a committed offset, in a topic that
    /// keeps what it has.
    pub(super) fn idle(&mut self, scene: &mut Scene<'_>, group: &Group) -> bool {
        let is_watched =
            |(topic, _): &&(String, u32)| scene.topics.get(topic).is_some_and(|topic| !topic.may_retire);
        let committed = self.committed.iter().filter(|(_, offset)| **offset > Offset::ZERO);
        let places: Vec<(String, u32)> =
            committed.map(|(place, _)| place).filter(is_watched).cloned().collect();
        if places.is_empty() {
            return false;
        }
        self.is_idle = true;
        self.reader.hang_up(scene);
        scene.tell(Fact::MemberIdle { group: group.name.clone(), member: self.member.clone(), places });
        true
    }

    pub(super) fn go_on(&mut self, scene: &mut Scene<'_>, group: &Group) {
        if std::mem::take(&mut self.is_idle) {
            scene.tell(Fact::MemberBusy { group: group.name.clone(), member: self.member.clone() });
        }
    }

    pub(super) fn ask_where_the_group_is(&mut self, scene: &mut Scene<'_>, group: &Group) {
        self.ask_offsets(scene, group, false);
    }

    pub(super) fn on_pipe(&mut self, scene: &mut Scene<'_>, group: &mut Group, pipe: PipeId) -> bool {
        let is_mine = self.line.is_on(pipe);
        if is_mine {
            self.hear(scene, group);
        }
        is_mine || self.reader.on_pipe(scene, pipe)
    }

    pub(super) fn hang_up(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        self.reader.hang_up(scene);
        let news = self.line.drop_it(scene, &mut self.dice);
        self.on_news(scene, group, news);
    }

    fn hear(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        if scene.now < self.sleeps_until {
            return;
        }
        while let Some(news) = self.line.hear(scene, &mut self.dice) {
            self.on_news(scene, group, news);
        }
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        if scene.now < self.sleeps_until {
            return;
        }
        self.hear(scene, group);
        if !self.is_idle {
            self.reader.step(scene);
        }
        if self.line.is_open() {
            self.take_part(scene, group);
        }
        if let Some(news) = self.line.step(scene, &mut self.dice) {
            self.on_news(scene, group, news);
        }
        if !scene.is_calm && self.dice.one_in(200) {
            match self.dice.below(3) {
                0 => {
                    let nap = scene.manners.session.as_millis() as u64 * 2;
                    self.sleeps_until = scene.now + Duration::from_millis(self.dice.below(nap));
                }
                1 => self.hang_up(scene, group),
                _ => self.die(scene, group),
            }
        }
    }

    /// It is gone with its connections, and another process takes its place after a while.
    fn die(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        self.hang_up(scene, group);
        let until = scene.now + Duration::from_millis(self.dice.below(2000));
        self.go(until);
        scene.tell(Fact::GroupLeft { group: group.name.clone(), client: self.client });
    }

    fn go(&mut self, until: Duration) {
        self.member.clear();
        self.generation = -1;
        self.own(Vec::new());
        self.stage = Stage::Out { until };
    }

    fn own(&mut self, owned: Vec<(String, u32)>) {
        self.owned = owned;
        self.has_positions = false;
        self.committed.clear();
        self.reader.assign(Vec::new());
    }

    fn take_part(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        if !group.is_begun {
            return self.begin_group(scene, group);
        }
        let is_committing = self.line.waits_for(|what| matches!(what, What::Commit(_)));
        let is_reading = self.line.waits_for(|what| matches!(what, What::Offsets { .. }));
        if self.dice.one_in(100) {
            self.ask_offsets(scene, group, false);
        }
        let is_asking = self
            .line
            .waits_for(|what| matches!(what, What::Join | What::Sync | What::Heartbeat | What::Leave));
        if self.stage == Stage::Stable {
            if !self.has_positions && !is_reading {
                self.ask_offsets(scene, group, true);
            } else if self.has_positions
                && !is_committing
                && !self.is_idle
                && (scene.is_calm || self.dice.one_in(8))
            {
                self.commit_positions(scene, group);
            }
        }
        if is_asking {
            return;
        }
        match self.stage {
            Stage::Out { until } if until <= scene.now => {
                self.stage = Stage::Joining;
                scene.tell(Fact::GroupJoining { group: group.name.clone(), client: self.client });
                self.join(scene, group);
            }
            Stage::Joining => self.join(scene, group),
            Stage::Syncing { .. } => self.sync(scene, group),
            Stage::Stable if !scene.is_calm && self.dice.one_in(200) => self.leave(scene, group),
            Stage::Stable if self.heartbeat_at <= scene.now => self.heartbeat(scene, group),
            Stage::Out { .. } | Stage::Stable | Stage::Leaving => {}
        }
    }

    /// The first offsets of the group, of nobody: it is never forgotten from then on.
    fn begin_group(&mut self, scene: &mut Scene<'_>, group: &mut Group) {
        if group.begins.is_some() || scene.topics.is_empty() {
            return;
        }
        let first = scene.topics.keys().next().expect("just seen").clone();
        group.begins = Some(self.client);
        self.commit(scene, group, (String::new(), -1), vec![(first, 0, 0)]);
    }

    fn join(&mut self, scene: &mut Scene<'_>, group: &Group) {
        let version = self.versions.of::<JoinGroupRequest>();
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(PROTOCOL))
            .with_metadata(Bytes::from_static(b"all"));
        let ms = |span: Duration| i32::try_from(span.as_millis()).expect("short");
        let request = JoinGroupRequest::default()
            .with_group_id(group.id())
            .with_session_timeout_ms(ms(scene.manners.session))
            .with_rebalance_timeout_ms(ms(scene.manners.rebalance))
            .with_member_id(StrBytes::from_string(self.member.clone()))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        let may_wait = JOIN_WAIT + scene.manners.rebalance + scene.manners.session;
        self.line.ask_patiently(scene, version, &request, Some(What::Join), may_wait);
    }

    fn sync(&mut self, scene: &mut Scene<'_>, group: &Group) {
        let Stage::Syncing { assignments } = &self.stage else { return };
        let given = assignments.iter().map(|(member, bytes)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member.clone()))
                .with_assignment(bytes.clone())
        });
        let version = self.versions.of::<SyncGroupRequest>();
        let request = SyncGroupRequest::default()
            .with_group_id(group.id())
            .with_generation_id(self.generation)
            .with_member_id(StrBytes::from_string(self.member.clone()))
            .with_assignments(given.collect());
        let request = match version {
            5.. => request
                .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
                .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL))),
            _ => request,
        };
        let may_wait = JOIN_WAIT + scene.manners.rebalance;
        self.line.ask_patiently(scene, version, &request, Some(What::Sync), may_wait);
    }

    fn heartbeat(&mut self, scene: &mut Scene<'_>, group: &Group) {
        self.heartbeat_at = scene.now + scene.manners.session.min(scene.manners.rebalance) / 4;
        let request = HeartbeatRequest::default()
            .with_group_id(group.id())
            .with_generation_id(self.generation)
            .with_member_id(StrBytes::from_string(self.member.clone()));
        let version = self.versions.of::<HeartbeatRequest>();
        self.line.ask(scene, version, &request, Some(What::Heartbeat));
    }

    fn leave(&mut self, scene: &mut Scene<'_>, group: &Group) {
        self.stage = Stage::Leaving;
        scene.tell(Fact::GroupLeft { group: group.name.clone(), client: self.client });
        let version = self.versions.of::<LeaveGroupRequest>();
        let member = StrBytes::from_string(self.member.clone());
        let request = LeaveGroupRequest::default().with_group_id(group.id());
        let request = match version {
            3.. => request.with_members(vec![MemberIdentity::default().with_member_id(member)]),
            _ => request.with_member_id(member),
        };
        self.line.ask(scene, version, &request, Some(What::Leave));
    }

    fn ask_offsets(&mut self, scene: &mut Scene<'_>, group: &Group, is_begin: bool) {
        let version = self.versions.of::<OffsetFetchRequest>();
        let request = OffsetFetchRequest::default();
        let request = match version {
            8.. => request.with_groups(vec![
                OffsetFetchRequestGroup::default().with_group_id(group.id()).with_topics(None),
            ]),
            _ => request.with_group_id(group.id()).with_topics(None),
        };
        self.line.ask(scene, version, &request, Some(What::Offsets { is_begin }));
    }

    fn commit_positions(&mut self, scene: &mut Scene<'_>, group: &Group) {
        let moved = self.reader.positions().filter(|(topic, partition, position)| {
            let committed = self.committed.get(&((*topic).to_owned(), *partition));
            *position > Offset::ZERO && committed != Some(position)
        });
        let moved: Vec<(String, u32, u64)> =
            moved.map(|(topic, partition, position)| (topic.to_owned(), partition, position.0)).collect();
        if moved.is_empty() {
            return;
        }
        for (topic, partition, offset) in &moved {
            self.committed.insert((topic.clone(), *partition), Offset(*offset));
        }
        self.commit(scene, group, (self.member.clone(), self.generation), moved);
    }

    /// The commit's number goes with each offset, and must come back with it.
    fn commit(
        &mut self,
        scene: &mut Scene<'_>,
        group: &Group,
        (member, generation): (String, i32),
        offsets: Vec<(String, u32, u64)>,
    ) {
        let commit = scene.next_commit();
        let mut topics: BTreeMap<String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (topic, partition, offset) in &offsets {
            topics.entry(topic.clone()).or_default().push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(*partition as i32)
                    .with_committed_offset(offset.cast_signed())
                    .with_committed_metadata(Some(StrBytes::from_string(commit.0.to_string()))),
            );
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let name = TopicName(StrBytes::from_string(topic));
            OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group.id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(StrBytes::from_string(member.clone()))
            .with_topics(topics.collect());
        scene.tell(Fact::CommitSent { commit, group: group.name.clone(), member, generation, offsets });
        let version = self.versions.of::<OffsetCommitRequest>();
        self.line.ask(scene, version, &request, Some(What::Commit(commit)));
    }

    fn on_news(&mut self, scene: &mut Scene<'_>, group: &mut Group, news: News) {
        match news {
            News::Answer(asked, frame) => {
                if let Err(why) = self.on_answer(scene, group, asked, frame) {
                    scene.check(Err(format!("client {} of {}: {why}", self.client.0, group.name)));
                }
            }
            News::Lost(asked) => {
                for asked in asked {
                    match asked.what {
                        // What is under way may be done as long as the node lives.
                        What::Commit(commit) => {
                            scene.open_commits.push(commit);
                            self.committed.clear();
                            group.is_over(self.client);
                        }
                        What::Leave => self.go(scene.now),
                        // Its generation may have passed.
                        What::Sync => self.stage = Stage::Joining,
                        _ => {}
                    }
                }
            }
        }
    }

    fn on_answer(
        &mut self,
        scene: &mut Scene<'_>,
        group: &mut Group,
        Asked { version, what, at, .. }: Asked,
        frame: Bytes,
    ) -> Result<(), String> {
        match what {
            What::Join => self.on_joined(scene, group, version, frame),
            What::Sync => {
                let response = decode::<SyncGroupRequest>(version, frame)?;
                match response.error_code {
                    0 => {
                        self.stage = Stage::Stable;
                        self.heartbeat_at = scene.now;
                        self.own(assigned(&response.assignment)?);
                        scene.tell(Fact::GroupAssigned {
                            group: group.name.clone(),
                            client: self.client,
                            member: self.member.clone(),
                            generation: self.generation,
                            owned: self.owned.clone(),
                        });
                        Ok(())
                    }
                    code => self.start_over(scene, code),
                }
            }
            What::Heartbeat => match decode::<HeartbeatRequest>(version, frame)?.error_code {
                0 => Ok(()),
                code if is_passing(code) => Ok(()),
                code => {
                    scene.tell(Fact::GroupJoining { group: group.name.clone(), client: self.client });
                    self.start_over(scene, code)
                }
            },
            What::Leave => {
                decode::<LeaveGroupRequest>(version, frame)?;
                let until = scene.now + Duration::from_millis(self.dice.below(1000));
                self.go(until);
                Ok(())
            }
            What::Commit(commit) => self.on_committed(scene, group, commit, version, frame),
            What::Offsets { is_begin } => {
                let response = decode::<OffsetFetchRequest>(version, frame)?;
                self.on_offsets(scene, group, at, is_begin, version, &response)
            }
            other => Err(format!("a member asked {other:?}")),
        }
    }

    fn on_joined(
        &mut self,
        scene: &mut Scene<'_>,
        group: &Group,
        version: i16,
        frame: Bytes,
    ) -> Result<(), String> {
        let response = decode::<JoinGroupRequest>(version, frame)?;
        if response.error_code == ResponseError::MemberIdRequired.code() {
            self.member = response.member_id.to_string();
            return Ok(());
        }
        if response.error_code != 0 {
            return self.start_over(scene, response.error_code);
        }
        self.member = response.member_id.to_string();
        self.generation = response.generation_id;
        let members: Vec<String> =
            response.members.iter().map(|member| member.member_id.to_string()).collect();
        scene.tell(Fact::GroupJoined {
            group: group.name.clone(),
            client: self.client,
            member: self.member.clone(),
            generation: self.generation,
            leader: response.leader.to_string(),
            members: members.clone(),
        });
        let is_leader = response.leader == response.member_id && !members.is_empty();
        let assignments = if is_leader && !response.skip_assignment {
            let partitions = scene
                .topics
                .iter()
                .flat_map(|(name, topic)| (0..topic.partitions).map(move |index| (name.clone(), index)));
            assign(&members, partitions)
        } else {
            Vec::new()
        };
        self.stage = Stage::Syncing { assignments };
        Ok(())
    }

    /// Joins again, as a stranger where it is one now.
    fn start_over(&mut self, scene: &Scene<'_>, code: i16) -> Result<(), String> {
        use ResponseError::{FencedInstanceId, IllegalGeneration, RebalanceInProgress, UnknownMemberId};
        let is = |errors: &[ResponseError]| errors.iter().any(|error| error.code() == code);
        if is(&[UnknownMemberId, FencedInstanceId]) {
            self.member.clear();
        } else if is_passing(code) {
            self.sleeps_until = scene.now + Duration::from_millis(self.dice.below(200));
        } else if !is(&[RebalanceInProgress, IllegalGeneration]) {
            return Err(format!("in {:?} it was told error {code}", self.stage));
        }
        self.own(Vec::new());
        self.stage = Stage::Joining;
        Ok(())
    }

    fn on_committed(
        &mut self,
        scene: &mut Scene<'_>,
        group: &mut Group,
        commit: CommitId,
        version: i16,
        frame: Bytes,
    ) -> Result<(), String> {
        let response = decode::<OffsetCommitRequest>(version, frame)?;
        let codes: Vec<i16> = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.error_code))
            .collect();
        let failed = codes.iter().find(|code| **code != 0);
        let is_of_one_mind = codes.windows(2).all(|pair| pair[0] == pair[1]);
        match failed {
            None => {
                if group.begins == Some(self.client) {
                    group.is_begun = true;
                }
                scene.tell(Fact::CommitAcked { commit });
            }
            Some(code) => {
                self.committed.clear();
                if is_of_one_mind && says_nothing_is_kept(*code) {
                    scene.tell(Fact::CommitRefused { commit, why: format!("error {code}") });
                } else {
                    scene.open_commits.push(commit);
                }
            }
        }
        group.is_over(self.client);
        Ok(())
    }

    fn on_offsets(
        &mut self,
        scene: &mut Scene<'_>,
        group: &Group,
        asked_at: Duration,
        is_begin: bool,
        version: i16,
        response: &OffsetFetchResponse,
    ) -> Result<(), String> {
        let mut found: Vec<(String, u32, i64, String)> = Vec::new();
        let code = match response.groups.first() {
            Some(of) if version >= 8 => {
                for topic in &of.topics {
                    found.extend(topic.partitions.iter().map(|at| {
                        let metadata = at.metadata.as_deref().unwrap_or_default().to_owned();
                        (name_of(&topic.name), at.partition_index as u32, at.committed_offset, metadata)
                    }));
                }
                of.error_code
            }
            _ => {
                for topic in &response.topics {
                    found.extend(topic.partitions.iter().map(|at| {
                        let metadata = at.metadata.as_deref().unwrap_or_default().to_owned();
                        (name_of(&topic.name), at.partition_index as u32, at.committed_offset, metadata)
                    }));
                }
                response.error_code
            }
        };
        if code != 0 {
            return if is_passing(code) { Ok(()) } else { Err(format!("its offsets are error {code}")) };
        }
        found.retain(|(_, _, offset, _)| *offset >= 0);
        let mut offsets = Vec::new();
        for (topic, partition, offset, metadata) in &found {
            let commit = metadata.parse().map(CommitId);
            let commit = commit.map_err(|_| format!("metadata came back as {metadata:?}"))?;
            offsets.push((topic.clone(), *partition, offset.cast_unsigned(), commit));
        }
        if is_begin && self.stage == Stage::Stable && !self.has_positions {
            self.has_positions = true;
            let position = |place: &(String, u32)| {
                let at = offsets.iter().find(|(topic, index, ..)| (topic, index) == (&place.0, &place.1));
                Offset(at.map_or(0, |(_, _, offset, _)| *offset))
            };
            let target = |place: &(String, u32)| {
                let topic = scene.topics.get(&place.0)?.id;
                Some((place.0.clone(), PartitionId { topic, index: place.1 }, position(place)))
            };
            let targets: Vec<_> = self.owned.iter().filter_map(target).collect();
            self.committed = targets
                .iter()
                .map(|(topic, partition, offset)| ((topic.clone(), partition.index), *offset))
                .collect();
            self.reader.assign(targets);
        }
        scene.tell(Fact::OffsetsRead { group: group.name.clone(), asked_at, offsets });
        Ok(())
    }
}

/// Asking again later helps.
fn is_passing(code: i16) -> bool {
    use ResponseError::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator]
        .iter()
        .any(|error| error.code() == code)
}

/// Others are said, too, where it may have reached the disk.
fn says_nothing_is_kept(code: i16) -> bool {
    use ResponseError::{
        CoordinatorLoadInProgress, IllegalGeneration, RebalanceInProgress, UnknownMemberId,
        UnknownTopicOrPartition,
    };
    let clear = [
        CoordinatorLoadInProgress,
        IllegalGeneration,
        RebalanceInProgress,
        UnknownMemberId,
        UnknownTopicOrPartition,
    ];
    clear.iter().any(|error| error.code() == code)
}

impl Group {
    fn id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.name.clone()))
    }
}
