//! What a fetch of Kafka's protocol shows: whole batches that follow each other, the first of which has the offset
//! that was asked for, all of them below the high watermark told beside them; and something, where something is there
//! and nothing else took the room.
//!
//! A fetch session (KIP-227) tells what has changed: what its answers say together is what a full fetch would say now.
//!
//! Source: Kafka's protocol guide on Fetch; KIP-74 for "a batch of any size fits an answer that has none yet".

use engine_api::Place;

use super::ends::Ends;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, Fact, Shown};

#[derive(Debug)]
pub(super) struct Fetches {
    rules: Rules,
    ends: Ends,
}

impl Fetches {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ends: Ends::new(rules) }
    }
}

impl Oracle for Fetches {
    fn name(&self) -> &'static str {
        "fetches"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::KafkaShown(shown) => self.check(shown).map_err(|what| {
                Violation(format!(
                    "client {} asked {} for {} at {:?} and knows at {:?} of start {}, high watermark {}, batches \
                     {:?}; {what}",
                    shown.by.0,
                    self.ends.topics.label(shown.from),
                    shown.asked,
                    shown.asked_at,
                    at.time,
                    shown.log_start,
                    shown.high_watermark,
                    shown.batches,
                ))
            })?,
            Fact::KafkaListed { partition, asked_at, place, offset } if !self.rules.beyond_promise => {
                let least = match place {
                    Place::Start => self.ends.log_start(*partition, *asked_at),
                    Place::End if !self.ends.is_damaged(*partition, *asked_at) => {
                        self.ends.high_watermark(*partition, *asked_at)
                    }
                    Place::End | Place::Timestamp(_) => 0,
                };
                if offset.0 < least {
                    return Err(Violation(format!(
                        "{place:?} of {} was listed as {offset} at {:?}, and had been {least} when it was asked",
                        self.ends.topics.label(*partition),
                        at.time,
                    )));
                }
            }
            _ => {}
        }
        self.ends.hear(at);
        Ok(())
    }
}

