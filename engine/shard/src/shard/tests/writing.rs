use std::time::Duration;

use engine_api::{Acks, Durability, Produce, ProduceError, Request};
use storage_frame::{Encoding, Offset};
use tests_disk::Operation;

use super::disk;
use super::node::{Node, Settings, batch, opaque, produce, produced, producer, text};

fn started() -> Node {
    let node = Node::start(disk::empty(), &Settings::default());
    assert!(node.is_ready());
    node
}

#[test]
fn records_get_dense_offsets_in_the_order_they_arrive_and_are_read_back() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    let first = node.produce(partition, &["0", "1"]).expect("stored");
    assert_eq!(
        (first.base_offset, first.durability, first.duplicate),
        (Offset(0), Durability::AllDisks, false)
    );
    let keys: Vec<u64> = ["2", "3", "4"]
        .iter()
        .map(|value| node.send(produce(partition, Acks::Leader, &[value], None)))
        .collect();
    for (key, offset) in keys.into_iter().zip(2..) {
        let produced = produced(node.reply(key).expect("answered")).expect("stored");
        assert_eq!((produced.base_offset, produced.durability), (Offset(offset), Durability::LeaderDisk));
    }
    assert_eq!(node.values(partition), ["0", "1", "2", "3", "4"]);
    assert_eq!(node.values_from(partition, 1), ["1", "2", "3", "4"]);
    node.assert_no_errors();
}

#[test]
fn everything_of_one_turn_leaves_in_one_write() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["makes room"]).expect("stored");
    let before = node.disk.done(Operation::Write);
    for _ in 0..100 {
        node.send(produce(partition, Acks::All, &["x"], None));
    }
    node.pump();
    assert_eq!(node.disk.done(Operation::Write) - before, 1);
    assert_eq!(node.values(partition).len(), 101);
}

#[test]
fn nothing_is_acknowledged_or_readable_before_it_is_durable() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    node.disk_waits = true;
    let all = node.send(produce(partition, Acks::All, &["1"], None));
    let none = node.send(produce(partition, Acks::None, &["2"], None));
    assert_eq!(node.reply(all), None);
    let accepted = produced(node.reply(none).expect("answered at once")).expect("accepted");
    assert_eq!((accepted.base_offset, accepted.durability), (Offset(2), Durability::Accepted));
    assert_eq!(node.values(partition), ["0"]);
    node.disk_waits = false;
    assert!(node.reply(all).is_some());
    assert_eq!(node.values(partition), ["0", "1", "2"]);
}

#[test]
fn answer_tells_how_long_the_batch_waited_and_was_written() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["makes room"]).expect("stored");
    node.disk_waits = true;
    let first = node.send(produce(partition, Acks::All, &["1"], None));
    node.pump();
    node.now.mono += Duration::from_millis(2);
    let second = node.send(produce(partition, Acks::All, &["2"], None));
    node.pump();
    node.now.mono += Duration::from_millis(3);
    node.run_disk();
    let timings = produced(node.reply(first).expect("answered")).expect("stored").timings;
    assert_eq!((timings.queue, timings.disk), (Duration::ZERO, Duration::from_millis(5)));
    node.now.mono += Duration::from_millis(1);
    node.run_disk();
    let timings = produced(node.reply(second).expect("answered")).expect("stored").timings;
    assert_eq!((timings.queue, timings.disk), (Duration::from_millis(3), Duration::from_millis(1)));
}

#[test]
fn duplicate_is_answered_with_its_original_offset_and_stored_once() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["other"]).expect("stored");
    let first = node.produce_as(partition, &["0", "1"], producer(9, 0, 0)).expect("stored");
    let again = node.produce_as(partition, &["0", "1"], producer(9, 0, 0)).expect("stored");
    assert_eq!((first.base_offset, first.duplicate), (Offset(1), false));
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), true));
    assert_eq!(node.values(partition), ["other", "0", "1"]);
}

