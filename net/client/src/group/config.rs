//! How to be in a group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use engine_api::Assignor;

/// How to be in a group. Start from [`GroupOptions::default`] and change fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupOptions {
    /// How partitions are shared out; what most members ask for counts. Default [`Assignor::Sticky`].
    pub assignor: Assignor,
    /// A name that outlives this process (static membership): a restart within the session timeout gets the same
    /// partitions without a rebalance. One consumer per name: another one with it takes over.
    pub instance: Option<String>,
    /// Shown in descriptions of the group. Default `millstream`.
    pub client_id: String,
    /// Where to start in a partition that the group has not committed for, or whose committed place is no longer
    /// there. Default [`GroupStart::End`].
    pub start: GroupStart,
    /// `Some`: what is processed is committed when this has passed, before partitions are given up, and at the
    /// end. `None`: [`commit`](crate::GroupConsumer::commit) alone does. Default every 5 s.
    pub auto_commit: Option<Duration>,
    /// Without a heartbeat for this long the member is out. Default 45 s; the broker has bounds.
    pub session_timeout: Duration,
    /// How long the others wait for this member to give up its partitions, so at least as long as one batch may
    /// take to be processed. Default 60 s.
    pub rebalance_timeout: Duration,
    /// Default 1 s; at most a third of the session timeout is used.
    pub heartbeat_interval: Duration,
    /// How long the group may be out of reach before [`next`](crate::GroupConsumer::next) says so. Default 120 s.
    pub unavailable_timeout: Duration,
    /// Told of partitions that come and go.
    pub listener: Option<Arc<dyn RebalanceListener>>,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            assignor: Assignor::Sticky,
            instance: None,
            client_id: "millstream".into(),
            start: GroupStart::End,
            auto_commit: Some(Duration::from_secs(5)),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(1),
            unavailable_timeout: Duration::from_secs(120),
            listener: None,
        }
    }
}

impl fmt::Debug for GroupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupOptions")
            .field("assignor", &self.assignor)
            .field("instance", &self.instance)
            .field("start", &self.start)
            .field("auto_commit", &self.auto_commit)
            .finish_non_exhaustive()
    }
}

/// Where a group starts that has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStart {
    /// The first record that is still there.
    Beginning,
    /// What is produced after the partition was assigned for the first time.
    End,
}

/// Told of partitions that come and go, from within [`next`](crate::GroupConsumer::next) and
/// [`close`](crate::GroupConsumer::close). Must not block.
pub trait RebalanceListener: Send + Sync {
    /// These are the consumer's from now on, all of them: what it had before was revoked.
    fn assigned(&self, partitions: &[(String, u32)]) {
        let _ = partitions;
    }

    /// These are given up, all that it had. What was processed is committed by now, if that is automatic and the
    /// coordinator could be reached; nothing of them is given out any more.
    fn revoked(&self, partitions: &[(String, u32)]) {
        let _ = partitions;
    }

    /// These are somebody else's already: the session had ended. What was not committed comes again, there.
    fn lost(&self, partitions: &[(String, u32)]) {
        let _ = partitions;
    }
}
