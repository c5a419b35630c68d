//! `kafka-get-offsets`: `topic:partition:offset` of each partition.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::cluster::Cluster;
use super::fault::Fault;
use super::offsets::{self, EARLIEST, LATEST, MAX_TIMESTAMP, Place};
use super::{properties, topics};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Get topics' offsets.
#[derive(Debug, Parser)]
#[command(name = "kafka-get-offsets", version, infer_long_args = true)]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, visible_alias = "broker-list", value_name = "HOST1:PORT1,...")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "config file")]
    command_config: Option<PathBuf>,
    /// Topics, a regular expression; without it all of them
    #[arg(long)]
    topic: Option<String>,
    /// Topics and partitions: topic:0-3,other:1,third:2-
    #[arg(long, conflicts_with_all = ["topic", "partitions"])]
    topic_partitions: Option<String>,
    /// Partitions: 0,1,2
    #[arg(long, value_delimiter = ',')]
    partitions: Option<Vec<i32>>,
    /// Milliseconds since 1970, earliest (-2), latest (-1) or max-timestamp (-3)
    #[arg(long, default_value = "latest", allow_hyphen_values = true, value_parser = parse_time)]
    time: i64,
    /// Leave internal topics out
    #[arg(long)]
    exclude_internal_topics: bool,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| eprintln!("Error occurred: {fault}"))
}

fn parse_time(text: &str) -> Result<i64, String> {
    match text {
        // Every record is local.
        "earliest" | "earliest-local" | "-4" => Ok(EARLIEST),
        "latest" => Ok(LATEST),
        "max-timestamp" => Ok(MAX_TIMESTAMP),
        number => number.parse().map_err(|_| {
            format!("Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered, or a specified long format timestamp")
        }),
    }
}

/// Partitions of a topic: from, up to (exclusive).
type Span = (i32, i32);

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let spans = args.topic_partitions.as_deref().map(parse_spans).transpose()?;
    let pattern = args.topic.as_deref().map(topics::pattern).transpose()?;
    let mut cluster = Cluster::connect(&args.bootstrap_server, TIMEOUT)?;
    let mut places: Vec<Place> = Vec::new();
    for topic in cluster.topics()? {
        let Some(name) = topic.name else { continue };
        let name = name.to_string();
        if args.exclude_internal_topics && topic.is_internal {
            continue;
        }
        let is_meant = |partition: i32| {
            let of_spans = spans.as_ref().is_none_or(|spans| {
                spans
                    .iter()
                    .any(|(topic, (from, end))| topic.is_match(&name) && (*from..*end).contains(&partition))
            });
            of_spans
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&name))
                && args.partitions.as_ref().is_none_or(|partitions| partitions.contains(&partition))
        };
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        places.extend(partitions.filter(|index| is_meant(*index)).map(|index| (name.clone(), index)));
    }
    if places.is_empty() {
        return Err(Fault::Usage(
            "Could not match any topic-partitions with the specified filters".to_owned(),
        ));
    }
    let found = offsets::list(&mut cluster, &places, args.time)?;
    for ((topic, partition), offset) in &found {
        if let Err(fault) = offset {
            eprintln!(
                "Skip getting offsets for topic-partition {topic}-{partition} due to error: \
                 org.apache.kafka.common.errors.{}: {fault}",
                fault.exception()
            );
        }
    }
    let known = found.into_iter().filter_map(|(place, offset)| Some((place, offset.ok()?)));
    Ok(std::io::stdout().write_all(lines(known.collect()).as_bytes())?)
}

/// Without partitions where nothing was found, in the order of their names: `t-10` before `t-2`.
fn lines(mut found: Vec<(Place, i64)>) -> String {
    found.retain(|(_, offset)| *offset >= 0);
    found.sort_by_cached_key(|((topic, partition), _)| format!("{topic}-{partition}"));
    found.iter().map(|((topic, partition), offset)| format!("{topic}:{partition}:{offset}\n")).collect()
}

/// `topic:0-3,other:1,third:2-,fourth`.
fn parse_spans(text: &str) -> Result<Vec<(regex::Regex, Span)>, Fault> {
    let wrong = |rule: &str| Fault::Usage(format!("Invalid rule specification: {rule}"));
    let number = |rule: &str, text: &str| text.parse::<i32>().map_err(|_| wrong(rule));
    let one = |rule: &str| {
        let (topic, span) = rule.split_once(':').unwrap_or((rule, "-"));
        let span = match span.split_once('-') {
            None => (number(rule, span)?, number(rule, span)?.saturating_add(1)),
            Some((from, end)) => {
                let from = if from.is_empty() { 0 } else { number(rule, from)? };
                (from, if end.is_empty() { i32::MAX } else { number(rule, end)? })
            }
        };
        Ok((topics::pattern(if topic.is_empty() { ".*" } else { topic })?, span))
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_number_and_by_span() {
        let spans = parse_spans("a:1,b:2-4,c:5-,:0,d").unwrap();
        let spans: Vec<Span> = spans.into_iter().map(|(_, span)| span).collect();
        assert_eq!(spans, [(1, 2), (2, 4), (5, i32::MAX), (0, 1), (0, i32::MAX)]);
        assert!(parse_spans("a:x").is_err());
    }

    #[test]
    fn offsets_are_printed_in_the_order_of_names_and_only_where_there_are_some() {
        let at = |topic: &str, partition, offset| ((topic.to_owned(), partition), offset);
        let found = vec![at("b", 0, 3), at("a", 2, 0), at("a", 10, 7), at("a", 3, -1)];
        assert_eq!(lines(found), "a:10:7\na:2:0\nb:0:3\n");
    }

    #[test]
    fn times_are_words_or_numbers() {
        assert_eq!(parse_time("earliest"), Ok(EARLIEST));
        assert_eq!(parse_time("-1"), Ok(LATEST));
        assert_eq!(parse_time("1700000000000"), Ok(1_700_000_000_000));
        assert!(parse_time("soon").is_err());
    }
}
