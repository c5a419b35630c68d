//! Whoever has slept through a rebalance commits nothing (I14): a commit sent with a generation after anybody
//! knew what it owns in a later one is refused.
//!
//! Source: Kafka's protocol, ILLEGAL_GENERATION of `OffsetCommit`: the partition has another owner, whose commits a
//! zombie's would undo.

use std::collections::BTreeMap;

use super::{Oracle, Violation};
use crate::fact::{At, CommitId, Fact};

#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// The last generation of each group that anybody knew its part of.
    last: BTreeMap<String, i32>,
    /// Those that must be refused, and the generation that was known when they were sent.
    zombies: BTreeMap<CommitId, (String, i32, i32)>,
}

impl Oracle for Fencing {
    fn name(&self) -> &'static str {
        "fencing"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::GroupAssigned { group, generation, .. } => {
                let last = self.last.entry(group.clone()).or_insert(*generation);
                *last = (*last).max(*generation);
            }
            Fact::CommitSent { commit, group, generation, .. } => {
                let last = self.last.get(group).copied().unwrap_or(-1);
                if *generation >= 0 && *generation < last {
                    self.zombies.insert(*commit, (group.clone(), *generation, last));
                }
            }
            Fact::CommitAcked { commit } => {
                if let Some((group, generation, last)) = self.zombies.get(commit) {
                    return Err(Violation(format!(
                        "commit {} of generation {generation} of {group} was accepted, though generation {last} was \
                         known before it was sent",
                        commit.0
                    )));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::ClientId;
    use crate::oracle::history::History;

    fn assigned(generation: i32) -> Fact {
        Fact::GroupAssigned {
            group: "g".to_owned(),
            client: ClientId(1),
            member: "a".to_owned(),
            generation,
            owned: Vec::new(),
        }
    }

    fn sent(commit: u64, generation: i32) -> Fact {
        Fact::CommitSent {
            commit: CommitId(commit),
            group: "g".to_owned(),
            member: "b".to_owned(),
            generation,
            offsets: Vec::new(),
        }
    }

    #[test]
    fn a_zombie_is_refused_or_fails() {
        let mut refused = History::new(Fencing::default());
        refused.fact(assigned(2)).fact(sent(1, 1));
        refused.fact(Fact::CommitRefused { commit: CommitId(1), why: String::new() }).passes();
        let mut accepted = History::new(Fencing::default());
        accepted.fact(assigned(2)).fact(sent(1, 1)).fact(Fact::CommitAcked { commit: CommitId(1) });
        accepted.fails_with("commit 1 of generation 1 of g was accepted");
    }

    #[test]
    fn a_commit_overtaken_on_its_way_may_be_accepted() {
        let mut history = History::new(Fencing::default());
        history.fact(assigned(1)).fact(sent(1, 1)).fact(assigned(2));
        history.fact(Fact::CommitAcked { commit: CommitId(1) }).passes();
    }
}
