//! Walking over the frames of sealed segments, a piece at a time.

use bytes::Bytes;
use storage_frame::{Frame, FrameError, HEADER_BYTES, LeaderEpoch, Offset, Salt, peek_frame_bytes};

use super::READ_BYTES;
use crate::disk_op::SegmentId;
use crate::segment::{FIRST_FRAME, Segment};

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) segment: SegmentId,
    salt: Salt,
    end_position: u64,
    position: u64,
    /// Of the frame that follows.
    offset: Offset,
    epoch: LeaderEpoch,
    bytes_min: usize,
    asked_bytes: usize,
    piece: Bytes,
}

impl Cursor {
    pub(crate) fn at_start_of(segment: &Segment) -> Self {
        Self {
            segment: segment.id,
            salt: segment.salt(),
            end_position: segment.end_position,
            position: FIRST_FRAME,
            offset: segment.base,
            epoch: LeaderEpoch(0),
            bytes_min: HEADER_BYTES,
            asked_bytes: 0,
            piece: Bytes::new(),
        }
    }

    pub(crate) fn offset(&self) -> Offset {
        self.offset
    }

    pub(crate) fn is_over(&self) -> bool {
        self.position == self.end_position
    }

    /// Where and how much to read next; `None`: there is a frame in what was read, or nothing more to come.
    pub(crate) fn wants(&mut self) -> Option<(u64, usize)> {
        if self.is_over() || self.piece.len() >= self.bytes_min {
            return None;
        }
        let room = (self.end_position - self.position) as usize;
        self.asked_bytes = self.bytes_min.max(READ_BYTES).min(room);
        Some((self.position, self.asked_bytes))
    }

    /// What was read at the cursor.
    ///
    /// # Errors
    /// Fewer bytes than the segment has.
    pub(crate) fn on_read(&mut self, piece: Bytes) -> Result<(), String> {
        if piece.len() < self.asked_bytes {
            return Err(format!("segment {} at {}: file ends", self.segment.0, self.position));
        }
        self.piece = piece;
        Ok(())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.piece.len()
    }

    /// The next frame in what was read, which is not passed before [`pass`](Self::pass).
    ///
    /// # Errors
    /// The segment is damaged: why, for people.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, String> {
        if self.is_over() {
            return Ok(None);
        }
        let room = (self.end_position - self.position) as usize;
        let claimed = peek_frame_bytes(&self.piece).unwrap_or(HEADER_BYTES);
        if claimed > room {
            return self.damaged("frame runs over the end");
        }
        if self.piece.len() < claimed {
            self.bytes_min = claimed;
            return Ok(None);
        }
        match Frame::split_from(&mut self.piece.clone(), self.salt) {
            Ok(frame) if frame.header().base_offset != self.offset => {
                self.damaged("not the offset that follows")
            }
            Ok(frame) if frame.header().leader_epoch < self.epoch => {
                self.damaged("epoch below the one before")
            }
            Ok(frame) => Ok(Some(frame)),
            Err(FrameError::Short { need, .. }) if need <= room => {
                self.bytes_min = need;
                Ok(None)
            }
            Err(error) => self.damaged(&error.to_string()),
        }
    }

    /// The frame that was handed out is done with.
    pub(crate) fn pass(&mut self, frame: &Frame) {
        let header = frame.header();
        let bytes = header.frame_bytes();
        self.position += bytes as u64;
        self.offset = header.end_offset();
        self.epoch = header.leader_epoch;
        self.bytes_min = HEADER_BYTES;
        self.piece = self.piece.split_off(bytes.min(self.piece.len()));
    }

    fn damaged<T>(&self, why: &str) -> Result<T, String> {
        Err(format!("segment {} at {}: {why}", self.segment.0, self.position))
    }
}
