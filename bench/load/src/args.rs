//! The flags of `millstream bench`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::amount;
use crate::keys::Keys;
use crate::quic_sink::{SinkBench, Windows};
use crate::schedule::Arrivals;
use crate::sizes::Sizes;
use crate::system::{Acks, Compression, Driver, Durability};

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Latency counts from the moment a record was meant to be sent. The method, its limits and an \
                        example of every mode: bench/README.md."
)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub kind: BenchKind,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BenchKind {
    /// Send records at a rate and wait for their acknowledgements
    #[command(after_help = "Examples:\n  \
        millstream bench produce --rate 50k --record-bytes 1k --partitions 4 --broker-pid $(pidof millstream)\n  \
        millstream bench produce --rate max --driver kafka --linger-us 5000 --batch-bytes 256k\n  \
        millstream bench produce --ramp --json knee.json --html knee.html\n  \
        millstream bench produce --sweep partitions=1,100,10k --spread round --rate 10k")]
    Produce(ProduceArgs),
    /// Send at a rate and read the tail: until a consumer has the record in hand
    #[command(after_help = "Examples:\n  millstream bench e2e --rate 1000 --record-bytes 100\n  \
        millstream bench e2e --rate 20k --partitions 8 --consumers 4 --groups 2 --verify")]
    E2e(E2eArgs),
    /// Fill a topic, then read it from its start as fast as it comes
    #[command(after_help = "Examples:\n  millstream bench consume --backlog 5m --partitions 4\n  \
        millstream bench consume --topic orders --consumers 2\n  \
        millstream bench consume --topic orders --partitions 4 --backlog 5m --again 60")]
    Consume(ConsumeArgs),
    /// Send and read the tail, first alone, then while another reader reads the whole backlog
    #[command(after_help = "Example:\n  millstream bench mixed --rate 20k --backlog 5m --duration 60")]
    Mixed(MixedArgs),
    /// Two results side by side: ratios, and what has changed
    #[command(after_help = "Example:\n  millstream bench compare before.json after.json --threshold 5")]
    Compare(CompareArgs),
    /// Results as one page that opens from a file
    #[command(after_help = "Example:\n  millstream bench report ours.json theirs.json --html report.html")]
    Report(ReportArgs),
    /// Durable writes and reads of a disk by size and depth: what appends are to be seen against
    #[command(after_help = "Example:
  millstream bench disk --dir ./millstream-data --blocks 4096,262144 --fio")]
    Disk(bench_disk::DiskArgs),
    /// Bytes through two bare QUIC endpoints on this machine: what the transport alone costs
    #[command(after_help = "Example:\n  millstream bench quic --gigabytes 2")]
    Quic(QuicArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub steps: StepArgs,
}

#[derive(Debug, Clone, Args)]
pub struct E2eArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub steps: StepArgs,
    #[command(flatten)]
    pub readers: ReaderArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub readers: ReaderArgs,
    /// Records to fill the topic with; an existing topic is read as it is
    #[arg(long, default_value = "1m", value_name = "RECORDS", value_parser = parse_records)]
    pub backlog: u64,
    /// Read the tail at --rate instead, as e2e does
    #[arg(long)]
    pub tail: bool,
    /// For so long, read an existing topic from its start to each partition's equal share of --backlog, over and
    /// over: a back-filling reader beside another run's load
    #[arg(long, value_name = "SECONDS", requires = "topic", conflicts_with_all = ["tail", "groups", "consumers"],
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub again: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct MixedArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub readers: ReaderArgs,
    /// Records to fill the topic with first
    #[arg(long, default_value = "1m", value_name = "RECORDS", value_parser = parse_records)]
    pub backlog: u64,
    /// Of the phase before the back-fill begins; --duration unless given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub alone: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The system under load, and the client it is driven by
    #[arg(long, value_enum, default_value_t = Driver::Native)]
    pub driver: Driver,
    /// Records per second of all producers together, as 500, 50k or 1.5m; max: as fast as the window lets them
    #[arg(long, value_name = "RATE|max", default_value = "10k", value_parser = parse_rate)]
    pub rate: Rate,
    /// Of the records in time
    #[arg(long, value_enum, default_value_t = Arrivals::Fixed)]
    pub arrivals: Arrivals,
    /// Of a measured phase
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: u64,
    /// End a phase after this many records of all producers together
    #[arg(long, value_parser = parse_records)]
    pub records: Option<u64>,
    /// The same load before measuring
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up: u64,
    /// How much longer to send what was due when the system is behind; the rest is counted as unsent
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain: u64,

    /// Bytes of a value: 100, 1k, uniform:100-10k, or 100:80%,10k:20%
    #[arg(long, default_value = "100", value_name = "BYTES", help_heading = "Records")]
    pub record_bytes: Sizes,
    /// none, uniform:N, zipf:N or zipf:N:EXPONENT, of N different keys
    #[arg(long, default_value = "none", help_heading = "Records")]
    pub keys: Keys,
    /// What a good codec makes of values: 1 for nothing, 4 for a quarter
    #[arg(long, default_value_t = 1.0, value_name = "RATIO", value_parser = parse_ratio, help_heading = "Records")]
    pub compress_ratio: f64,
    /// Which partition a record goes to
    #[arg(long, value_enum, default_value_t = Spread::Client, help_heading = "Records")]
    pub spread: Spread,
    /// Of sizes, keys, noise and arrivals: the same again
    #[arg(long, default_value_t = 1, help_heading = "Records")]
    pub seed: u64,

    /// Each with connections of its own
    #[arg(long, default_value = "1", value_parser = parse_producers, help_heading = "Producers")]
    pub producers: u16,
    #[arg(long, value_enum, default_value_t = Acks::All, help_heading = "Producers")]
    pub acks: Acks,
    #[arg(long, value_enum, default_value_t = Compression::None, help_heading = "Producers")]
    pub compression: Compression,
    /// Bytes of a batch; a larger record goes alone, so 1 sends each by itself
    #[arg(long, default_value = "128k", value_parser = parse_batch_bytes, help_heading = "Producers")]
    pub batch_bytes: usize,
    /// How long a record waits for others to share its batch
    #[arg(long, default_value_t = 0, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(0..=60_000_000), help_heading = "Producers")]
    pub linger_us: u64,
    /// Setting of the client library beyond these, for --driver kafka of librdkafka's producer, such as
    /// enable.idempotence=true; may be repeated
    #[arg(long = "client-config", value_name = "KEY=VALUE", value_parser = parse_config, help_heading = "Producers")]
    pub client_configs: Vec<(String, String)>,
    /// Records of each producer that may be unanswered; 1: one at a time
    #[arg(long, default_value = "100k", value_name = "RECORDS", value_parser = parse_records, help_heading = "Producers")]
    pub window: u64,
    /// Bytes of values of each producer that may be unanswered
    #[arg(long, default_value = "32m", value_name = "BYTES", value_parser = parse_memory_bytes, help_heading = "Producers")]
    pub memory: usize,

    /// Existing topic; absent: one is made for the run and deleted afterwards
    #[arg(long, help_heading = "Topic")]
    pub topic: Option<String>,
    /// Of the topic that is made, or of the one that exists
    #[arg(long, default_value = "1", value_parser = parse_partitions, help_heading = "Topic")]
    pub partitions: u32,
    /// Of the topic that is made
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=7), help_heading = "Topic")]
    pub replicas: Option<u32>,
    /// What an acknowledgement is to mean
    #[arg(long, value_enum, default_value_t = Durability::Disk, help_heading = "Topic")]
    pub durability: Durability,
    /// Config of the topic that is made; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_config, help_heading = "Topic")]
    pub configs: Vec<(String, String)>,
    /// Leave the topic that is made
    #[arg(long, help_heading = "Topic")]
    pub keep: bool,

    /// Check every record: nothing acknowledged is lost, doubled, damaged or out of order
    #[arg(long, help_heading = "Measuring")]
    pub verify: bool,
    /// A broker's process on this machine, to report what it and its children cost; may be repeated
    #[arg(long, value_name = "PID", value_delimiter = ',', help_heading = "Measuring")]
    pub broker_pid: Vec<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Measuring")]
