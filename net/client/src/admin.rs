//! Topics, the cluster's picture, records to find and to delete.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use engine_api::{
    AlterTopic, ClusterDescription, CreateTopic, DeleteRecords, DeleteRecordsError, DeleteTopic,
    DescribeTopics, FetchError, FindOffset, FoundOffset, PartitionId, Place, Request, Response,
    TopicDescription, TopicError,
};
use storage_frame::Offset;
use tokio::time::{Instant, sleep, timeout};

use crate::rpc::{RequestError, ask, unexpected};
use crate::shared::{Again, PURPOSE_REQUESTS, Shared, is_passing, topics_of};
use crate::state::backoff::Backoff;

mod groups;

/// Asks brokers for things other than records. Clones share everything.
///
/// Every request is bounded by [`Config::request_timeout`](crate::Config::request_timeout). Refusals that pass
/// by themselves (a broker that starts or stops) are waited out within it. When a connection is lost, requests that
/// change nothing are sent again within it; others are not: their outcome is unknown, and the error says so.
#[derive(Debug, Clone)]
pub struct Admin {
    shared: Arc<Shared>,
}

/// Why a partition could not be asked, or what it answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum PartitionError<E: std::error::Error + 'static> {
    /// There is no such topic, or it could not be asked for.
    #[error("{0}")]
    Topic(#[source] RequestError<TopicError>),
    /// The topic has fewer partitions.
    #[error("topic '{topic}' has partitions 0 to {}, not {partition}", partitions_count.saturating_sub(1))]
    OutOfRange { topic: String, partition: u32, partitions_count: u32 },
    /// The partition's leader did not do it.
    #[error("{0}")]
    Request(#[source] RequestError<E>),
}

impl Admin {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Creates a topic and returns it as it is then, on stable storage and known to every core.
    ///
    /// # Errors
    /// [`TopicError`]: nothing was created. [`RequestError::Disconnected`] and [`RequestError::TimedOut`]:
    /// outcome unknown; trying again is safe and says `Exists` if it had been created.
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the request.
    pub async fn create_topic(
        &self,
        topic: CreateTopic,
    ) -> Result<TopicDescription, RequestError<TopicError>> {
        let answer_of =
            |response| if let Response::CreateTopic(result) = response { Some(result) } else { None };
        self.shared.ask_until(&Request::CreateTopic(topic), answer_of, is_passing).await
    }

    /// Adds partitions and sets or resets configs; returns the topic as it is then.
    ///
    /// # Errors
    /// [`TopicError`]: nothing was changed. Trying again after an unknown outcome is safe.
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the request.
    pub async fn alter_topic(&self, topic: AlterTopic) -> Result<TopicDescription, RequestError<TopicError>> {
        let name = topic.name.clone();
        let answer_of =
            |response| if let Response::AlterTopic(result) = response { Some(result) } else { None };
        let result = self.shared.ask_until(&Request::AlterTopic(topic), answer_of, is_passing).await;
        self.shared.forget_topic(&name);
        result
    }

    /// Deletes a topic and all of its records. A topic made later under the same name starts empty.
    ///
    /// # Errors
    /// [`TopicError`]: nothing was deleted. Trying again after an unknown outcome is safe and says `Unknown` if
    /// it had been deleted.
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the request.
    pub async fn delete_topic(&self, name: &str) -> Result<(), RequestError<TopicError>> {
        let answer_of =
            |response| if let Response::DeleteTopic(result) = response { Some(result) } else { None };
        let request = Request::DeleteTopic(DeleteTopic { name: name.into(), id: None });
        let result = self.shared.ask_until(&request, answer_of, is_passing).await;
        self.shared.forget_topic(name);
        result
    }

    /// Every topic.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, RequestError<TopicError>> {
        let request = Request::DescribeTopics(DescribeTopics { names: Vec::new() });
        self.shared.ask_until(&request, topics_of, is_passing).await
    }

    /// One topic with its partitions and configs.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] and [`RequestError`].
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, RequestError<TopicError>> {
        let unknown = || TopicError::Unknown { name: name.into() };
        let request = Request::DescribeTopics(DescribeTopics { names: vec![name.into()] });
        let topics = self.shared.ask_until(&request, topics_of, is_passing).await?;
        let topic = topics.into_iter().find(|topic| topic.name == name);
        topic.ok_or_else(|| RequestError::Refused(unknown()))
    }

    /// Nodes, counts, and what is wrong.
    ///
    /// # Errors
    /// [`RequestError`]; never `Refused`.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, RequestError<Infallible>> {
        let answer = self.shared.ask_any(&Request::DescribeCluster).await?;
        let Response::DescribeCluster(cluster) = answer else {
            return Err(unexpected("not the answer to this request").into());
        };
        Ok(cluster)
    }

    /// Where a place is in a partition now, and which offsets it holds.
    ///
    /// For [`Place::Timestamp`] the answer is the first offset of the batch with the record that was asked for:
    /// earlier records of the batch are to be skipped, as [`Reader`](crate::Reader) does.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub async fn find_offset(
        &self,
        topic: &str,
        partition: u32,
        place: Place,
    ) -> Result<FoundOffset, PartitionError<FetchError>> {
        let request = |partition| Request::FindOffset(FindOffset { partition, place });
        let answer_of =
            |response| if let Response::FindOffset(result) = response { Some(result) } else { None };
        ask_leader(&self.shared, topic, partition, PURPOSE_REQUESTS, request, answer_of, passes_fetch).await
    }

    /// Makes every record below `before` unreadable; the space is freed as whole segments fall behind. Returns
    /// the new start, which may be higher.
    ///
    /// # Errors
    /// [`DeleteRecordsError::OffsetOutOfRange`] when `before` is past the end. Trying again after an unknown
    /// outcome is safe.
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the request.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: u32,
        before: Offset,
    ) -> Result<Offset, PartitionError<DeleteRecordsError>> {
        let request = |partition| Request::DeleteRecords(DeleteRecords { partition, before });
        let answer_of =
            |response| if let Response::DeleteRecords(result) = response { Some(result) } else { None };
        ask_leader(&self.shared, topic, partition, PURPOSE_REQUESTS, request, answer_of, passes_delete).await
    }
}

