//! storage/frame: sealing and checking frames, building and walking archived batches.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use storage_frame::{BatchBuilder, BatchView, Frame, Salt};

use crate::batches::Shape;
use crate::case::{Case, Step};

const SMALL_16: Shape = Shape::new(100, 16 << 10);
const SMALL_256: Shape = Shape::new(100, 256 << 10);
const LARGE_16: Shape = Shape::new(1 << 10, 16 << 10);
const LARGE_256: Shape = Shape::new(1 << 10, 256 << 10);

pub(super) const CASES: &[Case] = &[
    case("frame/encode 16 KiB", LARGE_16, || encode(LARGE_16)),
    case("frame/encode 256 KiB", LARGE_256, || encode(LARGE_256)),
    case("frame/verify 16 KiB", LARGE_16, || verify(LARGE_16)),
    case("frame/verify 256 KiB", LARGE_256, || verify(LARGE_256)),
    case("frame/build 100 B in 16 KiB", SMALL_16, || build(SMALL_16)),
    case("frame/build 100 B in 256 KiB", SMALL_256, || build(SMALL_256)),
    case("frame/build 1 KiB in 16 KiB", LARGE_16, || build(LARGE_16)),
    case("frame/build 1 KiB in 256 KiB", LARGE_256, || build(LARGE_256)),
    case("frame/walk 100 B in 16 KiB", SMALL_16, || walk(SMALL_16)),
    case("frame/walk 100 B in 256 KiB", SMALL_256, || walk(SMALL_256)),
    case("frame/walk 1 KiB in 16 KiB", LARGE_16, || walk(LARGE_16)),
    case("frame/walk 1 KiB in 256 KiB", LARGE_256, || walk(LARGE_256)),
];

const fn case(name: &'static str, shape: Shape, prepare: fn() -> Step) -> Case {
    Case { name, records: shape.records, warm_up: 3, steps: 10, prepare }
}

/// Both checksums, header and payload to where they are gathered.
fn encode(shape: Shape) -> Step {
    let frame = shape.archived();
    let mut out = BytesMut::with_capacity(frame.header().frame_bytes());
    Box::new(move |meter| {
        out.clear();
        let payload = frame.payload().clone();
        meter.count(|| Frame::seal(*frame.header(), payload).write_to(Salt::NONE, &mut out));
        black_box(&out);
    })
}

/// Both checksums.
fn verify(shape: Shape) -> Step {
    let mut bytes = BytesMut::new();
    shape.archived().write_to(Salt::NONE, &mut bytes);
    let bytes = bytes.freeze();
    Box::new(move |meter| {
        let mut bytes: Bytes = bytes.clone();
        let frame = meter.count(|| Frame::split_from(&mut bytes, Salt::NONE));
        black_box(frame.expect("whole"));
    })
}

/// As a producer does, with a builder that is used again.
fn build(shape: Shape) -> Step {
    let records = shape.records();
    let mut builder = BatchBuilder::new();
    Box::new(move |meter| {
        let frame = meter.count(|| {
            for record in &records {
                builder.push(record.timestamp, Some(&record.key), Some(&record.value), []).expect("it fits");
            }
            builder.seal(None)
        });
        black_box(frame);
    })
}

/// Opens the batch and reads every record's key and value in place.
fn walk(shape: Shape) -> Step {
    let frame = shape.archived();
    Box::new(move |meter| {
        let bytes = meter.count(|| {
            let view = BatchView::open(&frame).expect("an archived batch");
            let bytes = view.records().map(|record| {
                let record = record.expect("whole");
                record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
            });
            bytes.sum::<usize>()
        });
        assert_eq!(bytes, shape.record_bytes * shape.records as usize);
    })
}
