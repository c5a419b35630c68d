//! Joining: who may, who must come again with an id, who is answered at once.

use std::sync::Arc;

use bytes::Bytes;
use engine_api::{
    GroupAnswer, GroupError, JoinGroup, Joined, MemberProtocol, NATIVE_PROTOCOL_TYPE, RebalanceCause,
    ReplySlot,
};

use crate::desk::{Then, Turn};
use crate::group::{Group, Phase};
use crate::limits::{
    BYTES_MAX, MEMBER_BYTES_MAX, MEMBERS_BYTES_MAX, NAME_BYTES_MAX, PROTOCOLS_MAX, TOPICS_MAX,
};
use crate::member::{Member, Owned, assignor_name, protocol_bytes, shown};
use crate::seam::GroupsConfig;

/// What can be said of a request without its group.
pub(crate) fn check_join(config: &GroupsConfig, join: &JoinGroup) -> Result<(), GroupError> {
    let (asked, min, max) = (join.session_timeout, config.session_timeout_min, config.session_timeout_max);
    if asked < min || asked > max {
        return Err(GroupError::SessionTimeout { asked, min, max });
    }
    let refused = |why: String| Err(GroupError::InconsistentProtocol { why });
    let names_fit = match &join.protocol {
        MemberProtocol::Classic { protocol_type, protocols } => {
            if protocol_type.is_empty() || protocols.is_empty() {
                return refused("a member brings a protocol type and at least one protocol".into());
            }
            if protocol_type == NATIVE_PROTOCOL_TYPE {
                return refused(format!("protocol type '{NATIVE_PROTOCOL_TYPE}' is not for this protocol"));
            }
            if protocols.len() > PROTOCOLS_MAX {
                return refused(format!("{} protocols, limit {PROTOCOLS_MAX}", protocols.len()));
            }
            protocol_type.len() <= NAME_BYTES_MAX
                && protocols.iter().all(|(name, _)| name.len() <= NAME_BYTES_MAX)
        }
        MemberProtocol::Native { topics, .. } => {
            if topics.is_empty() || topics.len() > TOPICS_MAX {
                return refused(format!("{} topics, 1 to {TOPICS_MAX} are possible", topics.len()));
            }
            topics.iter().all(|name| name.len() <= NAME_BYTES_MAX)
        }
    };
    let instance_fits = join.instance.as_ref().is_none_or(|name| name.len() <= NAME_BYTES_MAX);
    if !names_fit || !instance_fits || join.member.len() > 3 * NAME_BYTES_MAX {
        return refused(format!("a name of more than {NAME_BYTES_MAX} bytes"));
    }
    let bytes = protocol_bytes(&join.protocol);
    if bytes > MEMBER_BYTES_MAX {
        return refused(format!("metadata of {bytes} bytes, limit {MEMBER_BYTES_MAX}"));
    }
    Ok(())
}

