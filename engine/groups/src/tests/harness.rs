//! A coordinator with a disk that is told when to be done, and the answers it has given.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use engine_api::*;
use storage_frame::{Now, Offset, TimestampMs};

use crate::{Effect, Groups, GroupsConfig, StoredRecord, Topics};

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) topics: BTreeMap<String, u32>,
}

impl Topics for World {
    fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).copied()
    }
}

pub(super) type Answer = Result<GroupAnswer, GroupError>;

pub(super) struct Harness {
    pub(super) config: GroupsConfig,
    pub(super) groups: Groups,
    pub(super) world: World,
    pub(super) now: Now,
    next_key: u64,
    pub(super) answers: BTreeMap<u64, Answer>,
    /// Asked for and not durable.
    pub(super) unstored: VecDeque<(u64, Vec<StoredRecord>)>,
    pub(super) durable: Vec<StoredRecord>,
    pub(super) events: Vec<(&'static str, Vec<(&'static str, String)>)>,
    /// Stores are durable at once.
    pub(super) is_fast: bool,
}

pub(super) fn config() -> GroupsConfig {
    GroupsConfig {
        initial_rebalance_delay: Duration::ZERO,
        members_max: 10,
        seed: 7,
        ..GroupsConfig::default()
    }
}

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(60);