#[test]
fn duplicate_of_a_batch_that_is_not_yet_durable_waits_for_it() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    node.disk_waits = true;
    let keys: Vec<u64> = [0, 1, 0, 1, 2]
        .map(|sequence| node.send(produce(partition, Acks::All, &["x"], producer(9, 0, sequence))))
        .to_vec();
    node.pump();
    assert!(node.replies.is_empty());
    node.disk_waits = false;
    let answers = keys.iter().map(|key| produced(node.reply(*key).expect("answered")).expect("stored"));
    let answers: Vec<_> = answers.map(|produced| (produced.base_offset.0, produced.duplicate)).collect();
    assert_eq!(answers, [(1, false), (2, false), (1, true), (2, true), (3, false)]);
}

#[test]
fn duplicates_are_known_after_a_crash_and_after_a_stop() {
    let settings = Settings::default();
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    for sequence in 0..3 {
        node.produce_as(partition, &["x"], producer(9, 0, sequence)).expect("stored");
    }
    let mut node = node.crash(&settings);
    let again = node.produce_as(partition, &["x"], producer(9, 0, 1)).expect("known");
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), true));
    node.produce_as(partition, &["x"], producer(9, 0, 3)).expect("stored");
    let mut node = node.restart(&settings);
    let again = node.produce_as(partition, &["x"], producer(9, 0, 3)).expect("known");
    assert_eq!((again.base_offset, again.duplicate), (Offset(3), true));
    let error = node.produce_as(partition, &["x"], producer(9, 0, 7)).expect_err("a gap");
    assert_eq!(error, ProduceError::OutOfSequence { producer_id: 9, sent: 7, expected: 4 });
    assert_eq!(node.values(partition).len(), 4);
    node.assert_no_errors();
}

#[test]
fn gap_and_old_epoch_are_refused_and_nothing_is_stored() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce_as(partition, &["x"], producer(9, 4, 0)).expect("stored");
    let gap = node.produce_as(partition, &["x"], producer(9, 4, 2)).expect_err("a gap");
    assert_eq!(gap, ProduceError::OutOfSequence { producer_id: 9, sent: 2, expected: 1 });
    let old = node.produce_as(partition, &["x"], producer(9, 3, 1)).expect_err("fenced");
    assert_eq!(old, ProduceError::ProducerFenced { producer_id: 9, sent: 3, current: 4 });
    assert_eq!(node.values(partition).len(), 1);
}

#[test]
fn write_caching_acknowledges_from_memory_and_writes_back_later() {
    let mut node = started();
    node.create("a", 1, &[("write.caching", "true"), ("flush.ms", "50")]);
    let partition = node.partition("a", 0);
    node.disk_waits = true;
    let key = node.send(produce(partition, Acks::All, &["0"], None));
    let first = produced(node.reply(key).expect("answered from memory")).expect("stored");
    assert_eq!(first.durability, Durability::Memory);
    node.disk_waits = false;
    assert_eq!(node.values(partition), ["0"]);
    node.pass(Duration::from_millis(100));
    let mut node = node.crash(&Settings::default());
    assert_eq!(node.values(partition), ["0"]);
}

#[test]
fn write_caching_switched_on_and_off_takes_effect_with_the_next_batch() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    for (caching, expect) in [("true", Durability::Memory), ("false", Durability::AllDisks)] {
        let configs = vec![("write.caching".to_owned(), Some(caching.to_owned()))];
        let alter = engine_api::AlterTopic { name: "a".into(), partitions: None, configs, based_on: None };
        node.ask(Request::AlterTopic(alter));
        assert_eq!(node.produce(partition, &["x"]).expect("stored").durability, expect);
    }
}

