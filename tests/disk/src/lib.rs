//! The model disk: a node's whole disk in memory, with the faults a real one has, from one seed.
//!
//! The tests of `storage/log` and `engine/shard` and the simulator run on it; it does what `storage/disk` does of a
//! [`DiskOp`](storage_log::DiskOp), and nothing else in the house stands for a disk.
#![forbid(unsafe_code)]

mod dice;
mod disk;
mod faults;
mod injected;
mod stored;

pub use dice::Dice;
pub use disk::{ModelDisk, Operation, Settings};
pub use faults::{Faults, Rate, ZoneFaults};
pub use injected::{FaultKind, Injected, Place, Promise, Zone};

/// A device writes this much whole or not at all.
pub const SECTOR_BYTES: usize = 512;
