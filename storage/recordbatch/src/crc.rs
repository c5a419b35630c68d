//! CRC-32C, and how it changes with some of the bytes that it is of.

use crc_fast::{CrcAlgorithm, checksum, checksum_combine};

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    // A 32-bit algorithm: the upper half is zero.
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

/// The checksum of bytes whose checksum was `whole` while they began with `old`, now that they begin with `new` and
/// go on as before for `rest_bytes`. The rest is not read: a checksum of two parts is the first's, shifted by the
/// second's length, XOR the second's.
pub(crate) fn crc_with_start_replaced(whole: u32, old: &[u8], new: &[u8], rest_bytes: usize) -> u32 {
    assert_eq!(old.len(), new.len());
    let shifted = |start: &[u8]| {
        let start = u64::from(crc(start));
        (checksum_combine(CrcAlgorithm::Crc32Iscsi, start, 0, rest_bytes as u64) & 0xffff_ffff) as u32
    };
    whole ^ shifted(old) ^ shifted(new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn replacing_the_start_is_as_computing_anew(
            old in proptest::collection::vec(any::<u8>(), 40),
            new in proptest::collection::vec(any::<u8>(), 40),
            rest in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let joined = |start: &[u8]| [start, &rest].concat();
            let replaced = crc_with_start_replaced(crc(&joined(&old)), &old, &new, rest.len());
            prop_assert_eq!(replaced, crc(&joined(&new)));
        }
    }
}
