use std::time::Duration;

use engine_api::{
    Acks, DeleteRecords, DeleteRecordsError, FetchError, FindOffset, FoundOffset, PartitionId, Place,
    Request, Response,
};
use storage_frame::{LogId, Offset, TimestampMs};
use storage_log::DiskOp;
use tests_disk::Operation;

use super::disk;
use super::node::{Node, Settings, TICK, fetch, fetched, produce, records, text};
use crate::limits::{DELETES_WAITING_MAX, READS_PER_PARTITION_MAX};

fn with_topic() -> (Node, PartitionId) {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    (node, partition)
}

#[test]
fn waiting_fetch_is_woken_exactly_when_the_record_is_durable() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["0"]).expect("stored");
    let key = node.send(fetch(partition, 1, 1, None));
    assert_eq!(node.reply(key), None);
    node.disk_waits = true;
    node.send(produce(partition, Acks::All, &["1"], None));
    assert_eq!(node.reply(key), None);
    node.disk_waits = false;
    let fetched = fetched(node.reply(key).expect("woken")).expect("readable");
    assert_eq!(records(&fetched.frames), [(Offset(1), "1".to_owned())]);
    assert_eq!(fetched.high_watermark, Offset(2));
}

#[test]
fn fetch_waits_for_as_many_bytes_as_asked_or_until_its_time_is_over() {
    let (mut node, partition) = with_topic();
    let enough = node.send(fetch(partition, 0, 1000, Some(Duration::from_secs(10))));
    let late = node.send(fetch(partition, 0, 100_000, Some(Duration::from_millis(100))));
    node.produce(partition, &["small"]).expect("stored");
    assert_eq!((node.reply(enough), node.reply(late)), (None, None));
    node.produce(partition, &[&text(900)]).expect("stored");
    assert_eq!(fetched(node.reply(enough).expect("woken")).expect("readable").frames.len(), 2);
    assert_eq!(node.reply(late), None);
    node.pass(Duration::from_millis(100));
    assert_eq!(fetched(node.reply(late).expect("timed out")).expect("readable").frames.len(), 2);
}

#[test]
fn fetch_at_the_end_that_may_not_wait_is_answered_empty() {
    let (mut node, partition) = with_topic();
    for request in [fetch(partition, 0, 0, None), fetch(partition, 0, 1, Some(Duration::ZERO))] {
        let fetched = fetched(node.ask(request)).expect("in range");
        assert!(fetched.frames.is_empty());
    }
}

#[test]
fn many_waiting_fetches_are_answered_once_each() {
    let (mut node, partition) = with_topic();
    let keys: Vec<u64> =
        (0..100).map(|_| node.send(fetch(partition, 0, 1, Some(Duration::from_secs(1))))).collect();
    node.pump();
    assert_eq!(node.shards.iter().map(|shard| shard.stats().waiting_fetches).sum::<u64>(), 100);
    node.produce(partition, &["x"]).expect("stored");
    for key in keys {
        assert_eq!(fetched(node.reply(key).expect("woken")).expect("readable").frames.len(), 1);
    }
    node.pass(Duration::from_secs(2));
    assert!(node.replies.is_empty());
}

#[test]
fn cancelled_fetch_is_forgotten() {
    let (mut node, partition) = with_topic();
    let core = node.describe("a").partitions[0].core;
    let key = node.send(fetch(partition, 0, 1, None));
    node.pump();
    node.cancel(key, core);
    node.produce(partition, &["x"]).expect("stored");
    assert_eq!(node.reply(key), None);
    assert_eq!(node.shards[usize::from(core.0)].stats().waiting_fetches, 0);
}

