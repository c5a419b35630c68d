//! Every fault can be injected and is what it says.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

use bytes::Bytes;
use storage_frame::LogId;
use storage_log::{DiskOp, DiskReply, FileName, OpId, SegmentId};

use super::*;

const LOG: LogId = LogId(7);
const SEGMENT: SegmentId = SegmentId(1);

#[test]
fn what_is_answered_survives_a_crash() {
    let mut disk = ModelDisk::new(1, Faults::of_crashes());
    let mut op = 0;
    let mut run = |disk: &mut ModelDisk, what| {
        op += 1;
        disk.run(0, LOG, OpId(op), what).unwrap()
    };
    run(&mut disk, DiskOp::MakeSegment { segment: SEGMENT });
    run(&mut disk, DiskOp::Zero { segment: SEGMENT, from: 0, to: 8192 });
    let parts = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    run(&mut disk, DiskOp::Write { segment: SEGMENT, position: 4096, parts });
    disk.crash();
    let read = run(&mut disk, DiskOp::Read { segment: SEGMENT, position: 4096, bytes: 8 });
    assert_eq!(read, DiskReply::Bytes(Bytes::from_static(b"onetwo\0\0")));
    assert_eq!(disk.file(LOG, FileName::Segment(SEGMENT)).unwrap().len(), 8192);
}
