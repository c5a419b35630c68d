//! The group coordinator of one partition of the offsets topic, as one value.
//!
//! [`Groups`] is told requests, time and what has been stored, and says what to answer and what to store. Two kinds
//! of members: *classic* ones bring opaque metadata and their leader assigns (Kafka's protocol, and any other
//! protocol type over it); *native* ones bring topic names and the coordinator assigns.
//!
//! What must hold, whatever is lost or comes twice:
//!
//! - Every request is answered once, unless its slot is cancelled first.
//! - In a generation a partition is in at most one native member's hands, and whoever lost it has joined again, so
//!   has stopped, before another has it.
//! - **A generation's number is told to one set of members.** A number is told only when a record that holds it, or
//!   a greater one, is durable: a classic generation waits for its reservation before its JoinGroup answers leave
//!   (the record of each complete generation reserves the next, so that costs a write only for a new group and
//!   after a rebalance that was cut short), a native one for its own record. After a restart counting goes on above
//!   everything reserved. A group that was forgotten or deleted counts from 1 again: its members' ids, never given
//!   twice, tell the two lives apart.
//! - The record of a complete generation is durable before a member knows its assignment.
//! - A commit is visible and answered when it is durable, in the order in which commits were accepted.
//! - Everything has a bound: [`limits`](mod@limits).
//!
//! Does not know: logs, frames, encodings of requests, sockets, clocks.
#![forbid(unsafe_code)]

mod assign;
mod consumer;
mod describe;
mod desk;
mod group;
mod groups;
mod join;
mod leave;
pub mod limits;
mod member;
mod offsets;
mod rebalance;
pub mod record;
pub mod seam;
mod stuck;
mod sync;

pub use groups::{Groups, GroupsStats};
pub use seam::{Effect, GroupsConfig, Measured, Place, StoredRecord, Topics};

#[cfg(test)]
mod tests;
