//! A node's disk: for each log a directory, for each core its spares, and the identity.
//!
//! What must hold of it while no fault beyond a crash is on:
//! - an operation answered `Ok` survives every crash, whole;
//! - a `Write` that a crash meets may have happened in any of its 512-byte sectors and not in others, a `Zero` may
//!   have grown its file by any part;
//! - every other operation that a crash meets has happened or has not;
//! - while a write is under way, reads may see any of its sectors, and a crash may take them back.
//!
//! It refuses (panics) what a log has promised never to ask: two writes at once, a write without room, a write over
//! a `Zero` under way, a file taken away under an operation.
//!
//! What happens, happens when an operation completes; the owner chooses the order. Each operation draws its luck
//! from dice of its own, so that a fault switched off moves no other one. Absent: time, but for how long an operation
//! takes; names and directories of the file system; caches, since whatever is answered is durable.

mod apply;
mod checks;
mod crash;
mod damage;
mod identity;
mod luck;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_frame::LogId;
use storage_log::{DiskOp, DiskResult, FileName, OpId};

use crate::dice::Dice;
use crate::faults::Faults;
use crate::injected::Injected;
use crate::stored::Stored;
use identity::Identity;

/// What is no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of one core.
    pub spares_max: usize,
    /// Smaller files are not kept as spares.
    pub spare_bytes_min: u64,
    /// Room for files, spares included.
    pub capacity_bytes: u64,
    /// Below this much free space no file is kept as a spare, and [`ModelDisk::give_up_spares`] has something to do.
    pub spares_free_bytes_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { spares_max: 4, spare_bytes_min: 0, capacity_bytes: 1 << 50, spares_free_bytes_min: 0 }
    }
}

/// Operations by kind, to count them and to let them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    List,
    ReadFile,
    ReplaceCheckpoint,
    ReplaceIndex,
    MakeSegment,
    Zero,
    Write,
    Read,
    RetireSegment,
    RemoveFile,
    RemoveLog,
}

impl Operation {
    #[must_use]
    pub fn of(what: &DiskOp) -> Self {
        match what {
            DiskOp::List => Self::List,
            DiskOp::ReadFile { .. } => Self::ReadFile,
            DiskOp::ReplaceFile { name: FileName::Checkpoint, .. } => Self::ReplaceCheckpoint,
            DiskOp::ReplaceFile { .. } => Self::ReplaceIndex,
            DiskOp::MakeSegment { .. } => Self::MakeSegment,
            DiskOp::Zero { .. } => Self::Zero,
            DiskOp::Write { .. } => Self::Write,
            DiskOp::Read { .. } => Self::Read,
            DiskOp::RetireSegment { .. } => Self::RetireSegment,
            DiskOp::RemoveFile { .. } => Self::RemoveFile,
            DiskOp::RemoveLog => Self::RemoveLog,
        }
    }

    /// Changes nothing.
    #[must_use]
    pub fn only_reads(self) -> bool {
        matches!(self, Self::List | Self::ReadFile | Self::Read)
    }
}

type Files = BTreeMap<FileName, Stored>;

/// See the module.
#[derive(Debug, Clone)]
pub struct ModelDisk {
    seed: u64,
    settings: Settings,
    faults: Faults,
    logs: BTreeMap<LogId, Files>,
    spares: BTreeMap<u8, Vec<Stored>>,
    identity: Identity,
    under_way: BTreeMap<(LogId, OpId), UnderWay>,
    /// Of an earlier life of the process, on their way still.
    late: Vec<LateWrite>,
    /// Kinds of operations that fail whenever they are asked of a log.
    failing: BTreeSet<(LogId, Operation)>,
    /// Names whose last change was answered by an error: whether they are there nobody was told.
    uncertain: BTreeSet<(LogId, FileName)>,
    injected: Vec<Injected>,
    done: BTreeMap<Operation, u64>,
    submitted_count: u64,
    completed_count: u64,
    crash_count: u64,
    files_made_count: u64,
    /// The period ends when so many operations have been completed.
    no_space_until: u64,
    /// The period ends when so many operations have been submitted.
    stall_until: u64,
}

