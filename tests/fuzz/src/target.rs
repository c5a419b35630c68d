//! The list of targets, and the bound on memory that holds for each.

use peak_alloc::PeakAlloc;

use crate::targets::*;

/// Counts what Rust code allocates; C code (zstd, ring) is not seen.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A parser and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// At the peak of a run, whatever the input.
    pub base_bytes: usize,
    /// At the peak of a run, for each byte of input.
    pub bytes_per_byte: usize,
}

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    ASSEMBLER,
    BATCH,
    CHECKPOINT,
    COMMAND_LINE,
    DECOMPRESS,
    FORMATS,
    FRAME,
    GROUP_RECORD,
    IDENTITY,
    INDEX,
    KAFKA,
    MESSAGES,
    METADATA,
    QUIC,
    RECORDBATCH,
    RECOVERY,
    SEGMENT,
    SETTINGS,
];

pub const ASSEMBLER: Target = Target::new("assembler", assembler::assembler, 64 << 10, 256);
pub const BATCH: Target = Target::new("batch", batch::batch, 16 << 10, 32);
pub const CHECKPOINT: Target = Target::new("checkpoint", checkpoint::checkpoint, 16 << 10, 16);
pub const COMMAND_LINE: Target = Target::new("command_line", command_line::command_line, 4 << 20, 1024);
pub const DECOMPRESS: Target = Target::new("decompress", decompress::decompress, 4 << 20, 64);
pub const FORMATS: Target = Target::new("formats", formats::formats, 64 << 10, 64);
pub const FRAME: Target = Target::new("frame", frame::frame, 16 << 10, 16);
// A record names members, topics and partitions, each an entry of its own.
pub const GROUP_RECORD: Target = Target::new("group_record", group_record::group_record, 1 << 20, 512);
pub const IDENTITY: Target = Target::new("identity", identity::identity, 64 << 10, 8);
pub const INDEX: Target = Target::new("index", index::index, 16 << 10, 16);
// Answers are larger than requests that ask for everything there is, and 64 of a connection may wait.
pub const KAFKA: Target = Target::new("kafka", kafka::kafka, 32 << 20, 1024);
pub const MESSAGES: Target = Target::new("messages", messages::messages, 64 << 10, 128);
pub const METADATA: Target = Target::new("metadata", metadata::metadata, 4 << 20, 256);
pub const QUIC: Target = Target::new("quic", quic::quic, 32 << 20, 1024);
// gzip, lz4 and zstd have windows of their own, and a bound of 1 MiB is passed by one doubling.
pub const RECORDBATCH: Target = Target::new("recordbatch", recordbatch::recordbatch, 24 << 20, 64);
pub const RECOVERY: Target = Target::new("recovery", recovery::recovery, 8 << 20, 64);
pub const SEGMENT: Target = Target::new("segment", segment::segment, 8 << 20, 64);
pub const SETTINGS: Target = Target::new("settings", settings::settings, 256 << 10, 256);

/// # Panics
/// When there is none of that name.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), base_bytes: usize, bytes_per_byte: usize) -> Self {
        Self { name, run, base_bytes, bytes_per_byte }
    }

    /// Runs it once. Others must not allocate meanwhile: memory is counted for the whole process.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check(&self, data: &[u8]) {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        (self.run)(data);
        let used = MEMORY.peak_usage().saturating_sub(before);
        let allowed = self.base_bytes + self.bytes_per_byte * data.len();
        assert!(used <= allowed, "{used} bytes of memory for {} of input, allowed {allowed}", data.len());
    }
}
