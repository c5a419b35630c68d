//! Which segments the log consists of, from the checkpoint's list, the files there are, and their headers.

use storage_frame::Offset;

use super::{Next, Opening};
use crate::disk_op::{FileName, SegmentId};
use crate::segment::{Point, Segment, block_end};
use crate::segment_header::{FirstBlock, SegmentHeader};

/// First blocks by the files they stand in.
pub(super) type Found = Vec<(SegmentId, FirstBlock)>;

impl Opening {
    /// Every begun segment of the checkpoint must have its file, and as much of it as was durable.
    pub(super) fn check_listed_files(&mut self) {
        let Some(checkpoint) = &self.checkpoint else { return };
        let last = checkpoint.segments.last().expect("a checkpoint lists a segment").id;
        // Retired by the checkpoint or replaced, and the process ended before the files were gone; or compaction had
        // not come to the checkpoint that would name its file.
        let is_listed = |id: &SegmentId| checkpoint.segments.iter().any(|segment| segment.id == *id);
        let is_left_over = |id: &SegmentId| (*id < last || id.is_rewritten()) && !is_listed(id);
        let left_over: Vec<SegmentId> = self.files.keys().copied().filter(is_left_over).collect();
        reach::mark!("log.retired_segment_left_over", left_over.iter().any(|id| !id.is_rewritten()));
        reach::mark!("log.rewritten_segment_left_over", left_over.iter().any(|id| id.is_rewritten()));
        self.remove.extend(left_over.into_iter().map(FileName::Segment));
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
    pub(super) fn on_surveyed(&mut self, found: Found) -> Next {
        if self.damaged_behind.is_none() {
            let (found, unreadable) = self.without_replaced(found);
            self.link(found);
            self.plan_behind_rewritten();
            if self.damaged_behind.is_none() {
                self.damaged_behind = unreadable;
            }
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

    fn link(&mut self, found: Found) {
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

    /// Without a checkpoint a rewritten segment tells by its header that all of it is there, and takes the place of
    /// those it was written for: where two of them would, that of the later one. With one, none are found here.
    ///
    /// What is left, in the order of the log; and why it cannot be known, when one of them is not readable.
    fn without_replaced(&mut self, found: Found) -> (Found, Option<String>) {
        let (mut rewritten, mut numbered): (Found, Found) =
            found.into_iter().partition(|(id, _)| id.is_rewritten());
        let mut unreadable = None;
        let mut taken: Vec<(SegmentId, SegmentId)> = Vec::new();
        rewritten.reverse();
        rewritten.retain(|(id, block)| {
            let FirstBlock::Header(header) = block else {
                if let FirstBlock::Unreadable(why) = block {
                    reach::mark!("log.rewritten_header_damaged");
                    unreadable = Some(format!("segment {}: its header does not verify: {why}", id.0));
                } else {
                    self.remove.push(FileName::Segment(*id));
                }
                return false;
            };
            let place = header.rewritten.as_ref().filter(|_| self.is_ours_header(*id, header));
            let place = place.map(|of| (of.first, of.last));
            let is_wanted = |(first, last): &(SegmentId, SegmentId)| {
                taken.iter().all(|(from, to)| last < from || to < first)
            };
            let Some(place) = place.filter(is_wanted) else {
                self.remove.push(FileName::Segment(*id));
                return false;
            };
            taken.push(place);
            true
        });
        numbered.retain(|(id, _)| {
            let is_replaced = taken.iter().any(|(first, last)| (first..=last).contains(&id));
            reach::mark!("log.replaced_without_checkpoint", is_replaced);
            if is_replaced {
                self.remove.push(FileName::Segment(*id));
            }
            !is_replaced
        });
        let number = |(id, block): &(SegmentId, FirstBlock)| match block {
            FirstBlock::Header(SegmentHeader { rewritten: Some(of), .. }) if id.is_rewritten() => of.first,
            FirstBlock::Header(_) | FirstBlock::Zeros | FirstBlock::Unreadable(_) => *id,
        };
        numbered.extend(rewritten);
        numbered.sort_by_key(number);
        (numbered, unreadable)
    }

    /// Nothing is appended to what compaction wrote.
    fn plan_behind_rewritten(&mut self) {
        let Some(last) = self.segments.last().filter(|last| last.stands_for.is_some()) else { return };
        let planned = Segment {
            previous_end: last.end_position,
            ..Segment::planned(last.next_id(), self.rewritten_end)
        };
        self.push(planned, None);
    }

    pub(super) fn is_ours(&self, id: SegmentId, block: &FirstBlock) -> bool {
        matches!(block, FirstBlock::Header(header) if self.is_ours_header(id, header))
    }

    fn is_ours_header(&self, id: SegmentId, header: &SegmentHeader) -> bool {
        header.log == self.log && header.segment == id
    }

    /// Appends the segment `header` describes; false when that ends in damage.
    fn link_one(&mut self, id: SegmentId, header: &SegmentHeader) -> bool {
        let rewritten = header.rewritten.as_ref();
        let mut begun = Segment {
            generation: header.generation,
            created: header.created,
            previous_end: header.previous_end,
            stands_for: rewritten.map(|of| (of.first, of.last)),
            tombstones_at: rewritten.and_then(|of| of.tombstones_at),
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
            let follows = last.last_number().0.checked_add(1) == Some(begun.first_number().0);
            if !follows || header.base_offset <= last.base {
                reach::mark!("log.segment_missing");
                self.end_in_damage(id, "the segment before it is gone");
                return false;
            }
            // Of one that compaction wrote the header tells itself: this one's speaks of that in whose place it stands.
            let is_rewritten = last.stands_for.is_some();
            if !is_rewritten && known.is_some_and(|known| known != header.previous_end) {
                reach::mark!("log.segment_ends_elsewhere");
                self.end_in_damage(id, "the segment before it ends elsewhere");
                return false;
            }
            if !is_rewritten {
                let nth = self.segments.len() - 1;
                self.known_ends[nth] = Some(header.previous_end);
                self.segments[nth].end_position = header.previous_end;
            }
        } else if self.checkpoint.is_none() && header.previous_end != 0 {
            reach::mark!("log.begins_without_reason");
            self.notes.push(format!("log begins with segment {}, no checkpoint tells why", id.0));
        }
        if let Some(of) = rewritten {
            begun.end_position = of.end_position;
            begun.max_timestamp = of.max_timestamp;
            self.rewritten_end = of.end_offset;
        }
        self.push(begun, rewritten.map(|of| of.end_position));
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
        let is_retired = scan.segment < self.segments[0].first_number();
        if checkpoint.app_state.is_none() || is_retired {
            reach::mark!("log.state_of_retired_segment", is_retired);
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
