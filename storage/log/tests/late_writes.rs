//! A write of a killed process lands in the middle of a later life (`FORMAT.md`, "A write that outlives its process"):
//! its frames verify and are of this log. Found by the beyond story: a read was answered with no frame, or never.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use rig::{Rig, config, segment_file, small_segments};
use storage_frame::{Frame, Offset};
use storage_log::{LogConfig, ReadError};

const BYTES: usize = 6000;

/// One life's write of a frame of `early` records and bytes does not land. The next life puts one of `records` there,
/// and one more behind it, and ends in order. In the third the write lands. `before` of two records each stand before
/// them. Gives the second life's frame.
fn late_write(config: LogConfig, before: i64, early: (u32, usize), records: u32) -> (Rig, Frame) {
    let mut rig = Rig::opened(config);
    for n in 0..before {
        rig.append_durably(2, n, vec![n as u8; BYTES]);
    }
    let copy = rig.disk.copy_of(rig.id);
    let early = rig.append_durably(early.0, 50, vec![50; early.1]);
    let late = segment_file(&mut rig, 1).clone();
    rig.disk.crash();
    rig.disk.put_back(rig.id, copy);
    rig.reopen();
    let frame = rig.append_durably(records, 60, vec![60; BYTES]);
    rig.append_durably(1, 70, vec![70; BYTES]);
    rig.close_and_reopen();
    let (at, bytes) = (4096 + before as usize * frame.header().frame_bytes(), early.header().frame_bytes());
    segment_file(&mut rig, 1)[at..at + bytes].copy_from_slice(&late[at..at + bytes]);
    (rig, frame)
}

fn is_damaged<T: std::fmt::Debug>(answer: Result<T, ReadError>) {
    assert!(matches!(answer, Err(ReadError::Damaged { .. })), "{answer:?}");
}

#[test]
fn frame_that_runs_over_the_limit_of_a_read_is_damage() {
    let (mut rig, frame) = late_write(config(), 3, (4, BYTES), 1);
    let (base, limit) = (frame.header().base_offset, rig.log.durable_end());
    assert_eq!((base, limit), (Offset(6), Offset(8)));
    is_damaged(rig.read(base, limit, 1));
    is_damaged(rig.read(base.plus(1), limit, 1 << 20));
    assert_eq!(rig.read(Offset(0), limit, 1 << 20).unwrap().len(), 3, "what is before it is given");
}

#[test]
fn segment_whose_frames_end_before_the_next_one_begins_is_damage() {
    let (mut rig, frame) = late_write(small_segments(), 9, (1, BYTES), 3);
    let (base, limit) = (frame.header().base_offset, rig.log.durable_end());
    assert_eq!((base, limit), (Offset(18), Offset(22)));
    assert_eq!(rig.read(base, limit, 1).unwrap().len(), 1, "the older one");
    is_damaged(rig.read(base.plus(1), limit, 1));
    is_damaged(rig.read(base.plus(2), limit, 1 << 20));
    is_damaged(rig.find(55, limit));
    assert_eq!(rig.read(base.plus(3), limit, 1 << 20).unwrap().len(), 1, "what is behind it is given");
}

#[test]
fn rest_of_a_segment_that_is_too_short_for_a_frame_is_damage() {
    let (mut rig, frame) = late_write(small_segments(), 9, (1, BYTES - 16), 3);
    let (base, limit) = (frame.header().base_offset, rig.log.durable_end());
    is_damaged(rig.read(base.plus(1), limit, 1));
    is_damaged(rig.find(55, limit));
}
