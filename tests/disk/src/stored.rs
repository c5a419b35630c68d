//! One file on the model disk.

use std::ops::Range;

use crate::SECTOR_BYTES;

#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    /// Stays with the file through renames: a late write finds it in whatever place it is.
    pub(crate) inode: u64,
    pub(crate) bytes: Vec<u8>,
    /// Bytes before it were answered for, or left by a crash for an opening to find.
    pub(crate) acknowledged_end: u64,
    /// Whole sectors that answer EIO. Few.
    unreadable: Vec<Range<u64>>,
}

impl Stored {
    pub(crate) fn whole(inode: u64, bytes: Vec<u8>) -> Self {
        Self { inode, acknowledged_end: bytes.len() as u64, bytes, unreadable: Vec::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn is_acknowledged(&self, range: &Range<u64>) -> bool {
        range.start < range.end && range.start < self.acknowledged_end
    }

    /// Of `range`, sectors for which `lands` says so.
    pub(crate) fn write_sectors(
        &mut self,
        position: u64,
        bytes: &[u8],
        mut lands: impl FnMut(usize) -> bool,
    ) {
        for (nth, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if lands(nth) {
                let at = position as usize + nth * SECTOR_BYTES;
                self.bytes[at..at + sector.len()].copy_from_slice(sector);
                self.make_readable(at as u64..(at + sector.len()) as u64);
            }
        }
    }

    pub(crate) fn is_readable(&self, range: &Range<u64>) -> bool {
        !self.unreadable.iter().any(|bad| bad.start < range.end && range.start < bad.end)
    }

    /// Widened to whole sectors.
    pub(crate) fn make_unreadable(&mut self, range: &Range<u64>) {
        let sector = SECTOR_BYTES as u64;
        self.unreadable.push(range.start - range.start % sector..range.end.next_multiple_of(sector));
    }

    fn make_readable(&mut self, range: Range<u64>) {
        if self.unreadable.is_empty() {
            return;
        }
        let parts = std::mem::take(&mut self.unreadable)
            .into_iter()
            .flat_map(|bad| [bad.start..bad.end.min(range.start), bad.start.max(range.end)..bad.end]);
        self.unreadable = parts.filter(|part| part.start < part.end).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_sector_is_readable_again_and_its_neighbours_are_not() {
        let mut file = Stored::whole(1, vec![0; 4096]);
        file.make_unreadable(&(600..1500));
        assert!(!file.is_readable(&(512..513)) && !file.is_readable(&(0..4096)));
        assert!(file.is_readable(&(0..512)) && file.is_readable(&(1536..4096)));
        file.write_sectors(512, &[1; 512], |_| true);
        assert!(file.is_readable(&(512..1024)) && !file.is_readable(&(1024..1025)));
    }
}
