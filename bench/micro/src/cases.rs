//! All cases, room by room.

mod frame;
mod kafka;
mod log;
mod quic;
mod recordbatch;
mod shard;
mod turn;
mod wire;

use crate::case::Case;

/// In the order in which they are shown.
pub fn all() -> Vec<Case> {
    [
        frame::CASES,
        recordbatch::CASES,
        log::CASES,
        shard::CASES,
        wire::CASES,
        kafka::CASES,
        turn::CASES,
        quic::CASES,
    ]
    .concat()
}
