//! When a log is compacted, and what it asks of the disk for it.
//!
//! What must hold: one operation of a pass is under way at a time, beside appends and never instead of them; only
//! sealed segments before the one where scanning begins are written anew, so the owner's state describes whatever
//! compaction has touched; segments are replaced in the order of their offsets, and behind one that is damaged none.
//! A pass that fails leaves nothing but a file nobody knows, which is removed.

use std::collections::BTreeSet;
use std::time::Duration;

use storage_frame::{Now, Offset, TimestampMs};

use super::write::generation_after;
use super::{Goal, Log};
use crate::compaction::sift::Sieve;
use crate::compaction::{
    Compacted, CompactionRules, CompactionTask, Cursor, KeyMap, Output, PAUSE, visit_whole,
};
use crate::disk_op::{DiskOp, DiskReply, DiskResult, FileName, SegmentId};
use crate::event::{LogEvent, LogState};
use crate::ops::Purpose;
use crate::segment::{FIRST_FRAME, Segment};
use crate::segment_header::{FirstBlock, SegmentHeader};

#[derive(Debug)]
pub(super) struct Compactor {
    /// Records before it have been compacted against each other.
    clean_end: Offset,
    /// Of the next file.
    next_id: SegmentId,
    /// Did not verify: left as they are in this life, and all behind them.
    damaged: BTreeSet<SegmentId>,
    retry_at: Duration,
    pass: Option<Box<Pass>>,
    /// Files that nothing refers to.
    discard: Vec<SegmentId>,
}

#[derive(Debug)]
struct Pass {
    task: CompactionTask,
    begun: Now,
    /// Nothing from here on may be compacted.
    end: Offset,
    map: KeyMap,
    /// The map knows the keys of what is dirty before it.
    mapped_end: Offset,
    step: Step,
    /// An operation is under way.
    is_busy: bool,
    told: Compacted,
}

#[derive(Debug)]
enum Step {
    Map(Option<Cursor>),
    /// Segments from `next` on have not been looked at.
    Rewrite {
        next: Offset,
        work: Option<Box<Work>>,
    },
}

/// Segments that become one.
#[derive(Debug)]
struct Work {
    inputs: Vec<Segment>,
    nth: usize,
    cursor: Cursor,
    /// Of a single one: only when there turns out to be something to take out.
    output: Option<Output>,
    told: Compacted,
}

/// Why a pass ends before its time.
#[derive(Debug)]
enum GiveUp {
    /// Segments have left under it.
    Overtaken,
    Damaged(SegmentId, String),
    Disk(String),
}

impl Default for Compactor {
    fn default() -> Self {
        Self::opened(Offset::ZERO, SegmentId::REWRITTEN_FIRST)
    }
}

impl Compactor {
    pub(super) fn opened(clean_end: Offset, next_id: SegmentId) -> Self {
        let (damaged, retry_at) = (BTreeSet::new(), Duration::ZERO);
        Self { clean_end, next_id, damaged, retry_at, pass: None, discard: Vec::new() }
    }

    pub(super) fn clean_end(&self) -> Offset {
        self.clean_end
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.pass.as_ref().map_or(0, |pass| pass.memory_bytes())
    }

    /// Nothing more is done; what is left behind is removed by the next opening, or with the log.
    pub(super) fn give_up(&mut self) {
        self.pass = None;
        self.discard.clear();
    }
}

impl Pass {
    fn memory_bytes(&self) -> usize {
        let rest = match &self.step {
            Step::Map(cursor) => cursor.as_ref().map_or(0, Cursor::memory_bytes),
            Step::Rewrite { work, .. } => work.as_ref().map_or(0, |work| {
                work.cursor.memory_bytes() + work.output.as_ref().map_or(0, Output::memory_bytes)
            }),
        };
        self.map.memory_bytes() + rest
    }

