//! Retention removes whole segments, oldest first, for a reason: every record of it was deleted, or it is too old, or
//! what follows is enough (`retention.ms`, `retention.bytes`; KIP-107 for deletes). Never one that is still written.
//! The start moves for such a reason only, and by retention only to where a segment ends. A log goes as a whole only
//! when somebody asked for its topic to be deleted.
//!
//! Frames of a write that a crash left unanswered are not known: their bytes are allowed for.

use std::collections::BTreeMap;

use engine_api::PartitionId;
use storage_frame::{LogId, Offset, TimestampMs};
use storage_log::SegmentId;
use tests_disk::Zone;

use super::deletes::Deletes;
use super::lives::log_of;
use super::topics::Topics;
use super::{Oracle, Violation};
use crate::fact::{At, Fact, FrameFact};

/// What one unanswered write may have left: a write is of 1 MiB at most, or one frame.
const UNANSWERED_BYTES_MAX: u64 = 2 << 20;
/// The header block of each segment.
const SEGMENT_HEADER_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct Retention {
    topics: Topics,
    deletes: Deletes,
    /// The latest any clock of the node has shown.
    wall: TimestampMs,
    life: u32,
    logs: BTreeMap<LogId, Log>,
}

#[derive(Debug, Default)]
struct Log {
    segments: BTreeMap<u32, Segment>,
    retired: Option<u32>,
    /// The life in which its checkpoint was harmed: the next one may not know which of them were retired.
    forgotten_in: Option<u32>,
    /// What is told of the start up to here has its reason.
    start: u64,
    unanswered_bytes_max: u64,
    written_in: u32,
}

#[derive(Debug)]
struct Segment {
    base: u64,
    end: u64,
    max_timestamp: TimestampMs,
    bytes: u64,
    is_retired: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            topics: Topics::default(),
            deletes: Deletes::default(),
            wall: TimestampMs(i64::MIN),
            life: 0,
            logs: BTreeMap::new(),
        }
    }
}

