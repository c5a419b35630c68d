//! Committed offsets: who may commit, what is kept for how long.
//!
//! Kept for `offsets.retention.minutes` after the group lost its last member (KIP-211), after the commit where no
//! member subscribes to the topic or the group never had members; or for as long as the commit itself said. While
//! something of a group is on its way to the disk nothing of it expires, so no commit is overtaken by the
//! tombstone of the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{
    CommitOffset, CommitOffsets, CommittedOffset, GroupAnswer, GroupError, MemberId, ReplySlot,
};
use storage_frame::TimestampMs;

use crate::desk::{Desk, Then, Turn};
use crate::group::{Group, Phase};
use crate::limits::{BYTES_MAX, ENTRY_BYTES, STORES_MAX, TOMBSTONES_AT_ONCE};
use crate::record;

/// No log has offsets above it.
const OFFSET_MAX: u64 = i64::MAX as u64;

type ByPartition<T> = Vec<(String, Vec<(u32, T)>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) committed: CommittedOffset,
    /// Said by the commit itself.
    pub(crate) expires_at: Option<TimestampMs>,
}

/// By topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<u32, Committed>>,
}

/// A change that is durable now. `None`: forgotten.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) to: Option<Committed>,
}

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.by_topic.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn find(&self, topic: &str, partition: u32) -> Option<&Committed> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32, &Committed)> {
        self.by_topic.iter().flat_map(|(topic, by_partition)| {
            by_partition.iter().map(|(partition, committed)| (topic.as_str(), *partition, committed))
        })
    }

    pub(crate) fn apply(&mut self, desk: &mut Desk, change: Applied) {
        let Applied { topic, partition, to } = change;
        let bytes = |committed: &Committed| ENTRY_BYTES + committed.committed.metadata.len();
        let before = match to {
            Some(committed) => {
                desk.bytes += bytes(&committed);
                self.by_topic.entry(topic).or_default().insert(partition, committed)
            }
            None => {
                let Some(of_topic) = self.by_topic.get_mut(&topic) else { return };
                let before = of_topic.remove(&partition);
                if of_topic.is_empty() {
                    self.by_topic.remove(&topic);
                }
                before
            }
        };
        desk.bytes = desk.bytes.saturating_sub(before.as_ref().map_or(0, bytes));
    }
}

impl Group {
    pub(crate) fn commit(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, commit: CommitOffsets) {
        let refused = self.check_commit(&commit.member).err();
        let full = turn.desk.stores.len() >= STORES_MAX || turn.desk.bytes > BYTES_MAX;
        if let Some(error) = refused.or(full.then_some(GroupError::Overloaded)) {
            return turn.reply(slot, Err(error));
        }
        if let Some(member) = self.members.get_mut(commit.member.member.as_str()) {
            member.renew(turn.now.mono);
        }
        turn.desk.counters.commits += 1;
        let expires_at = commit.retention.map(|kept| after(turn.now.wall, kept));
        let (mut changes, mut records, mut answer) = (Vec::new(), Vec::new(), ByPartition::new());
        for (topic, offsets) in commit.topics {
            let partitions_count = turn.topics.and_then(|topics| topics.partitions(&topic)).unwrap_or(0);
            let mut results = Vec::with_capacity(offsets.len());
            for offset in offsets {
                let partition = offset.partition;
                let checked = check_offset(&offset, partitions_count, turn.config.metadata_bytes_max);
                if checked.is_ok() {
                    let to =
                        (offset.offset.0 <= OFFSET_MAX).then(|| committed(offset, turn.now.wall, expires_at));
                    records.push(record::offset(&self.id, &topic, partition, to.as_ref()));
                    changes.push(Applied { topic: topic.clone(), partition, to });
                }
                results.push((partition, checked));
            }
            answer.push((topic, results));
        }
        let answer = GroupAnswer::Committed(answer);
        if records.is_empty() {
            return turn.reply(slot, Ok(answer));
        }
        self.store(turn, Some(slot), records, Then::Apply { changes, answer: Some(answer) });
    }

    fn check_commit(&self, member: &MemberId) -> Result<(), GroupError> {
        // Whoever assigns partitions to itself may commit where no members do, whatever it calls itself.
        if member.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if member.generation < 0 && member.member.is_empty() && member.instance.is_none() {
            return Err(GroupError::UnknownMember { member: String::new() });
        }
        self.check_member(&member.member, member.instance.as_deref())?;
        self.check_generation(member.generation)?;
        match self.phase {
            Phase::Preparing { .. } | Phase::Stable { .. } => Ok(()),
            // Its partitions may be another's already.
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty => unreachable!("an empty group has no members"),
        }
    }

