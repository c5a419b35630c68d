//! Which of a frame's records stay.

use storage_frame::{Compaction, Frame, Offset, TimestampMs};

use super::{Compacted, CompactionTask, KeyAt, KeyMap, visit_whole};

/// What a pass knows when it begins to write.
#[derive(Debug)]
pub(crate) struct Sieve<'a> {
    pub(crate) task: &'a CompactionTask,
    pub(crate) map: &'a KeyMap,
    /// Frames from here on are not in the map: they stay.
    pub(crate) mapped_end: Offset,
    pub(crate) now: TimestampMs,
}

impl Sieve<'_> {
    /// The frame as it is to stand; `None`: as it stands.
    ///
    /// A tombstone that is the last of its key stays until its time is over, which begins when it is first compacted:
    /// that pass takes every earlier record of the key, here or in what was written before, so that nothing comes back
    /// when the tombstone goes.
    pub(crate) fn sift(&self, frame: &Frame, told: &mut Compacted) -> Option<Frame> {
        let header = frame.header();
        if header.base_offset >= self.mapped_end || header.has_no_records() {
            return None;
        }
        let since = header.compaction.and_then(|compaction| compaction.tombstones_at);
        // An earlier record of its key may stand in a frame that had to be left as it is.
        let is_over = told.frames_unreadable == 0 && since.is_some_and(|since| self.is_over(since));
        let mut kept = Vec::new();
        let (mut removed, mut without_key, mut has_tombstone) = (0, 0, false);
        let visited = visit_whole(self.task.records, frame, &mut |record| {
            let KeyAt { offset_delta, key, is_tombstone } = record;
            let offset = header.base_offset.plus(offset_delta);
            let is_last = key.is_some_and(|key| self.map.last(key).is_none_or(|last| last <= offset));
            if is_last && !(is_tombstone && is_over) {
                kept.push(offset_delta);
                has_tombstone |= is_tombstone;
            } else {
                removed += 1;
                without_key += u64::from(key.is_none());
            }
        });
        if visited.is_err() {
            told.frames_unreadable += 1;
            return None;
        }
        let first_seen = TimestampMs(if self.now.0 == 0 { 1 } else { self.now.0 });
        let tombstones_at = has_tombstone.then(|| since.unwrap_or(first_seen));
        if removed == 0 {
            let is_noted = tombstones_at == since;
            return (!is_noted).then(|| marked(frame.clone(), header.has_holes(), tombstones_at));
        }
        let sifted = if kept.is_empty() {
            Frame::without_records(header, header.record_count)
        } else {
            match self.task.records.retain(frame, &kept) {
                Ok(part) => marked(part, true, tombstones_at),
                Err(_) => {
                    told.frames_unreadable += 1;
                    return None;
                }
            }
        };
        let place = |frame: &Frame| (frame.header().base_offset, frame.header().end_offset());
        assert_eq!(place(&sifted), place(frame), "a frame stands for the offsets it has");
        assert_eq!(sifted.header().leader_epoch, header.leader_epoch);
        told.records_removed += removed;
        told.records_without_key += without_key;
        Some(sifted)
    }

    fn is_over(&self, since: TimestampMs) -> bool {
        let age_ms = i128::from(self.now.0) - i128::from(since.0);
        u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > self.task.rules.tombstones_kept.as_millis())
    }
}

fn marked(mut frame: Frame, holes: bool, tombstones_at: Option<TimestampMs>) -> Frame {
    frame.set_compaction(Compaction { holes, tombstones_at });
    frame
}
