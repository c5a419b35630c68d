//! A log on a model disk under a clock that only the test moves, with the questions tests ask of it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Codec, Encoding, Frame, FrameHeader, LeaderEpoch, LogId, Now, Offset, TimestampMs};
use storage_log::{
    DiskOp, FileName, Find, Log, LogConfig, LogEvent, LogState, Read, ReadError, Recovered, SegmentId,
};

use tests_disk::{Dice, Faults, ModelDisk, Operation};

pub struct Rig {
    pub id: LogId,
    pub log: Log,
    pub disk: ModelDisk,
    pub dice: Dice,
    pub now: Now,
    pub config: LogConfig,
    pub epoch: LeaderEpoch,
    pub events: Vec<LogEvent>,
    pub recovered: Option<Recovered>,
    /// `start` when `Trimmed` was last told.
    pub trimmed: Offset,
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        segment_age_max: Duration::from_secs(7 * 24 * 3600),
        retention_bytes: None,
        retention_age: None,
        write_back_delay: None,
    }
}

/// A frame whose payload is `payload_bytes` of `fill`.
pub fn frame(offset: Offset, epoch: LeaderEpoch, records: u32, timestamp: i64, payload: Vec<u8>) -> Frame {
    let header = FrameHeader {
        encoding: Encoding::KafkaV2,
        codec: Codec::None,
        append_time: false,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset::ZERO,
        leader_epoch: LeaderEpoch(0),
        record_count: records,
        first_timestamp: TimestampMs(timestamp),
        max_timestamp: TimestampMs(timestamp),
        producer: None,
        compaction: None,
    };
    let mut frame = Frame::seal(header, Bytes::from(payload));
    frame.assign(offset, epoch);
    frame
}

impl Rig {
    pub fn new(config: LogConfig) -> Self {
        Self::on(ModelDisk::new(1, Faults::of_crashes()), LogId(7), config, 1)
    }

