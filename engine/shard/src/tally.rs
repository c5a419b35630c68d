//! What the shard counts, and the names under which it does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine_api::{
    DeleteRecordsError, Durability, FetchError, GroupError, InitProducerError, ProduceError, Request,
    Response, TopicError,
};
use storage_log::LatencyHistogram;

use crate::compaction::CompactionStats;

use crate::limits::GROUP_FIGURES_MAX;

type Name = &'static str;

/// Counted up since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) produce_batches: u64,
    pub(crate) produce_records: u64,
    pub(crate) produce_bytes: u64,
    pub(crate) fetch_records: u64,
    pub(crate) fetch_bytes: u64,
    pub(crate) fetch_disk_bytes: u64,
    pub(crate) duplicates: u64,
    pub(crate) acks: [u64; 4],
    pub(crate) append: LatencyHistogram,
    /// Now.
    pub(crate) waiting_produces: u64,
    pub(crate) compaction: CompactionStats,
    /// In the order of `KINDS`.
    requests: [u64; KINDS.len()],
    pub(crate) refused: BTreeMap<(Name, Name), u64>,
    /// By group and cause.
    pub(crate) rebalances: BTreeMap<(String, String), u64>,
}

impl Tally {
    pub(crate) fn count_request(&mut self, request: &Request) {
        self.requests[kind(request)] += 1;
    }

    /// Those that came at all, by name.
    pub(crate) fn requests(&self) -> Vec<(Name, u64)> {
        KINDS.into_iter().zip(self.requests).filter(|(_, count)| *count > 0).collect()
    }

    /// What a coordinator tells of: only whole rebalances are counted.
    pub(crate) fn count_group_event(&mut self, name: Name, fields: &[(Name, String)]) {
        let field = |wanted| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone());
        if name != "group_rebalanced" {
            return;
        }
        if let (Some(group), Some(cause)) = (field("group"), field("cause")) {
            let is_full = self.rebalances.len() >= GROUP_FIGURES_MAX;
            let count = match self.rebalances.entry((group, cause)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if is_full => return,
                Entry::Vacant(new) => new.insert(0),
            };
            *count += 1;
        }
    }

    pub(crate) fn count_response(&mut self, response: &Response) {
        if let Some(names) = refusal(response) {
            *self.refused.entry(names).or_default() += 1;
            return;
        }
        match response {
            Response::Produce(Ok(produced)) => {
                self.acks[level(produced.durability)] += 1;
                self.duplicates += u64::from(produced.duplicate);
                // What was acknowledged before it was written, or had been long ago, took no time worth telling.
                if produced.durability > Durability::Accepted && !produced.duplicate {
                    let timings = &produced.timings;
                    self.append.record(timings.queue + timings.disk + timings.replicate);
                }
            }
            Response::Fetch(Ok(fetched)) => {
                for frame in &fetched.frames {
                    // Where compaction has made holes nobody counts what is left.
                    if !frame.header().has_no_records() {
                        self.fetch_records += u64::from(frame.header().record_count);
                    }
                    self.fetch_bytes += frame.header().frame_bytes() as u64;
                }
            }
            Response::Produce(Err(_))
            | Response::Fetch(Err(_))
            | Response::FindOffset(_)
            | Response::DeleteRecords(_)
            | Response::CreateTopic(_)
            | Response::AlterTopic(_)
            | Response::DeleteTopic(_)
            | Response::DescribeTopics(_)
            | Response::DescribeCluster(_)
            | Response::InitProducer(_)
            | Response::Group(_)
            | Response::ListGroups(_)
            | Response::MeasureLag(_)
            | Response::CheckTopic(_)
            | Response::DescribeLogs(_) => {}
        }
    }
}

fn level(durability: Durability) -> usize {
    match durability {
        Durability::Accepted => 0,
        Durability::Memory => 1,
        Durability::LeaderDisk => 2,
        Durability::AllDisks => 3,
    }
}

const KINDS: [Name; 15] = [
    "produce",
    "fetch",
    "find_offset",
    "delete_records",
    "create_topic",
    "alter_topic",
    "delete_topic",
    "describe_topics",
    "describe_cluster",
    "init_producer",
    "group",
    "list_groups",
    "measure_lag",
    "check_topic",
    "describe_logs",
];

/// The request's place in `KINDS`.
fn kind(request: &Request) -> usize {
    match request {
        Request::Produce(_) => 0,
        Request::Fetch(_) => 1,
        Request::FindOffset(_) => 2,
        Request::DeleteRecords(_) => 3,
        Request::CreateTopic(_) => 4,
        Request::AlterTopic(_) => 5,
        Request::DeleteTopic(_) => 6,
        Request::DescribeTopics(_) => 7,
        Request::DescribeCluster => 8,
        Request::InitProducer => 9,
        Request::Group(_) => 10,
        Request::ListGroups(_) => 11,
        Request::MeasureLag(_) => 12,
        Request::CheckTopic(_) => 13,
        Request::DescribeLogs(_) => 14,
    }
}

