//! The network between clients and nodes, simulated.
//!
//! - [`wire`]: datagrams on their way, and what goes wrong with them; pure.
//! - [`faults`]: how much of it. [`steering`]: which core of a node a datagram is for.
//! - [`tcp`]: connections of Kafka's clients, streams of bytes; pure, too.
//! - [`machine`]: a client machine, on which the real SDK runs over quinn.
//! - [`tls`]: a node's certificate, the same in every run.
//! - [`runtime`]: tokio on virtual time, and the world moved along with it.
//!
//! [`Net`] is what both sides hold of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub mod faults;
pub mod machine;
pub mod runtime;
mod socket;
pub mod steering;
pub mod tcp;
pub mod tls;
pub mod wire;

pub use faults::{Cut, Way, Weather};
pub use machine::Machine;
pub use runtime::{World, drive};
pub use tcp::{PipeId, Side, Tcp};
pub use wire::{Arrival, Fate, Seen, Wire, WireStats};

/// The wire, the time, and the names of machines. Clones are the same network.
#[derive(Debug, Clone)]
pub struct Net {
    wire: Arc<Mutex<Wire>>,
    names: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    /// A client has sent something.
    sent: Arc<Notify>,
    start: Instant,
}

/// The true time at the start, in milliseconds since 1970.
pub const START_MS: i64 = 1_700_000_000_000;

impl Net {
    /// To be made inside of [`runtime::block_on`], at the start: its time begins now.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self {
            wire: Arc::new(Mutex::new(wire)),
            names: Arc::default(),
            sent: Arc::default(),
            start: Instant::now(),
        }
    }

    /// Hold it shortly: quinn's tasks take it, too.
    pub fn wire(&self) -> MutexGuard<'_, Wire> {
        // A panic under the lock is one of the simulator's own, and ends it.
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Vec<IpAddr>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What resolving `name` gives.
    pub fn set_name(&self, name: &str, ips: Vec<IpAddr>) {
        self.names().insert(name.to_owned(), ips);
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The true time of day.
    #[must_use]
    pub fn true_ms(&self) -> i64 {
        START_MS + i64::try_from(self.now().as_millis()).expect("a simulation of less than 292 million years")
    }

    /// The `Instant` of a virtual time, for quinn-proto's machines.
    #[must_use]
    pub fn instant(&self, at: Duration) -> std::time::Instant {
        self.start.into_std() + at
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, ecn: Option<u8>, bytes: &[u8]) {
        self.wire().send(self.now(), from, to, ecn, bytes);
        self.sent.notify_one();
    }
}
