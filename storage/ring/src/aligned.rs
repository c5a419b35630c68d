//! Memory for direct I/O, which must begin at a block's multiple.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Every device's blocks are of this size or a part of it.
const ALIGN_BYTES: usize = 4096;

/// Zeros at first. Its address is the same as long as it lives.
pub struct Aligned {
    memory: NonNull<u8>,
    layout: Layout,
}

impl Aligned {
    /// # Panics
    /// Of no bytes, or of more than an address space has.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        assert!(bytes > 0, "memory of no bytes");
        let layout = Layout::from_size_align(bytes, ALIGN_BYTES).expect("less than an address space");
        // SAFETY: the layout is not of size zero, as just checked.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self { memory, layout }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `zeroed` allocated and initialised so many bytes, which are ours until `drop`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this very layout, and not given back before.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

impl std::fmt::Debug for Aligned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} bytes)", self.layout.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_block_and_holds_zeros() {
        for bytes in [1, 4096, 5000, 1 << 20] {
            let mut memory = Aligned::zeroed(bytes);
            assert_eq!((memory.len(), memory.as_ptr() as usize % ALIGN_BYTES), (bytes, 0));
            assert!(memory.iter().all(|byte| *byte == 0));
            memory[bytes - 1] = 7;
            assert_eq!(memory[bytes - 1], 7);
        }
    }
}
