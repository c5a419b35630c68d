//! Open segment files: few enough to fit the process's limit, closed when idle.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use storage_frame::LogId;
use storage_log::SegmentId;
use storage_ring::{Ring, Threads};

type Key = (LogId, SegmentId);

/// An open segment file.
pub(crate) struct Open {
    file: Option<File>,
    threads: Threads,
}

impl Open {
    /// On this thread.
    fn close(mut self) {
        drop(self.file.take());
    }
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_ref().expect("open until dropped").as_fd()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Closing a file that was removed meanwhile gives its room back, which takes the file system a while.
        if let Some(file) = self.file.take() {
            self.threads.begin(move || drop(file));
        }
    }
}

/// How a segment is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every write is on stable storage when it is answered.
    Durable,
    /// Writes are to be synced.
    Unsynced,
    ReadOnly,
}

pub(crate) async fn open_segment(
    ring: &Ring,
    threads: &Threads,
    path: &Path,
    mode: Mode,
) -> io::Result<Open> {
    let path = path.to_owned();
    let opened = threads.run(ring, move || {
        let flags = libc::O_DIRECT | if mode == Mode::Durable { libc::O_DSYNC } else { 0 };
        OpenOptions::new().read(true).write(mode != Mode::ReadOnly).custom_flags(flags).open(path)
    });
    Ok(Open { file: Some(opened.await?), threads: threads.clone() })
}

pub(crate) struct Files {
    ring: Ring,
    threads: Threads,
    open_max: usize,
    idle: Duration,
    open: RefCell<AHashMap<Key, Entry>>,
}

struct Entry {
    file: Rc<Open>,
    used: Cell<Instant>,
}

impl Files {
    pub(crate) fn new(ring: Ring, threads: Threads, open_max: usize, idle: Duration) -> Self {
        Self { ring, threads, open_max: open_max.max(1), idle, open: RefCell::default() }
    }

    pub(crate) fn cached(&self, key: Key) -> Option<Rc<Open>> {
        let open = self.open.borrow();
        let entry = open.get(&key)?;
        entry.used.set(Instant::now());
        Some(Rc::clone(&entry.file))
    }

    /// Opens the segment for reading and durable writing, and keeps it open.
    pub(crate) async fn open(&self, key: Key, path: &Path) -> io::Result<Rc<Open>> {
        self.make_room();
        let file = match open_segment(&self.ring, &self.threads, path, Mode::Durable).await {
            Err(error) if is_out_of_descriptors(&error) && self.count() > 0 => {
                // At once: the descriptors are wanted by the next call.
                self.take(self.count().div_ceil(2)).into_iter().for_each(Open::close);
                open_segment(&self.ring, &self.threads, path, Mode::Durable).await?
            }
            other => other?,
        };
        let file = Rc::new(file);
        let entry = Entry { file: Rc::clone(&file), used: Cell::new(Instant::now()) };
        self.open.borrow_mut().insert(key, entry);
        Ok(file)
    }

    pub(crate) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// The file is about to go away. Operations under way keep their descriptor.
    pub(crate) fn forget(&self, key: Key) {
        self.open.borrow_mut().remove(&key);
    }

    pub(crate) fn forget_log(&self, log: LogId) {
        self.open.borrow_mut().retain(|key, _| key.0 != log);
    }

    pub(crate) fn close_idle(&self) {
        let now = Instant::now();
        self.open.borrow_mut().retain(|_, entry| {
            now.duration_since(entry.used.get()) < self.idle || Rc::strong_count(&entry.file) > 1
        });
    }

    fn make_room(&self) {
        let count = self.count();
        if count >= self.open_max {
            self.take(count - self.open_max + 1);
        }
    }

    /// Those that nobody uses just now, whichever: where partitions take turns, the one unused for longest is wanted next.
    fn take(&self, count: usize) -> Vec<Open> {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().filter(|(_, entry)| Rc::strong_count(&entry.file) == 1);
        let keys: Vec<Key> = idle.map(|(key, _)| *key).take(count).collect();
        let taken = keys.iter().filter_map(|key| open.remove(key));
        taken.filter_map(|entry| Rc::into_inner(entry.file)).collect()
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
