//! One core's disk: takes a log's operation to its answer.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::sync::Semaphore;
use storage_frame::LogId;
use storage_log::disk_op::BLOCK_BYTES;
use storage_log::{DiskError, DiskErrorKind, DiskOp, DiskReply, DiskResult, FileName, SegmentId};
use storage_ring::{Ring, Threads};

use crate::buffers::{Buffers, Filled};
use crate::config::DiskConfig;
use crate::error::disk_error;
use crate::files::{Files, Mode, Open, open_segment};
use crate::gates::Gates;
use crate::paths::{file_name, log_directory, logs_directory};
use crate::segment::{self, Zeros};
use crate::small;
use crate::spares::Spares;
use crate::stats::DiskStats;

/// See the crate. Lives on: the executor it was opened on. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    inner: Rc<Inner>,
}

struct Inner {
    ring: Ring,
    threads: Threads,
    data: PathBuf,
    config: DiskConfig,
    files: Files,
    gates: Gates,
    buffers: Buffers,
    zeros: Zeros,
    /// The file system has not said that it cannot.
    can_set_aside: Cell<bool>,
    spares: RefCell<Spares>,
    /// Appends have places of their own: no amount of reading keeps a producer waiting.
    writes: Semaphore,
    others: Semaphore,
    stats: RefCell<DiskStats>,
    ticks: Cell<u32>,
    zeroed_at: Cell<Option<Instant>>,
}

/// Idle files and buffers are looked for every so many calls of [`Disk::tick`].
const TICKS_PER_SWEEP: u32 = 100;
const ZEROS_KEPT: Duration = Duration::from_secs(2);

impl Disk {
    /// Opens the data directory for core `core` of `cores`, making `logs/` and `spare/` where they are absent.
    ///
    /// `identity` is an existing readable file of at least 4 KiB on the same device, by which a device that cannot be
    /// read directly is found out at once. `threads` run what blocks.
    ///
    /// # Errors
    /// [`DiskError`], naming the file.
    pub async fn open(
        ring: Ring,
        threads: Threads,
        data: &Path,
        identity: &Path,
        core: u8,
        cores: usize,
        config: DiskConfig,
    ) -> Result<Self, DiskError> {
        let data = std::path::absolute(data).map_err(|error| disk_error("find", data, &error))?;
        let buffers = Buffers::new(config.write_buffer_bytes_max);
        probe(&ring, &threads, &buffers, identity).await?;
        let (place, spares_max) = (data.clone(), config.spares_max);
        let spares = threads
            .run(&ring, move || {
                let logs = logs_directory(&place);
                small::make_directory(&logs)?;
                // A killed process may have made a log's directory and not got to its sync: what is acknowledged
                // in it from here on must not go with a name that a loss of power takes back.
                small::sync_directory(&logs)?;
                Spares::open(&place, core, cores, spares_max)
            })
            .await?;
        let stats = DiskStats { spares: spares.count() as u64, ..DiskStats::default() };
        let inner = Inner {
            files: Files::new(ring.clone(), threads.clone(), config.open_files_max, config.open_files_idle),
            gates: Gates::default(),
            buffers,
            zeros: Zeros::new(config.zero_bytes_max),
            can_set_aside: Cell::new(true),
            spares: RefCell::new(spares),
            writes: Semaphore::new(config.operations_max.max(1) as u64),
            others: Semaphore::new(config.operations_max.max(1) as u64),
            stats: RefCell::new(stats),
            ticks: Cell::new(0),
            zeroed_at: Cell::new(None),
            ring,
            threads,
            data,
            config,
        };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// Runs one operation. Not to be dropped before it is done: what was begun goes on in the kernel.
    ///
    /// # Errors
    /// [`DiskError`]; after a failed write the file may hold some, all or none of it.
    pub async fn run(&self, log: LogId, op: DiskOp) -> DiskResult {
        let inner = &*self.inner;
        let begun = Instant::now();
        let places = if matches!(op, DiskOp::Write { .. }) { &inner.writes } else { &inner.others };
        let _place = places.acquire_permit(1).await.expect("never closed");
        let kind = Kind::of(&op);
        let result = inner.execute(log, op).await;
        inner.count(kind, begun.elapsed(), &result);
        result
    }

    /// To be called every 10 ms or so: closes idle files, lets idle memory go.
    pub fn tick(&self) {
        let inner = &*self.inner;
        inner.ticks.set(inner.ticks.get() + 1);
        if inner.ticks.get() < TICKS_PER_SWEEP {
            return;
        }
        inner.ticks.set(0);
        inner.files.close_idle();
        inner.buffers.shrink_if_idle();
        if inner.zeroed_at.get().is_some_and(|at| at.elapsed() > ZEROS_KEPT) {
            inner.zeroed_at.set(None);
            inner.zeros.forget();
        }
    }

    /// Free space on the data directory's file system. When it is short, spares are given up first.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn free_bytes(&self) -> Result<u64, DiskError> {
        let inner = &*self.inner;
        let (data, wanted) = (inner.data.clone(), inner.config.spares_free_bytes_min);
        let free = inner.threads.run(&inner.ring, move || small::free_bytes(&data)).await?;
        if free >= wanted || inner.spares.borrow().count() == 0 {
            return Ok(free);
        }
        let spares = inner.spares.borrow_mut().take_all();
        let data = inner.data.clone();
        inner
            .threads
            .run(&inner.ring, move || {
                for path in spares {
                    small::remove_file(&path)?;
                }
                small::free_bytes(&data)
            })
            .await
    }

