//! storage/recordbatch: Kafka's batches on their way in and out, and archived ones on their way to Kafka's clients.

use std::hint::black_box;

use storage_frame::{FRAME_BYTES_MAX, Frame, LeaderEpoch, Offset};
use storage_recordbatch::{BatchHeader, Records, from_archived, served, to_frame};

use crate::batches::Shape;
use crate::case::{Case, Step};

const SMALL_16: Shape = Shape::new(100, 16 << 10);
const SMALL_256: Shape = Shape::new(100, 256 << 10);
const LARGE_16: Shape = Shape::new(1 << 10, 16 << 10);
const LARGE_256: Shape = Shape::new(1 << 10, 256 << 10);

pub(super) const CASES: &[Case] = &[
    case("recordbatch/check 16 KiB", LARGE_16, || check(LARGE_16)),
    case("recordbatch/check 256 KiB", LARGE_256, || check(LARGE_256)),
    case("recordbatch/to frame 16 KiB", LARGE_16, || frame(LARGE_16)),
    case("recordbatch/to frame 256 KiB", LARGE_256, || frame(LARGE_256)),
    case("recordbatch/serve 256 KiB", LARGE_256, || serve(LARGE_256)),
    case("recordbatch/serve 256 KiB, append time", LARGE_256, || serve_with_time(LARGE_256)),
    case("recordbatch/walk 100 B in 16 KiB", SMALL_16, || walk(SMALL_16)),
    case("recordbatch/walk 100 B in 256 KiB", SMALL_256, || walk(SMALL_256)),
    case("recordbatch/walk 1 KiB in 16 KiB", LARGE_16, || walk(LARGE_16)),
    case("recordbatch/walk 1 KiB in 256 KiB", LARGE_256, || walk(LARGE_256)),
    case("recordbatch/from archived 100 B in 16 KiB", SMALL_16, || convert(SMALL_16)),
    case("recordbatch/from archived 100 B in 256 KiB", SMALL_256, || convert(SMALL_256)),
    case("recordbatch/from archived 1 KiB in 16 KiB", LARGE_16, || convert(LARGE_16)),
    case("recordbatch/from archived 1 KiB in 256 KiB", LARGE_256, || convert(LARGE_256)),
];

const fn case(name: &'static str, shape: Shape, prepare: fn() -> Step) -> Case {
    Case { name, records: shape.records, warm_up: 3, steps: 10, prepare }
}

/// Its header and its checksum.
fn check(shape: Shape) -> Step {
    let batch = shape.kafka();
    Box::new(move |meter| {
        let header = meter.count(|| BatchHeader::check(&batch));
        black_box(header.expect("whole"));
    })
}

/// The check, and the frame's own checksum.
fn frame(shape: Shape) -> Step {
    let batch = shape.kafka();
    Box::new(move |meter| {
        let batch = batch.clone();
        let frame = meter.count(|| to_frame(batch));
        black_box(frame.expect("a client may send it"));
    })
}

fn serve(shape: Shape) -> Step {
    serving(placed(shape.kafka_frame()))
}

/// With a new checksum that follows from the old one.
fn serve_with_time(shape: Shape) -> Step {
    let mut frame = placed(shape.kafka_frame());
    let at = frame.header().max_timestamp;
    frame.set_append_time(at);
    serving(frame)
}

fn serving(frame: Frame) -> Step {
    Box::new(move |meter| {
        let served = meter.count(|| served(&frame));
        black_box(served.expect("a batch of Kafka's"));
    })
}

fn placed(mut frame: Frame) -> Frame {
    frame.assign(Offset(1000), LeaderEpoch(7));
    frame
}

/// Opens the batch and reads every record's key and value in place.
fn walk(shape: Shape) -> Step {
    let frame = placed(shape.kafka_frame());
    Box::new(move |meter| {
        let bytes = meter.count(|| {
            let records = Records::open(&frame, FRAME_BYTES_MAX).expect("a batch of Kafka's");
            let bytes = records.iter().map(|record| {
                let record = record.expect("whole");
                record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
            });
            bytes.sum::<usize>()
        });
        assert_eq!(bytes, shape.record_bytes * shape.records as usize);
    })
}

/// What a Kafka client's fetch of a native batch costs.
fn convert(shape: Shape) -> Step {
    let frame = placed(shape.archived());
    Box::new(move |meter| {
        let batch = meter.count(|| from_archived(&frame));
        black_box(batch.expect("it fits"));
    })
}
