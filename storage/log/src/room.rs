//! The space a segment's file offers the writer: `0..end` holds zeros or a former life, or is set aside and
//! reads as zeros, so a write there extends no file. It costs one flush, and where room was only set aside a
//! note of the file system's. `Zero` only ever touches what lies behind `end`, `Write` only what lies before it,
//! so the two may be under way together.

use crate::config::{BULK_WRITE_BYTES, ROOM_STEP_BEFORE_BYTES, ROOM_STEP_MAX_BYTES};
use crate::disk_op::{DiskOp, SegmentId};
use crate::ops::Purpose;
use crate::segment::block_end;

/// Of one write, in the mean of the last 16 or so: a single large one among small ones tells nothing.
pub(crate) fn mean_write_bytes(before: u64, write_bytes: u64) -> u64 {
    before / 16 * 15 + write_bytes / 16
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Absent,
    Making,
    Discarding,
    Made,
}

#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) segment: SegmentId,
    file: File,
    /// Salt of the frames to be written; 0 until the file is made.
    pub(crate) generation: u32,
    /// The header is on stable storage.
    pub(crate) begun: bool,
    end: u64,
    zeroing: bool,
}

impl Room {
    pub(crate) fn absent(segment: SegmentId) -> Self {
        Self { segment, file: File::Absent, generation: 0, begun: false, end: 0, zeroing: false }
    }

    /// Of a segment that was begun in an earlier life of the process.
    pub(crate) fn found(segment: SegmentId, generation: u32, file_bytes: u64) -> Self {
        assert!(generation != 0);
        let end = file_bytes - file_bytes % crate::disk_op::BLOCK_BYTES as u64;
        Self { segment, file: File::Made, generation, begun: true, end, zeroing: false }
    }

    pub(crate) fn is_made(&self) -> bool {
        self.file == File::Made
    }

    /// Writes that end here or before may be made.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// What to ask the disk so that `used` bytes fit and the writer does not catch up; `cap` is where the
    /// segment ends at the latest. `step_bytes` is how far it went ahead the last time, twice as far the next;
    /// `write_bytes` what one write carries at present.
    pub(crate) fn poll(
        &mut self,
        used: u64,
        cap: u64,
        step_bytes: &mut u64,
        write_bytes: u64,
    ) -> Option<(Purpose, DiskOp)> {
        let segment = self.segment;
        match self.file {
            File::Absent => {
                self.file = File::Making;
                Some((Purpose::Make(segment), DiskOp::MakeSegment { segment }))
            }
            File::Making | File::Discarding => None,
            File::Made if self.zeroing => None,
            File::Made => {
                let used = block_end(used);
                let cap = block_end(cap).max(used);
                let enough = (used + *step_bytes / 2).min(cap);
                if self.end >= enough {
                    return None;
                }
                *step_bytes = (*step_bytes * 2).min(ROOM_STEP_MAX_BYTES);
                let to = block_end((self.end.max(used) + *step_bytes).min(cap));
                self.zeroing = true;
                let bulk = write_bytes >= BULK_WRITE_BYTES;
                reach::mark!("log.room_for_large_writes", bulk);
                Some((Purpose::Zero { segment, to }, DiskOp::Zero { segment, from: self.end, to, bulk }))
            }
        }
    }

    pub(crate) fn on_made(&mut self, generation: u32, file_bytes: u64) {
        assert_eq!(self.file, File::Making);
        assert!(generation != 0);
        self.file = File::Made;
        self.generation = generation;
        self.end = file_bytes - file_bytes % crate::disk_op::BLOCK_BYTES as u64;
    }

    /// The file made is a spare that cannot be told from what is to come: it must go.
    pub(crate) fn discard(&mut self) -> (Purpose, DiskOp) {
        assert_eq!(self.file, File::Making);
        self.file = File::Discarding;
        let name = crate::disk_op::FileName::Segment(self.segment);
        (Purpose::Discard(self.segment), DiskOp::RemoveFile { name })
    }

