//! Finding out what is there: list, checkpoint, headers of segments the checkpoint does not know, frames from
//! where the checkpoint says, and behind the last good frame a look for writes that began later.
//!
//! Asks for one operation at a time. Removes only what can hold nothing acknowledged, and nothing at all from a
//! log that is damaged. Why its conclusions hold: `storage/FORMAT.md`, "Recovery".

mod look_ahead;
mod scan;
mod survey;
mod unbegun;

use std::collections::BTreeMap;

use bytes::Bytes;
use storage_frame::{FrameHeader, LeaderEpoch, LogId, Offset};

use crate::checkpoint::{CHECKPOINT_FILE_BYTES_MAX, Checkpoint};
use crate::config::WRITE_BYTES_MAX;
use crate::disk_op::{BLOCK_BYTES, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, SegmentId};
use crate::event::Recovered;
use crate::fields::FormatError;
use crate::index::SegmentIndex;
use crate::segment::{FIRST_FRAME, Point, Segment};
use crate::segment_header::{FirstBlock, SegmentHeader};
use look_ahead::LookAhead;
use scan::Scan;
use unbegun::{LOOK_BYTES, later_write};

#[derive(Debug)]
pub(crate) struct Opening {
    log: LogId,
    step: Step,
    /// Segment files and their bytes.
    files: BTreeMap<SegmentId, u64>,
    indexes: Vec<SegmentId>,
    checkpoint: Option<Checkpoint>,
    /// There is one, and it does not verify or cannot be read.
    is_checkpoint_damaged: bool,
    segments: Vec<Segment>,
    /// Where the segments end whose end is known, by index into `segments`: all of that was durable.
    known_ends: Vec<Option<u64>>,
    /// Why the log ends in damage behind the last of `segments`, wherever the scan gets to.
    damaged_behind: Option<String>,
    /// Where the last segment found that compaction wrote ends.
    rewritten_end: Offset,
    remove: Vec<FileName>,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Step {
    List,
    ReadCheckpoint,
    ReadHeaders {
        found: Vec<(SegmentId, FirstBlock)>,
        unread: Vec<SegmentId>,
    },
    /// Of the last one found: what follows a first block that does not begin it.
    LookBehindHeader {
        found: Vec<(SegmentId, FirstBlock)>,
        unread: Vec<SegmentId>,
    },
    Scan(Box<Scan>),
    LookAhead(Box<Scan>, LookAhead),
    Remove(Box<Opened>),
    Over,
}

#[derive(Debug)]
pub(crate) enum Next {
    Ask(DiskOp),
    Done(Box<Opened>),
    /// Nothing can be said about the log.
    Failed(String),
}

/// What stands on disk.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segments: Vec<Segment>,
    pub(crate) start: Offset,
    pub(crate) end: Point,
    /// Of the last segment's file; 0 when it is only planned.
    pub(crate) file_bytes: u64,
    /// Of `end`'s block, the bytes before it.
    pub(crate) tail: Bytes,
    /// Of the last segment, from where the scan began.
    pub(crate) index: SegmentIndex,
    pub(crate) recovered: Recovered,
    /// The app state's place, for the next checkpoint.
    pub(crate) app_point: Option<Point>,
    pub(crate) damage: Option<String>,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) scanned_bytes: u64,
    pub(crate) write_bytes_max: u64,
    pub(crate) clean_end: Offset,
    /// No file has this number, nor any later one.
    pub(crate) next_rewritten: SegmentId,
    pub(crate) notes: Vec<String>,
}

impl Opening {
    pub(crate) fn begin(log: LogId) -> (Self, DiskOp) {
        let opening = Self {
            log,
            step: Step::List,
            files: BTreeMap::new(),
            indexes: Vec::new(),
            checkpoint: None,
            is_checkpoint_damaged: false,
            segments: Vec::new(),
            known_ends: Vec::new(),
            damaged_behind: None,
            rewritten_end: Offset::ZERO,
            remove: Vec::new(),
            notes: Vec::new(),
        };
        (opening, DiskOp::List)
    }

