//! Requests about groups, to whoever coordinates the group; time, deleted topics and lag for all coordinators of
//! this core.

use std::time::Duration;

use engine_api::{
    CoreId, GroupError, GroupListing, GroupRequest, ListGroups, MeasureLag, OFFSETS_TOPIC, PartitionId,
    ReplySlot, Request, Response, TopicId, offsets_partition,
};
use engine_groups::Topics;
use engine_meta::ClusterState;
use storage_frame::Now;

use super::Shard;
use crate::context::{Refusal, refuse};
use crate::coordinator::Coordinator;
use crate::hearing::Change;
use crate::lags::Lags;
use crate::limits::{GROUP_ASKS_MAX, GROUP_FIGURES_MAX, GROUP_OFFSETS_MAX, GROUPS_TICK};
use crate::news;
use crate::seam::{Effect, GroupFigures, GroupOffsets, Level, ShardStats};
use crate::waiting::PartitionKey;

/// What a shard keeps for its coordinators.
#[derive(Debug, Default)]
pub(super) struct Coordinators {
    /// Partitions of the offsets topic here.
    keys: Vec<PartitionKey>,
    ticked: Duration,
    pub(super) lags: Lags,
}

/// Topics as the coordinators may know them.
struct Known<'a>(&'a ClusterState);

impl Topics for Known<'_> {
    fn partitions(&self, topic: &str) -> Option<u32> {
        self.0.topic_named(topic).map(|topic| topic.partitions.len() as u32)
    }
}

impl Coordinators {
    pub(super) fn keys(&self) -> impl Iterator<Item = PartitionKey> {
        self.keys.iter().copied()
    }
}

impl Shard {
    /// The core that coordinates `group`; core 0 while the topic has to be made.
    pub(super) fn coordinator_core(&self, group: &str) -> CoreId {
        match self.coordinator_of(group) {
            Some(id) => self.owner(id),
            None if self.is_loaded => CoreId(0),
            None => self.core(),
        }
    }

    fn coordinator_of(&self, group: &str) -> Option<PartitionId> {
        let topic = self.state.topic_named(OFFSETS_TOPIC)?;
        Some(PartitionId { topic: topic.id, index: offsets_partition(group, topic.partitions.len() as u32) })
    }

    pub(super) fn on_group(&mut self, now: Now, slot: ReplySlot, request: GroupRequest) {
        let error = if !self.is_loaded {
            GroupError::NotReady
        } else if self.ctx.group_asks.len() >= GROUP_ASKS_MAX {
            reach::mark!("shard.too_many_group_asks");
            GroupError::Overloaded
        } else if let Some(id) = self.coordinator_of(&request.group) {
            if let Some(key) = self.roster.find(id) {
                self.roster.hurry(key);
                let topics = Known(&self.state);
                return self.roster.touch(key).ask_group(&mut self.ctx, now, slot, request, &topics);
            }
            // Another core's: whoever sent it here did not know yet.
            GroupError::NotReady
        } else if let Some(controller) = &mut self.controller {
            controller.want_offsets_topic(&self.ctx)
        } else {
            GroupError::NotReady
        };
        self.ctx.reply(slot, Response::Group(Err(error)));
    }

    pub(super) fn on_list_groups(&mut self, slot: ReplySlot, list: ListGroups) {
        let listed = if list.core == self.core() && self.is_loaded {
            self.list_groups()
        } else {
            Err(GroupError::NotReady)
        };
        self.ctx.reply(slot, Response::ListGroups(listed));
    }

    fn list_groups(&self) -> Result<Vec<GroupListing>, GroupError> {
        let mut all = Vec::new();
        for coordinator in self.coordinators() {
            all.extend(coordinator.list()?);
        }
        Ok(all)
    }

    pub(super) fn on_measure(&mut self, now: Now, slot: ReplySlot, measure: MeasureLag) {
        let found = self.roster.find(measure.partition).and_then(|key| self.roster.at(key));
        let response = match found {
            Some(partition) => Response::MeasureLag(partition.measure(now, measure)),
            None => {
                let refusal = if !self.is_loaded || self.state.partition(measure.partition).is_some() {
                    Refusal::NotReady
                } else {
                    Refusal::UnknownPartition
                };
                refuse(&Request::MeasureLag(measure), refusal)
            }
        };
        self.ctx.reply(slot, response);
    }

