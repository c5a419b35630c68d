#![allow(clippy::wildcard_enum_match_arm)]

mod abuse;
mod connections;
mod fetches;
mod offsets;
mod produces;
mod topics;
mod walks;
pub(crate) mod world;
