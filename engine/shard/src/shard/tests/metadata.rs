use engine_api::{
    Acks, AlterTopic, CoreId, InitProducerError, PartitionId, ProduceError, Request, Response, TopicError,
};
use storage_frame::{LogId, Offset};
use storage_log::{FileName, SegmentId};
use tests_disk::Operation;

use super::disk;
use super::node::{Node, Settings, create, fetch, produce, produced, producer};
use crate::controller::META_LOG;

#[test]
fn empty_directory_starts_and_every_core_becomes_ready_once() {
    for cores in 1..=3 {
        let mut node = Node::start(disk::empty(), &Settings { cores, ..Settings::default() });
        assert!(node.is_ready());
        assert!(node.names().is_empty());
        node.assert_no_errors();
    }
}

#[test]
fn topics_survive_restarts_and_another_core_count() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let made = node.create("orders", 5, &[("retention.ms", "1000000")]);
    assert_eq!(made.partitions.iter().map(|p| p.core.0).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
    for index in 0..5 {
        let partition = node.partition("orders", index);
        node.produce(partition, &[&format!("p{index}")]).expect("stored");
    }
    for cores in [3, 1, 2] {
        let settings = Settings { cores, ..Settings::default() };
        node = if cores == 1 { node.crash(&settings) } else { node.restart(&settings) };
        assert!(node.is_ready());
        let topic = node.describe("orders");
        assert_eq!(topic.id, made.id);
        assert!(topic.partitions.iter().all(|p| p.core.0 < cores));
        assert!(topic.partitions.iter().all(|p| p.leader_epoch.0 == node.incarnation));
        assert_eq!(topic.configs, made.configs);
        for index in 0..5 {
            let partition = node.partition("orders", index);
            assert_eq!(node.values(partition)[0], format!("p{index}"));
            node.produce(partition, &["more"]).expect("stored");
        }
    }
    let partition = node.partition("orders", 4);
    assert_eq!(node.values(partition), ["p4", "more", "more", "more"]);
    node.assert_no_errors();
}

#[test]
fn create_is_answered_when_every_core_knows_the_topic_and_not_before() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 3, ..Settings::default() });
    node.asleep = Some(2);
    let key = node.send(create("a", 3, &[]));
    assert_eq!(node.reply(key), None);
    node.asleep = None;
    let Some(Response::CreateTopic(Ok(made))) = node.reply(key) else { panic!("not made") };
    for shard in &node.shards {
        for partition in &made.partitions {
            let id = PartitionId { topic: made.id, index: partition.index };
            assert_eq!(shard.route(&produce(id, Acks::All, &["x"], None)), partition.core);
        }
    }
}

#[test]
fn topic_made_anew_never_shows_old_data() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let old = node.create("a", 2, &[]);
    let old_partition = node.partition("a", 0);
    node.produce(old_partition, &["old"]).expect("stored");
    node.delete("a");
    for partition in &old.partitions {
        assert!(!node.disk.has(partition.log), "files of a deleted topic go");
    }
    let new = node.create("a", 2, &[]);
    assert_ne!(new.id, old.id);
    assert!(new.partitions.iter().all(|p| old.partitions.iter().all(|o| o.log != p.log)));
    let partition = node.partition("a", 0);
    assert!(node.values(partition).is_empty());
    assert_eq!(node.produce(old_partition, &["late"]), Err(ProduceError::UnknownPartition));
    let mut node = node.crash(&Settings::default());
    assert!(node.values(partition).is_empty());
    assert_eq!(node.produce(old_partition, &["late"]), Err(ProduceError::UnknownPartition));
}

#[test]
fn produces_that_wait_are_told_when_their_topic_is_deleted() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 1, ..Settings::default() });
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    let log = node.describe("a").partitions[0].log;
    node.disk_waits = true;
    let key = node.send(produce(partition, Acks::All, &["1"], None));
    node.pump();
    let delete = node.send(Request::DeleteTopic(engine_api::DeleteTopic { name: "a".into(), id: None }));
    node.pump();
    // The write of the batch is slow; the delete's is not.
    let (mut slow, fast): (Vec<_>, Vec<_>) = node.disk_queue.drain(..).partition(|(_, of, ..)| *of == log);
    node.disk_queue.extend(fast);
    node.run_disk();
    assert_eq!(produced(node.reply(key).expect("told")), Err(ProduceError::UnknownPartition));
    assert_eq!(node.reply(delete), Some(Response::DeleteTopic(Ok(()))));
    assert!(node.disk.has(log), "its files are in use");
    node.disk_queue.extend(slow.drain(..));
    node.disk_waits = false;
    node.pump();
    assert!(!node.disk.has(log));
}

