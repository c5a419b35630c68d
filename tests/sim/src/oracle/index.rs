//! Looking for a time finds the first frame that holds it (`FindOffset`; KIP-79): what an index says agrees with the
//! frames, as the disk answered for them.
//!
//! The start, and where the search ends, may move while it goes on: the answer is of some start between what was known
//! when it was asked and what it says, and it may miss only frames above the high watermark known then.

use std::collections::BTreeMap;

use engine_api::{PartitionId, Place};
use storage_frame::{LogId, Offset, TimestampMs};

use super::ends::Ends;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, Fact, FrameFact};

#[derive(Debug)]
pub(super) struct Index {
    rules: Rules,
    ends: Ends,
    /// By first offset.
    frames: BTreeMap<LogId, BTreeMap<u64, FrameFact>>,
}

struct Found {
    partition: PartitionId,
    place: Place,
    offset: Offset,
    timestamp: Option<TimestampMs>,
    log_start: Offset,
    high_watermark: Offset,
    /// As known when it was asked.
    start_then: u64,
    high_watermark_then: u64,
}

impl Index {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ends: Ends::new(rules), frames: BTreeMap::new() }
    }
}

impl Oracle for Index {
    fn name(&self) -> &'static str {
        "index"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::Written { log, frames, .. } => {
                let known = self.frames.entry(*log).or_default();
                known.extend(frames.iter().map(|frame| (frame.base_offset.0, *frame)));
            }
            Fact::Found { partition, asked_at, place, offset, timestamp, log_start, high_watermark } => {
                let found = Found {
                    partition: *partition,
                    place: *place,
                    offset: *offset,
                    timestamp: *timestamp,
                    log_start: *log_start,
                    high_watermark: *high_watermark,
                    start_then: self.ends.log_start(*partition, *asked_at),
                    high_watermark_then: self.ends.high_watermark(*partition, *asked_at),
                };
                self.check(&found).map_err(|what| {
                    Violation(format!(
                        "{place:?} of {} was looked for at {asked_at:?} and found at {:?} at offset {offset} (time \
                         {:?}; start {log_start}, high watermark {high_watermark}), but {what}",
                        self.ends.topics.label(*partition),
                        at.time,
                        timestamp.map(|at| at.0),
                    ))
                })?;
            }
            _ => {}
        }
        self.ends.hear(at);
        Ok(())
    }
}

impl Index {
    fn check(&self, found: &Found) -> Result<(), String> {
        let (offset, log_start, high_watermark) = (found.offset, found.log_start, found.high_watermark);
        match found.place {
            Place::Start if offset != log_start => Err("that is not the start".to_owned()),
            Place::End if offset != high_watermark => Err("that is not the end".to_owned()),
            Place::Start | Place::End => Ok(()),
            Place::Timestamp(_) if offset < log_start || offset > high_watermark => {
                Err("that is outside of the log".to_owned())
            }
            Place::Timestamp(asked) => match found.timestamp {
                Some(told) if told < asked => Err("that is too early".to_owned()),
                Some(_) if offset == high_watermark && log_start < high_watermark => {
                    Err("nothing is there".to_owned())
                }
                // Its frames may be of two histories.
                _ if self.rules.beyond_promise => Ok(()),
                Some(told) => self.check_frame(found, asked, told),
                None if offset != high_watermark => Err("it has no time and is not the end".to_owned()),
                None => self.check_none(found, asked),
            },
        }
    }

    /// A frame was found: it is the first of those that hold the time.
    fn check_frame(&self, found: &Found, asked: TimestampMs, told: TimestampMs) -> Result<(), String> {
        let Some(frames) = self.frames_of(found.partition) else { return Ok(()) };
        // Nobody who begins at the start or before it gets past this one.
        let last = first_with(frames, found.log_start.0, asked);
        if let Some(last) = last
            && last.base_offset.max(found.log_start) < found.offset
        {
            return Err(format!(
                "offsets {} to {} hold the time {}",
                last.base_offset, last.end_offset, last.max_timestamp.0
            ));
        }
        let told_frames = frames
            .range(..=found.offset.0)
            .map(|(_, frame)| frame)
            .rev()
            .take_while(|frame| frame.end_offset.0 > found.start_then);
        for frame in told_frames {
            let is_there = frame.base_offset.max(found.log_start) == found.offset;
            if is_there && frame.max_timestamp == told {
                return Ok(());
            }
            if frame.base_offset <= found.offset && found.offset < frame.end_offset {
                let is_start = found.offset == found.log_start;
                if is_start && found.start_then < found.log_start.0 {
                    // One that went meanwhile may have been found.
                    continue;
                }
                return Err(format!(
                    "offsets {} to {} have the time {}",
                    frame.base_offset, frame.end_offset, frame.max_timestamp.0
                ));
            }
            if !is_there {
                break;
            }
        }
        // Of a write that a crash left unanswered: not known.
        Ok(())
    }