    pub(crate) fn on_reply(&mut self, result: DiskResult) -> Next {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::List => self.on_listed(result),
            Step::ReadCheckpoint => self.on_checkpoint(result),
            Step::ReadHeaders { found, unread } => self.on_header(found, unread, result),
            Step::LookBehindHeader { found, unread } => self.on_behind_header(found, unread, result),
            Step::Scan(scan) => self.on_scanned(scan, result),
            Step::LookAhead(scan, ahead) => self.on_looked_ahead(scan, ahead, result),
            Step::Remove(opened) => self.on_removed(opened, result),
            Step::Over => unreachable!("nothing is asked once opening is over"),
        }
    }

    fn on_listed(&mut self, result: DiskResult) -> Next {
        let listed = match result {
            Ok(DiskReply::Listed(listed)) => listed,
            Ok(other) => unreachable!("List answered by {other:?}"),
            Err(error) => return Next::Failed(error.to_string()),
        };
        let mut has_checkpoint = false;
        for (name, bytes) in listed {
            match name {
                FileName::Segment(segment) => {
                    self.files.insert(segment, bytes);
                }
                FileName::Index(segment) => self.indexes.push(segment),
                FileName::Checkpoint => has_checkpoint = true,
            }
        }
        if has_checkpoint {
            self.step = Step::ReadCheckpoint;
            return Next::Ask(DiskOp::ReadFile {
                name: FileName::Checkpoint,
                bytes_max: CHECKPOINT_FILE_BYTES_MAX,
            });
        }
        reach::mark!("log.checkpoint_missing", !self.files.is_empty());
        self.survey()
    }

    fn on_checkpoint(&mut self, result: DiskResult) -> Next {
        match result {
            Ok(DiskReply::Bytes(file)) => match Checkpoint::decode(&file, self.log) {
                Ok(checkpoint) => self.checkpoint = Some(checkpoint),
                Err(newer @ FormatError::Newer { .. }) => {
                    reach::mark!("log.checkpoint_newer");
                    return Next::Failed(format!("checkpoint: {newer}"));
                }
                Err(FormatError::Damaged(why)) => {
                    reach::mark!("log.checkpoint_damaged");
                    self.do_without_checkpoint(&format!("damaged ({why})"));
                }
            },
            Ok(other) => unreachable!("ReadFile answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.checkpoint_unreadable");
                self.do_without_checkpoint(&format!("unreadable ({error})"));
            }
        }
        self.survey()
    }

    fn do_without_checkpoint(&mut self, why: &str) {
        self.is_checkpoint_damaged = true;
        self.notes.push(format!("checkpoint {why}: every segment is scanned"));
    }

    /// Reads the first blocks of segments the checkpoint does not vouch for.
    fn survey(&mut self) -> Next {
        if let Some(checkpoint) = &self.checkpoint {
            self.segments.clone_from(&checkpoint.segments);
        }
        self.known_ends = self.segments.iter().map(|segment| Some(segment.end_position)).collect();
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.segments.last().is_some_and(Segment::is_begun))
        {
            *self.known_ends.last_mut().expect("a checkpoint lists a segment") = None;
        }
        self.check_listed_files();
        // What lies before the checkpoint's first segment has been retired.
        let begun = self.segments.iter().rev().find(|segment| segment.is_begun());
        let begun_last = begun.map_or(SegmentId(0), Segment::last_number);
        let first = self.segments.first().map_or(SegmentId(0), Segment::first_number);
        // A checkpoint knows every file of compaction that counts.
        let has_checkpoint = self.checkpoint.is_some();
        let is_unread = |id: &SegmentId| match id.is_rewritten() {
            true => !has_checkpoint,
            false => *id >= first && *id > begun_last,
        };
        let unread: Vec<SegmentId> = self.files.keys().rev().copied().filter(is_unread).collect();
        reach::mark!("log.survey_reads_headers", self.checkpoint.is_some() && !Vec::is_empty(&unread));
        self.next_header(Vec::new(), unread)
    }

    fn next_header(&mut self, found: Vec<(SegmentId, FirstBlock)>, mut unread: Vec<SegmentId>) -> Next {
        let Some(segment) = unread.pop() else { return self.on_surveyed(found) };
        unread.push(segment);
        self.step = Step::ReadHeaders { found, unread };
        Next::Ask(DiskOp::Read { segment, position: 0, bytes: BLOCK_BYTES })
    }

    fn on_header(
        &mut self,
        mut found: Vec<(SegmentId, FirstBlock)>,
        mut unread: Vec<SegmentId>,
        result: DiskResult,
    ) -> Next {
        let segment = unread.pop().expect("the one that was asked for");
        let block = match result {
            // Writes only go where room is: a file without a whole block was made and never written.
            Ok(DiskReply::Bytes(block)) if block.len() < BLOCK_BYTES => FirstBlock::Zeros,
            Ok(DiskReply::Bytes(block)) => SegmentHeader::decode(&block),
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.segment_header_unreadable");
                FirstBlock::Unreadable(FormatError::Damaged(error.to_string()))
            }
        };
        if let FirstBlock::Unreadable(newer @ FormatError::Newer { .. }) = &block {
            reach::mark!("log.segment_newer");
            return Next::Failed(format!("segment {}: {newer}", segment.0));
        }
        // What compaction writes gets its header last: frames behind one that is not there tell nothing.
        let begins = matches!(&block, FirstBlock::Unreadable(_))
            || self.is_ours(segment, &block)
            || segment.is_rewritten();
        let has_more = self.files.get(&segment).is_some_and(|bytes| *bytes > FIRST_FRAME);
        found.push((segment, block));
        if begins || !has_more {
            return self.next_header(found, unread);
        }
        self.step = Step::LookBehindHeader { found, unread };
        Next::Ask(DiskOp::Read { segment, position: FIRST_FRAME, bytes: LOOK_BYTES })
    }

    fn on_behind_header(
        &mut self,
        mut found: Vec<(SegmentId, FirstBlock)>,
        unread: Vec<SegmentId>,
        result: DiskResult,
    ) -> Next {
        let (segment, block) = found.pop().expect("the one whose first block was read");
        let lost = match result {
            Ok(DiskReply::Bytes(bytes)) => later_write(&block, &bytes)
                .map(|position| format!("nothing there, a later write begins at {position}")),
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => Some(error.to_string()),
        };
        reach::mark!("log.segment_header_lost", lost.is_some());
        let block = lost.map_or(block, |why| FirstBlock::Unreadable(FormatError::Damaged(why)));
        found.push((segment, block));
        self.next_header(found, unread)
    }

    /// All is known. Removes what is left of things begun and not finished.
    fn finish(&mut self, opened: Opened) -> Next {
        if opened.damage.is_some() {
            self.remove.clear();
        } else {
            let is_orphan = |index: &&SegmentId| opened.segments.iter().all(|segment| segment.id != **index);
            let orphans = self.indexes.iter().filter(is_orphan);
            self.remove.extend(orphans.map(|index| FileName::Index(*index)));
            // The oldest segment first, as the log itself does.
            self.remove.reverse();
        }
        self.next_removal(Box::new(opened))
    }

    fn next_removal(&mut self, opened: Box<Opened>) -> Next {
        match self.remove.pop() {
            Some(name) => {
                reach::mark!("log.orphan_index_removed", matches!(name, FileName::Index(_)));
                self.step = Step::Remove(opened);
                Next::Ask(DiskOp::RemoveFile { name })
            }
            None => {
                let mut opened = opened;
                opened.notes = std::mem::take(&mut self.notes);
                Next::Done(opened)
            }
        }
    }

    fn on_removed(&mut self, opened: Box<Opened>, result: DiskResult) -> Next {
        match result {
            Ok(_) => self.next_removal(opened),
            Err(error) if error.kind == DiskErrorKind::NotFound => self.next_removal(opened),
            Err(error) => {
                reach::mark!("log.left_over_not_removed");
                Next::Failed(format!("removing left-overs: {error}"))
            }
        }
    }

    /// Nothing was scanned from here on, or nothing is there.
    fn opened(&self, end: Point, tail: Bytes, index: SegmentIndex, headers: Vec<FrameHeader>) -> Opened {
        let checkpoint = self.checkpoint.as_ref();
        let first = self.segments.first().expect("at least one").base;
        let start = checkpoint.map_or(first, |checkpoint| checkpoint.start.max(first)).min(end.offset);
        // A state of before the first segment knows nothing of the frames between, which nobody can tell any
        // more: its owner would take what follows for what comes next. Better none.
        let stated = checkpoint.filter(|c| c.app_state.is_some() && c.scan.offset >= first);
        reach::mark!(
            "log.state_of_retired_frames",
            stated.is_none() && checkpoint.is_some_and(|c| c.app_state.is_some())
        );
        let app_state = stated.and_then(|checkpoint| checkpoint.app_state.clone());
        let app_point = stated.map(|checkpoint| checkpoint.scan);
        Opened {
            start,
            end,
            file_bytes: self.files.get(&end.segment).copied().unwrap_or(0),
            tail,
            index,
            recovered: Recovered {
                app_state,
                app_state_end: app_point.map_or(first, |point| point.offset),
                headers,
                clean: false,
                cut_bytes: 0,
            },
            app_point,
            damage: None,
            checkpoint_sequence: checkpoint.map_or(0, |checkpoint| checkpoint.sequence),
            scanned_bytes: 0,
            write_bytes_max: self.write_bytes_max(),
            clean_end: checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.clean_end),
            next_rewritten: self.next_rewritten(),
            notes: Vec::new(),
            segments: self.segments.clone(),
        }
    }

    fn write_bytes_max(&self) -> u64 {
        let told = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.write_bytes_max);
        told.max(WRITE_BYTES_MAX as u64)
    }

    fn next_rewritten(&self) -> SegmentId {
        let of_files = self.files.keys().chain(&self.indexes).filter(|id| id.is_rewritten()).max();
        of_files.map_or(SegmentId::REWRITTEN_FIRST, |last| SegmentId(last.0.saturating_add(1)))
    }

    fn first_epoch() -> LeaderEpoch {
        LeaderEpoch(0)
    }
}
