//! The flags of `millstream bench`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use millstream_client::{Acks, Compression, ProducerConfig};

use crate::load::{Load, STAMP_BYTES};
use crate::quic_sink::{SinkBench, Windows};

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub kind: BenchKind,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BenchKind {
    /// Sends records and waits for their acks: throughput, latency from the intended start, the broker's cost
    #[command(after_help = "Examples:\n  \
        millstream bench produce --record-bytes 100 --duration 10 --broker-pid $(pidof millstream)\n  \
        millstream bench produce --rate 50000 --partitions 4")]
    Produce(ProduceArgs),
    /// From the intended start to the consumer's hands, at a rate
    #[command(after_help = "Example:\n  millstream bench e2e --rate 1000 --record-bytes 100")]
    E2e(ProduceArgs),
    /// Fills a topic, then reads it from its start as fast as it comes
    #[command(after_help = "Example:\n  millstream bench consume --records 5000000 --partitions 4")]
    Consume(ProduceArgs),
    /// Durable writes and reads of a disk by size and depth: what appends are to be seen against
    #[command(
        after_help = "Example:\n  millstream bench disk --dir ./millstream-data --blocks 4096,262144 --fio"
    )]
    Disk(bench_disk::DiskArgs),
    /// Bytes through two bare QUIC endpoints on this machine: what the transport alone costs
    #[command(after_help = "Example:\n  millstream bench quic --gigabytes 2")]
    Quic(QuicArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ProduceArgs {
    /// Existing topic; absent: one is made for the run and deleted afterwards
    #[arg(long)]
    pub topic: Option<String>,
    /// Of the topic that is made
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Config of the topic that is made, as KEY=VALUE; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_config)]
    pub configs: Vec<(String, String)>,
    /// Leave the topic that is made
    #[arg(long)]
    pub keep: bool,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = parse_record_bytes)]
    pub record_bytes: usize,
    /// Records per second of all clients together; absent: as fast as they go (e2e: 1000)
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Of the measured part
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: u64,
    /// End after this many measured records of all clients together
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// The same load before measuring
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up: u64,
    /// Producers, each with connections of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub clients: u32,
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    pub acks: AcksArg,
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    pub compression: CompressionArg,
    /// Bytes of a batch
    #[arg(long, default_value_t = 128 << 10)]
    pub batch_bytes: usize,
    /// How long a record waits for others to share its batch
    #[arg(long, default_value_t = 0, value_name = "MICROSECONDS")]
    pub linger_us: u64,
    /// Records taken and not answered yet, of each client
    #[arg(long, default_value_t = 32, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub memory_mib: u64,
    /// Over Kafka's protocol, through librdkafka, instead of QUIC (produce and consume)
    #[arg(long)]
    pub kafka: bool,
    /// The broker's process, on this machine: reports its CPU seconds, bytes written and resident size
    #[arg(long)]
    pub broker_pid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcksArg {
    All,
    Leader,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    None,
    Lz4,
    Zstd,
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
        };
        SinkBench { total_bytes: self.gigabytes * 1_000_000_000, windows }
    }
}

impl ProduceArgs {
    /// What each client is to send; the warm-up is the same for another time.
    pub fn load(&self, topic: &str, duration: Duration) -> Load {
        let share = |all: f64| all / f64::from(self.clients);
        Load {
            topic: topic.to_string(),
            record_bytes: self.record_bytes,
            rate: self.rate.map(share),
            duration,
            records_max: self.records.map(|all| all.div_ceil(u64::from(self.clients))),
        }
    }

    pub fn producer_config(&self) -> ProducerConfig {
        let mut config = ProducerConfig::default();
        config.acks = match self.acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        };
        config.compression = match self.compression {
            CompressionArg::None => Compression::None,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Zstd => Compression::Zstd { level: 0 },
        };
        config.batch_bytes = self.batch_bytes;
        config.linger = Duration::from_micros(self.linger_us);
        config.memory_bytes = (self.memory_mib as usize) << 20;
        config
    }
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((pair.0.to_string(), pair.1.to_string()))
}

fn parse_record_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    if (STAMP_BYTES..=16 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{bytes}: 8 bytes to 16 MiB"))
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("'{text}' is not a number of records per second"))?;
    if (0.001..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("{rate}: 0.001 to 1e9 records per second"))
    }
}

/// The SDK's.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
