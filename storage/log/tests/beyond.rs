//! Random lives of a log on a disk that breaks its word: bits flip, sectors rot, writes are lost or land elsewhere.
//! One node cannot keep everything then. What it promises is to notice.
//!
//! Oracles: no read and no find is ever answered by bytes that were not appended at that offset and acknowledged; a
//! log that opens as `Ready` holds every acknowledged frame up to its end; it ends before an acknowledged frame only
//! where nothing on the disk could tell: no later write's first frame is whole, and no checkpoint knows of it
//! (`FORMAT.md`, "How far the search goes"); a log that is damaged changes nothing; trouble has a fault that
//! explains it.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rig::{Rig, config};
use storage_frame::{Frame, FrameHeader, HEADER_BYTES, LogId, Offset};
use storage_log::{DiskOp, FileName, LogConfig, LogEvent, LogState, Read, ReadError, SegmentId, inspect};
use tests_disk::{Dice, FaultKind, Faults, ModelDisk, Rate, Zone};

/// A write that was answered: where its first frame stands, which a search would look for.
struct Answered {
    segment: SegmentId,
    position: u64,
    header: Vec<u8>,
    first: Offset,
}

struct Story {
    rig: Rig,
    dice: Dice,
    /// Every frame ever appended to this log, by base offset.
    ever: BTreeMap<u64, Vec<Frame>>,
    /// Staged or acknowledged in this life, or found by its opening.
    frames: BTreeMap<u64, Frame>,
    durable_end: Offset,
    /// Where this life began.
    life_start: Offset,
    answered: Vec<Answered>,
    faults: Faults,
    /// Writes of an earlier life land: frames may turn into others that were appended at their offsets.
    has_late_writes: bool,
    seen: Seen,
}

/// What happened in some run, so that the runs are known to be about something.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    damaged: u32,
    failed: u32,
    unreadable: u32,
    cut: u32,
    lives: u32,
}

fn some_faults(dice: &mut Dice) -> Faults {
    let mut faults = Faults::of_crashes();
    for zone in [Zone::Written, Zone::Sealed, Zone::Checkpoint] {
        let rates = faults.in_zone_mut(zone);
        let mut rate = |count| if dice.one_in(3) { Rate::one_in(count) } else { Rate::NEVER };
        rates.bit_flip = rate(150);
        rates.latent_error = rate(150);
        rates.lost_write = rate(100);
        rates.misdirected_write = rate(100);
    }
    faults
}

impl Story {
    fn begin(seed: u64, late_writes: Rate) -> Self {
        let mut dice = Dice::new(seed, "beyond");
        let mut faults = if late_writes.is_never() { some_faults(&mut dice) } else { Faults::of_crashes() };
        faults.late_writes = late_writes;
        let config = LogConfig {
            segment_bytes: *dice.pick(&[8 << 10, 40 << 10, 200 << 10]),
            retention_bytes: *dice.pick(&[None, None, Some(100 << 10)]),
            write_back_delay: *dice.pick(&[None, None, Some(Duration::from_millis(50))]),
            ..config()
        };
        let mut rig = Rig::on(ModelDisk::new(seed, Faults::of_crashes()), LogId(7), config, seed);
        rig.settle();
        rig.disk.set_faults(faults.clone());
        Self {
            rig,
            dice,
            ever: BTreeMap::new(),
            frames: BTreeMap::new(),
            durable_end: Offset(0),
            life_start: Offset(0),
            answered: Vec::new(),
            faults,
            has_late_writes: !late_writes.is_never(),
            seen: Seen::default(),
        }
    }

    fn is_ready(&self) -> bool {
        *self.rig.log.state() == LogState::Ready
    }

    /// False when the log is of no use any more.
    fn step(&mut self) -> bool {
        match self.dice.below(100) {
            0..35 => self.append(),
            35..50 => self.rig.turn(),
            50..75 => self.complete_one(),
            75..80 => self.rig.tick(Duration::from_millis(*self.dice.pick(&[1, 20, 300, 3_000, 7_000]))),
            80..88 => self.start_read(),
            88..91 => self.check_find(),
            91..93 => self.give_state(),
            93..96 => drop(self.rig.log.shrink_cache(self.dice.below(1 << 18) as usize)),
            96 => self.settle(),
            97 => return self.close(),
            _ => return self.crash(),
        }
        self.listen();
        self.is_ready() || self.crash()
    }

