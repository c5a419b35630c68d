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
