//! Where each key was last.
//!
//! Keys are told apart by 128 bits of SHA-256 over a seed and the key. Two of n keys are taken for one with a probability
//! below n^2 / 2^129: for 2^26 keys 2^-77, and whoever wants to find such a pair has 2^64 hashes to compute.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use sha2::{Digest, Sha256};
use storage_frame::Offset;

/// An entry, its control byte, and the eighth of the table that stays free.
const ENTRY_BYTES: usize = (size_of::<(KeyHash, Offset)>() + 1) * 8 / 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64, u64);

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Hands out the hash that a [`KeyHash`] is.
#[derive(Debug, Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key's hash is one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug)]
pub(crate) struct KeyMap {
    seeded: Sha256,
    keys_max: usize,
    last: HashMap<KeyHash, Offset, BuildHasherDefault<AsItIs>>,
}

impl KeyMap {
    /// For about `keys` of them, `keys_max` at most: a table that grows holds up a turn.
    pub(crate) fn new(seed: u64, keys: u64, keys_max: usize) -> Self {
        let capacity = usize::try_from(keys).unwrap_or(usize::MAX).min(keys_max);
        let last = HashMap::with_capacity_and_hasher(capacity, BuildHasherDefault::default());
        Self { seeded: Sha256::new_with_prefix(seed.to_le_bytes()), keys_max, last }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether so many more fit; one frame's always do.
    pub(crate) fn has_room(&self, keys: u32) -> bool {
        self.last.is_empty() || self.last.len() + keys as usize <= self.keys_max
    }

    pub(crate) fn note(&mut self, key: KeyHash, offset: Offset) {
        self.last.insert(key, offset);
    }

    /// The last offset noted.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Offset> {
        self.last.get(&self.hash(key)).copied()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.last.capacity() * ENTRY_BYTES
    }

    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let digest = self.seeded.clone().chain_update(key).finalize();
        let part = |at: usize| u64::from_le_bytes(digest[at..at + 8].try_into().expect("8 of 32 bytes"));
        KeyHash(part(0), part(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_offset_counts_and_room_is_bounded() {
        let mut map = KeyMap::new(7, 10, 4);
        assert!(map.has_room(1000), "one frame always fits");
        for (key, offset) in [("a", 1), ("b", 2), ("a", 3)] {
            map.note(map.hash(key.as_bytes()), Offset(offset));
        }
        let found = ["a", "b", "c"].map(|key| map.last(key.as_bytes()));
        assert_eq!(found, [Some(Offset(3)), Some(Offset(2)), None]);
        assert!(map.has_room(2) && !map.has_room(3));
    }
}
