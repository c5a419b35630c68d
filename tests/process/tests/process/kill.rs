//! kill -9, again and again.

use std::path::Path;
use std::time::Duration;

use tests_process::{Broker, Chance, Options, directory, lines, scrape};

use crate::verify;

const ROUNDS: usize = 10;
const LINES_MAX: usize = 200_000;

/// The producer is one process that rides through every kill by retrying; its exit code 0 says that every line was
/// acknowledged. Lines are numbered, so that each has one place.
#[test]
fn ten_kills_lose_nothing_double_nothing_and_leave_no_holes() {
    let mut chance = Chance::new(9092);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("kills", 4);
    let sent = numbered(lines::real(if tests_process::soak() { usize::MAX } else { LINES_MAX }));
    let mut producer = cli.spawn(&["produce", "kills"]);
    for part in parts(&mut chance, &sent, ROUNDS) {
        producer.write(&lines::joined(part)).expect("the producer rides through");
        broker.kill9();
        broker.restart();
    }
    producer.finish(Duration::from_secs(300)).expect(0);
    verify::whole_topic(&cli, "kills", 4, &sent);
    broker.sigterm(Duration::from_secs(10)).expect(0);
    log_verify_agrees(&broker);
}

/// The same without a clean end in between: the files are checked as the last kill left them.
#[test]
fn files_verify_as_a_kill_left_them() {
    let dir = directory();
    killed_while_producing(dir.path(), 9644, "torn", 4, &numbered(lines::real(60_000)));
}

/// Room for large writes is only set aside: what was acknowledged in it is no less there.
#[test]
fn large_writes_survive_kills_in_room_that_was_set_aside() {
    let dir = directory();
    let line = |at: usize| [b'a' + (at % 26) as u8].repeat(200 << 10);
    let sent = numbered((0..300).map(line).collect());
    let mut broker = killed_while_producing(dir.path(), 128, "large", 1, &sent);
    let mut producer = broker.cli().spawn(&["produce", "large"]);
    producer.write(&lines::joined(&sent)).expect("it is there");
    producer.finish(Duration::from_secs(300)).expect(0);
    let moved =
        |kind: &str| scrape::metric(&broker.metrics(), "millstream_disk_bytes_total", kind).expect("counted");
    let (written, zeros) = (moved("kind=\"write\""), moved("kind=\"zero\""));
    assert!(zeros * 2.0 < written, "{zeros} bytes of zeros for {written}: the room was filled");
    broker.sigterm(Duration::from_secs(10)).expect(0);
    log_verify_agrees(&broker);
}

/// A reader that was connected all along sees at every offset what a later reader sees.
#[test]
fn an_offset_never_gets_a_second_meaning() {
    let mut chance = Chance::new(4);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("meaning", 1);
    let sent = numbered(lines::real(60_000));
    let count = sent.len().to_string();
    let live =
        cli.spawn(&["consume", "meaning", "--from-beginning", "--max-records", &count, "--output", "json"]);
    let mut producer = cli.spawn(&["produce", "meaning"]);
    for part in parts(&mut chance, &sent, 4) {
        producer.write(&lines::joined(part)).expect("the producer rides through");
        broker.kill9();
        broker.restart();
    }
    producer.finish(Duration::from_secs(300)).expect(0);
    let live = live.finish(Duration::from_secs(120)).expect(0).stdout;
    let later = verify::records(&cli, "meaning", 0);
    let seen = lines::split(&live);
    assert_eq!(seen.len(), later.len());
    for (line, record) in seen.into_iter().zip(later) {
        let live: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        assert_eq!((&live["offset"], &live["value"]), (&record["offset"], &record["value"]));
    }
}

/// Sends `sent` through three kills, checks the files as each left them, and reads everything back.
#[track_caller]
fn killed_while_producing(data: &Path, seed: u64, topic: &str, partitions: u32, sent: &[Vec<u8>]) -> Broker {
    let mut chance = Chance::new(seed);
    let mut broker = Broker::start(Options::new(data));
    let cli = broker.cli();
    cli.create(topic, partitions);
    let mut producer = cli.spawn(&["produce", topic]);
    for part in parts(&mut chance, sent, 3) {
        producer.write(&lines::joined(part)).expect("the producer rides through");
        broker.kill9();
        log_verify_agrees(&broker);
        broker.restart();
    }
    producer.finish(Duration::from_secs(300)).expect(0);
    verify::whole_topic(&cli, topic, partitions, sent);
    broker
}

fn numbered(lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let number = |(at, line): (usize, Vec<u8>)| [format!("{at}\t").into_bytes(), line].concat();
    lines.into_iter().enumerate().map(number).collect()
}

/// Cut at random places into one part more than `cuts`; a kill follows each part, the last included.
fn parts<'a>(chance: &mut Chance, lines: &'a [Vec<u8>], cuts: usize) -> Vec<&'a [Vec<u8>]> {
    let mut places: Vec<usize> = (1..cuts).map(|_| chance.below(lines.len() as u64) as usize).collect();
    places.push(lines.len());
    places.sort_unstable();
    let mut from = 0;
    let mut part = |to| &lines[std::mem::replace(&mut from, to)..to];
    places.into_iter().map(&mut part).collect()
}

#[track_caller]
fn log_verify_agrees(broker: &Broker) {
    let data = broker.options.data.to_str().expect("UTF-8");
    broker.cli().run(&["log", "verify", data]).expect(0);
}
