//! `kafka-console-producer`: a record per line of stdin.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::client::Sender;
use super::fault::Fault;
use super::properties;
use crate::lines::LINE_BYTES_MAX;

/// Records may be on their way for so long when input has ended.
const FLUSH_WAIT: Duration = Duration::from_secs(120);

/// Read data from standard input and publish it to Kafka.
#[derive(Debug, Parser)]
#[command(name = "kafka-console-producer", version, infer_long_args = true)]
struct Args {
    /// The servers to connect to
    #[arg(long, visible_alias = "broker-list", value_name = "server to connect to")]
    bootstrap_server: String,
    /// The topic to produce to
    #[arg(long)]
    topic: String,
    /// Send one after the other, each when the one before is answered
    #[arg(long)]
    sync: bool,
    /// Compress batches: none, gzip (without a name), snappy, lz4 or zstd
    #[arg(long, num_args = 0..=1, default_value = "none", default_missing_value = "gzip")]
    compression_codec: String,
    /// Bytes of a batch
    #[arg(long, alias = "max-partition-memory-bytes", default_value = "16384", value_name = "size")]
    batch_size: u32,
    /// How often a record is tried again
    #[arg(long, default_value = "3")]
    message_send_max_retries: u32,
    /// Before a record is tried again
    #[arg(long, default_value = "100")]
    retry_backoff_ms: u32,
    /// How long a record may wait for others to share its batch, in milliseconds
    #[arg(long, default_value = "1000", value_name = "timeout_ms")]
    timeout: u32,
    /// -1 or all, 1, 0
    #[arg(long, default_value = "-1", allow_hyphen_values = true)]
    request_required_acks: String,
    /// How long a request may take
    #[arg(long, default_value = "1500")]
    request_timeout_ms: u32,
    /// Without a meaning here; taken for the sake of scripts
    #[arg(long)]
    max_block_ms: Option<u64>,
    /// Without a meaning here; taken for the sake of scripts
    #[arg(long)]
    max_memory_bytes: Option<u64>,
    /// Without a meaning here; taken for the sake of scripts
    #[arg(long)]
    metadata_expiry_ms: Option<u64>,
    /// Of the socket; 0: the system's
    #[arg(long)]
    socket_buffer_size: Option<u32>,
    /// The reader: only Kafka's own, of lines
    #[arg(long)]
    line_reader: Option<String>,
    /// How lines are read: parse.key=true, key.separator=:, parse.headers=true, null.marker=NULL ...
    #[arg(long, visible_alias = "property", value_name = "prop")]
    reader_property: Vec<String>,
    /// A property of the client: key=value
    #[arg(long, visible_alias = "producer-property", value_name = "producer_prop")]
    command_property: Vec<String>,
    /// A file of the client's properties
    #[arg(long, visible_alias = "producer.config", value_name = "config file")]
    command_config: Option<PathBuf>,
    /// A file of how lines are read
    #[arg(long)]
    reader_config: Option<PathBuf>,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| eprintln!("ERROR {fault}"))
}

fn act(args: &Args) -> Result<(), Fault> {
    let rules = rules(args)?;
    let sender = Sender::new(&config(args)?)?;
    let is_typed = std::io::stdin().is_terminal();
    let mut input = std::io::stdin().lock();
    let mut number = 0u64;
    loop {
        if is_typed {
            write!(std::io::stdout(), ">")?;
            std::io::stdout().flush()?;
        }
        let Some(line) = next_line(&mut input)? else { break };
        number += 1;
        match rules.read(&line) {
            Ok(record) => send(args, &sender, &record)?,
            Err(why) => return Err(Fault::Usage(format!("{why} on line number {number}"))),
        }
    }
    sender.flush(FLUSH_WAIT)
}

fn send(args: &Args, sender: &Sender, line: &Line<'_>) -> Result<(), Fault> {
    let mut record = BaseRecord::<[u8], [u8]>::to(&args.topic);
    record.key = line.key;
    record.payload = line.value;
    if !line.headers.is_empty() {
        let headers = line
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: *value }));
        record = record.headers(headers);
    }
    sender.send(record)?;
    if args.sync {
        sender.flush(FLUSH_WAIT)?;
        if let Some(why) = sender.tally().first_failure {
            return Err(Fault::Other(why));
        }
    }
    Ok(())
}

/// The next line without its end; a longer one than fits a batch is refused.
fn next_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    let stdin = |error: std::io::Error| Fault::Other(format!("stdin: {error}"));
    let bytes = input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(stdin)?;
    if bytes == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if bytes > LINE_BYTES_MAX {
        return Err(Fault::Other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
    }
    Ok(Some(line))
}

fn config(args: &Args) -> Result<ClientConfig, Fault> {
    let acks_all = matches!(args.request_required_acks.as_str(), "-1" | "all");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.bootstrap_server)
        .set("client.id", "console-producer")
        .set("acks", &args.request_required_acks)
        .set("enable.idempotence", acks_all.to_string())
        .set("linger.ms", args.timeout.to_string())
        .set("batch.size", args.batch_size.to_string())
        .set("compression.type", &args.compression_codec)
        .set("message.send.max.retries", args.message_send_max_retries.to_string())
        .set("retry.backoff.ms", args.retry_backoff_ms.to_string())
        .set("request.timeout.ms", args.request_timeout_ms.to_string())
        .set("message.timeout.ms", FLUSH_WAIT.as_millis().to_string())
        // As Java's client chooses, so that both send a key to one partition.
        .set("partitioner", "murmur2_random");
    if let Some(bytes) = args.socket_buffer_size {
        config.set("socket.send.buffer.bytes", bytes.to_string());
    }
    properties::apply(&mut config, args.command_config.as_deref(), &args.command_property)?;
    Ok(config)
}

