//! Committed offsets are kept (I13): an acknowledged commit is what is read from then on, through every crash, until a
//! later one takes its place; one that was refused is never seen; none comes back once another has taken its place.
//!
//! A commit takes effect between being sent and being over: answered, or the end of the life it was sent in. What is
//! read must be explained by one order of them.
//!
//! Source: Kafka's documentation of `OffsetCommit`: committed is durable; and plain sense: a group never goes back by
//! itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Oracle, Rules, Violation};
use crate::fact::{At, CommitId, Fact};

type Place = (String, String, u32);

#[derive(Debug)]
pub(super) struct Commits {
    rules: Rules,
    commits: BTreeMap<CommitId, Commit>,
    /// In the order in which they were sent.
    of_place: BTreeMap<Place, Vec<CommitId>>,
}

#[derive(Debug)]
struct Commit {
    sent: Duration,
    offsets: BTreeMap<Place, u64>,
    outcome: Outcome,
    /// Since when another has certainly taken its place, by place.
    replaced: BTreeMap<Place, Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Acked(Duration),
    Refused,
    /// It took effect before this, or never.
    Doubtful(Duration),
}

impl Commit {
    /// It was over by then, whatever became of it.
    fn is_over_by(&self, time: Duration) -> bool {
        match self.outcome {
            Outcome::Open | Outcome::Refused => false,
            Outcome::Acked(end) | Outcome::Doubtful(end) => end <= time,
        }
    }
}

impl Commits {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, commits: BTreeMap::new(), of_place: BTreeMap::new() }
    }

    fn end(&mut self, commit: CommitId, outcome: Outcome) {
        if let Some(known) = self.commits.get_mut(&commit) {
            known.outcome = outcome;
        }
    }

    /// Everything that was over before this one was sent has been replaced by it.
    fn acked(&mut self, commit: CommitId, now: Duration) {
        let Some(known) = self.commits.get(&commit) else { return };
        let (sent, places) = (known.sent, known.offsets.keys().cloned().collect::<Vec<_>>());
        for place in places {
            self.replace(&place, commit, sent, now);
        }
        self.end(commit, Outcome::Acked(now));
    }

    /// Whatever was over by `over_by` has certainly been replaced at `now`.
    fn replace(&mut self, place: &Place, by: CommitId, over_by: Duration, now: Duration) {
        for other in self.of_place.get(place).into_iter().flatten().filter(|other| **other != by) {
            let other = self.commits.get_mut(other).expect("listed");
            if other.is_over_by(over_by) {
                other.replaced.entry(place.clone()).or_insert(now);
            }
        }
    }

    fn read(
        &mut self,
        place: &Place,
        asked_at: Duration,
        now: Duration,
        found: Option<(u64, CommitId)>,
    ) -> Result<(), Violation> {
        let label = format!("{} of {}/{}", place.0, place.1, place.2);
        let Some((offset, commit)) = found else {
            return match self.kept(place, asked_at) {
                Some(kept) => Err(Violation(format!(
                    "{label}: nothing is committed, though commit {} was acknowledged before",
                    kept.0
                ))),
                None => Ok(()),
            };
        };
        let Some(known) = self.commits.get(&commit) else {
            return Err(Violation(format!("{label}: commit {} was never sent", commit.0)));
        };
        if known.offsets.get(place) != Some(&offset) {
            return Err(Violation(format!("{label}: commit {} comes back as offset {offset}", commit.0)));
        }
        if known.outcome == Outcome::Refused {
            return Err(Violation(format!("{label}: commit {} was refused and is there", commit.0)));
        }
        if let Some(replaced) = known.replaced.get(place).filter(|replaced| **replaced <= asked_at) {
            return Err(Violation(format!(
                "{label}: commit {} is back at {now:?}, another had taken its place by {replaced:?}",
                commit.0
            )));
        }
        // It has taken effect after all that was over when this was asked.
        self.replace(place, commit, asked_at, now);
        Ok(())
    }

    /// A commit that nobody may find gone.
    fn kept(&self, place: &Place, asked_at: Duration) -> Option<CommitId> {
        let acked = |commit: &&CommitId| matches!(self.commits[*commit].outcome, Outcome::Acked(end) if end <= asked_at);
        self.of_place.get(place)?.iter().find(acked).copied()
    }
}

