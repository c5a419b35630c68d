//! The broker's side of Kafka's protocol: the connections of one core as one value.
//!
//! Bytes and time go in, bytes and [`Ask`]s come out; sockets and cores are someone else's.
//!
//! - `server`: the connections of one core; `conn`: one of them; `desk`: what they share; `slots`: whose an answer is.
//! - `codec`: heads of requests, answers as bytes; `walk`, `shapes`: every request is walked before it is decoded.
//! - `api`: which APIs are served and how their handlers are written; `context`: what those see; `errors`: in
//!   Kafka's words; `operations`: what a client may do.
//! - `apis`: what every client asks; `groups`: consumer groups; `admin`: topics and configs.
#![forbid(unsafe_code)]

// Whatever is not the answer to what was asked is refused as one: `Outcome::unexpected`.
#[allow(clippy::wildcard_enum_match_arm)]
mod admin;
mod api;
#[allow(clippy::wildcard_enum_match_arm)]
mod apis;
mod codec;
pub mod config;
mod conn;
mod context;
mod desk;
mod errors;
#[allow(clippy::wildcard_enum_match_arm)]
mod groups;
mod lookup;
mod operations;
mod pursuit;
pub mod server;
mod shapes;
mod slots;
#[cfg(test)]
mod tests;
mod walk;

pub use config::ServerConfig;
pub use engine_api::Ask;
pub use server::{ConnId, Server, ServerStats};
