use std::time::Duration;

use engine_api::{
    Assignor, CommitOffset, CommitOffsets, CommittedOffset, CoreId, DeleteRecords, DeleteTopic, GroupAnswer,
    GroupAsk, GroupError, GroupRequest, GroupState, JoinGroup, Joined, ListGroups, MeasureLag, MemberId,
    MemberProtocol, OFFSETS_TOPIC, ProduceError, ReaderId, Request, Response, SyncGroup, TopicError,
    offsets_partition,
};
use storage_frame::{LogId, Offset};
use tests_disk::Operation;

use super::disk;
use super::node::{Node, Settings, create, fetch};
use crate::{GroupsConfig, Input};

fn settings() -> Settings {
    let groups = GroupsConfig {
        session_timeout_min: Duration::from_millis(1),
        initial_rebalance_delay: Duration::ZERO,
        ..GroupsConfig::default()
    };
    Settings { groups, ..Settings::default() }
}

impl Node {
    /// A node with the offsets topic and a topic `a` of two partitions.
    fn with_groups() -> Self {
        let mut node = Self::start(disk::empty(), &settings());
        node.create("a", 2, &[]);
        assert_eq!(node.group("g", GroupAsk::Describe), Err(GroupError::NotReady));
        node
    }

    fn send_group(&mut self, group: &str, ask: GroupAsk) -> u64 {
        self.send(Request::Group(GroupRequest { group: group.into(), ask }))
    }

