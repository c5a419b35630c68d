//! A reader sees a prefix of the log, in order, from the frame it asked for (fault rows 27, 28, 29): what it is given
//! follows without holes and ends at the high watermark it is told. That, and the log's start, never fall, but at the
//! end of a process: the high watermark where memory had promised, the start where no delete was answered.

use std::time::Duration;

use engine_api::PartitionId;
use storage_frame::Offset;

use super::ends::Ends;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, Fact, Seen};

#[derive(Debug)]
pub(super) struct Prefix {
    rules: Rules,
    ends: Ends,
}

/// What an answer says of a partition.
struct Told<'a> {
    who: &'a dyn Fn() -> String,
    partition: PartitionId,
    asked_at: Duration,
    log_start: u64,
    high_watermark: u64,
}

impl Prefix {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ends: Ends::new(rules) }
    }
}

impl Oracle for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.check(at)?;
        self.ends.hear(at);
        Ok(())
    }
}

impl Prefix {
    fn check(&self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::Read { by, from, asked_at, asked, log_start, high_watermark, records } => {
                let told = Told {
                    who: &|| format!("client {}", by.0),
                    partition: *from,
                    asked_at: *asked_at,
                    log_start: log_start.0,
                    high_watermark: high_watermark.0,
                };
                self.check_records(at.time, &told, *asked, records)?;
                self.check_told(at.time, &told)
            }
            Fact::Found { partition, asked_at, log_start, high_watermark, .. } => {
                let told = Told {
                    who: &|| "a client that looked for an offset".to_owned(),
                    partition: *partition,
                    asked_at: *asked_at,
                    log_start: log_start.0,
                    high_watermark: high_watermark.0,
                };
                self.check_told(at.time, &told)
            }
            Fact::Audit { partition, log_start, high_watermark, .. } => {
                let told = Told {
                    who: &|| "the audit".to_owned(),
                    partition: *partition,
                    asked_at: at.time,
                    log_start: log_start.0,
                    high_watermark: high_watermark.0,
                };
                self.check_told(at.time, &told)
            }
            Fact::ReadRefused { by, from, asked_at, asked, error: "OffsetOutOfRange", why } => {
                self.check_out_of_range(*from, *asked_at, *asked).map_err(|what| {
                    Violation(format!(
                        "client {} asked {} for offset {asked} at {asked_at:?} and was told at {:?} that it is \
                         out of range ({why}), but {what}",
                        by.0,
                        self.ends.topics.label(*from),
                        at.time,
                    ))
                })
            }
            _ => Ok(()),
        }
    }

    fn check_told(&self, now: Duration, told: &Told<'_>) -> Result<(), Violation> {
        if told.log_start > told.high_watermark {
            return Err(self.violation(now, told, "the start is above the high watermark"));
        }
        // Damage takes a partition's end with it, and a lost checkpoint its start.
        if self.rules.beyond_promise {
            return Ok(());
        }
        let high_watermark = self.ends.high_watermark(told.partition, told.asked_at);
        let is_damaged = self.ends.is_damaged(told.partition, told.asked_at);
        if told.high_watermark < high_watermark && !is_damaged {
            let what = format!("the high watermark had been {high_watermark} when it was asked");
            return Err(self.violation(now, told, &what));
        }
        let log_start = self.ends.log_start(told.partition, told.asked_at);
        if told.log_start < log_start {
            let what = format!("the start had been {log_start} when it was asked");
            return Err(self.violation(now, told, &what));
        }
        Ok(())
    }

    fn check_records(
        &self,
        now: Duration,
        told: &Told<'_>,
        asked: Offset,
        records: &[Seen],
    ) -> Result<(), Violation> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        if first.offset > asked || last.offset < asked {
            let what = format!("asked for {asked} it was given {} to {}", first.offset, last.offset);
            return Err(self.violation(now, told, &what));
        }
        if last.offset.0 >= told.high_watermark {
            return Err(self.violation(now, told, &format!("it was given offset {}", last.offset)));
        }
        for pair in records.windows(2) {
            if pair[1].offset.0 != pair[0].offset.0 + 1 {
                let what = format!("offset {} follows {}", pair[1].offset, pair[0].offset);
                return Err(self.violation(now, told, &what));
            }
        }
        Ok(())
    }

    /// Never told of what is there: its reader would jump over it.
    fn check_out_of_range(&self, id: PartitionId, asked_at: Duration, asked: Offset) -> Result<(), String> {
        let high_watermark = self.ends.high_watermark(id, asked_at);
        let delete_before = self.ends.deletes.before(id);
        let may_be_gone = asked.0 < delete_before || self.ends.topics.may_retire(id);
        if asked.0 > high_watermark || may_be_gone || self.rules.beyond_promise {
            return Ok(());
        }
        Err(format!(
            "the high watermark had been {high_watermark} and nobody deleted more than what is below {delete_before}"
        ))
    }

    fn violation(&self, now: Duration, told: &Told<'_>, what: &str) -> Violation {
        Violation(format!(
            "{} asked {} at {:?} and was told at {now:?}: start {}, high watermark {}; {what}",
            (told.who)(),
            self.ends.topics.label(told.partition),
            told.asked_at,
            told.log_start,
            told.high_watermark,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::ClientId;
    use crate::oracle::history::{History, PARTITION, caching, plain, seen};
    use engine_shard::Level;
    use tests_disk::{FaultKind, Zone};

    fn history() -> History {
        History::new(Prefix::new(Rules::default()))
    }

    #[test]
    fn reads_that_follow_each_other_pass() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).read(0, 2, &[0, 1]).crash().read(1, 2, &[1]);
        history.read(2, 2, &[]).audit(0, &[0, 1]).passes();
    }

    #[test]
    fn a_read_begins_with_what_was_asked_for() {
        let mut above = history();
        above.topic(plain()).seen(1, 9, seen(2, &[2, 3])).fails_with("asked for 1 it was given 2 to 3");
        let mut below = history();
        below.topic(plain()).seen(4, 9, seen(2, &[2, 3])).fails_with("asked for 4 it was given 2 to 3");
        let mut frame = history();
        frame.topic(plain()).seen(3, 9, seen(2, &[2, 3])).passes();
    }

    #[test]
    fn a_read_has_no_holes() {
        let mut records = seen(0, &[0, 1, 2]);
        records.remove(1);
        history().topic(plain()).seen(0, 9, records).fails_with("offset 2 follows 0");
    }

    #[test]
    fn a_read_ends_at_the_high_watermark() {
        history().topic(plain()).read(0, 1, &[0, 1]).fails_with("it was given offset 1");
    }

    #[test]
    fn the_start_is_not_above_the_high_watermark() {
        let mut history = history();
        history.topic(plain()).read_of(Duration::from_secs(2), 3, (3, 2), vec![]);
        history.fails_with("the start is above the high watermark");
    }

    #[test]
    fn the_high_watermark_is_not_below_what_was_acknowledged() {
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).read(0, 1, &[0]);
        history.fails_with("the high watermark had been 2 when it was asked");
    }

    #[test]
    fn an_answer_may_be_older_than_what_others_heard() {
        let mut history = history();
        let asked_at = history.now;
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).read_of(asked_at, 0, (0, 1), vec![]).passes();
    }

    #[test]
    fn the_high_watermark_falls_at_a_crash_only_and_only_where_memory_promised() {
        let mut in_life = history();
        in_life.topic(caching()).read(0, 2, &[]).read(0, 1, &[]).fails_with("had been 2");
        let mut cached = history();
        cached.topic(caching()).read(0, 2, &[]).crash().read(0, 1, &[]).passes();
        let mut on_disk = history();
        on_disk
            .topic(caching())
            .written(1, 0, 2)
            .read(0, 2, &[])
            .crash()
            .read(0, 1, &[])
            .fails_with("had been 2");
        let mut stopped = history();
        stopped.topic(caching()).read(0, 2, &[]).stop().read(0, 1, &[]).fails_with("had been 2");
        let mut durable = history();
        durable.topic(plain()).read(0, 2, &[]).crash().read(0, 1, &[]).fails_with("had been 2");
    }

    #[test]
    fn the_start_falls_at_a_crash_only_and_never_below_an_answered_delete() {
        let read = |history: &mut History, log_start: u64| {
            let asked_at = history.now + Duration::from_millis(1);
            history.read_of(asked_at, 9, (log_start, 9), vec![]);
        };
        let mut in_life = history();
        in_life.topic(plain());
        read(&mut in_life, 5);
        read(&mut in_life, 4);
        in_life.fails_with("the start had been 5");
        let mut crashed = history();
        crashed.topic(plain());
        read(&mut crashed, 5);
        crashed.crash();
        read(&mut crashed, 4);
        crashed.passes();
        let mut deleted = history();
        deleted.topic(plain()).fact(Fact::Deleted { partition: PARTITION, before: Offset(5) }).crash();
        read(&mut deleted, 4);
        deleted.fails_with("the start had been 5");
    }

    #[test]
    fn a_lost_checkpoint_takes_the_start_with_it() {
        let mut history = history();
        history.topic(plain()).fact(Fact::Deleted { partition: PARTITION, before: Offset(5) });
        history.crash().injected(FaultKind::LostFile, Zone::Checkpoint);
        history.event(Level::Debug, "log_opened");
        let asked_at = history.now;
        history.read_of(asked_at, 9, (0, 9), vec![]).passes();
    }

    #[test]
    fn a_damaged_log_ends_early_until_it_is_opened_again() {
        let mut damaged = history();
        damaged.topic(plain()).read(0, 5, &[]).crash().error("log_damaged").read(0, 2, &[]).passes();
        let mut mended = history();
        mended.topic(plain()).read(0, 5, &[]).crash().error("log_damaged").crash().read(0, 2, &[]);
        mended.fails_with("the high watermark had been 5");
    }

    #[test]
    fn what_is_there_is_not_out_of_range() {
        let refused = |asked: u64, asked_at: Duration| Fact::ReadRefused {
            by: ClientId(9),
            from: PARTITION,
            asked_at,
            asked: Offset(asked),
            error: "OffsetOutOfRange",
            why: "range".to_owned(),
        };
        let mut history = history();
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).delete_asked(1);
        let asked_at = history.now;
        history.fact(refused(0, asked_at)).fact(refused(3, asked_at)).fact(refused(1, asked_at));
        history.fails_with("asked orders/0 (log 0000000000000003) for offset 1");
    }
}
