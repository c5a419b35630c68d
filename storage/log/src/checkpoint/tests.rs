use super::*;
use crate::segment::{FIRST_FRAME, NO_TIMESTAMP};

fn checkpoint() -> Checkpoint {
    let sealed = Segment {
        id: SegmentId(4),
        generation: 9,
        base: Offset(100),
        previous_end: 0,
        end_position: 65_536,
        max_timestamp: TimestampMs(55),
        created: TimestampMs(50),
        stands_for: None,
        tombstones_at: None,
    };
    let durable = Point {
        segment: SegmentId(5),
        position: FIRST_FRAME,
        offset: Offset(900),
        epoch: LeaderEpoch(3),
        max_timestamp: NO_TIMESTAMP,
    };
    Checkpoint {
        sequence: 12,
        start: Offset(150),
        clean: true,
        scan: Point {
            segment: SegmentId(4),
            position: 8192,
            offset: Offset(300),
            epoch: LeaderEpoch(2),
            max_timestamp: TimestampMs(54),
        },
        durable,
        write_bytes_max: 1 << 20,
        app_state: Some(Bytes::from_static(b"producers")),
        clean_end: Offset::ZERO,
        segments: vec![
            sealed,
            Segment { previous_end: 65_536, ..Segment::planned(SegmentId(5), Offset(900)) },
        ],
    }
}

/// Segment 4 stands where 2 to 4 did, so that 3 is where state of before may begin.
fn compacted() -> Checkpoint {
    let mut checkpoint = checkpoint();
    checkpoint.clean_end = Offset(700);
    checkpoint.scan = checkpoint.durable;
    checkpoint.segments[0].id = SegmentId((1 << 31) + 3);
    checkpoint.segments[0].stands_for = Some((SegmentId(2), SegmentId(4)));
    checkpoint.segments[0].tombstones_at = Some(TimestampMs(49));
    checkpoint
}

#[test]
fn only_a_compacted_log_has_a_checkpoint_older_builds_refuse() {
    assert_eq!(checkpoint().encode(LogId(3))[8], 1);
    assert_eq!(compacted().encode(LogId(3))[8], 2);
    for of in [(3, 5), (2, 3), (4, 2)] {
        let mut bad = compacted();
        bad.segments[0].stands_for = Some((SegmentId(of.0), SegmentId(of.1)));
        let is_whole = of == (2, 4);
        assert_eq!(Checkpoint::decode(&bad.encode(LogId(3)), LogId(3)).is_ok(), is_whole, "{of:?}");
    }
}

#[test]
fn checkpoint_comes_back_and_flipped_bytes_are_noticed() {
    for checkpoint in [checkpoint(), compacted()] {
        comes_back_and_flipped_bytes_are_noticed(&checkpoint);
    }
}

fn comes_back_and_flipped_bytes_are_noticed(checkpoint: &Checkpoint) {
    let file = checkpoint.encode(LogId(3));
    assert_eq!(Checkpoint::decode(&file, LogId(3)).unwrap(), *checkpoint);
    assert!(Checkpoint::decode(&file, LogId(4)).is_err());
    for at in 0..file.len() {
        let mut bad = file.to_vec();
        bad[at] ^= 1;
        assert!(Checkpoint::decode(&Bytes::from(bad), LogId(3)).is_err(), "byte {at}");
    }
    for cut in 0..file.len() {
        assert!(Checkpoint::decode(&file.slice(..cut), LogId(3)).is_err(), "cut to {cut}");
    }
}

#[test]
fn newer_format_is_told_apart_from_damage() {
    let mut file = checkpoint().encode(LogId(3)).to_vec();
    close_prefix(&mut file, MAGIC, 3);
    let refused = Checkpoint::decode(&Bytes::from(file), LogId(3)).unwrap_err();
    assert_eq!(refused, FormatError::Newer { version: 3, known: 2 });
}

#[test]
fn empty_state_and_none_stay_apart() {
    for state in [None, Some(Bytes::new())] {
        let file = Checkpoint { app_state: state.clone(), ..checkpoint() }.encode(LogId(3));
        assert_eq!(Checkpoint::decode(&file, LogId(3)).unwrap().app_state, state);
    }
}

/// Fuzzing found checkpoints with right checksums that opening took at their word: a scan from before the base of
/// its segment, an end near 2^64, a write of 2^63 bytes. Each overflowed where positions are added up.
#[test]
fn checkpoint_that_contradicts_itself_is_damaged() {
    let changes: [fn(&mut Checkpoint); 12] = [
        |c| c.segments[0].base = Offset(301),
        |c| c.segments[0].end_position = u64::MAX - 15,
        |c| c.segments[0].end_position = 8000,
        |c| c.segments[0].end_position = 65_537,
        |c| c.segments[1].base = Offset(901),
        |c| c.segments[1].base = Offset(299),
        |c| c.scan.position = 0,
        |c| c.scan.position = 8200,
        |c| c.scan.segment = SegmentId(6),
        |c| c.durable.offset = Offset(u64::MAX),
        |c| c.start = Offset(901),
        |c| c.write_bytes_max = 1 << 63,
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut wrong = checkpoint();
        change(&mut wrong);
        let refused = Checkpoint::decode(&wrong.encode(LogId(3)), LogId(3));
        assert!(matches!(refused, Err(FormatError::Damaged(_))), "change {nth}: {refused:?}");
    }
    let retired = Point { segment: SegmentId(3), offset: Offset(90), ..checkpoint().scan };
    let scanned_before = Checkpoint { scan: retired, ..checkpoint() };
    assert_eq!(Checkpoint::decode(&scanned_before.encode(LogId(3)), LogId(3)), Ok(scanned_before));
}
