//! Open segment files: few enough to fit the process's limit, closed when idle.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use glommio::io::{DmaFile, OpenOptions};
use storage_frame::LogId;
use storage_log::SegmentId;

use crate::error::system_error;

type Key = (LogId, SegmentId);

pub(crate) struct Files {
    open_max: usize,
    idle: Duration,
    open: RefCell<AHashMap<Key, Entry>>,
}

struct Entry {
    file: Rc<DmaFile>,
    used: Cell<Instant>,
}

impl Files {
    pub(crate) fn new(open_max: usize, idle: Duration) -> Self {
        Self { open_max: open_max.max(1), idle, open: RefCell::default() }
    }

    pub(crate) fn cached(&self, key: Key) -> Option<Rc<DmaFile>> {
        let open = self.open.borrow();
        let entry = open.get(&key)?;
        entry.used.set(Instant::now());
        Some(Rc::clone(&entry.file))
    }

    /// Opens the segment for reading and durable writing, and keeps it open.
    pub(crate) async fn open(&self, key: Key, path: &Path) -> io::Result<Rc<DmaFile>> {
        self.make_room();
        let file = match open_segment(path).await {
            Err(error) if is_out_of_descriptors(&error) && self.count() > 0 => {
                self.close_oldest(self.count().div_ceil(2));
                open_segment(path).await?
            }
            other => other?,
        };
        let file = Rc::new(file);
        let entry = Entry { file: Rc::clone(&file), used: Cell::new(Instant::now()) };
        if let Some(raced) = self.open.borrow_mut().insert(key, entry) {
            close(raced.file);
        }
        Ok(file)
    }

    pub(crate) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// The file is about to go away. Operations under way keep their descriptor.
    pub(crate) fn forget(&self, key: Key) {
        if let Some(entry) = self.open.borrow_mut().remove(&key) {
            close(entry.file);
        }
    }

    pub(crate) fn forget_log(&self, log: LogId) {
        self.open.borrow_mut().retain(|key, entry| {
            let keep = key.0 != log;
            if !keep {
                close(Rc::clone(&entry.file));
            }
            keep
        });
    }

    pub(crate) fn close_idle(&self) {
        let now = Instant::now();
        self.open.borrow_mut().retain(|_, entry| {
            let keep = now.duration_since(entry.used.get()) < self.idle || Rc::strong_count(&entry.file) > 1;
            if !keep {
                close(Rc::clone(&entry.file));
            }
            keep
        });
    }

    fn make_room(&self) {
        let count = self.count();
        if count >= self.open_max {
            // An eighth at a time, so that the search is not paid for each file.
            self.close_oldest((count - self.open_max + 1).max(self.open_max / 8));
        }
    }

    fn close_oldest(&self, count: usize) {
        let mut open = self.open.borrow_mut();
        let mut by_age: Vec<(Instant, Key)> =
            open.iter().map(|(key, entry)| (entry.used.get(), *key)).collect();
        by_age.sort_unstable();
        for (_, key) in by_age.into_iter().take(count) {
            if let Some(entry) = open.remove(&key) {
                close(entry.file);
            }
        }
    }
}

async fn open_segment(path: &Path) -> io::Result<DmaFile> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DSYNC)
        .dma_open(path)
        .await
        .map_err(system_error)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Dropping the last share closes the descriptor in the reactor's next round.
fn close(file: Rc<DmaFile>) {
    drop(file);
}
