//! A log that is compacted beside a simple model of it: every record that was ever appended, by offset.
//!
//! Oracles: offsets are dense from frame to frame; a record that is there is the one that was appended at its offset;
//! the last record of each key is there, unless it is a tombstone whose time is over, and then no other of its key is;
//! what may not be compacted yet is there whole.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use storage_frame::{BatchBuilder, BatchView, Codec, Frame, LeaderEpoch, LogId, Now, Offset, TimestampMs};
use storage_log::{
    Compacted, CompactionRules, CompactionTask, KeyAt, LogConfig, LogEvent, LogState, Read, ReadError,
    RecordAccess,
};
use tests_disk::{Dice, ModelDisk};

use crate::rig::{Rig, config};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    /// Wall clock.
    pub at: i64,
}

/// Archived batches, not compressed.
#[derive(Debug)]
pub struct Archived;

impl RecordAccess for Archived {
    fn visit(&self, frame: &Frame, told: &mut dyn FnMut(KeyAt<'_>)) -> Result<(), String> {
        let view = BatchView::open(frame).map_err(|error| error.to_string())?;
        for record in view.records() {
            let record = record.map_err(|error| error.to_string())?;
            let offset_delta = (record.offset.0 - frame.header().base_offset.0) as u32;
            told(KeyAt { offset_delta, key: record.key, is_tombstone: record.value.is_none() });
        }
        Ok(())
    }

    fn retain(&self, frame: &Frame, kept: &[u32]) -> Result<Frame, String> {
        let view = BatchView::open(frame).map_err(|error| error.to_string())?;
        view.retain(kept, |_| (Codec::None, None)).map_err(|error| error.to_string())
    }
}

pub const TOMBSTONES_KEPT: Duration = Duration::from_secs(100);

pub fn rules() -> CompactionRules {
    CompactionRules {
        lag_min: Duration::ZERO,
        lag_max: None,
        dirty_ratio: 0.1,
        tombstones_kept: TOMBSTONES_KEPT,
    }
}

pub struct World {
    pub rig: Rig,
    pub dice: Dice,
    pub rules: CompactionRules,
    pub keys_max: usize,
    pub key_count: u64,
    /// By offset; those that were not durable may have been taken back.
    pub ever: BTreeMap<u64, Vec<Appended>>,
    /// What stands at each offset.
    pub records: BTreeMap<u64, Appended>,
    pub durable_end: Offset,
    pub passes: Vec<Result<Compacted, String>>,
    /// Reads begun and not answered.
    pub reads: usize,
    /// Above whatever has been a record so far that compaction may have seen.
    pub value_count: u64,
}

pub fn small(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, ..config() }
}

pub fn batch(records: &[Appended], offset: Offset, epoch: LeaderEpoch) -> Frame {
    let mut builder = BatchBuilder::new();
    for record in records {
        let at = TimestampMs(record.at);
        builder.push(at, Some(&record.key), record.value.as_deref(), []).expect("it fits");
    }
    let mut frame = builder.seal(None);
    frame.assign(offset, epoch);
    frame
}

pub fn records_of(frame: &Frame) -> Vec<(u64, Appended)> {
    let view = BatchView::open(frame).expect("a whole batch");
    view.records()
        .map(|record| {
            let record = record.expect("a whole record");
            let key = record.key.expect("it has one").to_vec();
            let value = record.value.map(<[u8]>::to_vec);
            (record.offset.0, Appended { key, value, at: record.timestamp.0 })
        })
        .collect()
}

impl World {
    pub fn on(disk: ModelDisk, config: LogConfig, seed: u64) -> Self {
        let mut rig = Rig::on(disk, LogId(7), config, seed);
        rig.settle();
        let _opened = rig.recovered();
        Self {
            rig,
            dice: Dice::new(seed, "compacting"),
            rules: rules(),
            keys_max: 1000,
            key_count: 12,
            ever: BTreeMap::new(),
            records: BTreeMap::new(),
            durable_end: Offset::ZERO,
            passes: Vec::new(),
            reads: 0,
            value_count: 0,
        }
    }

    pub fn is_ready(&self) -> bool {
        *self.rig.log.state() == LogState::Ready
    }

    /// One batch of random records.
    pub fn append(&mut self) {
        let count = 1 + self.dice.below(6);
        let mut records = Vec::new();
        for _ in 0..count {
            self.value_count += 1;
            let key = format!("key {}", self.dice.below(self.key_count)).into_bytes();
            let mut value = self.value_count.to_le_bytes().to_vec();
            value.resize(8 + self.dice.below(900) as usize, 7);
            let value = (!self.dice.one_in(4)).then_some(value);
            records.push(Appended { key, value, at: self.rig.now.wall.0 });
        }
        self.append_these(records);
    }

    pub fn append_these(&mut self, records: Vec<Appended>) {
        let base = self.rig.log.staged_end();
        let frame = batch(&records, base, self.rig.epoch);
        self.rig.log.append(self.rig.now, frame);
        for (nth, record) in records.into_iter().enumerate() {
            let offset = base.0 + nth as u64;
            self.ever.entry(offset).or_default().push(record.clone());
            self.records.insert(offset, record);
        }
    }

