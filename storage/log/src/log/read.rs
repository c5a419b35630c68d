//! Reading: from memory at once, else from disk by jobs, each with one operation under way.

use std::collections::VecDeque;

use storage_frame::{Frame, FrameHeader, Offset, TimestampMs};

use super::Log;
use crate::config::{INDEX_INTERVAL_BYTES, READ_BYTES_MAX};
use crate::disk_op::{DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, SegmentId};
use crate::event::{Find, LogEvent, LogState, Read, ReadError, ReadId};
use crate::index::{INDEX_FILE_BYTES_MAX, Place, SegmentIndex};
use crate::jobs::{Goal, InSegment, Job, SKIP_BYTES, Walked};
use crate::ops::Purpose;
use crate::segment::{FIRST_FRAME, Segment};

/// Indexes of sealed segments kept in memory.
const INDEXES_MAX: usize = 4;
/// Places where reads ended, so that the next one of the same reader begins there.
const HINTS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Reads {
    asked_count: u64,
    jobs: Vec<Job>,
    /// Last used last.
    indexes: Vec<Loaded>,
    /// Last noted last.
    hints: VecDeque<InSegment>,
    /// To be written to their files.
    saves: VecDeque<SegmentIndex>,
    /// Waits for the beginning that its file holds.
    merging: Option<SegmentIndex>,
}

#[derive(Debug)]
struct Loaded {
    index: SegmentIndex,
    /// Nothing is gained by writing it.
    is_stored: bool,
}

impl Reads {
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.saves.is_empty() && self.merging.is_none()
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Nothing is written any more.
    pub(super) fn give_up_saves(&mut self) {
        self.saves.clear();
        self.merging = None;
    }

    pub(super) fn drop_memory(&mut self) {
        if self.is_idle() {
            let asked_count = self.asked_count;
            *self = Self { asked_count, ..Self::default() };
        }
    }

    pub(super) fn forget(&mut self, segment: SegmentId) {
        self.indexes.retain(|loaded| loaded.index.segment != segment);
        self.hints.retain(|hint| hint.segment != segment);
        self.saves.retain(|save| save.segment != segment);
    }

    pub(super) fn index_of(&self, segment: SegmentId) -> Option<&SegmentIndex> {
        self.indexes.iter().map(|loaded| &loaded.index).find(|index| index.segment == segment)
    }

    fn loaded(&mut self, segment: SegmentId) -> Option<&mut Loaded> {
        let at = self.indexes.iter().position(|loaded| loaded.index.segment == segment)?;
        let used = self.indexes.remove(at);
        self.indexes.push(used);
        self.indexes.last_mut()
    }

    fn keep(&mut self, index: SegmentIndex, is_stored: bool) {
        self.indexes.retain(|loaded| loaded.index.segment != index.segment);
        if self.indexes.len() == INDEXES_MAX {
            reach::mark!("log.index_evicted");
            self.indexes.remove(0);
        }
        self.indexes.push(Loaded { index, is_stored });
    }

    fn hint(&mut self, segment: SegmentId, at: Place) {
        self.hints.retain(|hint| (hint.segment, hint.at) != (segment, at));
        if self.hints.len() == HINTS_MAX {
            self.hints.pop_front();
        }
        self.hints.push_back(InSegment { segment, at, is_certain: true, bytes_min: 0 });
    }

    fn hint_at(&self, segment: SegmentId, from: Offset) -> Option<InSegment> {
        self.hints.iter().rev().find(|hint| hint.segment == segment && hint.at.offset == from).copied()
    }

    fn new_id(&mut self) -> ReadId {
        self.asked_count += 1;
        ReadId(self.asked_count)
    }
}

impl Log {
    pub(super) fn begin_read(&mut self, from: Offset, limit: Offset, bytes_max: usize) -> Read {
        if let Some(frames) = self.recent.read(from, limit, bytes_max) {
            return Read::Now(frames);
        }
        let id = self.reads.new_id();
        self.advance(Job::new(id, Goal::Read { from, limit, bytes_max }));
        Read::Pending(id)
    }

