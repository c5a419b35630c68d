//! Real text through `produce` and back through `consume`.

use std::collections::BTreeMap;

use tests_process::{Broker, Options, directory, lines};

use crate::verify;

#[test]
fn real_lines_come_back_the_same_in_order_and_dense() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("lines", 4);
    let sent = lines::real(lines::count_max());
    cli.run_with(&["produce", "lines"], lines::joined(&sent)).expect(0);
    verify::whole_topic(&cli, "lines", 4, &sent);
}

#[test]
fn what_was_stored_is_there_after_a_clean_restart() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("lines", 4);
    let sent = lines::real(20_000);
    cli.run_with(&["produce", "lines"], lines::joined(&sent)).expect(0);
    broker.sigterm(std::time::Duration::from_secs(10)).expect(0);
    broker.restart();
    verify::whole_topic(&cli, "lines", 4, &sent);
    let more = lines::real(1_000);
    cli.run_with(&["produce", "lines"], lines::joined(&more)).expect(0);
    let all: Vec<Vec<u8>> = sent.into_iter().chain(more).collect();
    verify::whole_topic(&cli, "lines", 4, &all);
}

#[test]
fn records_of_one_key_share_a_partition_and_keep_their_order() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("keyed", 4);
    let sent: Vec<Vec<u8>> = (0..5_000).map(|n| format!("key-{}:{n}", n % 37).into_bytes()).collect();
    cli.run_with(&["produce", "keyed", "--key-separator", ":"], lines::joined(&sent)).expect(0);
    let mut last: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    let mut count = 0;
    for partition in 0..4 {
        for record in verify::records(&cli, "keyed", partition) {
            let key = record["key"].as_str().expect("a key").to_string();
            let value: u64 = record["value"].as_str().expect("a value").parse().expect("a number");
            assert_eq!(key, format!("key-{}", value % 37));
            if let Some((before_in, before)) = last.insert(key, (partition, value)) {
                assert_eq!(before_in, partition, "one key, one partition");
                assert!(before < value, "{before} came before {value}");
            }
            count += 1;
        }
    }
    assert_eq!(count, sent.len());
    assert_eq!(last.len(), 37);
}

#[test]
fn a_topic_made_again_shows_nothing_of_its_former_life() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("again", 2);
    cli.run_with(&["produce", "again"], lines::joined(&lines::real(5_000))).expect(0);
    cli.run(&["topic", "delete", "again"]).expect(0);
    cli.create("again", 2);
    assert_eq!(cli.values("again"), b"");
    let sent = lines::real(2_000);
    cli.run_with(&["produce", "again"], lines::joined(&sent)).expect(0);
    verify::whole_topic(&cli, "again", 2, &sent);
    broker.kill9();
    broker.restart();
    verify::whole_topic(&cli, "again", 2, &sent);
}

#[test]
fn every_level_of_acks_stores_the_lines() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    let sent = lines::real(3_000);
    for acks in ["all", "leader", "none"] {
        cli.create(acks, 1);
        cli.run_with(&["produce", acks, "--acks", acks], lines::joined(&sent)).expect(0);
        let count = sent.len().to_string();
        // Not `--exit-at-end`: without an ack the last records may still be on their way.
        let read = cli.run(&["consume", acks, "--from-beginning", "--max-records", &count]).expect(0);
        verify::same_lines(&sent, &read.stdout);
    }
}

#[test]
fn cached_writes_reach_the_disk_before_a_clean_end() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    let create = ["topic", "create", "cached", "--partitions", "2", "--config", "write.caching=true"];
    cli.run(&create).expect(0);
    let sent = lines::real(20_000);
    cli.run_with(&["produce", "cached"], lines::joined(&sent)).expect(0);
    broker.sigterm(std::time::Duration::from_secs(10)).expect(0);
    broker.restart();
    verify::whole_topic(&cli, "cached", 2, &sent);
}