    pub(crate) fn on_discarded(&mut self) {
        assert_eq!(self.file, File::Discarding);
        self.file = File::Absent;
    }

    pub(crate) fn on_make_refused(&mut self) {
        assert_eq!(self.file, File::Making);
        self.file = File::Absent;
    }

    pub(crate) fn on_zeroed(&mut self, to: u64) {
        assert!(self.zeroing && to > self.end);
        self.zeroing = false;
        self.end = to;
    }

    /// Little space is left: ask for little.
    pub(crate) fn on_zero_refused(&mut self, step_bytes: &mut u64) {
        assert!(self.zeroing);
        self.zeroing = false;
        *step_bytes = ROOM_STEP_BEFORE_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zero(room: &mut Room, used: u64, cap: u64, step: &mut u64) -> Option<(u64, u64)> {
        let op = room.poll(used, cap, step, 0)?.1;
        let DiskOp::Zero { from, to, .. } = op else { panic!("{op:?}") };
        Some((from, to))
    }

    #[test]
    fn room_grows_with_use_and_stays_inside_the_segment() {
        let mut step = ROOM_STEP_BEFORE_BYTES;
        let mut room = Room::absent(SegmentId(1));
        let made = room.poll(0, 1 << 20, &mut step, 0).unwrap().1;
        assert_eq!(made, DiskOp::MakeSegment { segment: SegmentId(1) });
        assert!(room.poll(0, 1 << 20, &mut step, 0).is_none());
        room.on_made(1, 0);
        let mut zeroed = Vec::new();
        let mut used = 4096 + 100;
        while used < 1 << 20 {
            if let Some((from, to)) = zero(&mut room, used, 1 << 20, &mut step) {
                assert_eq!(from, room.end());
                assert!(zero(&mut room, used, 1 << 20, &mut step).is_none(), "one at a time");
                room.on_zeroed(to);
                zeroed.push(to >> 10);
            }
            assert!(room.end() >= used, "room is there before it is used");
            used += 16 << 10;
        }
        assert_eq!(zeroed, [72, 200, 456, 968, 1024]);
    }

    #[test]
    fn room_for_large_writes_is_set_aside() {
        let mut step = ROOM_STEP_BEFORE_BYTES;
        let mut room = Room::absent(SegmentId(1));
        room.poll(0, 1 << 20, &mut step, 0);
        room.on_made(1, 0);
        for (used, write_bytes, put_off) in
            [(4096, BULK_WRITE_BYTES - 1, false), (65536, BULK_WRITE_BYTES, true)]
        {
            let (_, asked) = room.poll(used, 1 << 20, &mut step, write_bytes).unwrap();
            let DiskOp::Zero { to, bulk, .. } = asked else { panic!("{asked:?}") };
            assert_eq!(bulk, put_off);
            room.on_zeroed(to);
        }
    }

    #[test]
    fn one_large_write_among_small_ones_changes_nothing() {
        let after = |writes: &[u64]| writes.iter().fold(0, |mean, bytes| mean_write_bytes(mean, *bytes));
        assert!(after(&[4096, 4096, 1 << 20, 4096]) < BULK_WRITE_BYTES);
        assert!(after(&[256 << 10; 12]) >= BULK_WRITE_BYTES);
    }

    #[test]
    fn one_large_frame_gets_what_it_needs() {
        let mut step = ROOM_STEP_BEFORE_BYTES;
        let mut room = Room::absent(SegmentId(1));
        room.poll(0, 1 << 16, &mut step, 0);
        room.on_made(1, 0);
        let (from, to) = zero(&mut room, 1 << 20, 1 << 16, &mut step).unwrap();
        assert_eq!((from, to), (0, 1 << 20));
    }

    #[test]
    fn recycled_file_needs_no_zeros() {
        let mut step = ROOM_STEP_BEFORE_BYTES;
        let mut room = Room::absent(SegmentId(1));
        room.poll(0, 1 << 20, &mut step, 0);
        room.on_made(2, 1 << 20);
        assert!(room.poll(1 << 19, 1 << 20, &mut step, 0).is_none());
    }
}
