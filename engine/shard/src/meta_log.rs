//! What stands in the metadata log, and reading it back.
//!
//! One record per frame. Without a key its value is a command; with one it is a part of a snapshot, and the key
//! says which of how many. A snapshot's parts follow each other and count only when all are there.
//!
//! The start is raised to a snapshot only, and only the checkpoint knows it: where that is lost the log begins with
//! whatever stands first in its first segment. So a log that does not begin at 0 is read from its first whole
//! snapshot on; what stands before changes what that snapshot holds already.

use std::time::Duration;

use engine_meta::{ClusterState, Command};
use storage_frame::{BatchBuilder, BatchView, Frame, LeaderEpoch, Now, Offset};
use storage_log::{Log, LogConfig, Read, ReadError, ReadId};

use crate::limits::{META_READ_BYTES, META_SEGMENT_SNAPSHOTS, SNAPSHOT_PARTS};

pub(crate) fn config(snapshot_bytes: usize) -> LogConfig {
    LogConfig {
        segment_bytes: (META_SEGMENT_SNAPSHOTS * snapshot_bytes) as u64,
        segment_age_max: Duration::from_secs(10 * 365 * 24 * 3600),
        retention_bytes: None,
        retention_age: None,
        write_back_delay: None,
    }
}

pub(crate) fn command_frame(now: Now, incarnation: u32, base: Offset, command: &Command) -> Frame {
    frame(now, incarnation, base, None, &command.encode())
}

pub(crate) fn snapshot_frames(
    now: Now,
    incarnation: u32,
    base: Offset,
    snapshot_bytes: usize,
    bytes: &[u8],
) -> impl Iterator<Item = Frame> {
    let part_bytes = (snapshot_bytes / SNAPSHOT_PARTS).max(1);
    let parts = bytes.len().div_ceil(part_bytes) as u32;
    (0..parts).zip(bytes.chunks(part_bytes)).map(move |(part, chunk)| {
        let key = part_key(part, parts);
        frame(now, incarnation, base.plus(part), Some(&key), chunk)
    })
}

fn frame(now: Now, incarnation: u32, base: Offset, key: Option<&[u8]>, value: &[u8]) -> Frame {
    let mut builder = BatchBuilder::new();
    builder.push(now.wall, key, Some(value), []).expect("a part of a snapshot fits a frame");
    let mut frame = builder.seal(None);
    frame.assign(base, LeaderEpoch(incarnation));
    frame
}

fn part_key(part: u32, parts: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&part.to_le_bytes());
    key[4..].copy_from_slice(&parts.to_le_bytes());
    key
}

/// The log being read from its start to its end.
#[derive(Debug)]
pub(crate) struct Replay {
    state: Box<ClusterState>,
    next: Offset,
    end: Offset,
    reading: Option<ReadId>,
    read: Option<Result<Vec<Frame>, ReadError>>,
    /// Parts of a snapshot so far, and the number of the next one.
    snapshot: Vec<u8>,
    next_part: u32,
    /// The beginning is gone, so nothing counts before a whole snapshot, which holds it.
    wants_snapshot: bool,
    /// Bytes of commands since the last snapshot.
    bytes: usize,
}

pub(crate) enum Replayed {
    /// The disk is asked.
    NotYet,
    Done(Box<ClusterState>),
    Refused(String),
}

impl Replay {
    pub(crate) fn new(start: Offset, end: Offset) -> Self {
        Self {
            state: Box::default(),
            next: start,
            end,
            reading: None,
            read: None,
            snapshot: Vec::new(),
            next_part: 0,
            wants_snapshot: start > Offset::ZERO,
            bytes: 0,
        }
    }

