//! The load generator: `millstream bench`.
#![forbid(unsafe_code)]
