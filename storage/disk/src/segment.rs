//! Reading, writing and zeroing an open segment file by direct I/O.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use storage_log::disk_op::BLOCK_BYTES;
use storage_ring::{Aligned, Ring};

use crate::buffers::Buffers;
use crate::files::Open;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Read at a time: long reads are sequential, and at this size the device is at its full speed.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Blocks of zeros, kept while segments are being filled.
pub(crate) struct Zeros {
    bytes_max: usize,
    memory: RefCell<Option<Rc<Aligned>>>,
}

impl Zeros {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = (bytes_max / BLOCK_BYTES).max(1) * BLOCK_BYTES;
        Self { bytes_max, memory: RefCell::default() }
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max as u64
    }

    fn memory(&self) -> Rc<Aligned> {
        Rc::clone(self.memory.borrow_mut().get_or_insert_with(|| Rc::new(Aligned::zeroed(self.bytes_max))))
    }

    pub(crate) fn forget(&self) {
        *self.memory.borrow_mut() = None;
    }

    /// Fills `from..to` (whole blocks). Durable if the file was opened so; sync it otherwise.
    pub(crate) async fn fill(&self, ring: &Ring, file: &Rc<Open>, from: u64, to: u64) -> io::Result<()> {
        let mut position = from;
        while position < to {
            let bytes = (to - position).min(self.bytes_max());
            write(ring, file, position, &self.memory(), bytes as usize).await?;
            position += bytes;
        }
        Ok(())
    }
}

/// Writes the first `bytes` of `memory`, whole blocks, at `position`, a block's start.
pub(crate) async fn write(
    ring: &Ring,
    file: &Rc<Open>,
    position: u64,
    memory: &Rc<Aligned>,
    bytes: usize,
) -> io::Result<()> {
    assert!(position.is_multiple_of(BLOCK), "direct writes begin at a block");
    // A short write is no error but a disk about to have one: asking once more brings it out. Writing the same
    // bytes at the same place again changes nothing.
    for _ in 0..2 {
        if ring.write(Rc::clone(file) as _, Rc::clone(memory), bytes, position).await? == bytes {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("the system wrote less than {bytes} bytes, twice")))
}

/// Up to `bytes` from `position` on, fewer at the file's end. Memory grows with what is there, not with what is
/// asked for.
pub(crate) async fn read(
    ring: &Ring,
    buffers: &Buffers,
    file: &Rc<Open>,
    position: u64,
    bytes: usize,
) -> io::Result<Bytes> {
    let end = position.saturating_add(bytes as u64);
    let mut out = BytesMut::with_capacity(bytes.min(READ_BYTES_MAX as usize));
    let mut at = position;
    while at < end {
        let from = at - at % BLOCK;
        let to = end
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(u64::MAX - u64::MAX % BLOCK)
            .min(from + READ_BYTES_MAX);
        let whole = (to - from) as usize;
        let (memory, count) = ring.read(Rc::clone(file) as _, buffers.take(whole), whole, from).await?;
        let skip = (at - from) as usize;
        let here = memory.get(skip..count.min((end - from) as usize)).unwrap_or_default();
        let is_end = here.is_empty();
        // A read may be short in the middle of a file too; only an empty one is the end.
        out.extend_from_slice(here);
        at += here.len() as u64;
        buffers.give_back(memory);
        if is_end {
            break;
        }
    }
    Ok(out.freeze())
}
