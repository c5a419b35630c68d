//! The load generator: `millstream bench`.
//!
//! Open loop by default, and latency counts from the moment a record was meant to be sent ([`schedule`]). What is
//! reported beside throughput: the broker's CPU seconds and bytes written per million records ([`usage`]), which noise
//! spares, and the machine ([`machine`]). `kafka` carries the same loads over Kafka's protocol. `bench/disk` measures the floor of durable appends, [`quic_sink`] that of QUIC.
//! Does not know: how the broker works inside; it is a client like any other.
#![forbid(unsafe_code)]

pub mod args;
mod kafka;
pub mod latency;
pub mod load;
pub mod machine;
mod pace;
pub mod quic_sink;
pub mod report;
pub mod run;
pub mod schedule;
pub mod traffic;
pub mod usage;

pub use args::BenchArgs;
pub use report::Report;
pub use run::{BenchError, run};
