//! What everything made by one client shares: connections, topics' metadata, the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use engine_api::{
    CoreId, DescribeTopics, NodeId, PartitionId, Request, Response, TopicDescription, TopicError, TopicId,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::dial::{ConnectError, Dialer, Link};
use crate::outside::Outside;
use crate::rpc::{RequestError, ask, is_repeatable, unexpected};
use crate::state::backoff::Backoff;

/// Connections that must not hold each other up are kept apart: a reader that is not drained fills its
/// connection's window.
pub(crate) type Purpose = u64;
/// Requests, each on a stream that ends with its answer.
pub(crate) const PURPOSE_REQUESTS: Purpose = 0;
/// Produce streams, which stay.
const PURPOSE_PRODUCE: Purpose = 1;
/// Of readers, counted up from here.
const PURPOSE_FIRST_READER: Purpose = 2;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LinkKey {
    address: String,
    core: u8,
    purpose: Purpose,
    /// Of streams that stay, [`GROUP_STREAMS`] at most.
    group: u32,
}

/// A broker takes 1024 streams per connection; those that were given up count until it has noticed.
const GROUP_STREAMS: u32 = 512;

#[derive(Debug)]
struct Links {
    slots: BTreeMap<LinkKey, LinkSlot>,
    /// Those that are made connections for.
    purposes: BTreeSet<Purpose>,
    /// Produce streams, by the connection they are on.
    leases: BTreeMap<LinkKey, u32>,
}

/// Room for one produce stream on a connection, until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    key: LinkKey,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut links = lock(&self.shared.links);
        let count = links.leases.get_mut(&self.key).expect("counted when it was made");
        *count -= 1;
        if *count == 0 {
            links.leases.remove(&self.key);
        }
    }
}

/// The lock is held while dialling, so that many who need a connection make one.
type LinkSlot = Arc<tokio::sync::Mutex<SlotState>>;

#[derive(Debug, Default)]
struct SlotState {
    link: Option<Link>,
    /// For those who waited while it was found out.
    failed: Option<(Instant, ConnectError)>,
}

/// A topic as the broker described it last.
#[derive(Debug, Clone)]
pub(crate) struct TopicInfo {
    pub(crate) id: TopicId,
    /// By partition: leader's address and core.
    pub(crate) leaders: Vec<(NodeId, CoreId)>,
    pub(crate) message_bytes_max: usize,
    pub(crate) asked_at: Instant,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) outside: Arc<dyn Outside>,
    dialer: Dialer,
    links: Mutex<Links>,
    topics: Mutex<AHashMap<Arc<str>, Arc<TopicInfo>>>,
    /// Addresses of the nodes; asked again when a leader is on a node that is not in it.
    nodes: Mutex<BTreeMap<NodeId, String>>,
    /// One refresh at a time; who waits finds its result.
    refresh: tokio::sync::Mutex<Option<(Instant, RequestError<TopicError>)>>,
    /// The server that answered first.
    bootstrap: String,
    next_purpose: std::sync::atomic::AtomicU64,
    /// True once the client is closed.
    closed: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section here is one map operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a topic's config does not say.
const MESSAGE_BYTES_MAX_DEFAULT: usize = 1 << 20;

impl Shared {
    /// Connects to the first of the configured servers that answers.
    pub(crate) async fn connect(config: Config) -> Result<Self, ConnectError> {
        let outside = config.outside();
        let dialer = Dialer::new(&config, Arc::clone(&outside))?;
        let core = config.force_core.unwrap_or(0);
        let mut attempts = Vec::new();
        for server in &config.servers {
            match dialer.dial(server, core).await {
                Ok(link) => {
                    let bootstrap = server.clone();
                    let key =
                        LinkKey { address: bootstrap.clone(), core, purpose: PURPOSE_REQUESTS, group: 0 };
                    let slot = SlotState { link: Some(link), failed: None };
                    let slot = Arc::new(tokio::sync::Mutex::new(slot));
                    return Ok(Self {
                        config,
                        outside,
                        dialer,
                        links: Mutex::new(Links {
                            slots: BTreeMap::from([(key, slot)]),
                            purposes: BTreeSet::from([PURPOSE_REQUESTS, PURPOSE_PRODUCE]),
                            leases: BTreeMap::new(),
                        }),
                        topics: Mutex::default(),
                        nodes: Mutex::default(),
                        refresh: tokio::sync::Mutex::default(),
                        bootstrap,
                        next_purpose: PURPOSE_FIRST_READER.into(),
                        closed: watch::Sender::new(false),
                    });
                }
                Err(error) => attempts.push(error),
            }
        }
        Err(match attempts.len() {
            0 => ConnectError::NoServers,
            1 => attempts.remove(0),
            _ => ConnectError::All { attempts },
        })
    }

