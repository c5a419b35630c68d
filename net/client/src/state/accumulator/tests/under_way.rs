//! How much is under way at once.

use super::*;

/// Batches of one record of `value_bytes` that go out before an answer comes.
fn sent_unanswered(in_flight_max: usize, value_bytes: usize) -> usize {
    let mut settings =
        AccumulatorSettings { batch_bytes_max: 1, memory_bytes_max: 16 << 20, ..settings(true) };
    settings.lane.in_flight_max = in_flight_max;
    let mut one = One::new(settings);
    one.accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 1, 1 << 20);
    let value = vec![0; value_bytes];
    for _ in 0..80 {
        one.put(0, &value);
    }
    one.step(0).expect("the first");
    assert!(one.step(0).is_err(), "one until something was stored");
    one.answer(Ok(produced(0, false)));
    std::iter::from_fn(|| one.step(0).ok()).count()
}

#[test]
fn small_batches_are_under_way_up_to_their_number_and_large_ones_up_to_their_bytes() {
    assert_eq!(sent_unanswered(64, 100), 64);
    assert_eq!(sent_unanswered(3, 100), 3);
    assert_eq!(sent_unanswered(64, 100_000), 5);
    // The last one may go over 128 KiB, none follows it.
    assert!((12..=13).contains(&sent_unanswered(64, 10_000)));
}

/// Of `count` records of `value_bytes`, one every `every_us`, those after which lanes get a turn.
fn turns(count: u64, value_bytes: usize, every_us: u64) -> Vec<u64> {
    let mut one = One::new(AccumulatorSettings { memory_bytes_max: 16 << 20, ..settings(true) });
    one.accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 1, 1 << 20);
    let value = vec![0; value_bytes];
    let is_turn = |at: &u64| {
        let (now, record) = (Duration::from_micros(at * every_us), Record::new("t", &value));
        one.accumulator.append(now, &record, TimestampMs(0)).expect("room").is_lanes_turn
    };
    (0..count).filter(is_turn).collect()
}

#[test]
fn woken_lanes_get_a_turn_after_so_many_bytes_or_so_long() {
    assert_eq!(turns(3, 20_000, 0), [0, 1, 2]);
    let small = turns(400, 100, 0);
    let distances: Vec<u64> = small.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(!distances.is_empty() && distances.iter().all(|far| (100..180).contains(far)), "{small:?}");
    // Nothing fills a batch of 512 bytes, and the lane has waited since the first record.
    assert_eq!(turns(3, 10, 600), [2]);
}
