//! Aligned memory for direct writes, kept between them.
//!
//! The runtime writes whole buffers, so a buffer serves writes of its own size only. Small sizes come again and
//! again; large ones vary, are left to the allocator, and cost little beside what they carry.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use glommio::io::DmaBuffer;
use storage_log::disk_op::BLOCK_BYTES;

/// Buffers of up to this many blocks are kept.
const POOLED_BLOCKS_MAX: usize = 64;

pub(crate) struct Buffers {
    bytes_max: usize,
    state: RefCell<State>,
}

struct State {
    /// By size: `free[n]` holds buffers of `n` blocks.
    free: Vec<Vec<Rc<DmaBuffer>>>,
    free_bytes: usize,
    /// Taken since the last look by [`Buffers::shrink_if_idle`].
    used: bool,
}

impl Buffers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let free = (0..=POOLED_BLOCKS_MAX).map(|_| Vec::new()).collect();
        Self { bytes_max, state: RefCell::new(State { free, free_bytes: 0, used: false }) }
    }

    /// `parts` back to back, then zeros up to a whole block. `parts` are not all empty.
    pub(crate) fn gather(&self, parts: &[Bytes]) -> Rc<DmaBuffer> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let mut buffer = self.take(bytes.div_ceil(BLOCK_BYTES));
        let memory = Rc::get_mut(&mut buffer).expect("a free buffer has one owner").as_bytes_mut();
        let mut rest = memory;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        rest.fill(0);
        buffer
    }

    fn take(&self, blocks: usize) -> Rc<DmaBuffer> {
        assert!(blocks > 0, "a write has bytes");
        let mut state = self.state.borrow_mut();
        state.used = true;
        if let Some(buffer) = state.free.get_mut(blocks).and_then(Vec::pop) {
            state.free_bytes -= buffer.len();
            return buffer;
        }
        Rc::new(glommio::allocate_dma_buffer(blocks * BLOCK_BYTES))
    }

    pub(crate) fn give_back(&self, buffer: Rc<DmaBuffer>) {
        let mut state = self.state.borrow_mut();
        let blocks = buffer.len() / BLOCK_BYTES;
        // The runtime lets go of its share before it answers; if it ever did not, the buffer is not free.
        if blocks > POOLED_BLOCKS_MAX
            || Rc::strong_count(&buffer) > 1
            || state.free_bytes + buffer.len() > self.bytes_max
        {
            return;
        }
        state.free_bytes += buffer.len();
        state.free[blocks].push(buffer);
    }

    /// Lets all free buffers go unless some were used since the last call.
    pub(crate) fn shrink_if_idle(&self) {
        let mut state = self.state.borrow_mut();
        if !std::mem::take(&mut state.used) && state.free_bytes > 0 {
            state.free.iter_mut().for_each(|buffers| *buffers = Vec::new());
            state.free_bytes = 0;
        }
    }
}