    fn append(&mut self) {
        for _ in 0..=self.dice.below(3) {
            let bytes = *self.dice.pick(&[100, 448, 960, 4032, 7000]);
            let records = 1 + self.dice.below(3) as u32;
            let time = self.rig.now.wall.0 - self.dice.below(5_000) as i64;
            let fill = self.dice.below(256) as u8;
            let frame = self.rig.append(records, time, vec![fill; bytes]);
            let at = frame.header().base_offset.0;
            self.ever.entry(at).or_default().push(frame.clone());
            self.frames.insert(at, frame);
        }
    }

    fn give_state(&mut self) {
        let end = self.rig.log.staged_end();
        self.rig.log.set_app_state(end, Bytes::new());
    }

    fn settle(&mut self) {
        self.rig.turn();
        while self.rig.disk.under_way_count() > 0 {
            self.complete_one();
            self.rig.turn();
        }
    }

    fn complete_one(&mut self) {
        let count = self.rig.disk.under_way_count() as u64;
        if count == 0 {
            return;
        }
        let nth = self.dice.below(count) as usize;
        let write = self.rig.pending().nth(nth).and_then(|op| self.first_frame_of(op));
        self.rig.complete(nth);
        let is_answered = write.as_ref().is_some_and(|write| self.rig.log.durable_end() > write.first);
        self.answered.extend(write.filter(|_| is_answered));
    }

    fn first_frame_of(&self, op: &DiskOp) -> Option<Answered> {
        let DiskOp::Write { segment, position, parts } = op else { return None };
        let bytes = parts.concat();
        let first = self.rig.log.durable_end();
        let is_it =
            |at: &usize| bytes[*at..].starts_with(b"MF") && bytes[at + 16..at + 24] == first.0.to_le_bytes();
        let at = (0..bytes.len()).step_by(16).find(is_it).expect("a write holds the frame at the log's end");
        let header = bytes[at..at + HEADER_BYTES].to_vec();
        Some(Answered { segment: *segment, position: position + at as u64, header, first })
    }

    fn listen(&mut self) {
        self.durable_end = self.durable_end.max(self.rig.log.durable_end());
        for event in std::mem::take(&mut self.rig.events) {
            match event {
                LogEvent::Read(_, Ok(frames)) => frames.iter().for_each(|frame| self.check_frame(frame)),
                LogEvent::Read(_, Err(ReadError::Trimmed)) => {}
                LogEvent::Read(_, Err(error)) => self.must_be_explained(&error.to_string()),
                LogEvent::Failed { why } => self.must_be_explained(&why),
                _ => {}
            }
        }
    }

    #[track_caller]
    fn must_be_explained(&self, what: &str) {
        let is_trouble = |kind| !matches!(kind, FaultKind::Torn | FaultKind::Unanswered | FaultKind::Undone);
        let is_explained = self.rig.disk.injected().iter().any(|fault| is_trouble(fault.kind));
        assert!(is_explained, "no fault explains: {what}");
    }

    /// It is the one that was acknowledged there.
    #[track_caller]
    fn check_frame(&self, frame: &Frame) {
        let at = frame.header().base_offset;
        let candidates = &self.ever[&at.0];
        assert!(candidates.contains(frame), "a frame at {at} that was never appended");
        let is_acknowledged = self.frames.get(&at.0) == Some(frame);
        let is_excused = self.has_late_writes || self.may_be_residue(frame.header());
        assert!(is_acknowledged || is_excused, "offset {at} has got a second meaning");
    }

    /// A write that an earlier life lost may have left what a still earlier one wrote there: only that life could
    /// have known (`FORMAT.md`, "Residue of a torn write").
    fn may_be_residue(&self, header: &FrameHeader) -> bool {
        let lost = |kind| matches!(kind, FaultKind::LostWrite | FaultKind::Misdirected);
        let known = self.frames.get(&header.base_offset.0).map(|frame| frame.header().leader_epoch);
        header.base_offset < self.life_start
            && known.is_none_or(|known| header.leader_epoch < known)
            && self.rig.disk.injected().iter().any(|fault| lost(fault.kind))
    }

