//! A partition's readers: fetches, with or without waiting, and finding offsets.
//!
//! What must hold: nothing at or above `commit_end` is ever read; a fetch is answered once; a fetch that waits
//! costs nothing until `advance_commit` or its deadline looks at it.

use std::time::Duration;

use engine_api::{
    Fetch, FetchError, Fetched, FindOffset, FoundOffset, Lag, MeasureLag, Place, ReplySlot, Request, Response,
};
use storage_frame::{Frame, FrameHeader, Now, Offset};
use storage_log::{Find, LogState, Read, ReadError, ReadId};

use crate::context::{Context, Refusal, refuse};
use crate::limits::{
    FETCH_BYTES_MAX, MEMORY_WAIT_MAX, READ_BYTES_MAX, READ_BYTES_MIN, READS_PER_PARTITION_MAX,
};
use crate::partition::{Partition, Stage};
use crate::seam::Level;
use crate::waiting::{Waiter, WaiterKey, Waiting};

/// A fetch and until when it may wait; `None`: as long as it takes.
struct Asked {
    slot: ReplySlot,
    fetch: Fetch,
    deadline: Option<Duration>,
    may_wait: bool,
}

impl Partition {
    pub(crate) fn fetch(&mut self, ctx: &mut Context, now: Now, slot: ReplySlot, mut fetch: Fetch) {
        if let Some(reader) = fetch.reader {
            self.readers.note(now.mono, reader, fetch.offset);
        }
        fetch.bytes_max = fetch.bytes_max.clamp(1, FETCH_BYTES_MAX);
        fetch.bytes_min = fetch.bytes_min.min(fetch.bytes_max);
        let may_wait = fetch.bytes_min > 0 && fetch.wait_max != Some(Duration::ZERO);
        let deadline = fetch.wait_max.and_then(|wait| now.mono.checked_add(wait));
        self.fetch_in_turn(ctx, now, Asked { slot, fetch, deadline, may_wait });
    }

    /// From memory at once; from disk when there is memory for it and nobody waits who came before.
    fn fetch_in_turn(&mut self, ctx: &mut Context, now: Now, mut asked: Asked) {
        let offset = asked.fetch.offset;
        let needs_disk = offset < self.commit_end && !self.log().is_cached(offset);
        if needs_disk && !(ctx.reads_waiting.is_empty() && ctx.budget.may_read(read_bytes(&asked.fetch))) {
            reach::mark!("shard.fetch_waits_for_memory");
            asked.deadline = asked.deadline.map(|deadline| deadline.max(now.mono + MEMORY_WAIT_MAX));
            return self.wait(ctx, asked, Waiting::Memory);
        }
        self.fetch_now(ctx, asked);
    }

    fn fetch_now(&mut self, ctx: &mut Context, asked: Asked) {
        let offset = asked.fetch.offset;
        if let Err(error) = self.check_range(offset) {
            return ctx.reply(asked.slot, Response::Fetch(Err(error)));
        }
        if offset == self.commit_end {
            return match self.fault_at_end() {
                Some(error) => {
                    reach::mark!("shard.fetch_at_end_of_broken_log");
                    ctx.reply(asked.slot, Response::Fetch(Err(error)));
                }
                None => self.answer_or_wait(ctx, asked, Vec::new()),
            };
        }
        if self.reads.len() >= READS_PER_PARTITION_MAX {
            reach::mark!("shard.fetch_overloaded");
            return ctx.reply(asked.slot, Response::Fetch(Err(FetchError::Overloaded)));
        }
        let bytes_max = asked.fetch.bytes_max as usize;
        let commit_end = self.commit_end;
        let log = self.log.as_mut().expect("an open partition has a log");
        match log.read(offset, commit_end, bytes_max) {
            Read::Now(frames) => self.answer_or_wait(ctx, asked, frames),
            Read::Pending(read) => {
                let bytes = read_bytes(&asked.fetch);
                self.wait_for_disk(ctx, asked.slot, read, Waiting::Read { fetch: asked.fetch, bytes });
            }
        }
    }

    fn check_range(&self, asked: Offset) -> Result<(), FetchError> {
        let (log_start, high_watermark) = (self.log().start(), self.commit_end);
        if asked >= log_start && asked <= high_watermark {
            return Ok(());
        }
        reach::mark!("shard.fetch_above_end", asked > high_watermark);
        reach::mark!("shard.fetch_below_start", asked < log_start);
        // A damaged log may have had that offset: its reader must not believe it gone and start over.
        let lost = if asked > high_watermark { self.fault_at_end() } else { None };
        Err(lost.unwrap_or(FetchError::OffsetOutOfRange { asked, log_start, high_watermark }))
    }

