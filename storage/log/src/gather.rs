//! The bytes of one write: header block or tail block first, then frames. Small payloads are copied together,
//! large ones travel by reference.

use bytes::{BufMut, Bytes, BytesMut};
use storage_frame::{Frame, HEADER_BYTES, Salt};

/// A payload this large is worth a part of its own.
const OWN_PART_BYTES: usize = 1024;

#[derive(Debug)]
pub(crate) struct Gather {
    parts: Vec<Bytes>,
    run: BytesMut,
    salt: Salt,
    frame_count: usize,
}

impl Gather {
    pub(crate) fn starting_with(first: Bytes, salt: Salt) -> Self {
        let parts = if first.is_empty() { Vec::new() } else { vec![first] };
        Self { parts, run: BytesMut::new(), salt, frame_count: 0 }
    }

    pub(crate) fn add(&mut self, frame: &Frame) {
        let mut header = *frame.header();
        header.starts_write = self.frame_count == 0;
        self.frame_count += 1;
        self.run.put_slice(&header.encode(self.salt));
        let payload = frame.payload();
        if payload.len() < OWN_PART_BYTES {
            self.run.put_slice(payload);
        } else {
            self.parts.push(self.run.split().freeze());
            self.parts.push(payload.clone());
        }
        self.run.put_bytes(0, header.frame_bytes() - HEADER_BYTES - payload.len());
    }

    pub(crate) fn frame_count(&self) -> usize {
        self.frame_count
    }

    pub(crate) fn into_parts(mut self) -> Vec<Bytes> {
        if !self.run.is_empty() {
            self.parts.push(self.run.freeze());
        }
        self.parts
    }
}
