//! Fetch sessions (KIP-227): the broker remembers what a client reads, which then says only what has changed and is
//! told only of partitions with news.
//!
//! A session lives in its connection and ends with it; a client that comes back on another one is told that there is
//! no such session and asks in full. One session to a connection: clients have one to a broker. Sessions of a core
//! and partitions of a session are bounded; beyond that clients are served in full each time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;

/// Of a core.
pub(crate) const SESSIONS_MAX: usize = 1000;
/// Of a session.
const PARTITIONS_MAX: usize = 10_000;

/// Of a topic's name; none is longer, and longer ones are not remembered.
const NAME_BYTES_MAX: usize = 249;

/// No session, and a request that wants none.
const NO_SESSION: i32 = 0;
/// In a request: begin a session. Above it goes on, below it ends.
const EPOCH_INITIAL: i32 = 0;

/// What a client asks of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) topic: TopicName,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
    pub(crate) epoch: i32,
}

impl Asked {
    fn new(topic: &TopicName, partition: &FetchPartition) -> Self {
        Self {
            topic: topic.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            bytes_max: partition.partition_max_bytes,
            epoch: partition.current_leader_epoch,
        }
    }

    fn can_be_kept(&self) -> bool {
        self.topic.len() <= NAME_BYTES_MAX
    }
}

/// A client's place in its session.
#[derive(Debug)]
pub(crate) struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    partitions: BTreeMap<(StrBytes, i32), Remembered>,
    /// The place of the partition that comes first, so that each does some time.
    turn: usize,
}

#[derive(Debug)]
struct Remembered {
    asked: Asked,
    /// What the client was last told: an error, the high watermark, the log's start.
    told: Option<(i16, i64, i64)>,
}

/// Which partitions a request is about.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) asked: Vec<Asked>,
    /// Told to the client.
    pub(crate) session: i32,
    /// Only news are told.
    pub(crate) is_incremental: bool,
    /// Where to start filling the answer.
    pub(crate) turn: usize,
}

/// Finds out what is asked for. Sessions change here: requests of a connection begin in order.
pub(crate) fn open(context: &mut Context<'_>, request: FetchRequest) -> Result<Scope, ResponseError> {
    if request.session_epoch > EPOCH_INITIAL {
        return go_on(context, request);
    }
    let own = context.session.as_ref().is_some_and(|session| session.id == request.session_id);
    if own || request.session_epoch == EPOCH_INITIAL {
        close(context.session, context.sessions);
    }
    let asked = once_each(list(&request));
    let wants_session = request.session_epoch == EPOCH_INITIAL && context.head.version >= 7;
    let session = if wants_session { begin(context, &asked) } else { NO_SESSION };
    Ok(Scope { asked, session, is_incremental: false, turn: 0 })
}

fn list(request: &FetchRequest) -> Vec<Asked> {
    let topics = request.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(|partition| Asked::new(&topic.topic, partition)))
        .collect()
}

/// Of a partition that is named again what was said last counts, as with Kafka.
fn once_each(asked: Vec<Asked>) -> Vec<Asked> {
    if asked.len() < 2 {
        return asked;
    }
    let mut places = BTreeMap::new();
    let mut once = Vec::with_capacity(asked.len());
    for asked in asked {
        match places.entry((asked.topic.clone(), asked.partition)) {
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push(asked);
            }
            Entry::Occupied(place) => once[*place.get()] = asked,
        }
    }
    once
}

fn begin(context: &mut Context<'_>, asked: &[Asked]) -> i32 {
    let is_small = asked.len() <= PARTITIONS_MAX && asked.iter().all(Asked::can_be_kept);
    if asked.is_empty() || !is_small || context.sessions.open_count >= SESSIONS_MAX {
        return NO_SESSION;
    }
    let id = context.sessions.begin();
    let partitions = asked
        .iter()
        .map(|asked| {
            let key = (detached(&asked.topic), asked.partition);
            let asked = Asked { topic: TopicName(key.0.clone()), ..asked.clone() };
            (key, Remembered { asked, told: None })
        })
        .collect();
    *context.session = Some(Session { id, epoch: 1, partitions, turn: 0 });
    id
}

/// A name that does not keep its request's memory.
fn detached(name: &StrBytes) -> StrBytes {
    StrBytes::from_string(name.to_string())
}

fn go_on(context: &mut Context<'_>, request: FetchRequest) -> Result<Scope, ResponseError> {
    let session = context.session.as_mut().filter(|session| session.id == request.session_id);
    let session = session.ok_or(ResponseError::FetchSessionIdNotFound)?;
    if session.epoch != request.session_epoch {
        return Err(ResponseError::InvalidFetchSessionEpoch);
    }
    session.epoch = session.epoch.checked_add(1).unwrap_or(1);
    for forgotten in &request.forgotten_topics_data {
        for partition in &forgotten.partitions {
            session.partitions.remove(&(forgotten.topic.0.clone(), *partition));
        }
    }
    for asked in list(&request) {
        let key = (detached(&asked.topic), asked.partition);
        let is_full = session.partitions.len() >= PARTITIONS_MAX && !session.partitions.contains_key(&key);
        if is_full || !asked.can_be_kept() {
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        let asked = Asked { topic: TopicName(key.0.clone()), ..asked };
        match session.partitions.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().asked = asked,
            Entry::Vacant(entry) => {
                entry.insert(Remembered { asked, told: None });
            }
        }
    }
    session.turn = session.turn.wrapping_add(1);
    Ok(Scope {
        asked: session.partitions.values().map(|remembered| remembered.asked.clone()).collect(),
        session: session.id,
        is_incremental: true,
        turn: session.turn,
    })
}

/// Whether the client of an incremental fetch is to be told of a partition, which then counts as told.
pub(crate) fn is_news(
    session: &mut Option<Session>,
    scope: &Scope,
    index: usize,
    told: (i16, i64, i64),
    has_records: bool,
) -> bool {
    let asked = &scope.asked[index];
    let remembered = session
        .as_mut()
        .filter(|session| session.id == scope.session)
        .and_then(|session| session.partitions.get_mut(&(asked.topic.0.clone(), asked.partition)));
    let Some(remembered) = remembered else { return true };
    let before = remembered.told.replace(told);
    // An error is told until it is over.
    !scope.is_incremental || has_records || told.0 != 0 || before != Some(told)
}

/// The connection's session ends.
pub(crate) fn close(session: &mut Option<Session>, sessions: &mut Sessions) {
    if session.take().is_some() {
        sessions.open_count -= 1;
    }
}

/// The sessions of a core.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open_count: usize,
    given_count: i32,
}

impl Sessions {
    fn begin(&mut self) -> i32 {
        self.open_count += 1;
        self.given_count = self.given_count.checked_add(1).unwrap_or(1);
        self.given_count
    }
}