impl Oracle for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.topics.hear(at);
        self.deletes.hear(at);
        self.wall = self.wall.max(at.wall);
        let violated = |what: String| Violation(format!("at {:?} {what}", at.time));
        match &at.fact {
            Fact::Began { life, .. } => self.life = *life,
            Fact::Written { log, segment, frames } => {
                return self.on_written(*log, *segment, frames).map_err(violated);
            }
            Fact::Retiring { log, segment } => return self.on_retiring(*log, *segment).map_err(violated),
            Fact::Injected { log: Some(log), kind: Some((kind, Zone::Checkpoint)), .. }
                if kind.promise(Zone::Written) == tests_disk::Promise::Noticed =>
            {
                self.logs.entry(*log).or_default().forgotten_in = Some(self.life);
            }
            Fact::Event { name: "log_opened", fields, .. } => {
                if let Some(known) = log_of(fields).and_then(|log| self.logs.get_mut(&log))
                    && let Some(forgotten_in) = known.forgotten_in
                {
                    known.forgotten_in = Some(forgotten_in).filter(|life| *life == self.life);
                    known.retired = None;
                }
            }
            Fact::LogRemoving { log } => {
                if let Some(id) = self.topics.partition(*log)
                    && self.topics.topic(id).is_some_and(|topic| !topic.delete_asked)
                {
                    let what =
                        format!("all of {} is removed, whose topic nobody deletes", self.topics.label(id));
                    return Err(violated(what));
                }
            }
            Fact::Read { from: partition, log_start, .. }
            | Fact::Found { partition, log_start, .. }
            | Fact::Audit { partition, log_start, .. } => {
                return self.on_start(*partition, *log_start).map_err(violated);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Retention {
    fn on_written(&mut self, log: LogId, id: SegmentId, frames: &[FrameFact]) -> Result<(), String> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
        let known = self.logs.entry(log).or_default();
        if known.retired.is_some_and(|retired| id.0 <= retired) {
            let label = self.label(log);
            return Err(format!(
                "offsets {} to {} of {label} were written to segment {}, which was retired",
                first.base_offset, last.end_offset, id.0
            ));
        }
        let end = known.segments.values().next_back().map_or(0, |segment| segment.end);
        if known.written_in != self.life || known.segments.is_empty() {
            known.written_in = self.life;
            if first.base_offset.0 != end {
                known.unanswered_bytes_max += UNANSWERED_BYTES_MAX;
            }
        }
        let segment = known.segments.entry(id.0).or_insert(Segment {
            base: first.base_offset.0,
            end: first.base_offset.0,
            max_timestamp: TimestampMs(i64::MIN),
            bytes: SEGMENT_HEADER_BYTES,
            is_retired: false,
        });
        for frame in frames {
            segment.end = frame.end_offset.0;
            segment.max_timestamp = segment.max_timestamp.max(frame.max_timestamp);
            segment.bytes += u64::from(frame.bytes);
        }
        Ok(())
    }

    fn on_retiring(&mut self, log: LogId, id: SegmentId) -> Result<(), String> {
        let partition = self.topics.partition(log);
        let Some(known) = self.logs.get(&log) else { return Ok(()) };
        if let Some(partition) = partition {
            // Oldest first: those before it go for their own reasons, at the same time.
            for (number, segment) in known.segments.range(..=id.0).filter(|(_, segment)| !segment.is_retired)
            {
                if let Err(why) = self.check_may_go(partition, known, *number, segment) {
                    return Err(format!(
                        "segment {} of {} is to go with segment {number} (offsets {} to {}, times to {}, {} bytes): {why}",
                        id.0,
                        self.topics.label(partition),
                        segment.base,
                        segment.end,
                        segment.max_timestamp.0,
                        segment.bytes,
                    ));
                }
            }
        }
        let known = self.logs.get_mut(&log).expect("just looked at");
        known.retired = known.retired.max(Some(id.0));
        if let Some(segment) = known.segments.get_mut(&id.0) {
            segment.is_retired = true;
        }
        Ok(())
    }

    /// Each of them is a reason alone.
    fn check_may_go(
        &self,
        partition: PartitionId,
        log: &Log,
        number: u32,
        segment: &Segment,
    ) -> Result<(), String> {
        let delete_before = self.deletes.before(partition);
        if segment.end <= delete_before {
            return Ok(());
        }
        let behind = log.segments.range(number + 1..).map(|(_, segment)| segment.bytes).sum::<u64>();
        let behind = behind + self.unanswered_bytes_max(log);
        let age_ms = i128::from(self.wall.0) - i128::from(segment.max_timestamp.0);
        let promises = self.topics.topic(partition).map_or(&[][..], |topic| &topic.promises);
        let is_allowed = promises.iter().any(|promise| {
            promise.retention_bytes.is_some_and(|bytes| behind >= bytes)
                || promise.retention_ms.is_some_and(|ms| age_ms > i128::from(ms))
        });
        if is_allowed {
            return Ok(());
        }
        Err(format!(
            "deletes reach {delete_before}, it is {age_ms} ms old, {behind} bytes are behind it, and allowed is {promises:?}"
        ))
    }

    /// A life that has not written yet may stand on more than was answered.
    fn unanswered_bytes_max(&self, log: &Log) -> u64 {
        let of_now = if log.written_in == self.life { 0 } else { UNANSWERED_BYTES_MAX };
        log.unanswered_bytes_max + of_now
    }

    fn on_start(&mut self, partition: PartitionId, log_start: Offset) -> Result<(), String> {
        let Some(log) = self.topics.log(partition) else { return Ok(()) };
        let known = self.logs.entry(log).or_default();
        let start = log_start.0;
        if start <= known.start.max(self.deletes.before(partition)) {
            return Ok(());
        }
        let known = &self.logs[&log];
        let label = || self.topics.label(partition);
        if !self.topics.may_retire(partition) {
            let delete_before = self.deletes.before(partition);
            return Err(format!("the start of {} is {start}, and deletes reach {delete_before}", label()));
        }
        let mut first = None;
        for (number, segment) in known.segments.iter().filter(|(_, segment)| segment.base < start) {
            let (base, end) = (segment.base, segment.end);
            if segment.end > start {
                return Err(format!(
                    "the start of {} is {start}, in the middle of segment {number} (offsets {base} to {end})",
                    label()
                ));
            }
            let is_judged = segment.is_retired || segment.end <= known.start;
            if !is_judged && let Err(why) = self.check_may_go(partition, known, *number, segment) {
                return Err(format!(
                    "the start of {} is {start}, behind segment {number} (offsets {base} to {end}): {why}",
                    label()
                ));
            }
            first = Some(*number);
        }
        if first.is_none() && known.unanswered_bytes_max == 0 && known.written_in == self.life {
            return Err(format!("the start of {} is {start}, and nothing was ever below it", label()));
        }
        self.logs.get_mut(&log).expect("just looked at").start = start;
        Ok(())
    }

    fn label(&self, log: LogId) -> String {
        self.topics.partition(log).map_or_else(|| format!("log {log}"), |id| self.topics.label(id))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine_shard::Level;
    use tests_disk::FaultKind;

    use super::*;
    use crate::fact::TopicPromise;
    use crate::oracle::history::{FRAME_BYTES, History, LOG, TOPIC, plain};

    fn history(promise: TopicPromise) -> History {
        let mut history = History::new(Retention::default());
        history.topic(promise).written(1, 0, 2).written(2, 2, 4).written(3, 4, 6);
        history
    }

    fn by_bytes(segments: u64) -> TopicPromise {
        let bytes = segments * (SEGMENT_HEADER_BYTES + u64::from(FRAME_BYTES));
        TopicPromise { retention_bytes: Some(bytes), ..plain() }
    }

    fn by_age(ms: u64) -> TopicPromise {
        TopicPromise { retention_ms: Some(ms), ..plain() }
    }

    fn retiring(history: &mut History, segment: u32) -> &mut History {
        history.fact(Fact::Retiring { log: LOG, segment: SegmentId(segment) })
    }

    fn start(history: &mut History, log_start: u64) -> &mut History {
        history.read_of(Duration::ZERO, 9, (log_start, 9), vec![])
    }

    #[test]
    fn a_segment_that_was_deleted_may_go() {
        let mut whole = history(plain());
        whole.delete_asked(2);
        start(retiring(&mut whole, 1), 2).passes();
        let mut partly = history(plain());
        retiring(partly.delete_asked(1), 1)
            .fails_with("segment 1 of orders/0 (log 0000000000000003) is to go");
    }

    #[test]
    fn a_segment_goes_by_size_when_enough_is_behind_it() {
        let mut enough = history(by_bytes(2));
        start(retiring(&mut enough, 1), 2).passes();
        let mut too_early = history(by_bytes(2));
        retiring(retiring(&mut too_early, 1), 2).fails_with("5096 bytes are behind it");
    }

    #[test]
    fn a_segment_goes_by_age_when_all_of_it_is_old() {
        // Its last record is of 1001, and it is about 1,006,000.
        let mut old = history(by_age(1_000_000));
        start(retiring(&mut old, 1), 2).passes();
        let mut young = history(by_age(2_000_000));
        retiring(&mut young, 1).fails_with("ms old");
    }

    #[test]
    fn a_segment_does_not_go_before_an_older_one_that_must_stay() {
        let mut history = history(by_bytes(1));
        history.now += Duration::ZERO;
        retiring(&mut history, 3).fails_with("is to go with segment 3");
    }

    #[test]
    fn a_segment_that_is_written_does_not_go() {
        let mut history = history(plain());
        history.delete_asked(6);
        retiring(&mut history, 3).written(3, 6, 8);
        history.fails_with(
            "offsets 6 to 8 of orders/0 (log 0000000000000003) were written to segment 3, which was retired",
        );
    }

    #[test]
    fn a_retired_segment_may_be_back_where_the_checkpoint_was_harmed() {
        let mut history = history(plain());
        history.delete_asked(6);
        retiring(&mut history, 3).injected(FaultKind::BitFlip, Zone::Checkpoint).crash();
        history.event(Level::Debug, "log_opened").written(3, 6, 8).passes();
    }

    #[test]
    fn a_checkpoint_harmed_behind_an_opening_is_missed_by_the_next() {
        let mut history = history(plain());
        history.delete_asked(6).injected(FaultKind::BitFlip, Zone::Checkpoint);
        retiring(history.event(Level::Debug, "log_opened"), 3);
        history.crash().event(Level::Debug, "log_opened").written(3, 6, 8).passes();
    }

    #[test]
    fn the_start_does_not_move_without_a_reason() {
        let mut none = history(plain());
        start(&mut none, 2)
            .fails_with("the start of orders/0 (log 0000000000000003) is 2, and deletes reach 0");
        let mut early = history(by_bytes(2));
        start(&mut early, 4).fails_with("behind segment 2 (offsets 2 to 4)");
    }

    #[test]
    fn retention_moves_the_start_to_a_segments_end() {
        let mut middle = history(by_bytes(1));
        start(&mut middle, 3).fails_with("in the middle of segment 2 (offsets 2 to 4)");
        let mut deleted = history(plain());
        start(deleted.delete_asked(3), 3).passes();
    }

    #[test]
    fn a_log_goes_with_its_topic_only() {
        history(plain()).fact(Fact::LogRemoving { log: LOG }).fails_with("whose topic nobody deletes");
        let mut asked = history(plain());
        asked.fact(Fact::TopicDeleteAsked(TOPIC)).fact(Fact::LogRemoving { log: LOG }).passes();
    }
}
