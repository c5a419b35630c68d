use storage_frame::{Codec, Encoding, LeaderEpoch, TimestampMs};

use super::*;

const NOW: Duration = Duration::from_secs(1);

fn header(id: u64, epoch: u16, base_sequence: u32, record_count: u32, base_offset: u64) -> FrameHeader {
    FrameHeader {
        encoding: Encoding::Archived,
        codec: Codec::None,
        append_time: false,
        starts_write: false,
        payload_crc: 0,
        payload_bytes: 0,
        base_offset: Offset(base_offset),
        leader_epoch: LeaderEpoch(1),
        record_count,
        first_timestamp: TimestampMs(0),
        max_timestamp: TimestampMs(0),
        producer: Some(Producer { id, epoch, base_sequence }),
        compaction: None,
    }
}

#[track_caller]
fn check(producers: &Producers, epoch: u16, base_sequence: u32, record_count: u32, expect: Verdict) {
    assert_eq!(producers.judge(Producer { id: 7, epoch, base_sequence }, record_count), expect);
}

#[test]
fn batches_follow_each_other_and_the_last_five_are_known_again() {
    let mut producers = Producers::default();
    for number in 0..6u32 {
        check(&producers, 0, number * 10, 10, Verdict::New);
        producers.note(NOW, &header(7, 0, number * 10, 10, 100 + u64::from(number) * 10), PRODUCERS_MAX);
    }
    for number in 1..6u32 {
        check(&producers, 0, number * 10, 10, Verdict::Duplicate(Offset(100 + u64::from(number) * 10)));
    }
    check(&producers, 0, 0, 10, Verdict::OutOfSequence { expected: 60 });
    check(&producers, 0, 70, 10, Verdict::OutOfSequence { expected: 60 });
    check(&producers, 0, 50, 9, Verdict::OutOfSequence { expected: 60 });
}

#[test]
fn sequence_wraps_at_two_to_the_31() {
    let mut producers = Producers::default();
    let last = i32::MAX as u32;
    producers.note(NOW, &header(7, 0, last - 1, 2, 0), PRODUCERS_MAX);
    check(&producers, 0, 0, 1, Verdict::New);
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, last - 1, 5, 0), PRODUCERS_MAX);
    check(&producers, 0, 3, 1, Verdict::New);
}

#[test]
fn unknown_producer_may_start_anywhere() {
    check(&Producers::default(), 3, 12345, 1, Verdict::New);
}

#[test]
fn newer_epoch_starts_at_zero_and_fences_the_older() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 1, 0, 5, 0), PRODUCERS_MAX);
    check(&producers, 2, 5, 1, Verdict::OutOfSequence { expected: 0 });
    check(&producers, 2, 0, 1, Verdict::New);
    producers.note(NOW, &header(7, 2, 0, 1, 5), PRODUCERS_MAX);
    check(&producers, 1, 5, 1, Verdict::Fenced { current: 2 });
    check(&producers, 2, 1, 1, Verdict::New);
}

#[test]
fn state_and_headers_after_it_rebuild_the_same_answers() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), PRODUCERS_MAX);
    producers.note(NOW, &header(8, 0, 0, 1, 10), PRODUCERS_MAX);
    let state = producers.encode(NOW);
    let rebuilt =
        Producers::recover(Some(&state), &[header(7, 0, 10, 10, 11)], Offset(21), NOW).expect("own state");
    check(&rebuilt, 0, 0, 10, Verdict::Duplicate(Offset(0)));
    check(&rebuilt, 0, 10, 10, Verdict::Duplicate(Offset(11)));
    check(&rebuilt, 0, 20, 1, Verdict::New);
}

#[test]
fn state_past_the_logs_end_is_left_out() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), PRODUCERS_MAX);
    producers.note(NOW, &header(7, 0, 10, 10, 10), PRODUCERS_MAX);
    let state = producers.encode(NOW);
    let rebuilt = Producers::recover(Some(&state), &[], Offset(10), NOW).expect("own state");
    check(&rebuilt, 0, 10, 10, Verdict::New);
}

#[test]
fn damaged_state_is_noticed() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), PRODUCERS_MAX);
    let state = producers.encode(NOW);
    assert!(Producers::recover(Some(&state[..state.len() - 1]), &[], Offset(10), NOW).is_none());
    assert!(Producers::recover(Some(&[9, 9]), &[], Offset(10), NOW).is_none());
}

#[test]
fn producers_are_bounded_and_the_longest_silent_go_first() {
    let mut producers = Producers::default();
    for id in 1..=3 * PRODUCERS_MAX as u64 {
        producers.note(NOW, &header(id, 0, 0, 1, id), PRODUCERS_MAX);
        assert!(producers.by_id.len() <= PRODUCERS_MAX);
    }
    assert!(!producers.by_id.contains_key(&1));
    assert!(producers.by_id.contains_key(&(3 * PRODUCERS_MAX as u64)));
    assert!(producers.by_id.len() >= PRODUCERS_MAX / 8 * 7 - 1);
}

#[test]
fn producer_silent_for_a_day_is_forgotten() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 1, 0), PRODUCERS_MAX);
    producers.encode(NOW + PRODUCER_SILENCE_MAX - Duration::from_secs(1));
    assert!(!producers.is_empty());
    producers.encode(NOW + PRODUCER_SILENCE_MAX);
    assert!(producers.is_empty());
}
