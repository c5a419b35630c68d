//! A node of several cores whose links, disk and datagrams are in a test's hands, with one more end of the mesh: the
//! test itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use engine_api::{CoreId, CreateTopic, NodeId, PartitionId, ReplySlot, Request, Response, TopicDescription};
use engine_shard::{Input, Shard, ShardConfig};
use net_quic::Server;
use storage_frame::{LogId, Now, TimestampMs};
use storage_log::OpId;
use tests_disk::{Faults, ModelDisk};

use super::client::{Client, server_config};
use crate::{CoreLogic, Link, Message, Want};

const TICK: Duration = Duration::from_millis(10);

/// Rounds until nobody has anything left to say, at most: more means somebody talks to himself.
const ROUNDS_MAX: usize = 100_000;

pub(super) struct Node {
    pub(super) at: Instant,
    pub(super) cores: Vec<CoreLogic>,
    pub(super) clients: Vec<Client>,
    /// Those that get no turn.
    pub(super) asleep: Vec<bool>,
    /// Links nobody takes messages from: from, to.
    pub(super) held: Vec<(usize, usize)>,
    pub(super) disk_waits: bool,
    /// `false`: the sockets take nothing.
    pub(super) sends: bool,
    /// To the test.
    pub(super) replies: BTreeMap<u64, Response>,
    pub(super) stopped: Vec<bool>,
    /// Whether each core had more to do at once after its last turn.
    pub(super) more: Vec<bool>,
    begun: Instant,
    next_tick: Instant,
    /// `[from][to]`; the last end is the test's.
    links: Vec<Vec<Link>>,
    outboxes: Vec<VecDeque<Message>>,
    next_key: u64,
    disk: ModelDisk,
    under_way: Vec<(usize, LogId, OpId)>,
}

