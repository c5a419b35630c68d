//! Members that go: by their own word, by silence, by a lost connection.

use std::sync::Arc;

use engine_api::{GroupError, Leaving, RebalanceCause, ReplySlot};

use crate::desk::Turn;
use crate::group::{Group, Phase};

impl Group {
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, leaving: &Leaving) -> Result<(), GroupError> {
        if leaving.instance.is_none() && self.take_handed_out(turn.desk, &leaving.member).is_some() {
            // A rebalance may have waited for it.
            self.try_complete(turn);
            return Ok(());
        }
        let id = match &leaving.instance {
            // An administrator removes whoever is there under this name.
            Some(instance) if leaving.member.is_empty() => self
                .statics
                .get(instance)
                .cloned()
                .ok_or_else(|| GroupError::UnknownMember { member: instance.clone() })?,
            _ => {
                self.check_member(&leaving.member, leaving.instance.as_deref())?;
                Arc::from(leaving.member.as_str())
            }
        };
        self.drop_member(turn, &id);
        self.prepare(turn, RebalanceCause::MemberLeft, &id);
        Ok(())
    }

    /// Out of the members; whoever waited as it is told. The phase is for the caller to look after.
    pub(crate) fn drop_member(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let Some(mut member) = self.take_member(turn.desk, id) else { return };
        for slot in [member.join.take(), member.sync.take()].into_iter().flatten() {
            turn.reply(slot, Err(GroupError::UnknownMember { member: id.to_string() }));
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    pub(crate) fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let expired: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_waiting() && member.expires_at <= now)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        let Some(first) = expired.first().cloned() else { return };
        for id in expired {
            reach::mark!("groups.session_expired");
            turn.desk.counters.sessions_expired += 1;
            self.drop_member(turn, &id);
            self.tell_removed(turn, &id, "session_timeout");
        }
        self.prepare(turn, RebalanceCause::SessionExpired, &first);
    }

    /// The connection of a member that waited is gone.
    pub(crate) fn cancel(&mut self, turn: &mut Turn<'_>, id: &Arc<str>, slot: ReplySlot) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.renew(turn.now.mono);
        let expires_at = member.expires_at;
        if member.sync == Some(slot) {
            member.sync = None;
        }
        if member.join == Some(slot) {
            reach::mark!("groups.join_cancelled");
            member.join = None;
            member.has_joined = false;
            if !member.is_known {
                // Nobody will ever come back with this id.
                self.drop_member(turn, id);
                match self.phase {
                    Phase::Preparing { .. } => self.try_complete(turn),
                    Phase::Completing { .. } | Phase::Stable { .. } => {
                        self.prepare(turn, RebalanceCause::MemberLeft, id);
                    }
                    Phase::Empty => {}
                }
                return;
            }
            if matches!(self.phase, Phase::Completing { .. }) && self.is_native() {
                // Its assignment is on the way to the disk; it asks again, or its session ends.
                reach::mark!("groups.native_cancelled_while_storing");
            }
        }
        self.wake_by(turn.desk, expires_at);
    }
}
