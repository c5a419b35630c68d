//! The real SDK against the real QUIC server over a bad network: what was acknowledged is there, in order and
//! once, and a seed gives its run again.

mod broker;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::TopicId;
use storage_frame::BatchView;
use tests_sim::net::{Net, Seen, Wire, drive, runtime};
use tests_sim::sdk::{self, Journal, Noted, SdkNote, SdkPlan};
use tests_sim::value::Value;

use world::{NODE, Node};

const PARTITIONS: u32 = 3;
const UNTIL: Duration = Duration::from_secs(20);

struct Run {
    notes: Vec<Noted>,
    trace: Vec<Seen>,
    ended_at: Duration,
    /// Offsets and values, by topic and partition.
    logs: BTreeMap<(TopicId, u32), BTreeMap<u64, Vec<u8>>>,
}

fn plan() -> SdkPlan {
    SdkPlan {
        servers: vec![NODE.to_string()],
        topics: vec!["orders".to_owned(), "events".to_owned()],
        producers: 3,
        readers: 2,
        admins: 1,
        first_client: 100,
        until: UNTIL,
        records_max: 300,
        value_bytes_max: 5000,
        lives_max: 10,
        deletes_records: false,
        changes_topics: true,
        dies: true,
        moves: true,
    }
}

fn run(seed: u64) -> Run {
    runtime::block_on(seed, async {
        let mut wire = Wire::new(seed);
        wire.start_trace();
        let net = Net::new(wire);
        let mut node = Node::new(&net, seed, UNTIL);
        let topics = ["orders", "events"].map(|name| node.broker.create(name, PARTITIONS));
        let journal = Journal::new(&net);
        drive(&net, &mut node, sdk::run(&net, &plan(), seed, &journal)).await;
        let mut logs = BTreeMap::new();
        for topic in topics {
            for partition in 0..PARTITIONS {
                logs.insert((topic, partition), values(&node, topic, partition));
            }
        }
        let trace = net.wire().take_trace();
        Run { notes: journal.take(), trace, ended_at: net.now(), logs }
    })
}

fn values(node: &Node, topic: TopicId, partition: u32) -> BTreeMap<u64, Vec<u8>> {
    let mut values = BTreeMap::new();
    for frame in &node.broker.log(topic, partition).frames {
        let plain = millstream_client::decompress(frame.header().codec, frame.payload(), 1 << 26).unwrap();
        let view = BatchView::open_plain(*frame.header(), plain).unwrap();
        for record in view.records() {
            let record = record.unwrap();
            assert_eq!(values.insert(record.offset.0, record.value.unwrap().to_vec()), None);
        }
    }
    values
}

/// What must hold of any run.
fn check(seed: u64, run: &Run) {
    let mut sent = BTreeMap::new();
    let mut lanes: BTreeSet<(u32, u32)> = BTreeSet::new();
    for noted in &run.notes {
        match &noted.note {
            SdkNote::Wrong { what } => panic!("seed {seed}, {:?}: {what}", noted.at),
            SdkNote::Sent { record, topic, partition, value, idempotent, .. } => {
                sent.insert(*record, (topic.id.unwrap(), *partition, *value));
                if *idempotent {
                    lanes.insert((value.client, value.lane));
                }
            }
            SdkNote::Delivered { record, offset: Some(offset), .. } => {
                let (topic, partition, value) = &sent[record];
                let stored = run.logs[&(*topic, *partition)].get(&offset.0);
                assert_eq!(stored, Some(&value.encode()), "seed {seed}: {value} at {offset:?}");
            }
            SdkNote::ReadBatch { topic, partition, records, .. } => {
                for record in records {
                    let stored = run.logs[&(topic.id.unwrap(), *partition)].get(&record.offset.0);
                    assert_eq!(stored, record.value.as_ref(), "seed {seed}: read {:?}", record.offset);
                }
            }
            _ => {}
        }
    }
    for (partition, log) in &run.logs {
        let mut next: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (offset, value) in log {
            let value = Value::decode(value).expect("what was sent");
            let lane = (value.client, value.lane);
            if lanes.contains(&lane) {
                let next = next.entry(lane).or_default();
                assert!(
                    value.number >= *next,
                    "seed {seed}: {partition:?}, {value} at {offset}, after {next}"
                );
                *next = value.number + 1;
            }
        }
    }
    assert!(run.ended_at <= UNTIL + sdk::ENDING_MAX, "seed {seed}: ended at {:?}", run.ended_at);
}

#[test]
fn acknowledged_records_are_there_once_and_in_order_over_a_bad_network() {
    for seed in 0..10 {
        let run = run(seed);
        check(seed, &run);
        assert!(run.notes.iter().any(|noted| matches!(noted.note, SdkNote::Delivered { .. })), "seed {seed}");
    }
}

#[test]
fn same_seed_gives_the_same_notes_and_datagrams() {
    if !runtime::is_exact() {
        return;
    }
    for seed in 0..20 {
        let (once, again) = (run(seed), run(seed));
        for (number, (once, again)) in once.notes.iter().zip(&again.notes).enumerate() {
            assert_eq!(once, again, "seed {seed}, note {number}");
        }
        for (number, (once, again)) in once.trace.iter().zip(&again.trace).enumerate() {
            assert_eq!(once, again, "seed {seed}, datagram {number}");
        }
        assert_eq!(once.notes.len(), again.notes.len(), "seed {seed}");
        assert_eq!(once.trace.len(), again.trace.len(), "seed {seed}");
        assert_eq!(once.ended_at, again.ended_at, "seed {seed}");
        check(seed, &once);
    }
}
