//! The door to the network: UDP sockets whose packets the kernel steers to the core they belong to, and each
//! core's loop over its own.
//!
//! Does not know: what a datagram means, QUIC, cores' channels.

pub mod stats;

pub use stats::UdpStats;
