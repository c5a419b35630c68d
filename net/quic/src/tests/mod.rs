//! A server and clients in one thread: simulated time, a link that may lose and reorder, a broker of vectors.

// What a test does not expect ends it, whatever its name is.
#![allow(clippy::wildcard_enum_match_arm)]

mod abuse;
mod chaos;
mod connections;
mod streams;
mod world;
