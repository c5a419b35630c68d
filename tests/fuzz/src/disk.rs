//! One log's directory in memory, without faults: what a [`Log`] asks is done at once, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use storage_frame::{LogId, Now, TimestampMs};
use storage_log::{
    BLOCK_BYTES, DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, Log, LogConfig, LogEvent,
    LogState,
};

pub const LOG: LogId = LogId(7);
/// A log that comes to no end within these is stuck.
const TURNS_MAX: usize = 10_000;
/// What a log may ask to be zeroed or written in one go is far below.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub type Files = BTreeMap<FileName, Vec<u8>>;

/// A log over files, and what it has told.
#[derive(Debug)]
pub struct Running {
    pub log: Log,
    pub files: Files,
    pub events: Vec<LogEvent>,
    now: Now,
}

#[must_use]
pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        segment_age_max: Duration::from_secs(1_000_000),
        retention_bytes: None,
        retention_age: None,
        write_back_delay: None,
    }
}

impl Running {
    /// Opens the log and lets it come to rest.
    #[must_use]
    pub fn open(files: Files, config: LogConfig) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
        let log = Log::open(LOG, "fuzz/0", config, now);
        let mut running = Self { log, files, events: Vec::new(), now };
        running.settle();
        assert_ne!(*running.log.state(), LogState::Opening, "opening comes to an end");
        running
    }

    pub fn settle(&mut self) {
        let mut ops = Vec::new();
        for _ in 0..TURNS_MAX {
            self.log.take_ops(self.now, &mut ops);
            if ops.is_empty() {
                return;
            }
            for (op, what) in ops.drain(..) {
                let result = done(&mut self.files, what);
                self.log.on_disk(self.now, op, result, &mut self.events);
            }
        }
        panic!("the log never comes to rest");
    }

    pub fn tick(&mut self, after: Duration) {
        self.now.mono += after;
        self.now.wall.0 += after.as_millis() as i64;
        self.log.on_tick(self.now, &mut self.events);
        self.settle();
    }

    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }
}

fn done(files: &mut Files, op: DiskOp) -> DiskResult {
    match op {
        DiskOp::List => {
            Ok(DiskReply::Listed(files.iter().map(|(name, bytes)| (*name, bytes.len() as u64)).collect()))
        }
        DiskOp::ReadFile { name, bytes_max } => {
            let bytes = files.get(&name).ok_or_else(|| not_found(name))?;
            if bytes.len() > bytes_max {
                return Err(DiskError { kind: DiskErrorKind::Io, what: "too large".to_owned() });
            }
            Ok(DiskReply::Bytes(Bytes::copy_from_slice(bytes)))
        }
        DiskOp::ReplaceFile { name, bytes } => {
            files.insert(name, bytes.to_vec());
            Ok(DiskReply::Done)
        }
        DiskOp::MakeSegment { segment } => {
            files.insert(FileName::Segment(segment), Vec::new());
            Ok(DiskReply::Made { file_bytes: 0, first_block: Bytes::new() })
        }
        DiskOp::Zero { segment, from, to, .. } => {
            assert!(from <= to && to <= FILE_BYTES_MAX, "room from {from} to {to}");
            let file = segment_file(files, FileName::Segment(segment))?;
            file.resize(file.len().max(to as usize), 0);
            file[from as usize..to as usize].fill(0);
            Ok(DiskReply::Done)
        }
        DiskOp::Write { segment, position, parts } => {
            assert!(position.is_multiple_of(BLOCK_BYTES as u64) && position < FILE_BYTES_MAX);
            let file = segment_file(files, FileName::Segment(segment))?;
            let mut bytes = parts.concat();
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
            let end = position as usize + bytes.len();
            assert!(end <= file.len(), "the room is there");
            file[position as usize..end].copy_from_slice(&bytes);
            Ok(DiskReply::Done)
        }
        DiskOp::Read { segment, position, bytes } => {
            assert!(bytes as u64 <= FILE_BYTES_MAX, "a read of {bytes} bytes");
            let file = segment_file(files, FileName::Segment(segment))?;
            let from = usize::try_from(position).unwrap_or(usize::MAX).min(file.len());
            let to = from.saturating_add(bytes).min(file.len());
            Ok(DiskReply::Bytes(Bytes::copy_from_slice(&file[from..to])))
        }
        DiskOp::RetireSegment { segment } => {
            files.remove(&FileName::Segment(segment));
            Ok(DiskReply::Done)
        }
        DiskOp::RemoveFile { name } => {
            files.remove(&name);
            Ok(DiskReply::Done)
        }
        DiskOp::RemoveLog => {
            files.clear();
            Ok(DiskReply::Done)
        }
    }
}

fn segment_file(files: &mut Files, name: FileName) -> Result<&mut Vec<u8>, DiskError> {
    files.get_mut(&name).ok_or_else(|| not_found(name))
}

fn not_found(name: FileName) -> DiskError {
    DiskError { kind: DiskErrorKind::NotFound, what: name.to_string() }
}
