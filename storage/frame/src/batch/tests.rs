use super::*;
use proptest::prelude::*;

type Owned = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn build(records: &[Owned]) -> Frame {
    let mut builder = BatchBuilder::new();
    for (ts, key, value, headers) in records {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        builder.push(TimestampMs(*ts), key.as_deref(), value.as_deref(), headers).unwrap();
    }
    let bytes_foreseen = builder.frame_bytes();
    let frame = builder.seal(None);
    assert!(HEADER_BYTES + frame.payload().len() <= bytes_foreseen + 16);
    frame
}

fn owned(view: &BatchView) -> Vec<Owned> {
    view.records()
        .map(|record| {
            let record = record.unwrap();
            let headers = record.headers().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect();
            (record.timestamp.0, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers)
        })
        .collect()
}

#[test]
fn null_and_empty_stay_apart() {
    let records = vec![
        (5, None, Some(vec![]), vec![]),
        (6, Some(vec![]), None, vec![("h".to_owned(), None), (String::new(), Some(vec![]))]),
    ];
    assert_eq!(owned(&BatchView::open(&build(&records)).unwrap()), records);
}

#[test]
fn append_time_stands_for_every_record() {
    let mut frame = build(&[(1, None, None, vec![]), (2, None, None, vec![])]);
    frame.set_append_time(TimestampMs(99));
    let view = BatchView::open(&frame).unwrap();
    assert!(view.records().all(|r| r.unwrap().timestamp == TimestampMs(99)));
}

#[test]
fn timestamps_too_far_apart_ask_for_a_new_batch() {
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(0), None, None, []).unwrap();
    assert_eq!(builder.push(TimestampMs(i64::MAX), None, None, []), Err(PushError::TimestampSpan));
    assert_eq!(builder.record_count(), 1);
}

#[test]
fn count_in_the_header_must_agree() {
    let frame = build(&[(1, None, None, vec![])]);
    let mut header = *frame.header();
    header.record_count = 2;
    let refused = BatchView::open_plain(header, frame.payload().clone());
    assert_eq!(refused.unwrap_err(), BatchError::Count { index: 1, header: 2 });
}

#[test]
fn what_compaction_leaves_keeps_its_offsets() {
    let records: Vec<Owned> = (0..6)
        .map(|n| (n, Some(vec![n as u8; 3]), (n != 3).then(|| vec![n as u8]), vec![("h".to_owned(), None)]))
        .collect();
    let mut frame = build(&records);
    frame.assign(Offset(100), LeaderEpoch(2));
    let whole = BatchView::open(&frame).unwrap();
    let part = whole.retain(&[1, 3, 4], |_| (Codec::None, None)).unwrap();
    assert_eq!((part.header().base_offset, part.header().end_offset()), (Offset(100), Offset(106)));
    assert_eq!(part.header().max_timestamp, TimestampMs(4));
    let mut stored = bytes::BytesMut::new();
    part.write_to(crate::Salt(3), &mut stored);
    let part = Frame::split_from(&mut stored.freeze(), crate::Salt(3)).unwrap();
    let view = BatchView::open(&part).unwrap();
    assert_eq!(owned(&view), [records[1].clone(), records[3].clone(), records[4].clone()]);
    let offsets: Vec<u64> = view.records().map(|record| record.unwrap().offset.0).collect();
    assert_eq!(offsets, [101, 103, 104]);
    assert_eq!([0, 2, 3, 5].map(|delta| view.index_from(delta)), [0, 1, 1, 3]);
    assert_eq!(view.record(2).unwrap().offset, Offset(104));

    let again = view.retain(&[4], |_| (Codec::None, None)).unwrap();
    let view = BatchView::open(&again).unwrap();
    assert_eq!((owned(&view), view.record_count()), (vec![records[4].clone()], 1));
    let none = view.retain(&[], |_| (Codec::None, None)).unwrap();
    assert!(none.header().has_no_records() && none.header().end_offset() == Offset(106));
    assert_eq!(BatchView::open(&none).unwrap().records().count(), 0);
}

#[test]
fn offsets_of_a_batch_with_holes_rise_and_stay_inside() {
    let frame = build(&[(1, None, None, vec![]), (2, None, None, vec![])]);
    let part = BatchView::open(&frame).unwrap().retain(&[0, 1], |_| (Codec::None, None)).unwrap();
    let header = FrameHeader { record_count: 1, ..*part.header() };
    let refused = BatchView::open_plain(header, part.payload().clone());
    assert_eq!(refused.unwrap_err(), BatchError::Offsets { index: 2, header: 1 });
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))
}

proptest! {
    #[test]
    fn records_come_back_as_they_went_in(
        records in proptest::collection::vec(
            (0i64..1_000_000, bytes(), bytes(), proptest::collection::vec(("[a-z]{0,8}", bytes()), 0..3)),
            1..20,
        )
    ) {
        prop_assert_eq!(owned(&BatchView::open(&build(&records)).unwrap()), records);
    }

    #[test]
    fn damaged_payloads_never_panic(at in 0usize..200, to in any::<u8>()) {
        let frame = build(&[(1, Some(vec![1; 30]), Some(vec![2; 30]), vec![("n".into(), Some(vec![3]))]), (2, None, None, vec![])]);
        let mut payload = frame.payload().to_vec();
        let at = at % payload.len();
        payload[at] = to;
        if let Ok(view) = BatchView::open_plain(*frame.header(), Bytes::from(payload)) {
            for record in view.records().flatten() {
                record.headers().for_each(drop);
            }
            let _ = view.record(1);
        }
    }
}

#[test]
fn what_is_left_of_a_batch_that_no_longer_fits_a_frame_is_refused() {
    let mut builder = BatchBuilder::new();
    // Small records, so that 4 bytes more for each matter.
    let value = [7; 48];
    while builder.frame_bytes() < FRAME_BYTES_MAX - 4096 {
        builder.push(TimestampMs(1), Some(b"k"), Some(&value), []).unwrap();
    }
    let frame = builder.seal(None);
    let kept: Vec<u32> = (1..frame.header().record_count).collect();
    let left = BatchView::open(&frame).unwrap().retain(&kept, |_| (Codec::None, None));
    assert!(matches!(left, Err(BatchError::TooLarge { .. })), "{:?}", left.map(|frame| *frame.header()));
}
