//! net/wire: messages to bytes, and bytes in datagram-sized pieces to messages and frames.

use std::hint::black_box;

use bytes::Bytes;
use engine_api::{
    Acks, Durability, Fetched, FindOffset, PartitionId, Place, Produced, Request, StageTimings, TopicId,
};
use net_wire::{ClientMessage, ServerMessage};
use net_wire::{MESSAGE_BYTES_MAX, Message, MessageReader, encode, take_produced_frame};
use storage_frame::{LeaderEpoch, Offset, TimestampMs};

use crate::batches::Shape;
use crate::case::{Case, Step};

const PARTITION: PartitionId = PartitionId { topic: TopicId(77), index: 1 };
/// What a datagram of 6500 bytes brings of a stream.
const PIECE_BYTES: usize = 6440;

const RECORD: Shape = Shape::one(100);
const BATCH_16: Shape = Shape::new(1 << 10, 16 << 10);
const BATCH_256: Shape = Shape::new(1 << 10, 256 << 10);

pub(super) const CASES: &[Case] = &[
    case("wire/encode request", 0, encode_request),
    case("wire/decode request", 0, decode_request),
    case("wire/encode produced", 0, encode_produced),
    case("wire/decode produced", 0, decode_produced),
    case("wire/encode produce 100 B", 1, || encode_produce(RECORD)),
    case("wire/encode produce 16 KiB", 16, || encode_produce(BATCH_16)),
    case("wire/encode produce 256 KiB", 256, || encode_produce(BATCH_256)),
    case("wire/decode produce 100 B", 1, || decode_produce(RECORD)),
    case("wire/decode produce 16 KiB", 16, || decode_produce(BATCH_16)),
    case("wire/decode produce 256 KiB", 256, || decode_produce(BATCH_256)),
    case("wire/encode push of 100 frames of 100 B", 100, || encode_frames(RECORD, 100)),
    case("wire/encode push of 256 KiB", 256, || encode_frames(BATCH_256, 1)),
    case("wire/decode push of 100 frames of 100 B", 100, || decode_frames(RECORD, 100)),
    case("wire/decode push of 256 KiB", 256, || decode_frames(BATCH_256, 1)),
];

const fn case(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 3, steps: 20, prepare }
}

fn find_offset() -> Request {
    Request::FindOffset(FindOffset { partition: PARTITION, place: Place::Timestamp(TimestampMs(1)) })
}

fn encode_request() -> Step {
    let request = find_offset();
    Box::new(move |meter| {
        let bytes = meter.count(|| encode::request(3, &request));
        black_box(bytes);
    })
}

fn decode_request() -> Step {
    decoding(encode::request(3, &find_offset()), |message| {
        assert!(matches!(message.into_client(), Ok(ClientMessage::Request(_))));
    })
}

fn produced() -> Produced {
    Produced {
        base_offset: Offset(12_345),
        leader_epoch: LeaderEpoch(1),
        durability: Durability::AllDisks,
        append_time: None,
        duplicate: false,
        timings: StageTimings::default(),
    }
}

fn encode_produced() -> Step {
    Box::new(move |meter| {
        let bytes = meter.count(|| encode::produced(3, &Ok(produced())));
        black_box(bytes);
    })
}

fn decode_produced() -> Step {
    decoding(encode::produced(3, &Ok(produced())), |message| {
        assert!(matches!(message.into_server(), Ok(ServerMessage::Produced(Ok(_)))));
    })
}

fn encode_produce(shape: Shape) -> Step {
    let frame = shape.archived();
    let mut chunks = Vec::new();
    Box::new(move |meter| {
        chunks.clear();
        meter.count(|| encode::produce(3, Acks::All, &frame, &mut chunks));
        black_box(&chunks);
    })
}

/// To the frame, its checksums verified.
fn decode_produce(shape: Shape) -> Step {
    let mut chunks = Vec::new();
    encode::produce(3, Acks::All, &shape.archived(), &mut chunks);
    decoding(chunks.concat().into(), |message| {
        let Ok(ClientMessage::Produce { bulk, .. }) = message.into_client() else { panic!("a produce") };
        black_box(take_produced_frame(bulk).expect("whole"));
    })
}

fn push(shape: Shape, count: usize) -> Fetched {
    let frames = vec![shape.archived(); count];
    Fetched { log_start: Offset(0), high_watermark: Offset(1_000), frames }
}

fn encode_frames(shape: Shape, count: usize) -> Step {
    let fetched = push(shape, count);
    let mut chunks = Vec::new();
    Box::new(move |meter| {
        chunks.clear();
        meter.count(|| encode::frames(3, &fetched, &mut chunks));
        black_box(&chunks);
    })
}

/// To the frames, their checksums verified.
fn decode_frames(shape: Shape, count: usize) -> Step {
    let mut chunks = Vec::new();
    encode::frames(3, &push(shape, count), &mut chunks);
    decoding(chunks.concat().into(), move |message| {
        let Ok(ServerMessage::Frames(frames)) = message.into_server() else { panic!("a push") };
        assert_eq!(frames.frames().expect("whole").len(), count);
    })
}

/// One message that comes in pieces.
fn decoding(bytes: Bytes, decode: impl Fn(Message) + 'static) -> Step {
    let mut reader = MessageReader::new(MESSAGE_BYTES_MAX);
    Box::new(move |meter| {
        let mut pieces: Vec<Bytes> = bytes.chunks(PIECE_BYTES).map(Bytes::copy_from_slice).collect();
        meter.count(|| {
            for piece in &mut pieces {
                if let Some(message) = reader.read(piece).expect("a message") {
                    decode(message);
                }
            }
        });
        reader.end().expect("a whole message");
    })
}