    /// `true`: somebody's request about a group was cancelled.
    pub(super) fn cancel_group_ask(&mut self, now: Now, slot: ReplySlot) -> bool {
        let Some(key) = self.ctx.group_asks.get(&slot).copied() else { return false };
        self.roster.touch(key).cancel_group(&mut self.ctx, now, slot);
        true
    }

    /// A partition of the offsets topic has been taken in: it gets its coordinator.
    pub(super) fn adopt_coordinator(&mut self, now: Now, id: PartitionId) {
        let Some(key) = self.roster.find(id) else { return };
        let mut config = self.ctx.config.groups.clone();
        // Member ids of two partitions, or of two starts, must not be the same.
        config.seed = self.ctx.config.seed ^ u64::from(id.index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self.roster.touch(key).coordinate(config, self.ctx.heard(now)) {
            self.groups.keys.push(key);
        }
    }

    /// The topic is about to go, and what groups have committed for it with it.
    pub(super) fn forget_topic(&mut self, now: Now, topic: TopicId) {
        let Some(name) = self.state.topic(topic).map(|topic| topic.name.clone()) else { return };
        // What is closing finds out when it is loaded again.
        if self.ctx.stopping {
            return;
        }
        for key in &self.groups.keys {
            self.roster.touch(*key).forget_topic(&mut self.ctx, now, &name);
        }
    }

    pub(super) fn tick_groups(&mut self, now: Now) {
        if now.mono < self.groups.ticked + GROUPS_TICK || self.ctx.stopping {
            return;
        }
        self.groups.ticked = now.mono;
        if self.ctx.hearing.look(now.mono) {
            let core = self.core();
            self.ctx.out.push(Effect::Publish(news::listening(core)));
        }
        if self.groups.keys.is_empty() {
            return;
        }
        let topics = Known(&self.state);
        for key in &self.groups.keys {
            self.roster.touch(*key).tick_groups(&mut self.ctx, now, &topics);
        }
        self.measure_lags(now);
    }

    /// Where there are members whom it concerns.
    pub(super) fn tell_heard(&mut self, change: Change) {
        if self.groups.keys.is_empty() {
            return;
        }
        match change {
            Change::Stands => self.ctx.event(Level::Warn, "clients_unheard", Vec::new()),
            Change::GoesOn(after) => {
                let fields = vec![("ms", after.as_millis().to_string())];
                self.ctx.event(Level::Info, "clients_heard_again", fields);
            }
        }
    }

    pub(super) fn coordinators(&self) -> impl Iterator<Item = &Coordinator> {
        self.groups.keys.iter().filter_map(|key| self.roster.at(*key)?.coordinator())
    }

    /// Of every group coordinated here, but for offsets beyond a hundred thousand. As long as there are groups: for
    /// somebody who looks.
    #[must_use]
    pub fn group_offsets(&self) -> Vec<GroupOffsets> {
        let mut all = Vec::new();
        let mut left = GROUP_OFFSETS_MAX;
        for groups in self.coordinators().map(Coordinator::groups) {
            let begun = all.len();
            all.extend(groups.members().map(|(group, members)| GroupOffsets {
                group: group.to_owned(),
                members: members as u64,
                committed: Vec::new(),
            }));
            // Both come in the order of groups.
            let mut of: &mut [GroupOffsets] = &mut all[begun..];
            for (group, topic, partition, at) in groups.committed().take(left) {
                while of.first().is_some_and(|of| of.group != group) {
                    of = &mut std::mem::take(&mut of)[1..];
                }
                of[0].committed.push((topic.to_owned(), partition, at.offset));
                left -= 1;
            }
        }
        all
    }

    pub(super) fn add_group_stats(&self, stats: &mut ShardStats) {
        let mut figures = GroupFigures { lags: self.groups.lags.told().to_vec(), ..GroupFigures::default() };
        for coordinator in self.coordinators() {
            let sums = coordinator.groups().stats();
            figures.groups_count += sums.groups;
            figures.members += sums.members;
            figures.commits += sums.commits;
            let room = |count: usize| GROUP_FIGURES_MAX.saturating_sub(count);
            let states = coordinator.groups().list().into_iter().take(room(figures.states.len()));
            figures.states.extend(states.map(|group| (group.group, group.state)));
            let stuck = coordinator.groups().stuck().take(room(figures.stuck.len()));
            figures.stuck.extend(stuck.map(|(group, count)| (group.to_owned(), count)));
        }
        let rebalances = self.ctx.tally.rebalances.iter();
        figures.rebalances =
            rebalances.map(|((group, cause), count)| (group.clone(), cause.clone(), *count)).collect();
        stats.groups = figures;
    }
}