    /// Nothing was found: nothing that could be read when it was asked holds the time.
    fn check_none(&self, found: &Found, asked: TimestampMs) -> Result<(), String> {
        let Some(frames) = self.frames_of(found.partition) else { return Ok(()) };
        let readable_end = found.high_watermark_then.min(found.high_watermark.0);
        match first_with(frames, found.log_start.0, asked) {
            Some(frame) if frame.base_offset.0 < readable_end => Err(format!(
                "offsets {} to {} hold the time {}, and the high watermark had been {readable_end}",
                frame.base_offset, frame.end_offset, frame.max_timestamp.0
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn frames_of(&self, partition: PartitionId) -> Option<&BTreeMap<u64, FrameFact>> {
        self.frames.get(&self.ends.topics.log(partition)?)
    }
}

/// The first frame that holds an offset from `start` on and the time.
fn first_with(frames: &BTreeMap<u64, FrameFact>, start: u64, at: TimestampMs) -> Option<&FrameFact> {
    let holds_start = frames.range(..start).next_back().filter(|(_, frame)| frame.end_offset.0 > start);
    let mut behind = holds_start.into_iter().chain(frames.range(start..)).map(|(_, frame)| frame);
    behind.find(|frame| frame.max_timestamp >= at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oracle::history::{History, PARTITION, plain};

    /// Frames 0..2, 2..4 and 4..6 of times 1001, 1003 and 1005.
    fn history() -> History {
        let mut history = History::new(Index::new(Rules::default()));
        history.topic(plain()).written(1, 0, 2).written(1, 2, 4).written(1, 4, 6).read(0, 6, &[]);
        history
    }

    fn found(history: &mut History, place: Place, offset: u64, timestamp: Option<i64>) {
        found_between(history, place, offset, timestamp, (0, 6));
    }

    fn found_between(
        history: &mut History,
        place: Place,
        offset: u64,
        timestamp: Option<i64>,
        (log_start, high_watermark): (u64, u64),
    ) {
        let asked_at = history.now + Duration::from_millis(500);
        history.fact(Fact::Found {
            partition: PARTITION,
            asked_at,
            place,
            offset: Offset(offset),
            timestamp: timestamp.map(TimestampMs),
            log_start: Offset(log_start),
            high_watermark: Offset(high_watermark),
        });
    }

    fn at(time: i64) -> Place {
        Place::Timestamp(TimestampMs(time))
    }

    #[test]
    fn the_first_frame_that_holds_the_time_passes() {
        let mut history = history();
        found(&mut history, at(0), 0, Some(1001));
        found(&mut history, at(1001), 0, Some(1001));
        found(&mut history, at(1002), 2, Some(1003));
        found(&mut history, at(1005), 4, Some(1005));
        found(&mut history, at(1006), 6, None);
        found(&mut history, Place::Start, 0, None);
        found(&mut history, Place::End, 6, None);
        history.passes();
    }

    #[test]
    fn a_later_frame_fails() {
        let mut history = history();
        found(&mut history, at(1002), 4, Some(1005));
        history.fails_with("offsets 2 to 4 hold the time 1003");
    }

    #[test]
    fn an_earlier_frame_fails() {
        let mut honest = history();
        found(&mut honest, at(1002), 0, Some(1001));
        honest.fails_with("that is too early");
        let mut lying = history();
        found(&mut lying, at(1002), 0, Some(1003));
        lying.fails_with("offsets 0 to 2 have the time 1001");
    }

    #[test]
    fn another_time_than_the_frames_fails() {
        let mut history = history();
        found(&mut history, at(1002), 2, Some(1004));
        history.fails_with("offsets 2 to 4 have the time 1003");
    }

    #[test]
    fn the_middle_of_a_frame_fails_but_at_the_start() {
        let mut middle = history();
        found(&mut middle, at(1002), 3, Some(1003));
        middle.fails_with("hold the time 1003");
        let mut trimmed = history();
        found_between(&mut trimmed, at(1002), 3, Some(1003), (3, 6));
        trimmed.passes();
    }

    #[test]
    fn nothing_found_fails_when_something_is_there() {
        let mut there = history();
        found(&mut there, at(1002), 6, None);
        there.fails_with("offsets 2 to 4 hold the time 1003, and the high watermark had been 6");
        let mut new = history();
        new.written(1, 6, 8);
        found_between(&mut new, at(1006), 8, None, (0, 8));
        new.passes();
    }

    #[test]
    fn one_that_went_while_it_was_found_passes() {
        let mut history = history();
        found_between(&mut history, at(0), 2, Some(1001), (2, 6));
        history.passes();
    }

    #[test]
    fn the_start_and_the_end_are_what_is_told() {
        let mut start = history();
        found(&mut start, Place::Start, 1, None);
        start.fails_with("that is not the start");
        let mut end = history();
        found(&mut end, Place::End, 5, None);
        end.fails_with("that is not the end");
    }
}