/// The request's name and the error's.
fn refusal(response: &Response) -> Option<(Name, Name)> {
    Some(match response {
        Response::Produce(result) => ("produce", produce_error(result.as_ref().err()?)),
        Response::Fetch(result) => ("fetch", fetch_error(result.as_ref().err()?)),
        Response::FindOffset(result) => ("find_offset", fetch_error(result.as_ref().err()?)),
        Response::DeleteRecords(result) => ("delete_records", delete_records_error(result.as_ref().err()?)),
        Response::CreateTopic(result) => ("create_topic", topic_error(result.as_ref().err()?)),
        Response::AlterTopic(result) => ("alter_topic", topic_error(result.as_ref().err()?)),
        Response::DeleteTopic(result) => ("delete_topic", topic_error(result.as_ref().err()?)),
        Response::DescribeTopics(result) => ("describe_topics", topic_error(result.as_ref().err()?)),
        Response::DescribeCluster(_) => return None,
        Response::InitProducer(result) => ("init_producer", init_producer_error(result.as_ref().err()?)),
        Response::Group(result) => ("group", group_error(result.as_ref().err()?)),
        Response::ListGroups(result) => ("list_groups", group_error(result.as_ref().err()?)),
        Response::MeasureLag(result) => ("measure_lag", fetch_error(result.as_ref().err()?)),
        Response::CheckTopic(result) => ("check_topic", topic_error(result.as_ref().err()?)),
        Response::DescribeLogs(result) => ("describe_logs", topic_error(result.as_ref().err()?)),
    })
}

fn group_error(error: &GroupError) -> Name {
    match error {
        GroupError::NotReady => "not_ready",
        GroupError::Loading => "loading",
        GroupError::InvalidGroup { .. } => "invalid_group",
        GroupError::NotFound { .. } => "not_found",
        GroupError::NotEmpty { .. } => "not_empty",
        GroupError::UnknownMember { .. } => "unknown_member",
        GroupError::IllegalGeneration { .. } => "illegal_generation",
        GroupError::MemberIdRequired { .. } => "member_id_required",
        GroupError::RebalanceInProgress => "rebalance_in_progress",
        GroupError::Fenced { .. } => "fenced",
        GroupError::InconsistentProtocol { .. } => "inconsistent_protocol",
        GroupError::SessionTimeout { .. } => "session_timeout",
        GroupError::Full { .. } => "full",
        GroupError::MetadataTooLarge { .. } => "metadata_too_large",
        GroupError::UnknownPartition => "unknown_partition",
        GroupError::Subscribed { .. } => "subscribed",
        GroupError::StorageFailed { .. } => "storage_failed",
        GroupError::NoSpace => "no_space",
        GroupError::Overloaded => "overloaded",
        GroupError::ShuttingDown => "shutting_down",
        GroupError::TooLarge { .. } => "too_large",
    }
}

fn produce_error(error: &ProduceError) -> Name {
    match error {
        ProduceError::UnknownPartition => "unknown_partition",
        ProduceError::NotLeader => "not_leader",
        ProduceError::TooLarge { .. } => "too_large",
        ProduceError::Invalid { .. } => "invalid",
        ProduceError::OutOfSequence { .. } => "out_of_sequence",
        ProduceError::ProducerFenced { .. } => "producer_fenced",
        ProduceError::NoSpace => "no_space",
        ProduceError::Overloaded => "overloaded",
        ProduceError::StorageFailed { .. } => "storage_failed",
        ProduceError::Damaged { .. } => "damaged",
        ProduceError::ShuttingDown => "shutting_down",
    }
}

fn fetch_error(error: &FetchError) -> Name {
    match error {
        FetchError::UnknownPartition => "unknown_partition",
        FetchError::NotLeader => "not_leader",
        FetchError::OffsetOutOfRange { .. } => "offset_out_of_range",
        FetchError::Damaged { .. } => "damaged",
        FetchError::StorageFailed { .. } => "storage_failed",
        FetchError::Overloaded => "overloaded",
        FetchError::ShuttingDown => "shutting_down",
    }
}

fn delete_records_error(error: &DeleteRecordsError) -> Name {
    match error {
        DeleteRecordsError::UnknownPartition => "unknown_partition",
        DeleteRecordsError::NotLeader => "not_leader",
        DeleteRecordsError::OffsetOutOfRange { .. } => "offset_out_of_range",
        DeleteRecordsError::StorageFailed { .. } => "storage_failed",
        DeleteRecordsError::ShuttingDown => "shutting_down",
    }
}

fn topic_error(error: &TopicError) -> Name {
    match error {
        TopicError::Unknown { .. } => "unknown",
        TopicError::Exists { .. } => "exists",
        TopicError::Name { .. } => "name",
        TopicError::Partitions { .. } => "partitions",
        TopicError::Replicas { .. } => "replicas",
        TopicError::Config { .. } => "config",
        TopicError::StorageFailed { .. } => "storage_failed",
        TopicError::NoSpace => "no_space",
        TopicError::NotReady => "not_ready",
        TopicError::ShuttingDown => "shutting_down",
        TopicError::Changed { .. } => "changed",
    }
}

fn init_producer_error(error: &InitProducerError) -> Name {
    match error {
        InitProducerError::StorageFailed { .. } => "storage_failed",
        InitProducerError::NoSpace => "no_space",
        InitProducerError::NotReady => "not_ready",
        InitProducerError::ShuttingDown => "shutting_down",
    }
}