#[test]
fn offsets_out_of_range_are_refused_both_ways() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["0", "1", "2"]).expect("stored");
    let error = node.fetch(partition, 4).expect_err("above the end");
    let range = |asked| FetchError::OffsetOutOfRange {
        asked: Offset(asked),
        log_start: Offset(0),
        high_watermark: Offset(3),
    };
    assert_eq!(error, range(4));
    delete_before(&mut node, partition, 2).expect("deleted");
    let error = node.fetch(partition, 1).expect_err("below the start");
    let range =
        FetchError::OffsetOutOfRange { asked: Offset(1), log_start: Offset(2), high_watermark: Offset(3) };
    assert_eq!(error, range);
    assert_eq!(node.values_from(partition, 2), ["2"]);
}

fn delete_before(node: &mut Node, partition: PartitionId, before: u64) -> Result<Offset, DeleteRecordsError> {
    match node.ask(Request::DeleteRecords(DeleteRecords { partition, before: Offset(before) })) {
        Response::DeleteRecords(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deleted_records_stay_deleted_after_a_crash() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["0", "1"]).expect("stored");
    node.produce(partition, &["2"]).expect("stored");
    assert_eq!(delete_before(&mut node, partition, 2), Ok(Offset(2)));
    assert_eq!(delete_before(&mut node, partition, 1), Ok(Offset(2)));
    let range = DeleteRecordsError::OffsetOutOfRange {
        asked: Offset(4),
        log_start: Offset(2),
        high_watermark: Offset(3),
    };
    assert_eq!(delete_before(&mut node, partition, 4), Err(range));
    let mut node = node.crash(&Settings::default());
    assert_eq!(find(&mut node, partition, Place::Start).offset, Offset(2));
    assert_eq!(node.values_from(partition, 2), ["2"]);
}

#[test]
fn delete_is_answered_when_it_is_durable_and_not_before() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["0", "1"]).expect("stored");
    node.disk_waits = true;
    let key = node.send(Request::DeleteRecords(DeleteRecords { partition, before: Offset(1) }));
    assert_eq!(node.reply(key), None);
    let again = node.send(Request::DeleteRecords(DeleteRecords { partition, before: Offset(1) }));
    assert_eq!(node.reply(again), None);
    node.disk_waits = false;
    assert_eq!(node.reply(key), Some(Response::DeleteRecords(Ok(Offset(1)))));
    assert_eq!(node.reply(again), Some(Response::DeleteRecords(Ok(Offset(1)))));
}

