use std::time::Duration;

use engine_api::{Acks, AlterTopic, ProduceError, Request, Response, TopicError};

use super::disk;
use super::node::{Node, Settings, produce, produced, producer, text};
use crate::Input;
use crate::limits::{CHANGES_MAX, PRODUCES_WAITING_MAX};

#[test]
fn producers_are_refused_below_the_watermark_and_resume_by_themselves() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    node.input(Input::FreeSpace { free_bytes: 999 });
    assert_eq!(node.produce(partition, &["x"]), Err(ProduceError::NoSpace));
    assert_eq!(node.try_create("b", 1, &[]), Err(TopicError::NoSpace));
    assert_eq!(node.values(partition), ["0"]);
    node.input(Input::FreeSpace { free_bytes: 1050 });
    assert_eq!(node.produce(partition, &["x"]), Err(ProduceError::NoSpace));
    node.input(Input::FreeSpace { free_bytes: 1100 });
    node.produce(partition, &["1"]).expect("resumed");
    assert_eq!(node.events_named("space_short"), 2);
    assert_eq!(node.events_named("space_back"), 2);
}

#[test]
fn topics_can_be_deleted_below_the_watermark() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    node.input(Input::FreeSpace { free_bytes: 0 });
    node.delete("a");
    assert!(node.names().is_empty());
}

#[test]
fn disk_that_is_full_refuses_producers_until_there_is_room() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0"]).expect("stored");
    node.disk.faults_mut().full = true;
    let mut waiting = Vec::new();
    let refused = loop {
        let key = node.send(produce(partition, Acks::All, &[&text(10_000)], None));
        match node.reply(key).map(produced) {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => waiting.push(key),
        }
        assert!(waiting.len() < 100);
    };
    assert_eq!(refused, ProduceError::NoSpace);
    assert_eq!(node.values_from(partition, 0)[0], "0");
    node.disk.faults_mut().full = false;
    node.pass(Duration::from_secs(3));
    for key in waiting {
        produced(node.reply(key).expect("answered when there was room")).expect("stored");
    }
    node.produce(partition, &["last"]).expect("resumed");
    node.assert_no_errors();
}