    /// What is durable. An unknown group has committed nothing (Kafka's answer too).
    pub(crate) fn fetch_offsets(&self, wanted: Option<Vec<(String, Vec<u32>)>>) -> GroupAnswer {
        let mut found: ByPartition<Option<CommittedOffset>> = Vec::new();
        match wanted {
            Some(wanted) => {
                for (topic, partitions) in wanted {
                    let of = |partition| self.offsets.find(&topic, partition).map(|at| at.committed.clone());
                    let offsets =
                        partitions.into_iter().map(|partition| (partition, of(partition))).collect();
                    found.push((topic, offsets));
                }
            }
            None => {
                for (topic, partition, committed) in self.offsets.iter() {
                    if found.last().is_none_or(|(last, _)| last != topic) {
                        found.push((topic.to_owned(), Vec::new()));
                    }
                    let (_, offsets) = found.last_mut().expect("it was pushed");
                    offsets.push((partition, Some(committed.committed.clone())));
                }
            }
        }
        GroupAnswer::Offsets(found)
    }

    /// KIP-496.
    pub(crate) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        slot: ReplySlot,
        wanted: Vec<(String, Vec<u32>)>,
    ) {
        let subscribed = match (self.phase, self.subscribed()) {
            (Phase::Empty, _) => Default::default(),
            (_, Some(subscribed)) => subscribed,
            (_, None) => {
                return turn.reply(slot, Err(GroupError::NotEmpty { group: self.id.to_string() }));
            }
        };
        let (mut gone, mut answer) = (Vec::new(), ByPartition::new());
        for (topic, partitions) in wanted {
            let mut results = Vec::with_capacity(partitions.len());
            for partition in partitions {
                let checked = if subscribed.contains(&topic) {
                    Err(GroupError::Subscribed { topic: topic.clone() })
                } else {
                    gone.push((topic.clone(), partition));
                    Ok(())
                };
                results.push((partition, checked));
            }
            answer.push((topic, results));
        }
        self.forget_offsets(turn, gone, Some(slot), Some(GroupAnswer::OffsetsDeleted(answer)));
    }

    /// Tombstones for these; the last of them carries the answer.
    pub(crate) fn forget_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        gone: Vec<(String, u32)>,
        slot: Option<ReplySlot>,
        mut answer: Option<GroupAnswer>,
    ) {
        if gone.is_empty() {
            if let (Some(slot), Some(answer)) = (slot, answer) {
                turn.reply(slot, Ok(answer));
            }
            return;
        }
        let pieces_count = gone.len().div_ceil(TOMBSTONES_AT_ONCE);
        for (index, piece) in gone.chunks(TOMBSTONES_AT_ONCE).enumerate() {
            let is_last = index + 1 == pieces_count;
            let records =
                piece.iter().map(|(topic, partition)| record::offset(&self.id, topic, *partition, None));
            let change = |(topic, partition): &(String, u32)| Applied {
                topic: topic.clone(),
                partition: *partition,
                to: None,
            };
            let then = Then::Apply {
                changes: piece.iter().map(change).collect(),
                answer: if is_last { answer.take() } else { None },
            };
            self.store(turn, if is_last { slot } else { None }, records.collect(), then);
        }
    }

    /// What has been kept long enough.
    pub(crate) fn expire_offsets(&mut self, turn: &mut Turn<'_>) {
        if self.stores_pending > 0 || self.offsets.is_empty() {
            return;
        }
        let subscribed = match self.phase {
            Phase::Empty => Default::default(),
            Phase::Stable { .. } => match self.subscribed() {
                Some(subscribed) => subscribed,
                None => return,
            },
            Phase::Preparing { .. } | Phase::Completing { .. } => return,
        };
        let empty_since =
            (self.phase == Phase::Empty && self.protocol_type.is_some()).then_some(self.changed_at);
        let now = turn.now.wall;
        let is_over = |committed: &Committed| match committed.expires_at {
            Some(at) => now >= at,
            None => {
                let from = empty_since.unwrap_or(committed.committed.committed_at);
                now >= after(from, turn.config.offsets_retention)
            }
        };
        let expired: Vec<(String, u32)> = self
            .offsets
            .iter()
            .filter(|(topic, _, committed)| !subscribed.contains(*topic) && is_over(committed))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect();
        if !expired.is_empty() {
            reach::mark!("groups.offsets_expired");
            turn.desk.counters.offsets_expired += expired.len() as u64;
            self.forget_offsets(turn, expired, None, None);
        }
    }
}

fn check_offset(
    offset: &CommitOffset,
    partitions_count: u32,
    metadata_bytes_max: usize,
) -> Result<(), GroupError> {
    if offset.partition >= partitions_count {
        return Err(GroupError::UnknownPartition);
    }
    let bytes = offset.metadata.len();
    if bytes > metadata_bytes_max {
        return Err(GroupError::MetadataTooLarge { bytes, bytes_max: metadata_bytes_max });
    }
    Ok(())
}

fn committed(offset: CommitOffset, now: TimestampMs, expires_at: Option<TimestampMs>) -> Committed {
    let committed = CommittedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
        committed_at: now,
    };
    Committed { committed, expires_at }
}

fn after(from: TimestampMs, span: Duration) -> TimestampMs {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    TimestampMs(from.0.saturating_add(millis))
}
