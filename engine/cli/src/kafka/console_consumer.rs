//! `kafka-console-consumer`: prints records as they come.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Parser};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, Timestamp, TopicPartitionList};

use super::client::Said;
use super::fault::Fault;
use super::properties;
use crate::interrupt::Interrupt;

/// Ctrl-C is looked at so often.
const POLL: Duration = Duration::from_millis(100);

/// Read records of topics and print them.
#[derive(Debug, Parser)]
#[command(name = "kafka-console-consumer", version, infer_long_args = true)]
#[command(group(ArgGroup::new("what").required(true).args(["topic", "include"])))]
struct Args {
    /// The servers to connect to
    #[arg(long, value_name = "server to connect to")]
    bootstrap_server: String,
    /// The topic to read
    #[arg(long)]
    topic: Option<String>,
    /// Topics to read, a regular expression
    #[arg(long, alias = "whitelist")]
    include: Option<String>,
    /// The partition to read: at the end unless --offset says otherwise
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Where to begin in --partition: earliest, latest or a number
    #[arg(long, requires = "partition", conflicts_with = "from_beginning", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Begin at the earliest record where the group has committed nothing
    #[arg(long)]
    from_beginning: bool,
    /// The group to read in
    #[arg(long)]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long)]
    max_messages: Option<u64>,
    /// Stop when none has come for so long
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// The formatter: only Kafka's own
    #[arg(long)]
    formatter: Option<String>,
    /// What is printed: print.key=true, print.timestamp=true, key.separator=: ...
    #[arg(long, visible_alias = "property", value_name = "prop")]
    formatter_property: Vec<String>,
    /// A file of what is printed
    #[arg(long)]
    formatter_config: Option<PathBuf>,
    /// A property of the client: key=value
    #[arg(long, visible_alias = "consumer-property", value_name = "consumer_prop")]
    command_property: Vec<String>,
    /// A file of the client's properties
    #[arg(long, visible_alias = "consumer.config", value_name = "config file")]
    command_config: Option<PathBuf>,
    /// read_committed or read_uncommitted
    #[arg(long, default_value = "read_uncommitted")]
    isolation_level: String,
    /// Without a meaning here: what cannot be read is said and skipped
    #[arg(long)]
    skip_message_on_error: bool,
    /// Without a meaning here: bytes are printed as they are
    #[arg(long)]
    key_deserializer: Option<String>,
    /// Without a meaning here: bytes are printed as they are
    #[arg(long)]
    value_deserializer: Option<String>,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    let outcome = crate::run::on_two_threads(async {
        let interrupt = Interrupt::listen()?;
        Ok(act(&args, &interrupt))
    });
    let outcome = outcome.unwrap_or_else(|failure| Err(Fault::Other(failure.message)));
    super::end(outcome, |fault| eprintln!("ERROR Unknown error when running consumer: {fault}"))
}

fn act(args: &Args, interrupt: &Interrupt) -> Result<(), Fault> {
    let format = format(args)?;
    let consumer = open(args)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut count = 0u64;
    let printed = print_all(args, &consumer, &format, interrupt, &mut out, &mut count);
    let flushed = out.flush();
    eprintln!("Processed a total of {count} messages");
    printed?;
    Ok(flushed?)
}

fn print_all(
    args: &Args,
    consumer: &BaseConsumer<Said>,
    format: &Format,
    interrupt: &Interrupt,
    out: &mut impl Write,
    count: &mut u64,
) -> Result<(), Fault> {
    let mut last = Instant::now();
    let mut said = None;
    while args.max_messages.is_none_or(|max| *count < max) && !interrupt.is_asked() {
        let next = match consumer.poll(Duration::ZERO) {
            // Nothing is there now: what was printed is to be seen.
            None => {
                out.flush()?;
                consumer.poll(POLL)
            }
            next => next,
        };
        match next {
            Some(Ok(message)) => {
                format.write(&message, out)?;
                *count += 1;
                if args.group.is_some() {
                    consumer.store_offset_from_message(&message)?;
                }
                last = Instant::now();
            }
            Some(Err(error)) if said.as_ref() != Some(&error) => {
                eprintln!("WARN {error}");
                said = Some(error);
            }
            Some(Err(_)) | None => {}
        }
        if args.timeout_ms.is_some_and(|after| last.elapsed() >= Duration::from_millis(after)) {
            // As Kafka's: said, and an end like any other.
            eprintln!("ERROR Error processing message, terminating consumer process: ");
            eprintln!("org.apache.kafka.common.errors.TimeoutException");
            break;
        }
    }
    Ok(())
}

fn open(args: &Args) -> Result<BaseConsumer<Said>, Fault> {
    let mut config = ClientConfig::new();
    let made_up = format!("console-consumer-{}", std::process::id() % 100_000);
    config
        .set("bootstrap.servers", &args.bootstrap_server)
        .set("client.id", "console-consumer")
        .set("group.id", args.group.as_ref().unwrap_or(&made_up))
        .set("enable.auto.commit", args.group.is_some().to_string())
        // What is printed is committed, not what was fetched.
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", if args.from_beginning { "earliest" } else { "latest" })
        .set("isolation.level", &args.isolation_level)
        .set("allow.auto.create.topics", "true");
    properties::apply(&mut config, args.command_config.as_deref(), &args.command_property)?;
    let consumer: BaseConsumer<Said> = config.create_with_context(Said::default())?;
    match (&args.topic, &args.include, args.partition) {
        (Some(topic), _, Some(partition)) => {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, offset(args)?)?;
            consumer.assign(&list)?;
        }
        (Some(topic), _, None) => consumer.subscribe(&[topic])?,
        (None, Some(include), _) => {
            let pattern = format!("^(?:{})$", include.trim().replace(',', "|"));
            // librdkafka knows no groups that are not kept.
            consumer.subscribe(&[&pattern.replace("(?:", "(")])?;
        }
        (None, None, _) => unreachable!("one of them is required"),
    }
    Ok(consumer)
}

