//! Topics with `cleanup.policy=compact`: the last value of each key stays, whatever happens in between.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Acks, PartitionId, Produce, ProduceError, Request};
use storage_frame::{BatchBuilder, BatchView, Frame, Producer, TimestampMs};

use super::disk;
use super::node::{Node, Settings, produced, producer};

const KEYS: u32 = 5;

fn settings() -> Settings {
    Settings { cores: 1, ..Settings::default() }
}

fn configs() -> [(&'static str, &'static str); 4] {
    [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "60000"),
    ]
}

fn started() -> (Node, PartitionId) {
    let mut node = Node::start(disk::empty(), &settings());
    node.create("a", 1, &configs());
    let partition = node.partition("a", 0);
    (node, partition)
}

/// One record of 150 KB for each key, or a tombstone.
fn batch(round: u32, producer: Option<Producer>) -> Frame {
    let mut builder = BatchBuilder::new();
    for key in 0..KEYS {
        let value = format!("{round} ").repeat(30_000);
        let value = (key != 3 || round.is_multiple_of(2)).then_some(value.as_bytes());
        builder.push(TimestampMs(1000), Some(&key.to_le_bytes()), value, []).expect("a small record");
    }
    builder.seal(producer)
}

fn send(node: &mut Node, partition: PartitionId, round: u32) -> u64 {
    let frame = batch(round, producer(7, 0, round * KEYS));
    let request = Request::Produce(Produce { partition, acks: Acks::All, frame });
    produced(node.ask(request)).expect("stored").base_offset.0
}

/// What a reader from the start sees last of each key, and how many records it sees.
fn last(node: &mut Node, partition: PartitionId) -> (BTreeMap<Vec<u8>, String>, usize) {
    let (mut next, mut last, mut count) = (0, BTreeMap::new(), 0);
    loop {
        let fetched = node.fetch(partition, next).expect("readable");
        if fetched.frames.is_empty() {
            assert_eq!(fetched.high_watermark.0, next);
            return (last, count);
        }
        for frame in &fetched.frames {
            assert_eq!(frame.header().base_offset.0, next, "dense from frame to frame");
            for record in BatchView::open(frame).expect("whole").records() {
                let record = record.expect("whole");
                let value = record.value.map(|value| String::from_utf8_lossy(value).into_owned());
                let word =
                    value.map_or(String::new(), |value| value.split(' ').next().unwrap_or("").to_owned());
                last.insert(record.key.expect("it has one").to_vec(), word);
                count += 1;
            }
            next = frame.header().end_offset().0;
        }
    }
}

fn expected(round: u32) -> BTreeMap<Vec<u8>, String> {
    let word = |key| if key == 3 && round % 2 == 1 { String::new() } else { round.to_string() };
    (0..KEYS).map(|key| (key.to_le_bytes().to_vec(), word(key))).collect()
}

#[test]
fn last_of_every_key_stays_and_duplicates_are_told() {
    let (mut node, partition) = started();
    let mut base = 0;
    for round in 0..30 {
        base = send(&mut node, partition, round);
        node.pass(Duration::from_millis(300));
    }
    node.pass(Duration::from_secs(10));
    assert!(node.events_named("log_compacted") > 0 && node.events_named("log_not_compacted") == 0);
    let stats = node.shards[0].stats().compaction;
    assert!(stats.records_removed > 50 && stats.bytes_out < stats.bytes_in, "{stats:?}");
    for restart in 0..3 {
        let (found, count) = last(&mut node, partition);
        assert_eq!(found, expected(29));
        assert!(count < 75, "{count} of 150");
        // Sent again it is told where it is, and the next one follows it.
        assert_eq!(send(&mut node, partition, 29), base);
        node = if restart == 0 { node.restart(&settings()) } else { node.crash(&settings()) };
    }
    assert_eq!(send(&mut node, partition, 30), base + u64::from(KEYS));
    assert_eq!(last(&mut node, partition).0, expected(30));
    node.assert_no_errors();
}

#[test]
fn records_without_key_are_refused_and_taken_where_nobody_compacts() {
    let (mut node, partition) = started();
    let refused = node.produce(partition, &["without"]);
    assert!(matches!(refused, Err(ProduceError::Invalid { why }) if why.contains("record 0 has no key")));
    node.create("b", 1, &[]);
    let other = node.partition("b", 0);
    node.produce(other, &["without"]).expect("stored");
    node.assert_no_errors();
}

/// The power goes between any two operations of the disk.
#[test]
fn power_may_go_at_every_operation() {
    let (mut cut, mut compacted) = (1, 0);
    loop {
        let mut node = Node::new(disk::empty(), &settings());
        node.disk_ops_left = Some(cut);
        node.last_op_is_done = cut.is_multiple_of(2);
        let acknowledged = run(&mut node);
        let is_over = node.disk_ops_left != Some(0);
        compacted += usize::from(node.events_named("log_compacted") > 0);
        let mut node = node.crash(&settings());
        if let Some((partition, round)) = acknowledged {
            let (found, _) = last(&mut node, partition);
            let is_next = found == expected(round + 1);
            assert!(found == expected(round) || is_next, "cut at {cut}: {found:?} after {round}");
        }
        node.assert_no_errors();
        if is_over {
            break;
        }
        cut += 1;
    }
    assert!(cut > 50 && compacted > 10, "{cut} {compacted}");
}

/// The last round that was acknowledged.
fn run(node: &mut Node) -> Option<(PartitionId, u32)> {
    node.pump();
    let key = node.send(super::node::create("a", 1, &configs()));
    node.reply(key)?;
    let partition = node.partition("a", 0);
    let mut acknowledged = None;
    for round in 0..14 {
        let frame = batch(round, None);
        let key = node.send(Request::Produce(Produce { partition, acks: Acks::All, frame }));
        node.reply(key)?;
        acknowledged = Some((partition, round));
        node.pass(Duration::from_millis(500));
        if node.disk_ops_left == Some(0) {
            break;
        }
    }
    node.pass(Duration::from_secs(3));
    acknowledged
}
