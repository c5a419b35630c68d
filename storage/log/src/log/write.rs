//! Appending: staging, rolling, room ahead, and one write at a time.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Frame, LogId, Now, Offset};

use super::{Goal, Log};
use crate::config::{CACHE_BYTES_MAX, ROOM_STEP_BEFORE_BYTES, WRITE_BYTES_MAX};
use crate::disk_op::{DiskErrorKind, DiskOp, DiskReply, DiskResult, SegmentId};
use crate::event::LogEvent;
use crate::fields::crc;
use crate::gather::Gather;
use crate::index::SegmentIndex;
use crate::ops::Purpose;
use crate::recent::Held;
use crate::room::{Room, mean_write_bytes};
use crate::segment::{FIRST_FRAME, Point, Segment, block_end, block_part, block_start, plain};
use crate::segment_header::{FirstBlock, SegmentHeader};
use crate::tail::{Tail, tail_of};

/// The write path's own state: everything about the segment of the log's durable end.
#[derive(Debug)]
pub(super) struct Writer {
    room: Room,
    /// The next segment's, made before it is needed.
    ahead: Option<Room>,
    tail: Tail,
    /// Index of the room's segment.
    pub(super) index: SegmentIndex,
    under_way: Option<Writing>,
    step_bytes: u64,
    /// See [`mean_write_bytes`].
    write_bytes: u64,
    /// Since when there is something staged that no write carries.
    held_since: Option<Duration>,
}

#[derive(Debug)]
struct Writing {
    end: Point,
    frame_count: usize,
    bytes: u64,
    asked_at: Duration,
    tail: Bytes,
}

impl Writer {
    pub(super) fn of_planned(segment: &Segment) -> Self {
        Self::new(Room::absent(segment.id), Bytes::new(), SegmentIndex::of_whole(segment))
    }

    pub(super) fn opened(segment: &Segment, file_bytes: u64, tail: Bytes, index: SegmentIndex) -> Self {
        let room = if segment.is_begun() {
            Room::found(segment.id, segment.generation, file_bytes)
        } else {
            Room::absent(segment.id)
        };
        Self::new(room, tail, index)
    }

    fn new(room: Room, tail: Bytes, index: SegmentIndex) -> Self {
        let step_bytes = ROOM_STEP_BEFORE_BYTES;
        let tail = Tail::Here(tail);
        Self { room, ahead: None, tail, index, under_way: None, step_bytes, write_bytes: 0, held_since: None }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.room.begun
    }

    pub(super) fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    /// An idle log's: the tail is read back when it is needed.
    pub(super) fn drop_memory(&mut self) {
        self.tail.drop_bytes();
        self.step_bytes = ROOM_STEP_BEFORE_BYTES;
        self.write_bytes = 0;
    }

    /// `None`: the writer has left the segment behind.
    fn room_of(&mut self, segment: SegmentId) -> Option<&mut Room> {
        if self.room.segment == segment {
            return Some(&mut self.room);
        }
        self.ahead.as_mut().filter(|ahead| ahead.segment == segment)
    }

    fn is_held_back(&self, now: Duration, delay: Option<Duration>) -> bool {
        match (delay, self.held_since) {
            (Some(delay), Some(since)) => now < since + delay,
            _ => false,
        }
    }
}

impl Log {
    pub(super) fn stage(&mut self, now: Now, frame: Frame) {
        let header = frame.header();
        assert_eq!(header.base_offset, self.staged.offset, "appends to log {} are contiguous", self.id);
        assert!(header.leader_epoch >= self.staged.epoch, "epochs never fall along log {}", self.id);
        let bytes = header.frame_bytes() as u64;
        let active = self.segments.back().expect("never empty");
        let is_full = active.end_position + bytes > self.config.segment_bytes.max(FIRST_FRAME);
        if !active.is_empty() && (is_full || self.is_aged(active, now)) {
            reach::mark!("log.rolled_by_age_at_append", !is_full);
            self.roll();
        }
        let active = self.segments.back_mut().expect("never empty");
        if active.is_empty() {
            reach::mark!("log.frame_fills_a_segment", FIRST_FRAME + bytes > self.config.segment_bytes);
            active.created = now.wall;
        }
        let point = self.staged;
        if point.offset == self.life.start {
            self.life.epoch = header.leader_epoch;
        }
        assert_eq!((active.id, active.end_position), (point.segment, point.position));
        self.staged = point.after(frame.header());
        active.end_position = self.staged.position;
        active.max_timestamp = self.staged.max_timestamp;
        self.recent.stage(Held { frame: plain(frame), segment: point.segment, position: point.position });
        self.writer.held_since.get_or_insert(now.mono);
        self.appended_at = now.mono;
    }

