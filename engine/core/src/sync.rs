//! What `signal` and `mesh` are made of, as the standard library has it. `tests/interleavings.rs` compiles those files
//! with loom's in its place.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
