use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("millstream").chain(line.split_whitespace()))
}

#[track_caller]
fn refused(line: &str) -> ErrorKind {
    parse(line).expect_err(line).kind()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_contracts_lines_are_understood() {
    for line in [
        "serve --config f --data d --listen 0.0.0.0:1 --advertise a:1 --http 127.0.0.1:2 --cores 0,1 --node-id 3",
        "serve --cluster-peers 1@a:9092,2@b:9092",
        "topic create t --partitions 4 --replicas 1 --config retention.ms=1 --config segment.bytes=2",
        "topic list",
        "topic describe t",
        "topic alter t --partitions 5 --config a=b --delete-config c",
        "topic delete t",
        "produce t --key-separator : --partition 1 --acks leader",
        "consume t --from-beginning --partition 0 --max-records 3 --exit-at-end --output key-value",
        "consume t --offset 17",
        "consume t --timestamp 2026-03-01T00:00:00Z --output json",
        "cluster status --format json",
        "log verify dir",
        "log dump file",
        "doctor",
        "completions zsh",
        "--server a:1 --server b:2,c:3 topic list",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn servers_are_gathered_from_repeats_and_commas() {
    let cli = parse("topic list --server a:1 --server b:2,c:3").unwrap();
    assert_eq!(cli.global.server, ["a:1", "b:2", "c:3"]);
}

#[test]
fn one_start_at_most_and_no_values_that_mean_nothing() {
    assert_eq!(refused("consume t --offset 1 --from-beginning"), ErrorKind::ArgumentConflict);
    assert_eq!(refused("consume t --offset many"), ErrorKind::ValueValidation);
    assert_eq!(refused("consume t --timestamp soon"), ErrorKind::ValueValidation);
    assert_eq!(refused("consume t --output yaml"), ErrorKind::InvalidValue);
    assert_eq!(refused("produce t --acks some"), ErrorKind::InvalidValue);
    assert_eq!(refused("topic create t --config retention.ms"), ErrorKind::ValueValidation);
    assert_eq!(refused("topic alter t"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refused("topic create"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refused("topic nonsense"), ErrorKind::InvalidSubcommand);
}

#[test]
fn groups_are_for_reading_on_and_for_moving() {
    assert!(parse("consume t --group g --kafka --from-beginning").is_ok());
    assert_eq!(refused("consume t --group g --offset 5"), ErrorKind::ArgumentConflict);
    assert_eq!(parse_reset_to("earliest"), Ok(ResetTo::Earliest));
    assert_eq!(parse_reset_to("17"), Ok(ResetTo::Offset(17)));
    assert_eq!(parse_reset_to("1970-01-01T00:00:01Z"), Ok(ResetTo::Time(1_000)));
    assert_eq!(refused("group reset-offsets g --topic t --to soon"), ErrorKind::ValueValidation);
    assert_eq!(refused("group reset-offsets g --to 0"), ErrorKind::MissingRequiredArgument);
}

#[test]
fn times_have_units_and_bounds() {
    assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
    assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(parse_duration("3m"), Ok(Duration::from_secs(180)));
    for text in ["", "0", "-1", "1h", "99999999999999999999", "1000000"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}
