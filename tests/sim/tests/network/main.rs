//! The real SDK against the real QUIC server over a bad network: what was acknowledged is there, in order and
//! once, and a seed gives its run again.

mod broker;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::TopicId;
use millstream_client::ReadError;
use storage_frame::{BatchView, Offset};
use tests_sim::net::{Net, Seen, Wire, drive, runtime};
use tests_sim::sdk::{self, Journal, Noted, SdkNote, SdkPlan, Stored};
use tests_sim::value::Value;

use world::{NODE, Node};

const PARTITIONS: u32 = 3;
/// The network and the node are bad until then, and fair from then on.
const HEALED: Duration = Duration::from_secs(15);
/// By then what had been lost before has been found again: above any idle timeout that is drawn.
const WELL: Duration = Duration::from_secs(27);
const UNTIL: Duration = Duration::from_secs(34);

struct Run {
    notes: Vec<Noted>,
    trace: Vec<Seen>,
    ended_at: Duration,
    /// Offsets and values, by topic and partition.
    logs: BTreeMap<(TopicId, u32), BTreeMap<u64, Vec<u8>>>,
}

fn plan(seed: u64) -> SdkPlan {
    SdkPlan {
        servers: vec![NODE.to_string()],
        topics: vec!["orders".to_owned(), "events".to_owned()],
        producers: 3,
        readers: 2,
        admins: 1,
        // Its crowds take longer than everything else.
        hostiles: u32::from(seed.is_multiple_of(4)),
        first_client: 100,
        until: UNTIL,
        records_max: 300,
        value_bytes_max: 5000,
        lives_max: 20,
        deletes_records: false,
        changes_topics: true,
        dies: true,
        moves_until: HEALED,
    }
}

fn run(seed: u64) -> Run {
    runtime::block_on(seed, async {
        let mut wire = Wire::new(seed);
        wire.start_trace();
        let net = Net::new(wire);
        let mut node = Node::new(&net, seed, HEALED);
        let topics = ["orders", "events"].map(|name| node.broker.create(name, PARTITIONS));
        let journal = Journal::new(&net);
        drive(&net, &mut node, sdk::run(&net, &plan(seed), seed, &journal)).await;
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

/// What a record's sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Waiting,
    Stored,
    NotStored,
    Unknown,
}

struct Sent {
    topic: TopicId,
    partition: u32,
    value: Value,
    verdict: Verdict,
    at: Duration,
}

/// What must hold of any run.
fn check(seed: u64, run: &Run) {
    let mut sent: BTreeMap<u64, Sent> = BTreeMap::new();
    let mut lanes: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut reading: BTreeMap<(u32, u32), Offset> = BTreeMap::new();
    let say = |sent: &mut BTreeMap<u64, Sent>, record: u64, verdict| {
        let sent = sent.get_mut(&record).expect("it was sent");
        let earlier = std::mem::replace(&mut sent.verdict, verdict);
        assert_eq!(earlier, Verdict::Waiting, "seed {seed}: {} has two verdicts", sent.value);
    };
    for noted in &run.notes {
        match &noted.note {
            SdkNote::Wrong { what } => panic!("seed {seed}, {:?}: {what}", noted.at),
            SdkNote::Sent { record, topic, partition, value, idempotent, .. } => {
                let (topic, partition, value) = (topic.id.expect("asked before"), *partition, *value);
                sent.insert(
                    *record,
                    Sent { topic, partition, value, verdict: Verdict::Waiting, at: noted.at },
                );
                if *idempotent {
                    lanes.insert((value.client, value.lane));
                }
            }
            SdkNote::Delivered { record, offset, .. } => {
                say(&mut sent, *record, if offset.is_some() { Verdict::Stored } else { Verdict::Unknown });
                let Some(offset) = offset else { continue };
                let sent = &sent[record];
                let stored = run.logs[&(sent.topic, sent.partition)].get(&offset.0);
                assert_eq!(stored, Some(&sent.value.encode()), "seed {seed}: {} at {offset}", sent.value);
            }
            SdkNote::DeliveryFailed { record, stored, why } => {
                let verdict = if *stored == Stored::No { Verdict::NotStored } else { Verdict::Unknown };
                say(&mut sent, *record, verdict);
                let own_end = why.contains("closed") || why.contains("died");
                let is_late = sent[record].at > WELL && !own_end;
                assert!(!is_late, "seed {seed}: record of {:?}: {why}", sent[record].at);
            }
            SdkNote::ConnectFailed { why } if noted.at > WELL => panic!("seed {seed}, {:?}: {why}", noted.at),
            SdkNote::ReaderEnded { result: Err(error), .. }
                if noted.at > WELL && !matches!(error, ReadError::OffsetOutOfRange { .. }) =>
            {
                panic!("seed {seed}, {:?}: {error}", noted.at)
            }
            SdkNote::ReadBatch { reader, topic, partition, records, next_offset, .. } => {
                let log = &run.logs[&(topic.id.expect("asked before"), *partition)];
                for record in records {
                    let next = reading.entry((*reader, *partition)).or_insert(record.offset);
                    assert_eq!(*next, record.offset, "seed {seed}: reader {reader}, {partition}");
                    *next = record.offset.plus(1);
                    let stored = log.get(&record.offset.0);
                    assert_eq!(stored, record.value.as_ref(), "seed {seed}: read {}", record.offset);
                }
                assert_eq!(reading[&(*reader, *partition)], *next_offset, "seed {seed}");
            }
            SdkNote::ReaderEnded { .. }
            | SdkNote::ReaderOpened { .. }
            | SdkNote::ReaderDropped { .. }
            | SdkNote::NotTaken { .. }
            | SdkNote::AdminAsked { .. }
            | SdkNote::AdminAnswered { .. }
            | SdkNote::ConnectFailed { .. }
            | SdkNote::Connected
            | SdkNote::Died
            | SdkNote::Ended => {}
        }
    }
    let refused: BTreeSet<Value> = values_with(&sent, Verdict::NotStored).collect();
    assert_eq!(values_with(&sent, Verdict::Waiting).next(), None, "seed {seed}: without a verdict");
    for (partition, log) in &run.logs {
        let mut next: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (offset, value) in log {
            let value = Value::decode(value).expect("what was sent");
            assert!(!refused.contains(&value), "seed {seed}: {partition:?} has {value} at {offset}");
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

fn values_with(sent: &BTreeMap<u64, Sent>, verdict: Verdict) -> impl Iterator<Item = Value> {
    sent.values().filter(move |sent| sent.verdict == verdict).map(|sent| sent.value)
}

#[test]
fn acknowledged_records_are_there_once_and_in_order_over_a_bad_network() {
    for seed in 0..5 {
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