#[test]
fn files_left_behind_by_a_crash_are_swept_by_the_next_start() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let made = node.create("a", 3, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["x"]).expect("stored");
    let logs: Vec<LogId> = made.partitions.iter().map(|p| p.log).collect();
    disk::fail_all(&mut node.disk, &logs, Operation::RemoveLog);
    node.delete("a");
    node.disk.mend();
    assert!(node.disk.has(logs[0]));
    let mut node = node.crash(&Settings::default());
    assert!(logs.iter().all(|log| !node.disk.has(*log)));
    node.create("b", 1, &[]);
    let ops_before = node.disk_ops_count;
    let node = node.crash(&Settings::default());
    assert!(node.disk_ops_count < ops_before + 100);
    assert_eq!(node.events_named("log_not_removed"), 0);
}

#[test]
fn altered_topic_gets_partitions_and_settings_at_once_and_keeps_them() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    let configs = vec![("max.message.bytes".to_owned(), Some("100".to_owned()))];
    let alter = AlterTopic { name: "a".into(), partitions: Some(3), configs, based_on: None };
    let Response::AlterTopic(Ok(topic)) = node.ask(Request::AlterTopic(alter)) else { panic!("refused") };
    assert_eq!(topic.partitions.len(), 3);
    let error = node.produce(partition, &[&"x".repeat(200)]).expect_err("too large now");
    assert!(matches!(error, ProduceError::TooLarge { batch_bytes_max: 100, .. }), "{error}");
    let mut node = node.crash(&Settings::default());
    let last = node.partition("a", 2);
    node.produce(last, &["x"]).expect("stored");
    let error = node.produce(last, &[&"x".repeat(200)]).expect_err("still too large");
    assert!(matches!(error, ProduceError::TooLarge { batch_bytes_max: 100, .. }), "{error}");
}

#[test]
fn changes_asked_for_at_the_same_time_are_decided_one_after_the_other() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let keys: Vec<u64> = (0..3).map(|_| node.send(create("same", 1, &[]))).collect();
    let outcomes: Vec<bool> =
        keys.into_iter().map(|key| matches!(node.reply(key), Some(Response::CreateTopic(Ok(_))))).collect();
    assert_eq!(outcomes, [true, false, false]);
    assert_eq!(node.names(), ["same"]);
}

#[test]
fn producer_ids_are_never_given_twice_over_crashes() {
    let mut disk = disk::empty();
    let mut given = Vec::new();
    for _ in 0..3 {
        let mut node = Node::start(disk, &Settings::default());
        for _ in 0..3 {
            match node.ask(Request::InitProducer) {
                Response::InitProducer(Ok(id)) => given.push(id),
                other => panic!("{other:?}"),
            }
        }
        disk = node.disk;
    }
    assert_eq!(given, [1, 2, 3, 1001, 1002, 1003, 2001, 2002, 2003]);
}

#[test]
fn metadata_log_stays_small_however_many_changes_there_were() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 1, ..Settings::default() });
    let value = "9".repeat(15);
    let configs = [("retention.ms", value.as_str()), ("retention.bytes", value.as_str())];
    node.create("kept", 2, &configs);
    for round in 0..400 {
        let keys: Vec<u64> = (0..50)
            .flat_map(|number| {
                let name = format!("{round}-{number}-{}", "x".repeat(200));
                let made = node.send(create(&name, 1, &configs));
                [made, node.send(Request::DeleteTopic(engine_api::DeleteTopic { name, id: None }))]
            })
            .collect();
        node.pump();
        for key in keys {
            assert!(node.replies.remove(&key).is_some());
        }
    }
    assert!(node.events_named("metadata_snapshot") >= 1);
    let bytes = node.disk.log_bytes(META_LOG);
    assert!(bytes < 24 << 20, "{bytes}");
    let version_events = node.events_named("topic_created");
    assert_eq!(version_events, 20_001);
    let mut node = node.crash(&Settings { cores: 1, ..Settings::default() });
    assert_eq!(node.names(), ["kept"]);
    let mut node = node.restart(&Settings { cores: 2, ..Settings::default() });
    assert_eq!(node.names(), ["kept"]);
    let partition = node.partition("kept", 1);
    assert_eq!(node.produce(partition, &["x"]).expect("stored").base_offset, Offset(0));
    node.assert_no_errors();
}

#[test]
fn metadata_of_another_cluster_is_not_touched() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let bytes = node.disk.log_bytes(META_LOG);
    let mut node = node.crash(&Settings { cluster_id: 78, ..Settings::default() });
    assert!(!node.is_ready());
    assert_eq!(node.events_named("metadata_unusable"), 1);
    assert!(matches!(node.try_create("b", 1, &[]), Err(TopicError::StorageFailed { .. })));
    assert_eq!(node.disk.log_bytes(META_LOG), bytes);
    let mut node = node.restart(&Settings::default());
    assert_eq!(node.names(), ["a"]);
}

