//! What the shard counts, and the names under which it does.

use std::collections::BTreeMap;

use engine_api::{
    DeleteRecordsError, Durability, FetchError, InitProducerError, ProduceError, Request, Response,
    TopicError,
};

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
    /// Now.
    pub(crate) waiting_produces: u64,
    pub(crate) requests: BTreeMap<Name, u64>,
    pub(crate) refused: BTreeMap<(Name, Name), u64>,
}

impl Tally {
    pub(crate) fn count_request(&mut self, request: &Request) {
        *self.requests.entry(request_name(request)).or_default() += 1;
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
            }
            Response::Fetch(Ok(fetched)) => {
                for frame in &fetched.frames {
                    self.fetch_records += u64::from(frame.header().record_count);
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
            | Response::InitProducer(_) => {}
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

fn request_name(request: &Request) -> Name {
    match request {
        Request::Produce(_) => "produce",
        Request::Fetch(_) => "fetch",
        Request::FindOffset(_) => "find_offset",
        Request::DeleteRecords(_) => "delete_records",
        Request::CreateTopic(_) => "create_topic",
        Request::AlterTopic(_) => "alter_topic",
        Request::DeleteTopic(_) => "delete_topic",
        Request::DescribeTopics(_) => "describe_topics",
        Request::DescribeCluster => "describe_cluster",
        Request::InitProducer => "init_producer",
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
    })
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
