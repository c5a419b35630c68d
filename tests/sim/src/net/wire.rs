//! All datagrams between clients and nodes, and what becomes of them on the way.
//!
//! ```text
//! send -> lost, cut, too large | in flight (once or twice, late, damaged) -> inbox of a client's socket
//!                                                                        '-> pop_due: an arrival at a node's core
//! ```
//! Client sockets have an inner address, which their owner knows, and an outer one, which nodes see: a box that
//! translates addresses may forget it and choose another in the middle of a connection.
//!
//! Time is told, as a span since the start. What is in flight and what waits in an inbox is bounded: above it
//! datagrams are lost, as in life. Does not know: what datagrams mean, tokio, quinn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;

use super::faults::{Cut, DATAGRAM_BYTES_MIN, DELAY_MIN, Weather};
use super::steering::core_of;
use crate::dice::Dice;

/// A datagram that has come to a node that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub at: Duration,
    /// As the node sees it.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub core: u8,
    /// The two bits of explicit congestion notification.
    pub ecn: Option<u8>,
    pub bytes: BytesMut,
}

/// A datagram in a client's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub from: SocketAddr,
    pub ecn: Option<u8>,
    pub bytes: BytesMut,
}

/// What became of a datagram; in the trace with its time, addresses and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// On its way, to be there then.
    Sent {
        arrives: Duration,
        doubled: bool,
        damaged: bool,
    },
    Lost,
    Cut,
    TooLarge,
    /// Too many are in flight.
    Crowded,
    /// Nobody has that address: a node that is down, a socket that is closed, an address that was forgotten.
    Nowhere,
    /// Its machine is dead.
    Unplugged,
}

/// One line of the wire's trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub at: Duration,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: usize,
    pub fate: Fate,
}

/// What the network did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireStats {
    pub sent: u64,
    pub arrived: u64,
    pub lost: u64,
    pub cut: u64,
    pub too_large: u64,
    pub crowded: u64,
    pub nowhere: u64,
    pub doubled: u64,
    pub damaged: u64,
    pub reordered: u64,
    pub rebound: u64,
}

#[derive(Debug)]
struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<u8>,
    bytes: BytesMut,
}

