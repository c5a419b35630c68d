//! Which request of which connection an answer belongs to.
//!
//! A key is an index, [`KEY_BIT`](crate::server::KEY_BIT) and the number of times the index was used before, so the
//! answer to a cancelled ask finds nothing, even when its place has been given away since.

use crate::server::KEY_BIT;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The connection's place.
    pub(crate) place: usize,
    /// Of the connection's requests.
    pub(crate) sequence: u64,
    /// What the handler calls this ask.
    pub(crate) tag: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    slot: Option<Slot>,
}

impl Slots {
    pub(crate) fn insert(&mut self, slot: Slot) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, slot: None });
            u32::try_from(self.entries.len() - 1).expect("asks are bounded")
        });
        assert!(u64::from(index) < KEY_BIT, "an index stays below the bit that marks this room's keys");
        let entry = &mut self.entries[index as usize];
        assert!(entry.slot.is_none(), "a free entry holds nobody");
        entry.slot = Some(slot);
        u64::from(entry.generation) << 32 | KEY_BIT | u64::from(index)
    }

    /// `None`: cancelled, or never given.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Slot> {
        if key & KEY_BIT == 0 {
            return None;
        }
        let index = (key & (KEY_BIT - 1)) as usize;
        let entry = self.entries.get_mut(index)?;
        if u64::from(entry.generation) != key >> 32 {
            return None;
        }
        let slot = entry.slot.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(u32::try_from(index).expect("was given as 32 bits"));
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_slot_once_and_never_that_of_a_successor() {
        let slot = |sequence| Slot { place: 1, sequence, tag: 0 };
        let mut slots = Slots::default();
        let first = slots.insert(slot(1));
        assert_eq!(first & KEY_BIT, KEY_BIT);
        assert_eq!(slots.remove(first & !KEY_BIT), None, "a key of the other room");
        assert_eq!(slots.remove(first), Some(slot(1)));
        let second = slots.insert(slot(2));
        assert_ne!(first, second);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.remove(second), Some(slot(2)));
        assert_eq!(slots.remove(u64::MAX), None);
    }
}
