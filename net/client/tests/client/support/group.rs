//! A coordinator of one group that answers at once.

use std::collections::{BTreeMap, VecDeque};

use engine_api::{
    CommittedOffset, GroupAnswer, GroupAsk, GroupError, GroupRequest, Joined, NATIVE_PROTOCOL_TYPE,
};
use storage_frame::{Offset, TimestampMs};

use super::TOPIC;

type Answer = Result<GroupAnswer, GroupError>;

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) generation: i32,
    pub(crate) members: Vec<String>,
    pub(crate) committed: BTreeMap<u32, u64>,
    /// Instead of the right answer to the next requests.
    pub(crate) faults: VecDeque<GroupError>,
    /// What was asked, heartbeats aside.
    pub(crate) asked: Vec<&'static str>,
    ids_given: u32,
}

impl Group {
    pub(crate) fn answer(&mut self, request: GroupRequest, partitions_count: u32) -> Answer {
        if !matches!(request.ask, GroupAsk::Heartbeat(_))
            && let Some(fault) = self.faults.pop_front()
        {
            return Err(fault);
        }
        match request.ask {
            GroupAsk::Join(join) => {
                self.asked.push("join");
                let member = self.known(join.member)?;
                Ok(GroupAnswer::Joined(self.joined(member, partitions_count)))
            }
            GroupAsk::Heartbeat(of) => {
                let member = self.known(of.member)?;
                assert!(self.members.contains(&member));
                if of.generation == self.generation {
                    Ok(GroupAnswer::Alive)
                } else {
                    Err(GroupError::RebalanceInProgress)
                }
            }
            GroupAsk::Commit(commit) => {
                self.asked.push("commit");
                self.known(commit.member.member)?;
                let mut results = Vec::new();
                for offset in commit.topics.iter().flat_map(|(_, offsets)| offsets) {
                    self.committed.insert(offset.partition, offset.offset.0);
                    results.push((offset.partition, Ok(())));
                }
                Ok(GroupAnswer::Committed(vec![(TOPIC.into(), results)]))
            }
            GroupAsk::FetchOffsets(wanted) => {
                let (topic, partitions) = wanted.unwrap().remove(0);
                let of = |partition| Some(committed(*self.committed.get(&partition)?));
                let offsets = partitions.into_iter().map(|partition| (partition, of(partition))).collect();
                Ok(GroupAnswer::Offsets(vec![(topic, offsets)]))
            }
            GroupAsk::Leave(leaving) => {
                self.asked.push("leave");
                self.members.retain(|member| *member != leaving[0].member);
                Ok(GroupAnswer::Left(vec![Ok(())]))
            }
            other @ (GroupAsk::Sync(_)
            | GroupAsk::Describe
            | GroupAsk::Delete
            | GroupAsk::DeleteOffsets(_)) => panic!("{other:?}"),
        }
    }

    fn known(&mut self, member: String) -> Result<String, GroupError> {
        if member.is_empty() {
            self.ids_given += 1;
            self.members.push(format!("m{}", self.ids_given));
            self.generation += 1;
            return Ok(format!("m{}", self.ids_given));
        }
        if self.members.contains(&member) { Ok(member) } else { Err(GroupError::UnknownMember { member }) }
    }

    fn joined(&self, member: String, partitions_count: u32) -> Joined {
        let place = self.members.iter().position(|known| *known == member).unwrap() as u32;
        let mine = (0..partitions_count).filter(|n| n % self.members.len() as u32 == place).collect();
        Joined {
            generation: self.generation,
            member,
            protocol_type: Some(NATIVE_PROTOCOL_TYPE.into()),
            protocol: Some("sticky".into()),
            leader: self.members[0].clone(),
            members: Vec::new(),
            skip_assignment: false,
            assignment: vec![(TOPIC.into(), mine)],
        }
    }
}

fn committed(offset: u64) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(offset),
        leader_epoch: -1,
        metadata: String::new(),
        committed_at: TimestampMs(0),
    }
}
