//! The block the next write begins in. Its bytes so far are acknowledged, so they are written again, unchanged.

use bytes::Bytes;

use crate::fields::crc;
use crate::segment::block_part;

#[derive(Debug)]
pub(crate) enum Tail {
    /// The block's bytes before the end of the log: at most 4095.
    Here(Bytes),
    /// Given back to save memory; must read back with this checksum.
    Away { bytes: usize, crc: u32 },
}

impl Tail {
    pub(crate) fn empty() -> Self {
        Self::Here(Bytes::new())
    }

    /// Keeps only what is needed to recognise it.
    pub(crate) fn drop_bytes(&mut self) {
        if let Self::Here(bytes) = self
            && !bytes.is_empty()
        {
            *self = Self::Away { bytes: bytes.len(), crc: crc(bytes) };
        }
    }

    /// What was read back, if it is what was written.
    pub(crate) fn restore(&mut self, read: &Bytes) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Away { bytes, crc: expected } => {
                let Some(found) = read.get(..*bytes) else { return false };
                if crc(found) != *expected {
                    return false;
                }
                *self = Self::Here(Bytes::copy_from_slice(found));
                true
            }
        }
    }
}

/// The bytes of the last block of `parts`, which are written from a block's start and end at `end_position`.
pub(crate) fn tail_of(parts: &[Bytes], end_position: u64) -> Bytes {
    let mut missing = block_part(end_position);
    let mut tail = vec![0; missing];
    for part in parts.iter().rev() {
        let taken = missing.min(part.len());
        tail[missing - taken..missing].copy_from_slice(&part[part.len() - taken..]);
        missing -= taken;
        if missing == 0 {
            break;
        }
    }
    assert_eq!(missing, 0, "a write holds its last block from the start");
    Bytes::from(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_what_follows_the_last_block_boundary() {
        let parts = [Bytes::from(vec![1; 4000]), Bytes::from(vec![2; 100]), Bytes::from(vec![3; 12])];
        let tail = tail_of(&parts, 4096 * 5 + 16);
        assert_eq!(&tail[..], &[[2; 4].as_slice(), [3; 12].as_slice()].concat()[..]);
        assert!(tail_of(&parts, 4096).is_empty());
    }

    #[test]
    fn tail_that_reads_back_differently_is_refused() {
        let mut tail = Tail::Here(Bytes::from_static(b"0123456789abcdef"));
        tail.drop_bytes();
        assert!(!tail.restore(&Bytes::from_static(b"0123456789abcdeX and more")));
        assert!(!tail.restore(&Bytes::from_static(b"0123")));
        assert!(tail.restore(&Bytes::from_static(b"0123456789abcdef and more")));
    }
}
