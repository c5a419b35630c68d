//! What a core does in a turn, as a value: its clients' requests go to their owners, what has gathered goes through
//! the shard, answers go back, and what is left to do outside comes out as [`Want`]s.
//!
//! - [`logic`]: [`CoreLogic`], a core without its door.
//! - [`message`]: what cores tell each other, and what a core wants from outside.
//! - [`link`]: the bounded way from one core to another.
//! - `outboxes`: what waits to leave for other cores.
//! - `phase`: from running to ended.
//!
//! Does not know: how links are shared, sockets, files, clocks, threads, what a request means.
#![forbid(unsafe_code)]

pub mod link;
pub mod logic;
pub mod message;
mod outboxes;
mod phase;

pub use link::{LINK_MESSAGES_MAX, Link};
pub use logic::{CoreLogic, TurnStats};
pub use message::{Message, Want};

#[cfg(test)]
mod tests;