#[derive(Debug, Clone)]
struct UnderWay {
    core: u8,
    /// The operation's number, which its luck is drawn by.
    number: u64,
    what: DiskOp,
    /// What a write's range held before some of its sectors were seen.
    before: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct LateWrite {
    inode: u64,
    position: u64,
    bytes: Vec<u8>,
}

impl ModelDisk {
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with_settings(seed, faults, Settings::default())
    }

    #[must_use]
    pub fn with_settings(seed: u64, faults: Faults, settings: Settings) -> Self {
        Self {
            seed,
            settings,
            faults,
            logs: BTreeMap::new(),
            spares: BTreeMap::new(),
            identity: Identity::default(),
            under_way: BTreeMap::new(),
            late: Vec::new(),
            failing: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            injected: Vec::new(),
            done: BTreeMap::new(),
            submitted_count: 0,
            completed_count: 0,
            crash_count: 0,
            files_made_count: 0,
            no_space_until: 0,
            stall_until: 0,
        }
    }

    /// Begins an operation; says how long it takes. When that time is over, or whenever the caller likes,
    /// [`complete`](Self::complete) is to follow.
    ///
    /// # Panics
    /// When a log asks what it has promised never to ask.
    pub fn submit(&mut self, core: u8, log: LogId, op: OpId, what: DiskOp) -> Duration {
        self.check(log, &what);
        let number = self.submitted_count;
        self.submitted_count += 1;
        let takes = self.time_of(log, number, &what);
        let under_way = UnderWay { core, number, what, before: None };
        let other = self.under_way.insert((log, op), under_way);
        assert!(other.is_none(), "log {log}: {op:?} is under way already");
        takes
    }

    /// Ends the operation: it has happened now, or failed.
    ///
    /// # Panics
    /// When it is not under way.
    pub fn complete(&mut self, log: LogId, op: OpId) -> DiskResult {
        let under_way = self.under_way.remove(&(log, op));
        let under_way = under_way.unwrap_or_else(|| panic!("log {log}: {op:?} is not under way"));
        self.completed_count += 1;
        *self.done.entry(Operation::of(&under_way.what)).or_default() += 1;
        self.land_late_writes();
        self.perform(log, &under_way)
    }

    /// [`submit`](Self::submit) and [`complete`](Self::complete) at once.
    ///
    /// # Errors
    /// As the operation.
    pub fn run(&mut self, core: u8, log: LogId, op: OpId, what: DiskOp) -> DiskResult {
        self.submit(core, log, op, what);
        self.complete(log, op)
    }

    pub fn set_faults(&mut self, faults: Faults) {
        if !faults.full && faults.no_space.is_never() {
            self.no_space_until = 0;
        }
        if faults.stall.is_never() {
            self.stall_until = 0;
        }
        self.faults = faults;
    }

    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// From now on operations of this kind on this log's files fail with EIO.
    pub fn fail(&mut self, log: LogId, operation: Operation) {
        self.failing.insert((log, operation));
    }

    /// Ends what [`fail`](Self::fail) began.
    pub fn mend(&mut self) {
        self.failing.clear();
    }

    /// Every fault that happened, oldest first; what a crash did to the operations it met among them.
    #[must_use]
    pub fn injected(&self) -> &[Injected] {
        &self.injected
    }

