//! Native messages, both directions (`net/wire`): kind, then meta, then bulk.

use bytes::Bytes;
use engine_api::Fetched;
use net_wire::{
    ClientMessage, Kind, Message, MessageReader, ServerMessage, WireError, encode, take_produced_frame,
};
use storage_frame::Salt;

use crate::mend;
use crate::script::Script;

const CORRELATION: u64 = 0x0123_4567_89AB_CDEF;

pub fn messages(data: &[u8]) {
    let mut script = Script::new(data);
    let kind = Kind::ALL[usize::from(script.u8()) % Kind::ALL.len()];
    let meta = Bytes::copy_from_slice(if kind.has_bulk() { script.piece() } else { script.rest() });
    let bulk = script.rest();
    check(&Message {
        kind,
        correlation: CORRELATION,
        meta: meta.clone(),
        bulk: Bytes::copy_from_slice(bulk),
    });
    let bulk = mend::frame(bulk, Salt::NONE).into();
    check(&Message { kind, correlation: CORRELATION, meta, bulk });
}

fn check(message: &Message) {
    let client = message.clone().into_client();
    let server = message.clone().into_server();
    assert!(client.is_err() || server.is_err(), "a message has one direction");
    for error in [client.as_ref().err(), server.as_ref().err()].into_iter().flatten() {
        let refusal = error.refusal();
        assert_eq!(refusal.code, error.code());
        assert!(refusal.cause.len() < 1000 && !refusal.remedy.is_empty());
    }
    if let Ok(client) = client {
        from_client(client);
    }
    if let Ok(server) = server {
        from_server(server);
    }
}

fn from_client(message: ClientMessage) {
    let bytes = match &message {
        ClientMessage::OpenProduce(partition) => encode::open_produce(partition),
        ClientMessage::Produce { acks, bulk } => {
            let Ok(frame) = take_produced_frame(bulk.clone()) else { return };
            let mut chunks = Vec::new();
            encode::produce(CORRELATION, *acks, &frame, &mut chunks);
            let again = only_message(chunks.concat().into()).into_client().expect("our own");
            let ClientMessage::Produce { acks: acks_again, bulk } = again else { panic!("another kind") };
            assert_eq!(acks_again, *acks);
            assert_eq!(take_produced_frame(bulk), Ok(frame));
            return;
        }
        ClientMessage::OpenRead(open) => encode::open_read(CORRELATION, open),
        ClientMessage::Request(request) => encode::request(CORRELATION, request),
    };
    assert_eq!(only_message(bytes).into_client(), Ok(message), "what is written is read back");
}

fn from_server(message: ServerMessage) {
    let bytes = match &message {
        ServerMessage::Produced(result) => encode::produced(CORRELATION, result),
        ServerMessage::ReadOpened(opened) => encode::read_opened(CORRELATION, opened),
        ServerMessage::ReadFailed(error) => encode::read_failed(CORRELATION, error),
        ServerMessage::Response(response) => encode::response(CORRELATION, response),
        ServerMessage::Refused(refusal) => encode::refused(CORRELATION, refusal),
        ServerMessage::Frames(pushed) => {
            let Ok(frames) = pushed.clone().frames() else { return };
            assert_eq!(frames.len(), pushed.frame_count as usize);
            let (log_start, high_watermark) = (pushed.log_start, pushed.high_watermark);
            let fetched = Fetched { log_start, high_watermark, frames };
            let mut chunks = Vec::new();
            let bytes = encode::frames(CORRELATION, &fetched, &mut chunks);
            let chunks = chunks.concat();
            assert_eq!(chunks.len(), bytes);
            let again = only_message(chunks.into()).into_server().expect("our own");
            let ServerMessage::Frames(again) = again else { panic!("another kind") };
            assert_eq!((again.log_start, again.high_watermark), (log_start, high_watermark));
            assert_eq!(again.frames(), Ok(fetched.frames));
            return;
        }
    };
    assert_eq!(only_message(bytes).into_server(), Ok(message), "what is written is read back");
}

/// What is written is one message and nothing behind it.
fn only_message(mut bytes: Bytes) -> Message {
    let mut reader = MessageReader::new(net_wire::MESSAGE_BYTES_MAX);
    let message = reader.read(&mut bytes).expect("our own").expect("a whole one");
    assert!(bytes.is_empty() && reader.end() == Ok::<(), WireError>(()));
    message
}
