//! Walking over frames from the checkpoint to the end of the log.

use bytes::Bytes;
use storage_frame::{Frame, FrameError, FrameHeader};

use super::look_ahead::LookAhead;
use super::{Next, Opened, Opening, Step};
use crate::disk_op::{BLOCK_BYTES, DiskOp, DiskReply, DiskResult};
use crate::index::SegmentIndex;
use crate::segment::{Point, block_end, block_part, block_start};

/// The first read of a scan; an idle log's frames since the checkpoint are no more.
const FIRST_READ_BYTES: usize = 64 << 10;
const READ_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Scan {
    /// Into `segments`.
    nth: usize,
    pub(super) point: Point,
    read_bytes: usize,
    asked_bytes: usize,
    headers: Vec<FrameHeader>,
    /// Of them, up to the last one that compaction has rewritten.
    compacted_count: usize,
    index: SegmentIndex,
    scanned_bytes: u64,
    /// The bytes before `point` in its block.
    tail: Bytes,
}

/// Why a scan stopped where it did.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing acknowledged follows; so many bytes of what was never acknowledged do.
    Torn {
        cut_bytes: u64,
    },
    /// As the checkpoint's clean marker said.
    Clean,
    Damaged(String),
}

enum Bad {
    /// The frame goes on behind what was read: so many bytes from its start.
    Short(usize),
    Frame(String),
}

impl Opening {
    pub(super) fn begin_scan(&mut self) -> Next {
        let (nth, point) = self.scan_start();
        let nothing_to_scan = self.checkpoint.as_ref().is_some_and(|c| c.clean && c.durable == point);
        let scan = Box::new(Scan {
            nth,
            point,
            read_bytes: if nothing_to_scan { BLOCK_BYTES } else { FIRST_READ_BYTES },
            asked_bytes: 0,
            headers: Vec::new(),
            compacted_count: 0,
            index: SegmentIndex::starting_at(&self.segments[nth], point),
            scanned_bytes: 0,
            tail: Bytes::new(),
        });
        self.scan_on(scan)
    }

    /// Reads on from the scan's point, over into the next segment where one ends.
    fn scan_on(&mut self, mut scan: Box<Scan>) -> Next {
        while self.known_ends[scan.nth] == Some(scan.point.position) && scan.nth + 1 < self.segments.len() {
            self.leave_segment(&mut scan);
            let next = &self.segments[scan.nth + 1];
            if next.base != scan.point.offset {
                reach::mark!("log.segments_do_not_meet");
                let why = format!("segment {} begins at offset {}", next.id.0, next.base);
                return self.end_scan(scan, End::Damaged(why));
            }
            scan.nth += 1;
            scan.point = scan.point.in_segment(next.id);
            scan.index = SegmentIndex::of_whole(next);
            scan.tail = Bytes::new();
        }
        let segment = &self.segments[scan.nth];
        if !segment.is_begun() {
            let clean = self.checkpoint.as_ref().is_some_and(|c| c.clean && c.durable == scan.point);
            let end = if clean { End::Clean } else { End::Torn { cut_bytes: 0 } };
            return self.end_scan(scan, end);
        }
        let from = block_start(scan.point.position);
        let limit = self.limit(scan.nth);
        if scan.point.position >= limit {
            reach::mark!("log.scan_meets_file_end");
            return self.on_bad_frame(scan, Bytes::new(), "file ends".to_owned());
        }
        scan.asked_bytes = (limit - from).min(scan.read_bytes as u64) as usize;
        let op = DiskOp::Read { segment: segment.id, position: from, bytes: scan.asked_bytes };
        self.step = Step::Scan(scan);
        Next::Ask(op)
    }

    /// Frames of segment `nth` end here at the latest.
    pub(super) fn limit(&self, nth: usize) -> u64 {
        let file_bytes = self.files.get(&self.segments[nth].id).copied().unwrap_or(0);
        self.known_ends[nth].unwrap_or(file_bytes - file_bytes % BLOCK_BYTES as u64).min(file_bytes)
    }

