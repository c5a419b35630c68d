//! The group coordinator of one partition of the offsets topic, as one value.
//!
//! Does not know: logs, frames, encodings of requests, sockets, clocks.
#![forbid(unsafe_code)]

pub mod seam;

pub use seam::{Effect, GroupsConfig, StoredRecord, Topics};
