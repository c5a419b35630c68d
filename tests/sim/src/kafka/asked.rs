//! What clients have asked and not been answered.

use std::time::Duration;

use engine_api::{PartitionId, Place};

use super::lane::LaneId;
use super::reader::Fetching;
use crate::fact::{BatchId, CommitId};

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) correlation: i32,
    pub(super) version: i16,
    pub(super) what: What,
    pub(super) at: Duration,
    pub(super) may_wait: Duration,
}

#[derive(Debug)]
pub(super) enum What {
    Versions,
    Metadata,
    Coordinator,
    Identify {
        lane: LaneId,
    },
    /// By partition, at most one batch each.
    Produce {
        sent: Vec<(PartitionId, Sent)>,
    },
    Fetch(Fetching),
    List {
        partition: PartitionId,
        place: Place,
    },
    Join,
    Sync,
    Heartbeat,
    Leave,
    Commit(CommitId),
    Offsets {
        /// The member begins to read there.
        is_begin: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    OfLane(LaneId, BatchId),
    Plain(BatchId),
}
