//! Kafka's clients tell answers apart by their order alone: on a connection each request that wants an answer gets one,
//! in the order in which they were asked, with the number it carried; one that wants none gets none.
//!
//! Source: Kafka's protocol guide, "Network": the server guarantees that on a single TCP connection requests are
//! processed in the order they are sent and responses return in that order as well.

use std::collections::{BTreeMap, VecDeque};

use super::{Oracle, Violation};
use crate::fact::{At, Fact};

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Of each connection: what waits for its answer, and what wants none and was asked last.
    asked: BTreeMap<u64, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    waiting: VecDeque<i32>,
    silent: Option<i32>,
}

impl Oracle for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::KafkaAsked { connection, correlation, is_answered } => {
                let asked = self.asked.entry(*connection).or_default();
                if *is_answered {
                    asked.waiting.push_back(*correlation);
                } else {
                    asked.silent = Some(*correlation);
                }
                Ok(())
            }
            Fact::KafkaAnswered { connection, correlation } => {
                let asked = self.asked.entry(*connection).or_default();
                match asked.waiting.pop_front() {
                    Some(first) if first == *correlation => Ok(()),
                    _ if asked.silent == Some(*correlation) => Err(Violation(format!(
                        "connection {connection}: request {correlation} wanted no answer and has one"
                    ))),
                    Some(first) => Err(Violation(format!(
                        "connection {connection}: the answer to {first} was to come, and {correlation} came"
                    ))),
                    None => Err(Violation(format!(
                        "connection {connection}: {correlation} was answered, and nothing had been asked"
                    ))),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::History;

    fn asked(correlation: i32, is_answered: bool) -> Fact {
        Fact::KafkaAsked { connection: 1, correlation, is_answered }
    }

    fn answered(connection: u64, correlation: i32) -> Fact {
        Fact::KafkaAnswered { connection, correlation }
    }

    fn history() -> History {
        let mut history = History::new(Answers::default());
        history.fact(asked(5, true)).fact(asked(6, false)).fact(asked(7, true));
        history
    }

    #[test]
    fn answers_in_the_order_of_requests_pass() {
        let mut history = history();
        history.fact(answered(1, 5)).fact(answered(1, 7)).passes();
    }

    #[test]
    fn answers_that_a_lost_connection_kept_pass() {
        let mut history = history();
        history.fact(answered(1, 5)).passes();
    }

    #[test]
    fn another_order_fails() {
        let mut history = history();
        history.fact(answered(1, 7)).fails_with("the answer to 5 was to come, and 7 came");
    }

    #[test]
    fn an_answer_nobody_wants_fails() {
        let mut history = history();
        history.fact(answered(1, 5)).fact(answered(1, 6)).fails_with("6 wanted no answer and has one");
    }

    #[test]
    fn an_answer_to_nothing_fails() {
        let mut history = history();
        history.fact(answered(1, 5)).fact(answered(1, 7)).fact(answered(1, 7));
        history.fails_with("7 was answered, and nothing had been asked");
        let mut elsewhere = History::new(Answers::default());
        elsewhere.fact(asked(5, true)).fact(answered(2, 5)).fails_with("nothing had been asked");
    }
}
