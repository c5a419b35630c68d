//! What a group's consumer has done of its partitions, and what the coordinator's refusals advise.
//!
//! ```text
//! committed <= processed <= given       (next offsets)
//! ```
//! Only what is processed is ever committed: a batch that was given out counts when the next one is asked for.

use std::collections::BTreeMap;

use engine_api::{CommitOffset, GroupError};
use storage_frame::Offset;

/// By topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    places: BTreeMap<(String, u32), Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    committed: Option<Offset>,
    processed: Offset,
    given: Offset,
}

/// What is to be committed, as the message wants it.
pub(crate) type Uncommitted = Vec<(String, Vec<CommitOffset>)>;

impl Progress {
    pub(crate) fn begin(&mut self, topic: &str, partition: u32, at: Offset, committed: Option<Offset>) {
        let place = Place { committed, processed: at, given: at };
        self.places.insert((topic.to_owned(), partition), place);
    }

    /// Everything below has been given out, or never was there.
    pub(crate) fn give(&mut self, topic: &str, partition: u32, next: Offset) {
        if let Some(place) = self.places.get_mut(&(topic.to_owned(), partition)) {
            assert!(next >= place.given, "what is given out follows what was");
            place.given = next;
        }
    }

    /// Of the last batch that was given out only this much is to count.
    pub(crate) fn limit(&mut self, topic: &str, partition: u32, next: Offset) {
        if let Some(place) = self.places.get_mut(&(topic.to_owned(), partition)) {
            place.given = next.clamp(place.processed, place.given);
        }
    }

    /// The next one is asked for: whatever was given out is processed.
    pub(crate) fn settle(&mut self) {
        for place in self.places.values_mut() {
            place.processed = place.given;
        }
    }

    /// Where reading goes on.
    pub(crate) fn position(&self, topic: &str, partition: u32) -> Option<Offset> {
        self.places.get(&(topic.to_owned(), partition)).map(|place| place.given)
    }

    pub(crate) fn committed(&self, topic: &str, partition: u32) -> Option<Offset> {
        self.places.get(&(topic.to_owned(), partition))?.committed
    }

    pub(crate) fn has_uncommitted(&self) -> bool {
        self.places.values().any(|place| place.committed != Some(place.processed))
    }

    pub(crate) fn uncommitted(&self) -> Uncommitted {
        let mut all: Uncommitted = Vec::new();
        for ((topic, partition), place) in &self.places {
            if place.committed == Some(place.processed) {
                continue;
            }
            let offset = CommitOffset {
                partition: *partition,
                offset: place.processed,
                leader_epoch: -1,
                metadata: String::new(),
            };
            match all.last_mut() {
                Some((last, offsets)) if last == topic => offsets.push(offset),
                Some(_) | None => all.push((topic.clone(), vec![offset])),
            }
        }
        all
    }

    pub(crate) fn on_committed(&mut self, topic: &str, partition: u32, offset: Offset) {
        if let Some(place) = self.places.get_mut(&(topic.to_owned(), partition)) {
            place.committed = Some(offset);
        }
    }

    pub(crate) fn partitions(&self) -> Vec<(String, u32)> {
        self.places.keys().cloned().collect()
    }
}

/// What to do about a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It passes by itself.
    Retry,
    /// With the id it has. What it worked on is still its own until it joins.
    Rejoin,
    /// What it worked on is another's by now; with this id, or as somebody new.
    Lost { member: Option<String> },
    /// Asking again changes nothing.
    Fail,
}

pub(crate) fn advice(error: &GroupError) -> Advice {
    match error {
        GroupError::NotReady
        | GroupError::Loading
        | GroupError::StorageFailed { .. }
        | GroupError::NoSpace
        | GroupError::Overloaded
        | GroupError::ShuttingDown => Advice::Retry,
        GroupError::RebalanceInProgress => Advice::Rejoin,
        GroupError::UnknownMember { .. } => Advice::Lost { member: Some(String::new()) },
        GroupError::MemberIdRequired { member } => Advice::Lost { member: Some(member.clone()) },
        GroupError::IllegalGeneration { .. } => Advice::Lost { member: None },
        GroupError::InvalidGroup { .. }
        | GroupError::NotFound { .. }
        | GroupError::NotEmpty { .. }
        | GroupError::Fenced { .. }
        | GroupError::InconsistentProtocol { .. }
        | GroupError::SessionTimeout { .. }
        | GroupError::Full { .. }
        | GroupError::TooLarge { .. }
        | GroupError::MetadataTooLarge { .. }
        | GroupError::UnknownPartition
        | GroupError::Subscribed { .. } => Advice::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_processed_is_committed() {
        let mut progress = Progress::default();
        progress.begin("t", 0, Offset(5), Some(Offset(5)));
        progress.begin("t", 1, Offset(0), None);
        progress.give("t", 0, Offset(9));
        let offsets = |progress: &Progress| -> Vec<(u32, u64)> {
            let all = progress.uncommitted();
            all.iter().flat_map(|(_, of)| of.iter().map(|one| (one.partition, one.offset.0))).collect()
        };
        // A place that was found counts, so that it is not looked for again.
        assert_eq!(offsets(&progress), [(1, 0)]);
        progress.settle();
        assert_eq!(offsets(&progress), [(0, 9), (1, 0)]);
        progress.give("t", 0, Offset(12));
        progress.on_committed("t", 0, Offset(9));
        progress.on_committed("t", 1, Offset(0));
        assert!(!progress.has_uncommitted());
        assert_eq!(progress.position("t", 0), Some(Offset(12)));
        progress.limit("t", 0, Offset(11));
        progress.settle();
        assert_eq!(offsets(&progress), [(0, 11)]);
        progress.limit("t", 0, Offset(3));
        progress.settle();
        assert_eq!(offsets(&progress), [(0, 11)]);
    }

    #[test]
    fn a_place_in_nobodys_partition_is_ignored() {
        let mut progress = Progress::default();
        progress.give("t", 0, Offset(9));
        progress.on_committed("t", 0, Offset(9));
        assert_eq!((progress.has_uncommitted(), progress.partitions()), (false, vec![]));
    }
}