impl Node {
    // There is no other way to make an `Instant`; only what is added to it matters.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn start(cores: u8, link_messages_max: usize) -> Self {
        let begun = Instant::now();
        let ends = usize::from(cores) + 1;
        let made = (0..cores).map(CoreId).map(|me| {
            let shard = Shard::new(shard_config(me, cores), now_of(Duration::ZERO));
            CoreLogic::new(me, ends, shard, Server::new(server_config(me)), kafka_server(me))
        });
        let mut node = Self {
            at: begun,
            cores: made.collect(),
            clients: Vec::new(),
            asleep: vec![false; usize::from(cores)],
            held: Vec::new(),
            disk_waits: false,
            sends: true,
            replies: BTreeMap::new(),
            stopped: vec![false; usize::from(cores)],
            more: vec![false; usize::from(cores)],
            begun,
            next_tick: begun + TICK,
            links: (0..ends).map(|_| (0..ends).map(|_| Link::new(link_messages_max)).collect()).collect(),
            outboxes: (0..cores).map(|_| VecDeque::new()).collect(),
            next_key: 0,
            disk: ModelDisk::new(1, Faults::default()),
            under_way: Vec::new(),
        };
        node.pump();
        node
    }

    pub(super) fn connect(&mut self, core: usize) -> usize {
        let port = 40_000 + self.clients.len() as u16;
        self.clients.push(Client::new(self.at, core, port));
        self.run(Duration::from_millis(100));
        assert!(self.clients.last().unwrap().is_connected());
        self.clients.len() - 1
    }

    /// Asks `core` by way of the mesh; answered in [`replies`](Self::replies).
    pub(super) fn ask(&mut self, core: usize, request: Request) -> u64 {
        self.next_key += 1;
        let slot = ReplySlot { core: self.end(), key: self.next_key };
        self.outboxes[core].push_back(Message::Request { slot, request });
        self.next_key
    }

    pub(super) fn create_topic(&mut self, partitions: u32) -> TopicDescription {
        let name = "orders".to_owned();
        let topic = CreateTopic { name, partitions: Some(partitions), replicas: None, configs: vec![] };
        let key = self.ask(0, Request::CreateTopic(topic));
        self.run(Duration::from_millis(100));
        let response = self.replies.remove(&key);
        let Some(Response::CreateTopic(Ok(topic))) = response else { panic!("{response:?}") };
        topic
    }

    fn end(&self) -> CoreId {
        CoreId(self.cores.len() as u8)
    }

    fn now(&self) -> Now {
        now_of(self.at - self.begun)
    }

    /// Time goes by.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.at + time;
        loop {
            self.pump();
            let timeouts = self.clients.iter_mut().filter_map(Client::poll_timeout);
            let cores = self.cores.iter_mut().zip(&self.asleep);
            let cores = cores.filter(|(_, asleep)| !**asleep).filter_map(|(core, _)| core.next_timeout());
            let next = timeouts.chain(cores).chain([self.next_tick]).min().unwrap();
            if next > until {
                break;
            }
            self.at = self.at.max(next);
            if self.next_tick <= self.at {
                self.next_tick += TICK;
                self.cores.iter_mut().for_each(|core| core.note(Input::Tick));
            }
            self.clients.iter_mut().for_each(|client| client.expire(self.at));
        }
        self.at = until;
    }

    /// Everything that happens without time going by.
    pub(super) fn pump(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_quiet = !(self.move_datagrams() | self.move_messages() | self.run_disk());
            for core in 0..self.cores.len() {
                if !self.asleep[core] && !self.cores[core].is_ended() {
                    is_quiet &= !self.turn(core);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("never quiet");
    }

    /// Returns whether anything came of it.
    pub(super) fn turn(&mut self, core: usize) -> bool {
        let (now, at, logic) = (self.now(), self.at, &mut self.cores[core]);
        for (from, links) in self.links.iter_mut().enumerate() {
            if !self.held.contains(&(from, core)) {
                links[core].take(logic.inbox());
            }
        }
        let before = logic.stats();
        let mut wants = Vec::new();
        let mut worked = logic.turn(now, at, &mut wants);
        let more = worked;
        assert!(logic.inbox().is_empty(), "drained whatever the backlog");
        for want in wants {
            match want {
                Want::Disk { log, op, what } => {
                    self.disk.submit(core as u8, log, op, what);
                    self.under_way.push((core, log, op));
                }
                Want::Stopped => {
                    assert!(!std::mem::replace(&mut self.stopped[core], true), "stopped twice");
                }
                Want::Ready | Want::Event(_) => {}
            }
        }
        for (to, link) in self.links[core].iter_mut().enumerate().filter(|(to, _)| *to != core) {
            worked |= link.offer(logic.outbox(CoreId(to as u8))) > 0;
        }
        self.more[core] = logic.settle(at) | more;
        worked |= self.more[core];
        let mut buffer = Vec::new();
        while self.sends
            && let Some(transmit) = logic.poll_transmit(at, 8, &mut buffer)
        {
            worked = true;
            let Some(client) = self.clients.iter_mut().find(|client| client.address == transmit.remote)
            else {
                continue;
            };
            for segment in buffer[..transmit.bytes].chunks(transmit.segment_bytes.unwrap_or(usize::MAX)) {
                client.on_datagram(at, segment);
            }
        }
        worked || logic.stats().inputs > before.inputs
    }

    /// From clients to their cores.
    pub(super) fn move_datagrams(&mut self) -> bool {
        let mut moved = false;
        for client in &mut self.clients {
            while let Some(data) = client.poll_transmit(self.at) {
                moved = true;
                self.cores[client.core].handle_datagram(self.at, client.address, None, None, data);
            }
        }
        moved
    }

    /// Between the test and the cores.
    pub(super) fn move_messages(&mut self) -> bool {
        let test = self.cores.len();
        let mut inbox = VecDeque::new();
        let mut moved = false;
        for core in 0..test {
            moved |= self.links[test][core].offer(&mut self.outboxes[core]) > 0;
            if !self.held.contains(&(core, test)) {
                self.links[core][test].take(&mut inbox);
            }
        }
        for message in inbox {
            moved = true;
            let Message::Reply { key, response } = message else { panic!("not for the test: {message:?}") };
            assert!(self.replies.insert(key, response).is_none(), "answered twice");
        }
        moved
    }

    fn run_disk(&mut self) -> bool {
        if self.disk_waits || self.under_way.is_empty() {
            return false;
        }
        for (core, log, op) in std::mem::take(&mut self.under_way) {
            let result = self.disk.complete(log, op);
            self.cores[core].note(Input::Disk { log, op, result });
        }
        true
    }
}

/// A partition that `core` owns.
pub(super) fn partition_of(topic: &TopicDescription, core: usize) -> PartitionId {
    let found = topic.partitions.iter().find(|partition| usize::from(partition.core.0) == core);
    PartitionId { topic: topic.id, index: found.expect("partitions are spread over cores").index }
}

fn kafka_server(core: CoreId) -> net_kafka::Server {
    net_kafka::Server::new(net_kafka::ServerConfig {
        core,
        node: NodeId(1),
        advertise: None,
        connections_max: 100,
        request_bytes_max: 2 << 20,
        idle_timeout: Duration::from_secs(30),
        auto_create_topics: true,
        partitions_default: 1,
        replicas_default: 1,
        topic_defaults: Vec::new(),
        node_configs: Vec::new(),
    })
}

fn now_of(mono: Duration) -> Now {
    Now { mono, wall: TimestampMs(1_700_000_000_000 + mono.as_millis() as i64) }
}

fn shard_config(core: CoreId, cores: u8) -> ShardConfig {
    ShardConfig {
        node: NodeId(1),
        core,
        cores,
        cluster_id: 42,
        incarnation: 1,
        address: "127.0.0.1:9092".to_owned(),
        version: "test".to_owned(),
        seed: 1,
        memory_bytes_max: 64 << 20,
        free_bytes_min: 0,
        opens_max: 8,
        metadata_snapshot_bytes: engine_shard::METADATA_SNAPSHOT_BYTES,
        topic_defaults: Vec::new(),
        offsets_partitions: 2,
        groups: engine_shard::GroupsConfig::default(),
    }
}
