//! Opening a log over a directory that somebody else has made (`storage/log`): a checkpoint, an index and a
//! segment's header with right checksums over any content. Nothing is promised of such a log but an end: it
//! opens or does not, serves only what verifies, and neither hangs nor eats memory.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::{Offset, TimestampMs};
use storage_log::{BLOCK_BYTES, FileName, LogState, Read, SegmentId};

use crate::disk::{Files, LOG, Running, config};
use crate::mend;
use crate::script::Script;
use crate::targets::segment::Written;
use crate::targets::{checkpoint, index, segment};

/// Checkpoint, index, segment header, then the segment's frames as `segment` has them.
pub fn recovery(data: &[u8]) {
    let mut script = Script::new(data);
    let plan = script.u8();
    let mut files = Files::new();
    let checkpoint = with_log(script.piece());
    if plan & 1 != 0 {
        files.insert(FileName::Checkpoint, mend::prefixed(&checkpoint, checkpoint::MAGIC));
    }
    let index = with_log(script.piece());
    if plan & 2 != 0 {
        files.insert(FileName::Index(SegmentId(1)), mend::prefixed(&index, index::MAGIC));
    }
    let mut head = with_log(script.piece());
    let mut written = Written::begin(&mut script);
    written.pieces(&mut script);
    written.close();
    if plan & 4 != 0 {
        head.resize(512, 0);
        let mut head = mend::prefixed(&head, segment::MAGIC);
        head.resize(BLOCK_BYTES, 0);
        written.file[..BLOCK_BYTES].copy_from_slice(&head);
    }
    for id in 1..=u32::from(plan >> 3 & 3) {
        files.insert(FileName::Segment(SegmentId(id)), written.file.clone());
    }
    live(Running::open(files, config()));
}

/// The log's id behind the prefix, so that the file is taken for this log's.
fn with_log(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Some(id) = out.get_mut(16..24) {
        id.copy_from_slice(&LOG.0.to_le_bytes());
    }
    out
}

/// Reads, finds, appends, closes.
fn live(mut running: Running) {
    if matches!(running.log.state(), LogState::Failed { .. }) {
        return;
    }
    let (start, end) = (running.log.start(), running.log.durable_end());
    assert!(start <= end);
    for from in [start, Offset(start.0.midpoint(end.0)), Offset(end.0.saturating_sub(1).max(start.0))] {
        if from < end
            && let Read::Now(frames) = running.log.read(from, end, 1 << 16)
        {
            assert!(frames.iter().all(|frame| frame.header().base_offset < end));
        }
        running.settle();
    }
    let _ = running.log.find(TimestampMs(50), end);
    running.tick(Duration::from_millis(300));
    if *running.log.state() == LogState::Ready && end < Offset(i64::MAX as u64 - 100) {
        running.log.append(running.now(), segment::next_frame(&running));
        running.settle();
        running.tick(Duration::from_secs(3));
        running.log.set_app_state(running.log.durable_end(), Bytes::from_static(b"state"));
        running.settle();
    }
    running.log.close();
    running.settle();
    running.tick(Duration::from_secs(3));
}
