//! The broker's side of the native protocol: a QUIC endpoint of one core and the sessions on it, as one value.
//!
//! Datagrams and time go in, datagrams and [`Ask`]s come out; sockets and cores are someone else's.
#![forbid(unsafe_code)]

pub mod server;

pub use server::{Ask, Server, ServerConfig, ServerStats, Transmit};
