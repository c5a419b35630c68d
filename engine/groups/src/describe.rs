//! Groups for people to look at.

use std::sync::Arc;

use bytes::Bytes;
use engine_api::{GroupDescription, GroupListing, GroupState, MemberDescription};

use crate::group::{Group, Phase};
use crate::join::listed;
use crate::member::Member;

impl Group {
    pub(crate) fn describe(&self) -> GroupDescription {
        GroupDescription {
            group: self.id.to_string(),
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            generation: self.generation,
            members: self.members.iter().map(|(id, member)| self.describe_member(id, member)).collect(),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// Metadata and assignments mean something together only, so they are shown of a stable group (as Kafka does).
    fn describe_member(&self, id: &Arc<str>, member: &Member) -> MemberDescription {
        let is_stable = matches!(self.phase, Phase::Stable { .. });
        let protocol = self.protocol.as_deref().unwrap_or_default();
        MemberDescription {
            member: id.to_string(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(protocol) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
            owned: listed(&member.owned),
            stuck: self.watches.stuck(&member.owned),
        }
    }

    pub(crate) fn list(&self) -> GroupListing {
        GroupListing {
            group: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state(),
        }
    }
}

/// Of a group that does not exist.
pub(crate) fn dead(group: &str) -> GroupDescription {
    GroupDescription {
        group: group.to_owned(),
        state: GroupState::Dead,
        protocol_type: String::new(),
        protocol: String::new(),
        generation: 0,
        members: Vec::new(),
        events: Vec::new(),
    }
}
