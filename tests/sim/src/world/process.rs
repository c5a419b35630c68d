//! One life of the node's process: its cores, the links between them, and the end of the mesh where the direct
//! clients sit.

use std::collections::VecDeque;
use std::time::Duration;

use engine_api::CoreId;
use engine_shard::{Shard, ShardConfig};
use engine_turn::{CoreLogic, Link, Message};
use net_quic::{Server, ServerConfig};
use storage_frame::Now;

pub(crate) struct Process {
    /// Counts the processes of the run. Not the node's own count of its starts, which may be wrong.
    pub(crate) life: u32,
    pub(crate) begun: Duration,
    pub(crate) cores: Vec<Core>,
    /// `links[from][to]`; the end behind the cores is the direct clients'.
    links: Vec<Vec<Link>>,
    /// What the direct clients sent to each core and found its link full.
    direct: Vec<VecDeque<Message>>,
    pub(crate) ready_count: usize,
    pub(crate) stopped_count: usize,
    pub(crate) is_stopping: bool,
}

pub(crate) struct Core {
    pub(crate) logic: CoreLogic,
    /// A turn is due then.
    pub(crate) turn_at: Option<Duration>,
    /// Takes no turns before.
    pub(crate) stalled_until: Duration,
}

impl Process {
    pub(crate) fn new(
        life: u32,
        begun: Duration,
        now: Now,
        shard: &ShardConfig,
        quic: &ServerConfig,
        link_messages: usize,
    ) -> Self {
        let cores = usize::from(shard.cores);
        let ends = cores + 1;
        let core = |me: u8| {
            let mut shard = shard.clone();
            shard.core = CoreId(me);
            shard.seed ^= u64::from(me).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut quic = quic.clone();
            quic.core = CoreId(me);
            quic.seed = quic.seed.map(|seed| seed ^ u64::from(me) << 56);
            let kafka = net_kafka::Server::new(kafka_config(&shard));
            let shard = Shard::new(shard, now);
            let logic = CoreLogic::new(CoreId(me), ends, shard, Server::new(quic), kafka);
            Core { logic, turn_at: None, stalled_until: Duration::ZERO }
        };
        Self {
            life,
            begun,
            cores: (0..shard.cores).map(core).collect(),
            links: (0..ends).map(|_| (0..ends).map(|_| Link::new(link_messages)).collect()).collect(),
            direct: (0..cores).map(|_| VecDeque::new()).collect(),
            ready_count: 0,
            stopped_count: 0,
            is_stopping: false,
        }
    }

    pub(crate) fn core_count(&self) -> usize {
        self.cores.len()
    }

    /// Where the direct clients sit.
    pub(crate) fn direct_end(&self) -> CoreId {
        CoreId(self.core_count() as u8)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_count == self.core_count()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped_count == self.core_count()
    }

    /// Moves what other ends sent into the core's inbox, sender by sender in the order given. Returns the senders
    /// that wait for room.
    pub(crate) fn receive(&mut self, core: usize, senders: &[usize]) -> Vec<usize> {
        let mut waiting = Vec::new();
        for from in senders.iter().copied().filter(|from| *from != core) {
            if self.links[from][core].take(self.cores[core].logic.inbox()) {
                waiting.push(from);
            }
        }
        waiting
    }

    /// Offers a core's outboxes to their links. Returns who has something to look at.
    pub(crate) fn send(&mut self, core: usize) -> Vec<(usize, usize)> {
        let mut told = Vec::new();
        for to in (0..self.links.len()).filter(|to| *to != core) {
            let taken = self.links[core][to].offer(self.cores[core].logic.outbox(CoreId(to as u8)));
            if taken > 0 {
                told.push((to, taken));
            }
        }
        told
    }

    /// From the direct clients. Returns whether the core has something to look at.
    pub(crate) fn send_directly(&mut self, to: usize, message: Option<Message>) -> bool {
        self.direct[to].extend(message);
        let from = self.core_count();
        !self.direct[to].is_empty() && self.links[from][to].offer(&mut self.direct[to]) > 0
    }

    /// What has come for the direct clients, and the cores that wait for room.
    pub(crate) fn receive_directly(&mut self) -> (VecDeque<Message>, Vec<usize>) {
        let end = self.core_count();
        let mut messages = VecDeque::new();
        let waiting = (0..end).filter(|from| self.links[*from][end].take(&mut messages)).collect();
        (messages, waiting)
    }
}

/// As large as a node is.
fn kafka_config(shard: &ShardConfig) -> net_kafka::ServerConfig {
    net_kafka::ServerConfig {
        core: shard.core,
        node: shard.node,
        advertise: None,
        connections_max: 1000,
        request_bytes_max: 100 << 20,
        idle_timeout: Duration::from_secs(600),
        auto_create_topics: true,
        partitions_default: 1,
        replicas_default: 1,
        topic_defaults: Vec::new(),
        node_configs: Vec::new(),
    }
}