    pub fn on(disk: ModelDisk, id: LogId, config: LogConfig, seed: u64) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000 + seed as i64) };
        let log = Log::open(id, "test/0", config.clone(), now);
        let epoch = LeaderEpoch(1);
        let (events, recovered, dice, trimmed) = (Vec::new(), None, Dice::new(seed, "order"), Offset::ZERO);
        Self { id, log, disk, dice, now, config, epoch, events, recovered, trimmed }
    }

    /// A rig that has opened its (empty) log.
    pub fn opened(config: LogConfig) -> Self {
        let mut rig = Self::new(config);
        rig.settle();
        rig.recovered();
        rig
    }

    pub fn turn(&mut self) {
        let mut ops = Vec::new();
        self.log.take_ops(self.now, &mut ops);
        for (op, what) in ops {
            self.disk.submit(0, self.id, op, what);
        }
    }

    /// Completes the `nth` pending operation.
    pub fn complete(&mut self, nth: usize) {
        let (log, op, _) = self.disk.under_way().nth(nth).expect("it is under way");
        let result = self.disk.complete(log, op);
        let told = self.events.len();
        self.log.on_disk(self.now, op, result, &mut self.events);
        for event in &self.events[told..] {
            if *event == LogEvent::Trimmed {
                self.trimmed = self.log.start();
            }
            if let LogEvent::Opened(recovered) = event {
                self.recovered = Some(recovered.clone());
            }
        }
    }

    pub fn tick(&mut self, after: Duration) {
        self.now.mono += after;
        self.now.wall.0 += after.as_millis() as i64;
        self.log.on_tick(self.now, &mut self.events);
    }

    /// Turns and completions in random order until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            match self.disk.under_way_count() {
                0 => return,
                count => {
                    let nth = self.dice.below(count as u64) as usize;
                    self.complete(nth);
                }
            }
        }
        panic!("the log never comes to rest");
    }

    pub fn tick_and_settle(&mut self, after: Duration) {
        self.tick(after);
        self.settle();
    }

    pub fn append(&mut self, records: u32, timestamp: i64, payload: Vec<u8>) -> Frame {
        let frame = frame(self.log.staged_end(), self.epoch, records, timestamp, payload);
        self.log.append(self.now, frame.clone());
        frame
    }

    /// Appends and waits until it is durable.
    pub fn append_durably(&mut self, records: u32, timestamp: i64, payload: Vec<u8>) -> Frame {
        let frame = self.append(records, timestamp, payload);
        self.settle();
        assert_eq!(self.log.durable_end(), frame.header().end_offset());
        frame
    }

    /// The process dies, power too; a new one opens the log.
    pub fn crash_and_reopen(&mut self) {
        self.disk.crash();
        self.reopen();
    }

    pub fn crash_and_begin_reopening(&mut self) {
        self.disk.crash();
        self.begin_reopening();
    }

    pub fn reopen(&mut self) {
        self.begin_reopening();
        self.settle();
    }

    fn begin_reopening(&mut self) {
        self.epoch.0 += 1;
        self.now.wall.0 += 1_000;
        self.events.clear();
        self.recovered = None;
        self.log = Log::open(self.id, "test/0", self.config.clone(), self.now);
    }

    pub fn close_and_reopen(&mut self) {
        self.close();
        self.reopen();
    }

    pub fn close(&mut self) {
        self.log.close();
        self.settle();
        self.tick(Duration::from_millis(10));
        assert_eq!(*self.log.state(), LogState::Closed, "{:?}", self.events);
        assert_eq!(self.disk.under_way_count(), 0);
    }

    pub fn recovered(&mut self) -> Recovered {
        self.recovered.take().expect("the log has opened")
    }

    pub fn read(&mut self, from: Offset, limit: Offset, bytes_max: usize) -> Result<Vec<Frame>, ReadError> {
        match self.log.read(from, limit, bytes_max) {
            Read::Now(frames) => Ok(frames),
            Read::Pending(id) => {
                self.settle();
                self.tick(Duration::ZERO);
                let answer = self.events.iter().position(|e| matches!(e, LogEvent::Read(of, _) if *of == id));
                match self.events.remove(answer.expect("an answer to the read")) {
                    LogEvent::Read(_, answer) => answer,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    pub fn find(&mut self, at: i64, limit: Offset) -> Result<Option<FrameHeader>, ReadError> {
        match self.log.find(TimestampMs(at), limit) {
            Find::Now(found) => Ok(found),
            Find::Pending(id) => {
                self.settle();
                self.tick(Duration::ZERO);
                let answer =
                    self.events.iter().position(|e| matches!(e, LogEvent::Found(of, _) if *of == id));
                match self.events.remove(answer.expect("an answer to the find")) {
                    LogEvent::Found(_, answer) => answer,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// Every frame from `start` to the durable end, read in pieces.
    pub fn read_all(&mut self, bytes_max: usize) -> Vec<Frame> {
        let (mut from, end) = (self.log.start(), self.log.durable_end());
        let mut all = Vec::new();
        while from < end {
            let frames = self.read(from, end, bytes_max).expect("readable");
            assert!(!frames.is_empty(), "nothing at {from} below {end}");
            for frame in frames {
                let header = frame.header();
                let begins =
                    if all.is_empty() { header.base_offset <= from } else { header.base_offset == from };
                assert!(begins, "frame at {} where {from} follows", header.base_offset);
                from = header.end_offset();
                all.push(frame);
            }
        }
        all
    }

    pub fn drop_cache(&mut self) {
        self.log.shrink_cache(usize::MAX);
    }

    pub fn pending(&self) -> impl Iterator<Item = &DiskOp> {
        self.disk.under_way().map(|(_, _, what)| what)
    }

    /// A copy of the log's files.
    pub fn files(&self) -> BTreeMap<FileName, Vec<u8>> {
        self.disk.copy_of(self.id)
    }

    pub fn has_file(&self, name: FileName) -> bool {
        self.disk.file(self.id, name).is_some()
    }

    pub fn file_mut(&mut self, name: FileName) -> &mut Vec<u8> {
        self.disk.file_mut(self.id, name).expect("the file is there")
    }

    pub fn remove_file(&mut self, name: FileName) {
        self.disk.take_file(self.id, name);
    }

    /// Everything that takes space is refused.
    pub fn set_full(&mut self, is_full: bool) {
        self.disk.faults_mut().full = is_full;
    }

    /// Writes and replacements of files fail.
    pub fn set_broken(&mut self, is_broken: bool) {
        self.disk.mend();
        if is_broken {
            for operation in [Operation::Write, Operation::ReplaceCheckpoint, Operation::ReplaceIndex] {
                self.disk.fail(self.id, operation);
            }
        }
    }

    pub fn has(&self, event: impl Fn(&LogEvent) -> bool) -> bool {
        self.events.iter().any(event)
    }
}

pub fn segment_file(rig: &mut Rig, segment: u32) -> &mut Vec<u8> {
    rig.file_mut(FileName::Segment(SegmentId(segment)))
}

pub fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..config() }
}

/// 20 segments of some 60 KiB.
pub fn fill(rig: &mut Rig) -> Vec<Frame> {
    (0..200).map(|n| rig.append_durably(2, n * 10, vec![n as u8; 6000])).collect()
}

pub fn segment_count(rig: &Rig) -> usize {
    rig.disk.files(rig.id).filter(|(name, _)| matches!(name, FileName::Segment(_))).count()
}