#[derive(Debug)]
struct ClientSocket {
    outer: SocketAddr,
    inbox: VecDeque<Received>,
    inbox_bytes: usize,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Node {
    cores: u8,
    is_up: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Wire {
    dice: Dice,
    weather: Weather,
    cuts: Vec<Cut>,
    nodes: BTreeMap<SocketAddr, Node>,
    /// By inner address.
    sockets: BTreeMap<SocketAddr, ClientSocket>,
    /// Inner address by outer.
    translated: BTreeMap<SocketAddr, SocketAddr>,
    unplugged: BTreeSet<IpAddr>,
    next_port: BTreeMap<IpAddr, u16>,
    /// In order of arrival, then of sending.
    in_flight: BTreeMap<(Duration, u64), Flight>,
    /// When the last datagram that keeps its place arrives, by path.
    last_arrival: BTreeMap<(SocketAddr, SocketAddr), Duration>,
    next_number: u64,
    stats: WireStats,
    trace: Option<Vec<Seen>>,
}

/// Datagrams on the way at once.
pub const IN_FLIGHT_MAX: usize = 50_000;
/// Of one client's socket.
pub const INBOX_BYTES_MAX: usize = 4 << 20;
const CUTS_MAX: usize = 64;
const TRACE_MAX: usize = 1_000_000;
const FIRST_PORT: u16 = 10_000;
const ECN_CONGESTED: u8 = 0b11;

impl Wire {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed, "wire"),
            weather: Weather::fair(),
            cuts: Vec::new(),
            nodes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            translated: BTreeMap::new(),
            unplugged: BTreeSet::new(),
            next_port: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            next_number: 0,
            stats: WireStats::default(),
            trace: None,
        }
    }

    #[must_use]
    pub fn stats(&self) -> WireStats {
        self.stats
    }

    #[must_use]
    pub fn weather(&self) -> &Weather {
        &self.weather
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// A cut from now on. The oldest ends when there are too many.
    pub fn cut(&mut self, cut: Cut) {
        if self.cuts.len() == CUTS_MAX {
            self.cuts.remove(0);
        }
        self.cuts.push(cut);
    }

    /// Fair weather and no cuts. Machines that are dead stay so.
    pub fn heal(&mut self) {
        self.weather = Weather::fair();
        self.cuts.clear();
    }

    /// From now on the trace is kept, up to a million lines.
    pub fn start_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub fn take_trace(&mut self) -> Vec<Seen> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A node's port. Down until [`set_up`](Self::set_up).
    pub fn add_node(&mut self, address: SocketAddr, cores: u8) {
        self.nodes.insert(address, Node { cores, is_up: false });
    }

    /// Whether the node's process has its port open, and for how many cores it steers. What is in flight to a port
    /// that is closed when it arrives is lost.
    pub fn set_up(&mut self, address: SocketAddr, cores: u8, is_up: bool) {
        *self.nodes.get_mut(&address).expect("a known node") = Node { cores, is_up };
    }

    /// A new socket on the client machine `ip`; returns its inner address.
    pub fn open(&mut self, ip: IpAddr) -> SocketAddr {
        let inner = SocketAddr::new(ip, self.free_port(ip));
        let socket = ClientSocket { outer: inner, inbox: VecDeque::new(), inbox_bytes: 0, waker: None };
        self.sockets.insert(inner, socket);
        self.translated.insert(inner, inner);
        inner
    }

    fn free_port(&mut self, ip: IpAddr) -> u16 {
        for _ in FIRST_PORT..=u16::MAX {
            let next = self.next_port.entry(ip).or_insert(FIRST_PORT);
            let port = *next;
            *next = if port == u16::MAX { FIRST_PORT } else { port + 1 };
            let address = SocketAddr::new(ip, port);
            if !self.sockets.contains_key(&address) && !self.translated.contains_key(&address) {
                return port;
            }
        }
        panic!("{ip} has no port left: sockets are not closed")
    }

    pub fn close(&mut self, inner: SocketAddr) {
        let Some(socket) = self.sockets.remove(&inner) else { return };
        self.translated.remove(&socket.outer);
        self.last_arrival.retain(|(from, to), _| *from != socket.outer && *to != socket.outer);
    }

    /// The sockets of a client machine, by inner address.
    pub fn sockets_of(&self, ip: IpAddr) -> impl Iterator<Item = SocketAddr> {
        self.sockets.keys().copied().filter(move |inner| inner.ip() == ip)
    }

    /// The translating box forgets the socket's address: it is another from its next datagram on, and what is sent
    /// to the old one vanishes.
    pub fn rebind(&mut self, inner: SocketAddr) {
        if !self.sockets.contains_key(&inner) {
            return;
        }
        let outer = SocketAddr::new(inner.ip(), self.free_port(inner.ip()));
        let socket = self.sockets.get_mut(&inner).expect("looked before");
        let old = std::mem::replace(&mut socket.outer, outer);
        self.translated.remove(&old);
        self.translated.insert(outer, inner);
        self.last_arrival.retain(|(from, to), _| *from != old && *to != old);
        self.stats.rebound += 1;
    }

    /// The client machine dies without a word: nothing leaves or reaches it any more.
    pub fn unplug(&mut self, ip: IpAddr) {
        self.unplugged.insert(ip);
    }

    /// What a probe of a port learns: `Some(true)`: nobody listens. `None`: silence.
    #[must_use]
    pub fn probe(&self, now: Duration, from: IpAddr, to: SocketAddr) -> Option<bool> {
        let is_cut = self.cuts.iter().any(|cut| cut.hits(now, from, true) || cut.hits(now, from, false));
        if is_cut || self.unplugged.contains(&from) {
            return None;
        }
        Some(!self.nodes.get(&to)?.is_up)
    }

    /// From a client's socket (by its inner address) or from a node, to a node or to a client's outer address.
    pub fn send(&mut self, now: Duration, from: SocketAddr, to: SocketAddr, ecn: Option<u8>, bytes: &[u8]) {
        self.stats.sent += 1;
        let to_node = self.nodes.contains_key(&to);
        let client = if to_node { from.ip() } else { to.ip() };
        let from = self.sockets.get(&from).map_or(from, |socket| socket.outer);
        let fate = self.fate(now, client, to_node, bytes.len());
        let fate = match fate {
            Some(fate) => fate,
            None => self.fly(now, from, to, ecn, bytes),
        };
        match fate {
            Fate::Sent { .. } => {}
            Fate::Lost => self.stats.lost += 1,
            Fate::Cut => self.stats.cut += 1,
            Fate::TooLarge => self.stats.too_large += 1,
            Fate::Crowded => self.stats.crowded += 1,
            Fate::Nowhere | Fate::Unplugged => self.stats.nowhere += 1,
        }
        self.see(Seen { at: now, from, to, bytes: bytes.len(), fate });
    }

    /// Why it does not leave.
    fn fate(&mut self, now: Duration, client: IpAddr, to_node: bool, bytes: usize) -> Option<Fate> {
        self.cuts.retain(|cut| now < cut.until);
        if self.unplugged.contains(&client) {
            Some(Fate::Unplugged)
        } else if self.cuts.iter().any(|cut| cut.hits(now, client, to_node)) {
            Some(Fate::Cut)
        } else if bytes > self.weather.datagram_bytes_max.max(DATAGRAM_BYTES_MIN) {
            Some(Fate::TooLarge)
        } else if self.in_flight.len() >= IN_FLIGHT_MAX {
            Some(Fate::Crowded)
        } else if self.dice.chance(self.weather.lost_per_million) {
            Some(Fate::Lost)
        } else {
            None
        }
    }

    fn fly(
        &mut self,
        now: Duration,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<u8>,
        bytes: &[u8],
    ) -> Fate {
        let weather = self.weather.clone();
        let mut bytes = BytesMut::from(bytes);
        let damaged = self.dice.chance(weather.damaged_per_million) && self.damage(&mut bytes);
        let congested = self.dice.chance(weather.congested_per_million);
        let ecn = ecn.map(|bits| if congested && bits != 0 { ECN_CONGESTED } else { bits });
        let doubled = self.dice.chance(weather.doubled_per_million);
        if doubled {
            let arrives = self.arrival(now, from, to, &weather);
            self.launch(arrives, Flight { from, to, ecn, bytes: bytes.clone() });
        }
        let arrives = self.arrival(now, from, to, &weather);
        self.launch(arrives, Flight { from, to, ecn, bytes });
        self.stats.doubled += u64::from(doubled);
        self.stats.damaged += u64::from(damaged);
        Fate::Sent { arrives, doubled, damaged }
    }

    /// Flips a bit, but not the one that tells a long header from a short one: what a ciphertext means as a long
    /// header differs from run to run, everything else fails its authentication in each.
    fn damage(&mut self, bytes: &mut [u8]) -> bool {
        let bits = bytes.len() as u64 * 8;
        if bits < 16 {
            return false;
        }
        let bit = 1 + self.dice.below(bits - 1) as usize;
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
        true
    }

    fn arrival(&mut self, now: Duration, from: SocketAddr, to: SocketAddr, weather: &Weather) -> Duration {
        let jitter = self.dice.duration(Duration::ZERO..=weather.jitter);
        let arrives = now + weather.delay.max(DELAY_MIN) + jitter;
        if self.dice.chance(weather.reordered_per_million) {
            self.stats.reordered += 1;
            return arrives + self.dice.duration(Duration::ZERO..=weather.reorder_span);
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        *last = arrives.max(*last);
        *last
    }

    fn launch(&mut self, arrives: Duration, flight: Flight) {
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.insert((arrives, number), flight);
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// Puts what has arrived by `now` into clients' sockets, up to the first that is for a node, which is returned.
    pub fn pop_due(&mut self, now: Duration) -> Option<Arrival> {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), flight) = entry.remove_entry();
            let Flight { from, to, ecn, bytes } = flight;
            let client = if self.nodes.contains_key(&to) { from.ip() } else { to.ip() };
            if self.unplugged.contains(&client) {
                continue;
            }
            if let Some(node) = self.nodes.get(&to) {
                if node.is_up {
                    self.stats.arrived += 1;
                    let core = core_of(&bytes, node.cores);
                    return Some(Arrival { at, from, to, core, ecn, bytes });
                }
                self.on_nowhere(at, from, to, bytes.len());
            } else if let Some(inner) = self.translated.get(&to).copied() {
                self.stats.arrived += 1;
                self.put_in(inner, Received { from, ecn, bytes });
            } else {
                self.on_nowhere(at, from, to, bytes.len());
            }
        }
        None
    }

    fn on_nowhere(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, bytes: usize) {
        self.stats.nowhere += 1;
        self.see(Seen { at, from, to, bytes, fate: Fate::Nowhere });
    }

    fn put_in(&mut self, inner: SocketAddr, received: Received) {
        let socket = self.sockets.get_mut(&inner).expect("translated only while it is open");
        if socket.inbox_bytes + received.bytes.len() > INBOX_BYTES_MAX {
            self.stats.crowded += 1;
            return;
        }
        socket.inbox_bytes += received.bytes.len();
        socket.inbox.push_back(received);
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
    }

    /// The next datagram in a socket. A socket that was closed stays empty.
    pub fn poll_receive(&mut self, context: &mut Context<'_>, inner: SocketAddr) -> Poll<Received> {
        let Some(socket) = self.sockets.get_mut(&inner) else { return Poll::Pending };
        match socket.inbox.pop_front() {
            Some(received) => {
                socket.inbox_bytes -= received.bytes.len();
                Poll::Ready(received)
            }
            None => {
                socket.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        if let Some(trace) = &mut self.trace
            && trace.len() < TRACE_MAX
        {
            trace.push(seen);
        }
    }
}

#[cfg(test)]
mod tests;
