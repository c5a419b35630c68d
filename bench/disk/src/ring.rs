//! Operations on one file, so many under way at a time, one behind the other, until the time is over.
//!
//! The only room of this crate with `unsafe`: the kernel is handed memory that it uses while we go on. What must hold:
//! a buffer belongs to one operation from its submission to its completion, is not looked at in between, and outlives
//! it. So every way out of [`Ring::run`] waits for what is under way, and where waiting itself fails the buffers are
//! never given back.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::aligned::Aligned;

/// What is done, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Read,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

pub(crate) struct Ring<'f> {
    ring: IoUring,
    file: &'f File,
    slots: Vec<Slot>,
    block_bytes: usize,
}

struct Slot {
    buffer: Aligned,
    begun: Instant,
}

impl<'f> Ring<'f> {
    pub(crate) fn new(file: &'f File, block_bytes: usize, depth: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth).map_err(io::Error::other)?.next_power_of_two();
        let ring = IoUring::new(entries)?;
        let begun = Instant::now();
        let slots = (0..depth).map(|_| Slot { buffer: Aligned::filled(block_bytes, 0xA5), begun });
        Ok(Self { ring, file, slots: slots.collect(), block_bytes })
    }

    /// From the file's start to `file_bytes`, round and round.
    pub(crate) fn run(mut self, kind: Kind, file_bytes: u64, duration: Duration) -> io::Result<Run> {
        let blocks = file_bytes / self.block_bytes as u64;
        assert!(blocks >= self.slots.len() as u64, "operations under way do not meet");
        let (mut next, mut under_way) = (0, 0);
        let mut free: Vec<usize> = (0..self.slots.len()).collect();
        let mut latencies = Vec::new();
        let mut failed = None;
        let start = Instant::now();
        while under_way > 0 || (failed.is_none() && start.elapsed() < duration) {
            if failed.is_none() && start.elapsed() < duration {
                while let Some(slot) = free.pop() {
                    self.submit(kind, slot, next % blocks * self.block_bytes as u64);
                    next += 1;
                    under_way += 1;
                }
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Whether the kernel still uses them nobody can say.
                    std::mem::forget(self.slots);
                    return Err(error);
                }
                Ok(_) => {}
            }
            for completion in self.ring.completion() {
                let slot = completion.user_data() as usize;
                let done = completion.result();
                if done < 0 {
                    failed = Some(io::Error::from_raw_os_error(-done));
                } else if done as usize != self.block_bytes {
                    failed = Some(io::Error::other(format!("{done} of {} bytes", self.block_bytes)));
                }
                latencies.push(self.slots[slot].begun.elapsed());
                free.push(slot);
                under_way -= 1;
            }
        }
        let elapsed = start.elapsed();
        failed.map_or(Ok(Run { latencies, elapsed }), Err)
    }

    fn submit(&mut self, kind: Kind, slot: usize, position: u64) {
        let fd = types::Fd(self.file.as_raw_fd());
        let bytes = self.block_bytes as u32;
        let user_data = slot as u64;
        let slot = &mut self.slots[slot];
        let memory = slot.buffer.bytes_mut().as_mut_ptr();
        let entry = match kind {
            Kind::Write => opcode::Write::new(fd, memory, bytes).offset(position).build(),
            Kind::Read => opcode::Read::new(fd, memory, bytes).offset(position).build(),
        };
        slot.begun = Instant::now();
        // SAFETY: `memory` is `bytes` long, being a slot's whole buffer. Nothing else uses it until the operation is
        // complete: `run` gives a slot to one operation at a time and takes it back at its completion, and it returns,
        // which drops the buffers, only when none is under way or they are leaked. The file is borrowed for as long.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(user_data)) };
        pushed.expect("the queue holds as many entries as there are slots");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn everything_asked_is_done_whatever_the_depth() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        for depth in [1, 3] {
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let ring = Ring::new(&file, 4096, depth).unwrap();
            let run = ring.run(Kind::Write, 1 << 20, Duration::from_millis(20)).unwrap();
            assert!(run.latencies.len() >= depth && run.elapsed >= Duration::from_millis(20));
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(&[0xA5; 4096]) && bytes.len() == 1 << 20);
    }

    #[test]
    fn an_operation_that_fails_ends_the_run_with_its_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 8192]).unwrap();
        let read_only = File::open(&path).unwrap();
        let run =
            |kind, bytes| Ring::new(&read_only, 4096, 2).unwrap().run(kind, bytes, Duration::from_secs(1));
        assert_eq!(run(Kind::Write, 8192).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(run(Kind::Read, 1 << 20).unwrap_err().to_string().contains("0 of 4096"));
    }
}
