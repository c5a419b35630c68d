//! The command line as people type it. Help texts are part of the contract: snapshots in `tests/snapshots`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// A message broker: one binary, the server and everything around it
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 timeout, 5 partly done.\n\n\
                  Example:\n  millstream serve &\n  millstream topic create words --partitions 4\n  \
                  seq 1 1000 | millstream produce words\n  millstream consume words --from-beginning --exit-at-end\n\n\
                  Kafka's tools by their own names and flags: millstream kafka-topics --help, and kafka-configs,\n\
                  kafka-console-consumer, kafka-console-producer, kafka-consumer-groups, kafka-get-offsets,\n\
                  kafka-delete-records, kafka-broker-api-versions."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Broker to ask; several: repeat it or separate them by commas
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_SERVER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        hide_env_values = true
    )]
    pub server: Vec<String>,
    /// How results are written to stdout
    #[arg(long, global = true, env = "MILLSTREAM_FORMAT", default_value = "text", hide_env_values = true)]
    pub format: Format,
    /// PEM file of the authority to trust; without it that of ./millstream-data, or of $MILLSTREAM_DATA
    #[arg(long, global = true, env = "MILLSTREAM_CA_FILE", value_name = "FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256, as the broker prints it when it starts
    #[arg(long, global = true, env = "MILLSTREAM_FINGERPRINT", value_name = "HEX", hide_env_values = true)]
    pub fingerprint: Option<String>,
    /// Give up after this long: 500ms, 10s, 2m; a plain number is seconds
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_TIMEOUT",
        value_name = "TIME",
        value_parser = parse_duration,
        hide_env_values = true
    )]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker
    Serve(ServeArgs),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List, describe and delete consumer groups, and move their offsets
    #[command(subcommand)]
    Group(GroupCommand),
    /// Send a record per line of stdin
    Produce(ProduceArgs),
    /// Print records
    Consume(ConsumeArgs),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look at logs on disk, without a broker
    #[command(subcommand)]
    Log(LogCommand),
    /// Check this machine: kernel, io_uring, memory locking, disk, buffers, each with its fix
    Doctor(DoctorArgs),
    /// Measure
    Bench(Box<bench_load::BenchArgs>),
    /// Print shell completions
    #[command(after_help = "Example:\n  millstream completions bash > /etc/bash_completion.d/millstream")]
    Completions(CompletionsArgs),
    /// Write manual pages into a directory
    #[command(after_help = "Example:\n  millstream man ./man && man ./man/millstream-topic-create.1")]
    Man(ManArgs),
}

/// Every flag is also a setting of the configuration file and of the environment; flags win over both.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  millstream serve --data /var/lib/millstream --listen 0.0.0.0:9092 --advertise \
                  broker.example:9092 --cores 4\n\nEvery setting: deploy/config/millstream.toml. In the \
                  environment: MILLSTREAM_ and the setting's name, __ for each dot (MILLSTREAM_LOG__LEVEL=debug)."
)]
pub struct ServeArgs {
    /// TOML file of settings [env: MILLSTREAM_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory, made where there is none [default: ./millstream-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Address of the port, UDP for QUIC and TCP for Kafka's clients [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// What clients are told to dial [default: the listen address; Kafka's clients: the one they have reached]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Address of /metrics, /healthz and /readyz [default: 127.0.0.1:9644]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// How many cores, or which: 2, or 0,2,4-7 [default: all]
    #[arg(long, value_name = "N|LIST")]
    pub cores: Option<String>,
    /// This node's number [default: 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<String>,
    /// The nodes of a static first cluster
    #[arg(long, value_name = "ID@HOST:PORT,...")]
    pub cluster_peers: Option<String>,
    /// Log lines: logfmt or json [default: logfmt]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// debug, info, warn or error [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    #[command(
        after_help = "Example:\n  millstream topic create orders --partitions 8 --config retention.ms=86400000"
    )]
    Create(TopicCreateArgs),
    /// List topics
    #[command(after_help = "Example:\n  millstream topic list --format json")]
    List,
    /// Show a topic with its partitions and configs
    #[command(after_help = "Example:\n  millstream topic describe orders")]
    Describe(TopicNameArgs),
    /// Add partitions, set configs, or set them back to their defaults
    #[command(
        after_help = "Example:\n  millstream topic alter orders --partitions 16 --config write.caching=true\n  \
                      millstream topic alter orders --delete-config write.caching"
    )]
    Alter(TopicAlterArgs),
    /// Delete a topic and all its records
    #[command(after_help = "Example:\n  millstream topic delete orders")]
    Delete(TopicNameArgs),
}

