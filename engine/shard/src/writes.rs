//! A partition's writers: produces and deletes of records, checked, given to the log, and refused when it ends.
//!
//! What must hold: a batch is checked whole before anything is changed; a duplicate is answered no earlier than
//! the batch it repeats; a delete is answered when no restart can show the records again.

use std::time::Duration;

use engine_api::{
    Acks, DeleteRecords, DeleteRecordsError, Durability, Produce, ProduceError, ReplySlot, Request, Response,
    StageTimings,
};
use engine_meta::{TimestampKind, TopicConfig};
use storage_frame::{BatchView, Codec, Encoding, Frame, FrameHeader, Now, Offset};
use storage_log::LogState;

use crate::compaction::check_keys;
use crate::context::{Context, Refusal, refuse};
use crate::limits::{BATCH_RECORDS_MAX, DELETES_WAITING_MAX, PRODUCES_WAITING_MAX};
use crate::offsets;
use crate::partition::{Partition, WaitingDelete, WaitingProduce};
use crate::producers::Verdict;

impl Partition {
    pub(super) fn produce(&mut self, ctx: &mut Context, now: Now, slot: ReplySlot, produce: Produce) {
        let Produce { acks, frame, .. } = produce;
        match self.accept(ctx, now, frame) {
            Err(error) => ctx.reply(slot, Response::Produce(Err(error))),
            Ok((base, end, duplicate)) => {
                let append_time = (self.appends_time() && !duplicate).then_some(now.wall);
                let produce =
                    WaitingProduce { slot, acks, base, end, duplicate, append_time, arrived: now.mono };
                match acks {
                    Acks::None => self.answer(ctx, &produce, Durability::Accepted, StageTimings::default()),
                    Acks::Leader | Acks::All => {
                        // Behind its equals: a duplicate waits for the batch it repeats.
                        let place = self.produces.partition_point(|other| other.end <= end);
                        self.produces.insert(place, produce);
                        ctx.tally.waiting_produces += 1;
                    }
                }
                self.advance_commit(ctx, now, Duration::ZERO);
            }
        }
    }

    /// Appends the batch or finds it stored before: its base and end, and which of the two it was.
    fn accept(
        &mut self,
        ctx: &mut Context,
        now: Now,
        mut frame: Frame,
    ) -> Result<(Offset, Offset, bool), ProduceError> {
        if self.coordinator.is_some() {
            return Err(ProduceError::Invalid { why: offsets::RESERVED.to_owned() });
        }
        self.check_writable(ctx)?;
        check_batch(&frame, &self.topic.config)?;
        if self.topic.config.compacts {
            check_keys(&frame).map_err(|why| ProduceError::Invalid { why })?;
        }
        let count = frame.header().record_count;
        if let (Some(sent), Some(producers)) = (frame.header().producer, &self.producers) {
            match producers.judge(sent, count) {
                Verdict::New => {}
                Verdict::Duplicate(base) => {
                    reach::mark!("shard.duplicate_answered", base.plus(count) <= self.commit_end);
                    reach::mark!("shard.duplicate_waits", base.plus(count) > self.commit_end);
                    return Ok((base, base.plus(count), true));
                }
                Verdict::OutOfSequence { expected } => {
                    reach::mark!("shard.out_of_sequence");
                    return Err(ProduceError::OutOfSequence {
                        producer_id: sent.id,
                        sent: sent.base_sequence,
                        expected,
                    });
                }
                Verdict::Fenced { current } => {
                    reach::mark!("shard.producer_fenced");
                    return Err(ProduceError::ProducerFenced {
                        producer_id: sent.id,
                        sent: sent.epoch,
                        current,
                    });
                }
            }
        }
        let base = self.log().staged_end();
        frame.assign(base, self.epoch);
        if self.appends_time() {
            frame.set_append_time(now.wall);
        }
        if frame.header().producer.is_some() {
            self.note_producer(ctx, now, frame.header());
        }
        let (end, frame_bytes) = (base.plus(count), frame.header().frame_bytes());
        ctx.tally.produce_batches += 1;
        ctx.tally.produce_records += u64::from(count);
        ctx.tally.produce_bytes += frame_bytes as u64;
        let log = self.log.as_mut().expect("an open partition has a log");
        log.append(now, frame);
        assert_eq!(log.staged_end(), end, "a frame's records follow each other");
        self.uncommitted.push_back((end, frame_bytes));
        Ok((base, end, false))
    }

    /// The broker's clock stands for every record's time.
    fn appends_time(&self) -> bool {
        self.topic.config.timestamps == TimestampKind::LogAppend
    }

    fn note_producer(&mut self, ctx: &mut Context, now: Now, header: &FrameHeader) {
        let producers = self.producers.get_or_insert_default();
        let before = producers.count();
        producers.note(now.mono, header, ctx.room_for_producers(before));
        ctx.producers_count = ctx.producers_count - before + producers.count();
    }

