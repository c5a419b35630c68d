//! One log's files checked against each other, a segment at a time.

use bytes::Bytes;
use storage_frame::{LogId, Offset};

use super::{CheckpointInfo, SegmentError, SegmentInfo, SegmentWalk, Stop};
use crate::disk_op::{FileName, SegmentId};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it may be, worth knowing: a torn tail that opening will cut, a file that waits to be removed.
    Note,
    /// Costs time when opening or reading, not data: an index or a checkpoint that does not verify.
    Repairable,
    /// Acknowledged data is not there or does not verify.
    Damage,
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub file: FileName,
    /// In the file.
    pub position: Option<u64>,
    /// The first offset concerned.
    pub offset: Option<Offset>,
    pub what: String,
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// "topic/partition", from the headers.
    pub label: String,
    pub start: Offset,
    /// Behind the last frame that verified in order.
    pub end: Offset,
    pub segment_count: u64,
    pub frame_count: u64,
    pub record_count: u64,
    /// Of frames, headers included.
    pub frame_bytes: u64,
    pub closed_in_order: bool,
}

/// A begun segment, looked at by itself.
#[derive(Debug)]
struct Seen {
    info: SegmentInfo,
    /// Where its frames end, and at which offset.
    position: u64,
    end: Offset,
    frame_count: u64,
    record_count: u64,
    frame_bytes: u64,
    damage: Option<Finding>,
    /// Its frames end at one that does not verify.
    torn: Option<Finding>,
}

/// Told a log's files in this order: [`checkpoint`](Self::checkpoint) (once, if there is one), then each
/// segment by rising number with its index behind it; then [`finish`](Self::finish).
#[derive(Debug)]
pub struct LogCheck {
    log: LogId,
    checkpoint: Option<CheckpointInfo>,
    begun: Vec<Seen>,
    /// A damage is behind: later segments are looked at by themselves.
    is_broken: bool,
    /// Frame boundaries of the segment told last, for its index.
    boundaries: Vec<(Offset, u64)>,
    seen: Vec<SegmentId>,
    findings: Vec<Finding>,
    summary: Summary,
}

impl LogCheck {
    #[must_use]
    pub fn new(log: LogId) -> Self {
        Self {
            log,
            checkpoint: None,
            begun: Vec::new(),
            is_broken: false,
            boundaries: Vec::new(),
            seen: Vec::new(),
            findings: Vec::new(),
            summary: Summary::default(),
        }
    }

    pub fn checkpoint(&mut self, file: &Bytes) {
        match super::checkpoint(file) {
            Ok(found) if found.log != self.log => {
                let what = format!("belongs to log {}", found.log);
                self.find(Severity::Repairable, FileName::Checkpoint, None, None, what);
            }
            Ok(found) => {
                self.summary.start = found.start;
                self.summary.closed_in_order = found.closed_in_order;
                self.checkpoint = Some(found);
            }
            Err(why) => self.find(Severity::Repairable, FileName::Checkpoint, None, None, why),
        }
    }

    /// `file`: all bytes of `<segment>.seg`.
    ///
    /// # Panics
    /// When segments are not told by rising number.
    pub fn segment(&mut self, segment: SegmentId, file: Bytes) {
        assert!(self.seen.last().is_none_or(|last| *last < segment), "segments are told by rising number");
        self.seen.push(segment);
        self.boundaries.clear();
        let name = FileName::Segment(segment);
        let listed = self.listed_end(segment);
        if self.checkpoint.as_ref().is_some_and(|checkpoint| is_left_over(checkpoint, segment)) {
            let what = "retired or replaced, removed at the next start".to_owned();
            return self.find(Severity::Note, name, None, None, what);
        }
        match SegmentWalk::open(file) {
            Ok(walk) if (walk.info().log, walk.info().segment) == (self.log, segment) => {
                let seen = self.begun_segment(walk, listed);
                self.begun.push(seen);
            }
            // Made ahead of the writer, fresh or recycled from another life, and not begun.
            Ok(_) | Err(SegmentError::NeverWritten) if listed.is_none() => {}
            Ok(walk) => self.damage(name, Some(0), None, format!("header names log {}", walk.info().log)),
            Err(why) => self.damage(name, Some(0), None, why.to_string()),
        }
    }

    /// Where the checkpoint says the segment's frames ended, if it was begun then.
    fn listed_end(&self, segment: SegmentId) -> Option<u64> {
        let listed = &self.checkpoint.as_ref()?.segments;
        listed.iter().find(|s| s.segment == segment && s.generation != 0).map(|s| s.end_position)
    }

    fn begun_segment(&mut self, mut walk: SegmentWalk, listed_end: Option<u64>) -> Seen {
        let info = walk.info().clone();
        let name = FileName::Segment(info.segment);
        let (mut frame_count, mut record_count, mut frame_bytes) = (0, 0, 0);
        for at in walk.by_ref() {
            let header = at.frame.header();
            frame_count += 1;
            // Of a frame with holes: as many as there were.
            record_count += if header.has_no_records() { 0 } else { u64::from(header.record_count) };
            frame_bytes += header.frame_bytes() as u64;
            self.boundaries.push((header.base_offset, at.position));
        }
        let (position, end) = (walk.position(), walk.next_offset());
        let why = match walk.stop() {
            Some(Stop::Bad(why)) => why.clone(),
            Some(Stop::End) | None => "frames end".to_owned(),
        };
        let find = |severity, what| Finding {
            severity,
            file: name,
            position: Some(position),
            offset: Some(end),
            what,
        };
        let known_end = listed_end.or(info.end_position);
        let damage = if let Some(known) = known_end.filter(|known| position < *known) {
            let who = if listed_end.is_some() { "checkpoint" } else { "header" };
            Some(find(Severity::Damage, format!("{why}; the {who} says frames reach to {known}")))
        } else {
            walk.later_write().map(|(later, offset)| {
                find(Severity::Damage, format!("{why}; a later write begins at {later}, offset {offset}"))
            })
        };
        let what = format!("{why}: torn and never acknowledged, cut off at the next start");
        let torn = walk.is_torn().then(|| find(Severity::Note, what));
        Seen { info, position, end, frame_count, record_count, frame_bytes, damage, torn }
    }

