//! The flags of `millstream bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::disk::DiskBench;
use crate::quic_sink::{SinkBench, Windows};

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub kind: BenchKind,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BenchKind {
    /// Durable appends to a zeroed file by plain pwrite, and by fio when it is installed
    #[command(after_help = "Example:\n  millstream bench disk --dir ./millstream-data --blocks 4096,262144")]
    Disk(DiskArgs),
    /// Bytes through two bare QUIC endpoints on this machine: what the transport alone costs
    #[command(after_help = "Example:\n  millstream bench quic --gigabytes 2")]
    Quic(QuicArgs),
}

#[derive(Debug, Clone, Args)]
pub struct DiskArgs {
    /// Directory on the disk to measure
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes per write, multiples of 4096
    #[arg(long, value_delimiter = ',', default_value = "4096,16384,65536,262144", value_parser = parse_block)]
    pub blocks: Vec<usize>,
    /// Size of the file, MiB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub file_mib: u64,
    /// Per block size
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub duration: u64,
}

#[derive(Debug, Clone, Args)]
pub struct QuicArgs {
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub gigabytes: u64,
    /// Receive window of the stream and of the connection, KiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub window_kib: u32,
    /// Send and receive buffer of the sockets, KiB
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub socket_kib: u32,
}

impl DiskArgs {
    pub fn bench(&self) -> DiskBench {
        DiskBench {
            dir: self.dir.clone(),
            block_bytes: self.blocks.clone(),
            file_bytes: self.file_mib << 20,
            duration: Duration::from_secs(self.duration),
        }
    }
}

impl QuicArgs {
    pub fn bench(&self) -> SinkBench {
        let window_bytes = self.window_kib << 10;
        let windows = Windows {
            stream_receive_bytes: window_bytes,
            receive_bytes: window_bytes,
            send_bytes: u64::from(window_bytes),
            socket_bytes: (self.socket_kib as usize) << 10,
        };
        SinkBench { total_bytes: self.gigabytes * 1_000_000_000, windows }
    }
}

fn parse_block(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    let whole = bytes > 0 && bytes.is_multiple_of(4096) && bytes <= 16 << 20;
    if whole { Ok(bytes) } else { Err(format!("{bytes}: blocks are multiples of 4096, up to 16 MiB")) }
}