/// How a line becomes a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rules {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
}

/// Names and values.
type HeaderList<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Line<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: HeaderList<'a>,
}

fn rules(args: &Args) -> Result<Rules, Fault> {
    const LINES: &str = "org.apache.kafka.tools.LineMessageReader";
    if args.line_reader.as_deref().is_some_and(|reader| !reader.ends_with("LineMessageReader")) {
        return Err(Fault::Usage(format!("Of readers there is {LINES} only")));
    }
    let of_file = args.reader_config.as_deref().map(properties::read).transpose()?.unwrap_or_default();
    // Not trimmed: a separator may be a tab.
    let of_line = args.reader_property.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Fault::Usage(format!("Invalid property '{text}': write it as key=value"))),
    });
    let all: Vec<(String, String)> =
        of_file.into_iter().map(Ok).chain(of_line).collect::<Result<_, Fault>>()?;
    let value = |name: &str| all.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let text = |name: &str, default: &str| value(name).unwrap_or_else(|| default.to_owned());
    let flag = |name: &str| value(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    Ok(Rules {
        parse_key: flag("parse.key"),
        key_separator: text("key.separator", "\t"),
        parse_headers: flag("parse.headers"),
        headers_delimiter: text("headers.delimiter", "\t"),
        headers_separator: text("headers.separator", ","),
        headers_key_separator: text("headers.key.separator", ":"),
        ignore_error: flag("ignore.error"),
        null_marker: value("null.marker"),
    })
}

impl Rules {
    /// `headers DELIMITER key SEPARATOR value`, each as far as it is wanted.
    fn read<'a>(&self, line: &'a [u8]) -> Result<Line<'a>, String> {
        let mut rest = line;
        let mut headers = Vec::new();
        if self.parse_headers {
            match cut(rest, &self.headers_delimiter) {
                Some((text, after)) => {
                    headers = self.headers(text)?;
                    rest = after;
                }
                None if self.ignore_error => {}
                None => return Err(format!("No headers delimiter found {:?}", self.headers_delimiter)),
            }
        }
        let (mut key, mut value) = (None, Some(rest));
        if self.parse_key {
            match cut(rest, &self.key_separator) {
                Some((before, after)) => (key, value) = (Some(before), Some(after)),
                None if self.ignore_error => {}
                None => return Err(format!("No key separator found {:?}", self.key_separator)),
            }
        }
        let marked =
            |bytes: &[u8]| self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == bytes);
        Ok(Line { key: key.filter(|key| !marked(key)), value: value.filter(|value| !marked(value)), headers })
    }

    fn headers<'a>(&self, text: &'a [u8]) -> Result<HeaderList<'a>, String> {
        let wrong = |what: &[u8]| {
            format!("No header key separator found in pair '{}'", String::from_utf8_lossy(what))
        };
        if self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == text) {
            return Ok(Vec::new());
        }
        let mut headers = Vec::new();
        let mut rest = Some(text);
        while let Some(pairs) = rest {
            let (pair, after) = match cut(pairs, &self.headers_separator) {
                Some((pair, after)) => (pair, Some(after)),
                None => (pairs, None),
            };
            rest = after;
            match cut(pair, &self.headers_key_separator) {
                Some((name, value)) => {
                    let name = std::str::from_utf8(name).map_err(|_| wrong(pair))?;
                    let is_null = self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == value);
                    headers.push((name, (!is_null).then_some(value)));
                }
                None if self.ignore_error => {}
                None => return Err(wrong(pair)),
            }
        }
        Ok(headers)
    }
}

fn cut<'a>(bytes: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    if separator.is_empty() {
        return None;
    }
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(properties: &[&str]) -> Rules {
        let mut words = vec!["tool", "--bootstrap-server", "b", "--topic", "t"];
        for property in properties {
            words.extend(["--property", property]);
        }
        rules(&Args::try_parse_from(words).unwrap()).unwrap()
    }

    #[test]
    fn line_is_the_value_unless_asked_otherwise() {
        let line = rules_of(&[]).read(b"a\tb").unwrap();
        assert_eq!(line, Line { value: Some(b"a\tb"), ..Line::default() });
    }

    #[test]
    fn keys_headers_and_nulls_are_cut_out() {
        let rules =
            rules_of(&["parse.key=true", "key.separator=:", "parse.headers=true", "null.marker=NULL"]);
        let line = rules.read(b"h1:v1,h2:NULL\tk:NULL").unwrap();
        assert_eq!(line.headers, [("h1", Some(&b"v1"[..])), ("h2", None)]);
        assert_eq!((line.key, line.value), (Some(&b"k"[..]), None));
        assert!(rules.read(b"NULL\tno key").is_err());
        assert!(rules.read(b"k:v").is_err());
    }

    #[test]
    fn old_names_and_new_ones_are_taken() {
        let parsed = Args::try_parse_from([
            "tool",
            "--broker-list",
            "b",
            "--topic",
            "t",
            "--producer-property",
            "a=b",
            "--compression-codec",
        ])
        .unwrap();
        assert_eq!((parsed.compression_codec.as_str(), parsed.command_property.len()), ("gzip", 1));
    }

    #[test]
    fn lines_end_as_people_end_them() {
        let mut input = &b"one\r\ntwo\n\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", "last"]);
    }
}