    pub(super) fn begin_find(&mut self, at: TimestampMs, limit: Offset) -> Find {
        let from = self.start;
        if from >= limit {
            return Find::Now(None);
        }
        if let Some(found) = self.find_in_memory(from, at, limit) {
            return Find::Now(found);
        }
        let id = self.reads.new_id();
        self.advance(Job::new(id, Goal::Find { from, at, limit }));
        Find::Pending(id)
    }

    /// `None` when `from` is not in memory.
    fn find_in_memory(&self, from: Offset, at: TimestampMs, limit: Offset) -> Option<Option<FrameHeader>> {
        let mut frames = self.recent.frames_from(from)?.map(|frame| *frame.header());
        let found = frames.find(|header| header.base_offset >= limit || header.max_timestamp >= at);
        Some(found.filter(|header| header.base_offset < limit))
    }

    fn answer_error(&mut self, job: &Job, error: ReadError) {
        self.events.push(match job.goal {
            Goal::Read { .. } => LogEvent::Read(job.id, Err(error)),
            Goal::Find { .. } => LogEvent::Found(job.id, Err(error)),
        });
    }

    pub(super) fn end_all_jobs_trimmed(&mut self) {
        for job in std::mem::take(&mut self.reads.jobs) {
            self.answer_error(&job, ReadError::Trimmed);
        }
        self.reads = Reads { asked_count: self.reads.asked_count, ..Reads::default() };
    }

    /// Answers `job`, or asks the disk for what it needs next.
    fn advance(&mut self, mut job: Job) {
        assert!(!self.goal.is_remove(), "nobody reads log {} any more", self.id);
        // Each turn moves on by a segment.
        let nth = loop {
            let from = job.from().max(self.start);
            match &mut job.goal {
                Goal::Read { from: asked, .. } => {
                    if *asked < self.start {
                        reach::mark!("log.read_trimmed_while_waiting");
                        return self.answer_error(&job, ReadError::Trimmed);
                    }
                    // Not in memory when it came, so never: only later frames come there.
                    break self.segment_of(from);
                }
                Goal::Find { from: looked, at, limit } => {
                    *looked = from;
                    if from >= *limit {
                        reach::mark!("log.find_passed_limit");
                        return self.events.push(LogEvent::Found(job.id, Ok(None)));
                    }
                    if let Some(found) = self.find_in_memory(from, *at, *limit) {
                        reach::mark!("log.find_ends_in_memory");
                        return self.events.push(LogEvent::Found(job.id, Ok(found)));
                    }
                    let nth = self.segment_of(from);
                    if self.segments[nth].max_timestamp >= *at {
                        break nth;
                    }
                    match self.segments.get(nth + 1) {
                        Some(next) => {
                            reach::mark!("log.find_skips_segment");
                            *looked = next.base;
                        }
                        None => {
                            reach::mark!("log.find_past_last_segment");
                            return self.events.push(LogEvent::Found(job.id, Ok(None)));
                        }
                    }
                }
            }
        };
        self.read_on(job, nth);
    }

