//! The door to the network: UDP sockets whose packets the kernel steers to the core they belong to, and what a
//! core needs to move datagrams through its own.
//!
//! - [`group`]: one port, one socket per core, packets steered by connection id.
//! - [`udp`]: one core's socket: batches in, segmented sends out, waiting without a thread.
//!
//! Does not know: what a datagram means, QUIC's handshake, cores' channels.

pub mod group;
pub mod stats;
pub mod udp;

mod options;

pub use group::{BindError, UdpGroup, bind_group};
pub use stats::UdpStats;
pub use udp::{Datagram, Outgoing, Received, Sent, UdpPort};