#[track_caller]
fn find(node: &mut Node, partition: PartitionId, place: Place) -> FoundOffset {
    match node.ask(Request::FindOffset(FindOffset { partition, place })) {
        Response::FindOffset(Ok(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn places_are_found_by_start_end_and_time() {
    let (mut node, partition) = with_topic();
    assert_eq!(find(&mut node, partition, Place::Timestamp(TimestampMs(0))).offset, Offset(0));
    node.produce(partition, &["0", "1"]).expect("stored");
    node.produce(partition, &["2"]).expect("stored");
    assert_eq!(find(&mut node, partition, Place::Start).offset, Offset(0));
    assert_eq!(find(&mut node, partition, Place::End).offset, Offset(3));
    let found = find(&mut node, partition, Place::Timestamp(TimestampMs(1000)));
    assert_eq!((found.offset, found.timestamp), (Offset(0), Some(TimestampMs(1000))));
    let found = find(&mut node, partition, Place::Timestamp(TimestampMs(1001)));
    assert_eq!((found.offset, found.timestamp), (Offset(3), None));
    let mut node = node.crash(&Settings::default());
    let found = find(&mut node, partition, Place::Timestamp(TimestampMs(1000)));
    assert_eq!((found.offset, found.timestamp), (Offset(0), Some(TimestampMs(1000))));
}

#[test]
fn old_records_are_read_from_disk_and_counted_so() {
    let (mut node, partition) = with_topic();
    for number in 0..200 {
        node.produce(partition, &[&format!("{number}{}", text(1000))]).expect("stored");
    }
    let mut node = node.crash(&Settings::default());
    assert_eq!(node.values(partition).len(), 200);
    let disk_bytes: u64 = node.shards.iter().map(|shard| shard.stats().fetch_disk_bytes).sum();
    assert!(disk_bytes > 200_000, "{disk_bytes}");
}

#[test]
fn reads_from_disk_wait_for_each_other_when_memory_is_short() {
    let settings = Settings { memory_bytes_max: 4 << 20, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    for _ in 0..20 {
        node.produce(partition, &[&text(1000)]).expect("stored");
    }
    let mut node = node.crash(&settings);
    node.disk_waits = true;
    let keys: Vec<u64> = (0..20).map(|offset| node.send(fetch(partition, offset, 0, None))).collect();
    node.pump();
    let memory: u64 = node.shards.iter().map(|shard| shard.stats().memory_bytes).sum();
    assert!(memory < 2 << 20, "one read of a mebibyte at a time: {memory}");
    node.send(produce(partition, Acks::All, &["live"], None));
    node.pump();
    for (core, log, op, what) in std::mem::take(&mut node.disk_queue) {
        let is_read = matches!(what, DiskOp::Read { .. });
        node.disk_queue.push_back((core, log, op, what));
        if !is_read {
            let asked = node.disk_queue.pop_back().expect("just put there");
            let rest = std::mem::replace(&mut node.disk_queue, [asked].into());
            node.run_disk();
            node.disk_queue.extend(rest);
        }
    }
    node.pump();
    let live = node.send(fetch(partition, 20, 1, None));
    assert!(node.reply(live).is_some(), "readers of the tail do not wait for those of the past");
    node.disk_waits = false;
    for key in keys {
        assert!(!fetched(node.reply(key).expect("answered")).expect("readable").frames.is_empty());
    }
}

#[test]
fn fetch_of_a_deleted_topic_that_waits_is_told() {
    let (mut node, partition) = with_topic();
    let key = node.send(fetch(partition, 0, 1, None));
    node.pump();
    node.delete("a");
    assert_eq!(node.reply(key), Some(Response::Fetch(Err(FetchError::UnknownPartition))));
}

#[test]
fn damaged_log_is_not_written_and_its_readers_are_told_where_it_ends() {
    let (mut node, partition) = with_topic();
    let log = node.describe("a").partitions[0].log;
    node.produce(partition, &["good"]).expect("stored");
    node.produce(partition, &["to be damaged"]).expect("stored");
    node.produce(partition, &["after"]).expect("stored");
    node.disk.flip_bit_in(log, b"to be damaged").expect("it is there");
    let mut node = node.crash(&Settings::default());
    assert!(node.is_ready());
    assert_eq!(node.events_named("log_damaged"), 1);
    assert_eq!(
        records(&node.fetch(partition, 0).expect("readable").frames),
        [(Offset(0), "good".to_owned())]
    );
    for offset in [1, 2] {
        let error = fetched(node.ask(fetch(partition, offset, 1, None))).expect_err("damaged");
        assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
    }
    let error = node.produce(partition, &["x"]).expect_err("damaged");
    assert!(matches!(error, engine_api::ProduceError::Damaged { .. }), "{error}");
    for core in 0..2 {
        let troubled = describe_cluster_on(&mut node, core).troubled;
        assert_eq!(troubled.len(), 1, "core {core}");
        assert_eq!((troubled[0].topic.as_str(), troubled[0].end), ("a", Offset(1)));
    }
    // A stop does not hide the damage behind a marker that says all is well.
    let mut node = node.restart(&Settings::default());
    assert_eq!(node.events_named("log_damaged"), 1);
    node.delete("a");
    node.pass(TICK);
    assert!(describe_cluster_on(&mut node, 1).troubled.is_empty());
}

pub(super) fn describe_cluster_on(node: &mut Node, core: usize) -> engine_api::ClusterDescription {
    let slot = engine_api::ReplySlot { core: engine_api::CoreId(0), key: 1 << 40 };
    let input = crate::Input::Request { slot, request: Request::DescribeCluster };
    let now = node.now;
    node.shards[core].handle(now, input);
    match node.reply(1 << 40) {
        Some(Response::DescribeCluster(description)) => description,
        other => panic!("{other:?}"),
    }
}

/// A node that has to read the topic from a disk that does nothing.
fn with_old_records(memory_bytes_max: usize) -> (Node, PartitionId) {
    let settings = Settings { memory_bytes_max, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    for _ in 0..20 {
        node.produce(partition, &[&text(1000)]).expect("stored");
    }
    let mut node = node.crash(&settings);
    node.disk_waits = true;
    (node, partition)
}

fn reads_asked(node: &Node) -> usize {
    node.disk_queue.iter().filter(|(.., what)| matches!(what, DiskOp::Read { .. })).count()
}

#[test]
fn fetch_that_cannot_wait_for_ever_is_refused_when_memory_does_not_come() {
    let (mut node, partition) = with_old_records(4 << 20);
    let keys = [0, 1, 2].map(|offset| node.send(fetch(partition, offset, 0, Some(Duration::ZERO))));
    node.pass(Duration::from_secs(4));
    assert!(node.replies.is_empty(), "memory may still come");
    node.pass(Duration::from_secs(2));
    assert_eq!(reads_asked(&node), 1, "its time being over gives nobody memory");
    for key in &keys[1..] {
        assert_eq!(node.reply(*key), Some(Response::Fetch(Err(FetchError::Overloaded))));
    }
    node.disk_waits = false;
    fetched(node.reply(keys[0]).expect("answered")).expect("readable");
}

#[test]
fn reads_whose_askers_are_gone_take_memory_until_the_disk_has_done_them() {
    let (mut node, partition) = with_old_records(4 << 20);
    let core = node.describe("a").partitions[0].core;
    let shard = usize::from(core.0);
    let first = node.send(fetch(partition, 0, 0, None));
    node.cancel(first, core);
    let waiting = node.send(fetch(partition, 1, 0, None));
    for _ in 0..1000 {
        let key = node.send(fetch(partition, 2, 0, None));
        node.pump();
        node.cancel(key, core);
    }
    assert_eq!(reads_asked(&node), 1);
    assert!(node.shards[shard].ctx.reads_waiting.len() < 100, "those who have left are not remembered");
    node.disk_waits = false;
    fetched(node.reply(waiting).expect("answered")).expect("readable");
    assert_eq!(node.reply(first), None);
    node.pass(Duration::from_secs(7));
    let stats = node.shards[shard].stats();
    assert_eq!((stats.memory_bytes, stats.waiting_fetches), (0, 0));
}

#[test]
fn small_reads_from_disk_do_not_overtake_a_large_one_that_waits() {
    let (mut node, partition) = with_old_records(6 << 20);
    let large = [0, 1].map(|offset| node.send(fetch(partition, offset, 0, None)));
    node.pump();
    let mut request = fetch(partition, 2, 0, None);
    if let Request::Fetch(fetch) = &mut request {
        fetch.bytes_max = 1;
    }
    let small = node.send(request);
    node.pump();
    assert_eq!(reads_asked(&node), 1, "there would be memory for the small one");
    node.disk_waits = false;
    for key in [large[0], large[1], small] {
        fetched(node.reply(key).expect("answered")).expect("readable");
    }
}

#[test]
fn reads_of_one_partition_are_bounded_and_so_are_deletes() {
    let (mut node, partition) = with_old_records(64 << 20);
    let place = Place::Timestamp(TimestampMs(1000));
    let find = || Request::FindOffset(FindOffset { partition, place });
    let keys: Vec<u64> = (0..READS_PER_PARTITION_MAX).map(|_| node.send(find())).collect();
    node.pump();
    assert!(node.replies.is_empty());
    assert_eq!(node.ask(find()), Response::FindOffset(Err(FetchError::Overloaded)));
    node.disk_waits = false;
    for key in keys {
        assert!(matches!(node.reply(key), Some(Response::FindOffset(Ok(_)))));
    }
    node.disk_waits = true;
    let delete = || Request::DeleteRecords(DeleteRecords { partition, before: Offset(1) });
    let keys: Vec<u64> = (0..DELETES_WAITING_MAX).map(|_| node.send(delete())).collect();
    node.pump();
    assert!(node.replies.is_empty());
    assert_eq!(node.ask(delete()), Response::DeleteRecords(Err(DeleteRecordsError::NotLeader)));
    node.disk_waits = false;
    for key in keys {
        assert_eq!(node.reply(key), Some(Response::DeleteRecords(Ok(Offset(1)))));
    }
}

/// Metadata restored from an old copy beside newer logs: the log is readable and stays as it is.
#[test]
fn log_from_a_later_start_is_neither_written_nor_shortened() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["1"]).expect("stored");
    let (old, old_incarnation) = (node.disk.clone(), node.incarnation);
    let mut node = node.restart(&Settings::default()).restart(&Settings::default());
    node.produce(partition, &["3"]).expect("stored");
    let mut disk = node.disk;
    disk.put_back(LogId(0), old.copy_of(LogId(0)));
    disk::set_incarnation(&mut disk, old_incarnation);
    let mut node = Node::start(disk, &Settings::default());
    assert_eq!(node.events_named("log_from_later_start"), 1);
    assert_eq!(node.values(partition), ["1", "3"]);
    let error = node.produce(partition, &["x"]).expect_err("refused");
    assert!(matches!(error, engine_api::ProduceError::StorageFailed { .. }), "{error}");
    let error = delete_before(&mut node, partition, 1).expect_err("refused");
    assert!(matches!(error, DeleteRecordsError::StorageFailed { .. }), "{error}");
}

/// The write of a deleted topic's partition failed: the partition went, and stayed listed as troubled.
#[test]
fn partition_that_fails_while_it_is_removed_is_not_listed_as_troubled() {
    let (mut node, partition) = with_topic();
    node.produce(partition, &["0"]).expect("stored");
    let log = node.describe("a").partitions[0].log;
    node.disk_waits = true;
    node.send(produce(partition, Acks::All, &["1"], None));
    node.pump();
    node.send(Request::DeleteTopic(engine_api::DeleteTopic { name: "a".into(), id: None }));
    node.pump();
    let (slow, fast): (Vec<_>, Vec<_>) = node.disk_queue.drain(..).partition(|(_, of, ..)| *of == log);
    node.disk_queue.extend(fast);
    node.run_disk();
    node.pump();
    node.disk.fail(log, Operation::Write);
    node.disk_queue.extend(slow);
    node.disk_waits = false;
    node.pass(Duration::from_secs(1));
    assert_eq!(node.events_named("log_failed"), 1);
    assert!(!node.disk.has(log));
    for core in 0..2 {
        assert!(describe_cluster_on(&mut node, core).troubled.is_empty(), "core {core}");
    }
}

#[test]
fn troubles_are_told_once_a_tick_however_many_logs_fail() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 2, ..Settings::default() });
    let logs: Vec<LogId> = node.create("a", 50, &[]).partitions.iter().map(|p| p.log).collect();
    node.disk_waits = true;
    for index in 0..50 {
        let partition = node.partition("a", index);
        node.send(produce(partition, Acks::All, &["x"], None));
    }
    node.pump();
    disk::fail_all(&mut node.disk, &logs, Operation::Write);
    node.keeps_trace = true;
    for op in std::mem::take(&mut node.disk_queue) {
        let rest = std::mem::replace(&mut node.disk_queue, [op].into());
        node.run_disk();
        node.disk_queue.extend(rest);
        node.pump();
    }
    node.disk_waits = false;
    node.pump();
    assert_eq!(node.events_named("log_failed"), 50);
    let told = |node: &Node| node.trace.iter().filter(|what| what.contains("Publish")).count();
    assert_eq!(told(&node), 2, "the first of each core");
    node.pass(TICK);
    assert_eq!(told(&node), 4);
    for core in 0..2 {
        assert_eq!(describe_cluster_on(&mut node, core).troubled.len(), 50, "core {core}");
    }
}