    /// How far behind a place is; never asks the disk.
    pub(crate) fn measure(&self, now: Now, measure: MeasureLag) -> Result<Lag, FetchError> {
        let refusal = match self.stage {
            Stage::Open => match &self.trouble {
                Some(why) if !self.is_known => Refusal::StorageFailed(why.clone()),
                _ => {
                    let (log_start, high_watermark) = (self.log().start(), self.commit_end);
                    let from = measure.offset.max(log_start);
                    let read = measure.reader.and_then(|reader| self.readers.find(now.mono, reader));
                    let timestamp =
                        if from < high_watermark { self.log().timestamp_near(from) } else { None };
                    return Ok(Lag { log_start, high_watermark, timestamp, read });
                }
            },
            Stage::Unopened | Stage::Opening => Refusal::NotReady,
            Stage::Closing | Stage::Closed => Refusal::ShuttingDown,
            Stage::Removing => Refusal::UnknownPartition,
        };
        Err(refusal.into())
    }

    /// Nothing will ever follow: waiting would be for ever.
    fn fault_at_end(&self) -> Option<FetchError> {
        match self.log().state() {
            LogState::Damaged { why, .. } => Some(FetchError::Damaged { why: why.clone() }),
            LogState::Failed { why } => Some(FetchError::StorageFailed { why: why.clone() }),
            LogState::Opening | LogState::Ready | LogState::Closing | LogState::Closed => None,
        }
    }

    /// `frames` begin at the offset asked and are all there is, unless `bytes_max` cut them short.
    fn answer_or_wait(&mut self, ctx: &mut Context, asked: Asked, frames: Vec<Frame>) {
        let bytes: usize = frames.iter().map(|frame| frame.header().frame_bytes()).sum();
        let end = frames.last().map_or(asked.fetch.offset, |frame| frame.header().end_offset());
        let missing = (asked.fetch.bytes_min as usize).saturating_sub(bytes);
        if missing > 0 && asked.may_wait && end >= self.commit_end && !ctx.stopping {
            let wake_bytes = self.committed_bytes + missing as u64;
            return self.wait(ctx, asked, |fetch| Waiting::Data { fetch, wake_bytes });
        }
        assert!(end <= self.commit_end || frames.is_empty(), "nothing above the high watermark is shown");
        let fetched = Fetched { log_start: self.log().start(), high_watermark: self.commit_end, frames };
        ctx.reply(asked.slot, Response::Fetch(Ok(fetched)));
    }

    fn wait(&mut self, ctx: &mut Context, asked: Asked, what: impl FnOnce(Fetch) -> Waiting) {
        let Asked { slot, fetch, deadline, .. } = asked;
        let what = what(fetch);
        self.waiters.push(ctx.add_waiter(Waiter { slot, partition: self.key, deadline, what }));
    }

    fn wait_for_disk(&mut self, ctx: &mut Context, slot: ReplySlot, read: ReadId, what: Waiting) {
        let key = ctx.add_waiter(Waiter { slot, partition: self.key, deadline: None, what });
        self.waiters.push(key);
        self.reads.push((read, key));
    }

    /// Fetches that have now got what they waited for are answered.
    pub(crate) fn wake_fetches(&mut self, ctx: &mut Context, now: Now) {
        let mut place = 0;
        while let Some(key) = self.waiters.get(place).copied() {
            let waiter = ctx.waiters.at(key).expect("a partition knows its waiters");
            if matches!(waiter.what, Waiting::Data { wake_bytes, .. } if wake_bytes <= self.committed_bytes) {
                reach::mark!("shard.fetch_woken_by_data");
                self.waiters.swap_remove(place);
                let waiter = ctx.remove_waiter(key);
                self.end_wait(ctx, now, waiter);
            } else {
                place += 1;
            }
        }
    }

    /// The waiter's deadline is over: it gets what there is.
    pub(crate) fn on_deadline(&mut self, ctx: &mut Context, now: Now, key: WaiterKey) {
        reach::mark!("shard.fetch_woken_by_deadline");
        let waiter = self.take_waiter(ctx, key);
        self.end_wait(ctx, now, waiter);
    }

