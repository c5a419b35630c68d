//! Random lives of a log against a simple model: appends, turns, completions in any order, crashes, closings,
//! rolls, retention, deletes, full disks, removal and files recycled to the next log.
//!
//! Oracles: everything told durable is there with identical bytes after any crash; offsets are dense; nothing
//! is there that was not appended at that offset in this log; `start` never falls below what was told trimmed;
//! reads and finds agree with the frames; a log closed in order needs no scan; no run ends damaged.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rig::Rig;
use storage_frame::{Frame, LogId, Offset};
use storage_log::{LogConfig, LogEvent, LogState, Read};
use tests_disk::{Dice, Faults, ModelDisk};

struct Story {
    rig: Rig,
    dice: Dice,
    /// Every frame ever appended to this log, by base offset.
    ever: BTreeMap<u64, Vec<Frame>>,
    /// The frames of this life, the recovered ones included.
    frames: Vec<Frame>,
    durable_end: Offset,
    /// All frames are one block: what is torn lies where the next life's frames would end.
    is_even: bool,
    /// Where this life began.
    life_start: Offset,
    /// Every one given for an end: a checkpoint may carry an older one.
    app_states: BTreeMap<u64, Vec<u64>>,
}

fn random_config(dice: &mut Dice) -> LogConfig {
    LogConfig {
        segment_bytes: [8 << 10, 40 << 10, 200 << 10, 1 << 20][dice.below(4) as usize],
        segment_age_max: Duration::from_secs([5, 100_000][dice.below(2) as usize]),
        retention_bytes: [None, None, Some(100 << 10)][dice.below(3) as usize],
        retention_age: [None, Some(Duration::from_secs(60))][dice.below(2) as usize],
        write_back_delay: [None, None, Some(Duration::from_millis(50))][dice.below(3) as usize],
    }
}

impl Story {
    fn begin(disk: ModelDisk, id: u64, dice: &mut Dice) -> Self {
        let seed = dice.roll() >> 32;
        let mut rig = Rig::on(disk, LogId(id), random_config(dice), seed);
        rig.settle();
        assert_eq!(*rig.log.state(), LogState::Ready);
        Self {
            rig,
            dice: Dice::new(dice.roll(), "story"),
            ever: BTreeMap::new(),
            frames: Vec::new(),
            durable_end: Offset(0),
            is_even: dice.one_in(4),
            life_start: Offset(0),
            app_states: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..35 => self.append(),
            35..50 => self.rig.turn(),
            50..75 => self.complete_one(),
            75..82 => self.tick(),
            82..88 => self.start_read(),
            88..91 => self.check_find(),
            91..93 => self.give_state(),
            93 => self.delete(),
            94 => drop(self.rig.log.shrink_cache(self.dice.below(1 << 20) as usize)),
            95 => self.rig.set_full(!self.rig.disk.faults().full),
            96..98 => self.crash(),
            98 => self.close(),
            _ => self.rig.settle(),
        }
        self.listen();
    }

    fn append(&mut self) {
        for _ in 0..=self.dice.below(4) {
            let bytes = match self.dice.below(20) {
                _ if self.is_even => 4032,
                0 => self.dice.below(300_000),
                1..6 => self.dice.below(20_000),
                // Sizes that recur put new frames where torn ones left their residue.
                6..12 => [448, 960, 4032][self.dice.below(3) as usize],
                _ => self.dice.below(600),
            };
            let fill = self.dice.below(256) as u8;
            let records = if self.is_even { 1 } else { 1 + self.dice.below(5) as u32 };
            let time = self.rig.now.wall.0 - self.dice.below(5_000) as i64;
            let frame = self.rig.append(records, time, vec![fill; bytes as usize]);
            self.ever.entry(frame.header().base_offset.0).or_default().push(frame.clone());
            self.frames.push(frame);
        }
    }

    fn complete_one(&mut self) {
        match self.rig.disk.under_way_count() {
            0 => {}
            count => {
                let nth = self.dice.below(count as u64) as usize;
                self.rig.complete(nth);
            }
        }
    }

    fn tick(&mut self) {
        let after = [1, 20, 300, 3_000, 7_000][self.dice.below(5) as usize];
        self.rig.tick(Duration::from_millis(after));
    }