    /// The logs that have a directory, in no order.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn logs(&self) -> Result<Vec<LogId>, DiskError> {
        let directory = logs_directory(&self.inner.data);
        let names =
            self.inner.threads.run(&self.inner.ring, move || small::list_directories(&directory)).await?;
        Ok(names.iter().filter_map(|name| parse_log_id(name)).collect())
    }

    #[must_use]
    pub fn stats(&self) -> DiskStats {
        let inner = &*self.inner;
        let mut stats = inner.stats.borrow().clone();
        stats.open_files = inner.files.count() as u64;
        stats.spares = inner.spares.borrow().count() as u64;
        stats
    }
}

/// What an operation counts as.
#[derive(Clone, Copy)]
enum Kind {
    Write { bytes: u64 },
    Read,
    Zero,
    Other,
}

impl Kind {
    fn of(op: &DiskOp) -> Self {
        match op {
            DiskOp::Write { parts, .. } => {
                Self::Write { bytes: parts.iter().map(|part| part.len() as u64).sum() }
            }
            DiskOp::Read { .. } => Self::Read,
            DiskOp::Zero { .. } => Self::Zero,
            DiskOp::List
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeSegment { .. }
            | DiskOp::RetireSegment { .. }
            | DiskOp::RemoveFile { .. }
            | DiskOp::RemoveLog => Self::Other,
        }
    }
}

