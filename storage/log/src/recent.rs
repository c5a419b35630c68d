//! Frames in memory: the newest durable ones (the tail cache) and behind them the staged ones. One contiguous
//! run that ends at the log's staged end. Frames read back from disk never enter it, so catching up readers
//! cannot push out what live readers are about to ask for.

use std::collections::VecDeque;

use storage_frame::{Frame, Offset};

use crate::disk_op::SegmentId;

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frame: Frame,
    pub(crate) segment: SegmentId,
    pub(crate) position: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Recent {
    held: VecDeque<Held>,
    /// The first so many of `held` are durable.
    durable_count: usize,
    bytes: usize,
    staged_bytes: usize,
}

impl Recent {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    pub(crate) fn has_staged(&self) -> bool {
        self.durable_count < self.held.len()
    }

    pub(crate) fn staged(&self) -> impl Iterator<Item = &Held> {
        self.held.range(self.durable_count..)
    }

    /// Offset of the first frame in memory.
    pub(crate) fn start(&self) -> Option<Offset> {
        self.held.front().map(|held| held.frame.header().base_offset)
    }

    pub(crate) fn stage(&mut self, held: Held) {
        let bytes = held.frame.header().frame_bytes();
        if let Some(last) = self.held.back() {
            assert_eq!(last.frame.header().end_offset(), held.frame.header().base_offset);
        }
        self.held.push_back(held);
        self.bytes += bytes;
        self.staged_bytes += bytes;
    }

    /// The next `count` staged frames are on stable storage; hands out those, oldest first.
    pub(crate) fn make_durable(&mut self, count: usize) -> impl Iterator<Item = &Held> {
        let range = self.durable_count..self.durable_count + count;
        self.durable_count += count;
        let bytes: usize = self.held.range(range.clone()).map(|held| held.frame.header().frame_bytes()).sum();
        self.staged_bytes -= bytes;
        self.held.range(range)
    }

    /// Drops durable frames, oldest first, until `bytes` are freed or none is left; returns how many were.
    pub(crate) fn drop_durable(&mut self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes && self.durable_count > 0 {
            let oldest = self.held.pop_front().expect("durable frames are held");
            self.durable_count -= 1;
            freed += oldest.frame.header().frame_bytes();
        }
        self.bytes -= freed;
        freed
    }

    /// Frames from the one that contains `from` to `limit`; `None` when `from` is not in memory.
    pub(crate) fn read(&self, from: Offset, limit: Offset, bytes_max: usize) -> Option<Vec<Frame>> {
        let first = self.position_of(from)?;
        let mut frames = Vec::new();
        let mut bytes = 0;
        for held in self.held.range(first..) {
            let header = held.frame.header();
            bytes += header.frame_bytes();
            if header.end_offset() > limit || (bytes > bytes_max && !frames.is_empty()) {
                break;
            }
            frames.push(held.frame.clone());
        }
        Some(frames)
    }

    /// Frames from the one that contains `from`; `None` when `from` is not in memory.
    pub(crate) fn frames_from(&self, from: Offset) -> Option<impl Iterator<Item = &Frame>> {
        let first = self.position_of(from)?;
        Some(self.held.range(first..).map(|held| &held.frame))
    }

    fn position_of(&self, from: Offset) -> Option<usize> {
        if self.start()? > from {
            return None;
        }
        let at = self.held.partition_point(|held| held.frame.header().end_offset() <= from);
        (at < self.held.len()).then_some(at)
    }

    pub(crate) fn shrink(&mut self) {
        self.held.shrink_to_fit();
    }
}