fn offset(args: &Args) -> Result<Offset, Fault> {
    let wrong = |text: &str| {
        Fault::Usage(format!(
            "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
        ))
    };
    match args.offset.as_deref() {
        None if args.from_beginning => Ok(Offset::Beginning),
        None => Ok(Offset::End),
        Some(text) if text.eq_ignore_ascii_case("earliest") => Ok(Offset::Beginning),
        Some(text) if text.eq_ignore_ascii_case("latest") => Ok(Offset::End),
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Offset::Offset(number)),
            Ok(_) | Err(_) => Err(wrong(text)),
        },
    }
}

/// What of a record is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Format {
    timestamp: bool,
    partition: bool,
    offset: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    separator: String,
    line_separator: String,
    headers_separator: String,
    null: String,
}

fn format(args: &Args) -> Result<Format, Fault> {
    const OWN: &str = "org.apache.kafka.tools.consumer.DefaultMessageFormatter";
    if args.formatter.as_deref().is_some_and(|formatter| !formatter.ends_with("DefaultMessageFormatter")) {
        return Err(Fault::Usage(format!("Of formatters there is {OWN} only")));
    }
    let of_file = args.formatter_config.as_deref().map(properties::read).transpose()?.unwrap_or_default();
    // Not trimmed: a separator may be a tab.
    let of_line = args.formatter_property.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Fault::Usage(format!("Invalid property '{text}': write it as key=value"))),
    });
    let all: Vec<(String, String)> =
        of_file.into_iter().map(Ok).chain(of_line).collect::<Result<_, Fault>>()?;
    let value = |name: &str| all.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let text = |name: &str, default: &str| value(name).unwrap_or_else(|| default.to_owned());
    let flag = |name: &str, default: bool| {
        value(name).map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
    };
    Ok(Format {
        timestamp: flag("print.timestamp", false),
        partition: flag("print.partition", false),
        offset: flag("print.offset", false),
        epoch: flag("print.epoch", false),
        headers: flag("print.headers", false),
        key: flag("print.key", false),
        value: flag("print.value", true),
        separator: text("key.separator", "\t"),
        line_separator: text("line.separator", "\n"),
        headers_separator: text("headers.separator", ","),
        null: text("null.literal", "null"),
    })
}

impl Format {
    fn write(&self, message: &BorrowedMessage<'_>, out: &mut impl Write) -> std::io::Result<()> {
        let or_null = |bytes: Option<&[u8]>| bytes.unwrap_or(self.null.as_bytes()).to_vec();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if self.timestamp {
            parts.push(match message.timestamp() {
                Timestamp::NotAvailable => b"NO_TIMESTAMP".to_vec(),
                Timestamp::CreateTime(ms) => format!("CreateTime:{ms}").into_bytes(),
                Timestamp::LogAppendTime(ms) => format!("LogAppendTime:{ms}").into_bytes(),
            });
        }
        if self.partition {
            parts.push(format!("Partition:{}", message.partition()).into_bytes());
        }
        if self.offset {
            parts.push(format!("Offset:{}", message.offset()).into_bytes());
        }
        if self.epoch {
            parts.push(b"Epoch:NOT_PRESENT".to_vec());
        }
        if self.headers {
            parts.push(self.headers(message));
        }
        if self.key {
            parts.push(or_null(message.key()));
        }
        if self.value {
            parts.push(or_null(message.payload()));
        }
        out.write_all(&parts.join(self.separator.as_bytes()))?;
        out.write_all(self.line_separator.as_bytes())
    }

    fn headers(&self, message: &BorrowedMessage<'_>) -> Vec<u8> {
        let Some(headers) = message.headers().filter(|headers| headers.count() > 0) else {
            return b"NO_HEADERS".to_vec();
        };
        let pairs = headers.iter().map(|header| {
            let value = header.value.unwrap_or(self.null.as_bytes());
            [header.key.as_bytes(), b":", value].concat()
        });
        pairs.collect::<Vec<_>>().join(self.headers_separator.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(more: &[&str]) -> Result<Args, clap::Error> {
        let words = ["tool", "--bootstrap-server", "b", "--topic", "t"];
        Args::try_parse_from(words.iter().chain(more))
    }

    #[test]
    fn values_are_printed_and_the_rest_on_demand() {
        let bare = format(&parsed(&[]).unwrap()).unwrap();
        assert!(bare.value && !bare.key && bare.separator == "\t");
        let more =
            parsed(&["--property", "print.key=true", "--formatter-property", "key.separator=, "]).unwrap();
        let more = format(&more).unwrap();
        assert!(more.key && more.separator == ", ");
        assert!(format(&parsed(&["--formatter", "com.example.Mine"]).unwrap()).is_err());
    }

    #[test]
    fn offsets_are_words_or_numbers() {
        let at = |more: &[&str]| offset(&parsed(more).unwrap());
        assert_eq!(at(&["--partition", "0", "--offset", "7"]), Ok(Offset::Offset(7)));
        assert_eq!(at(&["--partition", "0", "--offset", "Earliest"]), Ok(Offset::Beginning));
        assert_eq!(at(&["--partition", "0"]), Ok(Offset::End));
        assert!(at(&["--partition", "0", "--offset", "-3"]).is_err());
        assert!(parsed(&["--offset", "7"]).is_err(), "of which partition");
    }
}
