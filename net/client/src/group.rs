//! A member of a consumer group: the coordinator gives it partitions, it gives out their records.
//!
//! Everything but heartbeats happens inside [`GroupConsumer::next`]: when the group rebalances, `next` commits what
//! is processed, gives all partitions up, joins again, and goes on with those it is given then. Readers of
//! partitions that stay go on where they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use engine_api::{
    CommitOffsets, FetchError, FindOffset, GroupAnswer, GroupAsk, GroupError, JoinGroup, Joined, Leaving,
    MemberId, MemberProtocol, Place, Request, Response,
};
use storage_frame::Offset;
use tokio::time::{Instant, sleep, sleep_until};

use crate::admin::{PartitionError, ask_leader, passes_fetch};
use crate::reader::{ReadBatch, ReadError, Reader, ReaderConfig};
use crate::rpc::RequestError;
use crate::shared::{PURPOSE_REQUESTS, Shared};
use crate::state::backoff::Backoff;
use crate::state::group::{Advice, Progress};

mod ask;
mod config;
mod heart;

use ask::{advice_on, ask_group};
pub use config::{GroupOptions, GroupStart, RebalanceListener};
use heart::{Heart, Pulse};

/// Why a group's consumer has nothing to give. Unless said otherwise it may be asked again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum GroupConsumerError {
    /// The coordinator refuses, and will: the group's name, its members' kind, a timeout out of bounds, or another
    /// consumer of the same instance.
    #[error("group '{group}': {source}")]
    Group { group: String, source: RequestError<GroupError> },
    /// No coordinator for that long.
    #[error("group '{group}' out of reach for {after:?} (last: {last})")]
    Unavailable { group: String, after: Duration, last: RequestError<GroupError> },
    /// The partitions are somebody else's by now, so this was not committed: it comes again, there.
    #[error("not committed, the partitions of group '{group}' have moved on: {why}")]
    NotCommitted { group: String, why: String },
    /// A partition cannot be read; asked again, the consumer opens it again.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A partition could not be asked for its offsets.
    #[error("{0}")]
    Find(#[source] PartitionError<FetchError>),
    /// The client was closed.
    #[error("client is closed")]
    Closed,
}

/// One consumer in a group. Made by [`Client::join_group`](crate::Client::join_group).
///
/// Each record of the group's topics goes to one of its consumers, at least once: what was given out and not
/// committed when a consumer fails is given out again, by another one. A batch counts as processed when the next
/// one is asked for, or at [`close`](Self::close).
///
/// Dropped without [`close`](Self::close) it is missed by the others for its session timeout.
#[derive(Debug)]
pub struct GroupConsumer {
    shared: Arc<Shared>,
    group: String,
    topics: Vec<String>,
    options: GroupOptions,
    /// Empty before the first answer.
    member: String,
    membership: Option<Membership>,
    progress: Progress,
    /// By topic; what is in them stays while the group rebalances.
    readers: BTreeMap<String, (Vec<u32>, Reader)>,
    commit_at: Instant,
    backoff: Backoff,
    /// Which reader is asked first: all get their turn.
    turn: usize,
}

#[derive(Debug)]
struct Membership {
    generation: i32,
    heart: Heart,
    assignment: Vec<(String, Vec<u32>)>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Partitions are assigned, and the listener has not been told.
    Fresh,
    /// A reader has to be opened again, where it was.
    Broken,
    Open,
}

/// By topic and partition, in the order sent.
type CommitResults = Vec<(String, Vec<(u32, Result<(), GroupError>)>)>;

enum Happened {
    Pulse,
    CommitDue,
    Batch(Box<ReadBatch>),
    Ended { topic: String, why: ReadError },
    Closed,
}

impl GroupConsumer {
    pub(crate) async fn join_group(
        shared: Arc<Shared>,
        group: String,
        topics: Vec<String>,
        options: GroupOptions,
    ) -> Result<Self, GroupConsumerError> {
        let backoff = Backoff::new(shared.seed());
        let mut consumer = Self {
            shared,
            group,
            topics,
            options,
            member: String::new(),
            membership: None,
            progress: Progress::default(),
            readers: BTreeMap::new(),
            commit_at: Instant::now(),
            backoff,
            turn: 0,
        };
        consumer.join().await?;
        consumer.open().await?;
        Ok(consumer)
    }

