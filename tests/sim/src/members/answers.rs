//! What a member does about what it is told.

use std::time::Duration;

use engine_api::{GroupAnswer, GroupError, Joined, Synced};

use super::consumer::Stage;
use super::{Asked, Members, plan};
use crate::fact::{CommitId, Fact};

impl Members {
    pub(super) fn on_group_answer(
        &mut self,
        asked: Asked,
        asked_at: Duration,
        answer: Result<GroupAnswer, GroupError>,
    ) -> Result<(), String> {
        match asked {
            Asked::Join { consumer } => self.on_joined(consumer, answer),
            Asked::Sync { consumer } => self.on_synced(consumer, answer),
            Asked::Heartbeat { consumer } => self.on_alive(consumer, answer),
            Asked::Leave { consumer } => {
                let until = self.moment.now + Duration::from_millis(self.dice.below(1000));
                self.consumers[consumer].is_waiting = false;
                self.consumers[consumer].go(until);
                Ok(())
            }
            Asked::Commit { commit, consumer, group } => self.on_committed(commit, consumer, group, answer),
            Asked::Offsets { group, is_audit } => self.on_offsets(group, is_audit, asked_at, answer),
            Asked::Describe { group } => self.on_described(group, asked_at, answer),
            Asked::Topic { .. } | Asked::Alter | Asked::Delete => {
                Err(format!("a topic was made by {answer:?}"))
            }
        }
    }

    fn on_joined(&mut self, nth: usize, answer: Result<GroupAnswer, GroupError>) -> Result<(), String> {
        self.consumers[nth].is_waiting = false;
        match answer {
            Ok(GroupAnswer::Joined(joined)) => self.take_generation(nth, joined),
            Ok(other) => Err(format!("a join was answered by {other:?}")),
            Err(GroupError::MemberIdRequired { member }) => {
                self.consumers[nth].member = member;
                Ok(())
            }
            Err(error) => self.start_over(nth, &error),
        }
    }

    fn take_generation(&mut self, nth: usize, joined: Joined) -> Result<(), String> {
        let consumer = &mut self.consumers[nth];
        let group = &self.groups[consumer.group];
        consumer.member.clone_from(&joined.member);
        consumer.generation = joined.generation;
        self.wishes.facts.push(Fact::GroupJoined {
            group: group.name.clone(),
            client: consumer.client,
            member: plan::identity(&joined.member),
            generation: joined.generation,
            leader: plan::identity(&joined.leader),
            members: joined.members.iter().map(|(member, ..)| plan::identity(member)).collect(),
        });
        if group.is_native {
            let assigned = joined.assignment.into_iter();
            let owned = assigned
                .flat_map(|(topic, indexes)| indexes.into_iter().map(move |index| (topic.clone(), index)));
            let owned = owned.collect();
            self.take_assignment(nth, owned);
            return Ok(());
        }
        let is_leader = joined.leader == joined.member && !joined.members.is_empty();
        let members: Vec<String> = joined.members.into_iter().map(|(member, ..)| member).collect();
        let assignments = if is_leader && !joined.skip_assignment {
            let (topics, partitions) = (self.manners.topics, self.manners.partitions);
            let of = |topic| (0..partitions).map(move |index| (plan::topic_name(topic), index));
            plan::assign(&members, (0..topics).flat_map(of))
        } else {
            Vec::new()
        };
        self.consumers[nth].stage = Stage::Syncing { assignments };
        Ok(())
    }

    fn take_assignment(&mut self, nth: usize, owned: Vec<(String, u32)>) {
        let consumer = &mut self.consumers[nth];
        consumer.stage = Stage::Stable;
        consumer.heartbeat_at = self.moment.now + self.manners.heartbeat();
        consumer.owned.clone_from(&owned);
        self.wishes.facts.push(Fact::GroupAssigned {
            group: self.groups[consumer.group].name.clone(),
            client: consumer.client,
            member: plan::identity(&consumer.member),
            generation: consumer.generation,
            owned,
        });
    }

    fn on_synced(&mut self, nth: usize, answer: Result<GroupAnswer, GroupError>) -> Result<(), String> {
        self.consumers[nth].is_waiting = false;
        match answer {
            Ok(GroupAnswer::Synced(Synced { assignment, .. })) => {
                let owned = plan::assigned(&assignment)?;
                self.take_assignment(nth, owned);
                Ok(())
            }
            Ok(other) => Err(format!("a sync was answered by {other:?}")),
            Err(error) => self.start_over(nth, &error),
        }
    }

    fn on_alive(&mut self, nth: usize, answer: Result<GroupAnswer, GroupError>) -> Result<(), String> {
        self.consumers[nth].is_waiting = false;
        match answer {
            Ok(GroupAnswer::Alive) => Ok(()),
            Ok(other) => Err(format!("a heartbeat was answered by {other:?}")),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => {
                // A member that has slept may have been cut off meanwhile: it is joining from here on.
                let consumer = &self.consumers[nth];
                let (client, group) = (consumer.client, self.groups[consumer.group].name.clone());
                self.wishes.facts.push(Fact::GroupJoining { client, group });
                self.start_over(nth, &error)
            }
        }
    }

