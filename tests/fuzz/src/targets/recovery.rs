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

/// Plan, checkpoint, index, segment header, then what stands behind the header: bytes, or pieces as `segment` has
/// them.
pub fn recovery(data: &[u8]) {
    let mut script = Script::new(data);
    let plan = script.u8();
    let checkpoint = mend::prefixed(&with_log(script.piece()), checkpoint::MAGIC);
    let index = mend::prefixed(&with_log(script.piece()), index::MAGIC);
    let mut head = with_log(script.piece());
    head.resize(512, 0);
    let head = mend::prefixed(&head, segment::MAGIC);
    let mut file = if plan & 1 != 0 {
        [&[0; BLOCK_BYTES][..], script.rest()].concat()
    } else {
        let mut written = Written::begin(&mut script);
        written.pieces(&mut script);
        written.file
    };
    if plan & 3 != 0 {
        file[..head.len()].copy_from_slice(&head);
    }
    file.resize(file.len().next_multiple_of(BLOCK_BYTES), 0);

    let mut files = Files::new();
    if plan & 4 != 0 {
        files.insert(FileName::Checkpoint, checkpoint);
    }
    if plan & 8 != 0 {
        files.insert(FileName::Index(SegmentId(1)), index);
    }
    for id in 1..=u32::from(plan >> 4 & 3) {
        files.insert(FileName::Segment(SegmentId(id)), file.clone());
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
