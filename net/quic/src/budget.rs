//! What the streams of one connection may use up together, and what a stream acts on.

use std::time::Instant;

use engine_api::{Ask, Request};
use quinn_proto::StreamId;

use crate::config::{
    CONNECTION_PARTIAL_BYTES_MAX, CONNECTION_REQUEST_BYTES_MAX, CONNECTION_REQUESTS_MAX,
    CONNECTION_SEND_BUFFERS, SERVER_PARTIAL_BYTES_MAX,
};
use crate::server::Desk;
use crate::slots::Slot;

#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Asked and not answered.
    pub(crate) requests: usize,
    /// Bytes of frames in them.
    pub(crate) request_bytes: usize,
    pub(crate) unsent_bytes: usize,
    /// Memory of messages that are not whole yet.
    pub(crate) partial_bytes: usize,
    /// Not after the earliest deadline of a stream.
    pub(crate) sweep_at: Option<Instant>,
}

impl Budget {
    pub(crate) fn takes_requests(&self, desk: &Desk) -> bool {
        !desk.paused
            && self.requests < CONNECTION_REQUESTS_MAX
            && self.request_bytes < CONNECTION_REQUEST_BYTES_MAX
    }

    pub(crate) fn is_crowded(&self, desk: &Desk) -> bool {
        self.unsent_bytes >= CONNECTION_SEND_BUFFERS * desk.send_buffer_bytes
    }
}

/// What a stream acts on beside itself and its QUIC connection.
pub(crate) struct Around<'a> {
    pub(crate) id: StreamId,
    pub(crate) peer: usize,
    pub(crate) now: Instant,
    pub(crate) budget: &'a mut Budget,
    pub(crate) desk: &'a mut Desk,
}

impl Around<'_> {
    /// `bytes`: of frames in `request`, to be given back by [`answered`](Self::answered).
    pub(crate) fn ask(&mut self, sequence: u64, bytes: usize, request: Request) -> u64 {
        let key = self.desk.slots.insert(Slot { peer: self.peer, stream: self.id, sequence });
        self.budget.requests += 1;
        self.budget.request_bytes += bytes;
        self.desk.asks.push_back(Ask::Request { key, request });
        key
    }

    /// Whose slot has been taken by its answer.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.budget.requests -= 1;
        self.budget.request_bytes -= bytes;
    }

    pub(crate) fn cancel(&mut self, key: u64, bytes: usize) {
        self.desk.slots.remove(key).expect("a key that waits has a slot");
        self.desk.asks.push_back(Ask::Cancel { key });
        self.answered(bytes);
    }

    /// A message under way takes `after` bytes of memory instead of `before`. `false`: that is too much.
    pub(crate) fn account_partial(&mut self, before: usize, after: usize) -> bool {
        self.budget.partial_bytes = self.budget.partial_bytes - before + after;
        self.desk.partial_bytes = self.desk.partial_bytes - before + after;
        let bytes_max = self.desk.message_bytes_max;
        self.budget.partial_bytes <= CONNECTION_PARTIAL_BYTES_MAX.max(bytes_max)
            && self.desk.partial_bytes <= SERVER_PARTIAL_BYTES_MAX.max(bytes_max)
    }
}