    /// In the order of the log, without those that others stand in the place of.
    fn sum_up(&mut self) -> Option<Seen> {
        let mut begun = std::mem::take(&mut self.begun);
        begun.sort_by_key(|seen| (seen.info.first_number(), std::cmp::Reverse(seen.info.segment)));
        let mut last: Option<Seen> = None;
        for seen in begun {
            let name = FileName::Segment(seen.info.segment);
            if last.as_ref().is_some_and(|last| seen.info.last_number() <= last.info.last_number()) {
                let what = "compacted, removed at the next start".to_owned();
                self.find(Severity::Note, name, None, None, what);
                continue;
            }
            self.link(last.as_ref(), &seen.info);
            self.summary.segment_count += 1;
            self.summary.label.clone_from(&seen.info.label);
            self.summary.frame_count += seen.frame_count;
            self.summary.record_count += seen.record_count;
            self.summary.frame_bytes += seen.frame_bytes;
            if !self.is_broken {
                self.summary.end = seen.end;
            }
            self.is_broken |= seen.damage.is_some();
            self.findings.extend(seen.damage.clone());
            last = Some(seen);
        }
        last
    }

    /// What the header says of the segment before it must be true of it.
    fn link(&mut self, before: Option<&Seen>, info: &SegmentInfo) {
        let name = FileName::Segment(info.segment);
        let Some(Seen { info: before, position, end, .. }) = before else {
            if self.checkpoint.is_none() {
                self.summary.start = info.base_offset;
            }
            return;
        };
        let before_name = FileName::Segment(before.segment);
        if before.last_number().0.checked_add(1) != Some(info.first_number().0) {
            self.damage(name, None, Some(*end), "the segment before it is missing".to_owned());
        } else if before.stands_for.is_none() && *position != info.previous_end {
            let what = format!("frames end, the next segment says they reach to {}", info.previous_end);
            self.damage(before_name, Some(*position), Some(*end), what);
        } else if *end != info.base_offset {
            let what = format!("begins at offset {}, {end} follows", info.base_offset);
            self.damage(name, Some(0), Some(*end), what);
        }
    }

    /// `file`: all bytes of `<segment>.idx`, told right behind its segment.
    pub fn index(&mut self, segment: SegmentId, file: &[u8]) {
        let name = FileName::Index(segment);
        let found = match super::index(file) {
            Ok(found) => found,
            Err(why) => return self.find(Severity::Repairable, name, None, None, why),
        };
        let info = self.begun.last().map(|seen| &seen.info);
        let Some(info) = info.filter(|info| info.segment == segment) else {
            return self.find(Severity::Note, name, None, None, "its segment is not there".to_owned());
        };
        if (found.log, found.generation) != (info.log, info.generation) {
            return self.find(
                Severity::Repairable,
                name,
                None,
                None,
                "of another life of the file".to_owned(),
            );
        }
        let wrong = found.entries.iter().find(|entry| self.boundaries.binary_search(entry).is_err()).copied();
        if let Some((offset, position)) = wrong {
            let what = format!("says a frame begins at {position}: none does");
            self.find(Severity::Repairable, name, None, Some(offset), what);
        }
    }

    #[must_use]
    pub fn finish(mut self) -> (Summary, Vec<Finding>) {
        let listed =
            self.checkpoint.as_ref().map(|checkpoint| checkpoint.segments.clone()).unwrap_or_default();
        for segment in listed {
            if segment.generation != 0 && !self.seen.contains(&segment.segment) {
                let what = "file is missing".to_owned();
                self.damage(FileName::Segment(segment.segment), None, Some(segment.base_offset), what);
            }
        }
        let last = self.sum_up();
        let is_any = last.is_some();
        if !self.is_broken {
            self.findings.extend(last.and_then(|last| last.torn));
        }
        let durable = self.checkpoint.as_ref().map(|checkpoint| checkpoint.durable_end);
        if let Some(durable) = durable {
            if !is_any {
                self.summary.end = durable;
            } else if self.summary.end < durable && !self.is_broken {
                let what = format!("log ends at offset {}, {durable} was durable", self.summary.end);
                self.damage(FileName::Checkpoint, None, Some(self.summary.end), what);
            }
        }
        (self.summary, self.findings)
    }

    fn damage(&mut self, file: FileName, position: Option<u64>, offset: Option<Offset>, what: String) {
        self.is_broken = true;
        self.find(Severity::Damage, file, position, offset, what);
    }

    fn find(
        &mut self,
        severity: Severity,
        file: FileName,
        position: Option<u64>,
        offset: Option<Offset>,
        what: String,
    ) {
        self.findings.push(Finding { severity, file, position, offset, what });
    }
}

/// It left the log before the checkpoint was written, or compaction had not come to the one that would name it.
fn is_left_over(checkpoint: &CheckpointInfo, segment: SegmentId) -> bool {
    let listed = &checkpoint.segments;
    let is_listed = listed.iter().any(|s| s.segment == segment);
    !is_listed && (segment.is_rewritten() || listed.last().is_some_and(|last| segment < last.segment))
}