    /// Joins again, as a stranger where it is one now.
    fn start_over(&mut self, nth: usize, error: &GroupError) -> Result<(), String> {
        let pause = Duration::from_millis(self.dice.below(200));
        let consumer = &mut self.consumers[nth];
        let is_stranger = matches!(error, GroupError::UnknownMember { .. } | GroupError::Fenced { .. });
        let is_late = matches!(error, GroupError::RebalanceInProgress | GroupError::IllegalGeneration { .. });
        if is_stranger {
            consumer.member.clear();
        } else if is_passing(error) {
            consumer.sleeps_until = self.moment.now + pause;
        } else if !is_late {
            return Err(format!("{consumer:?} was told: {error}"));
        }
        consumer.stage = Stage::Joining;
        Ok(())
    }

    fn on_committed(
        &mut self,
        commit: CommitId,
        consumer: Option<usize>,
        group: usize,
        answer: Result<GroupAnswer, GroupError>,
    ) -> Result<(), String> {
        self.commit_is_over(consumer, group);
        let outcome = match answer {
            Ok(GroupAnswer::Committed(topics)) => topics
                .into_iter()
                .flat_map(|(_, partitions)| partitions)
                .find_map(|(_, outcome)| outcome.err())
                .map_or(Ok(()), Err),
            Ok(other) => return Err(format!("a commit was answered by {other:?}")),
            Err(error) => Err(error),
        };
        let fact = match outcome {
            Ok(()) => {
                if consumer.is_none() {
                    self.groups[group].is_begun = true;
                }
                Fact::CommitAcked { commit }
            }
            // It may have reached the disk.
            Err(GroupError::StorageFailed { .. } | GroupError::ShuttingDown) => {
                Fact::CommitDoubtful { commit }
            }
            Err(error) => Fact::CommitRefused { commit, why: error.to_string() },
        };
        self.wishes.facts.push(fact);
        Ok(())
    }

    fn on_described(
        &mut self,
        group: usize,
        asked_at: Duration,
        answer: Result<GroupAnswer, GroupError>,
    ) -> Result<(), String> {
        let group = self.groups[group].name.clone();
        match answer {
            Ok(GroupAnswer::Described(described)) => {
                let members = described.members.into_iter().map(|member| member.member).collect();
                self.wishes.facts.push(Fact::GroupDescribed { group, asked_at, members });
                Ok(())
            }
            Ok(other) => Err(format!("a description was asked of {group}, and answered was {other:?}")),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(format!("{group} is not described: {error}")),
        }
    }

    fn on_offsets(
        &mut self,
        group: usize,
        is_audit: bool,
        asked_at: Duration,
        answer: Result<GroupAnswer, GroupError>,
    ) -> Result<(), String> {
        let of = &mut self.groups[group];
        of.is_auditing &= !is_audit;
        let topics = match answer {
            Ok(GroupAnswer::Offsets(topics)) => topics,
            Ok(other) => return Err(format!("offsets were answered by {other:?}")),
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) => return Err(format!("{} was told: {error}", of.name)),
        };
        of.is_audited |= is_audit;
        let mut offsets = Vec::new();
        for (topic, partitions) in topics {
            for (partition, committed) in partitions {
                let Some(committed) = committed else { continue };
                let commit = committed.metadata.parse().map(CommitId);
                let commit = commit.map_err(|_| format!("metadata came back as {:?}", committed.metadata))?;
                offsets.push((topic.clone(), partition, committed.offset.0, commit));
            }
        }
        self.wishes.facts.push(Fact::OffsetsRead { group: of.name.clone(), asked_at, offsets });
        Ok(())
    }
}

/// Asking again later helps.
fn is_passing(error: &GroupError) -> bool {
    match error {
        GroupError::NotReady
        | GroupError::Loading
        | GroupError::StorageFailed { .. }
        | GroupError::NoSpace
        | GroupError::Overloaded
        | GroupError::ShuttingDown => true,
        GroupError::InvalidGroup { .. }
        | GroupError::NotFound { .. }
        | GroupError::NotEmpty { .. }
        | GroupError::UnknownMember { .. }
        | GroupError::IllegalGeneration { .. }
        | GroupError::MemberIdRequired { .. }
        | GroupError::RebalanceInProgress
        | GroupError::Fenced { .. }
        | GroupError::InconsistentProtocol { .. }
        | GroupError::SessionTimeout { .. }
        | GroupError::Full { .. }
        | GroupError::TooLarge { .. }
        | GroupError::MetadataTooLarge { .. }
        | GroupError::UnknownPartition
        | GroupError::Subscribed { .. } => false,
    }
}
