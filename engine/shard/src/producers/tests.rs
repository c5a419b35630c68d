use storage_frame::{Codec, Encoding, LeaderEpoch, TimestampMs};

use super::*;

const NOW: Duration = Duration::from_secs(1);
const ROOM: Room = Room { producers_max: PRODUCERS_MAX, is_crowded: false };

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
fn batches_follow_each_other_and_what_was_stored_is_known_again() {
    let mut producers = Producers::default();
    for number in 0..6u32 {
        check(&producers, 0, number * 10, 10, Verdict::New);
        producers.note(NOW, &header(7, 0, number * 10, 10, 100 + u64::from(number) * 10), ROOM);
    }
    for number in 0..6u32 {
        check(&producers, 0, number * 10, 10, Verdict::Duplicate(Offset(100 + u64::from(number) * 10)));
    }
    check(&producers, 0, 50, 9, Verdict::Duplicate(Offset(150)));
    check(&producers, 0, 50, 11, Verdict::OutOfSequence { expected: 60 });
    check(&producers, 0, 70, 10, Verdict::OutOfSequence { expected: 60 });
    assert_eq!(producers.by_id[&7].runs.len(), 1);
}

/// Between each two batches of it something else is stored.
fn store_interleaved(producers: &mut Producers, numbers: std::ops::Range<u32>, room: Room) {
    for number in numbers {
        producers.note(NOW, &header(7, 0, number * 10, 10, u64::from(number) * 15), room);
    }
}

#[test]
fn as_many_batches_as_may_be_on_the_way_are_known_again_among_those_of_others() {
    let in_flight = IN_FLIGHT_BATCHES_MAX as u32;
    let mut producers = Producers::default();
    store_interleaved(&mut producers, 0..in_flight + 1, ROOM);
    for number in 1..=in_flight {
        check(&producers, 0, number * 10, 10, Verdict::Duplicate(Offset(u64::from(number) * 15)));
    }
    let expected = (in_flight + 1) * 10;
    check(&producers, 0, 0, 10, Verdict::OutOfSequence { expected });
    // Of two that do not follow each other in the log.
    check(&producers, 0, 15, 10, Verdict::OutOfSequence { expected });
}

#[test]
fn where_many_are_remembered_a_kafka_clients_batches_are_known_again() {
    let crowded = Room { is_crowded: true, ..ROOM };
    let mut producers = Producers::default();
    store_interleaved(&mut producers, 0..20, ROOM);
    store_interleaved(&mut producers, 20..21, crowded);
    assert_eq!(producers.by_id[&7].runs.len(), 5);
    check(&producers, 0, 160, 10, Verdict::Duplicate(Offset(240)));
    check(&producers, 0, 150, 10, Verdict::OutOfSequence { expected: 210 });
}

#[test]
fn a_run_ends_before_sequences_come_again() {
    let mut producers = Producers::default();
    let count = 1 << 20;
    let batches = RUN_RECORDS_MAX / count * 3;
    for number in 0..batches {
        producers.note(NOW, &header(7, 0, number * count, count, u64::from(number * count)), ROOM);
    }
    assert_eq!(producers.by_id[&7].runs.len(), 3);
    check(&producers, 0, 0, count, Verdict::Duplicate(Offset(0)));
    check(&producers, 0, batches * count, count, Verdict::New);
}

#[test]
fn sequence_wraps_at_two_to_the_31() {
    let mut producers = Producers::default();
    let last = i32::MAX as u32;
    producers.note(NOW, &header(7, 0, last - 1, 2, 0), ROOM);
    check(&producers, 0, 0, 1, Verdict::New);
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, last - 1, 5, 0), ROOM);
    check(&producers, 0, 3, 1, Verdict::New);
    check(&producers, 0, last, 2, Verdict::Duplicate(Offset(1)));
    check(&producers, 0, 1, 2, Verdict::Duplicate(Offset(3)));
}

#[test]
fn a_count_that_no_client_sends_ends_a_run() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), ROOM);
    producers.note(NOW, &header(7, 0, 10, u32::MAX, 10), ROOM);
    assert_eq!(producers.by_id[&7].runs.len(), 2);
}

#[test]
fn unknown_producer_may_start_anywhere() {
    check(&Producers::default(), 3, 12345, 1, Verdict::New);
}

#[test]
fn newer_epoch_starts_at_zero_and_fences_the_older() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 1, 0, 5, 0), ROOM);
    check(&producers, 2, 5, 1, Verdict::OutOfSequence { expected: 0 });
    check(&producers, 2, 0, 1, Verdict::New);
    producers.note(NOW, &header(7, 2, 0, 1, 5), ROOM);
    check(&producers, 1, 5, 1, Verdict::Fenced { current: 2 });
    check(&producers, 2, 1, 1, Verdict::New);
}