#[test]
fn damaged_metadata_log_stops_the_start_and_deletes_nothing() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let made = node.create("first.topic", 1, &[]);
    node.create("second.topic", 1, &[]);
    let partition = node.partition("first.topic", 0);
    node.produce(partition, &["x"]).expect("stored");
    node.disk.flip_bit_in(META_LOG, b"first.topic").expect("it is there");
    let mut node = node.crash(&Settings::default());
    assert!(!node.is_ready());
    assert_eq!(node.events_named("metadata_unusable"), 1);
    assert!(node.disk.has(made.partitions[0].log));
    assert_eq!(node.produce(partition, &["x"]), Err(ProduceError::NotLeader));
    let answer = node.ask(Request::InitProducer);
    assert!(matches!(answer, Response::InitProducer(Err(InitProducerError::StorageFailed { .. }))));
}

/// The checkpoint of the metadata log was lost, and the log's start with it: the log began with the first frame of
/// the segment that its snapshot stands in, a change or the rest of an older snapshot. The start was refused ("a
/// command before the snapshot that it changes"), and so was every later one, though nothing was missing.
#[test]
fn start_without_the_metadata_checkpoint_reads_from_the_first_whole_snapshot() {
    let settings = Settings { cores: 1, metadata_snapshot_bytes: 4 << 10, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    let mut from_snapshot = 0;
    let name = |round: usize| format!("{round}-{}", "x".repeat(100 + round * 7 % 97));
    for round in 0..200 {
        node.create(&name(round), 1, &[]);
        if round >= 7 {
            node.delete(&name(round - 7));
        }
        let mut disk = node.disk.clone();
        disk.take_file(META_LOG, FileName::Checkpoint);
        from_snapshot += u32::from(disk.file(META_LOG, FileName::Segment(SegmentId(1))).is_none());
        let mut other = Node::start(disk, &settings);
        assert!(other.is_ready(), "change {round}: {:?}", other.events);
        assert_eq!(other.names(), node.names());
    }
    assert!(from_snapshot > 100, "{from_snapshot}");
}

/// A node whose logs are still closed, with one record in a partition of it.
fn before_its_logs_are_open() -> (Node, PartitionId) {
    let settings = Settings { opens_max: 1, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    node.create("a", 8, &[]);
    let partition = node.partition("a", 7);
    node.produce(partition, &["before"]).expect("stored");
    let mut node = Node::new(node.disk, &settings);
    node.disk_waits = true;
    // Metadata first; the logs' own files stay untouched.
    for _ in 0..50 {
        let (meta, others): (Vec<_>, Vec<_>) =
            node.disk_queue.drain(..).partition(|(_, log, ..)| *log == META_LOG);
        node.disk_queue.extend(meta);
        node.run_disk();
        node.disk_queue.extend(others);
        node.pump();
    }
    assert!(!node.is_ready());
    (node, partition)
}

#[test]
fn requests_that_come_before_the_logs_are_open_wait_for_them() {
    let (mut node, partition) = before_its_logs_are_open();
    let keys = [0, 1].map(|_| node.send(produce(partition, Acks::All, &["after"], None)));
    assert_eq!(node.reply(keys[0]), None);
    node.disk_waits = false;
    let offsets = keys.map(|key| produced(node.reply(key).expect("answered")).expect("stored").base_offset.0);
    assert_eq!(offsets, [1, 2]);
    assert!(node.is_ready());
}

/// The simulator's Kafka clients found the last of them served first: its producer was told that one before it was
/// missing.
#[test]
fn requests_that_wait_for_the_logs_keep_their_order_when_one_of_them_is_cancelled() {
    let (mut node, partition) = before_its_logs_are_open();
    let owner = node.shards[0].route(&fetch(partition, 0, 1, None));
    let waits = node.send(fetch(partition, 0, 1, None));
    let keys = [0, 1, 2].map(|nth| node.send(produce(partition, Acks::All, &["after"], producer(7, 0, nth))));
    node.pump();
    node.cancel(waits, owner);
    node.disk_waits = false;
    let offsets = keys.map(|key| produced(node.reply(key).expect("answered")).expect("stored").base_offset.0);
    assert_eq!(offsets, [1, 2, 3]);
}

#[test]
fn change_on_a_core_that_is_not_the_controllers_is_refused_as_not_ready() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    let slot = engine_api::ReplySlot { core: CoreId(0), key: 999 };
    let now = node.now;
    node.shards[1].handle(now, crate::Input::Request { slot, request: create("a", 1, &[]) });
    assert_eq!(node.reply(999), Some(Response::CreateTopic(Err(TopicError::NotReady))));
}