    pub(super) fn check_writable(&self, ctx: &Context) -> Result<(), ProduceError> {
        let log = self.log();
        match log.state() {
            LogState::Ready => {}
            LogState::Damaged { why, .. } => return Err(ProduceError::Damaged { why: why.clone() }),
            LogState::Failed { why } => return Err(ProduceError::StorageFailed { why: why.clone() }),
            LogState::Opening => return Err(ProduceError::NotLeader),
            LogState::Closing | LogState::Closed => return Err(ProduceError::ShuttingDown),
        }
        if let Some(why) = &self.trouble {
            return Err(ProduceError::StorageFailed { why: why.clone() });
        }
        if ctx.space.is_short() || log.out_of_space() {
            reach::mark!("shard.produce_without_space");
            return Err(ProduceError::NoSpace);
        }
        if ctx.budget.is_full() || self.produces.len() >= PRODUCES_WAITING_MAX {
            reach::mark!("shard.produce_overloaded");
            return Err(ProduceError::Overloaded);
        }
        Ok(())
    }

    pub(super) fn delete_records(&mut self, ctx: &mut Context, slot: ReplySlot, delete: DeleteRecords) {
        let (start, high) = (self.log().start(), self.commit_end);
        let reserved = self.coordinator.as_ref().map(|_| offsets::RESERVED.to_owned());
        if let Some(why) = reserved.as_ref().or(self.trouble.as_ref()) {
            let error = DeleteRecordsError::StorageFailed { why: why.clone() };
            return ctx.reply(slot, Response::DeleteRecords(Err(error)));
        }
        if delete.before > high {
            reach::mark!("shard.delete_out_of_range");
            let error = DeleteRecordsError::OffsetOutOfRange {
                asked: delete.before,
                log_start: start,
                high_watermark: high,
            };
            return ctx.reply(slot, Response::DeleteRecords(Err(error)));
        }
        if self.deletes.len() >= DELETES_WAITING_MAX {
            reach::mark!("shard.delete_refused");
            let request = Request::DeleteRecords(delete);
            return ctx.reply(slot, refuse(&request, Refusal::NotReady));
        }
        self.deletes.push(WaitingDelete { slot, before: delete.before, told: false });
        self.advance_deletes(ctx);
    }

    /// Tells the log of deletes whose offset has become durable and answers those that are done.
    pub(super) fn advance_deletes(&mut self, ctx: &mut Context) {
        let Some(log) = &mut self.log else { return };
        for delete in &mut self.deletes {
            if !delete.told && delete.before <= log.durable_end() && *log.state() == LogState::Ready {
                delete.told = true;
                if delete.before > log.start() {
                    log.delete_before(delete.before);
                }
            }
        }
        let durable_start = self.durable_start;
        self.deletes.retain(|delete| {
            let done = delete.before <= durable_start;
            if done {
                ctx.reply(delete.slot, Response::DeleteRecords(Ok(durable_start)));
            }
            !done
        });
    }

    /// Everybody whose write is not finished is told; whether it is stored is not known to them.
    pub(super) fn refuse_writes(&mut self, ctx: &mut Context, refusal: &Refusal) {
        reach::mark!("shard.deletes_refused_at_end", !self.deletes.is_empty());
        self.uncommitted.clear();
        for produce in std::mem::take(&mut self.produces) {
            ctx.tally.waiting_produces -= 1;
            ctx.reply(produce.slot, Response::Produce(Err(refusal.clone().into())));
        }
        for delete in std::mem::take(&mut self.deletes) {
            ctx.reply(delete.slot, Response::DeleteRecords(Err(refusal.clone().into())));
        }
    }
}

/// What the header claims must be possible before offsets are given away for it.
fn check_batch(frame: &Frame, config: &TopicConfig) -> Result<(), ProduceError> {
    let header = frame.header();
    let (batch_bytes, batch_bytes_max) = (u64::from(header.payload_bytes), config.batch_bytes_max());
    if batch_bytes > batch_bytes_max {
        return Err(ProduceError::TooLarge { batch_bytes, batch_bytes_max });
    }
    let invalid = |why: String| Err(ProduceError::Invalid { why });
    if header.record_count == 0 || header.record_count > BATCH_RECORDS_MAX {
        return invalid(format!(
            "it claims {} records, 1 to {BATCH_RECORDS_MAX} are possible",
            header.record_count
        ));
    }
    if header.first_timestamp > header.max_timestamp {
        return invalid("its first timestamp is above its largest".into());
    }
    if header.compaction.is_some() {
        return invalid("it claims to be compacted".into());
    }
    // It would replace the time of every record, and only the broker knows when it appended.
    if header.append_time {
        return invalid("its timestamps claim to be the broker's".into());
    }
    match (header.encoding, header.codec) {
        // The index is checked, which costs the same for every size; records are left to their readers.
        (Encoding::Archived, Codec::None) => match BatchView::open(frame) {
            Ok(_) => Ok(()),
            Err(error) => invalid(error.to_string()),
        },
        // A compressed batch and Kafka's are opaque here.
        (Encoding::Archived, Codec::Lz4 | Codec::Zstd) | (Encoding::KafkaV2, _) => Ok(()),
    }
}