#[test]
fn state_and_headers_after_it_rebuild_the_same_answers() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), ROOM);
    producers.note(NOW, &header(8, 0, 0, 1, 10), ROOM);
    let state = producers.encode(NOW);
    let rebuilt = Producers::recover(Some(&state), &[header(7, 0, 10, 10, 11)], Offset(21), NOW, ROOM)
        .expect("own state");
    check(&rebuilt, 0, 0, 10, Verdict::Duplicate(Offset(0)));
    check(&rebuilt, 0, 10, 10, Verdict::Duplicate(Offset(11)));
    check(&rebuilt, 0, 20, 1, Verdict::New);
}

#[test]
fn state_past_the_logs_end_is_left_out() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), ROOM);
    producers.note(NOW, &header(7, 0, 10, 10, 10), ROOM);
    let state = producers.encode(NOW);
    let rebuilt = Producers::recover(Some(&state), &[], Offset(10), NOW, ROOM).expect("own state");
    check(&rebuilt, 0, 10, 10, Verdict::New);
    check(&rebuilt, 0, 0, 10, Verdict::Duplicate(Offset(0)));
    let rebuilt = Producers::recover(Some(&state), &[], Offset(0), NOW, ROOM).expect("own state");
    assert!(rebuilt.is_empty());
}

#[test]
fn a_run_that_the_logs_end_cuts_ends_there() {
    let mut producers = Producers::default();
    store_interleaved(&mut producers, 0..4, ROOM);
    let state = producers.encode(NOW);
    // In the middle of the third.
    let rebuilt = Producers::recover(Some(&state), &[], Offset(35), NOW, ROOM).expect("own state");
    check(&rebuilt, 0, 10, 10, Verdict::Duplicate(Offset(15)));
    check(&rebuilt, 0, 20, 5, Verdict::Duplicate(Offset(30)));
    check(&rebuilt, 0, 25, 5, Verdict::New);
    check(&rebuilt, 0, 30, 10, Verdict::OutOfSequence { expected: 25 });
}

/// As builds that remembered five batches wrote it.
#[test]
fn state_of_an_older_build_is_read() {
    #[derive(Archive, Serialize)]
    struct Batch {
        base_sequence: u32,
        record_count: u32,
        base_offset: u64,
    }
    #[derive(Archive, Serialize)]
    struct OfProducer {
        id: u64,
        epoch: u16,
        batches: Vec<Batch>,
    }
    let batch = |number: u32| Batch {
        base_sequence: number * 10,
        record_count: 10,
        base_offset: u64::from(number) * 15,
    };
    let stored = vec![OfProducer { id: 7, epoch: 0, batches: (0..5).map(batch).collect() }];
    let mut state = vec![FORMAT_OF_BATCHES];
    state.extend_from_slice(&rkyv::to_bytes::<rkyv::rancor::Error>(&stored).expect("small"));
    let rebuilt = Producers::recover(Some(&state), &[], Offset(100), NOW, ROOM).expect("older state");
    check(&rebuilt, 0, 0, 10, Verdict::Duplicate(Offset(0)));
    check(&rebuilt, 0, 40, 10, Verdict::Duplicate(Offset(60)));
    check(&rebuilt, 0, 50, 10, Verdict::New);
}

#[test]
fn damaged_state_is_noticed() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 10, 0), ROOM);
    let state = producers.encode(NOW);
    assert!(Producers::recover(Some(&state[..state.len() - 1]), &[], Offset(10), NOW, ROOM).is_none());
    assert!(Producers::recover(Some(&[9, 9]), &[], Offset(10), NOW, ROOM).is_none());
}

#[test]
fn producers_are_bounded_and_the_longest_silent_go_first() {
    let mut producers = Producers::default();
    for id in 1..=3 * PRODUCERS_MAX as u64 {
        producers.note(NOW, &header(id, 0, 0, 1, id), ROOM);
        assert!(producers.by_id.len() <= PRODUCERS_MAX);
    }
    assert!(!producers.by_id.contains_key(&1));
    assert!(producers.by_id.contains_key(&(3 * PRODUCERS_MAX as u64)));
    assert!(producers.by_id.len() >= PRODUCERS_MAX / 8 * 7 - 1);
}

#[test]
fn producer_silent_for_a_day_is_forgotten() {
    let mut producers = Producers::default();
    producers.note(NOW, &header(7, 0, 0, 1, 0), ROOM);
    producers.encode(NOW + PRODUCER_SILENCE_MAX - Duration::from_secs(1));
    assert!(!producers.is_empty());
    producers.encode(NOW + PRODUCER_SILENCE_MAX);
    assert!(producers.is_empty());
}