    fn leave_segment(&mut self, scan: &mut Scan) {
        let segment = &mut self.segments[scan.nth];
        segment.max_timestamp = segment.max_timestamp.max(scan.point.max_timestamp);
    }

    pub(super) fn on_scanned(&mut self, mut scan: Box<Scan>, result: DiskResult) -> Next {
        let read = match result {
            Ok(DiskReply::Bytes(read)) => read,
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.scan_unreadable");
                let why = format!("segment {}: {error}", scan.point.segment.0);
                return self.end_scan(scan, End::Damaged(why));
            }
        };
        let from = block_start(scan.point.position);
        if read.len() < block_part(scan.point.position) {
            reach::mark!("log.scan_begins_behind_file");
            return self.end_scan(scan, End::Damaged("file is shorter than it was".to_owned()));
        }
        loop {
            let at = (scan.point.position - from) as usize;
            scan.tail = read.slice(block_start(scan.point.position).saturating_sub(from) as usize..at);
            if at == read.len() && read.len() == scan.asked_bytes {
                scan.read_bytes = (scan.read_bytes * 4).min(READ_BYTES_MAX);
                return self.scan_on(scan);
            }
            match self.next_frame(&scan, read.slice(at..)) {
                Ok(header) => self.accept(&mut scan, &header),
                Err(Bad::Short(need)) if read.len() == scan.asked_bytes => {
                    reach::mark!("log.scan_reads_longer_frame");
                    let need = need + block_part(scan.point.position);
                    scan.read_bytes = block_end(need as u64).max(READ_BYTES_MAX as u64) as usize;
                    return self.scan_on(scan);
                }
                Err(Bad::Short(_)) => {
                    reach::mark!("log.scan_frame_cut_by_file");
                    return self.on_bad_frame(scan, read.slice(at..), "file ends".to_owned());
                }
                Err(Bad::Frame(why)) => return self.on_bad_frame(scan, read.slice(at..), why),
            }
        }
    }

    fn next_frame(&self, scan: &Scan, mut bytes: Bytes) -> Result<FrameHeader, Bad> {
        let segment = &self.segments[scan.nth];
        let room = self.limit(scan.nth) - scan.point.position;
        let found = bytes.len();
        match Frame::split_from(&mut bytes, segment.salt()) {
            Ok(frame) => {
                let header = frame.header();
                if header.base_offset != scan.point.offset {
                    reach::mark!("log.scan_wrong_offset");
                    let why = format!("offset {} where {} follows", header.base_offset, scan.point.offset);
                    return Err(Bad::Frame(why));
                }
                if header.leader_epoch < scan.point.epoch {
                    reach::mark!("log.scan_wrong_epoch");
                    let why = format!("epoch {} after {}", header.leader_epoch, scan.point.epoch);
                    return Err(Bad::Frame(why));
                }
                Ok(FrameHeader { starts_write: false, ..*header })
            }
            Err(FrameError::Short { need, .. }) if need as u64 <= room && need > found => {
                Err(Bad::Short(need))
            }
            Err(error) => Err(Bad::Frame(error.to_string())),
        }
    }

    fn accept(&mut self, scan: &mut Scan, header: &FrameHeader) {
        scan.index.note(scan.point.position, header);
        scan.point = scan.point.after(header);
        scan.scanned_bytes += header.frame_bytes() as u64;
        scan.headers.push(*header);
        if header.compaction.is_some() {
            scan.compacted_count = scan.headers.len();
        }
    }

    /// `rest`: what was read from the scan's point on.
    fn on_bad_frame(&mut self, scan: Box<Scan>, rest: Bytes, why: String) -> Next {
        let why = format!("segment {} at {}: {why}", scan.point.segment.0, scan.point.position);
        let durable = self.checkpoint.as_ref().map(|checkpoint| checkpoint.durable);
        let was_durable = durable.is_some_and(|durable| {
            durable.segment == scan.point.segment && durable.position > scan.point.position
        });
        if self.known_ends[scan.nth].is_some() || scan.nth + 1 < self.segments.len() || was_durable {
            reach::mark!("log.scan_bad_below_known_end");
            return self.end_scan(scan, End::Damaged(why));
        }
        let block_rest = block_end(scan.point.position + 1) - scan.point.position;
        let is_blank = rest.iter().take(block_rest as usize).all(|byte| *byte == 0);
        let closed_here =
            self.checkpoint.as_ref().is_some_and(|c| c.clean && c.durable.position == scan.point.position);
        if closed_here && durable.is_some_and(|d| d.segment == scan.point.segment) && is_blank {
            return self.end_scan(scan, End::Clean);
        }
        let salt = self.segments[scan.nth].salt();
        let largest = scan.headers.iter().map(FrameHeader::frame_bytes).max().unwrap_or(0) as u64;
        let write_bytes_max = self.write_bytes_max().max(largest);
        let ahead = LookAhead::behind(&scan.point, salt, write_bytes_max, self.limit(scan.nth), why);
        let from = scan.point.position;
        self.look_at(scan, ahead, from, &rest)
    }

    fn look_at(&mut self, scan: Box<Scan>, mut ahead: LookAhead, from: u64, piece: &Bytes) -> Next {
        if let Some(later) = ahead.look_at(from, piece) {
            reach::mark!("log.later_write_found");
            return self.end_scan(scan, End::Damaged(later));
        }
        match ahead.next_read() {
            Some(bytes) => {
                reach::mark!("log.look_ahead_reads_on");
                let position = ahead.read_from();
                let op = DiskOp::Read { segment: scan.point.segment, position, bytes };
                self.step = Step::LookAhead(scan, ahead);
                Next::Ask(op)
            }
            None => self.end_scan(scan, End::Torn { cut_bytes: ahead.cut_bytes() }),
        }
    }

    pub(super) fn on_looked_ahead(&mut self, scan: Box<Scan>, ahead: LookAhead, result: DiskResult) -> Next {
        match result {
            Ok(DiskReply::Bytes(read)) => {
                let from = ahead.read_from();
                self.look_at(scan, ahead, from, &read)
            }
            Ok(other) => unreachable!("Read answered by {other:?}"),
            Err(error) => {
                reach::mark!("log.look_ahead_unreadable");
                let why = format!("segment {} behind the last frame: {error}", scan.point.segment.0);
                self.end_scan(scan, End::Damaged(why))
            }
        }
    }

    fn end_scan(&mut self, mut scan: Box<Scan>, end: End) -> Next {
        self.leave_segment(&mut scan);
        self.segments.truncate(scan.nth + 1);
        self.segments[scan.nth].end_position = scan.point.position;
        let mut headers = std::mem::take(&mut scan.headers);
        // Compaction may have taken a producer's last batches and left earlier ones.
        reach::mark!("log.producers_of_compacted_frames", scan.compacted_count > 0);
        headers[..scan.compacted_count].iter_mut().for_each(|header| header.producer = None);
        let tail = Bytes::copy_from_slice(&scan.tail);
        let mut opened: Opened = self.opened(scan.point, tail, scan.index, headers);
        opened.scanned_bytes = scan.scanned_bytes;
        match end {
            End::Clean => opened.recovered.clean = scan.scanned_bytes == 0,
            End::Torn { cut_bytes } => {
                reach::mark!("log.torn_tail_cut", cut_bytes > 0);
                opened.recovered.cut_bytes = cut_bytes;
            }
            End::Damaged(why) => opened.damage = Some(why),
        }
        if opened.damage.is_none() {
            opened.damage = self.damaged_behind.take();
        }
        if self.files.is_empty() && self.checkpoint.is_none() {
            // A log that never was is as good as closed in order.
            opened.recovered.clean = true;
        }
        self.finish(opened)
    }
}
