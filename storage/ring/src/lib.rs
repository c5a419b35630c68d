//! The io_uring of a core: what disk and sockets ask of the kernel, and the one place where a core waits.
//!
//! ```text
//! tasks run (glommio) -> what they asked for leaves in one system call, which also waits -> answers wake tasks
//! ```
//! The runtime schedules tasks; its own reactor has three rings, and goes into the kernel eight times for each wait
//! (`engine/decisions/0020-one-ring-of-our-own.md`). Here it is one.
//!
//! - [`ring`]: [`Ring`]: operations as futures, timers, and the loop that drives an executor's tasks.
//! - [`aligned`]: memory for direct I/O.
//! - [`alarm`]: waking a core from other threads.
//! - [`threads`]: system calls that block, away from the core.
//!
//! Does not know: what files and sockets are for.

pub mod alarm;
pub mod aligned;
pub mod ring;
pub mod threads;

mod ops;

pub use aligned::Aligned;
pub use ring::{Ring, yield_now};
pub use threads::Threads;
