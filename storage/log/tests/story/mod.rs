//! A random life of a log beside a simple model of it: what was ever appended at an offset, and what of it is
//! promised. Appends, turns, completions in any order, crashes, closings, rolls, retention, deletes, full disks,
//! faults as far as the promise goes, removal and files recycled to the next log.
//!
//! Oracles: everything told durable is there with identical bytes after any crash; offsets are dense; nothing
//! is there that was not appended at that offset in this log; `start` never falls below what was told trimmed;
//! reads and finds agree with the frames; a log closed in order needs no scan; a log fails, is damaged or answers
//! a read with an error only where a fault explains it, and is whole when it is opened without one.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Frame, LogId, Offset};
use storage_log::{FileName, LogConfig, LogEvent, LogState, Read, ReadError, Recovered, inspect};
use tests_disk::{Dice, FaultKind, Faults, Injected, ModelDisk, Rate, Zone};

use crate::rig::Rig;

/// What may happen beside crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faultiness {
    Crashes,
    /// Everything one node promises to bear.
    Promised,
}

pub struct Story {
    pub rig: Rig,
    pub dice: Dice,
    faultiness: Faultiness,
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
    /// Faults injected before this life of the process began to open the log.
    known_faults: usize,
}

fn random_config(dice: &mut Dice) -> LogConfig {
    LogConfig {
        segment_bytes: *dice.pick(&[8 << 10, 40 << 10, 200 << 10, 1 << 20]),
        segment_age_max: Duration::from_secs(*dice.pick(&[5, 100_000])),
        retention_bytes: *dice.pick(&[None, None, Some(100 << 10)]),
        retention_age: *dice.pick(&[None, Some(Duration::from_secs(60))]),
        write_back_delay: *dice.pick(&[None, None, Some(Duration::from_millis(50))]),
    }
}

/// Errors that pass, and operations that fail.
fn promised_faults(dice: &mut Dice) -> Faults {
    let mut faults = Faults::of_crashes();
    for zone in Zone::ALL {
        let rates = faults.in_zone_mut(zone);
        rates.read_error = *dice.pick(&[Rate::NEVER, Rate::one_in(30), Rate::one_in(300)]);
        rates.write_error = *dice.pick(&[Rate::NEVER, Rate::NEVER, Rate::one_in(50), Rate::one_in(500)]);
    }
    if dice.one_in(3) {
        faults.no_space = Rate::one_in(200);
        faults.no_space_operations = 20;
    }
    for (zone, kinds) in [(Zone::Index, 2), (Zone::Spares, 2)] {
        let rates = faults.in_zone_mut(zone);
        rates.bit_flip = *dice.pick(&[Rate::NEVER, Rate::one_in(20)]);
        rates.latent_error = *dice.pick(&[Rate::NEVER, Rate::one_in(10 * kinds)]);
        rates.lost_write = *dice.pick(&[Rate::NEVER, Rate::one_in(20)]);
    }
    faults
}

impl Story {
    pub fn begin(disk: ModelDisk, id: u64, faultiness: Faultiness, dice: &mut Dice) -> Self {
        let seed = dice.roll() >> 32;
        let mut rig = Rig::on(disk, LogId(id), random_config(dice), seed);
        rig.settle();
        assert_eq!(*rig.log.state(), LogState::Ready);
        let known_faults = rig.disk.injected().len();
        let mut story = Self {
            rig,
            dice: Dice::new(dice.roll(), "story"),
            faultiness,
            ever: BTreeMap::new(),
            frames: Vec::new(),
            durable_end: Offset(0),
            is_even: dice.one_in(4),
            life_start: Offset(0),
            app_states: BTreeMap::new(),
            known_faults,
        };
        story.let_faults_loose();
        story
    }

    pub fn step(&mut self) {
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
        let has_ended = !matches!(self.rig.log.state(), LogState::Ready);
        if has_ended && self.dice.one_in(8) {
            self.crash();
        }
    }

    fn is_ready(&self) -> bool {
        *self.rig.log.state() == LogState::Ready
    }

