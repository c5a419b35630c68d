//! The power goes between any two operations of the disk, with the next one done or not and the others under way
//! done in part. What clients were told must be true afterwards: acknowledged records are there once, in order,
//! under the offsets told; acknowledged topics exist or are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Acks, DeleteTopic, PartitionId, Request, Response};

use super::disk;
use super::node::{Node, Settings, create, produce, produced, producer};

/// What the clients of one run know.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged: the producer's sequence and the offset told.
    stored: BTreeMap<PartitionId, Vec<(u32, u64)>>,
    sent: u32,
    made: Vec<String>,
    deleted: Vec<String>,
}

fn settings() -> Settings {
    // The metadata is compacted meanwhile, in several frames.
    Settings { cores: 2, metadata_snapshot_bytes: 256, ..Settings::default() }
}

/// A little of everything; ends early when the power goes.
fn run(node: &mut Node) -> Known {
    let mut known = Known::default();
    for name in ["a", "b"] {
        let key = node.send(create(name, 2, &[]));
        if let Some(Response::CreateTopic(Ok(_))) = node.reply(key) {
            known.made.push(name.into());
        }
    }
    if !known.made.contains(&"a".to_owned()) {
        return known;
    }
    let topic = node.describe("a").id;
    for round in 0..12 {
        known.sent = round + 1;
        let sent: Vec<(PartitionId, u64)> = (0..2)
            .map(|index| {
                let partition = PartitionId { topic, index };
                let value = format!("{round}");
                (partition, node.send(produce(partition, Acks::All, &[&value], producer(7, 0, round))))
            })
            .collect();
        for (partition, key) in sent {
            if let Some(answer) = node.reply(key) {
                let produced = produced(answer).expect("stored");
                known.stored.entry(partition).or_default().push((round, produced.base_offset.0));
            }
        }
        if round == 6 && known.made.contains(&"b".to_owned()) {
            let key = node.send(Request::DeleteTopic(DeleteTopic { name: "b".into(), id: None }));
            if let Some(Response::DeleteTopic(Ok(()))) = node.reply(key) {
                known.deleted.push("b".into());
            }
        }
        node.pass(Duration::from_millis(300));
    }
    known
}

#[track_caller]
fn check(mut node: Node, known: &Known) {
    assert!(node.is_ready());
    node.assert_no_errors();
    let names = node.names();
    for name in &known.made {
        assert!(names.contains(name) || name == "b", "{name} was made");
    }
    assert!(!(known.deleted.contains(&"b".to_owned()) && names.contains(&"b".to_owned())), "b was deleted");
    if !names.contains(&"a".to_owned()) {
        assert!(known.stored.is_empty());
        return;
    }
    let topic = node.describe("a").id;
    for index in 0..2 {
        let partition = PartitionId { topic, index };
        let values = node.values(partition);
        // One producer, in order, each once: the values are the sequences.
        let expect: Vec<String> = (0..values.len()).map(|sequence| sequence.to_string()).collect();
        assert_eq!(values, expect);
        for (sequence, offset) in known.stored.get(&partition).into_iter().flatten() {
            assert_eq!(values.get(*offset as usize), Some(&sequence.to_string()), "acknowledged");
        }
        // A client that retries what it does not know ends with each record once.
        for sequence in 0..known.sent {
            let again = node.produce_as(partition, &[&sequence.to_string()], producer(7, 0, sequence));
            assert_eq!(again.expect("stored").base_offset.0, u64::from(sequence));
        }
        assert_eq!(node.values(partition).len(), known.sent as usize);
    }
    node.assert_no_errors();
}

#[test]
fn crash_between_any_two_disk_operations_keeps_every_promise() {
    let mut whole = Node::start(disk::empty(), &settings());
    let known = run(&mut whole);
    assert_eq!(known.stored.values().map(Vec::len).sum::<usize>(), 24);
    assert!(whole.events_named("metadata_snapshot") > 0);
    let ops_count = whole.disk_ops_count;
    assert!(ops_count > 40, "{ops_count}");
    for crash_at in 0..ops_count {
        for last_op_is_done in [false, true] {
            let mut node = Node::new(disk::with_luck(crash_at as u64), &settings());
            node.disk_ops_left = Some(crash_at);
            node.last_op_is_done = last_op_is_done;
            node.pump();
            let known = if node.is_ready() { run(&mut node) } else { Known::default() };
            check(node.crash(&settings()), &known);
        }
    }
}

#[test]
fn same_inputs_give_the_same_effects() {
    let trace = || {
        let mut node = Node::new(disk::empty(), &settings());
        node.keeps_trace = true;
        node.pump();
        run(&mut node);
        node.trace
    };
    let (first, second) = (trace(), trace());
    assert_eq!(first.len(), second.len());
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(a, b);
    }
}
