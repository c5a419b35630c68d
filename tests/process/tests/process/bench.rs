//! The load generator against a broker: what it says it sent, read and checked adds up. Counts, never times.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests_process::cli::Cli;
use tests_process::{Broker, Options, directory};

/// Runs a bench to its end and reads the result that it wrote.
#[track_caller]
fn bench(cli: &Cli, dir: &Path, args: &str) -> Value {
    let json = dir.join("result.json").display().to_string();
    let mut words = vec!["bench"];
    words.extend(args.split_ascii_whitespace());
    words.extend(["--json", &json]);
    cli.run(&words).expect(0);
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    report["result"]["traffic"].clone()
}

#[track_caller]
fn is_good(traffic: &Value, checked: u64) {
    let verdict = &traffic["verdict"];
    assert_eq!(verdict["checked"], checked, "{verdict:#}");
    for fault in ["lost", "doubled", "reordered", "damaged"] {
        assert_eq!(verdict[fault], 0, "{verdict:#}");
    }
}

#[test]
fn every_record_of_a_bench_is_there_over_both_protocols() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let cli = broker.cli();
    for driver in ["native", "kafka"] {
        let pid = broker.pid();
        let args = format!(
            "produce --driver {driver} --rate 3k --records 3000 --duration 60 --warm-up 1 --partitions 3 --producers 2 \
             --record-bytes 100:80%,2k:20% --keys zipf:100 --arrivals poisson --verify --broker-pid {pid}"
        );
        let traffic = bench(&cli, dir.path(), &args);
        let phase = &traffic["phases"][0];
        let produced = &phase["produced"];
        assert_eq!(
            [&produced["asked"], &produced["sent"], &produced["acknowledged"], &produced["unsent"]],
            [3000, 3000, 3000, 0],
            "{produced:#}"
        );
        assert_eq!(produced["latency"]["count"], 3000);
        assert!(phase["cost"]["used"]["resident_bytes"].as_u64() > Some(0), "{phase:#}");
        let checked = traffic["verdict"]["checked"].as_u64().unwrap();
        assert!(checked > 3000, "the warm-up is checked too: {checked}");
        is_good(&traffic, checked);
    }
    let topics = cli.run(&["topic", "list", "--format", "json"]).expect(0).stdout;
    assert!(!String::from_utf8_lossy(&topics).contains("bench-"), "topics of a run are deleted");
}

#[test]
fn groups_read_everything_once_each_and_a_backlog_is_read_beside_the_tail() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let cli = broker.cli();
    let groups = "e2e --rate 2k --records 2000 --duration 60 --warm-up 0 --partitions 4 --consumers 2 --groups 2 --verify";
    let traffic = bench(&cli, dir.path(), groups);
    is_good(&traffic, 4000);
    assert_eq!(traffic["phases"][0]["read"][0]["latency"]["count"], 4000);
    for driver in ["native", "kafka"] {
        let shared = format!(
            "consume --driver {driver} --backlog 20k --warm-up 0 --partitions 4 --consumers 2 --verify"
        );
        let traffic = bench(&cli, dir.path(), &shared);
        is_good(&traffic, 20_000);
        assert_eq!(traffic["phases"][1]["read"][0]["records"], 20_000);
    }
    let mixed = "mixed --rate 1k --duration 2 --alone 1 --warm-up 0 --backlog 10k --partitions 2 --verify";
    let traffic = bench(&cli, dir.path(), mixed);
    is_good(&traffic, 13_000);
    let back_fill = &traffic["phases"][2]["read"][1];
    assert!(back_fill["records"].as_u64() >= Some(10_000), "{back_fill:#}");
}

#[test]
fn a_result_is_compared_and_drawn_from_its_file() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let cli = broker.cli();
    let steps = "produce --steps 500,1k --duration 1 --warm-up 0 --record-bytes 1k --verify";
    let traffic = bench(&cli, dir.path(), steps);
    is_good(&traffic, 1500);
    assert_eq!(traffic["phases"].as_array().map(Vec::len), Some(2));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (result, page) = (path("result.json"), path("page.html"));
    let compared = cli.run(&["bench", "compare", &result, &result, "--format", "json"]).expect(0).stdout;
    let compared: Value = serde_json::from_slice(&compared).unwrap();
    assert_eq!(compared["differences"].as_array().map(Vec::len), Some(0));
    assert!(compared["rows"].as_array().unwrap().iter().all(|row| row["change"] == "none"), "{compared:#}");
    cli.run(&["bench", "report", &result, &result, "--html", &page]).expect(0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("Rate against latency"));
}

#[test]
fn a_topic_that_was_there_is_read_as_it_is_and_stays() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let cli = broker.cli();
    cli.create("orders", 2);
    cli.run_with(&["produce", "orders"], b"one\ntwo\nthree\n".to_vec()).expect(0);
    let traffic = bench(&cli, dir.path(), "consume --topic orders --partitions 2");
    assert_eq!(traffic["phases"][0]["read"][0]["records"], 3);
    assert_eq!(cli.values("orders").len(), b"one\ntwo\nthree\n".len());
}

#[test]
fn a_reader_of_its_own_reads_a_backlog_again_and_again() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let cli = broker.cli();
    cli.create("orders", 4);
    let fill = "produce --topic orders --partitions 4 --spread round --rate max --records 4k --warm-up 0";
    bench(&cli, dir.path(), fill);
    for driver in ["native", "kafka"] {
        let again = format!("consume --driver {driver} --topic orders --partitions 4 --backlog 4k --again 3");
        let traffic = bench(&cli, dir.path(), &again);
        let read = &traffic["phases"][0]["read"][0];
        let (rounds, records) = (read["rounds"].as_u64().unwrap(), read["records"].as_u64().unwrap());
        assert!(rounds >= 1 && records >= 4000 * rounds, "{read:#}");
    }
}
