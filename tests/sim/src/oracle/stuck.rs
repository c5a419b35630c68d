//! A member that owns what it does not read is told to be stuck, and nobody else is; and how many records a group has
//! before it is what there is above what it committed.
//!
//! Looked at once faults are over and nothing but heartbeats moves, in topics that keep what they have.
//!
//! Source: what an operator relies on in `group describe`: lag, and the name of whoever does not do its part.

use std::collections::{BTreeMap, BTreeSet};

use engine_api::{PartitionId, TopicId};

use super::ends::Ends;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, Fact};

#[derive(Debug)]
pub(super) struct Stuck {
    ends: Ends,
    ids: BTreeMap<String, TopicId>,
    /// By group and member: what it does not read.
    idle: BTreeMap<(String, String), BTreeSet<(String, u32)>>,
    /// Of those, who was told to be stuck.
    noticed: BTreeSet<(String, String)>,
    /// As last read.
    committed: BTreeMap<String, Vec<(String, u32, u64)>>,
}

impl Stuck {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            ends: Ends::new(rules),
            ids: BTreeMap::new(),
            idle: BTreeMap::new(),
            noticed: BTreeSet::new(),
            committed: BTreeMap::new(),
        }
    }
}

impl Oracle for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.ends.hear(at);
        match &at.fact {
            Fact::Topic(topic) => {
                self.ids.insert(topic.name.clone(), topic.id);
            }
            Fact::MemberIdle { group, member, places } => {
                let who = (group.clone(), member.clone());
                self.idle.insert(who, places.iter().cloned().collect());
            }
            Fact::MemberBusy { group, member } => {
                let who = (group.clone(), member.clone());
                self.idle.remove(&who);
                if !self.noticed.remove(&who) {
                    return Err(Violation(format!(
                        "'{member}' of {group} read nothing of what it owns until {:?}, and nobody noticed",
                        at.time
                    )));
                }
            }
            Fact::Event { name: "group_member_stuck", fields, .. } if !self.idle.is_empty() => {
                self.on_noticed(fields)?;
            }
            Fact::OffsetsRead { group, offsets, .. } => {
                let offsets =
                    offsets.iter().map(|(topic, index, offset, _)| (topic.clone(), *index, *offset));
                self.committed.insert(group.clone(), offsets.collect());
            }
            Fact::LagTold { group, topic, records } => self.on_lag(group, topic, *records)?,
            _ => {}
        }
        Ok(())
    }
}

impl Stuck {
    /// While one does not read, no other one is stuck.
    fn on_noticed(&mut self, fields: &str) -> Result<(), Violation> {
        let field = |name: &str| {
            let found = fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let who = (field("group"), field("member"));
        let place = (field("topic"), field("partition").parse().unwrap_or(u32::MAX));
        match self.idle.get(&who) {
            Some(places) if places.contains(&place) => {
                self.noticed.insert(who);
                Ok(())
            }
            // What it has never committed to is its own as well.
            Some(_) => Ok(()),
            None => Err(Violation(format!("a member is said to be stuck that reads: {fields}"))),
        }
    }

    fn on_lag(&self, group: &str, topic: &str, told: u64) -> Result<(), Violation> {
        let (Some(id), Some(committed)) = (self.ids.get(topic), self.committed.get(group)) else {
            return Ok(());
        };
        let mut there = 0;
        for (_, index, offset) in committed.iter().filter(|(of, ..)| of == topic) {
            let partition = PartitionId { topic: *id, index: *index };
            if self.ends.topics.may_retire(partition) || self.ends.deletes.before(partition) > 0 {
                return Ok(());
            }
            there += self.ends.high_watermark_now(partition).saturating_sub(*offset);
        }
        if told == there {
            return Ok(());
        }
        Err(Violation(format!(
            "{group} has {there} records of {topic} before it, above what it committed ({committed:?}), and the node \
             says {told}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use engine_shard::Level;

    use super::*;
    use crate::fact::CommitId;
    use crate::oracle::history::{History, plain};

    fn history() -> History {
        let mut history = History::new(Stuck::new(Rules::default()));
        history.topic(plain()).sent(1, &[0, 1, 2]).acked(1, 0);
        let places = vec![("orders".to_owned(), 0)];
        history.fact(Fact::MemberIdle { group: "g".to_owned(), member: "a".to_owned(), places });
        history
    }

    fn busy() -> Fact {
        Fact::MemberBusy { group: "g".to_owned(), member: "a".to_owned() }
    }

    fn noticed(member: &str) -> Fact {
        let fields = format!("group=g member={member} topic=orders partition=0 lag_records=3 lag_seconds=1");
        Fact::Event { life: 0, core: 0, level: Level::Warn, name: "group_member_stuck", fields }
    }

    fn lag(committed: u64, records: u64) -> [Fact; 2] {
        let (group, topic) = ("g".to_owned(), "orders".to_owned());
        let offsets = vec![(topic.clone(), 0, committed, CommitId(1))];
        let asked_at = std::time::Duration::ZERO;
        [
            Fact::OffsetsRead { group: group.clone(), asked_at, offsets },
            Fact::LagTold { group, topic, records },
        ]
    }

    #[test]
    fn one_that_does_not_read_is_noticed() {
        let mut history = history();
        history.fact(noticed("a")).fact(busy()).passes();
    }

    #[test]
    fn one_that_nobody_notices_fails() {
        let mut history = history();
        history.fact(busy()).fails_with("'a' of g read nothing of what it owns");
    }

    #[test]
    fn one_that_reads_and_is_noticed_fails() {
        let mut history = history();
        history.fact(noticed("b")).fails_with("a member is said to be stuck that reads");
    }

    #[test]
    fn the_lag_is_what_is_above_what_was_committed() {
        let mut right = history();
        for fact in lag(1, 2) {
            right.fact(fact);
        }
        right.fact(noticed("a")).fact(busy()).passes();
        for wrong in [1, 3] {
            let mut history = history();
            for fact in lag(1, wrong) {
                history.fact(fact);
            }
            history.fails_with("g has 2 records of orders before it");
        }
    }
}