    pub(crate) fn seed(&self) -> u64 {
        self.dialer.seed()
    }

    pub(crate) fn new_purpose(&self) -> Purpose {
        let purpose = self.next_purpose.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        lock(&self.links).purposes.insert(purpose);
        purpose
    }

    /// Lets go of the connections made for `purpose`; no more are made.
    pub(crate) fn end_purpose(&self, purpose: Purpose) {
        let mut links = lock(&self.links);
        links.purposes.remove(&purpose);
        let slots = std::mem::take(&mut links.slots);
        let (ended, kept): (BTreeMap<_, _>, _) =
            slots.into_iter().partition(|(key, _)| key.purpose == purpose);
        links.slots = kept;
        drop(links);
        ended.values().for_each(|slot| drop(take_link(slot)));
    }

    /// Ends everything. Returns the connections that were closed.
    pub(crate) fn close(&self) -> Vec<Link> {
        self.closed.send_replace(true);
        let ended = {
            let mut links = lock(&self.links);
            links.purposes.clear();
            std::mem::take(&mut links.slots)
        };
        ended.values().filter_map(take_link).inspect(Link::close).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Ends when the client is closed.
    pub(crate) async fn until_closed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// A connection to `core` of the broker at `address`, the existing one if it is alive.
    async fn link(
        &self,
        address: &str,
        core: u8,
        purpose: Purpose,
        group: u32,
    ) -> Result<quinn::Connection, ConnectError> {
        let core = self.config.force_core.unwrap_or(core);
        let slot = {
            let mut links = lock(&self.links);
            if !links.purposes.contains(&purpose) {
                return Err(ConnectError::Closed);
            }
            let key = LinkKey { address: address.into(), core, purpose, group };
            Arc::clone(links.slots.entry(key).or_default())
        };
        let waiting_since = Instant::now();
        let mut slot = slot.lock().await;
        if let Some(link) = &slot.link
            && link.connection.close_reason().is_none()
        {
            return Ok(link.connection.clone());
        }
        match &slot.failed {
            Some((at, error)) if *at > waiting_since => return Err(error.clone()),
            Some(_) | None => {}
        }
        slot.link = None;
        let dialled = tokio::select! {
            dialled = self.dialer.dial(address, core) => dialled,
            () = self.until_closed() => return Err(ConnectError::Closed),
        };
        match dialled {
            Ok(link) => {
                // While it was dialled nobody could take it out of the slot; dropped, it is closed.
                if !lock(&self.links).purposes.contains(&purpose) {
                    return Err(ConnectError::Closed);
                }
                let connection = link.connection.clone();
                slot.link = Some(link);
                slot.failed = None;
                Ok(connection)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// For requests that any broker answers.
    pub(crate) async fn any_link(&self) -> Result<quinn::Connection, ConnectError> {
        let known = match self.link(&self.bootstrap, 0, PURPOSE_REQUESTS, 0).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let mut attempts = vec![known];
        for server in self.config.servers.iter().filter(|server| **server != self.bootstrap) {
            match self.link(server, 0, PURPOSE_REQUESTS, 0).await {
                Ok(connection) => return Ok(connection),
                Err(error) => attempts.push(error),
            }
        }
        Err(if attempts.len() == 1 { attempts.remove(0) } else { ConnectError::All { attempts } })
    }

    /// To the core that owns the partition, for requests and readers.
    pub(crate) async fn leader_link(
        &self,
        topic: &TopicInfo,
        partition: u32,
        purpose: Purpose,
    ) -> Result<quinn::Connection, ConnectError> {
        let (address, core) = self.leader(topic, partition).await?;
        // Each reader has a purpose and one stream per partition of its one topic.
        let group = if purpose == PURPOSE_REQUESTS { 0 } else { partition / GROUP_STREAMS };
        self.link(&address, core, purpose, group).await
    }

    /// To the core that owns the partition, with room for one produce stream. Producers and topics share
    /// connections.
    pub(crate) async fn produce_link(
        self: &Arc<Self>,
        topic: &TopicInfo,
        partition: u32,
    ) -> Result<(quinn::Connection, Lease), ConnectError> {
        let (address, core) = self.leader(topic, partition).await?;
        let lease = self.lease(&address, core);
        let connection = self.link(&address, core, PURPOSE_PRODUCE, lease.key.group).await?;
        Ok((connection, lease))
    }

    /// On the first connection that has room.
    fn lease(self: &Arc<Self>, address: &str, core: u8) -> Lease {
        let core = self.config.force_core.unwrap_or(core);
        let mut key = LinkKey { address: address.into(), core, purpose: PURPOSE_PRODUCE, group: 0 };
        let mut links = lock(&self.links);
        while links.leases.get(&key).is_some_and(|count| *count >= GROUP_STREAMS) {
            key.group += 1;
        }
        *links.leases.entry(key.clone()).or_insert(0) += 1;
        drop(links);
        Lease { shared: Arc::clone(self), key }
    }

    /// Address and core of the partition's leader.
    async fn leader(&self, topic: &TopicInfo, partition: u32) -> Result<(String, u8), ConnectError> {
        let Some(&(node, core)) = topic.leaders.get(partition as usize) else {
            return Err(ConnectError::Failed {
                address: self.bootstrap.clone(),
                why: format!("partition {partition} has no leader"),
            });
        };
        Ok((self.node_address(node).await, core.0))
    }

    async fn node_address(&self, node: NodeId) -> String {
        let known = |nodes: &BTreeMap<NodeId, String>| match nodes.len() {
            0 => None,
            // The one that was dialled, whatever name it has for itself: there may be a forwarded port between.
            1 => nodes.contains_key(&node).then(|| self.bootstrap.clone()),
            _ => nodes.get(&node).cloned(),
        };
        if let Some(address) = known(&lock(&self.nodes)) {
            return address;
        }
        let asked = self.ask_any::<std::convert::Infallible>(&Request::DescribeCluster).await;
        if let Ok(Response::DescribeCluster(cluster)) = asked {
            *lock(&self.nodes) = cluster.nodes.into_iter().map(|node| (node.id, node.address)).collect();
        }
        known(&lock(&self.nodes)).unwrap_or_else(|| self.bootstrap.clone())
    }

    /// One request to whichever broker answers, within the request timeout. One that changes nothing is sent again
    /// when its connection is lost.
    pub(crate) async fn ask_any<E>(&self, request: &Request) -> Result<Response, RequestError<E>>
    where
        E: std::error::Error + 'static,
    {
        let after = self.config.request_timeout;
        let asking = async {
            let mut again = Again::new(self, request);
            loop {
                let answer = match self.any_link().await {
                    Ok(connection) => ask(&connection, request).await.map_err(RequestError::from),
                    Err(error) => Err(RequestError::Connect(error)),
                };
                match answer {
                    Err(error) if again.is_worth_it(&error) => again.wait().await,
                    answer => return answer,
                }
            }
        };
        tokio::select! {
            answer = timeout(after, asking) => answer.unwrap_or(Err(RequestError::TimedOut { after })),
            () = self.until_closed() => Err(RequestError::Disconnected { why: "client is closed".into() }),
        }
    }

    /// As [`ask_any`](Self::ask_any), asking again while `is_passing` says that the refusal will pass.
    pub(crate) async fn ask_until<E, T>(
        &self,
        request: &Request,
        answer_of: impl Fn(Response) -> Option<Result<T, E>>,
        is_passing: impl Fn(&E) -> bool,
    ) -> Result<T, RequestError<E>>
    where
        E: std::error::Error + 'static,
    {
        let deadline = Instant::now() + self.config.request_timeout;
        let mut backoff = Backoff::new(self.seed());
        let mut refused = None;
        loop {
            let answer = self.ask_any(request).await.map_err(|error| match (error, refused.take()) {
                // A broker that shuts down says so, too, to those whose request had begun.
                (RequestError::Connect(_), Some(why)) => RequestError::Disconnected { why },
                (error, _) => error,
            })?;
            let answer = answer_of(answer).ok_or_else(|| unexpected("not the answer to this request"))?;
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let wait = backoff.next_wait();
            if !is_passing(&error) || Instant::now() + wait >= deadline {
                return Err(RequestError::Refused(error));
            }
            refused = Some(error.to_string().into());
            tokio::time::sleep(wait).await;
        }
    }

    /// The topic's metadata, from the cache unless it is old or from before `newer_than`.
    pub(crate) async fn topic(
        &self,
        name: &str,
        newer_than: Option<Instant>,
    ) -> Result<Arc<TopicInfo>, RequestError<TopicError>> {
        let cached = |now: Instant| {
            let topic = Arc::clone(lock(&self.topics).get(name)?);
            let fresh = now.duration_since(topic.asked_at) < self.config.metadata_age_max;
            (fresh && newer_than.is_none_or(|time| topic.asked_at > time)).then_some(topic)
        };
        if let Some(topic) = cached(Instant::now()) {
            return Ok(topic);
        }
        let waiting_since = Instant::now();
        let mut failed = self.refresh.lock().await;
        let asked_at = Instant::now();
        if let Some(topic) = cached(asked_at) {
            return Ok(topic);
        }
        match &*failed {
            // Nobody answers, as was found out while this one waited.
            Some((at, error)) if *at > waiting_since => return Err(error.clone()),
            Some(_) | None => {}
        }
        let request = Request::DescribeTopics(DescribeTopics { names: vec![name.into()] });
        let described = self.ask_until(&request, topics_of, is_passing).await;
        match described.map(|topics| topics.into_iter().find(|topic| topic.name == name)) {
            Ok(Some(topic)) => {
                let info = Arc::new(info_of(&topic, asked_at));
                lock(&self.topics).insert(name.into(), Arc::clone(&info));
                Ok(info)
            }
            Ok(None) => Err(RequestError::Refused(TopicError::Unknown { name: name.into() })),
            Err(error) => {
                if let RequestError::Refused(_) = &error {
                    lock(&self.topics).remove(name);
                } else {
                    *failed = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }

    pub(crate) fn forget_topic(&self, name: &str) {
        lock(&self.topics).remove(name);
    }
}

/// Whether and when a request is sent again after its connection was lost, as in a broker's restart.
pub(crate) struct Again {
    repeatable: bool,
    /// A connection was lost, so one that cannot be made may be soon.
    lost: bool,
    backoff: Backoff,
}

impl Again {
    pub(crate) fn new(shared: &Shared, request: &Request) -> Self {
        Self { repeatable: is_repeatable(request), lost: false, backoff: Backoff::new(shared.seed()) }
    }

    /// For ever, as far as this knows: the caller has a deadline.
    pub(crate) fn is_worth_it<E: std::error::Error>(&mut self, error: &RequestError<E>) -> bool {
        match error {
            RequestError::Disconnected { .. } => self.lost = true,
            RequestError::Connect(ConnectError::Closed) => return false,
            RequestError::Connect(_) => {}
            RequestError::Refused(_)
            | RequestError::TimedOut { .. }
            | RequestError::Rejected(_)
            | RequestError::Protocol(_) => return false,
        }
        self.repeatable && self.lost
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.backoff.next_wait()).await;
    }
}

impl TopicInfo {
    pub(crate) fn partitions_count(&self) -> u32 {
        self.leaders.len() as u32
    }

    pub(crate) fn partition(&self, index: u32) -> PartitionId {
        PartitionId { topic: self.id, index }
    }
}

pub(crate) fn topics_of(response: Response) -> Option<Result<Vec<TopicDescription>, TopicError>> {
    if let Response::DescribeTopics(result) = response { Some(result) } else { None }
}

/// Refusals that asking again will overcome.
pub(crate) fn is_passing(error: &TopicError) -> bool {
    matches!(error, TopicError::NotReady | TopicError::ShuttingDown)
}

fn info_of(topic: &TopicDescription, asked_at: Instant) -> TopicInfo {
    let limit = topic.configs.iter().find(|config| config.key == "max.message.bytes");
    let mut partitions: Vec<_> = topic.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicInfo {
        id: topic.id,
        leaders: partitions.iter().map(|partition| (partition.leader, partition.core)).collect(),
        message_bytes_max: limit
            .and_then(|config| config.value.parse().ok())
            .unwrap_or(MESSAGE_BYTES_MAX_DEFAULT),
        asked_at,
    }
}

fn take_link(slot: &LinkSlot) -> Option<Link> {
    // Somebody who is dialling sees that the purpose has ended.
    slot.try_lock().ok()?.link.take()
}

/// How long a refresh for an error may find a cached answer good enough: none of it, but for the errors of many
/// partitions at once.
pub(crate) const REFRESH_SPAN: Duration = Duration::from_millis(100);
