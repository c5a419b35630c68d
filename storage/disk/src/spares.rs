//! Retired segments of one core, kept to be recycled: their room is on the disk already, so a log that takes one
//! need not fill it with zeros.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use storage_log::DiskError;

use crate::paths::{parse_spare_name, spare_directory, spare_name};
use crate::small;

/// Smaller files are not worth the name: filling them with zeros costs no more than moving them.
const SPARE_BYTES_MIN: u64 = 1 << 20;

pub(crate) struct Spares {
    directory: PathBuf,
    core: u8,
    files_max: usize,
    files: VecDeque<PathBuf>,
    /// Files on their way in, which count against the bound.
    coming: usize,
    next_number: u64,
}

impl Spares {
    /// Adopts what an earlier life left, down to the bound. Core 0 also removes those of cores there are no
    /// more. Blocks.
    pub(crate) fn open(data: &Path, core: u8, cores: usize, files_max: usize) -> Result<Self, DiskError> {
        let directory = spare_directory(data);
        small::make_directory(&directory)?;
        let mut spares =
            Self { directory, core, files_max, files: VecDeque::new(), coming: 0, next_number: 0 };
        for (name, bytes) in small::list_files(&spares.directory)? {
            let Some((owner, number)) = parse_spare_name(&name) else { continue };
            let path = spares.directory.join(&name);
            if owner == core {
                spares.next_number = spares.next_number.max(number + 1);
                if spares.files.len() < files_max && bytes >= SPARE_BYTES_MIN {
                    spares.files.push_back(path);
                } else {
                    small::remove_file(&path)?;
                }
            } else if core == 0 && usize::from(owner) >= cores {
                small::remove_file(&path)?;
            }
        }
        Ok(spares)
    }

    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    pub(crate) fn take(&mut self) -> Option<PathBuf> {
        self.files.pop_front()
    }

    /// One that was taken and could not be used.
    pub(crate) fn put_back(&mut self, path: PathBuf) {
        self.files.push_back(path);
    }

    /// A place for one more, if there is room for a file of `bytes`. [`arrived`](Self::arrived) must follow.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Option<PathBuf> {
        if self.files.len() + self.coming >= self.files_max || bytes < SPARE_BYTES_MIN {
            return None;
        }
        let path = self.directory.join(spare_name(self.core, self.next_number));
        self.next_number += 1;
        self.coming += 1;
        Some(path)
    }

    /// The file reserved for is there (`Some`) or will not be.
    pub(crate) fn arrived(&mut self, path: Option<PathBuf>) {
        self.coming -= 1;
        self.files.extend(path);
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<PathBuf> {
        std::mem::take(&mut self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(directory: &Path, name: &str, bytes: u64) {
        let file = std::fs::File::create(directory.join(name)).unwrap();
        file.set_len(bytes).unwrap();
    }

    #[test]
    fn spares_of_an_earlier_life_are_adopted_down_to_the_bound() {
        let data = tempfile::tempdir().unwrap();
        let directory = spare_directory(data.path());
        std::fs::create_dir(&directory).unwrap();
        spare(&directory, "0-4.seg", SPARE_BYTES_MIN);
        spare(&directory, "0-5.seg", SPARE_BYTES_MIN);
        spare(&directory, "0-6.seg", SPARE_BYTES_MIN - 1);
        spare(&directory, "1-0.seg", SPARE_BYTES_MIN);
        spare(&directory, "2-0.seg", SPARE_BYTES_MIN);
        let mut spares = Spares::open(data.path(), 0, 2, 1).unwrap();
        assert_eq!(spares.count(), 1);
        let mut left: Vec<String> =
            small::list_files(&directory).unwrap().into_iter().map(|(name, _)| name).collect();
        left.sort();
        assert_eq!(left.len(), 2, "one of ours and one of core 1: {left:?}");
        assert_eq!(left[1], "1-0.seg");
        assert!(spares.take().is_some());
        assert_eq!(spares.reserve(SPARE_BYTES_MIN), Some(directory.join("0-7.seg")));
        assert_eq!(spares.reserve(SPARE_BYTES_MIN), None, "one is coming");
    }
}