pub struct OutputArgs {
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result as a page with plots that opens from a file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Steps")]
#[command(group(ArgGroup::new("stepping").multiple(false)))]
pub struct StepArgs {
    /// Search for the knee, from --rate on: the highest rate at which 99 % is achieved, nothing fails and p99.9 stays
    /// below --p999-max-ms
    #[arg(long, group = "stepping")]
    pub ramp: bool,
    /// Rates to try one after the other
    #[arg(long, value_name = "RATE,...", value_delimiter = ',', value_parser = amount::count, group = "stepping")]
    pub steps: Vec<f64>,
    /// One setting's values to try one after the other: partitions=1,100,10k, producers=1,100 or
    /// record-bytes=100,1k,10k
    #[arg(long, value_name = "NAME=VALUE,...", value_parser = parse_sweep, group = "stepping")]
    pub sweep: Option<Sweep>,
    /// Of a step that counts as borne
    #[arg(long, default_value_t = 100, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub p999_max_ms: u64,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Consumers")]
pub struct ReaderArgs {
    /// Of each group; without groups, those that share the partitions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub consumers: u32,
    /// Consumer groups, each of which reads everything; 0: consumers are given their partitions
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub groups: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    Max,
    PerSecond(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// As the client library chooses: by the key, or whole batches at random
    Client,
    /// Every partition in turn
    Round,
}

/// A setting and its values.
#[derive(Debug, Clone, PartialEq)]
pub enum Sweep {
    Partitions(Vec<u32>),
    Producers(Vec<u16>),
    RecordBytes(Vec<Sizes>),
}

#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Before, or one side
    pub a: PathBuf,
    /// After, or the other side
    pub b: PathBuf,
    /// Changes of more than this are marked
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    pub threshold: f64,
}

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Results written by --json
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct QuicArgs {
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub gigabytes: u64,
    /// Receive window of the connection, KiB; the stream's is half of it, as the broker's
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub window_kib: u32,
    /// Send and receive buffer of the sockets, KiB
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub socket_kib: u32,
    /// Largest datagram, as the broker and its SDK agree on where the path carries it
    #[arg(long, default_value_t = 6500, value_parser = clap::value_parser!(u16).range(1200..=65_527))]
    pub datagram_bytes: u16,
    /// Packets that each side takes without acknowledging them, as the broker and its SDK ask of each other
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub packets_without_ack: u32,
}

impl QuicArgs {
    pub fn bench(&self) -> SinkBench {
        let window_bytes = self.window_kib << 10;
        let windows = Windows {
            stream_receive_bytes: window_bytes / 2,
            receive_bytes: window_bytes,
            send_bytes: SEND_WINDOW_BYTES,
            socket_bytes: (self.socket_kib as usize) << 10,
            datagram_bytes: self.datagram_bytes,
            packets_without_ack: self.packets_without_ack,
        };
        SinkBench { total_bytes: self.gigabytes * 1_000_000_000, windows }
    }
}

impl Rate {
    pub fn per_second(self) -> Option<f64> {
        match self {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(rate),
        }
    }
}

impl Sweep {
    /// What it is called, and the load with it, of each value.
    pub(crate) fn loads(&self, load: &LoadArgs) -> Vec<(String, LoadArgs)> {
        let with = |change: &dyn Fn(&mut LoadArgs)| {
            let mut load = load.clone();
            change(&mut load);
            load
        };
        match self {
            Sweep::Partitions(all) => all
                .iter()
                .map(|one| (format!("partitions={one}"), with(&|load| load.partitions = *one)))
                .collect(),
            Sweep::Producers(all) => all
                .iter()
                .map(|one| (format!("producers={one}"), with(&|load| load.producers = *one)))
                .collect(),
            Sweep::RecordBytes(all) => {
                let one = |one: &Sizes| {
                    (format!("record-bytes={one}"), with(&|load| load.record_bytes = one.clone()))
                };
                all.iter().map(one).collect()
            }
        }
    }
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((pair.0.to_string(), pair.1.to_string()))
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let rate = amount::count(text)?;
    if (0.001..=1e9).contains(&rate) {
        Ok(Rate::PerSecond(rate))
    } else {
        Err(format!("{text}: 0.001 to 1e9 records per second, or max"))
    }
}

fn parse_records(text: &str) -> Result<u64, String> {
    whole(text, 1.0, 1e12)
}

fn parse_partitions(text: &str) -> Result<u32, String> {
    whole(text, 1.0, 10_000.0).map(|count| count as u32)
}

fn parse_producers(text: &str) -> Result<u16, String> {
    whole(text, 1.0, 10_000.0).map(|count| count as u16)
}

fn whole(text: &str, from: f64, to: f64) -> Result<u64, String> {
    let count = amount::count(text)?;
    let is_right = count.fract() == 0.0 && (from..=to).contains(&count);
    if is_right { Ok(count as u64) } else { Err(format!("{text}: a whole number, {from} to {to}")) }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = amount::count(text)?;
    if (1.0..=1000.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{text}: 1 to 1000")) }
}

fn parse_batch_bytes(text: &str) -> Result<usize, String> {
    let bytes = amount::bytes(text)?;
    if (1..=64 << 20).contains(&bytes) { Ok(bytes) } else { Err(format!("{text}: 1 to 64m")) }
}

fn parse_memory_bytes(text: &str) -> Result<usize, String> {
    let bytes = amount::bytes(text)?;
    if (1024..=64 << 30).contains(&bytes) { Ok(bytes) } else { Err(format!("{text}: 1k to 65536m")) }
}

fn parse_sweep(text: &str) -> Result<Sweep, String> {
    let (name, values) = text.split_once('=').ok_or("write it as partitions=1,100,10k")?;
    let values = values.split(',');
    match name {
        "partitions" => values.map(parse_partitions).collect::<Result<_, _>>().map(Sweep::Partitions),
        "producers" => values.map(parse_producers).collect::<Result<_, _>>().map(Sweep::Producers),
        "record-bytes" => values.map(str::parse).collect::<Result<_, _>>().map(Sweep::RecordBytes),
        _ => Err(format!("'{name}' is not partitions, producers or record-bytes")),
    }
}

/// The SDK's.
const SEND_WINDOW_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests;