    fn start_read(&mut self) {
        let (start, end) = (self.rig.log.start(), self.rig.log.durable_end());
        if start == end {
            return;
        }
        let from = Offset(start.0 + self.dice.below(end.0 - start.0));
        let bytes_max = self.dice.below(1 << 17) as usize;
        if let Read::Now(frames) = self.rig.log.read(from, end, bytes_max) {
            frames.iter().for_each(|frame| self.check_frame(frame));
        }
    }

    fn check_find(&mut self) {
        self.settle();
        self.listen();
        if !self.is_ready() {
            return;
        }
        let at = self.rig.now.wall.0 - self.dice.below(20_000) as i64;
        let limit = self.rig.log.durable_end();
        match self.rig.find(at, limit) {
            Ok(found) => {
                let start = self.rig.log.start();
                if self.has_late_writes || found.is_some_and(|found| found.base_offset < start) {
                    return;
                }
                let headers = self.frames.values().map(Frame::header);
                let mut live = headers.filter(|h| h.end_offset() > start && h.base_offset < limit);
                let expected = live.find(|header| header.max_timestamp.0 >= at);
                let is_excused = found.is_some_and(|found| self.may_be_residue(&found));
                assert!(is_excused || found.as_ref() == expected, "{found:?}, not {expected:?}");
            }
            Err(ReadError::Trimmed) => {}
            Err(error) => self.must_be_explained(&error.to_string()),
        }
    }

    fn crash(&mut self) -> bool {
        self.listen();
        let start = self.rig.log.start();
        self.rig.disk.crash();
        self.reopen(start)
    }

    fn close(&mut self) -> bool {
        self.settle();
        self.listen();
        let start = self.rig.log.start();
        self.rig.close();
        self.listen();
        self.reopen(start)
    }

    fn reopen(&mut self, start: Offset) -> bool {
        self.seen.lives += 1;
        if self.dice.one_in(4) {
            let kind = *self.dice.pick(&[FaultKind::BitFlip, FaultKind::LatentError]);
            let zone = *self.dice.pick(&[Zone::Written, Zone::Sealed, Zone::Checkpoint]);
            let _where_there_is_such_a_file = self.rig.disk.damage(kind, zone, &mut self.dice);
        }
        // No more of it for a moment: what is found is to be compared with what is there.
        self.rig.disk.set_faults(Faults::of_crashes());
        let before = self.rig.files();
        self.rig.reopen();
        let state = self.rig.log.state().clone();
        if state != LogState::Ready {
            self.must_be_explained(&format!("{state:?}"));
            self.seen.damaged += u32::from(matches!(state, LogState::Damaged { .. }));
            self.seen.failed += u32::from(matches!(state, LogState::Failed { .. }));
            self.read_everything();
            self.rig.close();
            assert!(self.has_late_writes || self.rig.files() == before, "a damaged log changes nothing");
            return false;
        }
        assert!(self.rig.log.start() <= start, "starts at {}, not {start}", self.rig.log.start());
        self.check_end(&before);
        self.read_everything();
        self.rig.disk.set_faults(self.faults.clone());
        true
    }

