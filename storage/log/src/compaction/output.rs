//! The segment that compaction writes: its frames in order, the header last.

use bytes::{Bytes, BytesMut};
use storage_frame::{Frame, FrameHeader, LogId, Offset, Salt};

use super::WRITE_BYTES;
use crate::disk_op::{BLOCK_BYTES, DiskOp, SegmentId};
use crate::index::SegmentIndex;
use crate::ops::Purpose;
use crate::room::Room;
use crate::segment::{FIRST_FRAME, Segment, block_end};
use crate::segment_header::{Rewritten, SegmentHeader};

/// A frame without records stands for no more offsets: Kafka's clients count them in 31 bits.
const EMPTY_OFFSETS_MAX: u32 = i32::MAX as u32;

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) room: Room,
    /// What it will be in the log; its end grows.
    segment: Segment,
    index: SegmentIndex,
    end_offset: Offset,
    /// Frames behind `written`, not on disk yet.
    buffer: BytesMut,
    /// A block's start.
    written: u64,
    under_way: Option<u64>,
    /// Frames without records that have not been put down, as one.
    empty: Option<FrameHeader>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Frames,
    /// All frames are here.
    Rest,
    Header,
    Whole,
}

impl Output {
    /// In the place of `inputs`, which follow each other.
    pub(crate) fn new(id: SegmentId, inputs: &[Segment]) -> Self {
        let (first, last) = (inputs.first().expect("at least one"), inputs.last().expect("at least one"));
        let segment = Segment {
            previous_end: first.previous_end,
            created: first.created,
            stands_for: Some((first.first_number(), last.last_number())),
            ..Segment::planned(id, first.base)
        };
        Self {
            room: Room::absent(id),
            index: SegmentIndex::of_whole(&segment),
            end_offset: first.base,
            segment,
            buffer: BytesMut::new(),
            written: FIRST_FRAME,
            under_way: None,
            empty: None,
            stage: Stage::Frames,
        }
    }

    /// Whether all of `following` fits too, even if nothing can be taken out of it.
    pub(crate) fn has_room_for(&self, following: &Segment, segment_bytes: u64) -> bool {
        self.segment.end_position + (following.end_position - FIRST_FRAME) <= segment_bytes
    }

    /// In the place of that one too, which follows.
    pub(crate) fn extend(&mut self, following: &Segment) {
        let (first, last) = self.segment.stands_for.expect("it does");
        assert_eq!(last.0 + 1, following.first_number().0);
        self.segment.stands_for = Some((first, following.last_number()));
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.segment.id
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.empty.map_or(self.end_offset, |empty| empty.end_offset())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next frame; whether it joined one before.
    pub(crate) fn put(&mut self, frame: &Frame) -> bool {
        assert_eq!(self.stage, Stage::Frames);
        let header = frame.header();
        assert_eq!(header.base_offset, self.end_offset(), "frames follow each other");
        if !header.has_no_records() {
            self.put_empty();
            self.put_down(frame);
            return false;
        }
        if let Some(before) = &mut self.empty
            && before.leader_epoch == header.leader_epoch
            && let Some(count) = before.record_count.checked_add(header.record_count)
            && count <= EMPTY_OFFSETS_MAX
        {
            before.record_count = count;
            return true;
        }
        self.put_empty();
        self.empty = Some(*header);
        false
    }

    fn put_empty(&mut self) {
        if let Some(empty) = self.empty.take() {
            self.put_down(&Frame::without_records(&empty, empty.record_count));
        }
    }

    fn put_down(&mut self, frame: &Frame) {
        let header = frame.header();
        let tombstones_at = header.compaction.and_then(|compaction| compaction.tombstones_at);
        let segment = &mut self.segment;
        self.index.note(segment.end_position, header);
        segment.end_position += header.frame_bytes() as u64;
        segment.max_timestamp = segment.max_timestamp.max(header.max_timestamp);
        segment.tombstones_at = segment.tombstones_at.into_iter().chain(tombstones_at).min();
        self.end_offset = header.end_offset();
        frame.write_to(Salt(self.room.generation), &mut self.buffer);
    }

    /// No frame follows.
    pub(crate) fn end(&mut self) {
        self.put_empty();
        self.stage = Stage::Rest;
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.stage == Stage::Whole
    }

    /// Enough has gathered, or all of it is here: no more frames before the next operation.
    pub(crate) fn is_full(&self) -> bool {
        self.stage != Stage::Frames || self.buffer.len() >= WRITE_BYTES
    }

    /// What to ask next; `None`: more frames.
    pub(crate) fn poll(&mut self, log: LogId, label: &str) -> Option<(Purpose, DiskOp)> {
        if self.stage == Stage::Header {
            let header = self.header(log, label).encode();
            return Some(self.write(0, header));
        }
        if !self.is_full() && self.room.is_made() {
            return None;
        }
        let whole = match self.stage {
            Stage::Frames => self.buffer.len() - self.buffer.len() % BLOCK_BYTES,
            Stage::Rest | Stage::Header | Stage::Whole => self.buffer.len(),
        };
        let end = block_end(self.written + whole as u64);
        let mut step_bytes = BLOCK_BYTES as u64;
        if let Some(asked) = self.room.poll(end, end, &mut step_bytes, whole as u64) {
            return Some(match asked {
                (Purpose::Make(id), op) => (Purpose::CompactMake(id), op),
                (Purpose::Zero { segment, to }, op) => (Purpose::CompactZero { segment, to }, op),
                other => unreachable!("room is made or zeroed: {other:?}"),
            });
        }
        if self.buffer.is_empty() {
            self.stage = Stage::Header;
            return self.poll(log, label);
        }
        let bytes = self.buffer.split_to(whole).freeze();
        self.under_way = Some(end);
        let position = self.written;
        Some(self.write(position, bytes))
    }

    fn write(&self, position: u64, bytes: Bytes) -> (Purpose, DiskOp) {
        let segment = self.id();
        (Purpose::CompactWrite(segment), DiskOp::Write { segment, position, parts: vec![bytes] })
    }

    pub(crate) fn on_written(&mut self) {
        match self.under_way.take() {
            Some(end) => self.written = end,
            None => {
                assert_eq!(self.stage, Stage::Header);
                self.stage = Stage::Whole;
            }
        }
    }

    /// Written when all the frames are on stable storage: who finds it finds them.
    fn header(&self, log: LogId, label: &str) -> SegmentHeader {
        let segment = &self.segment;
        let (first, last) = segment.stands_for.expect("it does");
        SegmentHeader {
            log,
            segment: segment.id,
            generation: self.room.generation,
            base_offset: segment.base,
            created: segment.created,
            previous_end: segment.previous_end,
            label: label.to_owned(),
            rewritten: Some(Rewritten {
                first,
                last,
                end_position: segment.end_position,
                end_offset: self.end_offset,
                max_timestamp: segment.max_timestamp,
                tombstones_at: segment.tombstones_at,
            }),
        }
    }

    /// As the log lists it, and where its frames are.
    pub(crate) fn into_segment(self) -> (Segment, SegmentIndex) {
        assert!(self.is_whole());
        (Segment { generation: self.room.generation, ..self.segment }, self.index)
    }
}
