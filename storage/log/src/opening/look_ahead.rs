//! Was the frame that does not verify acknowledged? Only if a write began after its own was complete, and the
//! first frame of every write says so: a look for such a frame behind the bad one.

use bytes::Bytes;
use storage_frame::{FRAME_ALIGN, FrameHeader, HEADER_BYTES, Salt, peek_frame_bytes};

use crate::disk_op::BLOCK_BYTES;
use crate::segment::{Point, block_start};

const READ_BYTES: u64 = 256 << 10;
/// So many zeros in a row that are no frame's payload and nothing follows: no one write loses that much of its
/// front and keeps its end without being the last.
const ZEROS_MAX: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct LookAhead {
    bad: Point,
    salt: Salt,
    /// Positions before are done.
    done: u64,
    until: u64,
    limit: u64,
    write_bytes_max: u64,
    zeros: u64,
    /// Zeros before are a payload's and tell nothing.
    zeros_from: u64,
    /// Where the last frame of the torn write ends.
    torn_end: u64,
    why: String,
}

impl LookAhead {
    /// The write that was torn is at most `write_bytes_max`, the next one begins behind it.
    pub(super) fn behind(bad: &Point, salt: Salt, write_bytes_max: u64, limit: u64, why: String) -> Self {
        Self {
            bad: *bad,
            salt,
            done: bad.position,
            until: (bad.position + 2 * write_bytes_max).min(limit),
            limit,
            write_bytes_max,
            zeros: 0,
            zeros_from: bad.position,
            torn_end: bad.position,
            why,
        }
    }

    pub(super) fn cut_bytes(&self) -> u64 {
        self.torn_end - self.bad.position
    }

    /// Where the next piece begins.
    pub(super) fn read_from(&self) -> u64 {
        block_start(self.done)
    }

    /// Bytes of the next piece; `None`: the look is over.
    pub(super) fn next_read(&self) -> Option<usize> {
        if self.zeros >= ZEROS_MAX || self.done + HEADER_BYTES as u64 > self.until {
            return None;
        }
        Some((self.until - self.read_from()).min(READ_BYTES + BLOCK_BYTES as u64) as usize)
    }

    /// Looks at `piece`, which begins at `from <= done`; tells what was found of a later write.
    pub(super) fn look_at(&mut self, from: u64, piece: &Bytes) -> Option<String> {
        let end = from + piece.len() as u64;
        let begun_at = self.done;
        while self.done + HEADER_BYTES as u64 <= end {
            let at = (self.done - from) as usize;
            if piece[at..at + FRAME_ALIGN].iter().all(|byte| *byte == 0) {
                self.zeros += if self.done < self.zeros_from { 0 } else { FRAME_ALIGN as u64 };
            } else {
                self.zeros = 0;
                if let Some(later) = self.look_at_one(self.done, &piece[at..]) {
                    return Some(later);
                }
            }
            self.done += FRAME_ALIGN as u64;
        }
        if self.done == begun_at && from != self.bad.position {
            reach::mark!("log.look_ahead_meets_file_end");
            // The file is shorter than was thought: nothing more can follow.
            self.until = self.until.min(end);
        }
        None
    }

    fn look_at_one(&mut self, position: u64, bytes: &[u8]) -> Option<String> {
        if position == self.bad.position {
            // Damaged or not, its header may still tell how far its payload goes; not beyond one write.
            let claimed = peek_frame_bytes(bytes).unwrap_or(0) as u64;
            self.zeros_from = position + claimed.min(self.write_bytes_max);
        }
        let header = FrameHeader::decode(bytes, self.salt).ok()?;
        let follows = header.base_offset >= self.bad.offset && header.leader_epoch >= self.bad.epoch;
        if !follows {
            return None;
        }
        let frame_end = position + header.frame_bytes() as u64;
        self.torn_end = self.torn_end.max(frame_end);
        self.zeros_from = self.zeros_from.max(frame_end);
        if position == self.bad.position {
            // The bad frame tells its size: a later write begins behind it.
            self.until = self.until.max((frame_end + header.frame_bytes() as u64).min(self.limit));
        }
        if header.starts_write && position > self.bad.position {
            let why = &self.why;
            return Some(format!("{why}; a later write begins at {position}, offset {}", header.base_offset));
        }
        None
    }
}