    /// Bytes of commands that a restart would read after the last snapshot.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn on_read(&mut self, read: ReadId, result: Result<Vec<Frame>, ReadError>) {
        assert_eq!(self.reading, Some(read), "one read at a time");
        self.reading = None;
        self.read = Some(result);
    }

    pub(crate) fn advance(&mut self, log: &mut Log) -> Replayed {
        loop {
            if let Some(read) = self.read.take() {
                match read.map_err(|error| error.to_string()).and_then(|frames| self.consume(&frames)) {
                    Ok(()) => {}
                    Err(why) => {
                        return Replayed::Refused(format!("metadata log at offset {}: {why}", self.next));
                    }
                }
            }
            if self.reading.is_some() {
                return Replayed::NotYet;
            }
            if self.next >= self.end {
                if self.wants_snapshot {
                    return Replayed::Refused("metadata log has neither its beginning nor a snapshot".into());
                }
                return Replayed::Done(std::mem::take(&mut self.state));
            }
            match log.read(self.next, self.end, META_READ_BYTES) {
                Read::Now(frames) => self.read = Some(Ok(frames)),
                Read::Pending(read) => self.reading = Some(read),
            }
        }
    }

    fn consume(&mut self, frames: &[Frame]) -> Result<(), String> {
        if frames.is_empty() {
            return Err("a read below the end found nothing".into());
        }
        for frame in frames {
            let view = BatchView::open(frame).map_err(|error| error.to_string())?;
            for record in view.records() {
                let record = record.map_err(|error| error.to_string())?;
                let value = record.value.ok_or("a record without a value")?;
                match record.key {
                    None => self.take_command(value)?,
                    Some(key) => self.take_part(key, value)?,
                }
            }
            self.bytes += frame.header().frame_bytes();
            self.next = frame.header().end_offset();
        }
        Ok(())
    }

    fn take_command(&mut self, value: &[u8]) -> Result<(), String> {
        reach::mark!("shard.snapshot_cut_short", self.next_part > 0);
        // A crash cut the snapshot short: the commands before it are still there.
        self.next_part = 0;
        if self.wants_snapshot {
            reach::mark!("shard.command_before_first_snapshot");
            return Ok(());
        }
        let command = Command::decode(value).map_err(|error| error.to_string())?;
        self.state.apply(&command).map_err(|error| error.to_string())
    }

    fn take_part(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let [part, parts] = [key.get(..4), key.get(4..8)]
            .map(|bytes| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes));
        if part == 0 {
            self.snapshot.clear();
        } else if part != self.next_part {
            if self.wants_snapshot && self.next_part == 0 {
                reach::mark!("shard.part_of_snapshot_left_over");
                return Ok(());
            }
            return Err(format!("part {part} of a snapshot follows part {}", self.next_part));
        }
        self.snapshot.extend_from_slice(value);
        self.next_part = part + 1;
        if self.next_part < parts {
            return Ok(());
        }
        let state = ClusterState::decode(&self.snapshot).map_err(|error| error.to_string())?;
        if !self.wants_snapshot && state != *self.state {
            return Err("snapshot and commands before it tell different things".into());
        }
        *self.state = state;
        self.snapshot = Vec::new();
        self.next_part = 0;
        reach::mark!("shard.replayed_from_snapshot", self.wants_snapshot);
        self.wants_snapshot = false;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use storage_frame::TimestampMs;

    use super::*;

    const NOW: Now = Now { mono: Duration::ZERO, wall: TimestampMs(1_700_000_000_000) };

    /// Without its checkpoint a log begins with the first frame of a segment. A snapshot that began in the segment
    /// before may go on there, and a later one holds everything.
    #[test]
    fn rest_of_an_older_snapshot_at_the_start_is_skipped() {
        let start = Command::NodeStarted {
            cluster_id: 77,
            node: 0,
            incarnation: 1,
            cores: 1,
            address: "127.0.0.1:9092".into(),
        };
        let mut state = ClusterState::default();
        state.apply(&start).expect("the first start");
        let parts: Vec<Frame> = snapshot_frames(NOW, 1, Offset(7), 64, &state.encode()).collect();
        assert!(parts.len() > 2);
        let mut replay = Replay::new(Offset(8), Offset(100));
        replay.consume(&parts[1..]).expect("skipped");
        replay.consume(&[command_frame(NOW, 1, Offset(20), &start)]).expect("skipped");
        assert!(replay.wants_snapshot);
        replay.consume(&parts).expect("whole");
        assert!(!replay.wants_snapshot && *replay.state == state);
        replay.consume(&parts[..1]).expect("cut short by a crash");
        replay.consume(&parts[2..3]).expect_err("a part is missing where all that counts stands");
    }
}
