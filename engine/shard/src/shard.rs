//! SKELETON of the shard's public face: bodies to come, signatures agreed with `engine/core`.

use engine_api::{CoreId, Request};
use storage_frame::Now;

use crate::seam::{Effect, Input, ShardConfig, ShardStats};

/// See the crate.
#[derive(Debug)]
pub struct Shard {}

#[allow(unused_variables, clippy::todo)]
impl Shard {
    pub fn new(config: ShardConfig, now: Now) -> Self {
        todo!()
    }
    /// The core that answers `request`: the owner of its partition, core 0 for changes of metadata, this core
    /// for everything it can answer itself (unknown partitions included).
    pub fn route(&self, request: &Request) -> CoreId {
        todo!()
    }
    pub fn handle(&mut self, now: Now, input: Input) {
        todo!()
    }
    pub fn end_turn(&mut self, now: Now, out: &mut Vec<Effect>) {
        todo!()
    }
    /// Memory is short: stop reading requests from sockets until this is false again.
    pub fn is_overloaded(&self) -> bool {
        todo!()
    }
    pub fn stats(&self) -> ShardStats {
        todo!()
    }
}
