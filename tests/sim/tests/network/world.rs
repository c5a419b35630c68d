//! A node that is real up to its requests: `net_quic::Server` on each core, behind it [`Broker`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use engine_api::{CoreId, FetchError, ProduceError, Request, Response, TopicError};
use net_quic::{Ask, Server, ServerConfig};
use quinn_proto::EcnCodepoint;
use tests_sim::dice::Dice;
use tests_sim::net::{Arrival, Cut, Net, Way, Weather, World, tls};

use crate::broker::{Broker, CORES};

pub(crate) const NODE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 9092);

/// What happens to node and network, and when.
enum Happening {
    Stop,
    Start,
    Weather(Box<Weather>),
    Cut(Cut),
    Heal,
}

pub(crate) struct Node {
    net: Net,
    pub(crate) broker: Broker,
    cores: Vec<Server>,
    life: u64,
    seed: u64,
    dice: Dice,
    refuses: bool,
    /// By time, then in the order of asking.
    answers: BTreeMap<(Duration, u64), (usize, u64, Response)>,
    waiting: Vec<(usize, u64, Request)>,
    script: BTreeMap<(Duration, u64), Happening>,
    next_number: u64,
}

impl Node {
    /// Bad until `until`, and fair from then on.
    pub(crate) fn new(net: &Net, seed: u64, until: Duration) -> Self {
        net.wire().add_node(NODE, CORES);
        net.set_name("node", vec![NODE.ip()]);
        let mut node = Self {
            net: net.clone(),
            broker: Broker::default(),
            cores: Vec::new(),
            life: 0,
            seed,
            dice: Dice::new(seed, "node"),
            refuses: !seed.is_multiple_of(3),
            answers: BTreeMap::new(),
            waiting: Vec::new(),
            script: BTreeMap::new(),
            next_number: 0,
        };
        node.start();
        node.write_script(until);
        node
    }

    fn write_script(&mut self, until: Duration) {
        let mut dice = Dice::new(self.seed, "script");
        let mut at = Duration::ZERO;
        while at < until {
            at += dice.duration(Duration::from_millis(100)..=Duration::from_secs(4));
            let span = dice.duration(Duration::ZERO..=Duration::from_secs(3));
            match dice.below(4) {
                0 => {
                    self.plan(at, Happening::Stop);
                    at += span;
                    self.plan(at, Happening::Start);
                }
                1 => {
                    let way = *dice.pick(&[Way::Both, Way::ToNodes, Way::FromNodes]);
                    self.plan(at, Happening::Cut(Cut { client: None, way, until: at + span }));
                }
                _ => self.plan(at, Happening::Weather(Box::new(weather(&mut dice)))),
            }
        }
        self.plan(at, Happening::Heal);
    }

    fn plan(&mut self, at: Duration, happening: Happening) {
        self.next_number += 1;
        self.script.insert((at, self.next_number), happening);
    }

    fn start(&mut self) {
        self.life += 1;
        let tls = tls::server();
        let core = |core: u8| ServerConfig {
            core: CoreId(core),
            tls: tls.clone(),
            secret: [7; 32],
            idle_timeout: Duration::from_secs(20),
            connections_max: 100,
            message_bytes_max: 2 << 20,
            receive_window_bytes: 1 << 20,
            send_buffer_bytes: 128 << 10,
            seed: Some(self.seed ^ self.life << 8 ^ u64::from(core)),
        };
        self.cores = (0..CORES).map(|number| Server::new(core(number))).collect();
        self.net.wire().set_up(NODE, CORES, true);
    }

    /// Dies without a word.
    fn stop(&mut self) {
        self.cores.clear();
        self.answers.clear();
        self.waiting.clear();
        self.net.wire().set_up(NODE, CORES, false);
    }

    fn on_happening(&mut self, at: Duration, happening: Happening) {
        match happening {
            Happening::Stop => self.stop(),
            Happening::Start => self.start(),
            Happening::Weather(weather) => self.net.wire().set_weather(*weather),
            Happening::Cut(cut) => self.net.wire().cut(cut),
            Happening::Heal => {
                self.net.wire().heal();
                self.refuses = false;
                if self.cores.is_empty() {
                    self.start();
                }
            }
        }
        self.pump_all(at);
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let core = usize::from(arrival.core);
        let now = self.net.instant(arrival.at);
        let ecn = arrival.ecn.and_then(EcnCodepoint::from_bits);
        self.cores[core].handle_datagram(now, arrival.from, None, ecn, arrival.bytes);
        self.pump(arrival.at, core);
    }

    fn pump_all(&mut self, at: Duration) {
        for core in 0..self.cores.len() {
            self.pump(at, core);
        }
    }

    fn pump(&mut self, at: Duration, core: usize) {
        while let Some(ask) = self.cores[core].poll_ask() {
            match ask {
                Ask::Request { key, request } => self.ask(at, core, key, request),
                Ask::Cancel { key } => self.waiting.retain(|(of, open, _)| (*of, *open) != (core, key)),
            }
        }
        let now = self.net.instant(at);
        let mut buffer = Vec::new();
        while let Some(transmit) = self.cores[core].poll_transmit(now, 8, &mut buffer) {
            let bytes = &buffer[..transmit.bytes];
            let ecn = transmit.ecn.map(|ecn| ecn as u8);
            let mut wire = self.net.wire();
            for datagram in bytes.chunks(transmit.segment_bytes.unwrap_or(transmit.bytes).max(1)) {
                wire.send(at, NODE, transmit.remote, ecn, datagram);
            }
        }
    }