    /// Ends only rise, and what is told is true.
    fn listen(&mut self) {
        let log = &self.rig.log;
        assert!(log.start() <= log.durable_end() && log.durable_end() <= log.staged_end());
        assert!(log.durable_end() >= self.durable_end);
        self.durable_end = log.durable_end();
        let answers = std::mem::take(&mut self.rig.events);
        for event in answers {
            match event {
                LogEvent::Read(_, Ok(frames)) => self.check_frames(&frames),
                LogEvent::Read(_, Err(error)) => {
                    assert_eq!(error, storage_log::ReadError::Trimmed);
                }
                LogEvent::Failed { why } => panic!("{why}"),
                _ => {}
            }
        }
    }

    fn check_frames(&self, frames: &[Frame]) {
        assert!(!frames.is_empty());
        let first = frames[0].header().base_offset;
        let at = self.frames.binary_search_by_key(&first, |frame| frame.header().base_offset).unwrap();
        assert!(frames == &self.frames[at..at + frames.len()], "read at {first}");
    }

    fn start_read(&mut self) {
        let (start, end) = (self.rig.log.start(), self.durable_end);
        if start == end {
            return;
        }
        let from = Offset(start.0 + self.dice.below(end.0 - start.0));
        let bytes_max = self.dice.below(1 << 18) as usize;
        if let Read::Now(frames) = self.rig.log.read(from, end, bytes_max) {
            self.check_frames(&frames);
        }
    }

    fn check_find(&mut self) {
        let at = self.rig.now.wall.0 - self.dice.below(20_000) as i64;
        let limit = self.rig.log.durable_end();
        let frames = self.frames.clone();
        let Ok(found) = self.rig.find(at, limit) else { return };
        let start = self.rig.log.start();
        if found.is_some_and(|found| found.base_offset < start) {
            return; // Trimmed while it was looked for.
        }
        let mut live =
            frames.iter().map(Frame::header).filter(|h| h.end_offset() > start && h.base_offset < limit);
        assert_eq!(found.as_ref(), live.find(|header| header.max_timestamp.0 >= at));
    }

    fn give_state(&mut self) {
        if self.rig.log.wants_app_state() || self.dice.one_in(4) {
            let end = self.rig.log.staged_end();
            let state = self.dice.below(1 << 20);
            self.app_states.entry(end.0).or_default().push(state);
            self.rig.log.set_app_state(end, Bytes::from(state.to_le_bytes().to_vec()));
        }
    }

    fn delete(&mut self) {
        let end = self.rig.log.durable_end().0;
        let frames = self.frames.iter().map(|frame| frame.header().end_offset().0);
        let before =
            frames.filter(|at| *at <= end).nth(self.dice.below(self.frames.len() as u64 + 1) as usize);
        if let Some(before) = before {
            self.rig.log.delete_before(Offset(before));
        }
    }

    fn crash(&mut self) {
        self.rig.set_full(false);
        let durable_start = self.rig.log.durable_start();
        for _ in 0..self.dice.below(3) {
            // Dies again while it opens.
            self.rig.crash_and_begin_reopening();
            for _ in 0..self.dice.below(8) {
                self.rig.turn();
                self.complete_one();
            }
        }
        self.rig.crash_and_reopen();
        assert!(self.rig.log.start() >= durable_start);
        self.check_reopened(false);
    }

    fn close(&mut self) {
        self.rig.set_full(false);
        if self.rig.log.out_of_space() {
            // Else it would close without what it had no room for.
            self.rig.tick_and_settle(Duration::from_secs(2));
        }
        let is_given = self.dice.one_in(2);
        if is_given {
            let end = self.rig.log.staged_end();
            self.app_states.entry(end.0).or_default().push(1);
            self.rig.log.set_app_state(end, Bytes::from(1u64.to_le_bytes().to_vec()));
        }
        self.listen();
        self.rig.close();
        self.durable_end = self.rig.log.staged_end();
        self.rig.reopen();
        self.check_reopened(is_given);
    }

