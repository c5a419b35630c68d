//! A client machine: what the SDK takes for the world.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_client::TimestampMs;
use millstream_client::outside::{Gathering, Outside, Waiting};
use quinn_proto::{ConnectionId, ConnectionIdGenerator};

use super::Net;
use super::socket::Socket;
use crate::dice::Dice;

/// One client machine on the wire, with a clock and chance of its own. Clones are the same machine.
#[derive(Debug, Clone)]
pub struct Machine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    net: Net,
    ip: IpAddr,
    dice: Mutex<Dice>,
    /// Its wall clock's error.
    skew_ms: AtomicI64,
}

/// A probe of a closed port is answered after this, a silent one given up.
const PROBE_ANSWER: Duration = Duration::from_millis(1);
const PROBE_WAIT: Duration = Duration::from_millis(200);
const RESOLVING: Duration = Duration::from_millis(1);

impl Machine {
    #[must_use]
    pub fn new(net: &Net, ip: IpAddr, seed: u64) -> Self {
        let dice = Mutex::new(Dice::new(seed, &format!("machine {ip}")));
        Self(Arc::new(Inner { net: net.clone(), ip, dice, skew_ms: AtomicI64::new(0) }))
    }

    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.0.ip
    }

    /// For `Config::outside`.
    #[must_use]
    pub fn outside(&self) -> Arc<dyn Outside> {
        Arc::clone(&self.0) as _
    }

    /// Sets its wall clock off the true time.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.0.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// All of its connections come from other addresses from now on.
    pub fn rebind(&self) {
        let mut wire = self.0.net.wire();
        let sockets: Vec<SocketAddr> = wire.sockets_of(self.0.ip).collect();
        sockets.into_iter().for_each(|inner| wire.rebind(inner));
    }

    /// It dies without a word. Its tasks are to be dropped by their owner.
    pub fn unplug(&self) {
        self.0.net.wire().unplug(self.0.ip);
    }
}

impl Inner {
    fn fill(&self, bytes: &mut [u8]) {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }

    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl Outside for Inner {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Waiting<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if let Ok(ip) = host.parse::<IpAddr>() {
                return Ok(vec![SocketAddr::new(ip, port)]);
            }
            tokio::time::sleep(RESOLVING).await;
            let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such name");
            let ips = self.net.names().get(host).cloned().ok_or_else(unknown)?;
            Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }

    fn endpoint(&self, _: SocketAddr, mut config: quinn::EndpointConfig) -> io::Result<quinn::Endpoint> {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        let ids = self.number();
        config.rng_seed(Some(seed)).cid_generator(move || Box::new(Ids(Dice::new(ids, "connection ids"))));
        let socket = Arc::new(Socket::open(self.net.clone(), self.ip));
        quinn::Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(Gathering))
    }

    fn is_port_closed(&self, remote: SocketAddr) -> Waiting<'_, bool> {
        Box::pin(async move {
            tokio::time::sleep(PROBE_ANSWER).await;
            let answer = self.net.wire().probe(self.net.now(), self.ip, remote);
            if answer != Some(true) {
                tokio::time::sleep(PROBE_WAIT).await;
            }
            answer == Some(true)
        })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.fill(bytes);
    }

    fn wall_clock(&self) -> TimestampMs {
        TimestampMs(self.net.true_ms() + self.skew_ms.load(Ordering::Relaxed))
    }
}

/// As long as quinn's own.
const ID_BYTES: usize = 8;

struct Ids(Dice);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.roll().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
