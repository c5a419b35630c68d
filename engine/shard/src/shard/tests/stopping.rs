use std::time::Duration;

use engine_api::{Acks, FetchError, ProduceError, Response, TopicError};
use storage_frame::LogId;
use storage_log::DiskOp;
use tests_disk::Operation;

use super::disk;
use super::node::{Node, Settings, create, fetch, fetched, produce, produced, producer};
use crate::Input;

#[test]
fn stop_finishes_what_was_accepted_and_refuses_what_comes() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 2, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    let waiting = node.send(fetch(partition, 1, 1, None));
    node.pump();
    node.disk_waits = true;
    let accepted = node.send(produce(partition, Acks::All, &["1"], None));
    node.pump();
    node.input(Input::Stop);
    let late = node.send(produce(partition, Acks::All, &["2"], None));
    assert_eq!(produced(node.reply(late).expect("refused at once")), Err(ProduceError::ShuttingDown));
    assert_eq!(fetched(node.reply(waiting).expect("told")), Err(FetchError::ShuttingDown));
    let refused = node.try_create("b", 1, &[]);
    assert_eq!(refused, Err(TopicError::ShuttingDown));
    assert_eq!(node.reply(accepted), None);
    node.disk_waits = false;
    produced(node.reply(accepted).expect("finished")).expect("stored");
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    let mut node = Node::start(node.disk, &Settings::default());
    assert_eq!(node.values(partition), ["0", "1"]);
    node.assert_no_errors();
}

#[test]
fn start_after_a_stop_scans_nothing() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 4, &[]);
    for index in 0..4 {
        let partition = node.partition("a", index);
        node.produce_as(partition, &["x"], producer(5, 0, 0)).expect("stored");
    }
    let node = node.restart(&Settings::default());
    let opened: Vec<_> = node.events.iter().filter(|event| event.name == "log_opened").collect();
    assert_eq!(opened.len(), 4);
    assert!(opened.iter().all(|event| event.fields.contains(&("clean", "true".into()))), "{opened:?}");
}

#[test]
fn cached_writes_are_on_disk_before_a_stop_is_over() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[("write.caching", "true"), ("flush.ms", "60000")]);
    let partition = node.partition("a", 0);
    for number in 0..10 {
        node.produce(partition, &[&number.to_string()]).expect("acknowledged from memory");
    }
    let mut node = node.restart(&Settings::default());
    assert_eq!(node.values(partition).len(), 10);
}

#[test]
fn topic_being_made_when_the_stop_comes_is_answered_and_there_afterwards() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.disk_waits = true;
    let key = node.send(create("a", 3, &[]));
    node.pump();
    node.input(Input::Stop);
    node.disk_waits = false;
    assert!(matches!(node.reply(key), Some(Response::CreateTopic(Ok(_)))));
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    let mut node = Node::start(node.disk, &Settings::default());
    assert_eq!(node.names(), ["a"]);
}

#[test]
fn stop_works_at_every_moment_of_a_start() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 6, &[]);
    for index in 0..6 {
        let partition = node.partition("a", index);
        node.produce(partition, &["x"]).expect("stored");
    }
    let disk = node.disk;
    for ops in 0..60 {
        let mut node = Node::new(disk.clone(), &Settings::default());
        node.disk_waits = true;
        for _ in 0..ops {
            node.pump();
            let Some(first) = node.disk_queue.pop_front() else { break };
            let rest = std::mem::take(&mut node.disk_queue);
            node.disk_queue.push_back(first);
            node.run_disk();
            node.disk_queue.extend(rest);
        }
        node.disk_waits = false;
        node.input(Input::Stop);
        node.pass(Duration::from_millis(50));
        assert_eq!(node.stopped, [true, true], "after {ops} operations");
        let mut node = Node::start(node.disk, &Settings::default());
        let partition = node.partition("a", 5);
        assert_eq!(node.values(partition), ["x"], "after {ops} operations");
    }
}

/// The device failed the last write of a partition while the node stopped: one answer took the log from
/// closing through failed to closed, and the core that wanted the failure's reason from its state died there.
#[test]
fn write_that_fails_during_a_stop_is_refused_and_the_stop_ends() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    let log = node.describe("a").partitions[0].log;
    node.disk_waits = true;
    let lost = node.send(produce(partition, Acks::All, &["1"], None));
    node.pump();
    node.input(Input::Stop);
    node.disk.fail(log, Operation::Write);
    node.disk_waits = false;
    let answer = produced(node.reply(lost).expect("told"));
    assert!(matches!(answer, Err(ProduceError::StorageFailed { .. })), "{answer:?}");
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    assert_eq!(node.events_named("log_failed"), 1);
    node.disk.mend();
    let mut node = Node::start(node.disk, &Settings::default());
    assert_eq!(node.values(partition), ["0"]);
}

/// The same with the clean markers, of a partition's log and of the metadata.
#[test]
fn clean_markers_that_fail_do_not_keep_a_stop_from_ending() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    let log = node.describe("a").partitions[0].log;
    disk::fail_all(&mut node.disk, &[log, LogId(0)], Operation::ReplaceCheckpoint);
    node.input(Input::Stop);
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true, true]);
    assert_eq!(node.events_named("log_failed"), 1);
    assert_eq!(node.events_named("metadata_unusable"), 1);
    node.disk.mend();
    let mut node = Node::start(node.disk, &Settings::default());
    assert_eq!(node.values(partition), ["0"]);
}

/// The stop came while the start was being written: the sweep that began afterwards had not heard of it, and the
/// stop waited for every removal.
#[test]
fn stop_while_the_start_is_written_sweeps_nothing_and_the_next_start_everything() {
    let settings = Settings { cores: 1, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    let logs: Vec<LogId> = node.create("a", 20, &[]).partitions.iter().map(|p| p.log).collect();
    for index in 0..20 {
        let partition = node.partition("a", index);
        node.produce(partition, &["x"]).expect("stored");
    }
    disk::fail_all(&mut node.disk, &logs, Operation::RemoveLog);
    node.delete("a");
    node.disk.mend();
    let mut node = Node::new(node.disk, &settings);
    node.disk_waits = true;
    let writes = |node: &Node| node.disk_queue.iter().any(|(.., op)| matches!(op, DiskOp::Write { .. }));
    node.pump();
    while !writes(&node) {
        assert!(node.run_disk(), "the start is written");
        node.pump();
    }
    node.input(Input::Stop);
    node.disk_waits = false;
    node.pass(Duration::from_millis(50));
    assert_eq!(node.stopped, [true]);
    assert!(logs.iter().all(|log| node.disk.has(*log)), "removing them can wait");
    let node = Node::start(node.disk, &settings);
    assert!(logs.iter().all(|log| !node.disk.has(*log)));
}
