//! Every parser that sees foreign bytes, each as a function of any bytes, with what must hold of it.
//!
//! A fuzzer (`runner`, a workspace of its own on nightly) calls [`Target::check`] with what it invents; `make test`
//! calls it with the committed corpus and mutations of it. A function panics when something does not hold:
//! what verifies is served as it is, what does not is refused, nothing is read twice differently, memory stays in
//! proportion to the bytes that came in.
//!
//! Checksums would keep a fuzzer at the door, so most targets take their bytes twice: as they are, and mended
//! ([`mend`]): with magic, version and checksums as a writer with bad intentions sets them.
//!
//! - [`targets`]: one file each; [`TARGETS`] lists them.
//! - [`samples`]: what the real writers make, to start a corpus with.
//! - [`script`]: input bytes read as a list of steps; [`disk`]: a log's directory in memory.
//!
//! Does not know: libFuzzer. How to run it: `README.md`.
#![forbid(unsafe_code)]

pub mod disk;
pub mod mend;
pub mod samples;
pub mod script;
mod target;
pub mod targets;

pub use target::*;