    pub fn give_state(&mut self) {
        if self.is_ready() && self.rig.log.wants_app_state() {
            let end = self.rig.log.staged_end();
            self.rig.log.set_app_state(end, Bytes::from_static(b"state"));
        }
    }

    pub fn wants(&self) -> bool {
        self.rig.log.wants_compaction(self.rig.now, &self.rules).is_some()
    }

    pub fn begin_pass(&mut self) {
        if self.wants() {
            let seed = self.dice.roll();
            let task =
                CompactionTask { rules: self.rules, records: &Archived, keys_max: self.keys_max, seed };
            self.rig.log.compact(self.rig.now, task);
        }
    }

    /// Passes until none is wanted.
    pub fn compact_all(&mut self) {
        for _ in 0..1000 {
            self.rig.settle();
            self.listen();
            if !self.wants() {
                return;
            }
            self.begin_pass();
        }
        panic!("compaction never has enough");
    }

    pub fn listen(&mut self) {
        // What a log finds out when it is asked for operations it tells with the next event.
        self.rig.tick(Duration::ZERO);
        assert!(self.rig.log.durable_end() >= self.durable_end);
        self.durable_end = self.rig.log.durable_end();
        for event in std::mem::take(&mut self.rig.events) {
            match event {
                LogEvent::Compacted(how) => self.passes.push(how),
                LogEvent::Read(_, Ok(frames)) => self.check_frames(&frames),
                LogEvent::Read(_, Err(ReadError::Trimmed)) => {}
                LogEvent::Read(_, Err(error)) => panic!("{error}"),
                LogEvent::Failed { why } => panic!("{why}"),
                _ => {}
            }
        }
    }

    pub fn start_read(&mut self) {
        let (start, end) = (self.rig.log.start(), self.rig.log.durable_end());
        if start < end {
            let from = Offset(start.0 + self.dice.below(end.0 - start.0));
            let bytes_max = self.dice.below(1 << 16) as usize;
            if let Read::Now(frames) = self.rig.log.read(from, end, bytes_max) {
                self.check_frames(&frames);
            }
        }
    }

    /// Each of its records is the one that was appended there.
    fn check_frames(&self, frames: &[Frame]) {
        let mut next = None;
        for frame in frames {
            let header = frame.header();
            assert!(
                next.is_none_or(|next| next == header.base_offset),
                "a gap before {}",
                header.base_offset
            );
            next = Some(header.end_offset());
            for (offset, record) in records_of(frame) {
                assert!(offset >= header.base_offset.0 && offset < header.end_offset().0);
                assert_eq!(self.records.get(&offset), Some(&record), "offset {offset}");
            }
        }
    }

    /// What a reader from the start sees, by offset.
    pub fn read_all(&mut self) -> BTreeMap<u64, Appended> {
        self.rig.drop_cache();
        let frames = self.rig.read_all(1 + self.dice.below(1 << 17) as usize);
        self.listen();
        let start = self.rig.log.start().0;
        frames.iter().flat_map(records_of).filter(|(offset, _)| *offset >= start).collect()
    }

    /// Everything there is, against everything there was.
    pub fn check(&mut self) {
        let found = self.read_all();
        for (offset, record) in &found {
            assert_eq!(self.records.get(offset), Some(record), "offset {offset}");
        }
        let (start, end) = (self.rig.log.start().0, self.rig.log.durable_end().0);
        let mut last: BTreeMap<&[u8], (u64, &Appended)> = BTreeMap::new();
        for (offset, record) in self.records.range(..end) {
            last.insert(&record.key, (*offset, record));
        }
        let mut seen: BTreeMap<&[u8], (u64, &Appended)> = BTreeMap::new();
        for (offset, record) in &found {
            seen.insert(&record.key, (*offset, record));
        }
        for (key, (offset, record)) in last {
            let name = String::from_utf8_lossy(key);
            if offset < start {
                continue;
            }
            let is_over = self.rig.now.wall.0 - record.at > TOMBSTONES_KEPT.as_millis() as i64;
            match seen.get(key) {
                Some(found) => assert_eq!(*found, (offset, record), "{name} is not what it was last"),
                None => {
                    assert!(record.value.is_none() && is_over, "{name} is gone, last at {offset}");
                }
            }
        }
    }

    /// The process dies with whatever is under way, and the log is opened again.
    pub fn crash(&mut self) {
        self.rig.set_full(false);
        self.rig.disk.crash();
        self.reopen();
    }

    pub fn reopen(&mut self) {
        self.rig.reopen();
        assert!(self.is_ready(), "{:?}", self.rig.log.state());
        let end = self.rig.log.durable_end();
        assert!(end >= self.durable_end, "{end} after {} was told durable", self.durable_end);
        // What was on its way may be there, or what an earlier life had on its way.
        self.rig.drop_cache();
        let frames = self.rig.read_all(1 << 20);
        for (offset, record) in frames.iter().flat_map(records_of) {
            if offset >= self.durable_end.0 {
                assert!(self.ever[&offset].contains(&record), "offset {offset} was never appended");
                self.records.insert(offset, record);
            }
        }
        self.records.retain(|offset, _| *offset < end.0);
        self.durable_end = end;
        self.rig.events.clear();
        self.check();
    }

    pub fn now(&self) -> Now {
        self.rig.now
    }
}
