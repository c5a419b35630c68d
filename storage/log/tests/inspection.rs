//! What `millstream log verify` and `log dump` see of a log's files.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;

use bytes::Bytes;
use rig::{Rig, config};
use storage_frame::Offset;
use storage_log::inspect::{self, Finding, LogCheck, SegmentError, SegmentWalk, Severity, Stop, Summary};
use storage_log::{FileName, LogConfig, SegmentId};

fn filled() -> Rig {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 256 << 10, ..config() });
    (0..100).for_each(|n| drop(rig.append_durably(2, n, vec![n as u8; 6000])));
    rig.close();
    rig
}

fn check(rig: &Rig) -> (Summary, Vec<Finding>) {
    let mut check = LogCheck::new(rig.id);
    let files = rig.files();
    if let Some(file) = files.get(&FileName::Checkpoint) {
        check.checkpoint(&Bytes::from(file.clone()));
    }
    for (name, file) in &files {
        if let FileName::Segment(segment) = name {
            check.segment(*segment, Bytes::from(file.clone()));
            if let Some(index) = files.get(&FileName::Index(*segment)) {
                check.index(*segment, index);
            }
        }
    }
    check.finish()
}

#[test]
fn whole_log_is_summed_up_without_findings() {
    let rig = filled();
    let (summary, findings) = check(&rig);
    assert_eq!(findings, []);
    assert_eq!((summary.start, summary.end), (Offset(0), Offset(200)));
    assert_eq!((summary.segment_count, summary.frame_count, summary.record_count), (3, 100, 200));
    assert_eq!((summary.label.as_str(), summary.closed_in_order), ("test/0", true));
}

#[test]
fn each_harm_is_found_where_it_is() {
    for segment in 1..=3 {
        let mut rig = filled();
        let file = rig.file_mut(FileName::Segment(SegmentId(segment)));
        file[4096 + 3 * 6064 + 200] ^= 1;
        let (_, findings) = check(&rig);
        let damage = findings.iter().find(|finding| finding.severity == Severity::Damage).expect("found");
        assert_eq!(damage.file, FileName::Segment(SegmentId(segment)));
        assert_eq!(damage.position, Some(4096 + 3 * 6064));
        assert!(damage.what.contains("payload damaged"), "{damage:?}");
    }
    let mut rig = filled();
    rig.remove_file(FileName::Segment(SegmentId(2)));
    assert!(check(&rig).1.iter().any(|finding| finding.severity == Severity::Damage));
    let mut rig = filled();
    rig.file_mut(FileName::Index(SegmentId(1)))[80] ^= 1;
    let (_, findings) = check(&rig);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Repairable);
}

#[test]
fn torn_tail_is_a_note() {
    let mut rig = filled();
    rig.reopen();
    rig.append_durably(2, 0, vec![1; 6000]);
    let file = rig.file_mut(FileName::Segment(SegmentId(3)));
    let walk = SegmentWalk::open(Bytes::from(file.clone())).unwrap();
    let last = walk.last().unwrap().position as usize;
    file[last + 4000] ^= 1;
    let (summary, findings) = check(&rig);
    assert_eq!(summary.end, Offset(200));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].severity, findings[0].offset), (Severity::Note, Some(Offset(200))));
}

#[test]
fn frames_are_walked_and_small_files_read() {
    let rig = filled();
    let bytes = |name| Bytes::from(rig.files()[&name].clone());
    let mut walk = SegmentWalk::open(bytes(FileName::Segment(SegmentId(3)))).unwrap();
    assert_eq!(walk.info().segment, SegmentId(3));
    let frames: Vec<_> = walk.by_ref().collect();
    assert!(frames[0].starts_write && frames[0].position == 4096);
    assert_eq!(frames[0].frame.header().base_offset, walk.info().base_offset);
    assert_eq!(walk.stop(), Some(&Stop::End));
    let checkpoint = inspect::checkpoint(&bytes(FileName::Checkpoint)).unwrap();
    assert_eq!((checkpoint.durable_end, checkpoint.segments.len()), (Offset(200), 3));
    let index = inspect::index(&bytes(FileName::Index(SegmentId(1)))).unwrap();
    assert_eq!(index.segment, SegmentId(1));
    assert!(!index.entries.is_empty());
}

#[test]
fn foreign_bytes_get_an_answer() {
    assert_eq!(SegmentWalk::open(Bytes::new()).unwrap_err(), SegmentError::NeverWritten);
    assert_eq!(SegmentWalk::open(Bytes::from(vec![0; 8192])).unwrap_err(), SegmentError::NeverWritten);
    assert!(SegmentWalk::open(Bytes::from(vec![7; 8192])).is_err());
    assert!(inspect::checkpoint(&Bytes::from_static(b"MSCHKPNT")).is_err());
    assert!(inspect::index(b"").is_err());
}

/// An index given back when its log idled was followed, at the close, by one that began at the end and held no
/// frame: its one entry pointed at the end itself, and the file could not be read any more.
#[test]
fn index_of_a_log_that_idled_before_it_was_closed_is_whole() {
    let mut rig = Rig::opened(LogConfig { segment_bytes: 64 << 20, ..config() });
    for n in 0..40 {
        rig.append_durably(1, n, vec![n as u8; 100_000]);
    }
    rig.tick_and_settle(std::time::Duration::from_secs(6));
    rig.close();
    for (name, bytes) in &rig.files() {
        if matches!(name, FileName::Index(_)) {
            assert!(inspect::index(bytes).is_ok(), "{name}: {:?}", inspect::index(bytes));
        }
    }
}
