//! The flags of `millstream bench disk`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::aligned::BLOCK_BYTES;
use crate::probe::Probe;

#[derive(Debug, Clone, Args)]
pub struct DiskArgs {
    /// Directory on the disk to measure
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes per operation, multiples of 4096
    #[arg(long, value_delimiter = ',', default_value = "4096,16384,65536,262144,1048576", value_parser = parse_block)]
    pub blocks: Vec<usize>,
    /// Operations under way at a time
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = parse_depth)]
    pub depths: Vec<usize>,
    /// Size of the file, MiB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub file_mib: u64,
    /// Per block size, all depths together; of writes, and again of reads
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub duration: u64,
    /// Ask fio too, if it is installed
    #[arg(long)]
    pub fio: bool,
}

impl DiskArgs {
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe {
            dir: self.dir.clone(),
            block_bytes: self.blocks.clone(),
            depths: self.depths.clone(),
            file_bytes: self.file_mib << 20,
            duration: Duration::from_secs(self.duration),
            fio: self.fio,
        }
    }
}

const BLOCK_BYTES_MAX: usize = 16 << 20;
const DEPTH_MAX: usize = 256;

fn parse_block(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    let whole = bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES) && bytes <= BLOCK_BYTES_MAX;
    if whole { Ok(bytes) } else { Err(format!("{bytes}: blocks are multiples of 4096, up to 16 MiB")) }
}

fn parse_depth(text: &str) -> Result<usize, String> {
    let depth: usize = text.parse().map_err(|_| format!("'{text}' is not a number of operations"))?;
    if (1..=DEPTH_MAX).contains(&depth) { Ok(depth) } else { Err(format!("{depth}: 1 to {DEPTH_MAX}")) }
}