    fn check_reopened(&mut self, is_clean: bool) {
        assert_eq!(*self.rig.log.state(), LogState::Ready);
        let recovered = self.rig.recovered();
        if is_clean {
            // Not `clean` always: residue right behind the end, where that is a block's, makes opening look twice.
            assert!(recovered.headers.is_empty());
        }
        // Retention looks once now, and not again while the clock stands still.
        self.rig.tick_and_settle(Duration::ZERO);
        let (start, end) = (self.rig.log.start(), self.rig.log.durable_end());
        assert!(end >= self.durable_end, "{end} after {} was told durable", self.durable_end);
        assert!(start >= self.rig.trimmed);
        let before = std::mem::take(&mut self.frames);
        self.rig.drop_cache();
        let found = self.rig.read_all(1 + self.dice.below(1 << 19) as usize);
        let epochs = found.iter().map(|frame| frame.header().leader_epoch);
        assert!(epochs.is_sorted(), "residue behind new frames");
        // Once a life has written, what an earlier one left torn must not come back.
        let has_written = self.durable_end > self.life_start;
        for frame in &found {
            let header = frame.header();
            let is_of_this_life = before.iter().rev().any(|known| known == frame);
            assert!(is_of_this_life || !has_written, "residue at {}", header.base_offset);
            let candidates = &self.ever[&header.base_offset.0];
            assert!(candidates.contains(frame), "a frame at {} that was never appended", header.base_offset);
            if header.end_offset() <= self.durable_end {
                let at =
                    before.binary_search_by_key(&header.base_offset, |f| f.header().base_offset).unwrap();
                assert!(before[at] == *frame, "acknowledged frame at {} changed", header.base_offset);
            }
        }
        let state = recovered.app_state.map(|state| u64::from_le_bytes(state[..].try_into().unwrap()));
        if let Some(state) = state {
            assert!(self.app_states[&recovered.app_state_end.0].contains(&state));
            let follows = recovered.headers.first().map_or(end, |header| header.base_offset);
            assert_eq!(follows, recovered.app_state_end, "nothing is missing between state and headers");
        }
        let headers = found.iter().map(|f| *f.header()).filter(|h| h.base_offset >= recovered.app_state_end);
        let told = recovered.headers.iter().filter(|h| h.end_offset() > start);
        assert!(headers.eq(told.copied()), "headers from the app state on");
        // What was not recovered is gone for good: its place is given anew.
        self.app_states.retain(|at, _| *at <= end.0);
        let kept = before.into_iter().take_while(|frame| frame.header().end_offset() <= start);
        self.frames = kept.chain(found).collect();
        self.durable_end = end;
        self.life_start = end;
        self.rig.events.clear();
    }

    /// The log goes, its files may live on as another's.
    fn end(mut self) -> ModelDisk {
        self.rig.set_full(false);
        if self.dice.one_in(3) {
            self.rig.turn(); // In the middle of things.
        } else {
            self.rig.tick_and_settle(Duration::from_secs(2));
            self.listen();
            self.rig.log.set_config(LogConfig { retention_bytes: Some(0), ..self.rig.config.clone() });
            self.rig.tick_and_settle(Duration::from_secs(2));
        }
        self.rig.log.remove();
        self.rig.settle();
        self.rig.tick_and_settle(Duration::from_secs(2));
        assert_eq!(*self.rig.log.state(), LogState::Closed);
        assert!(self.rig.files().is_empty());
        self.rig.disk
    }
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn run(seed: u64, step_count: u64) {
    let _told = Told(seed);
    let mut dice = Dice::new(seed, "run");
    let mut disk = ModelDisk::new(seed, Faults::of_crashes());
    for id in 1..=3 {
        let mut story = Story::begin(disk, id, &mut dice);
        for _ in 0..step_count {
            story.step();
        }
        disk = story.end();
    }
}

/// `LOG_SEED=8131` repeats one run, `LOG_SEEDS=100000` makes it a long one.
#[test]
fn random_histories_keep_their_promises() {
    let told = |name: &str| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    match told("LOG_SEED") {
        Some(seed) => run(seed, 400),
        None => (0..told("LOG_SEEDS").unwrap_or(60)).for_each(|seed| run(seed, 400)),
    }
}