impl Fetches {
    fn check(&self, shown: &Shown) -> Result<(), String> {
        if shown.loose_bytes > 0 {
            return Err(format!("{} bytes behind them are no whole batch", shown.loose_bytes));
        }
        if let Some((first, end)) = shown.batches.first()
            && (*first > shown.asked || *end <= shown.asked)
        {
            return Err("the first does not have what was asked for".to_owned());
        }
        for pair in shown.batches.windows(2) {
            if pair[1].0 < pair[0].1 {
                return Err(format!("the one at {} begins before {}", pair[1].0, pair[0].1));
            }
        }
        if let Some((_, end)) = shown.batches.last()
            && *end > shown.high_watermark
        {
            return Err(format!("they end at {end}"));
        }
        if !shown.has_records && shown.asked < shown.high_watermark && shown.asked >= shown.log_start {
            return Err("it was given nothing, and nothing was in the way".to_owned());
        }
        if shown.is_told || self.rules.beyond_promise {
            // What an answer tells is held against others by `prefix`.
            return Ok(());
        }
        let high_watermark = self.ends.high_watermark(shown.from, shown.asked_at);
        if shown.high_watermark.0 < high_watermark && !self.ends.is_damaged(shown.from, shown.asked_at) {
            return Err(format!(
                "its session is silent, though the high watermark was {high_watermark} by then"
            ));
        }
        let log_start = self.ends.log_start(shown.from, shown.asked_at);
        if shown.log_start.0 < log_start {
            return Err(format!("its session is silent, though the log's start was {log_start} by then"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use storage_frame::Offset;

    use super::*;
    use crate::fact::ClientId;
    use crate::oracle::history::{History, PARTITION, plain};

    fn history() -> History {
        let mut history = History::new(Fetches::new(Rules::default()));
        history.topic(plain()).sent(1, &[0, 1]).acked(1, 0).sent(2, &[2, 3]).acked(2, 2);
        history
    }

    /// Asked just before.
    fn shown(history: &History, asked: u64, high_watermark: u64, batches: &[(u64, u64)]) -> Shown {
        Shown {
            by: ClientId(9),
            from: PARTITION,
            asked_at: history.now + Duration::from_millis(500),
            asked: Offset(asked),
            log_start: Offset(0),
            high_watermark: Offset(high_watermark),
            batches: batches.iter().map(|(first, end)| (Offset(*first), Offset(*end))).collect(),
            loose_bytes: 0,
            is_told: true,
            has_records: !batches.is_empty(),
        }
    }

    #[track_caller]
    fn check(asked: u64, high_watermark: u64, batches: &[(u64, u64)], fails_with: Option<&str>) {
        let mut history = history();
        let shown = shown(&history, asked, high_watermark, batches);
        history.fact(Fact::KafkaShown(shown));
        match fails_with {
            Some(part) => history.fails_with(part),
            None => history.passes(),
        }
    }

    #[test]
    fn whole_batches_from_the_one_that_was_asked_for_pass() {
        check(0, 4, &[(0, 2), (2, 4)], None);
        check(1, 4, &[(0, 2)], None);
        check(4, 4, &[], None);
    }

    #[test]
    fn a_batch_that_begins_too_late_or_ends_too_early_fails() {
        check(1, 4, &[(2, 4)], Some("the first does not have what was asked for"));
        check(2, 4, &[(0, 2), (2, 4)], Some("the first does not have what was asked for"));
    }

    #[test]
    fn a_batch_twice_fails() {
        check(0, 4, &[(0, 2), (0, 2)], Some("the one at 0 begins before 2"));
    }

    #[test]
    fn a_batch_above_the_high_watermark_fails() {
        check(0, 3, &[(0, 2), (2, 4)], Some("they end at 4"));
    }

    #[test]
    fn part_of_a_batch_fails() {
        let mut history = history();
        let shown = Shown { loose_bytes: 70, ..shown(&history, 0, 4, &[(0, 2)]) };
        history.fact(Fact::KafkaShown(shown)).fails_with("70 bytes behind them are no whole batch");
    }

    #[test]
    fn nothing_where_something_is_fails_unless_others_had_the_room() {
        check(2, 4, &[], Some("nothing was in the way"));
        let mut full = history();
        let shown = Shown { has_records: true, ..shown(&full, 2, 4, &[]) };
        full.fact(Fact::KafkaShown(shown)).passes();
    }

    #[test]
    fn a_session_that_is_silent_has_nothing_to_tell() {
        let silent = |history: &History, high_watermark: u64| Shown {
            is_told: false,
            ..shown(history, high_watermark, high_watermark, &[])
        };
        let mut right = history();
        let shown = silent(&right, 4);
        right.fact(Fact::KafkaShown(shown)).passes();
        let mut forgetful = history();
        let shown = silent(&forgetful, 2);
        forgetful.fact(Fact::KafkaShown(shown)).fails_with("though the high watermark was 4 by then");
        let mut trimmed = history();
        trimmed.fact(Fact::Deleted { partition: PARTITION, before: Offset(3) });
        let shown = silent(&trimmed, 4);
        trimmed.fact(Fact::KafkaShown(shown)).fails_with("though the log's start was 3 by then");
    }

    #[test]
    fn a_list_of_offsets_knows_what_others_knew_before() {
        let listed = |history: &mut History, place: Place, offset: u64| {
            let asked_at = history.now + Duration::from_millis(500);
            let (partition, offset) = (PARTITION, Offset(offset));
            history.fact(Fact::KafkaListed { partition, asked_at, place, offset });
        };
        let mut right = history();
        listed(&mut right, Place::Start, 0);
        listed(&mut right, Place::End, 4);
        right.passes();
        let mut end = history();
        listed(&mut end, Place::End, 2);
        end.fails_with("End of orders/0 (log 0000000000000003) was listed as 2");
        let mut start = history();
        start.fact(Fact::Deleted { partition: PARTITION, before: Offset(3) });
        listed(&mut start, Place::Start, 2);
        start.fails_with("had been 3 when it was asked");
    }
}
