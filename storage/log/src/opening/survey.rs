//! Which segments the log consists of, from the checkpoint's list, the files there are, and their headers.

use storage_frame::Offset;

use super::{Next, Opening};
use crate::disk_op::{FileName, SegmentId};
use crate::segment::{Point, Segment, block_end};
use crate::segment_header::{FirstBlock, SegmentHeader};

impl Opening {
    /// Every begun segment of the checkpoint must have its file, and as much of it as was durable.
    pub(super) fn check_listed_files(&mut self) {
        let Some(checkpoint) = &self.checkpoint else { return };
        let first = checkpoint.segments[0].id;
        // Retired by the checkpoint, and the process ended before the files were gone.
        reach::mark!("log.retired_segment_left_over", self.files.range(..first).next().is_some());
        self.remove.extend(self.files.range(..first).map(|(id, _)| FileName::Segment(*id)));
        for (nth, segment) in checkpoint.segments.iter().enumerate() {
            if !segment.is_begun() {
                continue;
            }
            let why = match self.files.get(&segment.id) {
                None => "its file is gone".to_owned(),
                Some(bytes) if *bytes < block_end(segment.end_position) => {
                    format!("its file has {bytes} bytes, {} were written", segment.end_position)
                }
                Some(_) => continue,
            };
            reach::mark!("log.segment_file_gone", !self.files.contains_key(&segment.id));
            reach::mark!("log.segment_file_short", self.files.contains_key(&segment.id));
            let (id, base) = (segment.id, segment.base);
            self.damaged_behind = Some(format!("segment {}: {why}", id.0));
            self.cut_segments(nth, id, base);
            return;
        }
    }

    /// Keeps the first `count` segments; what follows is damaged, and stands for an end at `base`.
    fn cut_segments(&mut self, count: usize, id: SegmentId, base: Offset) {
        self.segments.truncate(count);
        self.known_ends.truncate(count);
        self.push(Segment::planned(id, base), None);
    }

    fn push(&mut self, segment: Segment, known_end: Option<u64>) {
        self.segments.push(segment);
        self.known_ends.push(known_end);
    }

    /// `found`: the first blocks of all files behind the last segment known to be begun, oldest first.
    pub(super) fn on_surveyed(&mut self, found: Vec<(SegmentId, FirstBlock)>) -> Next {
        if self.damaged_behind.is_none() {
            self.link(found);
        }
        if self.segments.is_empty() {
            self.push(Segment::planned(SegmentId(1), Offset::ZERO), None);
            if self.is_checkpoint_damaged && self.damaged_behind.is_none() {
                reach::mark!("log.nothing_tells_the_end");
                // All that was written may have been retired: begun at 0, offsets would mean something else.
                let why = "no checkpoint can be read, and no segment tells where the log ends";
                self.damaged_behind = Some(why.to_owned());
            }
        }
        self.begin_scan()
    }

    fn link(&mut self, found: Vec<(SegmentId, FirstBlock)>) {
        let begun_count =
            found.iter().rposition(|(id, block)| self.is_ours(*id, block)).map_or(0, |last| last + 1);
        for (nth, (id, block)) in found.into_iter().enumerate() {
            match block {
                FirstBlock::Header(header) if nth < begun_count && self.is_ours_header(id, &header) => {
                    if !self.link_one(id, &header) {
                        return;
                    }
                }
                // A write of the next segment had begun, so this one's header had been durable.
                _ if nth < begun_count => {
                    reach::mark!("log.segment_header_gone");
                    return self.end_in_damage(id, "its header is gone, a later segment was begun");
                }
                // The header is one sector: never half written. Not zeros, not a former life: damaged.
                FirstBlock::Unreadable(why) => {
                    reach::mark!("log.segment_header_damaged");
                    return self.end_in_damage(id, &format!("its header does not verify: {why}"));
                }
                // Made ahead of the writer and not begun. It may hold torn frames of the salt that would be
                // next, so it is not recycled.
                FirstBlock::Zeros | FirstBlock::Header(_) => {
                    reach::mark!("log.unbegun_zeros_removed", block == FirstBlock::Zeros);
                    reach::mark!("log.unbegun_spare_removed", block != FirstBlock::Zeros);
                    self.remove.push(FileName::Segment(id));
                }
            }
        }
    }

    pub(super) fn is_ours(&self, id: SegmentId, block: &FirstBlock) -> bool {
        matches!(block, FirstBlock::Header(header) if self.is_ours_header(id, header))
    }

    fn is_ours_header(&self, id: SegmentId, header: &SegmentHeader) -> bool {
        header.log == self.log && header.segment == id
    }

    /// Appends the segment `header` describes; false when that ends in damage.
    fn link_one(&mut self, id: SegmentId, header: &SegmentHeader) -> bool {
        let begun = Segment {
            generation: header.generation,
            created: header.created,
            previous_end: header.previous_end,
            ..Segment::planned(id, header.base_offset)
        };
        if self.segments.last().is_some_and(|last| !last.is_begun() && last.id == id) {
            let planned = self.segments.pop().expect("just looked at");
            self.known_ends.pop();
            if planned.base != header.base_offset {
                self.push(planned, None);
                reach::mark!("log.segment_begins_elsewhere");
                self.damaged_behind = Some(format!("segment {}: begins at the wrong offset", id.0));
                return false;
            }
        }
        if let Some(last) = self.segments.last() {
            let known = *self.known_ends.last().expect("one for each segment");
            if last.next_id() != id || header.base_offset <= last.base {
                reach::mark!("log.segment_missing");
                self.end_in_damage(id, "the segment before it is gone");
                return false;
            }
            if known.is_some_and(|known| known != header.previous_end) {
                reach::mark!("log.segment_ends_elsewhere");
                self.end_in_damage(id, "the segment before it ends elsewhere");
                return false;
            }
            let nth = self.segments.len() - 1;
            self.known_ends[nth] = Some(header.previous_end);
            self.segments[nth].end_position = header.previous_end;
        } else if self.checkpoint.is_none() && header.previous_end != 0 {
            reach::mark!("log.begins_without_reason");
            self.notes.push(format!("log begins with segment {}, no checkpoint tells why", id.0));
        }
        self.push(begun, None);
        true
    }

    fn end_in_damage(&mut self, id: SegmentId, why: &str) {
        self.damaged_behind = Some(format!("segment {}: {why}", id.0));
        if self.segments.is_empty() {
            self.push(Segment::planned(id, Offset::ZERO), None);
        }
    }

    /// Where scanning begins.
    pub(super) fn scan_start(&self) -> (usize, Point) {
        let first = self.segments[0].first_point(Self::first_epoch());
        let Some(checkpoint) = &self.checkpoint else { return (0, first) };
        let scan = checkpoint.scan;
        if checkpoint.app_state.is_none() || scan.segment < first.segment {
            reach::mark!("log.state_of_retired_segment", scan.segment < first.segment);
            // No state, so its owner wants every header; or the segment the state was of has been retired.
            return (0, first);
        }
        match self.segments.iter().position(|segment| segment.id == scan.segment) {
            Some(nth) if self.segments[nth].is_begun() || scan.position == first.position => (nth, scan),
            // Cut off as damaged: nothing is left to scan.
            _ => {
                reach::mark!("log.scan_begins_in_damage");
                let nth = self.segments.len() - 1;
                (nth, self.segments[nth].first_point(Self::first_epoch()))
            }
        }
    }
}