impl Group {
    /// `join` has been checked by [`check_join`].
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, join: JoinGroup) {
        if let Err(error) = self.check_room(turn, &join) {
            return turn.reply(slot, Err(error));
        }
        if join.member.is_empty() {
            self.join_new(turn, slot, join)
        } else {
            self.join_known(turn, slot, join)
        }
    }

    fn check_room(&self, turn: &Turn<'_>, join: &JoinGroup) -> Result<(), GroupError> {
        if turn.desk.bytes + protocol_bytes(&join.protocol) > BYTES_MAX {
            return Err(GroupError::Overloaded);
        }
        self.check_protocol(join)?;
        let others = self.members.iter().filter(|(id, member)| !is_same(id, member, join));
        let others_bytes: usize = others.map(|(_, member)| protocol_bytes(&member.protocol)).sum();
        let bytes = others_bytes + protocol_bytes(&join.protocol);
        if bytes > MEMBERS_BYTES_MAX {
            return Err(GroupError::TooLarge { bytes: bytes as u64, bytes_max: MEMBERS_BYTES_MAX as u64 });
        }
        Ok(())
    }

    /// The others must be able to work with it.
    fn check_protocol(&self, join: &JoinGroup) -> Result<(), GroupError> {
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, member)| !is_same(id, member, join))
            .map(|(_, member)| member)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let protocol_type = type_of(&join.protocol);
        let current = self.protocol_type.as_deref().unwrap_or_default();
        if protocol_type != current {
            let why = format!("protocol type '{protocol_type}', the group's members speak '{current}'");
            return Err(GroupError::InconsistentProtocol { why });
        }
        if let MemberProtocol::Classic { protocols, .. } = &join.protocol
            && !protocols.iter().any(|(name, _)| others.iter().all(|member| supports(member, name)))
        {
            return Err(GroupError::InconsistentProtocol { why: "none that all members support".into() });
        }
        Ok(())
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, join: JoinGroup) {
        if let Some(instance) = &join.instance
            && let Some(old) = self.statics.get(instance).cloned()
        {
            return self.replace_static(turn, slot, join, &old);
        }
        let members_max = turn.config.members_max;
        if self.members.len() + self.handed_out.len() >= members_max {
            return turn.reply(slot, Err(GroupError::Full { members_max }));
        }
        let id = self.new_id(turn, join.instance.as_ref().unwrap_or(&join.client_id));
        if join.member_id_required && join.instance.is_none() {
            // KIP-394: a client whose answers are lost would leave a member behind with each try.
            let until = turn.now.mono + join.session_timeout;
            self.hand_out(turn.desk, Arc::clone(&id), until);
            return turn.reply(slot, Err(GroupError::MemberIdRequired { member: id.to_string() }));
        }
        self.add_member(turn, slot, id, join, false);
    }

    /// Seeds differ between lives; should they not, ids still do within a group. As short as [`check_join`] wants it
    /// back, whatever the client calls itself.
    fn new_id(&self, turn: &mut Turn<'_>, prefix: &str) -> Arc<str> {
        loop {
            let id = turn.desk.new_member_id(shown(prefix));
            if !self.members.contains_key(&id) && !self.handed_out.contains_key(&id) {
                return id;
            }
        }
    }

    fn add_member(
        &mut self,
        turn: &mut Turn<'_>,
        slot: ReplySlot,
        id: Arc<str>,
        join: JoinGroup,
        known: bool,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(type_of(&join.protocol).to_owned());
        }
        let mut member = Member::new(join, turn.now.mono);
        member.has_joined = true;
        member.join = Some(slot);
        member.is_known = known;
        turn.wait(slot, &self.id, &id);
        self.insert_member(turn.desk, Arc::clone(&id), member);
        if let Phase::Preparing { initial: Some(initial), .. } = &mut self.phase {
            initial.has_new = true;
        }
        self.prepare(turn, RebalanceCause::MemberJoined, &id);
    }

    fn join_known(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, join: JoinGroup) {
        if join.instance.is_none()
            && let Some(id) = self.take_handed_out(turn.desk, &join.member)
        {
            return self.add_member(turn, slot, id, join, true);
        }
        if let Err(error) = self.check_member(&join.member, join.instance.as_deref()) {
            return turn.reply(slot, Err(error));
        }
        let (id, member) = self.members.get_key_value(join.member.as_str()).expect("it was looked up");
        let id = Arc::clone(id);
        let is_same = member.protocol == join.protocol;
        let is_leader = self.leader.as_ref() == Some(&id);
        match self.phase {
            // The answer was lost. (A native one is still to come.)
            Phase::Completing { .. } if is_same && self.is_native() => self.join_again(turn, slot, &id, join),
            Phase::Completing { .. } if is_same => self.answer_again(turn, slot, &id),
            Phase::Stable { .. } if is_same && (self.is_native() || !is_leader) => {
                self.answer_again(turn, slot, &id);
            }
            // A leader that joins again wants to assign anew: its topics have changed.
            Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable { .. } => {
                self.join_again(turn, slot, &id, join);
                self.prepare(turn, RebalanceCause::MemberRejoined, &id);
            }
            Phase::Empty => unreachable!("an empty group has no members"),
        }
    }

    /// Waits for the next generation.
    fn join_again(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, id: &Arc<str>, join: JoinGroup) {
        let mut member = self.take_member(turn.desk, id).expect("it is a member");
        if let Some(before) = member.join.replace(slot) {
            turn.reply(before, Err(GroupError::RebalanceInProgress));
        }
        if let Some(sync) = member.sync.take() {
            turn.reply(sync, Err(GroupError::RebalanceInProgress));
        }
        member.has_joined = true;
        member.update(join, turn.now.mono);
        turn.wait(slot, &self.id, id);
        self.insert_member(turn.desk, Arc::clone(id), member);
        self.follow_sole_member();
    }

    /// Who is alone may come back as another kind of client: what the group was under the old one is over.
    fn follow_sole_member(&mut self) {
        let Some(only) = self.members.values().next().filter(|_| self.members.len() == 1) else { return };
        let protocol_type = type_of(&only.protocol);
        if self.protocol_type.as_deref() != Some(protocol_type) {
            self.protocol_type = Some(protocol_type.to_owned());
            self.topics.clear();
        }
    }

    fn answer_again(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, id: &Arc<str>) {
        self.members.get_mut(id).expect("it is a member").renew(turn.now.mono);
        // In a stable group the leader would assign again if it saw the members.
        let joined = self.joined(id);
        turn.reply(slot, Ok(GroupAnswer::Joined(joined)));
    }

    /// A static member has come back (KIP-345): it takes the place, and the assignment, of its old id.
    fn replace_static(&mut self, turn: &mut Turn<'_>, slot: ReplySlot, join: JoinGroup, old: &Arc<str>) {
        let instance = join.instance.clone().expect("a static member");
        let mut member = self.take_member(turn.desk, old).expect("instances name members");
        for waiting in [member.join.take(), member.sync.take()].into_iter().flatten() {
            turn.reply(waiting, Err(GroupError::Fenced { instance: instance.clone() }));
        }
        let id = self.new_id(turn, &instance);
        let was_leader = self.leader.as_ref() == Some(old);
        if was_leader {
            self.leader = Some(Arc::clone(&id));
        }
        let supports_skip = join.supports_skip_assignment;
        let is_same = member.protocol == join.protocol;
        member.is_known = true;
        member.has_synced = true;
        member.update(join, turn.now.mono);
        self.insert_member(turn.desk, Arc::clone(&id), member);
        let at = self.members[&id].expires_at;
        self.wake_by(turn.desk, at);
        let is_same_type = self.protocol_type.as_deref() == Some(type_of(&self.members[&id].protocol));
        let stands = match self.phase {
            Phase::Stable { .. } if !is_same_type => false,
            Phase::Stable { .. } if self.is_native() => is_same,
            // Otherwise members would be assigned by a protocol that is not the group's any more.
            Phase::Stable { .. } => Some(self.select_protocol()) == self.protocol,
            Phase::Empty | Phase::Preparing { .. } | Phase::Completing { .. } => false,
        };
        if stands {
            let mut joined = self.joined(&id);
            if was_leader && supports_skip {
                joined.skip_assignment = true;
                joined.members = self.metadata_of_all();
            } else if was_leader {
                // An older client must not believe that it leads, or it would assign (KIP-814).
                joined.leader = old.to_string();
            }
            return self.store_group(
                turn,
                Some(slot),
                Then::Replaced { answer: GroupAnswer::Joined(joined) },
            );
        }
        let member = self.members.get_mut(&id).expect("it was inserted");
        member.join = Some(slot);
        member.has_joined = true;
        turn.wait(slot, &self.id, &id);
        self.follow_sole_member();
        self.prepare(turn, RebalanceCause::MemberRejoined, &id);
    }

    /// What `id` is to know of the generation as it is.
    pub(crate) fn joined(&self, id: &Arc<str>) -> Joined {
        let is_leader = self.leader.as_ref() == Some(id);
        let is_completing = matches!(self.phase, Phase::Completing { .. });
        let member = &self.members[id];
        Joined {
            generation: self.generation,
            member: id.to_string(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_ref().map(ToString::to_string).unwrap_or_default(),
            members: if is_leader && is_completing { self.metadata_of_all() } else { Vec::new() },
            skip_assignment: false,
            assignment: if self.is_native() { listed(&member.owned) } else { Vec::new() },
        }
    }

    fn metadata_of_all(&self) -> Vec<(String, Option<String>, Bytes)> {
        if self.is_native() {
            return Vec::new();
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let each = |(id, member): (&Arc<str>, &Member)| {
            (id.to_string(), member.instance.clone(), member.metadata(protocol))
        };
        self.members.iter().map(each).collect()
    }
}

/// `join` is that member's.
fn is_same(id: &str, member: &Member, join: &JoinGroup) -> bool {
    id == join.member || (member.instance.is_some() && member.instance == join.instance)
}

pub(crate) fn listed(owned: &Owned) -> Vec<(String, Vec<u32>)> {
    owned.iter().map(|(topic, partitions)| (topic.clone(), partitions.clone())).collect()
}

pub(crate) fn type_of(protocol: &MemberProtocol) -> &str {
    match protocol {
        MemberProtocol::Classic { protocol_type, .. } => protocol_type,
        MemberProtocol::Native { .. } => NATIVE_PROTOCOL_TYPE,
    }
}

pub(crate) fn supports(member: &Member, protocol: &str) -> bool {
    match &member.protocol {
        MemberProtocol::Classic { protocols, .. } => protocols.iter().any(|(name, _)| name == protocol),
        MemberProtocol::Native { assignor, .. } => assignor_name(*assignor) == protocol,
    }
}
