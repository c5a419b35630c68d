//! The model disk as the shards' tests begin with it, and what they ask of it beside.

use bytes::Bytes;
use storage_frame::LogId;
use tests_disk::{Faults, ModelDisk, Operation};

/// An empty one that does to what a crash meets whatever a real one may do.
pub(super) fn empty() -> ModelDisk {
    with_luck(0)
}

pub(super) fn with_luck(seed: u64) -> ModelDisk {
    ModelDisk::new(seed, Faults::of_crashes())
}

/// What was under way when the node died has happened in part; the start that begins is counted.
pub(super) fn begin_life(disk: &mut ModelDisk, core_count: u8) -> u32 {
    disk.crash();
    disk.begin_life(core_count);
    let incarnation = incarnation(disk) + 1;
    set_incarnation(disk, incarnation);
    incarnation
}

pub(super) fn incarnation(disk: &mut ModelDisk) -> u32 {
    let found = disk.identity().expect("readable");
    found.map_or(0, |bytes| u32::from_le_bytes(bytes[..].try_into().expect("four bytes")))
}

pub(super) fn set_incarnation(disk: &mut ModelDisk, incarnation: u32) {
    disk.replace_identity(Bytes::copy_from_slice(&incarnation.to_le_bytes())).expect("written");
}

pub(super) fn fail_all(disk: &mut ModelDisk, logs: &[LogId], operation: Operation) {
    logs.iter().for_each(|log| disk.fail(*log, operation));
}
