use clap::{CommandFactory, FromArgMatches, Parser};

use super::{BenchArgs, BenchKind, LoadArgs, Rate, Spread, StepArgs, Sweep};
use crate::schedule::Arrivals;
use crate::system::{Acks, Driver, Durability};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn parse(line: &str) -> Result<BenchKind, String> {
    let words = std::iter::once("bench").chain(line.split_ascii_whitespace());
    let matches = Line::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    Ok(Line::from_arg_matches(&matches).map_err(|error| error.to_string())?.bench.kind)
}

#[track_caller]
fn produce(line: &str) -> (LoadArgs, StepArgs) {
    match parse(&format!("produce {line}")) {
        Ok(BenchKind::Produce(args)) => (args.load, args.steps),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    Line::command().debug_assert();
}

#[test]
fn without_flags_the_loop_is_open_and_writes_are_durable() {
    let (load, steps) = produce("");
    assert_eq!((load.rate, load.arrivals), (Rate::PerSecond(10_000.0), Arrivals::Fixed));
    assert_eq!((load.driver, load.acks, load.durability), (Driver::Native, Acks::All, Durability::Disk));
    assert_eq!((load.batch_bytes, load.window, load.memory), (128 << 10, 100_000, 32 << 20));
    assert!(!steps.ramp && steps.steps.is_empty() && steps.sweep.is_none());
}

#[test]
fn flags_are_read_with_their_units() {
    let line = "--driver kafka --rate 1.5m --arrivals poisson --record-bytes 100:80%,10k:20% --keys zipf:1k:1.2 \
                --partitions 10k --spread round --broker-pid 12,13 --broker-pid 14 --batch-bytes 256k --window 1 \
                --durability memory --config a=b=c --client-config d=e";
    let (load, _) = produce(line);
    assert_eq!((load.driver, load.rate), (Driver::Kafka, Rate::PerSecond(1.5e6)));
    assert_eq!((load.partitions, load.spread), (10_000, Spread::Round));
    assert_eq!(load.broker_pid, [12, 13, 14]);
    assert_eq!((load.batch_bytes, load.window), (256 << 10, 1));
    assert_eq!(load.configs, [("a".to_owned(), "b=c".to_owned())]);
    assert_eq!(load.client_configs, [("d".to_owned(), "e".to_owned())]);
    assert_eq!(produce("--rate max").0.rate, Rate::Max);
}

#[test]
fn steps_and_sweeps_are_lists() {
    assert_eq!(produce("--steps 10k,50k,1m").1.steps, [10e3, 50e3, 1e6]);
    let (load, steps) = produce("--sweep partitions=1,10,10k");
    assert_eq!(steps.sweep, Some(Sweep::Partitions(vec![1, 10, 10_000])));
    let loads = steps.sweep.unwrap().loads(&load);
    let names: Vec<&str> = loads.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["partitions=1", "partitions=10", "partitions=10000"]);
    assert_eq!(loads[2].1.partitions, 10_000);
    assert!(
        matches!(produce("--sweep record-bytes=100,1k").1.sweep, Some(Sweep::RecordBytes(all)) if all.len() == 2)
    );
}

#[test]
fn what_means_nothing_is_refused() {
    for wrong in [
        "produce --rate 0",
        "produce --rate fast",
        "produce --record-bytes 10",
        "produce --partitions 10001",
        "produce --partitions 1.5",
        "produce --compress-ratio 0.5",
        "produce --ramp --steps 1k,2k",
        "produce --sweep rate=1,2",
        "produce --window 0",
        "produce --consumers 2",
        "consume --ramp",
        "consume --again 10",
        "consume --again 10 --topic t --consumers 2",
        "consume --again 0 --topic t",
        "mixed --alone 0",
        "nothing",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_back_filling_reader_stands_beside_another_run_or_within_its_own() {
    let Ok(BenchKind::Consume(args)) = parse("consume --topic t --partitions 4 --backlog 5m --again 60")
    else {
        panic!("no consume");
    };
    assert_eq!((args.again, args.backlog), (Some(60), 5_000_000));
    let alone = |line: &str| match parse(line) {
        Ok(BenchKind::Mixed(args)) => args.alone,
        other => panic!("{other:?}"),
    };
    assert_eq!((alone("mixed"), alone("mixed --alone 5 --duration 600")), (None, Some(5)));
}

#[test]
fn a_batch_of_one_byte_is_a_record_by_itself() {
    assert_eq!(produce("--batch-bytes 1").0.batch_bytes, 1);
    assert!(parse("produce --batch-bytes 0").is_err());
}