    /// Its id in the group, as descriptions show it.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The partitions it works on.
    #[must_use]
    pub fn partitions(&self) -> Vec<(String, u32)> {
        self.progress.partitions()
    }

    /// The next batch of any assigned partition. What was given out before counts as processed by this.
    ///
    /// Waits while there is nothing to read, and while the group rebalances. To be called again within the
    /// rebalance timeout, or the others go on without this consumer.
    ///
    /// # Errors
    /// [`GroupConsumerError`]. Lost connections and a coordinator that restarts are waited out for
    /// [`unavailable_timeout`](GroupOptions::unavailable_timeout).
    /// # Cancel safety
    /// No batch is lost, and whatever was under way is done when it is called again. (What was given out before
    /// does count as processed.)
    pub async fn next(&mut self) -> Result<ReadBatch, GroupConsumerError> {
        self.progress.settle();
        loop {
            self.look_at_pulse().await?;
            match self.membership.as_ref().map(|membership| membership.stage) {
                None => {
                    self.join().await?;
                    continue;
                }
                Some(Stage::Fresh | Stage::Broken) => {
                    self.open().await?;
                    continue;
                }
                Some(Stage::Open) => {}
            }
            match self.wait().await {
                Happened::Pulse => {}
                Happened::CommitDue => self.commit_in_passing().await,
                Happened::Batch(batch) => {
                    self.progress.give(batch.topic(), batch.partition(), batch.next_offset());
                    return Ok(*batch);
                }
                Happened::Ended { topic, why } => self.on_ended(&topic, why)?,
                Happened::Closed => return Err(GroupConsumerError::Closed),
            }
        }
    }

    /// Commits everything that was given out so far, the last batch included.
    ///
    /// # Errors
    /// [`GroupConsumerError::NotCommitted`]: the group has gone on without this consumer; go on with
    /// [`next`](Self::next). Others: outcome unknown; trying again is safe.
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the commit.
    pub async fn commit(&mut self) -> Result<(), GroupConsumerError> {
        self.progress.settle();
        self.commit_processed().await
    }

    /// Of the last batch only the records below `next` were processed: for those who stop inside it. The others
    /// come again, to whoever has the partition next; to be followed by [`commit`](Self::commit) or
    /// [`close`](Self::close), as [`next`](Self::next) goes on behind the batch.
    pub fn processed_below(&mut self, topic: &str, partition: u32, next: Offset) {
        self.progress.limit(topic, partition, next);
    }

    /// Ends the membership: what was given out counts as processed and is committed, if that is automatic; then
    /// the others are told, and go on at once.
    ///
    /// # Errors
    /// What was processed may not have been committed. The membership ends in any case.
    /// # Cancel safety
    /// Dropping the future leaves the member to its session timeout.
    pub async fn close(mut self) -> Result<(), GroupConsumerError> {
        let committed = if self.options.auto_commit.is_some() && self.membership.is_some() {
            self.commit().await
        } else {
            Ok(())
        };
        if self.membership.is_some() {
            self.give_up(false);
        }
        // A static member that leaves would lose what its name is for.
        if !self.member.is_empty() && self.options.instance.is_none() {
            let leaving =
                Leaving { member: self.member.clone(), instance: None, reason: Some("closed".into()) };
            let after = self.shared.config.request_timeout.min(LEAVE_MAX);
            // Who cannot be told finds out by the session timeout.
            let _ = ask_group(&self.shared, &self.group, GroupAsk::Leave(vec![leaving]), after).await;
        }
        committed
    }

    async fn wait(&mut self) -> Happened {
        let membership = self.membership.as_mut().expect("it is open");
        let commits = self.options.auto_commit.is_some() && self.progress.has_uncommitted();
        self.turn = self.turn.wrapping_add(1);
        tokio::select! {
            biased;
            () = self.shared.until_closed() => Happened::Closed,
            () = membership.heart.until_not_alive() => Happened::Pulse,
            () = sleep_until(self.commit_at), if commits => Happened::CommitDue,
            happened = next_of(&mut self.readers, self.turn) => happened,
        }
    }

    /// Whatever heartbeats have told.
    async fn look_at_pulse(&mut self) -> Result<(), GroupConsumerError> {
        let Some(membership) = &self.membership else { return Ok(()) };
        match membership.heart.pulse() {
            Pulse::Alive => {}
            Pulse::Rebalance => {
                if self.options.auto_commit.is_some() {
                    self.commit_in_passing().await;
                }
                if self.membership.is_some() {
                    self.give_up(false);
                }
            }
            Pulse::Lost { member } => {
                self.member = member.unwrap_or(std::mem::take(&mut self.member));
                self.give_up(true);
            }
            Pulse::Failed(source) => {
                self.give_up(true);
                return Err(self.failed(source));
            }
        }
        Ok(())
    }

