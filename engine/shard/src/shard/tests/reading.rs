use std::time::Duration;

use engine_api::{
    Acks, DeleteRecords, DeleteRecordsError, FetchError, FindOffset, FoundOffset, PartitionId, Place,
    Request, Response,
};
use storage_frame::{Offset, TimestampMs};

use super::disk::Disk;
use super::node::{Node, Settings, fetch, fetched, produce, records, text};

fn with_topic() -> (Node, PartitionId) {
    let mut node = Node::start(Disk::default(), &Settings::default());
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
    let mut node = Node::start(Disk::default(), &settings);
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
        let is_read = matches!(what, storage_log::DiskOp::Read { .. });
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
    node.disk.damage(log, b"to be damaged");
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
    assert!(describe_cluster_on(&mut node, 1).troubled.is_empty());
}

fn describe_cluster_on(node: &mut Node, core: usize) -> engine_api::ClusterDescription {
    let slot = engine_api::ReplySlot { core: engine_api::CoreId(0), key: u64::MAX };
    let input = crate::Input::Request { slot, request: Request::DescribeCluster };
    let now = node.now;
    node.shards[core].handle(now, input);
    match node.reply(u64::MAX) {
        Some(Response::DescribeCluster(description)) => description,
        other => panic!("{other:?}"),
    }
}
