//! Syncing and heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engine_api::{
    GroupAnswer, GroupError, MemberId, NATIVE_PROTOCOL_TYPE, RebalanceCause, ReplySlot, SyncGroup, Synced,
};

use crate::consumer;
use crate::desk::Turn;
use crate::group::{Group, Phase};
use crate::limits::BYTES_MAX;

impl Group {
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, sync: SyncGroup) {
        if let Err(error) = self.check_sync(&sync) {
            return turn.reply(slot, Err(error));
        }
        let id = self.members.get_key_value(sync.member.member.as_str()).expect("it was checked").0;
        let id = Arc::clone(id);
        match self.phase {
            Phase::Empty => {
                turn.reply(slot, Err(GroupError::UnknownMember { member: id.to_string() }));
            }
            Phase::Preparing { .. } => turn.reply(slot, Err(GroupError::RebalanceInProgress)),
            Phase::Completing { is_storing, .. } => {
                self.wait_for_sync(turn, slot, &id);
                if self.leader.as_ref() == Some(&id) && !is_storing {
                    self.take_assignments(turn, sync.assignments);
                }
            }
            Phase::Stable { .. } => {
                let member = self.members.get_mut(&id).expect("it was checked");
                member.has_synced = true;
                member.renew(turn.now.mono);
                if self.members.values().all(|member| member.has_synced) {
                    self.phase = Phase::Stable { sync_deadline: None };
                }
                let synced = self.synced(&id);
                turn.reply(slot, Ok(GroupAnswer::Synced(synced)));
            }
        }
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        self.check_member(&sync.member.member, sync.member.instance.as_deref())?;
        self.check_generation(sync.member.generation)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            let why = "the group's protocol is another";
            return Err(GroupError::InconsistentProtocol { why: why.into() });
        }
        if self.is_native() {
            let why = format!("members of type '{NATIVE_PROTOCOL_TYPE}' are assigned to when they join");
            return Err(GroupError::InconsistentProtocol { why });
        }
        Ok(())
    }

    fn wait_for_sync(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, id: &Arc<str>) {
        let member = self.members.get_mut(id).expect("it was checked");
        member.has_synced = true;
        if let Some(before) = member.sync.replace(slot) {
            turn.reply(before, Err(GroupError::RebalanceInProgress));
        }
        turn.wait(slot, &self.id, id);
    }

    /// The leader has spoken. Whoever it does not name has nothing.
    fn take_assignments(&mut self, turn: &mut Turn<'_>, assignments: Vec<(String, Bytes)>) {
        let mut by_member: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        by_member.retain(|id, _| self.members.contains_key(id.as_str()));
        let bytes: usize = by_member.values().map(Bytes::len).sum();
        if turn.desk.bytes + bytes > BYTES_MAX {
            let leader = self.leader.clone().expect("the leader has spoken");
            let member = self.members.get_mut(&leader).expect("it is a member");
            member.has_synced = false;
            if let Some(slot) = member.sync.take() {
                member.renew(turn.now.mono);
                turn.reply(slot, Err(GroupError::Overloaded));
            }
            return;
        }
        let is_consumer = self.protocol_type.as_deref() == Some(consumer::PROTOCOL_TYPE);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let mut member = self.take_member(turn.desk, &id).expect("it is a member");
            member.assignment = by_member.remove(&*id).unwrap_or_default();
            member.owned = if is_consumer {
                consumer::owned(&member.assignment).unwrap_or_default()
            } else {
                Default::default()
            };
            self.insert_member(turn.desk, id, member);
        }
        self.begin_storing(turn);
    }

    pub(crate) fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// Members that were told of a generation and have not asked for their part are out.
    pub(crate) fn on_sync_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Completing { deadline, .. } = &mut self.phase
            && self.members.values().all(|member| member.has_synced)
        {
            // The disk is what is waited for.
            *deadline = turn.now.mono + turn.config.session_timeout_min;
            return;
        }
        let late: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| !member.has_synced)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        let Some(first) = late.first().cloned() else {
            if let Phase::Stable { sync_deadline } = &mut self.phase {
                *sync_deadline = None;
            }
            return;
        };
        for id in late {
            reach::mark!("groups.member_did_not_sync");
            self.drop_member(turn, &id);
            self.tell_removed(turn, &id, "sync_timeout");
        }
        self.prepare(turn, RebalanceCause::RebalanceTimedOut, &first);
    }

    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, member: &MemberId) -> Result<(), GroupError> {
        self.check_member(&member.member, member.instance.as_deref())?;
        self.check_generation(member.generation)?;
        let known = self.members.get_mut(member.member.as_str()).expect("it was checked");
        known.renew(turn.now.mono);
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember { member: member.member.clone() }),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }
}
