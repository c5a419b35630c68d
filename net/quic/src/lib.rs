//! The broker's side of the native protocol: a QUIC endpoint of one core and the sessions on it, as one value.
//!
//! Datagrams and time go in, datagrams and [`Ask`]s come out; sockets and cores are someone else's. A caller
//! feeds what has arrived, takes every [`Ask`], sends every [`Transmit`], then sleeps until
//! [`Server::next_timeout`].
//!
//! - [`server`]: the endpoint, its connections, which of them have something to do.
//! - [`config`]: settings and the limits that are not settings.
//! - `peer`: one connection: its streams and its budget.
//! - `stream`: one stream: produce, read, or one request.
//! - `budget`: what the streams of a connection may use up together.
//! - `slots`: which stream an answer belongs to.
//! - `cid`: connection ids that steer packets to this core.
//!
//! What must hold: nothing a client does costs more memory than its budget says, and nothing more time than
//! its own packets; work per turn follows the connections that have something to do, not all of them.
//! The protocol's random numbers come from inside `quinn-proto`; this room draws none.
#![forbid(unsafe_code)]

mod budget;
mod cid;
pub mod config;
mod peer;
pub mod server;
mod slots;
mod stream;

pub use config::ServerConfig;
pub use engine_api::Ask;
pub use server::{Server, ServerStats, Transmit};

#[cfg(test)]
mod tests;