    /// What is staged from now on goes to a new segment.
    pub(super) fn roll(&mut self) {
        let active = self.segments.back().expect("never empty");
        assert!(!active.is_empty(), "an empty segment is not rolled");
        let (next, previous_end) = (active.next_id(), active.end_position);
        self.segments.push_back(Segment { previous_end, ..Segment::planned(next, self.staged.offset) });
        self.staged = self.staged.in_segment(next);
    }

    pub(super) fn is_aged(&self, segment: &Segment, now: Now) -> bool {
        let age_ms = now.wall.0.saturating_sub(segment.created.0);
        u128::try_from(age_ms).is_ok_and(|age_ms| age_ms >= self.config.segment_age_max.as_millis())
    }

    /// The boundary at `end`, if frames that are staged meet there.
    pub(super) fn point_at(&self, end: Offset) -> Option<Point> {
        let mut point = self.durable;
        for held in self.recent.staged() {
            if point.offset >= end {
                break;
            }
            if held.segment != point.segment {
                point = point.in_segment(held.segment);
            }
            point = point.after(held.frame.header());
        }
        (point.offset == end).then_some(point)
    }

    pub(super) fn poll_write(&mut self, now: Now) {
        self.seal_written();
        self.poll_room();
        if self.writer.is_writing() || !self.recent.has_staged() || !self.writer.room.is_made() {
            return;
        }
        let is_large = self.recent.staged_bytes() >= WRITE_BYTES_MAX;
        let may_wait = self.goal == Goal::Serve && !is_large;
        reach::mark!(
            "log.write_delay_cut_short",
            !may_wait && self.writer.is_held_back(now.mono, self.config.write_back_delay)
        );
        if may_wait && self.writer.is_held_back(now.mono, self.config.write_back_delay) {
            reach::mark!("log.write_held_back");
            return;
        }
        if let Tail::Away { .. } = self.writer.tail {
            reach::mark!("log.tail_read_back");
            return self.load_tail();
        }
        self.write(now);
    }

    /// Moves the writer on when all of its segment is durable and another one follows.
    fn seal_written(&mut self) {
        while let Some(nth) = self.segments.iter().rposition(|segment| segment.id == self.durable.segment) {
            let is_whole = self.segments[nth].end_position == self.durable.position;
            if !is_whole || nth + 1 == self.segments.len() || self.writer.is_writing() {
                return;
            }
            let next = &self.segments[nth + 1];
            self.durable = self.durable.in_segment(next.id);
            let ahead = self.writer.ahead.take();
            reach::mark!("log.segment_not_made_ahead", ahead.is_none());
            self.writer.room = ahead.unwrap_or_else(|| Room::absent(next.id));
            assert_eq!(self.writer.room.segment, next.id);
            self.writer.tail = Tail::empty();
            let sealed = std::mem::replace(&mut self.writer.index, SegmentIndex::of_whole(next));
            self.save_index(sealed);
            self.checkpoints.on_rolled();
        }
    }

    fn poll_room(&mut self) {
        // A log that only idles takes no more space than it has.
        if self.space.is_waiting() || !self.recent.has_staged() {
            return;
        }
        assert_eq!(self.writer.room.segment, self.durable.segment);
        let used = |id: SegmentId| self.segments.iter().rev().find(|s| s.id == id).map(|s| s.end_position);
        let cap = self.config.segment_bytes.max(FIRST_FRAME + 1);
        let here = used(self.durable.segment).expect("the writer's segment is live");
        let next = SegmentId(self.durable.segment.0 + 1);
        let next_used = used(next);
        let writer = &mut self.writer;
        let write_bytes = writer.write_bytes;
        if let Some((purpose, op)) = writer.room.poll(here, cap, &mut writer.step_bytes, write_bytes) {
            self.ops.ask(purpose, op);
        }
        let is_near = writer.room.begun && (here + writer.step_bytes >= cap || here >= cap / 4 * 3);
        let is_planned_with_frames = next_used.is_some_and(|used| used > FIRST_FRAME);
        if writer.ahead.is_none() && (is_near && self.goal == Goal::Serve || is_planned_with_frames) {
            writer.ahead = Some(Room::absent(next));
        }
        let step_bytes = &mut writer.step_bytes;
        let ahead = writer.ahead.as_mut();
        let next_used = next_used.unwrap_or(FIRST_FRAME);
        let asked = ahead.and_then(|ahead| ahead.poll(next_used, cap, step_bytes, write_bytes));
        if let Some((purpose, op)) = asked {
            self.ops.ask(purpose, op);
        }
    }