#[derive(Debug, Clone, Args)]
pub struct TopicCreateArgs {
    /// 1 to 249 of a-z A-Z 0-9 . _ -
    pub name: String,
    /// Partitions, 1 to 10000 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=PARTITIONS_MAX))]
    pub partitions: Option<u32>,
    /// Copies of each partition [default: 1]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// A topic config; may be repeated
    #[arg(long = "config", value_name = "K=V", value_parser = parse_pair)]
    pub configs: Vec<(String, String)>,
}

#[derive(Debug, Clone, Args)]
pub struct TopicNameArgs {
    /// Of the topic
    pub name: String,
}

#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub struct TopicAlterArgs {
    /// Of the topic
    pub name: String,
    /// New number of partitions, not less than now
    #[arg(long, value_name = "N", group = "change")]
    pub partitions: Option<u32>,
    /// Set a topic config; may be repeated
    #[arg(long = "config", value_name = "K=V", value_parser = parse_pair, group = "change")]
    pub configs: Vec<(String, String)>,
    /// Set a topic config back to its default; may be repeated
    #[arg(long = "delete-config", value_name = "K", group = "change")]
    pub delete_configs: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    #[command(after_help = "Example:\n  millstream group list")]
    List,
    /// Show a group: its state, and its lag by partition
    #[command(after_help = "Example:\n  millstream group describe readers --events")]
    Describe(GroupDescribeArgs),
    /// Move a group without members to other offsets of a topic
    #[command(
        after_help = "Example:\n  millstream group reset-offsets readers --topic orders --to 2026-03-01T00:00:00Z --dry-run"
    )]
    ResetOffsets(GroupResetArgs),
    /// Delete a group without members, with its offsets
    #[command(after_help = "Example:\n  millstream group delete readers")]
    Delete(GroupNameArgs),
}

#[derive(Debug, Clone, Args)]
pub struct GroupNameArgs {
    /// Of the group
    pub name: String,
}

#[derive(Debug, Clone, Args)]
pub struct GroupDescribeArgs {
    /// Of the group
    pub name: String,
    /// Its members and what they own
    #[arg(long)]
    pub members: bool,
    /// Committed offsets and lag, in records and in time
    #[arg(long)]
    pub offsets: bool,
    /// State, protocol, generation
    #[arg(long)]
    pub state: bool,
    /// The last rebalances: what set them off, who, how long they took
    #[arg(long)]
    pub events: bool,
}

#[derive(Debug, Clone, Args)]
pub struct GroupResetArgs {
    /// Of the group; it need not exist
    pub name: String,
    /// All partitions of this topic
    #[arg(long)]
    pub topic: String,
    /// earliest, latest, an offset, or a time: 2026-03-01T12:00:00Z
    #[arg(long, value_name = "WHERE", value_parser = parse_reset_to)]
    pub to: ResetTo,
    /// Change nothing, say what would be
    #[arg(long)]
    pub dry_run: bool,
}