impl Inner {
    async fn execute(&self, log: LogId, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Write { segment, position, parts } => self.write(log, segment, position, parts).await,
            DiskOp::Read { segment, position, bytes } => self.read(log, segment, position, bytes).await,
            DiskOp::Zero { segment, from, to, bulk } => self.zero(log, segment, from, to, bulk).await,
            DiskOp::List => {
                let path = log_directory(&self.data, log);
                Ok(DiskReply::Listed(self.threads.run(&self.ring, move || small::list_log(&path)).await?))
            }
            DiskOp::ReadFile { name, bytes_max } => {
                let path = self.path(log, name);
                Ok(DiskReply::Bytes(
                    self.threads.run(&self.ring, move || small::read_file(&path, bytes_max)).await?,
                ))
            }
            DiskOp::ReplaceFile { name, bytes } => {
                let path = self.path(log, name);
                done(self.threads.run(&self.ring, move || small::replace_file(&path, &bytes)).await)
            }
            DiskOp::MakeSegment { segment } => self.make_segment(log, segment).await,
            DiskOp::RetireSegment { segment } => self.retire_segment(log, segment).await,
            DiskOp::RemoveFile { name } => self.remove_file(log, name).await,
            DiskOp::RemoveLog => self.remove_log(log).await,
        }
    }

    async fn write(&self, log: LogId, segment: SegmentId, position: u64, parts: Vec<Bytes>) -> DiskResult {
        let path = self.path(log, FileName::Segment(segment));
        let file = self.segment(log, segment, &path).await?;
        let Filled { memory, bytes } = self.buffers.gather(&parts);
        // The bytes are in our memory now: whoever else holds them need not wait for the disk.
        drop(parts);
        let written = segment::write(&self.ring, &file, position, &memory, bytes).await;
        self.buffers.give_back(memory);
        done(written.map_err(|error| disk_error("write", &path, &error)))
    }

    async fn read(&self, log: LogId, segment: SegmentId, position: u64, bytes: usize) -> DiskResult {
        let path = self.path(log, FileName::Segment(segment));
        let file = self.segment_to_read(log, segment, &path).await?;
        let read = segment::read(&self.ring, &self.buffers, &file, position, bytes).await;
        Ok(DiskReply::Bytes(read.map_err(|error| disk_error("read", &path, &error))?))
    }

    async fn zero(&self, log: LogId, segment: SegmentId, from: u64, to: u64, bulk: bool) -> DiskResult {
        let block = BLOCK_BYTES as u64;
        assert!(
            from <= to && from.is_multiple_of(block) && to.is_multiple_of(block),
            "whole blocks are zeroed"
        );
        let path = self.path(log, FileName::Segment(segment));
        if bulk && self.can_set_aside.get() {
            let file = self.segment(log, segment, &path).await?;
            match self.set_aside(&file, from, to).await {
                Err(error) if is_not_offered(&error) => self.can_set_aside.set(false),
                made => return done(made.map_err(|error| disk_error("set room aside in", &path, &error))),
            }
        }
        self.zeroed_at.set(Some(Instant::now()));
        let filled = if to - from <= self.zeros.bytes_max() {
            let file = self.segment(log, segment, &path).await?;
            self.zeros.fill(&self.ring, &file, from, to).await
        } else {
            // One sync at the end costs less than one per write.
            let opened =
                self.gates.opening(log, open_segment(&self.ring, &self.threads, &path, Mode::Unsynced)).await;
            let file = Rc::new(opened.map_err(|error| disk_error("open", &path, &error))?);
            let filled = self.zeros.fill(&self.ring, &file, from, to).await;
            match filled {
                Ok(()) => self.ring.sync_data(Rc::clone(&file) as _).await,
                Err(error) => Err(error),
            }
        };
        self.stats.borrow_mut().zero_bytes += if filled.is_ok() { to - from } else { 0 };
        done(filled.map_err(|error| disk_error("zero", &path, &error)))
    }

    async fn set_aside(&self, file: &Rc<Open>, from: u64, to: u64) -> io::Result<()> {
        loop {
            match self.ring.set_aside(Rc::clone(file) as _, from, to).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                set_aside => break set_aside?,
            }
        }
        self.ring.sync_data(Rc::clone(file) as _).await
    }

    async fn make_segment(&self, log: LogId, segment: SegmentId) -> DiskResult {
        let path = self.path(log, FileName::Segment(segment));
        let spare = self.spares.borrow_mut().take();
        let Some(spare) = spare else {
            self.threads.run(&self.ring, move || small::make_file(&path)).await?;
            self.stats.borrow_mut().segments_created += 1;
            return Ok(DiskReply::Made { file_bytes: 0, first_block: Bytes::new() });
        };
        let (from, to) = (spare.clone(), path.clone());
        let moving = self.threads.run(&self.ring, move || {
            let moved = small::move_file(&from, &to);
            Ok((moved, from.exists()))
        });
        let (moved, is_left) = self.gates.moving(log, moving).await?;
        if is_left {
            self.spares.borrow_mut().put_back(spare);
        }
        let file_bytes = moved?;
        let file = self.segment(log, segment, &path).await?;
        let first_block = segment::read(&self.ring, &self.buffers, &file, 0, BLOCK_BYTES)
            .await
            .map_err(|error| disk_error("read", &path, &error))?;
        self.stats.borrow_mut().segments_recycled += 1;
        Ok(DiskReply::Made { file_bytes, first_block })
    }

    async fn retire_segment(&self, log: LogId, segment: SegmentId) -> DiskResult {
        let path = self.path(log, FileName::Segment(segment));
        let measured = path.clone();
        let (data, wanted) = (self.data.clone(), self.config.spares_free_bytes_min);
        let recyclable = self
            .threads
            .run(&self.ring, move || {
                let bytes = std::fs::metadata(&measured).map_or(0, |metadata| metadata.len());
                if small::free_bytes(&data)? < wanted { Ok(0) } else { Ok(bytes) }
            })
            .await?;
        let place = self.spares.borrow_mut().reserve(recyclable);
        let Some(place) = place else {
            return self.remove_file(log, FileName::Segment(segment)).await;
        };
        let to = place.clone();
        let moved =
            self.gates.moving(log, self.threads.run(&self.ring, move || small::move_file(&path, &to))).await;
        // A read may have opened it while the file system was asked.
        self.files.forget((log, segment));
        self.spares.borrow_mut().arrived(moved.is_ok().then_some(place));
        done(moved.map(drop))
    }

    async fn remove_file(&self, log: LogId, name: FileName) -> DiskResult {
        let path = self.path(log, name);
        let removed =
            self.gates.moving(log, self.threads.run(&self.ring, move || small::remove_file(&path))).await;
        if let FileName::Segment(segment) = name {
            self.files.forget((log, segment));
        }
        done(removed)
    }

    async fn remove_log(&self, log: LogId) -> DiskResult {
        let path = log_directory(&self.data, log);
        let removed = self
            .gates
            .moving(log, self.threads.run(&self.ring, move || small::remove_directory(&path)))
            .await;
        // Open descriptors would keep the room.
        self.files.forget_log(log);
        done(removed)
    }

    async fn segment(&self, log: LogId, segment: SegmentId, path: &Path) -> Result<Rc<Open>, DiskError> {
        if let Some(file) = self.files.cached((log, segment)) {
            return Ok(file);
        }
        let opened = self.gates.opening(log, self.files.open((log, segment), path)).await;
        opened.map_err(|error| disk_error("open", path, &error))
    }

    /// What lies on a file system that has gone read-only can be read still. Not kept open: nobody could write it.
    async fn segment_to_read(
        &self,
        log: LogId,
        segment: SegmentId,
        path: &Path,
    ) -> Result<Rc<Open>, DiskError> {
        if let Some(file) = self.files.cached((log, segment)) {
            return Ok(file);
        }
        let open = async {
            match self.files.open((log, segment), path).await {
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    open_segment(&self.ring, &self.threads, path, Mode::ReadOnly).await.map(Rc::new)
                }
                opened => opened,
            }
        };
        self.gates.opening(log, open).await.map_err(|error| disk_error("open", path, &error))
    }

    fn path(&self, log: LogId, name: FileName) -> PathBuf {
        log_directory(&self.data, log).join(file_name(name))
    }

    fn count(&self, kind: Kind, took: Duration, result: &DiskResult) {
        let mut stats = self.stats.borrow_mut();
        let Ok(reply) = result else {
            stats.failed += u64::from(!matches!(result, Err(error) if error.kind == DiskErrorKind::NotFound));
            return;
        };
        match kind {
            Kind::Write { bytes } => {
                stats.write.record(took);
                stats.write_bytes += bytes;
            }
            Kind::Read => {
                stats.read.record(took);
                if let DiskReply::Bytes(bytes) = reply {
                    stats.read_bytes += bytes.len() as u64;
                }
            }
            Kind::Zero => stats.zero.record(took),
            Kind::Other => stats.other.record(took),
        }
    }
}

/// By this file system, or by this kernel's ring.
fn is_not_offered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL))
}

fn done(result: Result<(), DiskError>) -> DiskResult {
    result.map(|()| DiskReply::Done)
}

/// See [`Disk::open`].
async fn probe(ring: &Ring, threads: &Threads, buffers: &Buffers, identity: &Path) -> Result<(), DiskError> {
    let fail = |error: &io::Error| disk_error("read directly from", identity, error);
    let file = open_segment(ring, threads, identity, Mode::ReadOnly).await.map_err(|error| fail(&error))?;
    let bytes = segment::read(ring, buffers, &Rc::new(file), 0, BLOCK_BYTES)
        .await
        .map_err(|error| fail(&error))?
        .len();
    if bytes < BLOCK_BYTES {
        return Err(fail(&io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{bytes} bytes, not {BLOCK_BYTES}"),
        )));
    }
    Ok(())
}

fn parse_log_id(name: &str) -> Option<LogId> {
    let digits = name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if digits { u64::from_str_radix(name, 16).ok().map(LogId) } else { None }
}

#[cfg(test)]
mod tests;
