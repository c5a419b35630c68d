//! Memory that begins on a block, found inside a larger buffer.

/// Direct I/O wants memory, offsets and lengths in multiples of it.
pub(crate) const BLOCK_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Aligned {
    buffer: Vec<u8>,
    from: usize,
    bytes: usize,
}

impl Aligned {
    pub(crate) fn filled(bytes: usize, byte: u8) -> Self {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "direct I/O goes by whole blocks");
        let buffer = vec![byte; bytes + BLOCK_BYTES];
        let from = buffer.as_ptr().align_offset(BLOCK_BYTES);
        assert!(from < BLOCK_BYTES, "an aligned address lies within one block");
        Self { buffer, from, bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.from..self.from + self.bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.from..self.from + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::{Aligned, BLOCK_BYTES};

    #[test]
    fn memory_begins_on_a_block() {
        let block = Aligned::filled(8192, 7);
        assert_eq!(block.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert_eq!(block.bytes(), [7; 8192]);
    }
}
