//! What a core's partitions share: answers on their way out, those who wait, memory, space, counters.

use std::collections::VecDeque;

use engine_api::{ReplySlot, Request, Response};

use crate::budget::{Budget, Space};
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
    /// Fetches that wait for memory, in the order they came; some may have left.
    pub(crate) reads_waiting: VecDeque<ReplySlot>,
    pub(crate) budget: Budget,
    pub(crate) space: Space,
    pub(crate) tally: Tally,
    pub(crate) stopping: bool,
    /// Partitions whose opening, failing or closing the shard has not looked at yet.
    pub(crate) changed: Vec<PartitionKey>,
}

impl Context {
    pub(crate) fn new(config: ShardConfig) -> Self {
        Self {
            budget: Budget::new(config.memory_bytes_max),
            space: Space::new(config.free_bytes_min),
            config,
            out: Vec::new(),
            waiters: Waiters::default(),
            held_count: 0,
            reads_waiting: VecDeque::new(),
            tally: Tally::default(),
            stopping: false,
            changed: Vec::new(),
        }
    }

    pub(crate) fn reply(&mut self, slot: ReplySlot, response: Response) {
        self.tally.count_response(&response);
        self.out.push(Effect::Reply(slot, response));
    }

    pub(crate) fn event(&mut self, level: Level, name: &'static str, fields: Vec<(&'static str, String)>) {
        self.out.push(Effect::Event(Event { level, name, fields }));
    }

    pub(crate) fn add_waiter(&mut self, waiter: Waiter) -> WaiterKey {
        if let Waiting::Held(_) = waiter.what {
            self.held_count += 1;
        }
        self.waiters.add(waiter)
    }

    /// Takes the waiter and what was set aside for it.
    pub(crate) fn remove_waiter(&mut self, key: WaiterKey) -> Waiter {
        let waiter = self.waiters.remove(key);
        match &waiter.what {
            Waiting::Held(_) => self.held_count -= 1,
            Waiting::Read { bytes, .. } => self.budget.end_read(*bytes),
            Waiting::Data { .. } | Waiting::Memory(_) | Waiting::Find(_) => {}
        }
        waiter
    }
}

/// Why a partition does not do what is asked of it, before the request is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownPartition,
    NotReady,
    StorageFailed(String),
    ShuttingDown,
}

/// The answer that refuses `request`.
pub(crate) fn refuse(request: &Request, refusal: Refusal) -> Response {
    use engine_api::{DeleteRecordsError, FetchError, InitProducerError, ProduceError, TopicError};
    let topic_error = |refusal| match refusal {
        Refusal::UnknownPartition | Refusal::NotReady => TopicError::NotReady,
        Refusal::StorageFailed(why) => TopicError::StorageFailed { why },
        Refusal::ShuttingDown => TopicError::ShuttingDown,
    };
    match request {
        Request::Produce(_) => Response::Produce(Err(match refusal {
            Refusal::UnknownPartition => ProduceError::UnknownPartition,
            Refusal::NotReady => ProduceError::NotLeader,
            Refusal::StorageFailed(why) => ProduceError::StorageFailed { why },
            Refusal::ShuttingDown => ProduceError::ShuttingDown,
        })),
        Request::Fetch(_) | Request::FindOffset(_) => {
            let error = match refusal {
                Refusal::UnknownPartition => FetchError::UnknownPartition,
                Refusal::NotReady => FetchError::NotLeader,
                Refusal::StorageFailed(why) => FetchError::StorageFailed { why },
                Refusal::ShuttingDown => FetchError::ShuttingDown,
            };
            match request {
                Request::Fetch(_) => Response::Fetch(Err(error)),
                _ => Response::FindOffset(Err(error)),
            }
        }
        Request::DeleteRecords(_) => Response::DeleteRecords(Err(match refusal {
            Refusal::UnknownPartition => DeleteRecordsError::UnknownPartition,
            Refusal::NotReady => DeleteRecordsError::NotLeader,
            Refusal::StorageFailed(why) => DeleteRecordsError::StorageFailed { why },
            Refusal::ShuttingDown => DeleteRecordsError::ShuttingDown,
        })),
        Request::CreateTopic(_) => Response::CreateTopic(Err(topic_error(refusal))),
        Request::AlterTopic(_) => Response::AlterTopic(Err(topic_error(refusal))),
        Request::DeleteTopic(_) => Response::DeleteTopic(Err(topic_error(refusal))),
        Request::DescribeTopics(_) => Response::DescribeTopics(Err(topic_error(refusal))),
        Request::DescribeCluster => unreachable!("describing the cluster is never refused"),
        Request::InitProducer => Response::InitProducer(Err(match refusal {
            Refusal::UnknownPartition | Refusal::NotReady => InitProducerError::NotReady,
            Refusal::StorageFailed(why) => InitProducerError::StorageFailed { why },
            Refusal::ShuttingDown => InitProducerError::ShuttingDown,
        })),
    }
}