#[test]
fn batches_that_cannot_be_are_refused_with_the_reason() {
    let mut node = started();
    node.create("a", 1, &[("max.message.bytes", "1000")]);
    let partition = node.partition("a", 0);
    let error = node.produce(partition, &[&text(1000)]).expect_err("too large");
    assert!(matches!(error, ProduceError::TooLarge { batch_bytes_max: 1000, .. }), "{error}");

    let mut header = *batch(&["x"], None).header();
    header.record_count = 2;
    let frame = storage_frame::Frame::seal(header, batch(&["x"], None).payload().clone());
    let answer = node.ask(Request::Produce(Produce { partition, acks: Acks::All, frame }));
    let error = produced(answer).expect_err("a wrong count");
    assert_eq!(error.to_string(), "batch refused: batch holds 1 records, its header says 2");

    let mut frame = batch(&["x"], None);
    frame.set_append_time(storage_frame::TimestampMs(5000));
    let answer = node.ask(Request::Produce(Produce { partition, acks: Acks::All, frame }));
    let error = produced(answer).expect_err("a time that is not the client's to set");
    assert_eq!(error.to_string(), "batch refused: its timestamps claim to be the broker's");

    let frame = opaque(b"kafka", u32::MAX);
    let answer = node.ask(Request::Produce(Produce { partition, acks: Acks::All, frame }));
    let error = produced(answer).expect_err("an impossible count");
    assert_eq!(error.to_string(), "batch refused: it claims 4294967295 records, 1 to 1000000 are possible");
    assert_eq!(node.values(partition).len(), 0);
}

#[test]
fn kafka_batch_is_kept_byte_for_byte() {
    let mut node = started();
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    let frame = opaque(b"a record batch of Kafka's", 3);
    let answer = node.ask(Request::Produce(Produce { partition, acks: Acks::All, frame: frame.clone() }));
    assert_eq!(produced(answer).expect("stored").base_offset, Offset(0));
    node.produce(partition, &["after"]).expect("stored");
    let mut node = node.crash(&Settings::default());
    let fetched = node.fetch(partition, 0).expect("readable");
    assert_eq!(fetched.frames[0].payload(), frame.payload());
    assert_eq!(fetched.frames[0].header().encoding, Encoding::KafkaV2);
    assert_eq!(fetched.frames[1].header().base_offset, Offset(3));
}

#[test]
fn append_time_is_the_brokers_clock_where_the_topic_asks_for_it() {
    let mut node = started();
    node.create("a", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let partition = node.partition("a", 0);
    let produced = node.produce(partition, &["x"]).expect("stored");
    assert_eq!(produced.append_time, Some(node.now.wall));
    let header = *node.fetch(partition, 0).expect("readable").frames[0].header();
    assert!(header.append_time);
    assert_eq!(header.max_timestamp, node.now.wall);
    node.create("b", 1, &[]);
    let partition = node.partition("b", 0);
    assert_eq!(node.produce(partition, &["x"]).expect("stored").append_time, None);
}

#[test]
fn unknown_partitions_are_refused_on_every_core() {
    let mut node = started();
    node.create("a", 1, &[]);
    let mut partition = node.partition("a", 0);
    partition.index = 1;
    assert_eq!(node.produce(partition, &["x"]), Err(ProduceError::UnknownPartition));
    partition.topic = engine_api::TopicId(12345);
    assert_eq!(node.produce(partition, &["x"]), Err(ProduceError::UnknownPartition));
}

#[test]
fn failed_write_is_never_acknowledged_and_stops_the_partition() {
    let mut node = started();
    node.create("a", 2, &[]);
    let broken = node.partition("a", 0);
    let whole = node.partition("a", 1);
    node.produce(broken, &["0"]).expect("stored");
    let log = node.describe("a").partitions[0].log;
    node.disk.fail(log, Operation::Write);
    let error = node.produce(broken, &["1"]).expect_err("a failed write");
    assert!(matches!(error, ProduceError::StorageFailed { .. }), "{error}");
    node.disk.mend();
    let error = node.produce(broken, &["2"]).expect_err("still failed");
    assert!(matches!(error, ProduceError::StorageFailed { .. }), "{error}");
    assert_eq!(node.fetch(broken, 0).expect("what was durable stays readable").frames.len(), 1);
    node.produce(whole, &["other"]).expect("other partitions go on");
    assert_eq!(node.events_named("log_failed"), 1);
    let mut node = node.restart(&Settings::default());
    node.produce(broken, &["3"]).expect("a restart mends it");
    assert_eq!(node.values(broken), ["0", "3"]);
}
