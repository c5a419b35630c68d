//! A read stream: one fetch at a time, its frames pushed, the next one asked for while there is room.

use std::time::Duration;

use engine_api::{Fetch, FetchError, Fetched, PartitionId, ReaderId, Request};
use net_wire::{OpenRead, ReadOpened, encode};
use storage_frame::Offset;

use crate::budget::Around;
use crate::config::{PUSH_BYTES_CROWDED, PUSH_BYTES_DEFAULT};
use crate::stream::outbox::Outbox;

#[derive(Debug)]
pub(super) struct ReadWork {
    correlation: u64,
    partition: PartitionId,
    next: Offset,
    bytes_max: u32,
    reader: Option<ReaderId>,
    is_opened: bool,
    /// The key of the one under way.
    fetch: Option<u64>,
}

impl ReadWork {
    pub(super) fn open(around: &mut Around<'_>, correlation: u64, open: &OpenRead) -> Self {
        let bytes_max = if open.bytes_max == 0 { PUSH_BYTES_DEFAULT } else { open.bytes_max };
        let limit = u32::try_from(around.desk.send_buffer_bytes).unwrap_or(u32::MAX);
        let mut work = Self {
            correlation,
            partition: open.partition,
            next: open.offset,
            bytes_max: bytes_max.min(limit),
            reader: open.group.as_deref().map(ReaderId::of_group),
            is_opened: false,
            fetch: None,
        };
        // Answered at once, so that the client learns whether its partition and offset exist.
        let fetch = work.fetch(work.bytes_max, 0, Some(Duration::ZERO));
        work.fetch = Some(around.ask(0, 0, Request::Fetch(fetch)));
        work
    }

    fn fetch(&self, bytes_max: u32, bytes_min: u32, wait_max: Option<Duration>) -> Fetch {
        let Self { partition, next: offset, reader, .. } = *self;
        Fetch { partition, offset, bytes_max, bytes_min, wait_max, reader }
    }

    /// Asks for the next push, if it is time. `true`: it is, but for the connection's budget.
    pub(super) fn fetch_next(&mut self, around: &mut Around<'_>, unsent_bytes: usize) -> bool {
        let (unsent_max, push_max) = if around.budget.is_crowded(around.desk) {
            (1, PUSH_BYTES_CROWDED)
        } else {
            (around.desk.send_buffer_bytes, u32::MAX)
        };
        reach::mark!("quic.reader_crowded", unsent_max == 1);
        reach::mark!("quic.push_waits_for_send_buffer", self.fetch.is_none() && unsent_bytes >= unsent_max);
        if self.fetch.is_some() || unsent_bytes >= unsent_max {
            return false;
        }
        if !around.budget.takes_requests(around.desk) {
            reach::mark!("quic.push_held");
            return true;
        }
        let fetch = self.fetch(self.bytes_max.min(push_max), 1, None);
        self.fetch = Some(around.ask(0, 0, Request::Fetch(fetch)));
        false
    }

    /// The answer to the fetch under way; `Err`: the last message of the stream.
    pub(super) fn on_response(
        &mut self,
        around: &mut Around<'_>,
        outbox: &mut Outbox,
        result: Result<Fetched, FetchError>,
    ) -> Result<(), bytes::Bytes> {
        self.fetch = None;
        around.answered(0);
        let fetched = result.map_err(|error| encode::read_failed(self.correlation, &error))?;
        if !std::mem::replace(&mut self.is_opened, true) {
            let opened = ReadOpened { log_start: fetched.log_start, high_watermark: fetched.high_watermark };
            outbox.push(around, encode::read_opened(self.correlation, &opened));
        }
        if let Some(last) = fetched.frames.last() {
            let next = last.header().end_offset();
            assert!(next > self.next, "a push gets on: from {} to {next}", self.next);
            self.next = next;
            outbox.push_frames(around, self.correlation, &fetched);
        }
        Ok(())
    }

    pub(super) fn cancel(self, around: &mut Around<'_>) {
        if let Some(key) = self.fetch {
            around.cancel(key, 0);
        }
    }
}
