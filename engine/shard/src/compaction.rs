//! Compaction of topics with `cleanup.policy=compact`: which partition next, and what storage must know of their
//! records.
//!
//! What must hold: one log of a core is compacted at a time, and none begins while memory is short. How a log goes
//! about it, and why no crash can hurt: `storage/log`.

use std::time::Duration;

use engine_meta::TopicConfig;
use storage_frame::{
    BatchView, Codec, Compaction, Encoding, FRAME_BYTES_MAX, Frame, FrameHeader, HEADER_BYTES, Now,
    TimestampMs,
};
use storage_log::{Compacted, CompactionRules, CompactionTask, KeyAt, RecordAccess};
use storage_recordbatch::archived::codec::{self, compress, decompress};
use storage_recordbatch::{Record, Records, retain};

use crate::context::Context;
use crate::limits::{COMPACTION_KEY_BYTES, COMPACTION_KEYS_MAX, COMPACTION_KEYS_MIN};
use crate::partition::{Partition, Stage};
use crate::seam::Level;
use crate::waiting::PartitionKey;

/// Counted up since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Passes that ended in order, and those that did not.
    pub passes: u64,
    pub failed: u64,
    /// Of segments written anew: what they were, and what they became.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub records_removed: u64,
    /// Of the last pass that ended in order.
    pub last_duration: Duration,
}

/// The core's turn at compacting.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    partition: Option<PartitionKey>,
    begun_count: u64,
}

impl Turn {
    /// Whose turn it was last.
    pub(crate) fn partition(&self) -> Option<PartitionKey> {
        self.partition
    }

    /// It is nobody's turn: begins a pass when `partition` wants one.
    pub(crate) fn offer(&mut self, ctx: &Context, now: Now, key: PartitionKey, partition: &mut Partition) {
        let config = &partition.topic.config;
        if !config.compacts || partition.stage != Stage::Open || ctx.stopping || ctx.budget.is_overloaded() {
            return;
        }
        let rules = rules(config);
        let log = partition.log_mut().filter(|log| log.wants_compaction(now, &rules).is_some());
        let Some(log) = log else { return };
        let memory = ctx.config.memory_bytes_max / 8;
        let keys_max = (memory / COMPACTION_KEY_BYTES).clamp(COMPACTION_KEYS_MIN, COMPACTION_KEYS_MAX);
        self.begun_count += 1;
        let seed = ctx.config.seed ^ self.begun_count;
        log.compact(now, CompactionTask { rules, records: &StoredRecords, keys_max, seed });
        self.partition = Some(key);
    }
}

fn rules(config: &TopicConfig) -> CompactionRules {
    CompactionRules {
        lag_min: config.compaction_lag_min,
        lag_max: Some(config.compaction_lag_max),
        dirty_ratio: f64::from(config.dirty_millionths) / 1e6,
        tombstones_kept: config.tombstones_kept,
    }
}

impl Partition {
    pub(super) fn on_compacted(&mut self, ctx: &mut Context, how: Result<Compacted, String>) {
        let stats = &mut ctx.tally.compaction;
        match how {
            Ok(told) => {
                reach::mark!("shard.log_compacted", told.records_removed > 0);
                stats.passes += 1;
                stats.bytes_in += told.bytes_in;
                stats.bytes_out += told.bytes_out;
                stats.records_removed += told.records_removed;
                stats.last_duration = told.took;
                let fields = self.fields([
                    ("bytes_in", told.bytes_in.to_string()),
                    ("bytes_out", told.bytes_out.to_string()),
                    ("records_removed", told.records_removed.to_string()),
                    ("records_without_key", told.records_without_key.to_string()),
                    ("frames_unreadable", told.frames_unreadable.to_string()),
                    ("took_ms", told.took.as_millis().to_string()),
                ]);
                ctx.event(Level::Info, "log_compacted", fields);
            }
            Err(why) => {
                reach::mark!("shard.compaction_failed");
                stats.failed += 1;
                ctx.event(Level::Warn, "log_not_compacted", self.fields([("why", why)]));
            }
        }
    }
}

/// # Errors
/// Which record of the batch cannot be in a compacted topic, for people.
pub(crate) fn check_keys(frame: &Frame) -> Result<(), String> {
    let records = Records::open(frame, FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
    for (index, record) in records.iter().enumerate() {
        if record.map_err(|error| error.to_string())?.key.is_none() {
            reach::mark!("shard.record_without_key");
            return Err(format!(
                "record {index} has no key, which every record of a compacted topic must have"
            ));
        }
    }
    Ok(())
}

/// Frames of either encoding, compressed too.
#[derive(Debug)]
struct StoredRecords;

impl RecordAccess for StoredRecords {
    fn visit(&self, frame: &Frame, told: &mut dyn FnMut(KeyAt<'_>)) -> Result<(), String> {
        let records = Records::open(frame, FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
        for record in records.iter() {
            let record = record.map_err(|error| error.to_string())?;
            let offset_delta = delta(frame, &record);
            told(KeyAt { offset_delta, key: record.key, is_tombstone: record.value.is_none() });
        }
        Ok(())
    }

    fn retain(&self, frame: &Frame, kept: &[u32]) -> Result<Frame, String> {
        match frame.header().encoding {
            Encoding::Archived => retain_archived(frame, kept),
            Encoding::KafkaV2 => retain_kafka(frame, kept),
        }
    }
}

fn delta(frame: &Frame, record: &Record<'_>) -> u32 {
    (record.offset.0 - frame.header().base_offset.0) as u32
}

/// Compressed as it was.
fn retain_archived(frame: &Frame, kept: &[u32]) -> Result<Frame, String> {
    let header = *frame.header();
    let compression = match header.codec {
        Codec::None => codec::Compression::None,
        Codec::Lz4 => codec::Compression::Lz4,
        Codec::Zstd => codec::Compression::Zstd { level: 0 },
    };
    let plain =
        decompress(header.codec, frame.payload(), FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
    let view = BatchView::open_plain(header, plain).map_err(|error| error.to_string())?;
    view.retain(kept, |plain| compress(compression, plain)).map_err(|error| error.to_string())
}

fn retain_kafka(frame: &Frame, kept: &[u32]) -> Result<Frame, String> {
    let header = *frame.header();
    let mut max_timestamp = TimestampMs(i64::MIN);
    let keep = |record: &Record<'_>| {
        let is_kept = kept.binary_search(&delta(frame, record)).is_ok();
        if is_kept {
            max_timestamp = max_timestamp.max(record.timestamp);
        }
        is_kept
    };
    let batch = retain(frame, FRAME_BYTES_MAX, keep).map_err(|error| error.to_string())?;
    let batch = batch.ok_or("there is nothing to take out of the batch")?;
    if batch.len() > FRAME_BYTES_MAX - HEADER_BYTES {
        return Err(format!(
            "what is left of the batch takes {} bytes, more than a frame holds",
            batch.len()
        ));
    }
    let compaction = Some(Compaction { holes: true, tombstones_at: None });
    Ok(Frame::seal(FrameHeader { max_timestamp, producer: None, compaction, ..header }, batch))
}

#[cfg(test)]
mod tests;
