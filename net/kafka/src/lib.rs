//! The broker's side of Kafka's protocol: the connections of one core as one value.
//!
//! Bytes and time go in, bytes and [`Ask`]s come out; sockets and cores are someone else's.
#![forbid(unsafe_code)]

pub mod config;
pub mod server;

pub use config::ServerConfig;
pub use engine_api::Ask;
pub use server::{ConnId, Server, ServerStats};
