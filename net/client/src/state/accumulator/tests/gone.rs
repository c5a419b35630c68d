//! Topics that were deleted while something was under way to them.

use super::*;

#[test]
fn topic_that_is_gone_refuses_its_records_and_its_lanes_end() {
    let mut accumulator = Accumulator::new(settings(true));
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 2, 1 << 20);
    let append = |accumulator: &mut Accumulator, partition| {
        let record = Record::new("t", b"x").partition(partition);
        accumulator.append(Duration::ZERO, &record, TimestampMs(0)).expect("room")
    };
    let (first, second) = (append(&mut accumulator, 0), append(&mut accumulator, 1));
    accumulator.on_topic_gone(first.lane);
    let gone = DeliveryError::Refused(ProduceError::UnknownPartition);
    assert_eq!(first.delivery.peek(), Some(Err(gone)));
    assert!(accumulator.next_step(first.lane, Duration::ZERO, Link::Down).is_none());
    // The other one has a record of its own to find out with.
    assert!(accumulator.next_step(second.lane, Duration::ZERO, Link::Down).is_some());
    accumulator.set_topic(Duration::ZERO, Duration::ZERO, "t", 2, 1 << 20);
    let anew = append(&mut accumulator, 1);
    assert!(anew.is_new_lane);
    accumulator.on_topic_gone(second.lane);
    assert_eq!(append(&mut accumulator, 1).lane, anew.lane, "not the new topic's");
}

/// The simulator's crowd 887570544294: a batch was stored, its answer lost in a crash, and then the topic deleted.
#[test]
fn topic_that_is_gone_leaves_in_doubt_what_was_sent_and_not_answered() {
    let mut one = One::proven(settings(true));
    let (unanswered, unsent) = (one.append(0, b"stored, perhaps"), one.append(0, &[1; 2_000]));
    one.step(0).expect("a batch goes out");
    one.lose(0);
    one.accumulator.on_topic_gone(0);
    let gone = ProduceError::UnknownPartition;
    assert_eq!(unanswered.peek(), Some(Err(DeliveryError::RefusedOnRetry(gone.clone()))));
    assert_eq!(unsent.peek(), Some(Err(DeliveryError::Refused(gone))));
}

/// What the broker answered for that moment is no doubt.
#[test]
fn topic_that_is_gone_refuses_what_was_answered_so() {
    let mut one = One::proven(settings(true));
    let delivery = one.append(0, b"x");
    one.step(0).expect("a batch goes out");
    one.answer(Err(ProduceError::UnknownPartition));
    one.accumulator.on_topic_gone(0);
    assert_eq!(delivery.peek(), Some(Err(DeliveryError::Refused(ProduceError::UnknownPartition))));
}