    fn ask(&mut self, at: Duration, core: usize, key: u64, request: Request) {
        if let Some(refused) = self.refusal(&request) {
            return self.answer(at, core, key, refused);
        }
        let changes = matches!(request, Request::Produce(_));
        match self.broker.answer(&request) {
            Some(response) => self.answer(at, core, key, response),
            None => self.waiting.push((core, key, request)),
        }
        if changes {
            for (core, key, request) in std::mem::take(&mut self.waiting) {
                match self.broker.answer(&request) {
                    Some(response) => self.answer(at, core, key, response),
                    None => self.waiting.push((core, key, request)),
                }
            }
        }
    }

    /// Now and then a request is refused for the moment; what is told to be unknown may have been done.
    fn refusal(&mut self, request: &Request) -> Option<Response> {
        if !self.refuses || !self.dice.chance(20_000) {
            return None;
        }
        match request {
            Request::Produce(_) => {
                let errors = [
                    ProduceError::NotLeader,
                    ProduceError::Overloaded,
                    ProduceError::NoSpace,
                    ProduceError::ShuttingDown,
                    ProduceError::StorageFailed { why: "scripted".to_owned() },
                ];
                let error = self.dice.pick(&errors).clone();
                let is_unknown =
                    matches!(error, ProduceError::ShuttingDown | ProduceError::StorageFailed { .. });
                if is_unknown && self.dice.chance(500_000) {
                    self.broker.answer(request);
                }
                Some(Response::Produce(Err(error)))
            }
            Request::Fetch(_) => {
                let errors = [FetchError::NotLeader, FetchError::Overloaded, FetchError::ShuttingDown];
                Some(Response::Fetch(Err(self.dice.pick(&errors).clone())))
            }
            Request::FindOffset(_) => Some(Response::FindOffset(Err(FetchError::NotLeader))),
            Request::DescribeTopics(_) => Some(Response::DescribeTopics(Err(TopicError::NotReady))),
            Request::CreateTopic(_) => Some(Response::CreateTopic(Err(TopicError::ShuttingDown))),
            Request::AlterTopic(_) => Some(Response::AlterTopic(Err(TopicError::NotReady))),
            Request::DeleteTopic(_) => Some(Response::DeleteTopic(Err(TopicError::NotReady))),
            Request::DeleteRecords(_)
            | Request::DescribeCluster
            | Request::InitProducer
            | Request::Group(_)
            | Request::ListGroups(_)
            | Request::MeasureLag(_)
            | Request::CheckTopic(_)
            | Request::DescribeLogs(_) => None,
        }
    }

    fn answer(&mut self, at: Duration, core: usize, key: u64, response: Response) {
        let span = self.dice.duration(Duration::ZERO..=Duration::from_millis(2));
        self.next_number += 1;
        self.answers.insert((at + span, self.next_number), (core, key, response));
    }

    fn timer(&mut self) -> Option<(Duration, usize)> {
        let start = self.net.instant(Duration::ZERO);
        let due = |(core, server): (usize, &mut Server)| Some((server.next_timeout()? - start, core));
        self.cores.iter_mut().enumerate().filter_map(due).min()
    }

    /// Does the earliest thing due by `now`.
    fn step(&mut self, now: Duration) -> bool {
        let Some(at) = self.next_at().filter(|at| *at <= now) else { return false };
        if self.script.first_key_value().is_some_and(|((due, _), _)| *due <= at) {
            let (_, happening) = self.script.pop_first().expect("looked before");
            self.on_happening(at, happening);
            return true;
        }
        let arrival = self.net.wire().pop_due(at);
        if let Some(arrival) = arrival {
            self.on_arrival(arrival);
        } else if self.answers.first_key_value().is_some_and(|((due, _), _)| *due <= at) {
            let (_, (core, key, response)) = self.answers.pop_first().expect("looked before");
            self.cores[core].handle_response(self.net.instant(at), key, response);
            self.pump(at, core);
        } else if let Some((due, core)) = self.timer().filter(|(due, _)| *due <= at) {
            self.cores[core].handle_timeout(self.net.instant(due));
            self.pump(due, core);
        }
        true
    }
}

impl World for Node {
    fn next_at(&mut self) -> Option<Duration> {
        let wire = self.net.wire().next_at();
        let timer = self.timer().map(|(at, _)| at);
        let answer = self.answers.keys().next().map(|(at, _)| *at);
        let script = self.script.keys().next().map(|(at, _)| *at);
        [wire, timer, answer, script].into_iter().flatten().min()
    }

    fn run_to(&mut self, now: Duration) {
        while self.step(now) {}
    }
}

fn weather(dice: &mut Dice) -> Weather {
    let often = |dice: &mut Dice, most: u64| if dice.chance(500_000) { dice.below(most) as u32 } else { 0 };
    Weather {
        lost_per_million: often(dice, 100_000),
        doubled_per_million: often(dice, 50_000),
        damaged_per_million: often(dice, 50_000),
        reordered_per_million: often(dice, 100_000),
        reorder_span: dice.duration(Duration::ZERO..=Duration::from_millis(20)),
        congested_per_million: often(dice, 50_000),
        delay: dice.duration(Duration::from_micros(20)..=Duration::from_millis(20)),
        jitter: dice.duration(Duration::ZERO..=Duration::from_millis(5)),
        datagram_bytes_max: *dice.pick(&[usize::MAX, usize::MAX, 1452, 1280]),
    }
}
