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
