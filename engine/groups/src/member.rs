//! One member of a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::{Assignor, JoinGroup, MemberProtocol, ReaderId, ReplySlot};

use crate::limits::{CLIENT_BYTES_MAX, ENTRY_BYTES};

/// Partitions by topic, in order.
pub(crate) type Owned = BTreeMap<String, Vec<u32>>;

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol: MemberProtocol,
    /// A classic leader's words.
    pub(crate) assignment: Bytes,
    /// Native: what the coordinator gave. Classic: what the assignment says, where it can be read.
    pub(crate) owned: Owned,
    /// Wants to be in the next generation.
    pub(crate) has_joined: bool,
    pub(crate) join: Option<ReplySlot>,
    pub(crate) has_synced: bool,
    pub(crate) sync: Option<ReplySlot>,
    /// It has been told its id.
    pub(crate) is_known: bool,
    /// While it does not wait for an answer.
    pub(crate) expires_at: Duration,
}

impl Member {
    pub(crate) fn new(join: JoinGroup, now: Duration) -> Self {
        Self {
            expires_at: now + join.session_timeout,
            instance: join.instance,
            client_id: cut(join.client_id),
            client_host: cut(join.client_host),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocol: join.protocol,
            assignment: Bytes::new(),
            owned: Owned::new(),
            has_joined: false,
            join: None,
            has_synced: false,
            sync: None,
            is_known: false,
        }
    }

    /// What it says about itself now.
    pub(crate) fn update(&mut self, join: JoinGroup, now: Duration) {
        self.client_id = cut(join.client_id);
        self.client_host = cut(join.client_host);
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.protocol = join.protocol;
        self.renew(now);
    }

    pub(crate) fn renew(&mut self, now: Duration) {
        self.expires_at = now + self.session_timeout;
    }

    /// It cannot heartbeat while it waits for an answer; its connection would tell if it were gone.
    pub(crate) fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    /// Its id is its group's to count.
    pub(crate) fn bytes(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, |name| 2 * name.len());
        let owned: usize = self.owned.iter().map(|(topic, of)| topic.len() + 4 * of.len() + 32).sum();
        2 * ENTRY_BYTES
            + self.client_id.len()
            + self.client_host.len()
            + protocol_bytes(&self.protocol)
            + self.assignment.len()
            + instance
            + owned
    }

    /// What its reads are recognised by.
    pub(crate) fn reader(&self, group: &str) -> ReaderId {
        match &self.protocol {
            MemberProtocol::Native { .. } => ReaderId::of_group(group),
            MemberProtocol::Classic { .. } => ReaderId::of_client(&self.client_id, &self.client_host),
        }
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        match &self.protocol {
            MemberProtocol::Classic { protocols, .. } => protocols
                .iter()
                .find(|(name, _)| name == protocol)
                .map(|(_, metadata)| metadata.clone())
                .unwrap_or_default(),
            MemberProtocol::Native { .. } => Bytes::new(),
        }
    }
}

pub(crate) fn protocol_bytes(protocol: &MemberProtocol) -> usize {
    match protocol {
        MemberProtocol::Classic { protocol_type, protocols } => {
            let each = |(name, metadata): &(String, Bytes)| name.len() + metadata.len() + 64;
            protocol_type.len() + protocols.iter().map(each).sum::<usize>()
        }
        MemberProtocol::Native { topics, .. } => topics.iter().map(|topic| topic.len() + 32).sum(),
    }
}

pub(crate) fn assignor_name(assignor: Assignor) -> &'static str {
    match assignor {
        Assignor::Range => "range",
        Assignor::Sticky => "sticky",
    }
}

/// Members by id, in order.
pub(crate) type Members = BTreeMap<Arc<str>, Member>;

fn cut(mut text: String) -> String {
    text.truncate(shown(&text).len());
    text
}

/// As much of a client's name as is kept.
pub(crate) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(CLIENT_BYTES_MAX)]
}
