//! `kafka-delete-records`: forget everything below an offset of each partition.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use serde_json::Value;

use super::cluster::{Cluster, topic_name};
use super::fault::Fault;
use super::offsets::{Found, Place, by_leader};
use super::properties;

const DELETE_RECORDS_VERSION: i16 = 2;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Delete records of partitions down to given offsets.
#[derive(Debug, Parser)]
#[command(name = "kafka-delete-records", version, infer_long_args = true)]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, value_name = "server(s) to use for bootstrapping")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "command config property file path")]
    command_config: Option<PathBuf>,
    /// A file with {"partitions": [{"topic": "foo", "partition": 1, "offset": 1}], "version": 1}
    #[arg(long, value_name = "Offset json file path")]
    offset_json_file: PathBuf,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| eprintln!("{fault}"))
}

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let path = args.offset_json_file.display();
    let file = std::fs::read(&args.offset_json_file)
        .map_err(|error| Fault::Usage(format!("Unable to read {path}: {error}")))?;
    let offsets = parse(&file)?;
    let mut cluster = Cluster::connect(&args.bootstrap_server, TIMEOUT)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "Executing records delete operation")?;
    let low_watermarks = delete(&mut cluster, &offsets)?;
    writeln!(out, "Records delete operation completed:")?;
    for ((topic, partition), low_watermark) in low_watermarks {
        match low_watermark {
            Ok(offset) => writeln!(out, "partition: {topic}-{partition}\tlow_watermark: {offset}")?,
            Err(fault) => writeln!(
                out,
                "partition: {topic}-{partition}\terror: org.apache.kafka.common.errors.{}: {fault}",
                fault.exception()
            )?,
        }
    }
    Ok(())
}

fn parse(file: &[u8]) -> Result<BTreeMap<Place, i64>, Fault> {
    let wrong = |why: &str| Fault::Usage(format!("The offset json file is wrong: {why}"));
    let said = |what: &str| Fault::Usage(what.to_owned());
    let json: Value =
        serde_json::from_slice(file).map_err(|_| said("The input string is not a valid JSON"))?;
    if let Some(version) = json.get("version").filter(|version| **version != 1) {
        return Err(said(&format!("Not supported version field value {version}")));
    }
    let partitions = json["partitions"].as_array().ok_or_else(|| said("Missing partitions field"))?;
    let (mut offsets, mut twice) = (BTreeMap::new(), Vec::new());
    for partition in partitions {
        let topic = partition["topic"].as_str().ok_or_else(|| wrong("a topic is missing"))?;
        let index = partition["partition"].as_i64().and_then(|index| i32::try_from(index).ok());
        let index = index.ok_or_else(|| wrong("a partition is missing"))?;
        let offset = partition["offset"].as_i64().ok_or_else(|| wrong("an offset is missing"))?;
        if offsets.insert((topic.to_owned(), index), offset).is_some() {
            twice.push(format!("{topic}-{index}"));
        }
    }
    if !twice.is_empty() {
        let twice = twice.join(",");
        return Err(said(&format!("Offset json file contains duplicate topic partitions: {twice}")));
    }
    Ok(offsets)
}

fn delete(cluster: &mut Cluster, offsets: &BTreeMap<Place, i64>) -> Result<Found, Fault> {
    let places: Vec<Place> = offsets.keys().cloned().collect();
    let mut found = Found::new();
    for (leader, topics) in by_leader(cluster, &places, &mut found)? {
        let topics = topics.into_iter().map(|(topic, indexes)| {
            let partition = |index: &i32| {
                DeleteRecordsPartition::default()
                    .with_partition_index(*index)
                    .with_offset(offsets[&(topic.clone(), *index)])
            };
            DeleteRecordsTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(indexes.iter().map(partition).collect())
        });
        let request = DeleteRecordsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(TIMEOUT.as_millis() as i32);
        let answer = cluster.ask_node(leader, DELETE_RECORDS_VERSION, &request)?;
        for topic in answer.topics {
            for at in topic.partitions {
                let low_watermark = Fault::check(at.error_code, None).map(|()| at.low_watermark);
                found.insert((topic.name.to_string(), at.partition_index), low_watermark);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_from_kafkas_json() {
        let offsets =
            parse(br#"{"partitions": [{"topic": "chat", "partition": 1, "offset": 7}], "version": 1}"#)
                .unwrap();
        assert_eq!(offsets, BTreeMap::from([(("chat".to_owned(), 1), 7)]));
        for wrong in ["", "{}", r#"{"partitions": [{}]}"#, r#"{"partitions": [], "version": 2}"#] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let said = |file: &str| parse(file.as_bytes()).unwrap_err().to_string();
        assert_eq!(said("{"), "The input string is not a valid JSON");
        assert_eq!(said(r#"{"version": 2}"#), "Not supported version field value 2");
        assert_eq!(said("{}"), "Missing partitions field");
        let one = r#"{"topic": "chat", "partition": 1, "offset": 7}"#;
        let twice = said(&format!(r#"{{"partitions": [{one}, {one}]}}"#));
        assert_eq!(twice, "Offset json file contains duplicate topic partitions: chat-1");
    }
}