    /// Nothing of what it had is given out any more.
    fn give_up(&mut self, is_lost: bool) {
        let membership = self.membership.take().expect("it was a member");
        if let Some(listener) = &self.options.listener
            && membership.stage != Stage::Fresh
        {
            let partitions = self.progress.partitions();
            if is_lost { listener.lost(&partitions) } else { listener.revoked(&partitions) }
        }
    }

    async fn join(&mut self) -> Result<(), GroupConsumerError> {
        let since = Instant::now();
        let after = self.options.rebalance_timeout + self.shared.config.request_timeout;
        loop {
            let join = self.join_request();
            let error = match ask_group(&self.shared, &self.group, GroupAsk::Join(join), after).await {
                Ok(GroupAnswer::Joined(joined)) => {
                    self.backoff.succeeded();
                    self.on_joined(joined);
                    return Ok(());
                }
                Ok(other) => panic!("a join is answered by {other:?}"),
                Err(error) => error,
            };
            match advice_on(&error) {
                Advice::Fail => return Err(self.failed(error)),
                Advice::Lost { member } => self.member = member.unwrap_or(std::mem::take(&mut self.member)),
                Advice::Rejoin => {}
                Advice::Retry => {
                    let after = self.options.unavailable_timeout;
                    if since.elapsed() >= after {
                        return Err(GroupConsumerError::Unavailable {
                            group: self.group.clone(),
                            after,
                            last: error,
                        });
                    }
                }
            }
            sleep(self.backoff.next_wait()).await;
        }
    }

    fn join_request(&self) -> JoinGroup {
        JoinGroup {
            member: self.member.clone(),
            instance: self.options.instance.clone(),
            client_id: self.options.client_id.clone(),
            client_host: String::new(),
            session_timeout: self.options.session_timeout,
            rebalance_timeout: self.options.rebalance_timeout,
            member_id_required: false,
            supports_skip_assignment: true,
            protocol: MemberProtocol::Native { topics: self.topics.clone(), assignor: self.options.assignor },
        }
    }

    fn on_joined(&mut self, joined: Joined) {
        self.member = joined.member;
        let every = self.options.heartbeat_interval.min(self.options.session_timeout / 3);
        let member = MemberId {
            member: self.member.clone(),
            generation: joined.generation,
            instance: self.options.instance.clone(),
        };
        let heart = Heart::start(
            Arc::clone(&self.shared),
            self.group.clone(),
            member,
            every,
            self.options.session_timeout,
        );
        self.membership = Some(Membership {
            generation: joined.generation,
            heart,
            assignment: joined.assignment,
            stage: Stage::Fresh,
        });
    }

    /// Finds the place in every assigned partition and opens the readers that are not there.
    async fn open(&mut self) -> Result<(), GroupConsumerError> {
        let membership = self.membership.as_ref().expect("it has joined");
        let (stage, assignment) = (membership.stage, membership.assignment.clone());
        let mut progress = Progress::default();
        let mut committed = BTreeMap::new();
        if stage == Stage::Fresh && !assignment.is_empty() {
            let Some(fetched) = self.fetch_committed(&assignment).await? else { return Ok(()) };
            committed = fetched;
        }
        let mut readers = BTreeMap::new();
        for (topic, partitions) in assignment {
            let mut starts = BTreeMap::new();
            for partition in &partitions {
                let (at, known) = if stage == Stage::Broken {
                    (self.progress.position(&topic, *partition), self.progress.committed(&topic, *partition))
                } else {
                    let known = committed.get(&(topic.clone(), *partition)).copied();
                    (known, known)
                };
                let at = match at {
                    Some(at) => at,
                    None => match self.find_start(&topic, *partition).await? {
                        Some(at) => at,
                        // The topic has gone: the coordinator will notice.
                        None => continue,
                    },
                };
                starts.insert(*partition, (at, known));
            }
            if let Some(reader) = self.open_reader(&topic, &partitions, &mut starts).await? {
                readers.insert(topic.clone(), (partitions, reader));
            }
            for (partition, (at, known)) in starts {
                progress.begin(&topic, partition, at, known);
            }
        }
        // Everything is there; from here on nothing is waited for.
        self.readers = readers;
        self.progress = progress;
        if let Some(every) = self.options.auto_commit {
            self.commit_at = Instant::now() + every;
        }
        self.membership.as_mut().expect("it has joined").stage = Stage::Open;
        if let Some(listener) = self.options.listener.as_ref().filter(|_| stage == Stage::Fresh) {
            listener.assigned(&self.progress.partitions());
        }
        Ok(())
    }

