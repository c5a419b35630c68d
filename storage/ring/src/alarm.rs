//! Waking a core from other threads: a flag, and a descriptor that is written to only while the core sleeps.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// Who rings sets `rung` before it looks at `sleeping`; who goes to sleep sets `sleeping` before it looks at `rung`.
/// All four are sequentially consistent, so at least one of the two sees the other.
pub struct Alarm {
    rung: AtomicBool,
    sleeping: AtomicBool,
    /// An eventfd.
    bell: File,
    /// Operations that other threads have finished.
    done: Mutex<Vec<u64>>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no memory of ours.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else knows it.
        let bell = unsafe { File::from_raw_fd(descriptor) };
        let (rung, sleeping) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { rung, sleeping, bell, done: Mutex::default() })
    }

    /// From any thread; remembered until the core looks.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) && self.sleeping.load(Ordering::SeqCst) {
            // Fails only when the counter is full, and then the core is woken all the same.
            let _ = (&self.bell).write(&1u64.to_ne_bytes());
        }
    }

    pub(crate) fn finish(&self, operation: u64) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
        self.ring();
    }

    pub(crate) fn take_done(&self, into: &mut Vec<u64>) {
        into.append(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether it has been rung since the last call.
    pub(crate) fn take_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// Returns whether the core may sleep; it says [`awake`](Self::awake) afterwards in any case.
    pub(crate) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        !self.rung.load(Ordering::SeqCst)
    }

    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Makes the descriptor silent again.
    pub(crate) fn silence(&self) {
        let _ = (&self.bell).read(&mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
