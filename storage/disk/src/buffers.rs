//! Aligned memory for direct I/O, kept between operations: memory fresh from the system costs a page fault for every
//! block.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use storage_log::disk_op::BLOCK_BYTES;
use storage_ring::Aligned;

/// Sizes are powers of two of blocks: 4 KiB to 4 MiB. Larger memory is not kept.
const CLASSES: usize = 11;

pub(crate) struct Buffers {
    bytes_max: usize,
    state: RefCell<State>,
}

struct State {
    /// By size: `free[n]` holds memory of `2^n` blocks.
    free: [Vec<Rc<Aligned>>; CLASSES],
    free_bytes: usize,
    /// Taken since the last look by [`Buffers::shrink_if_idle`].
    used: bool,
}

/// What is to be written: the first `bytes` of `memory`, whole blocks.
pub(crate) struct Filled {
    pub(crate) memory: Rc<Aligned>,
    pub(crate) bytes: usize,
}

impl Buffers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State { free: Default::default(), free_bytes: 0, used: false };
        Self { bytes_max, state: RefCell::new(state) }
    }

    /// `parts` back to back, then zeros up to a whole block. `parts` are not all empty.
    pub(crate) fn gather(&self, parts: &[Bytes]) -> Filled {
        let used: usize = parts.iter().map(Bytes::len).sum();
        let bytes = used.next_multiple_of(BLOCK_BYTES);
        let mut memory = self.take(bytes);
        let mut rest = &mut Rc::get_mut(&mut memory).expect("free memory has one owner")[..bytes];
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        rest.fill(0);
        Filled { memory, bytes }
    }

    /// At least `bytes`, with anything in them.
    pub(crate) fn take(&self, bytes: usize) -> Rc<Aligned> {
        assert!(bytes > 0, "memory of no bytes");
        let mut state = self.state.borrow_mut();
        state.used = true;
        let Some(class) = class_of(bytes) else { return Rc::new(Aligned::zeroed(bytes)) };
        if let Some(memory) = state.free[class].pop() {
            state.free_bytes -= memory.len();
            return memory;
        }
        Rc::new(Aligned::zeroed(BLOCK_BYTES << class))
    }

    pub(crate) fn give_back(&self, memory: Rc<Aligned>) {
        let mut state = self.state.borrow_mut();
        // The ring lets go of its share before it answers; if it ever did not, the memory is not free.
        if Rc::strong_count(&memory) > 1 || state.free_bytes + memory.len() > self.bytes_max {
            return;
        }
        if let Some(class) = class_of(memory.len()) {
            state.free_bytes += memory.len();
            state.free[class].push(memory);
        }
    }

    /// Lets all free memory go unless some was used since the last call.
    pub(crate) fn shrink_if_idle(&self) {
        let mut state = self.state.borrow_mut();
        if !std::mem::take(&mut state.used) && state.free_bytes > 0 {
            state.free = Default::default();
            state.free_bytes = 0;
        }
    }
}

/// The smallest class that holds so many bytes.
fn class_of(bytes: usize) -> Option<usize> {
    let class = bytes.div_ceil(BLOCK_BYTES).next_power_of_two().ilog2() as usize;
    (class < CLASSES).then_some(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_for_every_size_of_its_class() {
        let buffers = Buffers::new(1 << 20);
        let filled = buffers.gather(&[Bytes::from(vec![7; 5 * BLOCK_BYTES])]);
        assert_eq!((filled.bytes, filled.memory.len()), (5 * BLOCK_BYTES, 8 * BLOCK_BYTES));
        let address = filled.memory.as_ptr();
        buffers.give_back(filled.memory);
        let filled = buffers.gather(&[Bytes::from(vec![8; 5 * BLOCK_BYTES + 1])]);
        assert_eq!((filled.bytes, filled.memory.as_ptr()), (6 * BLOCK_BYTES, address));
        assert!(filled.memory[5 * BLOCK_BYTES + 1..filled.bytes].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = Buffers::new(3 * BLOCK_BYTES);
        let all: Vec<_> = (0..4).map(|_| buffers.gather(&[Bytes::from_static(b"x")]).memory).collect();
        all.into_iter().for_each(|memory| buffers.give_back(memory));
        assert_eq!(buffers.state.borrow().free_bytes, 3 * BLOCK_BYTES);
        buffers.give_back(Rc::new(Aligned::zeroed(BLOCK_BYTES << CLASSES)));
        buffers.shrink_if_idle();
        assert_eq!(buffers.state.borrow().free_bytes, 3 * BLOCK_BYTES, "used a moment ago");
        buffers.shrink_if_idle();
        assert_eq!(buffers.state.borrow().free_bytes, 0);
    }
}