    fn cursor(&mut self) -> Option<&mut Cursor> {
        match &mut self.step {
            Step::Map(cursor) => cursor.as_mut(),
            Step::Rewrite { work, .. } => work.as_mut().map(|work| &mut work.cursor),
        }
    }

    fn output(&mut self) -> Option<&mut Output> {
        match &mut self.step {
            Step::Map(_) => None,
            Step::Rewrite { work, .. } => work.as_mut().and_then(|work| work.output.as_mut()),
        }
    }
}

impl Work {
    fn on(inputs: Vec<Segment>) -> Self {
        let cursor = Cursor::at_start_of(&inputs[0]);
        Self { inputs, nth: 0, cursor, output: None, told: Compacted::default() }
    }
}

fn is_compaction(purpose: Purpose) -> bool {
    matches!(
        purpose,
        Purpose::CompactRead(_)
            | Purpose::CompactMake(_)
            | Purpose::CompactZero { .. }
            | Purpose::CompactWrite(_)
            | Purpose::CompactDiscard(_)
    )
}

fn before(now: TimestampMs, age: Duration) -> i128 {
    i128::from(now.0) - age.as_millis() as i128
}

impl Log {
    /// Whether compaction pays, or is due: how dirty the log is in thousandths, at least 1. `None`: not now.
    #[must_use]
    pub fn wants_compaction(&self, now: Now, rules: &CompactionRules) -> Option<u32> {
        let compactor = &self.compactor;
        let is_free = self.state == LogState::Ready
            && self.goal == Goal::Serve
            && compactor.pass.is_none()
            && now.mono >= compactor.retry_at
            && !self.space.is_out()
            && !self.ops.any(is_compaction);
        if !is_free {
            return None;
        }
        let count = self.compactable_count(now, rules);
        let (mut clean_bytes, mut dirty_bytes, mut is_due) = (0, 0, false);
        for (nth, segment) in self.segments.iter().enumerate().take(count) {
            let is_clean = self.segments[nth + 1].base <= compactor.clean_end;
            if is_clean {
                clean_bytes += segment.end_position;
                is_due |= is_over(segment.tombstones_at, now, rules);
            } else {
                dirty_bytes += segment.end_position;
                let lag_max = |lag| i128::from(segment.created.0) <= before(now.wall, lag);
                is_due |= rules.lag_max.is_some_and(lag_max);
            }
        }
        let all_bytes = clean_bytes + dirty_bytes;
        let pays = dirty_bytes > 0 && dirty_bytes as f64 >= rules.dirty_ratio * all_bytes as f64;
        (pays || is_due).then(|| 1 + (dirty_bytes * 1000 / all_bytes.max(1)) as u32)
    }

    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.compactor.pass.is_some()
    }

    /// Begins a pass; [`LogEvent::Compacted`] tells how it ended, unless the log ends first.
    ///
    /// # Panics
    /// When [`wants_compaction`](Self::wants_compaction) says that it does not.
    pub fn compact(&mut self, now: Now, task: CompactionTask) {
        assert!(self.wants_compaction(now, &task.rules).is_some(), "compaction of log {}", self.id);
        let count = self.compactable_count(now, &task.rules);
        let end = self.segments[count].base;
        let mapped_end = self.compactor.clean_end.max(self.segments[0].base).min(end);
        let map = KeyMap::new(task.seed, end.0 - mapped_end.0, task.keys_max.max(1));
        let (step, told) = (Step::Map(None), Compacted::default());
        let pass = Pass { task, begun: now, end, map, mapped_end, step, is_busy: false, told };
        self.compactor.pass = Some(Box::new(pass));
    }

    /// How many segments, from the first on, may be compacted.
    fn compactable_count(&self, now: Now, rules: &CompactionRules) -> usize {
        let position = |id: SegmentId| self.segments.iter().position(|segment| segment.id == id);
        // State of before the first segment is none yet of what has been appended since.
        let scanned = self.checkpoints.scan_segment().map(|id| position(id).unwrap_or(0));
        let young = |segment: &Segment| {
            i128::from(segment.max_timestamp.0) > before(now.wall, rules.lag_min)
                || self.compactor.damaged.contains(&segment.id)
        };
        let count = self.sealed_count().min(scanned.unwrap_or(usize::MAX));
        self.segments.iter().take(count).position(young).unwrap_or(count)
    }

    pub(super) fn poll_compaction(&mut self, now: Now) {
        self.poll_discard();
        let Some(mut pass) = self.compactor.pass.take_if(|pass| !pass.is_busy) else { return };
        if self.goal != Goal::Serve || self.state != LogState::Ready {
            reach::mark!("log.compaction_ended_by_close");
            return self.end_pass(now, *pass, Err(GiveUp::Overtaken));
        }
        match self.advance_pass(&mut pass) {
            Ok(Some((purpose, op))) => {
                pass.is_busy = true;
                self.compactor.pass = Some(pass);
                self.ops.ask(purpose, op);
            }
            Ok(None) => self.end_pass(now, *pass, Ok(())),
            Err(why) => self.end_pass(now, *pass, Err(why)),
        }
    }

    fn poll_discard(&mut self) {
        let ops = &mut self.ops;
        self.compactor.discard.retain(|id| {
            let is_used = ops.uses(*id);
            if !is_used {
                let name = FileName::Segment(*id);
                ops.ask(Purpose::CompactDiscard(*id), DiskOp::RemoveFile { name });
            }
            is_used
        });
    }

    /// As far as it goes without the disk; `None`: it is over.
    fn advance_pass(&mut self, pass: &mut Pass) -> Result<Option<(Purpose, DiskOp)>, GiveUp> {
        loop {
            let asked = match &mut pass.step {
                Step::Map(_) => self.map_on(pass)?,
                Step::Rewrite { work: Some(_), .. } => self.rewrite_on(pass)?,
                Step::Rewrite { work: None, .. } => {
                    if !self.next_work(pass) {
                        return Ok(None);
                    }
                    None
                }
            };
            if let Some((_, DiskOp::Read { segment, .. })) = &asked
                && !self.segments.iter().any(|live| live.id == *segment)
            {
                reach::mark!("log.compaction_overtaken_by_trim");
                return Err(GiveUp::Overtaken);
            }
            let takes_space =
                |purpose| matches!(purpose, Purpose::CompactMake(_) | Purpose::CompactZero { .. });
            match asked {
                Some((purpose, _)) if takes_space(purpose) && self.space.is_out() => {
                    return Err(GiveUp::Disk("no space, appends come first".to_owned()));
                }
                Some(asked) => return Ok(Some(asked)),
                None => {}
            }
        }
    }

    /// Remembers keys; `None`: it has gone on to the next step.
    fn map_on(&mut self, pass: &mut Pass) -> Result<Option<(Purpose, DiskOp)>, GiveUp> {
        let Step::Map(cursor) = &mut pass.step else { unreachable!("asked while mapping") };
        loop {
            let at = match cursor {
                Some(at) => at,
                None if pass.mapped_end >= pass.end => break,
                None => {
                    let nth = self.segments.partition_point(|segment| segment.base <= pass.mapped_end);
                    let segment = &self.segments[nth.saturating_sub(1)];
                    if segment.base > pass.mapped_end {
                        return Err(GiveUp::Overtaken);
                    }
                    cursor.insert(Cursor::at_start_of(segment))
                }
            };
            if let Some(read) = read_of(at) {
                return Ok(Some(read));
            }
            let Some(frame) = frame_of(at)? else {
                if at.is_over() {
                    if at.offset() < pass.mapped_end || at.offset() > pass.end {
                        let why = format!("segment {} ends at offset {}", at.segment.0, at.offset());
                        return Err(GiveUp::Damaged(at.segment, why));
                    }
                    *cursor = None;
                }
                continue;
            };
            let header = frame.header();
            if header.end_offset() > pass.mapped_end {
                if !pass.map.has_room(header.record_count) {
                    reach::mark!("log.compaction_map_full");
                    break;
                }
                let (map, mut found) = (&mut pass.map, Vec::new());
                let whole = visit_whole(pass.task.records, &frame, &mut |record| {
                    let key = record.key.map(|key| map.hash(key));
                    found.extend(key.map(|key| (key, header.base_offset.plus(record.offset_delta))));
                });
                // What cannot be read stays as it is, and takes nothing else away.
                if whole.is_ok() {
                    found.into_iter().for_each(|(key, offset)| map.note(key, offset));
                }
                pass.mapped_end = header.end_offset();
            }
            at.pass(&frame);
        }
        pass.step = Step::Rewrite { next: self.segments[0].base, work: None };
        Ok(None)
    }

    /// The next segments to become one; false: there are no more.
    fn next_work(&mut self, pass: &mut Pass) -> bool {
        let Step::Rewrite { next, work } = &mut pass.step else { unreachable!("asked while rewriting") };
        let is_meant = |segment: &Segment| segment.base < pass.mapped_end && segment.base < pass.end;
        let segment_bytes = self.config.segment_bytes.max(FIRST_FRAME);
        loop {
            let nth = self.segments.partition_point(|segment| segment.base < *next);
            let Some(first) = self.segments.get(nth).filter(|segment| is_meant(segment)) else {
                return false;
            };
            let mut inputs = vec![first.clone()];
            let mut bytes = first.end_position;
            for segment in self.segments.iter().skip(nth + 1).take_while(|segment| is_meant(segment)) {
                bytes += segment.end_position - FIRST_FRAME;
                if bytes > segment_bytes {
                    break;
                }
                inputs.push(segment.clone());
            }
            *next = self.segments[nth + inputs.len()].base;
            let is_over =
                inputs.iter().any(|input| is_over(input.tombstones_at, pass.begun, &pass.task.rules));
            if pass.map.is_empty() && inputs.len() == 1 && !is_over {
                continue;
            }
            reach::mark!("log.compaction_merges", inputs.len() > 1);
            let mut found = Work::on(inputs);
            if found.inputs.len() > 1 {
                found.output = Some(self.compactor.new_output(&found.inputs));
            }
            *work = Some(Box::new(found));
            return true;
        }
    }

    /// Writes on; `None`: these segments are done.
    fn rewrite_on(&mut self, pass: &mut Pass) -> Result<Option<(Purpose, DiskOp)>, GiveUp> {
        let Step::Rewrite { next, work: slot } = &mut pass.step else {
            unreachable!("asked while rewriting")
        };
        let work = slot.as_mut().expect("asked with segments to write");
        let (task, map) = (&pass.task, &pass.map);
        let sieve = Sieve { task, map, mapped_end: pass.mapped_end, now: pass.begun.wall };
        loop {
            if let Some(output) = &mut work.output {
                if output.is_whole() {
                    break;
                }
                if let Some(asked) = output.poll(self.id, &self.label) {
                    return Ok(Some(asked));
                }
            }
            if let Some(read) = read_of(&mut work.cursor) {
                return Ok(Some(read));
            }
            let Some(frame) = frame_of(&mut work.cursor)? else {
                if !work.cursor.is_over() {
                    continue;
                }
                let nth = self.check_met(work)?;
                work.nth += 1;
                if work.nth == work.inputs.len()
                    && let Some(output) = &mut work.output
                    && let following = &self.segments[nth + 1]
                    && following.base < pass.mapped_end.min(pass.end)
                    && output.has_room_for(following, self.config.segment_bytes)
                {
                    reach::mark!("log.compaction_merges_what_became_small");
                    output.extend(following);
                    work.inputs.push(following.clone());
                    *next = self.segments[nth + 2].base;
                }
                match (work.inputs.get(work.nth), &mut work.output) {
                    (Some(input), _) => work.cursor = Cursor::at_start_of(input),
                    (None, Some(output)) => output.end(),
                    (None, None) => {
                        reach::mark!("log.compaction_finds_nothing");
                        *slot = None;
                        return Ok(None);
                    }
                }
                continue;
            };
            let sifted = sieve.sift(&frame, &mut work.told);
            match &mut work.output {
                Some(output) => {
                    output.put(sifted.as_ref().unwrap_or(&frame));
                    work.cursor.pass(&frame);
                }
                None if sifted.is_some() => {
                    work.told = Compacted::default();
                    work.cursor = Cursor::at_start_of(&work.inputs[0]);
                    work.output = Some(self.compactor.new_output(&work.inputs));
                }
                None => work.cursor.pass(&frame),
            }
        }
        let work = *slot.take().expect("it is at work");
        self.replace(work, &mut pass.told)?;
        Ok(None)
    }

    /// An input ends where the segment behind it begins. Its place among the segments.
    fn check_met(&self, work: &Work) -> Result<usize, GiveUp> {
        let input = &work.inputs[work.nth];
        let Some(nth) = self.segments.iter().position(|segment| segment.id == input.id) else {
            return Err(GiveUp::Overtaken);
        };
        if self.segments[nth + 1].base == work.cursor.offset() {
            return Ok(nth);
        }
        let why = format!("segment {} ends at offset {}", input.id.0, work.cursor.offset());
        Err(GiveUp::Damaged(input.id, why))
    }

    /// All of the new segment is on stable storage: it takes the place of the others. They go when the checkpoint that
    /// names it is durable and nobody reads them any more; until then that one of them and it holds which the last
    /// checkpoint names.
    fn replace(&mut self, work: Work, told: &mut Compacted) -> Result<(), GiveUp> {
        let Work { inputs, output, told: found, .. } = work;
        let output = output.expect("something was written");
        let at = self.segments.iter().position(|segment| segment.id == inputs[0].id);
        let follow = |at: usize| {
            let live = self.segments.iter().skip(at).take(inputs.len());
            live.map(|segment| segment.id).eq(inputs.iter().map(|input| input.id))
        };
        let Some(at) = at.filter(|at| follow(*at)) else {
            reach::mark!("log.compaction_overtaken_at_the_end");
            self.compactor.discard.push(output.id());
            return Err(GiveUp::Overtaken);
        };
        assert_eq!(output.end_offset(), self.segments[at + inputs.len()].base);
        let (segment, index) = output.into_segment();
        told.bytes_in += inputs.iter().map(|input| input.end_position).sum::<u64>();
        told.bytes_out += segment.end_position;
        told.records_removed += found.records_removed;
        told.records_without_key += found.records_without_key;
        told.frames_unreadable += found.frames_unreadable;
        self.segments.drain(at..at + inputs.len());
        self.segments.insert(at, segment);
        for input in &inputs {
            self.reads.forget(input.id);
        }
        self.save_index(index);
        self.checkpoints.on_replaced(inputs.iter().map(|input| input.id));
        Ok(())
    }

    fn end_pass(&mut self, now: Now, mut pass: Pass, how: Result<(), GiveUp>) {
        if let Some(output) = pass.output() {
            let id = output.id();
            self.compactor.discard.push(id);
        }
        let why = match how {
            Ok(()) => {
                self.compactor.clean_end = self.compactor.clean_end.max(pass.mapped_end);
                pass.told.took = now.mono.saturating_sub(pass.begun.mono);
                return self.events.push(LogEvent::Compacted(Ok(pass.told)));
            }
            Err(GiveUp::Overtaken) => "overtaken".to_owned(),
            Err(GiveUp::Damaged(segment, why)) => {
                reach::mark!("log.compaction_meets_damage");
                self.compactor.damaged.insert(segment);
                format!("damaged, not compacted from here on: {why}")
            }
            Err(GiveUp::Disk(why)) => {
                reach::mark!("log.compaction_refused");
                self.compactor.retry_at = now.mono + PAUSE;
                why
            }
        };
        self.events.push(LogEvent::Compacted(Err(why)));
    }

    pub(super) fn on_compaction_step(&mut self, now: Now, purpose: Purpose, result: DiskResult) {
        if let Purpose::CompactDiscard(id) = purpose {
            if let Err(error) = result {
                reach::mark!("log.compaction_left_over_stays");
                self.note(format!("segment {} not removed: {error}", id.0));
            }
            return;
        }
        let Some(mut pass) = self.compactor.pass.take() else { return };
        pass.is_busy = false;
        match self.take_step(now, &mut pass, purpose, result) {
            Ok(()) => self.compactor.pass = Some(pass),
            Err(why) => self.end_pass(now, *pass, Err(why)),
        }
    }

    fn take_step(
        &mut self,
        now: Now,
        pass: &mut Pass,
        purpose: Purpose,
        result: DiskResult,
    ) -> Result<(), GiveUp> {
        let reply = result.map_err(|error| {
            let why = error.to_string();
            if let Purpose::CompactRead(id) = purpose { GiveUp::Damaged(id, why) } else { GiveUp::Disk(why) }
        })?;
        match (purpose, reply) {
            (Purpose::CompactRead(segment), DiskReply::Bytes(piece)) => {
                let cursor = pass.cursor().expect("it asked for a piece");
                cursor.on_read(piece).map_err(|why| GiveUp::Damaged(segment, why))
            }
            (Purpose::CompactMake(id), DiskReply::Made { file_bytes, first_block }) => {
                if is_of(&first_block, self, id) {
                    // Its header says that all of it is there, and would go on saying so while it is written.
                    return Err(GiveUp::Disk(format!("segment {}: a spare of its own former life", id.0)));
                }
                let generation = generation_after(self.id, id, now, file_bytes, &first_block)
                    .map_err(|why| GiveUp::Disk(format!("spare file not recycled: {why}")))?;
                pass.output().expect("it asked for a file").room.on_made(generation, file_bytes);
                Ok(())
            }
            (Purpose::CompactZero { to, .. }, DiskReply::Done) => {
                pass.output().expect("it asked for room").room.on_zeroed(to);
                Ok(())
            }
            (Purpose::CompactWrite(_), DiskReply::Done) => {
                pass.output().expect("it wrote").on_written();
                Ok(())
            }
            (purpose, reply) => unreachable!("{purpose:?} answered by {reply:?}"),
        }
    }
}

impl Compactor {
    fn new_output(&mut self, inputs: &[Segment]) -> Output {
        let id = self.next_id;
        self.next_id = SegmentId(id.0.checked_add(1).expect("2^31 compacted segments of one log"));
        Output::new(id, inputs)
    }
}

fn is_of(first_block: &[u8], log: &Log, id: SegmentId) -> bool {
    let FirstBlock::Header(header) = SegmentHeader::decode(first_block) else { return false };
    (header.log, header.segment) == (log.id, id)
}

/// Tombstones that may go now.
fn is_over(since: Option<TimestampMs>, now: Now, rules: &CompactionRules) -> bool {
    since.is_some_and(|since| i128::from(since.0) < before(now.wall, rules.tombstones_kept))
}

fn read_of(cursor: &mut Cursor) -> Option<(Purpose, DiskOp)> {
    let (position, bytes) = cursor.wants()?;
    let segment = cursor.segment;
    Some((Purpose::CompactRead(segment), DiskOp::Read { segment, position, bytes }))
}

fn frame_of(cursor: &mut Cursor) -> Result<Option<storage_frame::Frame>, GiveUp> {
    cursor.frame().map_err(|why| GiveUp::Damaged(cursor.segment, why))
}
