//! Messages out of a stream in any chunks (`net/wire`): limit and chunk sizes, then the stream.

use bytes::Bytes;
use net_wire::{MESSAGE_HEADER_BYTES, Message, MessageHeader, MessageReader, WireError};

use crate::script::Script;

/// The bound that `net_wire::reader` states.
const GROWTH: usize = 32;
const GRAIN: usize = 4 << 10;

/// What a stream came to.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    messages: Vec<Message>,
    end: Result<(), WireError>,
}

pub fn assembler(data: &[u8]) {
    let mut script = Script::new(data);
    let bytes_max = [net_wire::MESSAGE_BYTES_MAX, 64 << 10, 1000, 64][usize::from(script.u8() & 3)];
    let sizes = script.bytes(4);
    let stream = script.rest();
    let at_once = in_chunks(stream, bytes_max, &[]);
    assert_eq!(at_once, by_the_page(stream, bytes_max), "read as PROTOCOL.md says");
    assert_eq!(at_once, in_chunks(stream, bytes_max, sizes), "however it is cut up");
}

/// Cut into pieces of `sizes`, over and over; none: all at once.
fn in_chunks(stream: &[u8], bytes_max: usize, sizes: &[u8]) -> Read {
    let mut reader = MessageReader::new(bytes_max);
    let mut messages = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = Bytes::copy_from_slice(stream);
    let mut whole_until = 0;
    let mut given = 0;
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| usize::from(*size).pow(2).max(1));
        let mut chunk = rest.split_to(size.min(rest.len()));
        given += chunk.len();
        loop {
            match reader.read(&mut chunk) {
                Ok(Some(message)) => {
                    messages.push(message);
                    whole_until = given - chunk.len();
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.read(&mut Bytes::from_static(b"x")), Err(error.clone()), "ever after");
                    return Read { messages, end: Err(error) };
                }
            }
            assert_eq!(reader.buffered_bytes(), 0);
        }
        assert!(chunk.is_empty());
        let arrived = given - whole_until;
        assert!(reader.buffered_bytes() <= GROWTH * arrived + GRAIN, "{arrived} bytes are worth as much");
        assert_eq!(reader.is_between_messages(), arrived == 0);
    }
    Read { messages, end: reader.end() }
}

/// The same the simple way.
fn by_the_page(stream: &[u8], bytes_max: usize) -> Read {
    let mut messages = Vec::new();
    let mut rest = Bytes::copy_from_slice(stream);
    let end = loop {
        let Some(head) = rest.first_chunk::<MESSAGE_HEADER_BYTES>() else {
            break if rest.is_empty() { Ok(()) } else { Err(WireError::Truncated { have: rest.len() }) };
        };
        let header = match MessageHeader::decode(head) {
            Ok(header) => header,
            Err(error) => break Err(error),
        };
        assert_eq!(header.encode(), *head, "one header has one writing");
        let bytes = MESSAGE_HEADER_BYTES + header.bytes as usize;
        if bytes > bytes_max {
            break Err(WireError::TooLarge { bytes, bytes_max });
        }
        if rest.len() < bytes {
            break Err(WireError::Truncated { have: rest.len() });
        }
        let mut bulk = rest.split_to(bytes).split_off(MESSAGE_HEADER_BYTES);
        let MessageHeader { kind, correlation, meta_bytes, .. } = header;
        let meta = bulk.split_to(if kind.has_bulk() { meta_bytes.into() } else { bulk.len() });
        messages.push(Message { kind, correlation, meta, bulk });
    };
    Read { messages, end }
}