    fn load_tail(&mut self) {
        let segment = self.durable.segment;
        if self.ops.any(|purpose| purpose == Purpose::LoadTail(segment)) {
            return;
        }
        let position = block_start(self.durable.position);
        let bytes = block_part(self.durable.position);
        self.ops.ask(Purpose::LoadTail(segment), DiskOp::Read { segment, position, bytes });
    }

    pub(super) fn on_tail_loaded(&mut self, result: DiskResult) {
        match result {
            Ok(DiskReply::Bytes(read)) => {
                if !self.writer.tail.restore(&read) {
                    reach::mark!("log.tail_reads_back_differently");
                    // Writing it again as it is would make the damage look intended.
                    self.fail("the log's last block does not read back as it was written".to_owned());
                }
            }
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.tail_unreadable");
                self.fail(format!("reading the log's last block: {error}"));
            }
        }
    }

    fn write(&mut self, now: Now) {
        let room = &self.writer.room;
        let begins_segment = !room.begun;
        let position = if begins_segment { 0 } else { block_start(self.durable.position) };
        let first = if begins_segment { self.first_block() } else { self.tail_bytes() };
        let mut gather = Gather::starting_with(first, storage_frame::Salt(room.generation));
        let mut end = self.durable;
        for held in self.recent.staged() {
            if held.segment != end.segment {
                reach::mark!("log.write_ends_with_segment");
                break;
            }
            assert_eq!(held.position, end.position);
            let next = end.after(held.frame.header());
            let bytes = next.position - self.durable.position;
            if block_end(next.position) > room.end()
                || (gather.frame_count() > 0 && bytes > WRITE_BYTES_MAX as u64)
            {
                break;
            }
            gather.add(&held.frame);
            end = next;
        }
        let frame_count = gather.frame_count();
        if frame_count == 0 {
            reach::mark!("log.write_waits_for_room");
            return; // Room is on its way.
        }
        let parts = gather.into_parts();
        let bytes = end.position - self.durable.position;
        let tail = tail_of(&parts, end.position);
        self.writer.write_bytes = mean_write_bytes(self.writer.write_bytes, bytes);
        self.writer.under_way = Some(Writing { end, frame_count, bytes, asked_at: now.mono, tail });
        if frame_count == self.recent.staged().count() {
            self.writer.held_since = None;
        }
        self.checkpoints.on_write(bytes);
        let segment = end.segment;
        self.ops.ask(Purpose::Write(segment), DiskOp::Write { segment, position, parts });
    }

    fn tail_bytes(&self) -> Bytes {
        match &self.writer.tail {
            Tail::Here(bytes) => {
                assert_eq!(bytes.len(), block_part(self.durable.position));
                bytes.clone()
            }
            Tail::Away { .. } => unreachable!("the tail is loaded before a write"),
        }
    }

    fn first_block(&self) -> Bytes {
        let segment = self.segments.iter().find(|segment| segment.id == self.durable.segment);
        let segment = segment.expect("the writer's segment is live");
        SegmentHeader {
            log: self.id,
            segment: segment.id,
            generation: self.writer.room.generation,
            base_offset: segment.base,
            created: segment.created,
            previous_end: segment.previous_end,
            label: self.label.clone(),
            rewritten: None,
        }
        .encode()
    }

    pub(super) fn on_written(&mut self, now: Now, result: DiskResult) {
        let written = self.writer.under_way.take().expect("a write was under way");
        if let Err(error) = result {
            reach::mark!("log.write_failed");
            return self.fail(format!("write failed: {error}"));
        }
        let segment = written.end.segment;
        if !self.writer.room.begun {
            self.writer.room.begun = true;
            let begun = self.segments.iter_mut().find(|s| s.id == segment).expect("live while written");
            begun.generation = self.writer.room.generation;
        }
        for held in self.recent.make_durable(written.frame_count) {
            self.writer.index.note(held.position, held.frame.header());
        }
        assert!(written.end.offset > self.durable.offset && written.end.offset <= self.staged.offset);
        self.durable = written.end;
        self.writer.tail = Tail::Here(written.tail);
        let surplus = self.recent.bytes().saturating_sub(CACHE_BYTES_MAX);
        self.recent.drop_durable(surplus);
        if self.is_serving_or_closing() {
            self.checkpoints.on_durable(written.bytes, self.durable.offset);
        }
        self.events.push(LogEvent::Durable { disk: now.mono.saturating_sub(written.asked_at) });
    }

    pub(super) fn on_zeroed(&mut self, now: Now, segment: SegmentId, to: u64, result: DiskResult) {
        let mut step_bytes = self.writer.step_bytes;
        let room = self.writer.room_of(segment);
        match result {
            Ok(_) => {
                if let Some(room) = room {
                    room.on_zeroed(to);
                }
                self.space.on_granted();
            }
            Err(error) if error.kind == DiskErrorKind::NoSpace => {
                // The segment may have been left meanwhile: then the room is not missed.
                reach::mark!("log.zero_refused_of_left_segment", room.is_none());
                if let Some(room) = room {
                    reach::mark!("log.zero_refused");
                    room.on_zero_refused(&mut step_bytes);
                    self.writer.step_bytes = step_bytes;
                    self.refuse_space(now, &error.to_string());
                }
            }
            Err(error) => {
                reach::mark!("log.zero_failed");
                self.fail(format!("making room: {error}"));
            }
        }
    }

    pub(super) fn on_made(&mut self, now: Now, segment: SegmentId, result: DiskResult) {
        let room = self.writer.room_of(segment).expect("a segment is not left before it is made");
        match result {
            Ok(DiskReply::Made { file_bytes, first_block }) => {
                reach::mark!(
                    "log.spare_recycled",
                    matches!(SegmentHeader::decode(&first_block), FirstBlock::Header(_))
                );
                match generation_after(self.id, segment, now, file_bytes, &first_block) {
                    Ok(generation) => room.on_made(generation, file_bytes),
                    Err(why) => {
                        reach::mark!("log.spare_not_recycled");
                        let (purpose, op) = room.discard();
                        self.ops.ask(purpose, op);
                        self.note(format!("segment {}: spare file not recycled: {why}", segment.0));
                    }
                }
                self.space.on_granted();
            }
            Ok(other) => unreachable!("MakeSegment answered by {other:?}"),
            Err(error) if error.kind == DiskErrorKind::NoSpace => {
                reach::mark!("log.make_refused");
                room.on_make_refused();
                self.refuse_space(now, &error.to_string());
            }
            Err(error) => {
                reach::mark!("log.make_failed");
                self.fail(format!("making segment {}: {error}", segment.0));
            }
        }
    }

    pub(super) fn on_discarded(&mut self, segment: SegmentId, result: DiskResult) {
        let room = self.writer.room_of(segment).expect("a segment is not left before it is made");
        match result {
            Ok(_) => room.on_discarded(),
            Err(error) => self.fail(format!("removing an unusable spare: {error}")),
        }
    }

    pub(super) fn refuse_space(&mut self, now: Now, why: &str) {
        if !self.space.is_out() {
            self.note(format!("no space: {why}"));
        }
        self.space.on_refused(now.mono);
    }
}

/// The salt of a file's life that begins: one more than that of the life before.
pub(super) fn generation_after(
    log: LogId,
    segment: SegmentId,
    now: Now,
    file_bytes: u64,
    first_block: &[u8],
) -> Result<u32, String> {
    if file_bytes == 0 {
        return Ok(first_generation(log, segment, now));
    }
    match SegmentHeader::decode(first_block) {
        FirstBlock::Header(former) => Ok(former.generation.checked_add(1).unwrap_or(1)),
        FirstBlock::Zeros => Err("its header was never written".to_owned()),
        FirstBlock::Unreadable(why) => Err(why.to_string()),
    }
}

/// Of a new file. Hard to foresee, so that a payload cannot hold what would verify as a frame of ours.
fn first_generation(log: LogId, segment: SegmentId, now: Now) -> u32 {
    let mut seed = [0u8; 36];
    seed[..8].copy_from_slice(&log.0.to_le_bytes());
    seed[8..12].copy_from_slice(&segment.0.to_le_bytes());
    seed[12..20].copy_from_slice(&now.wall.0.to_le_bytes());
    seed[20..36].copy_from_slice(&now.mono.as_nanos().to_le_bytes());
    crc(&seed).max(1)
}