    /// Where the log ends before frames that were acknowledged, nothing could tell that they were there. `before`:
    /// the files as its opening found them.
    fn check_end(&mut self, before: &BTreeMap<FileName, Vec<u8>>) {
        let end = self.rig.log.durable_end();
        if end < self.durable_end && !self.has_late_writes {
            self.must_be_explained("acknowledged frames are gone");
            self.seen.cut += 1;
            let checkpoint = before.get(&FileName::Checkpoint).map(|file| Bytes::copy_from_slice(file));
            let checkpoint =
                checkpoint.filter(|_| self.rig.disk.is_readable(self.rig.id, FileName::Checkpoint));
            let known = checkpoint.and_then(|file| inspect::checkpoint(&file).ok());
            let known_end = known.as_ref().map_or(end, |known| known.durable_end);
            assert!(known_end <= end, "ends at {end}, the checkpoint knows {known_end}");
            // "What the mark cannot tell": it is believed where its block was left as it was.
            let is_marked = known.is_some_and(|known| known.closed_in_order && known_end == end);
            for later in self.answered.iter().filter(|write| write.first > end && !is_marked) {
                let file = before.get(&FileName::Segment(later.segment));
                let at = later.position as usize;
                let found = file.and_then(|file| file.get(at..at + HEADER_BYTES));
                // "The loss of a whole first write of a segment with its header": what is far behind it is not looked at.
                let is_far = later.position >= 4096 + (64 << 10);
                if is_far && file.is_some_and(|file| !is_begun(file, later.segment)) {
                    continue;
                }
                assert!(
                    found != Some(&later.header[..]),
                    "ends at {end} in silence, the write of {} is at {at} in segment {}",
                    later.first,
                    later.segment.0
                );
            }
        }
        self.answered.retain(|write| write.first < end);
        self.frames.retain(|at, _| *at < end.0);
        // What was never answered and is there now is promised from here on.
        self.durable_end = end;
        self.life_start = end;
    }

    fn read_everything(&mut self) {
        self.rig.drop_cache();
        let (mut from, end) = (self.rig.log.start(), self.rig.log.durable_end());
        let is_new = |at: u64, story: &Self| !story.frames.contains_key(&at);
        while from < end {
            from = from.max(self.rig.log.start());
            match self.rig.read(from, end, 1 << 16) {
                Ok(frames) => {
                    let first = frames.first().expect("at least one frame").header();
                    let is_it = first.base_offset <= from && from < first.end_offset();
                    assert!(is_it, "asked for {from} it was given {first:?}");
                    for frame in frames {
                        let at = frame.header().base_offset;
                        if is_new(at.0, self) || self.has_late_writes {
                            assert!(self.ever[&at.0].contains(&frame), "never appended at {at}");
                            self.frames.insert(at.0, frame.clone());
                        }
                        self.check_frame(&frame);
                        from = frame.header().end_offset();
                    }
                }
                Err(ReadError::Trimmed) => {}
                Err(error) => {
                    self.must_be_explained(&error.to_string());
                    self.seen.unreadable += 1;
                    // On behind the frame that is damaged.
                    let next = self.frames.range(..=from.0).next_back().map(|(_, f)| f.header().end_offset());
                    from = next.filter(|next| *next > from).unwrap_or(end);
                }
            }
        }
    }
}

/// The segment's header is there.
fn is_begun(file: &[u8], segment: SegmentId) -> bool {
    file.starts_with(b"MSSEGMNT") && file.get(24..28) == Some(&segment.0.to_le_bytes()[..])
}

/// Says at the end of a failed run how to repeat it.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("LOG_SEED={}", self.0);
        }
    }
}

fn run_all(late_writes: Rate) -> Seen {
    let told = |name: &str| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    let seeds = match told("LOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("LOG_SEEDS").unwrap_or(150),
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let _told = Told(seed);
        let mut story = Story::begin(seed, late_writes);
        for _ in 0..600 {
            if !story.step() {
                break;
            }
        }
        seen.damaged += story.seen.damaged;
        seen.failed += story.seen.failed;
        seen.unreadable += story.seen.unreadable;
        seen.cut += story.seen.cut;
        seen.lives += story.seen.lives;
    }
    seen
}

/// `LOG_SEED=8131` repeats one run, `LOG_SEEDS=100000` makes it a long one.
#[test]
fn log_on_a_disk_that_breaks_its_word_notices() {
    let seen = run_all(Rate::NEVER);
    let is_all = seen.damaged > 0 && seen.unreadable > 0 && seen.cut > 0;
    assert!(is_all || std::env::var("LOG_SEED").is_ok(), "{seen:?}");
}

/// FORMAT.md, "A write that outlives its process": what it hits turns into what was appended there before, or is
/// noticed; never into anything else.
#[test]
fn write_that_outlives_its_process_brings_nothing_that_was_not_appended() {
    run_all(Rate::one_in(2));
}