/// What a refusal says about asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    No,
    Yes,
    /// With new metadata.
    Refresh,
    /// Yes, and what was asked may have been done.
    InDoubt,
}

pub(crate) fn passes_fetch(error: &FetchError) -> Passing {
    match error {
        FetchError::UnknownPartition | FetchError::NotLeader => Passing::Refresh,
        FetchError::Overloaded | FetchError::ShuttingDown => Passing::Yes,
        FetchError::OffsetOutOfRange { .. }
        | FetchError::Damaged { .. }
        | FetchError::StorageFailed { .. } => Passing::No,
    }
}

fn passes_delete(error: &DeleteRecordsError) -> Passing {
    match error {
        DeleteRecordsError::UnknownPartition | DeleteRecordsError::NotLeader => Passing::Refresh,
        // Told to those, too, whose delete had begun.
        DeleteRecordsError::ShuttingDown => Passing::InDoubt,
        DeleteRecordsError::OffsetOutOfRange { .. } | DeleteRecordsError::StorageFailed { .. } => Passing::No,
    }
}

/// Asks the core that owns the partition, again with new metadata while it says that it does not.
pub(crate) async fn ask_leader<T, E>(
    shared: &Shared,
    topic: &str,
    partition: u32,
    purpose: u64,
    request: impl Fn(PartitionId) -> Request,
    answer_of: impl Fn(Response) -> Option<Result<T, E>>,
    passing: impl Fn(&E) -> Passing,
) -> Result<T, PartitionError<E>>
where
    E: std::error::Error + 'static,
{
    let after = shared.config.request_timeout;
    let deadline = Instant::now() + after;
    let mut backoff = Backoff::new(shared.seed());
    let mut newer_than = None;
    let mut again = None;
    let mut doubt = None;
    let asking = async {
        loop {
            let info = shared.topic(topic, newer_than).await.map_err(PartitionError::Topic)?;
            let partitions_count = info.partitions_count();
            if partition >= partitions_count {
                // The cached picture may be from before partitions were added.
                if newer_than.is_none() {
                    newer_than = Some(Instant::now());
                    continue;
                }
                return Err(PartitionError::OutOfRange { topic: topic.into(), partition, partitions_count });
            }
            let request = request(info.partition(partition));
            let again = again.get_or_insert_with(|| Again::new(shared, &request));
            let asked: Result<Response, RequestError<E>> = bounded(shared, deadline, async {
                let connection =
                    shared.leader_link(&info, partition, purpose).await.map_err(RequestError::Connect)?;
                Ok(ask(&connection, &request).await?)
            })
            .await;
            if let Err(error) = &asked
                && !shared.is_closed()
                && Instant::now() < deadline
                && again.is_worth_it(error)
            {
                again.wait().await;
                // The leader may be elsewhere by now.
                newer_than = Some(Instant::now());
                continue;
            }
            let answer = asked
                .and_then(|answer| answer_of(answer).ok_or_else(|| unexpected("another answer").into()))
                .map_err(PartitionError::Request)?;
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let wait = backoff.next_wait();
            match passing(&error) {
                Passing::Yes => {}
                Passing::InDoubt => doubt = Some(error.to_string().into()),
                Passing::Refresh => newer_than = Some(Instant::now()),
                Passing::No => return Err(PartitionError::Request(RequestError::Refused(error))),
            }
            if Instant::now() + wait >= deadline {
                return Err(PartitionError::Request(RequestError::Refused(error)));
            }
            sleep(wait).await;
        }
    };
    asking.await.map_err(|error| doubt.take().map_or(error, outcome_unknown))
}

/// Whatever became of later attempts: "the request never left" would not be true.
fn outcome_unknown<E: std::error::Error>(why: Arc<str>) -> PartitionError<E> {
    PartitionError::Request(RequestError::Disconnected { why })
}

async fn bounded<T, E: std::error::Error + 'static>(
    shared: &Shared,
    deadline: Instant,
    asking: impl Future<Output = Result<T, RequestError<E>>>,
) -> Result<T, RequestError<E>> {
    let after = shared.config.request_timeout;
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::select! {
        answer = timeout(left, asking) => answer.unwrap_or(Err(RequestError::TimedOut { after })),
        () = shared.until_closed() => Err(RequestError::Disconnected { why: "client is closed".into() }),
    }
}
