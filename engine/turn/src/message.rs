//! What cores tell each other, and what a core wants from outside.

use engine_api::{CoreId, ReplySlot, Request, Response};
use engine_shard::{Event, MetaUpdate};
use storage_frame::LogId;
use storage_log::{DiskOp, OpId};

/// From one core to another; owns its bytes.
#[derive(Debug)]
pub enum Message {
    /// To the owner; answered by a [`Reply`](Self::Reply) to `slot.core`.
    Request {
        slot: ReplySlot,
        request: Request,
    },
    /// Of a request sent before. Its answer may still come.
    Cancel(ReplySlot),
    Reply {
        key: u64,
        response: Response,
    },
    /// To every other core.
    Meta(MetaUpdate),
    /// To the controller's core.
    MetaApplied {
        core: CoreId,
        version: u64,
    },
}

/// What is to be done outside after a turn.
#[derive(Debug)]
pub enum Want {
    /// Carry it out, then note an `Input::Disk` with the same `log` and `op`.
    Disk {
        log: LogId,
        op: OpId,
        what: DiskOp,
    },
    /// Every log of this core has been opened. Once.
    Ready,
    /// The shard has closed its logs. Once; the core goes on until
    /// [`CoreLogic::is_ended`](crate::CoreLogic::is_ended), since other cores may need it still.
    Stopped,
    Event(Event),
}