impl Oracle for Commits {
    fn name(&self) -> &'static str {
        "commits"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        if self.rules.beyond_promise {
            return Ok(());
        }
        match &at.fact {
            Fact::CommitSent { commit, group, offsets, .. } => {
                let place =
                    |(topic, partition, _): &(String, u32, u64)| (group.clone(), topic.clone(), *partition);
                let offsets: BTreeMap<Place, u64> =
                    offsets.iter().map(|offset| (place(offset), offset.2)).collect();
                for place in offsets.keys() {
                    self.of_place.entry(place.clone()).or_default().push(*commit);
                }
                let sent =
                    Commit { sent: at.time, offsets, outcome: Outcome::Open, replaced: BTreeMap::new() };
                self.commits.insert(*commit, sent);
            }
            Fact::CommitAcked { commit } => self.acked(*commit, at.time),
            Fact::CommitRefused { commit, .. } => self.end(*commit, Outcome::Refused),
            // A cancelled one may still be under way; a node that is gone takes no effect any more.
            Fact::CommitDoubtful { .. } => {}
            Fact::Crashed { .. } | Fact::Stopped { .. } => {
                for commit in self.commits.values_mut().filter(|commit| commit.outcome == Outcome::Open) {
                    commit.outcome = Outcome::Doubtful(at.time);
                }
            }
            Fact::OffsetsRead { group, asked_at, offsets } => {
                let found: BTreeMap<Place, (u64, CommitId)> = offsets
                    .iter()
                    .map(|(topic, partition, offset, commit)| {
                        ((group.clone(), topic.clone(), *partition), (*offset, *commit))
                    })
                    .collect();
                let mut places: Vec<Place> =
                    self.of_place.keys().filter(|place| place.0 == *group).cloned().collect();
                places.extend(found.keys().filter(|place| !self.of_place.contains_key(*place)).cloned());
                for place in places {
                    self.read(&place, *asked_at, at.time, found.get(&place).copied())?;
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
    use crate::oracle::history::History;

    fn sent(commit: u64, offset: u64) -> Fact {
        Fact::CommitSent {
            commit: CommitId(commit),
            group: "g".to_owned(),
            member: "a".to_owned(),
            generation: 1,
            offsets: vec![("t".to_owned(), 0, offset)],
        }
    }

    fn acked(commit: u64) -> Fact {
        Fact::CommitAcked { commit: CommitId(commit) }
    }

    fn read(history: &mut History, found: Option<(u64, u64)>) -> &mut History {
        let asked_at = history.now;
        let offsets = found.map(|(offset, commit)| ("t".to_owned(), 0, offset, CommitId(commit)));
        let offsets = offsets.into_iter().collect();
        history.fact(Fact::OffsetsRead { group: "g".to_owned(), asked_at, offsets })
    }

    fn history() -> History {
        History::new(Commits::new(Rules::default()))
    }

    #[test]
    fn the_last_acknowledged_commit_is_read_after_a_crash() {
        let mut history = history();
        history.fact(sent(1, 5)).fact(acked(1)).fact(sent(2, 9)).fact(acked(2)).crash();
        read(&mut history, Some((9, 2))).passes();
    }

    #[test]
    fn an_acknowledged_commit_that_is_lost_fails() {
        let mut gone = history();
        gone.fact(sent(1, 5)).fact(acked(1)).crash();
        read(&mut gone, None).fails_with("nothing is committed, though commit 1 was acknowledged");
        let mut back = history();
        back.fact(sent(1, 5)).fact(acked(1)).fact(sent(2, 9)).fact(acked(2)).crash();
        read(&mut back, Some((5, 1))).fails_with("commit 1 is back");
    }

    #[test]
    fn a_commit_in_doubt_may_be_there_or_not_but_does_not_come_back() {
        let mut history = history();
        history.fact(sent(1, 5)).fact(acked(1)).fact(sent(2, 9)).crash();
        read(&mut history, Some((9, 2)));
        read(&mut history, Some((5, 1))).fails_with("commit 1 is back");
    }

    #[test]
    fn a_refused_commit_that_is_there_fails() {
        let mut history = history();
        history.fact(sent(1, 5)).fact(Fact::CommitRefused { commit: CommitId(1), why: String::new() });
        read(&mut history, Some((5, 1))).fails_with("commit 1 was refused and is there");
    }
}
