//! The load generator: `millstream bench`.
//!
//! One schedule and one measuring path for every system ([`system`] is the seam). Open loop by default, and latency
//! counts from the moment a record was meant to be sent ([`schedule`]). What is reported beside throughput: the
//! broker's CPU seconds and bytes written per million records ([`usage`], [`cost`]), which noise spares, and the machine
//! and how busy others kept it ([`machine`]). `bench/disk` measures the floor of durable appends, [`quic_sink`] that of QUIC.
//! Does not know: how any broker works inside; it is a client like any other.
#![forbid(unsafe_code)]

mod amount;
pub mod args;
pub mod checker;
pub mod compare;
pub mod cost;
mod dice;
mod html;
mod inbox;
pub mod keys;
pub mod knee;
pub mod latency;
mod live;
pub mod machine;
pub mod outcomes;
mod pace;
mod payload;
mod phase;
pub mod quic_sink;
pub mod report;
pub mod run;
pub mod saved;
pub mod schedule;
mod seen;
mod sender;
pub mod sizes;
mod svg;
pub mod system;
mod text;
mod traffic;
pub mod usage;
mod view;

pub use args::BenchArgs;
pub use run::{Answer, BenchError, run};