    /// The one that is there, if it stands where this one would start. `None`: there is nothing to read.
    async fn open_reader(
        &mut self,
        topic: &str,
        partitions: &[u32],
        starts: &mut BTreeMap<u32, (Offset, Option<Offset>)>,
    ) -> Result<Option<Reader>, GroupConsumerError> {
        if let Some((had, reader)) = self.readers.remove(topic) {
            let is_there = |partition: &u32| {
                starts.get(partition).map(|(at, _)| *at) == self.progress.position(topic, *partition)
            };
            if had == partitions && partitions.iter().all(is_there) {
                return Ok(Some(reader));
            }
        }
        while !starts.is_empty() {
            let mut config = ReaderConfig::new(topic).partitions(starts.keys().copied());
            config.group = Some(self.group.clone());
            config.starts = starts.iter().map(|(partition, (at, _))| (*partition, *at)).collect();
            config.unavailable_timeout = self.options.unavailable_timeout;
            match Reader::open(Arc::clone(&self.shared), config).await {
                Ok(reader) => return Ok(Some(reader)),
                Err(ReadError::UnknownTopic { .. }) => return Ok(None),
                // Retention was faster, or a crash took what had been read.
                Err(ReadError::OffsetOutOfRange { partition, .. }) => {
                    match self.find_start(topic, partition).await? {
                        Some(at) => _ = starts.insert(partition, (at, None)),
                        None => _ = starts.remove(&partition),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Where the group starts in a partition that it knows nothing of; `None`: it is gone.
    async fn find_start(&self, topic: &str, partition: u32) -> Result<Option<Offset>, GroupConsumerError> {
        let place = match self.options.start {
            GroupStart::Beginning => Place::Start,
            GroupStart::End => Place::End,
        };
        let request = |partition| Request::FindOffset(FindOffset { partition, place });
        let answer_of =
            |response| if let Response::FindOffset(result) = response { Some(result) } else { None };
        let found =
            ask_leader(&self.shared, topic, partition, PURPOSE_REQUESTS, request, answer_of, passes_fetch);
        match found.await {
            Ok(found) => Ok(Some(found.offset)),
            Err(
                PartitionError::OutOfRange { .. }
                | PartitionError::Topic(RequestError::Refused(engine_api::TopicError::Unknown { .. })),
            ) => Ok(None),
            Err(error) => Err(GroupConsumerError::Find(error)),
        }
    }

    /// `None`: it has to join again.
    async fn fetch_committed(
        &mut self,
        assignment: &[(String, Vec<u32>)],
    ) -> Result<Option<BTreeMap<(String, u32), Offset>>, GroupConsumerError> {
        let ask = GroupAsk::FetchOffsets(Some(assignment.to_vec()));
        match self.ask_patiently(ask).await {
            Ok(GroupAnswer::Offsets(offsets)) => {
                let each = offsets.into_iter().flat_map(|(topic, partitions)| {
                    partitions.into_iter().filter_map(move |(partition, committed)| {
                        Some(((topic.clone(), partition), committed?.offset))
                    })
                });
                Ok(Some(each.collect()))
            }
            Ok(other) => panic!("offsets are answered by {other:?}"),
            Err(error) => match advice_on(&error) {
                Advice::Rejoin | Advice::Lost { .. } => {
                    self.give_up(true);
                    Ok(None)
                }
                Advice::Retry | Advice::Fail => Err(self.failed(error)),
            },
        }
    }

    /// Asks again while that may help, for the request timeout.
    async fn ask_patiently(&mut self, ask: GroupAsk) -> Result<GroupAnswer, RequestError<GroupError>> {
        let after = self.shared.config.request_timeout;
        let deadline = Instant::now() + after;
        loop {
            match ask_group(&self.shared, &self.group, ask.clone(), after).await {
                Ok(answer) => {
                    self.backoff.succeeded();
                    return Ok(answer);
                }
                Err(error) if advice_on(&error) != Advice::Retry || Instant::now() >= deadline => {
                    return Err(error);
                }
                Err(_) => sleep(self.backoff.next_wait()).await,
            }
        }
    }

    /// What fails now is tried again later; what is lost shows when it joins.
    async fn commit_in_passing(&mut self) {
        let _ = self.commit_processed().await;
        if let Some(every) = self.options.auto_commit {
            self.commit_at = Instant::now() + every;
        }
    }

    async fn commit_processed(&mut self) -> Result<(), GroupConsumerError> {
        let topics = self.progress.uncommitted();
        if topics.is_empty() {
            return Ok(());
        }
        let not_committed = |why: &dyn ToString| GroupConsumerError::NotCommitted {
            group: self.group.clone(),
            why: why.to_string(),
        };
        let Some(membership) = &self.membership else {
            return Err(not_committed(&"it has to join again"));
        };
        let member = MemberId {
            member: self.member.clone(),
            generation: membership.generation,
            instance: self.options.instance.clone(),
        };
        let commit = CommitOffsets { member, retention: None, topics: topics.clone() };
        match self.ask_patiently(GroupAsk::Commit(commit)).await {
            Ok(GroupAnswer::Committed(results)) => self.on_committed(&topics, results),
            Ok(other) => panic!("a commit is answered by {other:?}"),
            Err(error) => match advice_on(&error) {
                Advice::Rejoin | Advice::Lost { .. } => {
                    if let Advice::Lost { member: Some(member) } = advice_on(&error) {
                        self.member = member;
                    }
                    self.give_up(true);
                    Err(GroupConsumerError::NotCommitted {
                        group: self.group.clone(),
                        why: error.to_string(),
                    })
                }
                Advice::Retry | Advice::Fail => Err(self.failed(error)),
            },
        }
    }

    fn on_committed(
        &mut self,
        sent: &[(String, Vec<engine_api::CommitOffset>)],
        results: CommitResults,
    ) -> Result<(), GroupConsumerError> {
        let mut refused = None;
        for ((topic, offsets), (_, results)) in sent.iter().zip(results) {
            for (offset, (partition, result)) in offsets.iter().zip(results) {
                match result {
                    // A partition that is gone needs no place in it.
                    Ok(()) | Err(GroupError::UnknownPartition) => {
                        self.progress.on_committed(topic, partition, offset.offset);
                    }
                    Err(error) => refused = Some(error),
                }
            }
        }
        refused.map_or(Ok(()), |error| Err(self.failed(RequestError::Refused(error))))
    }

    fn on_ended(&mut self, topic: &str, why: ReadError) -> Result<(), GroupConsumerError> {
        self.readers.remove(topic);
        if let ReadError::Closed = why {
            return Err(GroupConsumerError::Closed);
        }
        // The coordinator notices that a topic is gone, too, and there will be another assignment.
        if !matches!(why, ReadError::UnknownTopic { .. }) {
            self.membership.as_mut().expect("it was open").stage = Stage::Broken;
        }
        if matches!(why, ReadError::UnknownTopic { .. } | ReadError::OffsetOutOfRange { .. }) {
            return Ok(());
        }
        Err(why.into())
    }

    fn failed(&self, source: RequestError<GroupError>) -> GroupConsumerError {
        if self.shared.is_closed() {
            return GroupConsumerError::Closed;
        }
        GroupConsumerError::Group { group: self.group.clone(), source }
    }
}

/// To say goodbye.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Of whichever reader has something, beginning with another one each time. For ever without readers.
async fn next_of(readers: &mut BTreeMap<String, (Vec<u32>, Reader)>, turn: usize) -> Happened {
    let readers_count = readers.len();
    std::future::poll_fn(|context| {
        let first = turn.checked_rem(readers_count).unwrap_or(0);
        for index in (first..readers_count).chain(0..first) {
            let (topic, (_, reader)) = readers.iter_mut().nth(index).expect("below their count");
            let next = std::pin::pin!(reader.next());
            match next.poll(context) {
                Poll::Ready(Ok(Some(batch))) => return Poll::Ready(Happened::Batch(Box::new(batch))),
                Poll::Ready(Err(why)) => return Poll::Ready(Happened::Ended { topic: topic.clone(), why }),
                // All of its partitions have ended, each by an error that was told.
                Poll::Ready(Ok(None)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}
