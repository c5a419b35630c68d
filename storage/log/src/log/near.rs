//! What memory alone knows of a place in the log.

use storage_frame::{Offset, TimestampMs};

use super::Log;
use crate::segment::NO_TIMESTAMP;

impl Log {
    /// The time of the frame at `from`. Exact where the frame is in memory; later by at most an interval of the
    /// sparse index, or by a segment, where only these are. `None` past the end, and where nothing is known.
    #[must_use]
    pub fn timestamp_near(&self, from: Offset) -> Option<TimestampMs> {
        if from >= self.staged_end() {
            return None;
        }
        if let Some(frame) = self.recent.frames_from(from).and_then(|mut frames| frames.next()) {
            return Some(frame.header().first_timestamp);
        }
        let nth = self.segments.partition_point(|segment| segment.base <= from).checked_sub(1)?;
        let segment = &self.segments[nth];
        let is_writers = segment.id == self.durable.segment && self.writer.index.covers(from);
        let found = if is_writers {
            self.writer.index.timestamp_near(from)
        } else {
            match self.reads.index_of(segment.id) {
                Some(index) => index.timestamp_near(from),
                None => segment.max_timestamp,
            }
        };
        (found != NO_TIMESTAMP).then_some(found)
    }
}