impl Harness {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: GroupsConfig) -> Self {
        let now = Now { mono: Duration::from_secs(100), wall: TimestampMs(1_000_000) };
        let mut groups = Groups::new(config.clone(), now);
        groups.loaded(now);
        Self {
            config,
            groups,
            world: World { topics: [("t".to_owned(), 3)].into() },
            now,
            next_key: 1,
            answers: BTreeMap::new(),
            unstored: VecDeque::new(),
            durable: Vec::new(),
            events: Vec::new(),
            is_fast: true,
        }
    }

    fn slot(key: u64) -> ReplySlot {
        ReplySlot { core: CoreId(0), key }
    }

    /// Not answered yet, maybe: look with `answer`.
    pub(super) fn ask(&mut self, group: &str, ask: GroupAsk) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let request = GroupRequest { group: group.into(), ask };
        self.groups.handle(self.now, Self::slot(key), request, &self.world);
        self.settle();
        key
    }

    pub(super) fn cancel(&mut self, key: u64) {
        self.groups.cancel(self.now, Self::slot(key));
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        loop {
            while let Some(effect) = self.groups.poll() {
                match effect {
                    Effect::Reply(slot, answer) => {
                        let twice = self.answers.insert(slot.key, answer);
                        assert!(twice.is_none(), "request {} is answered twice", slot.key);
                    }
                    Effect::Store { ticket, records } => self.unstored.push_back((ticket, records)),
                    Effect::Event(name, fields) => self.events.push((name, fields)),
                }
            }
            if !self.is_fast || !self.store_one() {
                return;
            }
        }
    }

    pub(super) fn store_one(&mut self) -> bool {
        let Some((ticket, records)) = self.unstored.pop_front() else { return false };
        self.durable.extend(records);
        self.groups.stored(self.now, ticket);
        true
    }

    pub(super) fn store_all(&mut self) {
        while self.store_one() {
            self.settle();
        }
    }

    pub(super) fn fail_store(&mut self) {
        let (ticket, _) = self.unstored.pop_front().expect("something is to be stored");
        self.groups.store_failed(self.now, ticket, GroupError::StorageFailed { why: "test".into() });
        self.settle();
    }

    /// Time passes, with ticks.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while self.now.mono < end {
            let step = Duration::from_millis(100).min(end - self.now.mono);
            self.now.mono += step;
            self.now.wall.0 += step.as_millis() as i64;
            self.groups.tick(self.now, &self.world);
            self.settle();
        }
    }

    /// Killed and started again with what was durable.
    pub(super) fn restart(&mut self) {
        let seed = self.config.seed + 1;
        self.config.seed = seed;
        self.groups = Groups::new(self.config.clone(), self.now);
        self.unstored.clear();
        for record in self.durable.clone() {
            self.groups.restore(record);
        }
        self.groups.loaded(self.now);
        self.settle();
    }

    pub(super) fn answer(&self, key: u64) -> Option<&Answer> {
        self.answers.get(&key)
    }

    #[track_caller]
    pub(super) fn answered(&mut self, group: &str, ask: GroupAsk) -> Answer {
        let key = self.ask(group, ask);
        self.answers.remove(&key).expect("it is answered at once")
    }

    pub(super) fn join(&mut self, group: &str, join: JoinGroup) -> u64 {
        self.ask(group, GroupAsk::Join(join))
    }

    #[track_caller]
    pub(super) fn joined(&mut self, key: u64) -> Joined {
        match self.answers.remove(&key) {
            Some(Ok(GroupAnswer::Joined(joined))) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn synced(&mut self, key: u64) -> Bytes {
        match self.answers.remove(&key) {
            Some(Ok(GroupAnswer::Synced(synced))) => synced.assignment,
            other => panic!("not synced: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn error(&mut self, key: u64) -> GroupError {
        match self.answers.remove(&key) {
            Some(Err(error)) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    pub(super) fn sync(&mut self, group: &str, joined: &Joined, assignments: &[(&str, &[u8])]) -> u64 {
        let assignments = assignments.iter().map(|(id, bytes)| ((*id).into(), Bytes::copy_from_slice(bytes)));
        let sync = SyncGroup {
            member: id(&joined.member, joined.generation),
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: assignments.collect(),
        };
        self.ask(group, GroupAsk::Sync(sync))
    }

    /// A group of one classic member that is stable.
    pub(super) fn stable_one(&mut self, group: &str) -> Joined {
        let key = self.join(group, classic(""));
        let joined = self.joined(key);
        let key = self.sync(group, &joined, &[(&joined.member, b"all")]);
        assert_eq!(&self.synced(key)[..], b"all");
        joined
    }

    /// Two members, stable; the first is the leader.
    pub(super) fn stable_two(&mut self, group: &str) -> (Joined, Joined) {
        let one = self.stable_one(group);
        let second = self.join(group, classic(""));
        let first = self.join(group, classic(&one.member));
        let (first, second) = (self.joined(first), self.joined(second));
        let sync_second = self.sync(group, &second, &[]);
        let all: [(&str, &[u8]); 2] = [(&first.member, b"1"), (&second.member, b"2")];
        let sync_first = self.sync(group, &first, &all);
        assert_eq!(&self.synced(sync_first)[..], b"1");
        assert_eq!(&self.synced(sync_second)[..], b"2");
        (first, second)
    }

    #[track_caller]
    pub(super) fn heartbeat(&mut self, group: &str, joined: &Joined) -> Result<(), GroupError> {
        let ask = GroupAsk::Heartbeat(id(&joined.member, joined.generation));
        self.answered(group, ask).map(|answer| assert_eq!(answer, GroupAnswer::Alive))
    }

    #[track_caller]
    pub(super) fn describe(&mut self, group: &str) -> GroupDescription {
        match self.answered(group, GroupAsk::Describe) {
            Ok(GroupAnswer::Described(description)) => description,
            other => panic!("not described: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn committed(&mut self, group: &str, topic: &str, partition: u32) -> Option<CommittedOffset> {
        let ask = GroupAsk::FetchOffsets(Some(vec![(topic.into(), vec![partition])]));
        match self.answered(group, ask) {
            Ok(GroupAnswer::Offsets(mut found)) => found[0].1.remove(0).1,
            other => panic!("no offsets: {other:?}"),
        }
    }
}

pub(super) fn id(member: &str, generation: i32) -> MemberId {
    MemberId { member: member.into(), generation, instance: None }
}

pub(super) fn classic(member: &str) -> JoinGroup {
    JoinGroup {
        member: member.into(),
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        member_id_required: false,
        supports_skip_assignment: true,
        protocol: MemberProtocol::Classic {
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), subscription("t"))],
        },
    }
}

pub(super) fn classic_static(member: &str, instance: &str) -> JoinGroup {
    JoinGroup { instance: Some(instance.into()), ..classic(member) }
}

pub(super) fn native(member: &str, topics: &[&str], assignor: Assignor) -> JoinGroup {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    JoinGroup { protocol: MemberProtocol::Native { topics, assignor }, ..classic(member) }
}

pub(super) fn with_protocols(member: &str, protocols: &[&str]) -> JoinGroup {
    let protocols = protocols.iter().map(|name| ((*name).to_owned(), subscription("t"))).collect();
    JoinGroup {
        protocol: MemberProtocol::Classic { protocol_type: "consumer".into(), protocols },
        ..classic(member)
    }
}

/// ConsumerProtocolSubscription v0 of one topic.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

/// ConsumerProtocolAssignment v0 of one topic.
pub(super) fn assignment(topic: &str, partitions: &[u32]) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&(partitions.len() as u32).to_be_bytes());
    for partition in partitions {
        bytes.extend_from_slice(&partition.to_be_bytes());
    }
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

pub(super) fn commit(member: MemberId, offsets: &[(&str, u32, u64)]) -> GroupAsk {
    let mut topics: Vec<(String, Vec<CommitOffset>)> = Vec::new();
    for (topic, partition, offset) in offsets {
        let one = CommitOffset {
            partition: *partition,
            offset: Offset(*offset),
            leader_epoch: 5,
            metadata: format!("at {offset}"),
        };
        topics.push(((*topic).to_owned(), vec![one]));
    }
    GroupAsk::Commit(CommitOffsets { member, retention: None, topics })
}