    #[track_caller]
    fn group_reply(&mut self, key: u64) -> Option<Result<GroupAnswer, GroupError>> {
        match self.reply(key)? {
            Response::Group(result) => Some(result),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn group(&mut self, group: &str, ask: GroupAsk) -> Result<GroupAnswer, GroupError> {
        let key = self.send_group(group, ask);
        self.group_reply(key).expect("an answer")
    }

    #[track_caller]
    fn commit(&mut self, group: &str, offset: u64) -> Result<(), GroupError> {
        let key = self.send_group(group, commit(offset));
        committed(self.group_reply(key).expect("an answer"))
    }

    /// What a group has committed for partition 0 of `a`.
    #[track_caller]
    fn offset(&mut self, group: &str) -> Option<u64> {
        let wanted = Some(vec![("a".to_owned(), vec![0])]);
        match self.group(group, GroupAsk::FetchOffsets(wanted)).expect("it is loaded") {
            GroupAnswer::Offsets(topics) => match &topics[0].1[0].1 {
                Some(CommittedOffset { offset, metadata, .. }) => {
                    assert_eq!(*metadata, format!("at {offset}"));
                    Some(offset.0)
                }
                None => None,
            },
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn join(&mut self, group: &str, member: &str) -> u64 {
        self.send_group(group, join(member))
    }

    #[track_caller]
    fn joined(&mut self, key: u64) -> Joined {
        match self.group_reply(key).expect("an answer").expect("joined") {
            GroupAnswer::Joined(joined) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn list(&mut self, core: u8) -> Result<Vec<String>, GroupError> {
        match self.ask(Request::ListGroups(ListGroups { core: CoreId(core) })) {
            Response::ListGroups(listed) => {
                listed.map(|groups| groups.into_iter().map(|group| group.group).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn offsets_log(&mut self, group: &str) -> LogId {
        let index = offsets_partition(group, settings().offsets_partitions);
        self.describe(OFFSETS_TOPIC).partitions[index as usize].log
    }
}

fn commit(offset: u64) -> GroupAsk {
    let nobody = MemberId { member: String::new(), generation: -1, instance: None };
    let offset = CommitOffset {
        partition: 0,
        offset: Offset(offset),
        leader_epoch: -1,
        metadata: format!("at {offset}"),
    };
    GroupAsk::Commit(CommitOffsets {
        member: nobody,
        retention: None,
        topics: vec![("a".to_owned(), vec![offset])],
    })
}

#[track_caller]
fn committed(answer: Result<GroupAnswer, GroupError>) -> Result<(), GroupError> {
    match answer? {
        GroupAnswer::Committed(topics) => topics[0].1[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

fn join(member: &str) -> GroupAsk {
    GroupAsk::Join(join_of(member))
}

fn join_of(member: &str) -> JoinGroup {
    JoinGroup {
        member: member.into(),
        instance: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(5),
        member_id_required: false,
        supports_skip_assignment: false,
        protocol: MemberProtocol::Classic {
            protocol_type: "test".into(),
            protocols: vec![("one".into(), bytes::Bytes::new())],
        },
    }
}

fn sync(joined: &Joined) -> GroupAsk {
    GroupAsk::Sync(SyncGroup {
        member: MemberId { member: joined.member.clone(), generation: joined.generation, instance: None },
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    })
}

#[test]
fn offsets_topic_is_made_at_the_first_use_of_a_group_and_is_nobody_s() {
    let mut node = Node::start(disk::empty(), &settings());
    node.create("a", 2, &[]);
    assert_eq!(node.names(), ["a"]);
    node.disk_waits = true;
    let keys = [0, 1].map(|_| node.send_group("g", GroupAsk::Describe));
    for key in keys {
        assert_eq!(node.group_reply(key), Some(Err(GroupError::NotReady)));
    }
    node.disk_waits = false;
    node.pump();
    assert_eq!(node.events_named("topic_created"), 2, "once");
    assert_eq!(node.names(), [OFFSETS_TOPIC, "a"]);
    assert_eq!(node.describe(OFFSETS_TOPIC).partitions.len(), 4);
    node.commit("g", 1).expect("kept");
    let refused = node.ask(Request::DeleteTopic(DeleteTopic { name: OFFSETS_TOPIC.into(), id: None }));
    assert!(matches!(refused, Response::DeleteTopic(Err(TopicError::Name { .. }))), "{refused:?}");
    assert!(matches!(node.try_create(OFFSETS_TOPIC, 9, &[]), Err(TopicError::Name { .. })));
    let partition = node.partition(OFFSETS_TOPIC, 0);
    assert!(matches!(node.produce(partition, &["x"]), Err(ProduceError::Invalid { .. })));
    let delete = DeleteRecords { partition, before: Offset(0) };
    let refused = node.ask(Request::DeleteRecords(delete));
    assert!(matches!(refused, Response::DeleteRecords(Err(_))), "{refused:?}");
    let index = offsets_partition("g", 4);
    let partition = node.partition(OFFSETS_TOPIC, index);
    assert!(!node.fetch(partition, 0).expect("may be read").frames.is_empty());
    node.assert_no_errors();
}

#[test]
fn topic_of_node_defaults_that_acknowledge_from_memory_still_keeps_commits() {
    let mut node = Node::with_groups();
    let configs = node.describe(OFFSETS_TOPIC).configs;
    let value = |key: &str| configs.iter().find(|entry| entry.key == key).expect("known").clone();
    assert!(!value("write.caching").is_default && value("write.caching").value == "false");
    assert!(!value("retention.ms").is_default && value("retention.ms").value == "-1");
    node.assert_no_errors();
}

#[test]
fn commit_is_answered_when_it_is_durable_and_kept_from_then_on() {
    let mut node = Node::with_groups();
    node.commit("g", 5).expect("kept");
    node.disk_waits = true;
    let waiting = node.send_group("g", commit(9));
    assert_eq!(node.group_reply(waiting), None, "the disk has not answered");
    assert_eq!(node.offset("g"), Some(5), "and nobody sees it");
    node.disk_waits = false;
    committed(node.group_reply(waiting).expect("answered")).expect("kept");
    assert_eq!(node.offset("g"), Some(9));
    let mut node = node.crash(&settings());
    assert_eq!(node.offset("g"), Some(9));
    node.commit("g", 11).expect("kept");
    let mut node = node.restart(&settings());
    assert_eq!(node.offset("g"), Some(11));
    assert_eq!(node.offset("other"), None);
    node.assert_no_errors();
}

#[test]
fn many_commits_of_a_turn_leave_in_one_write() {
    let mut node = Node::with_groups();
    let keys: Vec<u64> = (0..50).map(|offset| node.send_group("g", commit(offset))).collect();
    let ops_before = node.disk_ops_count;
    for key in keys {
        committed(node.group_reply(key).expect("answered")).expect("kept");
    }
    // The segment is made before its first write.
    assert!(node.disk_ops_count - ops_before <= 4, "{}", node.disk_ops_count - ops_before);
    assert_eq!(node.offset("g"), Some(49));
}

#[test]
fn join_waits_for_the_others_while_other_work_goes_on() {
    let mut node = Node::with_groups();
    let key = node.join("g", "");
    let first = node.joined(key);
    let key = node.send_group("g", sync(&first));
    assert!(matches!(node.group_reply(key), Some(Ok(GroupAnswer::Synced(_)))));
    let second = node.join("g", "");
    assert_eq!(node.group_reply(second), None, "the first one has to join again");
    let partition = node.partition("a", 0);
    node.produce(partition, &["x"]).expect("stored");
    node.commit("other", 3).expect("kept");
    node.pass(Duration::from_secs(1));
    assert_eq!(node.group_reply(second), None);
    let again = node.join("g", &first.member);
    let (first, second) = (node.joined(again), node.joined(second));
    assert_eq!(first.generation, second.generation);
    node.assert_no_errors();
}

#[test]
fn join_that_is_cancelled_is_not_answered_and_stop_answers_the_others() {
    let mut node = Node::with_groups();
    let key = node.join("g", "");
    let first = node.joined(key);
    let key = node.send_group("g", sync(&first));
    node.group_reply(key).expect("answered").expect("synced");
    let keys = [0, 1].map(|_| node.join("g", ""));
    node.pump();
    let core =
        node.shards[0].route(&Request::Group(GroupRequest { group: "g".into(), ask: GroupAsk::Describe }));
    node.cancel(keys[0], core);
    node.input(Input::Stop);
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    assert_eq!(node.group_reply(keys[0]), None);
    assert_eq!(node.group_reply(keys[1]), Some(Err(GroupError::ShuttingDown)));
}

#[test]
fn commit_under_way_when_the_stop_comes_is_finished() {
    let mut node = Node::with_groups();
    node.commit("g", 1).expect("kept");
    node.disk_waits = true;
    let waiting = node.send_group("g", commit(2));
    node.pump();
    node.input(Input::Stop);
    assert_eq!(node.group("g", GroupAsk::Describe), Err(GroupError::ShuttingDown));
    node.disk_waits = false;
    committed(node.group_reply(waiting).expect("finished")).expect("kept");
    node.pass(Duration::from_millis(50));
    let mut node = Node::start(node.disk, &settings());
    assert_eq!(node.offset("g"), Some(2));
}

#[test]
fn requests_are_answered_loading_until_the_log_is_read() {
    let mut node = Node::with_groups();
    node.commit("g", 1).expect("kept");
    let log = node.offsets_log("g");
    let mut node = Node::new(node.disk, &settings());
    node.disk_waits = true;
    let mut loading_count = 0;
    for _ in 0..200 {
        node.pump();
        match node.group("g", GroupAsk::Describe) {
            Err(GroupError::Loading) => loading_count += 1,
            Err(GroupError::NotReady) => {}
            other => {
                assert!(matches!(other, Ok(GroupAnswer::Described(_))), "{other:?}");
                break;
            }
        }
        // This log is the last that the disk turns to.
        let (mine, others): (Vec<_>, Vec<_>) = node.disk_queue.drain(..).partition(|(_, of, ..)| *of == log);
        let is_idle = others.is_empty();
        node.disk_queue.extend(if is_idle { mine.clone() } else { others });
        node.run_disk();
        if !is_idle {
            node.disk_queue.extend(mine);
        }
    }
    assert!(loading_count > 0);
    assert_eq!(node.offset("g"), Some(1));
}

#[test]
fn damaged_log_ends_its_coordinator_alone() {
    let mut node = Node::with_groups();
    for name in ["g", "h", "i", "j", "k"] {
        node.commit(name, 7).expect("kept");
    }
    node.commit("g", 8).expect("kept");
    let log = node.offsets_log("g");
    node.disk.flip_bit_in(log, b"at 7").expect("it is there");
    let mut node = node.crash(&settings());
    let refused = node.group("g", GroupAsk::Describe);
    assert!(matches!(refused, Err(GroupError::StorageFailed { .. })), "{refused:?}");
    assert!(matches!(node.commit("g", 9), Err(GroupError::StorageFailed { .. })));
    let other = ["h", "i", "j", "k"].into_iter().find(|name| node.offsets_log(name) != log);
    assert_eq!(node.offset(other.expect("four partitions")), Some(7));
}

#[test]
fn log_that_fails_tells_everybody_and_serves_nobody_before_the_next_start() {
    let mut node = Node::with_groups();
    node.commit("g", 7).expect("kept");
    let log = node.offsets_log("g");
    node.disk.fail(log, Operation::Write);
    let refused = node.commit("g", 8);
    assert!(matches!(refused, Err(GroupError::StorageFailed { .. })), "{refused:?}");
    assert!(matches!(node.group("g", GroupAsk::Describe), Err(GroupError::StorageFailed { .. })));
    node.disk.mend();
    let mut node = node.restart(&settings());
    assert_eq!(node.offset("g"), Some(7));
    node.commit("g", 8).expect("kept");
}

#[test]
fn without_space_commits_are_refused_and_reading_goes_on() {
    let mut node = Node::with_groups();
    node.commit("g", 7).expect("kept");
    node.input(Input::FreeSpace { free_bytes: 1 });
    assert_eq!(node.commit("g", 8), Err(GroupError::NoSpace));
    assert_eq!(node.offset("g"), Some(7));
    node.input(Input::FreeSpace { free_bytes: 1 << 30 });
    node.commit("g", 8).expect("kept");
    let mut node = Node::start(disk::empty(), &settings());
    node.input(Input::FreeSpace { free_bytes: 1 });
    assert_eq!(node.group("g", GroupAsk::Describe), Err(GroupError::NoSpace));
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_whenever_it_was_deleted() {
    let mut node = Node::with_groups();
    node.commit("g", 7).expect("kept");
    node.delete("a");
    node.create("a", 1, &[]);
    assert_eq!(node.offset("g"), None);
    node.commit("g", 3).expect("kept");
    // The tombstones of this one do not reach the disk.
    let log = node.offsets_log("g");
    node.disk.fail(log, Operation::Write);
    node.delete("a");
    node.disk.mend();
    let mut node = node.restart(&settings());
    node.pass(Duration::from_millis(200));
    node.create("a", 1, &[]);
    assert_eq!(node.offset("g"), None);
}

#[test]
fn lag_is_measured_wherever_the_partition_is() {
    let mut node = Node::with_groups();
    for index in 0..2 {
        let partition = node.partition("a", index);
        for _ in 0..10 {
            node.produce(partition, &["x"]).expect("stored");
        }
        let measure = MeasureLag { partition, offset: Offset(4), reader: None };
        let Response::MeasureLag(Ok(lag)) = node.ask(Request::MeasureLag(measure)) else { panic!("refused") };
        assert_eq!((lag.log_start, lag.high_watermark), (Offset(0), Offset(10)));
        assert!(lag.timestamp.is_some());
    }
    // Of both cores.
    for group in 0..8 {
        node.commit(&format!("g{group}"), 4).expect("kept");
    }
    node.pass(Duration::from_secs(12));
    let lags: Vec<_> = node.shards.iter().flat_map(|shard| shard.stats().groups.lags).collect();
    assert_eq!(lags.len(), 8);
    assert!(lags.iter().all(|lag| lag.records == 6 && lag.topic == "a"), "{lags:?}");
    assert!(lags.iter().all(|lag| lag.age_max > Duration::from_secs(60)), "{lags:?}");
}

/// Two members of native groups, coordinated anywhere, with partitions on both cores and nothing committed.
#[test]
fn a_member_that_reads_nothing_is_stuck_and_one_that_reads_is_not_wherever_its_partitions_are() {
    let groups = GroupsConfig {
        initial_rebalance_delay: Duration::ZERO,
        stuck_interval: Duration::from_secs(5),
        stuck_intervals: 3,
        ..GroupsConfig::default()
    };
    let settings = Settings { groups, ..settings() };
    let mut node = Node::start(disk::empty(), &settings);
    node.create("a", 2, &[]);
    assert_eq!(node.group("reads", GroupAsk::Describe), Err(GroupError::NotReady));
    let partitions = [node.partition("a", 0), node.partition("a", 1)];
    for partition in partitions {
        node.produce(partition, &["x"]).expect("stored");
    }
    let mut ids = Vec::new();
    for group in ["idles", "reads"] {
        let protocol = MemberProtocol::Native { topics: vec!["a".into()], assignor: Assignor::Range };
        let long = Duration::from_secs(1000);
        let join = JoinGroup { protocol, session_timeout: long, ..join_of("") };
        let key = node.send_group(group, GroupAsk::Join(join));
        let joined = node.joined(key);
        assert_eq!(joined.assignment, [("a".to_owned(), vec![0, 1])]);
        ids.push(joined.member);
    }
    for _ in 0..30 {
        node.pass(Duration::from_secs(1));
        for partition in partitions {
            let Request::Fetch(mut fetch) = fetch(partition, 0, 0, None) else { unreachable!() };
            fetch.reader = Some(ReaderId::of_group("reads"));
            assert!(matches!(node.ask(Request::Fetch(fetch)), Response::Fetch(Ok(_))));
        }
    }
    let mut stuck = |group| match node.group(group, GroupAsk::Describe).expect("it is there") {
        GroupAnswer::Described(described) => described.members[0].stuck.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(stuck("idles"), [("a".to_owned(), 0), ("a".to_owned(), 1)]);
    assert_eq!(stuck("reads"), []);
    let told: Vec<_> = node.shards.iter().flat_map(|shard| shard.stats().groups.stuck).collect();
    assert_eq!(told, [("idles".to_owned(), 2)]);
    // Nothing is committed: there is no lag to tell of.
    assert!(node.shards.iter().all(|shard| shard.stats().groups.lags.is_empty()));
}

#[test]
fn thousand_groups_are_kept_listed_and_told() {
    let mut node = Node::with_groups();
    let keys: Vec<u64> =
        (0..1000).map(|group| node.send_group(&format!("g{group}"), commit(group))).collect();
    for key in keys {
        committed(node.group_reply(key).expect("answered")).expect("kept");
    }
    let mut node = node.crash(&settings());
    node.pass(Duration::from_millis(100));
    let mut listed: Vec<String> = (0..2).flat_map(|core| node.list(core).expect("loaded")).collect();
    listed.sort();
    let mut expected: Vec<String> = (0..1000).map(|group| format!("g{group}")).collect();
    expected.sort();
    assert_eq!(listed, expected);
    for group in [0, 17, 999] {
        assert_eq!(node.offset(&format!("g{group}")), Some(group));
    }
    let figures: Vec<_> = node.shards.iter().map(|shard| shard.stats().groups).collect();
    assert_eq!(figures.iter().map(|of| of.groups_count).sum::<u64>(), 1000);
    assert!(figures.iter().all(|of| of.states.iter().all(|(_, state)| *state == GroupState::Empty)));
    assert_eq!(figures.iter().map(|of| of.states.len()).sum::<usize>(), 1000);
    node.assert_no_errors();
}

#[test]
fn topic_that_is_being_made_when_the_node_stops_is_made_by_the_next_one() {
    let mut node = Node::start(disk::empty(), &settings());
    node.disk_waits = true;
    let key = node.send_group("g", GroupAsk::Describe);
    let made = node.send(create("b", 1, &[]));
    assert_eq!(node.group_reply(key), Some(Err(GroupError::NotReady)));
    node.input(Input::Stop);
    node.disk_waits = false;
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    assert!(node.reply(made).is_some());
    let mut node = Node::start(node.disk, &settings());
    let described = node.group("g", GroupAsk::Describe);
    assert!(matches!(described, Err(GroupError::NotReady) | Ok(_)), "{described:?}");
    assert!(node.group("g", GroupAsk::Describe).is_ok());
}

/// How many members `g` has, the first of which has a session of ten seconds.
fn members_after(silence: impl FnOnce(&mut Node)) -> [usize; 2] {
    let mut node = Node::with_groups();
    let key = node.join("g", "");
    let joined = node.joined(key);
    let key = node.send_group("g", sync(&joined));
    node.group_reply(key).expect("answered").expect("synced");
    node.pass(Duration::from_secs(6));
    silence(&mut node);
    let at_first = members_of(&mut node);
    node.pass(Duration::from_secs(12));
    [at_first, members_of(&mut node)]
}

#[test]
fn members_are_not_thrown_out_for_what_they_said_while_nobody_listened() {
    let minute = Duration::from_secs(60);
    let process_stood_still = members_after(|node| {
        node.now.mono += minute;
        node.pass(Duration::from_secs(1));
    });
    // One of them coordinates the group, the other may have its members' connections.
    let core_stood_still = [0, 1].map(|core| {
        members_after(|node| {
            node.asleep = Some(core);
            node.pass(minute);
            node.asleep = None;
            node.pass(Duration::from_secs(1));
        })
    });
    let core_read_nothing = [0, 1].map(|core| {
        members_after(|node| {
            node.input_of(core, Input::Paused(true));
            node.pass(minute);
            node.input_of(core, Input::Paused(false));
            node.pass(Duration::from_secs(1));
        })
    });
    // Then it is the members' turn to be heard of, or their sessions end as ever.
    assert_eq!(process_stood_still, [1, 0]);
    assert_eq!(core_stood_still, [[1, 0]; 2]);
    assert_eq!(core_read_nothing, [[1, 0]; 2]);
    assert_eq!(members_after(|node| node.pass(minute)), [0, 0]);
}

fn members_of(node: &mut Node) -> usize {
    match node.group("g", GroupAsk::Describe).expect("it is there") {
        GroupAnswer::Described(described) => described.members.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_into_a_record_is_refused_and_the_group_lives_on() {
    let mut node = Node::with_groups();
    let key = node.join("g", "");
    let joined = node.joined(key);
    let of = |node: &mut Node, bytes: usize| {
        let GroupAsk::Sync(mut asked) = sync(&joined) else { unreachable!() };
        asked.assignments = vec![(joined.member.clone(), vec![7; bytes].into())];
        let key = node.send_group("g", GroupAsk::Sync(asked));
        node.group_reply(key).expect("an answer")
    };
    let refused = of(&mut node, 9 << 20);
    let Err(GroupError::TooLarge { bytes, bytes_max }) = refused else { panic!("{refused:?}") };
    assert!(bytes > bytes_max && bytes_max == 8 << 20, "{bytes} {bytes_max}");
    assert!(matches!(of(&mut node, 10), Ok(GroupAnswer::Synced(_))));
    let member = MemberId { member: joined.member.clone(), generation: joined.generation, instance: None };
    let offsets = |count: u32| {
        let one = |_| CommitOffset {
            partition: 0,
            offset: Offset(5),
            leader_epoch: -1,
            metadata: "x".repeat(4096),
        };
        vec![("a".to_owned(), (0..count).map(one).collect())]
    };
    let commit = |count| {
        let member = member.clone();
        GroupAsk::Commit(CommitOffsets { member, retention: None, topics: offsets(count) })
    };
    assert!(matches!(node.group("g", commit(3000)), Err(GroupError::TooLarge { .. })));
    assert!(matches!(node.group("g", commit(1000)), Ok(GroupAnswer::Committed(_))));
    assert_eq!(members_of(&mut node), 1);
    node.assert_no_errors();
}
