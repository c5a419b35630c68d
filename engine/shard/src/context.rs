//! What a core's partitions share: answers on their way out, those who wait, memory, space, counters.

use std::collections::{BTreeMap, VecDeque};

use engine_api::{
    DeleteRecordsError, FetchError, GroupError, InitProducerError, ProduceError, ReplySlot, Request,
    Response, TopicError,
};
use storage_frame::Now;

use crate::budget::{Budget, Space};
use crate::hearing::Hearing;
use crate::limits::{PRODUCERS_MAX, PRODUCERS_MIN, PRODUCERS_PER_CORE_MAX, PRODUCERS_ROOMY_MAX};
use crate::producers::Room;
use crate::seam::{Effect, Event, Level, ShardConfig};
use crate::tally::Tally;
use crate::waiting::{PartitionKey, Waiter, WaiterKey, Waiters, Waiting};

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: ShardConfig,
    /// Leave at the end of the turn, in this order.
    pub(crate) out: Vec<Effect>,
    pub(crate) waiters: Waiters,
    pub(crate) held_count: usize,
    /// Fetches that wait for memory, in the order they came; some may have left, no more than are still there.
    pub(crate) reads_waiting: VecDeque<ReplySlot>,
    reads_waiting_count: usize,
    /// Requests about groups that their coordinators have not answered.
    pub(crate) group_asks: BTreeMap<ReplySlot, PartitionKey>,
    /// Producers remembered by all partitions.
    pub(crate) producers_count: usize,
    pub(crate) budget: Budget,
    pub(crate) space: Space,
    pub(crate) tally: Tally,
    pub(crate) hearing: Hearing,
    pub(crate) stopping: bool,
    /// Partitions whose opening, failing or closing the shard has not looked at yet.
    pub(crate) changed: Vec<PartitionKey>,
}

impl Context {
    pub(crate) fn new(config: ShardConfig, now: Now) -> Self {
        Self {
            budget: Budget::new(config.memory_bytes_max),
            space: Space::new(config.free_bytes_min),
            hearing: Hearing::new(config.core, config.cores, now.mono),
            config,
            out: Vec::new(),
            waiters: Waiters::default(),
            held_count: 0,
            reads_waiting: VecDeque::new(),
            reads_waiting_count: 0,
            group_asks: BTreeMap::new(),
            producers_count: 0,
            tally: Tally::default(),
            stopping: false,
            changed: Vec::new(),
        }
    }

    /// As coordinators are told the time: members' silence counts only while they could be heard.
    pub(crate) fn heard(&self, now: Now) -> Now {
        Now { mono: self.hearing.heard(), ..now }
    }

    /// In a partition that remembers so many.
    pub(crate) fn room_for_producers(&self, in_partition: usize) -> Room {
        let is_full = self.producers_count >= PRODUCERS_PER_CORE_MAX;
        let producers_max =
            if is_full { in_partition.clamp(PRODUCERS_MIN, PRODUCERS_MAX) } else { PRODUCERS_MAX };
        Room { producers_max, is_crowded: self.producers_count >= PRODUCERS_ROOMY_MAX }
    }

    pub(crate) fn reply(&mut self, slot: ReplySlot, response: Response) {
        self.tally.count_response(&response);
        self.out.push(Effect::Reply(slot, response));
    }

    pub(crate) fn event(&mut self, level: Level, name: &'static str, fields: Vec<(&'static str, String)>) {
        self.out.push(Effect::Event(Event { level, name, fields }));
    }

    /// Adds the waiter and sets memory aside for it.
    pub(crate) fn add_waiter(&mut self, waiter: Waiter) -> WaiterKey {
        match &waiter.what {
            Waiting::Held { bytes, .. } => {
                self.held_count += 1;
                self.budget.hold(*bytes);
            }
            Waiting::Read { bytes, .. } | Waiting::Find { bytes, .. } | Waiting::Abandoned { bytes } => {
                self.budget.begin_read(*bytes);
            }
            Waiting::Memory(_) => {
                self.reads_waiting_count += 1;
                self.reads_waiting.push_back(waiter.slot);
            }
            Waiting::Data { .. } => {}
        }
        let key = self.waiters.add(waiter);
        if self.reads_waiting.len() > 2 * self.reads_waiting_count + 64 {
            let waits = |slot: &ReplySlot| {
                let waiter = self.waiters.find(*slot).and_then(|key| self.waiters.at(key));
                waiter.is_some_and(|waiter| matches!(waiter.what, Waiting::Memory(_)))
            };
            self.reads_waiting.retain(waits);
        }
        key
    }

    /// Takes the waiter and what was set aside for it.
    pub(crate) fn remove_waiter(&mut self, key: WaiterKey) -> Waiter {
        let waiter = self.waiters.remove(key);
        match &waiter.what {
            Waiting::Held { bytes, .. } => {
                self.held_count -= 1;
                self.budget.let_go(*bytes);
            }
            Waiting::Read { bytes, .. } | Waiting::Find { bytes, .. } | Waiting::Abandoned { bytes } => {
                self.budget.end_read(*bytes);
            }
            Waiting::Memory(_) => self.reads_waiting_count -= 1,
            Waiting::Data { .. } => {}
        }
        waiter
    }
}

/// Why nobody does what is asked, before or without looking at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownPartition,
    NotReady,
    StorageFailed(String),
    ShuttingDown,
}

/// The answer that refuses `request`.
pub(crate) fn refuse(request: &Request, refusal: Refusal) -> Response {
    match request {
        Request::Produce(_) => Response::Produce(Err(refusal.into())),
        Request::Fetch(_) => Response::Fetch(Err(refusal.into())),
        Request::FindOffset(_) => Response::FindOffset(Err(refusal.into())),
        Request::DeleteRecords(_) => Response::DeleteRecords(Err(refusal.into())),
        Request::CreateTopic(_) => Response::CreateTopic(Err(refusal.into())),
        Request::AlterTopic(_) => Response::AlterTopic(Err(refusal.into())),
        Request::DeleteTopic(_) => Response::DeleteTopic(Err(refusal.into())),
        Request::DescribeTopics(_) => Response::DescribeTopics(Err(refusal.into())),
        Request::DescribeCluster => unreachable!("describing the cluster is never refused"),
        Request::InitProducer => Response::InitProducer(Err(refusal.into())),
        Request::Group(_) => Response::Group(Err(refusal.into())),
        Request::ListGroups(_) => Response::ListGroups(Err(refusal.into())),
        Request::MeasureLag(_) => Response::MeasureLag(Err(refusal.into())),
        Request::CheckTopic(_) => Response::CheckTopic(Err(refusal.into())),
        Request::DescribeLogs(_) => Response::DescribeLogs(Err(refusal.into())),
    }
}

impl From<Refusal> for ProduceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition => Self::UnknownPartition,
            Refusal::NotReady => Self::NotLeader,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition => Self::UnknownPartition,
            Refusal::NotReady => Self::NotLeader,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Refusal> for DeleteRecordsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition => Self::UnknownPartition,
            Refusal::NotReady => Self::NotLeader,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Refusal> for TopicError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition | Refusal::NotReady => Self::NotReady,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Refusal> for GroupError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition | Refusal::NotReady => Self::NotReady,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Refusal> for InitProducerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPartition | Refusal::NotReady => Self::NotReady,
            Refusal::StorageFailed(why) => Self::StorageFailed { why },
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}
