//! One node, its disk, its network and its clients as one deterministic process, from one seed.
//!
//! - [`scenario`]: workload files; [`plan`]: what a seed makes of one; [`mod@run`]: one run, start to outcome.
//! - [`world`]: the node, its disk and everything that is done to it, moved along by events in virtual time.
//! - [`direct`]: clients that speak in requests; [`members`]: those that are in consumer groups; [`kafka`]: clients that
//!   speak Kafka's bytes; [`sdk`]: clients on the real SDK; [`net`]: the network of those two.
//! - [`fact`]: what happened, as the oracles hear it; [`value`]: values that say where they come from.
//! - [`oracle`]: what must hold, one file per property.
//! - [`trace`]: what a run did, line by line; [`shrink`]: making a failing run smaller; [`reached`]: which rare paths
//!   many runs have taken.
#![forbid(unsafe_code)]

pub mod dice;
pub mod direct;
pub mod fact;
pub mod kafka;
pub mod members;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod reached;
pub mod run;
pub mod scenario;
pub mod sdk;
pub mod shrink;
pub mod trace;
pub mod value;
pub mod world;