/// Where offsets are moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    Earliest,
    Latest,
    Offset(u64),
    /// Milliseconds since 1970.
    Time(i64),
}

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Lines end at LF; everything else, CR included, is the record's. Ctrl-C sends what was read and \
                  waits for it.\n\nExample:\n  printf 'ann:1\\nbob:2\\n' | millstream produce orders --key-separator :"
)]
pub struct ProduceArgs {
    /// Topic to send to; it must exist
    pub topic: String,
    /// What comes before the first SEP of a line is the record's key; without SEP there is none
    #[arg(long, value_name = "SEP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key_separator: Option<String>,
    /// Everything to this partition, from 0
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// When the broker is to answer
    #[arg(long, default_value = "all")]
    pub acks: AcksArg,
    /// Compress batches
    #[arg(long, default_value = "none", value_name = "CODEC")]
    pub compression: CompressionArg,
    /// Over Kafka's protocol instead of QUIC, through librdkafka
    #[arg(long)]
    pub kafka: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcksArg {
    /// On stable storage of every in-sync replica
    All,
    /// On stable storage of the leader
    Leader,
    /// At once, with nothing promised
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Reads the partitions there are when it starts: those added later are not seen, but by groups. \
                  --timeout is how long a broker may be out of reach, not how long to wait for records.\n\n\
                  Example:\n  \
                  millstream consume orders --timestamp 2026-03-01T00:00:00Z --exit-at-end --output json\n  \
                  millstream consume orders --group billing --from-beginning"
)]
#[command(group(ArgGroup::new("start")))]
pub struct ConsumeArgs {
    /// Topic to read
    pub topic: String,
    /// Start at the first record that is still there; without a start: at the end
    #[arg(long, group = "start")]
    pub from_beginning: bool,
    /// Start at this offset of every partition read
    #[arg(long, value_name = "N", group = "start")]
    pub offset: Option<u64>,
    /// Start at the first record at or after T: milliseconds since 1970, or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "T", group = "start", value_parser = parse_timestamp)]
    pub timestamp: Option<i64>,
    /// This partition only, from 0
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    pub max_records: Option<u64>,
    /// Stop at what was the end when it began
    #[arg(long)]
    pub exit_at_end: bool,
    /// What is printed of each record, one per line [default: value, or json with --format json]
    #[arg(long, value_name = "WHAT")]
    pub output: Option<OutputArg>,
    /// Share the topic with the others of this consumer group, and go on where it was; a start is for partitions
    /// that the group has not read yet
    #[arg(long, value_name = "G", conflicts_with_all = ["offset", "timestamp", "partition", "exit_at_end"])]
    pub group: Option<String>,
    /// Commit what is printed, or nothing
    #[arg(long, value_name = "WHAT", default_value = "auto", requires = "group")]
    pub commit: CommitArg,
    /// How the group shares partitions out, if most of its members say so
    #[arg(long, value_name = "HOW", default_value = "sticky", requires = "group")]
    pub assignor: AssignorArg,
    /// A name that keeps this consumer's partitions for it while it restarts
    #[arg(long, value_name = "NAME", requires = "group")]
    pub instance: Option<String>,
    /// Over Kafka's protocol instead of QUIC, through librdkafka
    #[arg(long)]
    pub kafka: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CommitArg {
    /// Every 5 seconds, and at the end
    Auto,
    /// Never: the same records come again
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AssignorArg {
    /// Runs of each topic's partitions
    Range,
    /// Balanced, and few partitions move
    Sticky,
}

impl ConsumeArgs {
    /// What was asked for, or what goes with `format`.
    #[must_use]
    pub fn output_for(&self, format: Format) -> OutputArg {
        self.output.unwrap_or(match format {
            Format::Text => OutputArg::Value,
            Format::Json => OutputArg::Json,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// The value
    Value,
    /// Key, tab, value
    KeyValue,
    /// An object with topic, partition, offset, timestamp, key, value
    Json,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Nodes, counts, and partitions in trouble
    #[command(after_help = "Example:\n  millstream cluster status --format json")]
    Status,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Read every frame of the logs below DIR and check it
    #[command(
        after_help = "DIR is a data directory, its logs/, or the directory of one log. The broker must not be \
                      running on it.\n\nExample:\n  millstream log verify ./millstream-data"
    )]
    Verify(LogVerifyArgs),
    /// Print what a log's file holds: frames of a segment, entries of an index, a checkpoint
    #[command(
        after_help = "Example:\n  millstream log dump ./millstream-data/logs/0000000000000001/0000000001.seg"
    )]
    Dump(LogDumpArgs),
}

#[derive(Debug, Clone, Args)]
pub struct LogVerifyArgs {
    /// A data directory, its logs/, or the directory of one log
    pub dir: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct LogDumpArgs {
    /// A <ten digits>.seg or .idx, or a checkpoint
    pub file: PathBuf,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  millstream doctor --data /var/lib/millstream")]
pub struct DoctorArgs {
    /// The data directory to be; need not exist
    #[arg(
        long,
        value_name = "DIR",
        env = "MILLSTREAM_DATA",
        default_value = "./millstream-data",
        hide_env_values = true
    )]
    pub data: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Whose completions
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Made where there is none
    pub dir: PathBuf,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn parse_timestamp(text: &str) -> Result<i64, String> {
    engine_broker::utc::parse(text)
        .ok_or_else(|| "write it as milliseconds since 1970, or 2026-03-01T12:00:00Z".to_owned())
}

fn parse_reset_to(text: &str) -> Result<ResetTo, String> {
    match (text, text.parse()) {
        ("earliest", _) => Ok(ResetTo::Earliest),
        ("latest", _) => Ok(ResetTo::Latest),
        (_, Ok(offset)) => Ok(ResetTo::Offset(offset)),
        (_, Err(_)) => engine_broker::utc::parse(text)
            .map(ResetTo::Time)
            .ok_or_else(|| "write it as earliest, latest, an offset, or 2026-03-01T12:00:00Z".to_owned()),
    }
}

/// As the broker has it; said here to be told before anything is asked.
const PARTITIONS_MAX: i64 = 10_000;
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it as 500ms, 10s or 2m, up to a day".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| wrong())?;
    let time = match &text[split..] {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    time.filter(|time| !time.is_zero() && *time <= TIMEOUT_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