#[test]
fn overload_begins_and_ends_with_a_gap_and_only_the_hard_limit_refuses() {
    let settings = Settings { cores: 1, memory_bytes_max: 1 << 20, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.disk_waits = true;
    let mut keys = Vec::new();
    while !node.shards[0].is_overloaded() {
        keys.push(node.send(produce(partition, Acks::All, &[&text(50_000)], None)));
        node.pump();
    }
    assert!(node.replies.is_empty(), "nothing is refused yet");
    assert!((15..20).contains(&keys.len()), "{}", keys.len());
    let refused = loop {
        let key = node.send(produce(partition, Acks::All, &[&text(50_000)], None));
        match node.reply(key) {
            Some(answer) => break produced(answer),
            None => keys.push(key),
        }
    };
    assert_eq!(refused, Err(ProduceError::Overloaded));
    node.disk_waits = false;
    for key in keys {
        produced(node.reply(key).expect("answered")).expect("stored");
    }
    node.pass(Duration::from_millis(100));
    assert!(!node.shards[0].is_overloaded());
    assert_eq!((node.events_named("memory_short"), node.events_named("memory_back")), (1, 1));
    let memory = node.shards[0].stats().memory_bytes;
    assert!(memory <= 1 << 19, "caches are shortened to half: {memory}");
    node.produce(partition, &["x"]).expect("accepted again");
}

#[test]
fn ten_thousand_idle_partitions_cost_a_hundred_looks_a_tick() {
    let settings = Settings { cores: 1, opens_max: 64, ..Settings::default() };
    let mut node = Node::start(disk::empty(), &settings);
    let before = node.disk_ops_count;
    node.create("wide", 10_000, &[]);
    assert_eq!(node.shards[0].stats().partitions_open, 10_000);
    let opening = node.disk_ops_count - before;
    assert!(opening <= 40_000, "{opening}");
    node.pass(Duration::from_secs(7));
    let idle = node.disk_ops_count;
    node.pass(Duration::from_secs(2));
    assert_eq!(node.disk_ops_count, idle, "idle partitions ask for nothing");
    assert_eq!(node.shards[0].stats().memory_bytes, 0, "idle partitions hold no frames");
    node.input(Input::Stop);
    node.pass(Duration::from_millis(20));
    assert_eq!(node.stopped, [true]);
    assert!(node.disk_ops_count < idle + 10, "empty logs are closed without a write");
}

#[test]
fn stats_tell_what_happened() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 1, ..Settings::default() });
    node.create("a", 2, &[]);
    let partition = node.partition("a", 0);
    node.produce(partition, &["0", "1"]).expect("stored");
    node.fetch(partition, 0).expect("readable");
    node.fetch(partition, 9).expect_err("out of range");
    let stats = node.shards[0].stats();
    assert_eq!((stats.produce_batches, stats.produce_records, stats.fetch_records), (1, 2, 2));
    assert_eq!(stats.acks, [0, 0, 0, 1]);
    assert_eq!(stats.refused, [("fetch", "offset_out_of_range", 1)]);
    assert_eq!((stats.partitions, stats.partitions_open, stats.partitions_troubled), (2, 2, 0));
    assert!(stats.requests.contains(&("produce", 1)) && stats.requests.contains(&("fetch", 2)));
    assert!(stats.log_bytes[0].1 > 0);
    let answer = node.ask(Request::DescribeCluster);
    let Response::DescribeCluster(cluster) = answer else { panic!("{answer:?}") };
    assert_eq!((cluster.topics_count, cluster.partitions_count), (1, 2));
    assert_eq!((cluster.nodes[0].partitions_led, cluster.nodes[0].incarnation), (2, 1));
}

#[test]
fn batches_repeated_while_the_first_waits_are_bounded() {
    let mut node = Node::start(disk::empty(), &Settings { cores: 1, ..Settings::default() });
    node.create("a", 1, &[]);
    let partition = node.partition("a", 0);
    node.disk_waits = true;
    let again = || produce(partition, Acks::All, &["x"], producer(1, 0, 0));
    let keys: Vec<u64> = (0..PRODUCES_WAITING_MAX).map(|_| node.send(again())).collect();
    node.pump();
    assert!(node.replies.is_empty());
    assert_eq!(produced(node.ask(again())), Err(ProduceError::Overloaded));
    node.disk_waits = false;
    node.pump();
    for key in keys {
        let answer = node.replies.remove(&key).expect("answered");
        assert_eq!(produced(answer).expect("stored").base_offset.0, 0);
    }
}

#[test]
fn changes_are_refused_when_too_many_wait_for_a_core_to_apply_them() {
    let mut node = Node::start(disk::empty(), &Settings::default());
    node.create("a", 1, &[]);
    let alter = || {
        let configs = vec![("retention.ms".to_owned(), Some("1000000".to_owned()))];
        Request::AlterTopic(AlterTopic { name: "a".into(), partitions: None, configs, based_on: None })
    };
    node.asleep = Some(1);
    let mut keys: Vec<u64> = (0..100).map(|_| node.send(alter())).collect();
    node.pump();
    node.disk_waits = true;
    // One is being written.
    keys.extend((0..=CHANGES_MAX - 100).map(|_| node.send(alter())));
    node.pump();
    assert!(node.replies.is_empty());
    assert_eq!(node.ask(alter()), Response::AlterTopic(Err(TopicError::NotReady)));
    node.asleep = None;
    node.input(Input::Stop);
    node.disk_waits = false;
    node.pass(Duration::from_millis(50));
    assert!(keys.iter().all(|key| node.replies.contains_key(key)), "all are answered");
}
