//! A segment file (`storage/log`): frames as a writer leaves them, with damage, seen by tools and by recovery.
//!
//! The input is a list of pieces: good frames, frames that do not belong there, bytes, zeros, turned bits. So it
//! is known which frames must be found.

use bytes::{Bytes, BytesMut};
use storage_frame::{
    Codec, Encoding, FRAME_ALIGN, Frame, FrameHeader, HEADER_BYTES, LeaderEpoch, Offset, Salt, TimestampMs,
};
use storage_log::inspect::{LogCheck, SegmentWalk, Severity};
use storage_log::{BLOCK_BYTES, FileName, LogEvent, LogState, Read, Recovered, SegmentId};

use crate::disk::{Files, LOG, Running, config};
use crate::mend;
use crate::script::Script;

pub const MAGIC: &[u8; 8] = b"MSSEGMNT";
const SEGMENT: SegmentId = SegmentId(1);
const NAME: FileName = FileName::Segment(SEGMENT);
/// Beyond this a later write is not looked for everywhere (`storage/FORMAT.md`).
const FILE_BYTES_MAX: usize = 128 << 10;

/// A segment's file and what must be found in it.
#[derive(Debug)]
pub struct Written {
    pub file: Vec<u8>,
    /// The frames before the first thing wrong.
    good: Vec<Frame>,
    /// Where each of them begins.
    positions: Vec<usize>,
    is_broken: bool,
    /// Nothing behind `good` can be a frame that follows.
    is_certain: bool,
    salt: Salt,
    next: Offset,
    epoch: LeaderEpoch,
}

pub fn segment(data: &[u8]) {
    raw(data);
    let mut script = Script::new(data);
    let mut written = Written::begin(&mut script);
    written.pieces(&mut script);
    written.close();
    let walked = walk(&written);
    recover(&written, &walked);
}

/// Whatever the bytes are.
fn raw(data: &[u8]) {
    let mut file = mend::prefixed(&data[..data.len().min(512)], MAGIC);
    file.resize(BLOCK_BYTES, 0);
    file.extend_from_slice(data.get(512..).unwrap_or_default());
    for file in [Bytes::copy_from_slice(data), Bytes::from(file)] {
        let Ok(mut walk) = SegmentWalk::open(file.clone()) else { continue };
        let count = walk.by_ref().count();
        assert!(count <= file.len() / HEADER_BYTES);
        assert!(walk.position() as usize <= file.len().next_multiple_of(FRAME_ALIGN));
        let _ = (walk.is_torn(), walk.later_write());
        let mut check = LogCheck::new(walk.info().log);
        check.segment(walk.info().segment, file);
        let _ = check.finish();
    }
}

impl Written {
    pub fn begin(script: &mut Script<'_>) -> Self {
        let salt = Salt(u32::from(script.u8()) + 1);
        let mut head = vec![0; 512];
        head[16..24].copy_from_slice(&LOG.0.to_le_bytes());
        head[24..28].copy_from_slice(&SEGMENT.0.to_le_bytes());
        head[28..32].copy_from_slice(&salt.0.to_le_bytes());
        let mut file = mend::prefixed(&head, MAGIC);
        file.resize(BLOCK_BYTES, 0);
        Self {
            file,
            good: Vec::new(),
            positions: Vec::new(),
            is_broken: false,
            is_certain: true,
            salt,
            next: Offset::ZERO,
            epoch: LeaderEpoch(1),
        }
    }

    pub fn pieces(&mut self, script: &mut Script<'_>) {
        while !script.is_over() && self.file.len() < FILE_BYTES_MAX {
            self.piece(script);
        }
    }

    fn piece(&mut self, script: &mut Script<'_>) {
        match script.u8() % 9 {
            0 | 1 => self.good(script, false),
            2 => self.good(script, true),
            3 => self.stranger(script, Salt(self.salt.0 ^ 0x100), self.next, self.epoch),
            4 => {
                let gap = 1 + u64::from(script.u8());
                self.stranger(script, self.salt, Offset(self.next.0 + gap), self.epoch);
            }
            5 => {
                let lower = LeaderEpoch(self.epoch.0 - 1);
                // Only where there is a frame before: the first may be of any epoch.
                if !self.good.is_empty() && !self.is_broken {
                    self.stranger(script, self.salt, self.next, lower);
                }
            }
            6 => {
                self.break_off(false);
                let bytes = script.piece();
                self.file.extend_from_slice(bytes);
                self.file.resize(self.file.len().next_multiple_of(FRAME_ALIGN), 0);
            }
            7 => {
                self.break_off(true);
                let bytes = (1 + usize::from(script.u8())) * FRAME_ALIGN;
                self.file.resize(self.file.len() + bytes, 0);
            }
            _ => self.turn(usize::from(script.u16()) % self.file.len(), script.u8() % 8),
        }
    }

    fn good(&mut self, script: &mut Script<'_>, starts_write: bool) {
        if script.u8() & 0x80 != 0 {
            self.epoch.0 += 1;
        }
        let mut frame = frame(script, self.next, self.epoch);
        frame.set_starts_write(starts_write);
        if self.is_broken {
            self.is_certain = false;
        } else {
            self.positions.push(self.file.len());
            self.good.push(frame.clone());
        }
        self.next = frame.header().end_offset();
        self.write(&frame, self.salt);
    }

    fn stranger(&mut self, script: &mut Script<'_>, salt: Salt, offset: Offset, epoch: LeaderEpoch) {
        self.break_off(true);
        let frame = frame(script, offset, epoch);
        self.write(&frame, salt);
    }