    fn append(&mut self) {
        for _ in 0..=self.dice.below(4) {
            if !self.is_ready() {
                return;
            }
            let bytes = match self.dice.below(20) {
                _ if self.is_even => 4032,
                0 => self.dice.below(300_000),
                1..6 => self.dice.below(20_000),
                // Sizes that recur put new frames where torn ones left their residue.
                6..12 => *self.dice.pick(&[448, 960, 4032]),
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
        let after = *self.dice.pick(&[1, 20, 300, 3_000, 7_000]);
        self.rig.tick(Duration::from_millis(after));
    }

    /// Ends only rise, and what is told is true.
    fn listen(&mut self) {
        let log = &self.rig.log;
        assert!(log.start() <= log.durable_end() && log.durable_end() <= log.staged_end());
        assert!(log.durable_end() >= self.durable_end);
        self.durable_end = log.durable_end();
        for event in std::mem::take(&mut self.rig.events) {
            match event {
                LogEvent::Read(_, Ok(frames)) => self.check_frames(&frames),
                LogEvent::Read(_, Err(ReadError::Trimmed)) => {}
                LogEvent::Read(_, Err(error)) => self.must_be_explained(&error.to_string()),
                LogEvent::Failed { why } => self.must_be_explained(&why),
                _ => {}
            }
        }
    }

    fn faults_of_this_life(&self) -> impl Iterator<Item = &Injected> {
        let id = self.rig.id;
        let faults = self.rig.disk.injected()[self.known_faults..].iter();
        faults.filter(move |fault| fault.log().is_none_or(|log| log == id))
    }

    /// A log is in trouble only where the disk was.
    #[track_caller]
    fn must_be_explained(&self, what: &str) {
        let is_trouble = |fault: &&Injected| {
            !matches!(
                fault.kind,
                FaultKind::Torn | FaultKind::Unanswered | FaultKind::Undone | FaultKind::NoSpace
            )
        };
        assert!(self.faults_of_this_life().any(|fault| is_trouble(&fault)), "no fault explains: {what}");
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
        let found = match self.rig.find(at, limit) {
            Ok(found) => found,
            Err(ReadError::Trimmed) => return,
            Err(error) => return self.must_be_explained(&error.to_string()),
        };
        let start = self.rig.log.start();
        if found.is_some_and(|found| found.base_offset < start) {
            return; // Trimmed while it was looked for.
        }
        let mut live =
            frames.iter().map(Frame::header).filter(|h| h.end_offset() > start && h.base_offset < limit);
        assert_eq!(found.as_ref(), live.find(|header| header.max_timestamp.0 >= at));
    }

    fn give_state(&mut self) {
        if self.is_ready() && (self.rig.log.wants_app_state() || self.dice.one_in(4)) {
            let state = self.dice.below(1 << 20);
            self.set_state(state);
        }
    }

    fn set_state(&mut self, state: u64) {
        let end = self.rig.log.staged_end();
        self.app_states.entry(end.0).or_default().push(state);
        self.rig.log.set_app_state(end, Bytes::from(state.to_le_bytes().to_vec()));
    }

    fn delete(&mut self) {
        if !self.is_ready() {
            return;
        }
        let end = self.rig.log.durable_end().0;
        let frames = self.frames.iter().map(|frame| frame.header().end_offset().0);
        let before =
            frames.filter(|at| *at <= end).nth(self.dice.below(self.frames.len() as u64 + 1) as usize);
        if let Some(before) = before {
            self.rig.log.delete_before(Offset(before));
        }
    }

    fn let_faults_loose(&mut self) {
        let faults = match self.faultiness {
            Faultiness::Crashes => Faults::of_crashes(),
            Faultiness::Promised => promised_faults(&mut self.dice),
        };
        self.rig.disk.set_faults(faults);
    }

    /// Several crashes in a row, most of them while the log is being opened.
    pub fn crash(&mut self) {
        self.rig.set_full(false);
        let durable_start = self.rig.log.durable_start();
        for _ in 0..self.dice.below(3) {
            self.rig.crash_and_begin_reopening();
            for _ in 0..self.dice.below(8) {
                self.rig.turn();
                self.complete_one();
            }
        }
        self.rig.disk.crash();
        let harm = self.harm_checkpoint();
        self.reopen(harm, Some(durable_start), false);
    }

    /// The checkpoint as it was, where it was harmed.
    fn harm_checkpoint(&mut self) -> Option<Bytes> {
        if self.faultiness == Faultiness::Crashes || !self.dice.one_in(4) {
            return None;
        }
        let before = Bytes::copy_from_slice(self.rig.disk.file(self.rig.id, FileName::Checkpoint)?);
        let id = self.rig.id;
        self.rig.disk.damage_log(id, FaultKind::BitFlip, Zone::Checkpoint, &mut self.dice)?;
        Some(before)
    }

    /// Opens the log, at first as the faults will have it, then without any.
    fn reopen(&mut self, harm: Option<Bytes>, durable_start: Option<Offset>, is_clean: bool) {
        self.known_faults = self.rig.disk.injected().len() - usize::from(harm.is_some());
        self.rig.reopen();
        if !self.is_ready() {
            self.must_be_explained(&format!("{:?}", self.rig.log.state()));
            self.check_what_is_readable();
            self.rig.disk.set_faults(Faults::of_crashes());
            self.rig.disk.crash();
            self.rig.reopen();
        }
        let mut is_harmed = harm.is_some();
        if let (Some(checkpoint), false) = (harm, self.is_ready()) {
            // What only the checkpoint knew is not known: nothing is served or given away before it is repaired.
            assert!(self.only_checkpoint_knew(), "{:?}", self.rig.log.state());
            *self.rig.file_mut(FileName::Checkpoint) = checkpoint.to_vec();
            self.rig.close();
            self.rig.reopen();
            is_harmed = false;
        }
        self.rig.disk.set_faults(Faults::of_crashes());
        if is_harmed {
            self.rig.trimmed = self.rig.log.start();
        } else if let Some(durable_start) = durable_start {
            assert!(self.rig.log.start() >= durable_start);
        }
        self.check_reopened(is_clean && !is_harmed);
        self.known_faults = self.rig.disk.injected().len();
        self.let_faults_loose();
    }

    /// No segment that was begun is there to tell where the log ends, or one is missing between others.
    fn only_checkpoint_knew(&self) -> bool {
        let files = self.rig.files();
        let numbers: Vec<u32> = files
            .iter()
            .filter_map(|(name, bytes)| match name {
                FileName::Segment(id) => {
                    let walk = inspect::SegmentWalk::open(Bytes::from(bytes.clone())).ok()?;
                    (walk.info().log == self.rig.id && walk.info().segment == *id).then_some(id.0)
                }
                _ => None,
            })
            .collect();
        numbers.is_empty() || numbers.windows(2).any(|pair| pair[0] + 1 != pair[1])
    }

    /// Of a log in trouble: what it serves is right.
    fn check_what_is_readable(&mut self) {
        let (mut from, end) = (self.rig.log.start(), self.rig.log.durable_end());
        while from < end {
            let Ok(frames) = self.rig.read(from, end, 1 << 16) else { return };
            for frame in &frames {
                let header = frame.header();
                let candidates = &self.ever[&header.base_offset.0];
                assert!(
                    candidates.contains(frame),
                    "a frame at {} that was never appended",
                    header.base_offset
                );
                from = header.end_offset();
            }
        }
    }

    pub fn close(&mut self) {
        let stays_full = self.dice.one_in(4);
        if !stays_full {
            self.rig.set_full(false);
        }
        let is_given = self.is_ready() && self.dice.one_in(2);
        if is_given {
            self.set_state(1);
        }
        self.listen();
        let staged_end = self.rig.log.staged_end();
        self.rig.close();
        let gave_up =
            self.rig.has(|event| matches!(event, LogEvent::Note(what) if what.contains("given up")));
        let is_full = self.rig.disk.faults().full || !self.rig.disk.faults().no_space.is_never();
        let has_failed = self.rig.log.durable_end() < staged_end && !gave_up;
        if has_failed {
            self.must_be_explained("closed without what was staged");
        }
        assert!(!gave_up || is_full, "there was room");
        self.durable_end = self.rig.log.durable_end();
        let is_clean = is_given && !gave_up && !has_failed && self.faultiness == Faultiness::Crashes;
        self.listen_to_end();
        self.rig.set_full(false);
        let harm = self.harm_checkpoint();
        self.reopen(harm, None, is_clean);
    }

    fn listen_to_end(&mut self) {
        for event in std::mem::take(&mut self.rig.events) {
            if let LogEvent::Failed { why } = event {
                self.must_be_explained(&why);
            }
        }
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
        self.check_recovered(&recovered, &found);
        // What was not recovered is gone for good: its place is given anew.
        self.app_states.retain(|at, _| *at <= end.0);
        let kept = before.into_iter().take_while(|frame| frame.header().end_offset() <= start);
        self.frames = kept.chain(found).collect();
        self.durable_end = end;
        self.life_start = end;
        self.rig.events.clear();
    }

    /// What the owner is told of its state and the frames behind it.
    fn check_recovered(&self, recovered: &Recovered, found: &[Frame]) {
        let (start, end) = (self.rig.log.start(), self.rig.log.durable_end());
        let state =
            recovered.app_state.as_ref().map(|state| u64::from_le_bytes(state[..].try_into().unwrap()));
        if let Some(state) = state {
            assert!(self.app_states[&recovered.app_state_end.0].contains(&state));
            let follows = recovered.headers.first().map_or(end, |header| header.base_offset);
            assert_eq!(follows, recovered.app_state_end, "nothing is missing between state and headers");
        }
        let headers = found.iter().map(|f| *f.header()).filter(|h| h.base_offset >= recovered.app_state_end);
        let told = recovered.headers.iter().filter(|h| h.end_offset() > start);
        assert!(headers.eq(told.copied()), "headers from the app state on");
    }

    /// The log goes, its files may live on as another's.
    pub fn end(mut self) -> ModelDisk {
        self.rig.disk.set_faults(Faults::of_crashes());
        if !self.is_ready() {
            self.crash();
            self.rig.disk.set_faults(Faults::of_crashes());
        }
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
