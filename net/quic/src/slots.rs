//! Which stream an answer belongs to.
//!
//! A key is an index and the number of times the index was used before, so the answer to a cancelled request
//! finds nothing, even when its place has been given away since.

use quinn_proto::StreamId;

/// Indexes end here: the bits above, 30 and 31, mark keys that are not this room's.
const INDEXES: usize = 1 << 30;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) peer: usize,
    pub(crate) stream: StreamId,
    /// Of the requests of a produce stream; 0 elsewhere.
    pub(crate) sequence: u64,
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
            let index = self.entries.len() - 1;
            assert!(index < INDEXES, "connections times requests are below 2^30");
            index as u32
        });
        let entry = &mut self.entries[index as usize];
        assert!(entry.slot.is_none(), "a free entry holds nobody");
        entry.slot = Some(slot);
        u64::from(entry.generation) << 32 | u64::from(index)
    }

    /// `None`: cancelled, or never given.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Slot> {
        let index = (key & u64::from(u32::MAX)) as u32;
        let entry = self.entries.get_mut(index as usize)?;
        if u64::from(entry.generation) != key >> 32 {
            return None;
        }
        let slot = entry.slot.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(slot)
    }

    pub(crate) fn open_count(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::{Dir, Side};

    use super::*;

    #[test]
    fn a_key_finds_its_slot_once_and_never_that_of_a_successor() {
        let slot = |sequence| Slot { peer: 1, stream: StreamId::new(Side::Client, Dir::Bi, 2), sequence };
        let mut slots = Slots::default();
        let first = slots.insert(slot(1));
        assert_eq!(slots.remove(first), Some(slot(1)));
        let second = slots.insert(slot(2));
        assert_ne!(first, second);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.open_count(), 1);
        assert_eq!(slots.remove(second), Some(slot(2)));
        assert_eq!(slots.remove(u64::MAX), None);
        assert_eq!(slots.open_count(), 0);
    }
}
