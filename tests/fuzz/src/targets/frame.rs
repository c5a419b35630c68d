//! Frame headers and frames (`storage/frame`): the salt in the first four bytes, then a frame.

use bytes::{Bytes, BytesMut};
use storage_frame::{FRAME_ALIGN, FRAME_BYTES_MAX, Frame, FrameHeader, HEADER_BYTES, Salt, peek_frame_bytes};

use crate::mend;
use crate::script::Script;

pub fn frame(data: &[u8]) {
    let mut script = Script::new(data);
    let salt = Salt(script.u32());
    let bytes = script.rest();
    check(bytes, salt);
    check(&mend::frame(bytes, salt), salt);
}

fn check(bytes: &[u8], salt: Salt) {
    let header = FrameHeader::decode(bytes, salt);
    let mut rest = Bytes::copy_from_slice(bytes);
    let Ok(frame) = Frame::split_from(&mut rest, salt) else {
        assert_eq!(rest, bytes, "what is refused is left");
        if let Ok(header) = header {
            no_flipped_bit_is_a_header(bytes, salt);
            assert!(header.frame_bytes() <= FRAME_BYTES_MAX + FRAME_ALIGN);
        }
        return;
    };
    assert_eq!(Ok(*frame.header()), header);
    assert_eq!(bytes.len() - rest.len(), frame.header().frame_bytes().min(bytes.len()));
    assert_eq!(peek_frame_bytes(bytes), Some(frame.header().frame_bytes()));
    let end = frame.header().base_offset.0 + u64::from(frame.header().record_count);
    assert_eq!(frame.header().end_offset().0, end);

    let mut written = BytesMut::new();
    frame.write_to(salt, &mut written);
    assert_eq!(written.len(), frame.header().frame_bytes());
    let mut written = written.freeze();
    let first = written.clone();
    assert_eq!(Frame::split_from(&mut written, salt).as_ref(), Ok(&frame), "what is written is read back");
    assert!(written.is_empty());
    if frame.header().producer.is_some() {
        let end = HEADER_BYTES + frame.payload().len();
        assert_eq!(first[..end], bytes[..end], "one frame has one writing");
    }

    no_flipped_bit_is_a_header(bytes, salt);
    for bit in mend::some_bits(bytes, 8 * (HEADER_BYTES + frame.payload().len())) {
        let mut bad = Bytes::from(mend::flipped(bytes, bit));
        assert!(Frame::split_from(&mut bad, salt).is_err(), "bit {bit} is turned and nobody notices");
    }
    assert!(FrameHeader::decode(bytes, Salt(salt.0 ^ 1)).is_err(), "a frame of another life");
}

fn no_flipped_bit_is_a_header(bytes: &[u8], salt: Salt) {
    let head = &bytes[..HEADER_BYTES];
    for bit in mend::some_bits(head, 8 * HEADER_BYTES) {
        assert!(FrameHeader::decode(&mend::flipped(head, bit), salt).is_err(), "bit {bit} of a header");
    }
}