    /// Room for files; nothing while the disk is full.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        if self.is_full() { 0 } else { self.settings.capacity_bytes.saturating_sub(self.used_bytes()) }
    }

    /// What `storage/disk` does when it is asked for the free space and little is there: a core's spares go.
    pub fn give_up_spares(&mut self, core: u8) {
        if self.free_bytes() < self.settings.spares_free_bytes_min {
            self.spares.remove(&core);
        }
    }

    /// What `storage/disk` does when it is opened: cores adopt the spares of an earlier life, those of cores there
    /// are no more go.
    pub fn begin_life(&mut self, core_count: u8) {
        self.spares.retain(|core, _| *core < core_count);
        for spares in self.spares.values_mut() {
            spares.retain(|file| file.len() >= self.settings.spare_bytes_min);
            spares.truncate(self.settings.spares_max);
        }
    }

    /// Operations under way, in the order of logs and numbers.
    pub fn under_way(&self) -> impl Iterator<Item = (LogId, OpId, &DiskOp)> {
        self.under_way.iter().map(|((log, op), under_way)| (*log, *op, &under_way.what))
    }

    #[must_use]
    pub fn under_way_count(&self) -> usize {
        self.under_way.len()
    }

    /// Operations completed of a kind.
    #[must_use]
    pub fn done(&self, operation: Operation) -> u64 {
        self.done.get(&operation).copied().unwrap_or(0)
    }

    /// The logs that have a directory.
    pub fn logs(&self) -> impl Iterator<Item = LogId> {
        self.logs.keys().copied()
    }

    #[must_use]
    pub fn has(&self, log: LogId) -> bool {
        self.logs.contains_key(&log)
    }

    /// A log's files with their bytes; none where it has no directory.
    pub fn files(&self, log: LogId) -> impl Iterator<Item = (FileName, &[u8])> {
        self.logs.get(&log).into_iter().flatten().map(|(name, file)| (*name, &file.bytes[..]))
    }

    /// A copy of them, to compare with or to put back.
    #[must_use]
    pub fn copy_of(&self, log: LogId) -> BTreeMap<FileName, Vec<u8>> {
        self.files(log).map(|(name, bytes)| (name, bytes.to_vec())).collect()
    }

    /// The log is what it was when `copy` was made. Nobody is told, nothing is recorded.
    pub fn put_back(&mut self, log: LogId, copy: BTreeMap<FileName, Vec<u8>>) {
        let files = copy.into_iter().map(|(name, bytes)| (name, Stored::whole(self.next_inode(), bytes)));
        let files = files.collect();
        self.logs.insert(log, files);
    }

    #[must_use]
    pub fn file(&self, log: LogId, name: FileName) -> Option<&[u8]> {
        Some(&self.logs.get(&log)?.get(&name)?.bytes)
    }

    /// No sector of the file answers EIO; false where there is none.
    #[must_use]
    pub fn is_readable(&self, log: LogId, name: FileName) -> bool {
        let file = self.logs.get(&log).and_then(|files| files.get(&name));
        file.is_some_and(|file| file.is_readable(&(0..file.len())))
    }

    /// For a test to change by hand. Nobody is told, nothing is recorded.
    pub fn file_mut(&mut self, log: LogId, name: FileName) -> Option<&mut Vec<u8>> {
        Some(&mut self.logs.get_mut(&log)?.get_mut(&name)?.bytes)
    }

    /// For a test to take away by hand. Nobody is told, nothing is recorded.
    pub fn take_file(&mut self, log: LogId, name: FileName) -> Option<Vec<u8>> {
        Some(self.logs.get_mut(&log)?.remove(&name)?.bytes)
    }

    #[must_use]
    pub fn log_bytes(&self, log: LogId) -> u64 {
        self.files(log).map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Bytes of files that wait to be recycled.
    pub fn spares(&self, core: u8) -> impl Iterator<Item = &[u8]> {
        self.spares.get(&core).into_iter().flatten().map(|file| &file.bytes[..])
    }

    /// A file of a former life, as another node of the same kind might have left it.
    pub fn add_spare(&mut self, core: u8, bytes: Vec<u8>) {
        let file = Stored::whole(self.next_inode(), bytes);
        self.spares.entry(core).or_default().push(file);
    }

    fn used_bytes(&self) -> u64 {
        let files = self.logs.values().flat_map(BTreeMap::values);
        files.chain(self.spares.values().flatten()).map(Stored::len).sum()
    }

    fn is_full(&self) -> bool {
        self.faults.full || self.completed_count < self.no_space_until
    }

    fn next_inode(&mut self) -> u64 {
        self.files_made_count += 1;
        self.files_made_count
    }

    /// Luck of the operation of this number, of one kind.
    fn dice(&self, salt: &str, number: u64) -> Dice {
        Dice::nth(self.seed, salt, number)
    }
}

#[cfg(test)]
mod tests;