    fn write(&mut self, frame: &Frame, salt: Salt) {
        let mut bytes = BytesMut::new();
        frame.write_to(salt, &mut bytes);
        self.file.extend_from_slice(&bytes);
    }

    fn break_off(&mut self, is_certain: bool) {
        self.is_broken = true;
        self.is_certain &= is_certain;
    }

    fn turn(&mut self, at: usize, bit: u8) {
        self.file[at] ^= 1 << bit;
        let hit = self.positions.iter().zip(&self.good).position(|(position, frame)| {
            (*position..position + HEADER_BYTES + frame.payload().len()).contains(&at)
        });
        if let Some(hit) = hit {
            self.good.truncate(hit);
            self.positions.truncate(hit);
        }
        if at < 512 {
            self.good.clear();
            self.positions.clear();
        }
        // Turned twice it is as it was.
        self.break_off(false);
    }

    /// Writes are whole blocks.
    pub fn close(&mut self) {
        self.file.resize(self.file.len().next_multiple_of(BLOCK_BYTES), 0);
    }
}

fn frame(script: &mut Script<'_>, offset: Offset, epoch: LeaderEpoch) -> Frame {
    let shape = script.u8();
    let header = FrameHeader {
        encoding: Encoding::KafkaV2,
        codec: Codec::None,
        append_time: false,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset::ZERO,
        leader_epoch: LeaderEpoch(0),
        record_count: 1 + u32::from(shape & 7),
        first_timestamp: TimestampMs(i64::from(shape)),
        max_timestamp: TimestampMs(i64::from(shape)),
        producer: None,
        compaction: None,
    };
    let bytes = usize::from(script.u8()) * if shape & 0x80 == 0 { 1 } else { 64 };
    let mut payload = script.bytes(bytes.min(64)).to_vec();
    payload.resize(bytes, shape);
    let mut frame = Frame::seal(header, Bytes::from(payload));
    frame.assign(offset, epoch);
    frame
}

/// Headers as the tools find them.
fn walk(written: &Written) -> Vec<FrameHeader> {
    let Ok(mut walk) = SegmentWalk::open(Bytes::copy_from_slice(&written.file)) else {
        assert!(written.good.is_empty(), "a header that was not touched is read");
        return Vec::new();
    };
    let found: Vec<_> = walk.by_ref().collect();
    assert!(found.len() >= written.good.len(), "a whole frame is not found");
    for ((found, good), position) in found.iter().zip(&written.good).zip(&written.positions) {
        assert_eq!(found.starts_write, good.header().starts_write);
        let mut good = good.clone();
        good.set_starts_write(false);
        assert_eq!((found.position as usize, &found.frame), (*position, &good));
    }
    if written.is_certain {
        assert_eq!(found.len(), written.good.len(), "a frame that does not belong there is served");
    }
    found.iter().map(|found| *found.frame.header()).collect()
}

/// Opening finds what the tools find, and says "damaged" when they do.
fn recover(written: &Written, walked: &[FrameHeader]) {
    let mut check = LogCheck::new(LOG);
    check.segment(SEGMENT, Bytes::copy_from_slice(&written.file));
    let (_, findings) = check.finish();
    let is_damage = findings.iter().any(|finding| finding.severity == Severity::Damage);

    let files = Files::from([(NAME, written.file.clone())]);
    let mut running = Running::open(files, config());
    let recovered = opened(&running).expect("no file of a newer build");
    assert_eq!(recovered.headers, walked, "recovery and the tools disagree");
    match running.log.state() {
        LogState::Damaged { .. } => {
            assert!(is_damage, "only opening says damaged: {:?}", running.log.state());
            let mut files = running.files;
            assert_eq!(files.remove(&NAME).as_ref(), Some(&written.file), "what is damaged is not touched");
        }
        LogState::Ready => {
            assert!(!is_damage, "only the tools say damaged: {findings:?}");
            served(&mut running, &written.good);
            let end = running.log.durable_end();
            running.log.append(running.now(), next_frame(&running));
            running.settle();
            assert!(running.log.durable_end() > end);
            let again = Running::open(running.files, config());
            assert_eq!(*again.log.state(), LogState::Ready, "a log that was mended opens again");
            assert_eq!(opened(&again).map(|found| found.headers.len()), Some(walked.len() + 1));
        }
        other @ (LogState::Opening | LogState::Failed { .. } | LogState::Closing | LogState::Closed) => {
            panic!("opened to {other:?}")
        }
    }
}

fn opened(running: &Running) -> Option<Recovered> {
    running.events.iter().find_map(|event| {
        if let LogEvent::Opened(recovered) = event { Some(recovered.clone()) } else { None }
    })
}

fn served(running: &mut Running, good: &[Frame]) {
    let mut from = running.log.start();
    for good in good {
        let limit = running.log.durable_end();
        let frames = match running.log.read(from, limit, 1) {
            Read::Now(frames) => frames,
            Read::Pending(id) => {
                running.settle();
                running.tick(std::time::Duration::ZERO);
                let answer = running.events.iter().find_map(|event| {
                    if let LogEvent::Read(of, answer) = event
                        && *of == id
                    {
                        return Some(answer.clone());
                    }
                    None
                });
                answer.expect("an answer").expect("frames that were found are read")
            }
        };
        let mut good = good.clone();
        good.set_starts_write(false);
        assert_eq!(frames.first(), Some(&good), "at {from}");
        from = good.header().end_offset();
    }
}

/// One that may be appended.
#[must_use]
pub fn next_frame(running: &Running) -> Frame {
    let mut script = Script::new(&[1, 40, 2, 3]);
    frame(&mut script, running.log.staged_end(), LeaderEpoch(running.log.last_epoch().0.saturating_add(1)))
}