    /// There is memory for the waiter's read.
    pub(crate) fn on_memory(&mut self, ctx: &mut Context, now: Now, key: WaiterKey) {
        let Waiter { slot, deadline, what, .. } = self.take_waiter(ctx, key);
        let Waiting::Memory(fetch) = what else { unreachable!("it waited for memory") };
        let may_wait = deadline.is_none_or(|deadline| deadline > now.mono);
        self.fetch_now(ctx, Asked { slot, fetch, deadline, may_wait });
    }

    fn end_wait(&mut self, ctx: &mut Context, now: Now, waiter: Waiter) {
        let Waiter { slot, deadline, what, .. } = waiter;
        match what {
            Waiting::Data { fetch, .. } => {
                self.fetch_in_turn(ctx, now, Asked { slot, fetch, deadline, may_wait: false });
            }
            Waiting::Memory(_) => {
                reach::mark!("shard.fetch_without_memory");
                ctx.reply(slot, Response::Fetch(Err(FetchError::Overloaded)));
            }
            Waiting::Held { .. }
            | Waiting::Read { .. }
            | Waiting::Find { .. }
            | Waiting::Abandoned { .. } => {
                unreachable!("these have no deadline")
            }
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&mut self, ctx: &mut Context, key: WaiterKey) {
        match ctx.waiters.at(key).expect("a partition knows its waiters").what {
            // The log goes on reading.
            Waiting::Read { bytes, .. } | Waiting::Find { bytes, .. } => {
                reach::mark!("shard.read_cancelled");
                ctx.waiters.abandon(key, bytes);
            }
            Waiting::Held { .. } | Waiting::Data { .. } | Waiting::Memory(_) => {
                reach::mark!("shard.wait_cancelled");
                self.take_waiter(ctx, key);
            }
            Waiting::Abandoned { .. } => unreachable!("found by its slot"),
        }
    }

    /// Takes a waiter off; an answer of the disk that comes later is dropped.
    fn take_waiter(&mut self, ctx: &mut Context, key: WaiterKey) -> Waiter {
        let place =
            self.waiters.iter().position(|other| *other == key).expect("a partition knows its waiters");
        // Not swapped: what is held until the log is open is served in the order in which it came.
        self.waiters.remove(place);
        self.reads.retain(|(_, other)| *other != key);
        ctx.remove_waiter(key)
    }

    pub(super) fn on_read(
        &mut self,
        ctx: &mut Context,
        now: Now,
        read: ReadId,
        result: Result<Vec<Frame>, ReadError>,
    ) {
        let Some((slot, fetch)) = self.take_read(ctx, read, |what| match what {
            Waiting::Read { fetch, .. } => Some(fetch),
            Waiting::Held { .. }
            | Waiting::Data { .. }
            | Waiting::Memory(_)
            | Waiting::Find { .. }
            | Waiting::Abandoned { .. } => None,
        }) else {
            return;
        };
        match result {
            Ok(frames) => {
                let bytes: usize = frames.iter().map(|frame| frame.header().frame_bytes()).sum();
                ctx.tally.fetch_disk_bytes += bytes as u64;
                let deadline = fetch.wait_max.and_then(|wait| now.mono.checked_add(wait));
                self.answer_or_wait(ctx, Asked { slot, fetch, deadline, may_wait: false }, frames);
            }
            Err(error) => {
                let error = self.read_fault(ctx, fetch.offset, error);
                ctx.reply(slot, Response::Fetch(Err(error)));
            }
        }
    }

    pub(crate) fn find(&mut self, ctx: &mut Context, slot: ReplySlot, find: FindOffset) {
        let (start, end) = (self.log().start(), self.commit_end);
        match find.place {
            Place::Start => self.answer_found(ctx, slot, start, None),
            Place::End => self.answer_found(ctx, slot, end, None),
            Place::Timestamp(_) if start == end => self.answer_found(ctx, slot, end, None),
            Place::Timestamp(_) if self.reads.len() >= READS_PER_PARTITION_MAX => {
                ctx.reply(slot, Response::FindOffset(Err(FetchError::Overloaded)));
            }
            Place::Timestamp(at) => {
                let log = self.log.as_mut().expect("an open partition has a log");
                match log.find(at, end) {
                    Find::Now(header) => self.answer_header(ctx, slot, header.as_ref()),
                    Find::Pending(read) => {
                        self.wait_for_disk(ctx, slot, read, Waiting::Find { find, bytes: READ_BYTES_MIN });
                    }
                }
            }
        }
    }

    pub(super) fn on_found(
        &mut self,
        ctx: &mut Context,
        read: ReadId,
        result: Result<Option<FrameHeader>, ReadError>,
    ) {
        let Some((slot, ())) = self.take_read(ctx, read, |what| match what {
            Waiting::Find { .. } => Some(()),
            Waiting::Held { .. }
            | Waiting::Data { .. }
            | Waiting::Memory(_)
            | Waiting::Read { .. }
            | Waiting::Abandoned { .. } => None,
        }) else {
            return;
        };
        match result {
            Ok(header) => self.answer_header(ctx, slot, header.as_ref()),
            Err(error) => {
                let error = self.read_fault(ctx, self.log().start(), error);
                ctx.reply(slot, Response::FindOffset(Err(error)));
            }
        }
    }

    /// Who waited for `read`, if anybody still does.
    fn take_read<T>(
        &mut self,
        ctx: &mut Context,
        read: ReadId,
        what: impl FnOnce(Waiting) -> Option<T>,
    ) -> Option<(ReplySlot, T)> {
        let place = self.reads.iter().position(|(other, _)| *other == read)?;
        let (_, key) = self.reads[place];
        let waiter = self.take_waiter(ctx, key);
        if matches!(waiter.what, Waiting::Abandoned { .. }) {
            return None;
        }
        let slot = waiter.slot;
        Some((slot, what(waiter.what).expect("the log answers what it was asked")))
    }

    fn answer_header(&self, ctx: &mut Context, slot: ReplySlot, header: Option<&FrameHeader>) {
        match header {
            Some(header) => {
                let offset = header.base_offset.max(self.log().start());
                self.answer_found(ctx, slot, offset, Some(header.max_timestamp));
            }
            None => self.answer_found(ctx, slot, self.commit_end, None),
        }
    }

    fn answer_found(
        &self,
        ctx: &mut Context,
        slot: ReplySlot,
        offset: Offset,
        timestamp: Option<storage_frame::TimestampMs>,
    ) {
        let found =
            FoundOffset { offset, timestamp, log_start: self.log().start(), high_watermark: self.commit_end };
        ctx.reply(slot, Response::FindOffset(Ok(found)));
    }

    fn read_fault(&mut self, ctx: &mut Context, asked: Offset, error: ReadError) -> FetchError {
        let (why, fault) = match error {
            ReadError::Trimmed => {
                reach::mark!("shard.read_trimmed");
                let (log_start, high_watermark) = (self.log().start(), self.commit_end);
                return FetchError::OffsetOutOfRange { asked, log_start, high_watermark };
            }
            ReadError::Damaged { why } => (why.clone(), FetchError::Damaged { why }),
            ReadError::Io { why } => (why.clone(), FetchError::StorageFailed { why }),
        };
        reach::mark!("shard.read_fault");
        // Once: readers try again, and the fault does not change by being read again.
        if !std::mem::replace(&mut self.read_fault_told, true) {
            ctx.event(
                Level::Error,
                "read_failed",
                self.fields([("offset", asked.to_string()), ("why", why)]),
            );
        }
        fault
    }

    /// Everybody who waits here is refused.
    pub(super) fn end_waits(&mut self, ctx: &mut Context, refusal: &Refusal) {
        self.reads.clear();
        for key in std::mem::take(&mut self.waiters) {
            let waiter = ctx.remove_waiter(key);
            let request = match waiter.what {
                Waiting::Held { request, .. } => request,
                Waiting::Data { fetch, .. } | Waiting::Memory(fetch) | Waiting::Read { fetch, .. } => {
                    Request::Fetch(fetch)
                }
                Waiting::Find { find, .. } => Request::FindOffset(find),
                Waiting::Abandoned { .. } => continue,
            };
            ctx.reply(waiter.slot, refuse(&request, refusal.clone()));
        }
    }

    /// Those who wait for new data are refused: there will be none. Reads under way go on.
    pub(super) fn end_data_waits(&mut self, ctx: &mut Context, refusal: &Refusal) {
        let waits_for_data =
            |key: &WaiterKey| matches!(ctx.waiters.at(*key).map(|w| &w.what), Some(Waiting::Data { .. }));
        let (ended, kept): (Vec<_>, Vec<_>) = self.waiters.iter().copied().partition(waits_for_data);
        self.waiters = kept;
        for key in ended {
            let waiter = ctx.remove_waiter(key);
            if let Waiting::Data { fetch, .. } = waiter.what {
                ctx.reply(waiter.slot, refuse(&Request::Fetch(fetch), refusal.clone()));
            }
        }
    }
}

/// The memory that a read from disk for `fetch` takes.
pub(crate) fn read_bytes(fetch: &Fetch) -> usize {
    (fetch.bytes_max as usize).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
}
