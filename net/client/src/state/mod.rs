//! The producer's and the reader's logic as values that are told things: no runtime, no sockets, no clock.
//!
//! - [`accumulator`]: all pending records of a producer, its memory, which partition a record goes to.
//! - [`lane`]: one partition's batches, sequences, retries, deadlines.
//! - [`batch`], [`ledger`]: what lanes move, and what they draw on.
//! - [`outcome`]: what became of a batch, shared by its records' deliveries.
//! - [`partitioner`]: murmur2 and stickiness.
//! - [`position`]: where a reader stands; gaps and overlaps refused.
//! - [`group`]: what a group's consumer has done of its partitions.
//! - [`backoff`], [`record`].

pub(crate) mod accumulator;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod group;
pub(crate) mod lane;
pub(crate) mod ledger;
pub(crate) mod outcome;
pub(crate) mod partitioner;
pub(crate) mod position;
pub(crate) mod record;
