//! Reading, writing and zeroing an open segment file by direct I/O.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use glommio::io::{DmaBuffer, DmaFile};
use storage_log::disk_op::BLOCK_BYTES;

use crate::error::system_error;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Read at a time: long reads are sequential, and at this size the device is at its full speed.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Blocks of zeros, kept while segments are being filled.
pub(crate) struct Zeros {
    bytes_max: usize,
    buffers: RefCell<Vec<Rc<DmaBuffer>>>,
}

/// Rooms double, so few sizes are in use at a time.
const ZERO_BUFFERS_MAX: usize = 4;

impl Zeros {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = (bytes_max / BLOCK_BYTES).max(1) * BLOCK_BYTES;
        Self { bytes_max, buffers: RefCell::default() }
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max as u64
    }

    fn buffer(&self, bytes: usize) -> Rc<DmaBuffer> {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(buffer) = buffers.iter().find(|buffer| buffer.len() == bytes) {
            return Rc::clone(buffer);
        }
        let mut buffer = glommio::allocate_dma_buffer_global(bytes);
        buffer.as_bytes_mut().fill(0);
        let buffer = Rc::new(buffer);
        if buffers.len() == ZERO_BUFFERS_MAX {
            buffers.remove(0);
        }
        buffers.push(Rc::clone(&buffer));
        buffer
    }

    pub(crate) fn forget(&self) {
        *self.buffers.borrow_mut() = Vec::new();
    }

    /// Fills `from..to` (whole blocks). Durable if the file was opened so; sync it otherwise.
    pub(crate) async fn fill(&self, file: &DmaFile, from: u64, to: u64) -> io::Result<()> {
        let mut position = from;
        while position < to {
            let bytes = (to - position).min(self.bytes_max());
            write(file, position, self.buffer(bytes as usize)).await?;
            position += bytes;
        }
        Ok(())
    }
}

/// Writes the whole buffer at `position`, a block's start.
pub(crate) async fn write(file: &DmaFile, position: u64, buffer: Rc<DmaBuffer>) -> io::Result<()> {
    assert!(position.is_multiple_of(BLOCK), "direct writes begin at a block");
    let bytes = buffer.len();
    // A short write is no error but a disk about to have one: asking once more brings it out. Writing the same
    // bytes at the same place again changes nothing.
    for _ in 0..2 {
        if file.write_rc_at(Rc::clone(&buffer), position).await.map_err(system_error)? == bytes {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("the system wrote less than {bytes} bytes, twice")))
}

/// Up to `bytes` from `position` on, fewer at the file's end. Memory grows with what is there, not with what is
/// asked for.
pub(crate) async fn read(file: &DmaFile, position: u64, bytes: usize) -> io::Result<Bytes> {
    let end = position.saturating_add(bytes as u64);
    let mut out = BytesMut::with_capacity(bytes.min(READ_BYTES_MAX as usize));
    let mut at = position;
    while at < end {
        let from = at - at % BLOCK;
        let to = end
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(u64::MAX - u64::MAX % BLOCK)
            .min(from + READ_BYTES_MAX);
        let chunk = file.read_at_aligned(from, (to - from) as usize).await.map_err(system_error)?;
        let skip = (at - from) as usize;
        let here = chunk.get(skip..chunk.len().min((end - from) as usize)).unwrap_or_default();
        if here.is_empty() {
            break;
        }
        // A read may be short in the middle of a file too; only an empty one is the end.
        out.extend_from_slice(here);
        at += here.len() as u64;
    }
    Ok(out.freeze())
}
