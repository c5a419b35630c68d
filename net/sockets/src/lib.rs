//! The door to the network: UDP sockets whose packets the kernel steers to the core they belong to, TCP connections
//! that it spreads over the cores, and what a core needs to move datagrams and bytes through its own.
//!
//! - [`group`]: one UDP port, one socket per core, packets steered by connection id.
//! - [`udp`]: one core's socket: batches in, segmented sends out, waiting without a thread.
//! - [`tcp_group`]: one TCP port, one listener per core.
//! - [`tcp`]: accepting, reading and writing on one core, waiting without a thread and without a buffer.
//!
//! Does not know: what bytes mean, handshakes, cores' channels.

pub mod group;
pub mod stats;
pub mod tcp;
pub mod tcp_group;
pub mod udp;

mod options;

pub use group::{BindError, Transport, UdpGroup, bind_group};
pub use stats::UdpStats;
pub use tcp::{TcpGate, TcpPort, TcpRead};
pub use tcp_group::{TcpGroup, bind_tcp_group, loopback_twin};
pub use udp::{Datagram, Outgoing, Received, Sent, UdpPort};
