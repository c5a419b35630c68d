//! What must hold between what went in and what came out.

use serde_json::Value;
use tests_process::{Cli, lines};

/// The same lines, every one as often as it went in.
#[track_caller]
pub(crate) fn same_lines(sent: &[Vec<u8>], received: &[u8]) {
    let mut sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    let mut received = lines::split(received);
    sent.sort_unstable();
    received.sort_unstable();
    let first = sent.iter().zip(&received).position(|(a, b)| a != b);
    let show = |all: &[&[u8]]| first.map(|at| String::from_utf8_lossy(all[at]).into_owned());
    assert_eq!(
        first,
        None,
        "first difference in order: sent {:?}, received {:?}",
        show(&sent),
        show(&received)
    );
    assert_eq!(sent.len(), received.len(), "lines sent and received");
}

/// What one partition holds came in that order: it is `sent` with lines left out.
#[track_caller]
pub(crate) fn in_order(sent: &[Vec<u8>], partition: &[u8]) {
    let mut rest = sent.iter();
    for (at, line) in lines::split(partition).into_iter().enumerate() {
        let found = rest.any(|sent| sent == line);
        assert!(found, "line {at} of the partition is out of order: {:?}", String::from_utf8_lossy(line));
    }
}

/// Offsets of one partition begin at 0 and have no holes. Returns how many there are.
#[track_caller]
pub(crate) fn dense(cli: &Cli, topic: &str, partition: u32) -> u64 {
    let records = records(cli, topic, partition);
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["offset"].as_u64(), Some(at as u64), "offset of record {at}: {record}");
        assert_eq!(record["partition"].as_u64(), Some(u64::from(partition)), "{record}");
    }
    records.len() as u64
}

/// One partition's records as `--output json` prints them.
#[track_caller]
pub(crate) fn records(cli: &Cli, topic: &str, partition: u32) -> Vec<Value> {
    let partition = partition.to_string();
    let args = [
        "consume",
        topic,
        "--from-beginning",
        "--exit-at-end",
        "--partition",
        &partition,
        "--output",
        "json",
    ];
    let output = cli.run(&args).expect(0).stdout;
    let parse =
        |line: &[u8]| serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    lines::split(&output).into_iter().map(parse).collect()
}

/// All of it, for a topic that holds `sent` and nothing else.
#[track_caller]
pub(crate) fn whole_topic(cli: &Cli, topic: &str, partitions: u32, sent: &[Vec<u8>]) {
    same_lines(sent, &cli.values(topic));
    let mut count = 0;
    for partition in 0..partitions {
        in_order(sent, &cli.values_of(topic, partition));
        count += dense(cli, topic, partition);
    }
    assert_eq!(count, sent.len() as u64, "records in all partitions");
}
