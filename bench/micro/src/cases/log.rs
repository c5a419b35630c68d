//! storage/log: turns of appends with the disk's answers, reads from memory, and from disk by way of the index.

use std::hint::black_box;
use std::time::Duration;

use storage_frame::{Frame, LeaderEpoch, LogId, Now, Offset, TimestampMs};
use storage_log::{DiskOp, Log, LogConfig, LogEvent, LogState, OpId, Read};
use tests_disk::{Faults, ModelDisk};

use crate::batches::{Dice, Shape};
use crate::case::{Case, Step};
use crate::meter::Meter;

const LOG: LogId = LogId(1);
/// Of the log that is read: many index entries, few blocks of the model disk to fill under callgrind.
const READ_FRAMES: u64 = 512;

pub(super) const CASES: &[Case] = &[
    appends("log/append 100 B, one a turn", 1, || append(Shape::one(100), 1)),
    appends("log/append 100 B, 100 a turn", 100, || append(Shape::one(100), 100)),
    appends("log/append 16 KiB, one a turn", 16, || append(Shape::new(1 << 10, 16 << 10), 1)),
    appends("log/append 256 KiB, one a turn", 256, || append(Shape::new(1 << 10, 256 << 10), 1)),
    reads("log/read 16 KiB from memory", read_from_memory),
    reads("log/look up an offset in the index", || read_from_disk(false)),
    reads("log/read 64 KiB from disk", || read_from_disk(true)),
];

const fn appends(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 50, steps: 100, prepare }
}

const fn reads(name: &'static str, prepare: fn() -> Step) -> Case {
    Case { name, records: 0, warm_up: 5, steps: 50, prepare }
}

/// One log on the model disk, which works outside of what is counted.
struct Rig {
    log: Log,
    disk: ModelDisk,
    now: Now,
    ops: Vec<(OpId, DiskOp)>,
    events: Vec<LogEvent>,
}

impl Rig {
    fn opened() -> Self {
        let config = LogConfig {
            segment_bytes: 1 << 30,
            segment_age_max: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: None,
            retention_age: None,
            write_back_delay: None,
        };
        let now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
        let log = Log::open(LOG, "bench/0", config, now);
        let disk = ModelDisk::new(1, Faults::default());
        let mut rig = Self { log, disk, now, ops: Vec::new(), events: Vec::new() };
        rig.settle(&mut Meter::default());
        assert_eq!(*rig.log.state(), LogState::Ready);
        rig
    }

    fn stage(&mut self, meter: &mut Meter, frame: &Frame) {
        let mut frame = frame.clone();
        meter.count(|| {
            frame.assign(self.log.staged_end(), LeaderEpoch(1));
            self.log.append(self.now, frame);
        });
    }

    /// Ends of turns and what the disk answers to them, until there is nothing left to do.
    fn settle(&mut self, meter: &mut Meter) {
        loop {
            meter.count(|| self.log.take_ops(self.now, &mut self.ops));
            if self.ops.is_empty() {
                return;
            }
            let asked: Vec<OpId> = self.ops.iter().map(|(op, _)| *op).collect();
            for (op, what) in self.ops.drain(..) {
                self.disk.submit(0, LOG, op, what);
            }
            self.now.mono += Duration::from_micros(100);
            for op in asked {
                let result = self.disk.complete(LOG, op);
                meter.count(|| self.log.on_disk(self.now, op, result, &mut self.events));
            }
        }
    }
}

fn append(shape: Shape, frames_a_turn: usize) -> Step {
    let frame = shape.archived();
    let mut rig = Rig::opened();
    Box::new(move |meter| {
        for _ in 0..frames_a_turn {
            rig.stage(meter, &frame);
        }
        rig.settle(meter);
        assert_eq!(rig.log.durable_end(), rig.log.staged_end());
        rig.events.clear();
    })
}

fn filled() -> Rig {
    let frame = Shape::new(1 << 10, 16 << 10).archived();
    let mut rig = Rig::opened();
    let mut meter = Meter::default();
    for _ in 0..READ_FRAMES {
        rig.stage(&mut meter, &frame);
        rig.settle(&mut meter);
    }
    rig.events.clear();
    rig
}

fn read_from_memory() -> Step {
    let mut rig = filled();
    let (end, records) = (rig.log.durable_end(), 16);
    Box::new(move |meter| {
        let from = Offset(end.0 - 3 * records);
        let read = meter.count(|| rig.log.read(from, end, 16 << 10));
        assert!(matches!(read, Read::Now(_)), "served from memory");
        black_box(read);
    })
}

/// Only up to the operation that is asked of the disk, or the answer too: four frames checked.
fn read_from_disk(whole: bool) -> Step {
    let mut rig = filled();
    let end = rig.log.durable_end();
    rig.log.shrink_cache(usize::MAX);
    let mut dice = Dice::new(3);
    Box::new(move |meter| {
        // Not the last frames, which a read reaches behind.
        let from = Offset(dice.below(end.0 - 16 * 8));
        let read = meter.count(|| {
            let read = rig.log.read(from, end, 64 << 10);
            rig.log.take_ops(rig.now, &mut rig.ops);
            read
        });
        assert!(matches!(read, Read::Pending(_)), "from disk");
        let mut nobody = Meter::default();
        while !rig.ops.is_empty() {
            let (op, what) = rig.ops.remove(0);
            rig.disk.submit(0, LOG, op, what);
            let result = rig.disk.complete(LOG, op);
            let meter = if whole { &mut *meter } else { &mut nobody };
            meter.count(|| {
                rig.log.on_disk(rig.now, op, result, &mut rig.events);
                rig.log.take_ops(rig.now, &mut rig.ops);
            });
        }
        assert!(rig.events.iter().any(|event| matches!(event, LogEvent::Read(_, Ok(_)))), "{:?}", rig.events);
        rig.events.clear();
        rig.log.shrink_cache(usize::MAX);
    })
}
