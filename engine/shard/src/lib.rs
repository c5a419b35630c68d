//! One core's shard: the partitions it owns, and on core 0 the controller, as one value.
//!
//! [`Shard::handle`] changes memory and never waits; [`Shard::end_turn`] says what the shard wants done.
#![forbid(unsafe_code)]

pub mod seam;
pub mod shard;

pub use seam::{Effect, Event, Input, Level, MetaUpdate, ShardConfig, ShardStats};
pub use shard::Shard;
