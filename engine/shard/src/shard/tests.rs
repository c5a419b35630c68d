//! Whole shards as values: a node of one to three cores, a disk in memory, a clock that the test turns.
#![expect(clippy::wildcard_enum_match_arm, reason = "an answer of another kind fails the test")]

mod chaos;
mod compacting;
mod crashes;
mod disk;
mod groups;
mod limits;
mod metadata;
mod node;
mod reading;
mod stopping;
mod writing;
