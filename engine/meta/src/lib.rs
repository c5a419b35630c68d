//! The cluster's picture as a value: topics, partitions, where each is placed, changed by [`Command`]s only.
//!
//! What must hold: the same commands give the same state on every core and after every restart; log ids and
//! producer ids are never given twice; a partition stays on its core until its node's core count changes.
//!
//! - [`state`]: [`ClusterState`] and its one way to change, `apply`.
//! - [`command`]: the changes, and their bytes in the metadata log.
//! - [`check`]: what clients ask for, refused or turned into a command. Never called on replay.
//! - [`config`]: topic configs: Kafka's names and units, bounds, defaults.
//! - [`identity`]: whose data a directory holds, and the epoch its node writes under.
//! - [`name`]: Kafka's rule for topic names.
//! - [`snapshot`]: the state's bytes.
//!
//! Does not know: logs, cores' channels, who agrees on the order of commands.
#![forbid(unsafe_code)]

pub mod check;
pub mod command;
pub mod config;
pub mod identity;
pub mod name;
mod place;
pub mod snapshot;
pub mod state;

pub use check::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX};
pub use command::{Command, DecodeError};
pub use config::{ConfigError, TimestampKind, TopicConfig};
pub use state::{ApplyError, ClusterState, Node, Partition, Topic};