    /// Index of the segment that holds `offset`.
    fn segment_of(&self, offset: Offset) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= offset)
            .checked_sub(1)
            .expect("not below start")
    }

    fn readable_end(&self, segment: &Segment) -> u64 {
        if segment.id == self.durable.segment { self.durable.position } else { segment.end_position }
    }

    /// The offset at [`readable_end`](Self::readable_end) of the `nth` segment.
    fn readable_offset(&self, nth: usize) -> Offset {
        match self.segments.get(nth + 1) {
            Some(following) if self.segments[nth].id != self.durable.segment => following.base,
            Some(_) | None => self.durable.offset,
        }
    }

    fn read_on(&mut self, mut job: Job, nth: usize) {
        let id = self.segments[nth].id;
        let at = match job.place.filter(|place| place.segment == id) {
            Some(place) => Some(place),
            None => self.place_for(&job, nth),
        };
        let Some(place) = at else {
            reach::mark!(
                "log.index_awaited_by_two",
                self.ops.any(|purpose| purpose == Purpose::LoadIndex(id))
            );
            if !self.ops.any(|purpose| purpose == Purpose::LoadIndex(id)) {
                let op = DiskOp::ReadFile { name: FileName::Index(id), bytes_max: INDEX_FILE_BYTES_MAX };
                self.ops.ask(Purpose::LoadIndex(id), op);
            }
            job.waits_for = Some(id);
            return self.reads.jobs.push(job);
        };
        let room = self.readable_end(&self.segments[nth]).saturating_sub(place.at.position);
        if room == 0 {
            reach::mark!("log.read_finds_no_frames");
            let why = format!("offset {} is not where its segment's frames are", job.from());
            return self.answer_error(&job, ReadError::Damaged { why });
        }
        let wanted = match job.goal {
            Goal::Read { from, bytes_max, .. } => {
                let skip = if place.at.offset < from { SKIP_BYTES } else { 0 };
                skip + bytes_max.clamp(4096, READ_BYTES_MAX)
            }
            Goal::Find { .. } => SKIP_BYTES,
        };
        let bytes = (wanted.max(place.bytes_min) as u64).min(room) as usize;
        job.place = Some(place);
        job.asked_bytes = bytes;
        let op = DiskOp::Read { segment: id, position: place.at.position, bytes };
        self.ops.ask(Purpose::Read { job: job.id, segment: id }, op);
        self.reads.jobs.push(job);
    }

    /// Where to begin reading; `None` when the segment's index has to be loaded first.
    fn place_for(&mut self, job: &Job, nth: usize) -> Option<InSegment> {
        let segment = &self.segments[nth];
        let from = job.from();
        let start = Place { position: FIRST_FRAME, offset: segment.base };
        let in_segment = |at: Place| InSegment {
            segment: segment.id,
            at,
            is_certain: at.position == FIRST_FRAME,
            bytes_min: 0,
        };
        let is_small = self.readable_end(segment) <= FIRST_FRAME + INDEX_INTERVAL_BYTES;
        if job.without_index || from == segment.base || is_small {
            return Some(in_segment(start));
        }
        if let Some(hint) = self.reads.hint_at(segment.id, from) {
            return Some(hint);
        }
        let is_writers = segment.id == self.durable.segment && self.writer.index.covers(from);
        let index = if is_writers { &self.writer.index } else { &self.reads.loaded(segment.id)?.index };
        let by_offset = index.place_of_offset(from);
        let at = match job.goal {
            Goal::Read { .. } => by_offset,
            Goal::Find { at, .. } => {
                let by_time = index.place_of_timestamp(at);
                if by_time.position > by_offset.position { by_time } else { by_offset }
            }
        };
        Some(in_segment(at))
    }

    pub(super) fn on_read(&mut self, id: ReadId, segment: SegmentId, result: DiskResult) {
        let Some(at) = self.reads.jobs.iter().position(|job| job.id == id) else {
            reach::mark!("log.read_done_after_removal");
            return; // The log is being removed.
        };
        let job = self.reads.jobs.swap_remove(at);
        let piece = match result {
            Ok(DiskReply::Bytes(piece)) => piece,
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.read_failed");
                return self.answer_error(&job, ReadError::Io { why: error.to_string() });
            }
        };
        let Some(nth) = self.segments.iter().position(|live| live.id == segment) else {
            reach::mark!("log.read_of_retired_segment");
            return self.advance(job); // Trimmed meanwhile: a find goes on behind it.
        };
        let start = job.place.expect("it was read from somewhere");
        let (salt, end) = (self.segments[nth].salt(), self.readable_end(&self.segments[nth]));
        let index = self.reads.loaded(segment).map(|loaded| &mut loaded.index);
        let walked = job.walk(&piece, start.at, salt, end, self.life, index);
        self.save_if_rebuilt(segment, end);
        self.on_walked(job, nth, start, piece.len(), walked);
    }

    fn on_walked(&mut self, mut job: Job, nth: usize, start: InSegment, got_bytes: usize, walked: Walked) {
        let segment = self.segments[nth].id;
        match walked {
            Walked::Frames(mut frames, next) => {
                begin_at(&mut frames, job.from());
                self.reads.hint(segment, next);
                self.events.push(LogEvent::Read(job.id, Ok(frames)));
            }
            Walked::Found(header) => self.events.push(LogEvent::Found(job.id, Ok(Some(header)))),
            Walked::Onward(next, _) if job.is_beyond(next.offset) => {
                reach::mark!("log.find_stops_at_limit");
                self.events.push(LogEvent::Found(job.id, Ok(None)));
            }
            Walked::Onward(next, bytes_min) => {
                let stuck = next == start.at && (got_bytes < job.asked_bytes || bytes_min <= got_bytes);
                if stuck {
                    reach::mark!("log.read_meets_file_end");
                    let why = format!("segment {} at {}: file ends", segment.0, next.position);
                    return self.answer_error(&job, ReadError::Damaged { why });
                }
                if let Goal::Find { from, .. } = &mut job.goal {
                    *from = (*from).max(next.offset);
                }
                job.place = Some(InSegment { segment, at: next, is_certain: true, bytes_min });
                if next.position >= self.readable_end(&self.segments[nth]) {
                    let end = self.readable_offset(nth);
                    if next.offset != end {
                        reach::mark!("log.read_meets_gap");
                        let why = format!("segment {} ends at offset {}, not {end}", segment.0, next.offset);
                        return self.answer_error(&job, ReadError::Damaged { why });
                    }
                    if nth + 1 < self.segments.len() {
                        reach::mark!("log.find_crosses_segments");
                        job.place = None;
                    }
                }
                self.advance(job);
            }
            Walked::Bad(at, why) if at == start.at && !start.is_certain => {
                reach::mark!("log.index_wrong");
                self.note(format!("index of segment {} is wrong ({why}): rebuilt", segment.0));
                self.reads.keep(SegmentIndex::of_whole(&self.segments[nth]), false);
                job.without_index = true;
                job.place = None;
                self.advance(job);
            }
            Walked::Bad(at, why) => {
                reach::mark!("log.read_meets_damage");
                let why = format!("segment {} at {}: {why}", segment.0, at.position);
                self.answer_error(&job, ReadError::Damaged { why });
            }
        }
    }

    pub(super) fn on_index_loaded(&mut self, id: SegmentId, result: DiskResult) {
        if let Some(segment) = self.segments.iter().find(|segment| segment.id == id) {
            let stored = match result {
                Ok(DiskReply::Bytes(file)) => SegmentIndex::decode(&file, self.id, segment)
                    .map_err(|why| Some(format!("index of segment {} not used: {why}", id.0))),
                Ok(other) => unreachable!("ReadFile answered by {other:?}"),
                Err(error) if error.kind == DiskErrorKind::NotFound => Err(None),
                Err(error) => Err(Some(format!("index of segment {}: {error}", id.0))),
            };
            reach::mark!("log.index_not_used", matches!(&stored, Err(Some(_))));
            reach::mark!("log.index_missing", matches!(&stored, Err(None)));
            let is_stored = stored.is_ok();
            let index = stored.unwrap_or_else(|why| {
                self.events.extend(why.map(LogEvent::Note));
                SegmentIndex::of_whole(segment)
            });
            self.reads.keep(index, is_stored);
        }
        let (waiting, others) =
            std::mem::take(&mut self.reads.jobs).into_iter().partition(|job| job.waits_for == Some(id));
        self.reads.jobs = others;
        for mut job in waiting {
            job.waits_for = None;
            self.advance(job);
        }
    }

    /// Writes an index that readers have put together by walking over all of a sealed segment.
    fn save_if_rebuilt(&mut self, segment: SegmentId, end: u64) {
        if segment == self.durable.segment || self.state != LogState::Ready {
            return;
        }
        let Some(loaded) = self.reads.loaded(segment) else { return };
        if !loaded.is_stored && loaded.index.end_position() == end {
            loaded.is_stored = true;
            reach::mark!("log.index_rebuilt");
            let index = loaded.index.clone();
            self.save_index(index);
        }
    }

    pub(super) fn save_index(&mut self, index: SegmentIndex) {
        // One begun at the log's end knows that place and no frame behind it: there is nothing to keep of it.
        if index.entry_count() > 0 && index.covers_frames() {
            self.reads.saves.push_back(index);
        }
    }

    /// The active segment's, so that the next life need not put it together.
    pub(super) fn close_index(&mut self) {
        let active = self.segments.iter().find(|segment| segment.id == self.durable.segment).expect("live");
        let rest = SegmentIndex::starting_at(active, self.durable);
        let index = std::mem::replace(&mut self.writer.index, rest);
        self.save_index(index);
    }

    /// One at a time.
    pub(super) fn poll_index_saves(&mut self) {
        let is_busy =
            self.ops.any(|purpose| matches!(purpose, Purpose::SaveIndex(_) | Purpose::MergeIndex(_)));
        if is_busy || self.reads.merging.is_some() {
            return;
        }
        let Some(index) = self.reads.saves.pop_front() else { return };
        let id = index.segment;
        if index.is_whole_from_start() {
            return self.store_index(&index);
        }
        self.reads.merging = Some(index);
        let op = DiskOp::ReadFile { name: FileName::Index(id), bytes_max: INDEX_FILE_BYTES_MAX };
        self.ops.ask(Purpose::MergeIndex(id), op);
    }

    fn store_index(&mut self, index: &SegmentIndex) {
        let id = index.segment;
        let segment = self.segments.iter().find(|segment| segment.id == id);
        let segment = segment.expect("what is retired is forgotten");
        let bytes = index.encode(self.id, segment.generation);
        self.ops.ask(Purpose::SaveIndex(id), DiskOp::ReplaceFile { name: FileName::Index(id), bytes });
    }

    /// The stored beginning of an index that is in memory from the middle of the segment on. When it does not
    /// reach that far nothing is written, and the first reader puts the index together.
    pub(super) fn on_index_to_merge(&mut self, id: SegmentId, result: DiskResult) {
        let Some(end) = self.reads.merging.take() else { return };
        let Some(segment) = self.segments.iter().find(|segment| segment.id == id) else { return };
        let Ok(DiskReply::Bytes(file)) = result else { return };
        let Ok(stored) = SegmentIndex::decode(&file, self.id, segment) else { return };
        let may_write = self.is_serving_or_closing() && !self.goal.is_remove();
        if let Some(whole) = end.behind(&stored).filter(|_| may_write) {
            reach::mark!("log.index_merged");
            self.store_index(&whole);
        }
    }

    pub(super) fn on_index_saved(&mut self, id: SegmentId, result: DiskResult) {
        match result {
            // Another one may be in memory that knows less.
            Ok(_) => self.reads.indexes.retain(|loaded| loaded.index.segment != id || !loaded.is_stored),
            Err(error) => {
                reach::mark!("log.index_not_written");
                self.note(format!("index of segment {} not written: {error}", id.0));
            }
        }
    }
}

/// Compaction makes one frame of several that became empty, and a reader may have read some of them: what it gets goes
/// on where it was. Every other frame has the offsets that it always had.
fn begin_at(frames: &mut [Frame], from: Offset) {
    let Some(first) = frames.first_mut() else { return };
    let header = *first.header();
    if header.has_no_records() && header.base_offset < from {
        reach::mark!("log.read_begins_inside_empty_frame");
        let rest = (header.end_offset().0 - from.0) as u32;
        *first = Frame::without_records(&FrameHeader { base_offset: from, ..header }, rest);
    }
}
